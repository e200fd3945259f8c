import type { IncomingMessage, ServerResponse } from 'node:http'

/**
 * Calls back when a response is closed: it has been sent, or its connection is closed.
 *
 * With HTTP pipelining a response may be queued behind the previous response. Node emits no `close` on a queued response when
 * its connection closes, so the socket is watched as well.
 */
export function onResponseClosed(
  request: IncomingMessage,
  response: ServerResponse,
  callback: () => void,
): void {
  const { socket } = request
  const isQueued = response.socket === null && !response.writableFinished
  if (response.closed || (isQueued && socket.destroyed)) {
    callback()
    return
  }
  const onClosed = () => {
    socket?.off('close', onClosed)
    response.off('close', onClosed)
    callback()
  }
  response.once('close', onClosed)
  if (!isQueued) return
  // The number of queued responses has no limit, so Node's warning about many listeners would be wrong.
  socket.setMaxListeners(0)
  socket.once('close', onClosed)
}

/** Whether the response of a request is closed: it has been sent, or its connection is closed. */
export function isResponseClosed(request: IncomingMessage, response: ServerResponse): boolean {
  const { socket } = request as Partial<IncomingMessage>
  // Node does not mark a queued response (HTTP pipelining) as closed when its connection closes.
  const isDisconnected = socket?.destroyed === true
  return isDisconnected || response.writableEnded || response.closed || response.destroyed
}
