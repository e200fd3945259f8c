/** Events in the log of an app, each with the session of its request, as docs/operating.md shows it. */
import { AsyncLocalStorage } from 'node:async_hooks'
import { createHash } from 'node:crypto'
import type { Request, RequestHandler } from 'express'
import type { TokenEvent } from 'session-token-manager'

const requests = new AsyncLocalStorage<{ readonly request: Request; user?: string }>()

/** Mount it after express-session and before `sessionTokens()`. */
export const withRequest: RequestHandler = (request, _response, next) => requests.run({ request }, next)

/** Names the user for the events of this request. Call it at the login, before the session gets the tokens. */
export function nameUser(user: string): void {
  const served = requests.getStore()
  if (served) served.user = user
}

/** Makes the listener for `onEvent`. A session id gives access, so the log has a digest of it. */
export const logTo = (write: (line: string) => void) => (event: TokenEvent) => {
  const { request, user } = requests.getStore() ?? {}
  const session = request && createHash('sha256').update(request.sessionID).digest('base64url').slice(0, 8)
  write(JSON.stringify({ ...event.toJSON(), session, user }))
}
