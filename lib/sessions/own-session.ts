import { ConfigurationError } from '../errors.js'
import { CookieSessionAdapter } from './cookie-session.js'
import type { CopyKeeper } from './copy-keeper.js'
import type { SessionAdapter } from './session-adapter.js'
import type { SessionLayer } from './session-layer.js'
import { UnusableSession } from './unusable-session.js'

/**
 * Where the tokens of one request's session are, in a session layer of the app's own. What it keeps is a text that the
 * app need not understand.
 */
export interface OwnSession {
  /** The text as the request has it, `undefined` if there is none. Called often, so it must be quick. */
  read(): string | undefined
  /** Keeps the text, so that `read()` and the next request find it. Only this text must change in the session. */
  write(text: string): void | Promise<void>
  /** Forgets the text. */
  clear(): void | Promise<void>
}

/** The sessions that a function of the app's finds. */
export function ownSessions(
  find: (request: never) => OwnSession | Promise<OwnSession>,
  keeper: CopyKeeper,
): SessionLayer<object> {
  const adapterOf = (session: OwnSession): SessionAdapter =>
    isOwnSession(session) ? ownSession(session, keeper) : new UnusableSession(noSession)
  return {
    of(request) {
      const found = find(request as never)
      return found instanceof Promise ? found.then(adapterOf) : adapterOf(found)
    },
    close() {},
  }
}

/** As a cookie it is brought up to date in each request that asks, since nobody knows whether requests share it. */
function ownSession(session: OwnSession, keeper: CopyKeeper): SessionAdapter {
  const put = (text: unknown) => (text === undefined ? session.clear() : session.write(text as string))
  return new CookieSessionAdapter(
    { get: () => session.read(), put, isAnswered: () => false, size: () => 0 },
    keeper,
  )
}

function isOwnSession(session: unknown): session is OwnSession {
  const { read, write, clear } = (session ?? {}) as Partial<OwnSession>
  return [read, write, clear].every((method) => typeof method === 'function')
}

function noSession(): ConfigurationError {
  return new ConfigurationError(
    '`session` has not found the session of a request. It must return { read, write, clear }: ' +
      'session: (request) => ({ read: () => …, write: (text) => …, clear: () => … }).',
  )
}
