/** Events in the log of an app, each with the session of its request, as docs/operating.md shows it. */
import { AsyncLocalStorage } from 'node:async_hooks'
import type { RequestHandler } from 'express'
import type { TokenEvent } from 'session-token-manager'

const sessions = new AsyncLocalStorage<string>()

/** Mount it after express-session and before `sessionTokens()`. A session id gives access, so log a digest of it. */
export const withSession =
  (nameOf: (sessionId: string) => string): RequestHandler =>
  (req, _res, next) =>
    sessions.run(nameOf(req.sessionID), next)

/** For `onEvent`: `onEvent: logTo(console.log)`. */
export const logTo = (write: (line: string) => void) => (event: TokenEvent) =>
  write(JSON.stringify({ ...event.toJSON(), session: sessions.getStore() }))
