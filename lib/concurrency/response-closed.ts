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
  // A request that a test or an adapter has made by itself may have no socket.
  const { socket } = request as Partial<IncomingMessage>
  const queuedOver = response.socket === null && !response.writableFinished ? socket : undefined
  if (response.closed || queuedOver?.destroyed) {
    callback()
    return
  }
  const onClosed = () => {
    queuedOver?.off('close', onClosed)
    response.off('close', onClosed)
    callback()
  }
  response.once('close', onClosed)
  if (!queuedOver) return
  // The number of queued responses has no limit, so Node's warning about many listeners would be wrong.
  queuedOver.setMaxListeners(0)
  queuedOver.once('close', onClosed)
}

/** Whether the response of a request is closed: it has been sent, or its connection is closed. */
export function isResponseClosed(request: IncomingMessage, response: ServerResponse): boolean {
  const { socket } = request as Partial<IncomingMessage>
  // Node does not mark a queued response (HTTP pipelining) as closed when its connection closes.
  const isDisconnected = socket?.destroyed === true
  return isDisconnected || response.writableEnded || response.closed || response.destroyed
}
