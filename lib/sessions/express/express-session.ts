import { promisify } from 'node:util'
import { ConfigurationError } from '../../errors/token-error.js'
import { expressMaxAgeMs } from '../session-lifetime.js'
import { isStore } from '../store/original-store.js'
import { patchedStore } from '../store/patched-store.js'
import type { LoadingRequest } from '../store/session-baseline.js'
import type { StoredSessionFace } from '../store/stored-session-adapter.js'

/** The properties that express-session adds to a request, and those that the library notes on it. */
export interface SessionRequest extends LoadingRequest {
  sessionStore?: unknown
}

/** Sessions of express-session, in any store. */
export const expressSessionFace: StoredSessionFace<SessionRequest> = {
  patched: (store) => (isStore(store) ? patchedStore(store) : undefined),
  sid: (request) => request.sessionID,
  baselineHolder: (request) => request.session,
  // A new session has its cookie alone.
  isNew: (session) => Object.keys(session).length <= 1,
  maxAgeMs: (request) => expressMaxAgeMs(request.session),
  storable(_request, _sid, session) {
    if (typeof session.save !== 'function') throw noSessionError()
    return session
  },
  async regenerate(request, fields) {
    const session = (request.session ?? {}) as RegenerableSession
    if (typeof session.regenerate !== 'function') throw noSessionError()
    const kept = fields.filter((name) => Object.hasOwn(session, name)).map((name) => [name, session[name]])
    await promisify(session.regenerate).call(session)
    // The middleware has put another session in its place.
    Object.assign(request.session!, Object.fromEntries(kept))
  },
  noSessionError,
}

interface RegenerableSession {
  regenerate(callback: (error?: unknown) => void): void
  [name: string]: unknown
}

/** Returns the error for a request without a session, for example because no session middleware is mounted before this one. */
export function noSessionError(): ConfigurationError {
  return new ConfigurationError(
    'This request has no session. Mount express-session before sessionTokens(): ' +
      'app.use(session({ … })); app.use(sessionTokens({ … })); likewise cookie-session, or the middleware that puts an iron-session on ' +
      'req.session. For another session layer give the option `session`. ' +
      'If it is mounted, its store may be disconnected, or the session was destroyed earlier in this request.',
  )
}
