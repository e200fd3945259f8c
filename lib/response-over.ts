import type { IncomingMessage, ServerResponse } from 'node:http'

/**
 * Calls back when a response is over: all of it has been sent, or there is nobody any more to get it.
 *
 * Node tells a response that the connection has gone only if it is the response's turn: one that waits for the answer before
 * it (HTTP pipelining) is never told.
 */
export function whenOver(request: IncomingMessage, response: ServerResponse, callback: () => void): void {
  const { socket } = request
  const isQueued = response.socket === null && !response.writableFinished
  if (response.closed || (isQueued && socket.destroyed)) {
    callback()
    return
  }
  const over = () => {
    socket?.off('close', over)
    response.off('close', over)
    callback()
  }
  response.once('close', over)
  if (!isQueued) return
  // As many may wait as the browser likes to ask at once.
  socket.setMaxListeners(0)
  socket.once('close', over)
}

/** Whether a request is over: its response has been sent, or its connection is closed. */
export function isOver(request: IncomingMessage, response: ServerResponse): boolean {
  const { socket } = request as Partial<IncomingMessage>
  // Node does not tell a response whose turn has not come (HTTP pipelining) that the connection has gone.
  const hasGone = socket?.destroyed === true
  return hasGone || response.writableEnded || response.closed || response.destroyed
}
