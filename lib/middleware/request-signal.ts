import type { IncomingMessage, ServerResponse } from 'node:http'
import { onResponseClosed } from '../concurrency/response-closed.js'
import { endedError, noTokensError } from '../manager/manager-errors.js'
import type { TokenManager } from '../manager/token-manager.js'
import type { SessionAdapter } from '../sessions/session-adapter.js'

/**
 * Makes a signal that aborts when the login of a session ends, for as long as the request is open: until its response is closed, or
 * the socket of a WebSocket. If the user is not logged in, it has aborted.
 */
export function signalOf(
  manager: TokenManager,
  session: SessionAdapter,
  request: IncomingMessage,
  response: ServerResponse,
): AbortSignal {
  const controller = new AbortController()
  const stop = manager.onEnd(session, (reason) => controller.abort(endedError(reason)))
  if (!stop) return AbortSignal.abort(noTokensError())
  if (isUpgraded(request)) request.socket.once('close', stop)
  else onResponseClosed(request, response, stop)
  return controller.signal
}

/**
 * Whether Node has given a request to a listener for upgrades. The header alone does not say so: some clients send `Upgrade: h2c` with
 * ordinary requests, and their connection stays open after the response.
 */
function isUpgraded(request: IncomingMessage & { readonly upgrade?: unknown }): boolean {
  return request.upgrade === true
}
