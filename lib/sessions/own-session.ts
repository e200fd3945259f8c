import { ConfigurationError, TokenError } from '../errors.js'
import { CookieSessionAdapter } from './cookie-session.js'
import type { CopyKeeper } from './copy-keeper.js'
import type { SessionAdapter } from './session-adapter.js'
import type { SessionLayer } from './session-layer.js'
import { inTime } from './store-calls.js'
import { UnusableSession } from './unusable-session.js'

/**
 * Where the tokens of one request's session are, in a session layer of the app's own. What it keeps is a text that the
 * app need not understand.
 */
export interface OwnSession {
  /** The text as the request has it, `undefined` if there is none; at once, not a promise. Called often, so it must be quick. */
  read(): string | undefined
  /** Keeps the text, so that `read()` and the next request find it. Only this text must change in the session. */
  write(text: string): void | Promise<void>
  /** Forgets the text. */
  clear(): void | Promise<void>
}

/** What the app has for a visitor without a session is none. */
type Found = OwnSession | null | undefined

const METHODS = ['read', 'write', 'clear'] as const

/** The sessions that a function of the app's finds. */
export function ownSessions(
  find: (request: never) => Found | PromiseLike<Found>,
  keeper: CopyKeeper,
): SessionLayer<object> {
  const adapterOf = (session: Found): SessionAdapter => {
    if (session === undefined || session === null) return nobodysSession(keeper)
    const missing = METHODS.find((method) => typeof session[method] !== 'function')
    return missing ? new UnusableSession(() => noSession(missing)) : ownSession(session, keeper)
  }
  return {
    of(request) {
      const found = find(request as never)
      return isPromise(found) ? Promise.resolve(found).then(adapterOf) : adapterOf(found)
    },
    close() {},
  }
}

/** As a cookie it is brought up to date in each request that asks, since nobody knows whether requests share it. */
function ownSession(session: OwnSession, keeper: CopyKeeper): SessionAdapter {
  const put = async (text: unknown) =>
    inTime(Promise.resolve(text === undefined ? session.clear() : session.write(text as string)))
  return new CookieSessionAdapter(
    { get: () => textOf(session), put, isAnswered: () => false, size: () => 0 },
    keeper,
  )
}

/** A visitor without a session has no tokens, and gets none. */
function nobodysSession(keeper: CopyKeeper): SessionAdapter {
  const isAnswered = () => {
    throw nowhere()
  }
  return new CookieSessionAdapter(
    { get: () => undefined, isGone: () => true, put() {}, isAnswered, size: () => 0 },
    keeper,
  )
}

/** What the app has for none, such as a database's `null`, is none. */
function textOf(session: OwnSession): string | undefined {
  let text: unknown
  try {
    text = session.read()
  } catch (cause) {
    // What the app's session layer says may hold anything.
    throw new TokenError('ERR_SESSION_STORE', READ_FAILED, { cause, causeMessage: false })
  }
  if (typeof text === 'string') return text === '' ? undefined : text
  if (text === undefined || text === null) return undefined
  if (isPromise(text)) Promise.resolve(text).catch(() => {})
  throw notText()
}

const READ_FAILED =
  'The read() of the session that the option `session` has found failed. Check your session layer, then try again.'

function isPromise(value: unknown): value is PromiseLike<unknown> {
  return typeof (value as Partial<PromiseLike<unknown>> | null | undefined)?.then === 'function'
}

function noSession(missing: string): ConfigurationError {
  return new ConfigurationError(
    `What \`session\` has returned for a request has no method ${missing}(). It must return { read, write, clear }, or ` +
      'undefined for a visitor without a session: session: (request) => ({ read: () => …, write: (text) => …, clear: () => … }).',
  )
}

function nowhere(): ConfigurationError {
  return new ConfigurationError(
    'There is no session to put the tokens in: `session` has returned none for this request. Begin one before the login.',
  )
}

function notText(): ConfigurationError {
  return new ConfigurationError(
    'The read() of the session that the option `session` has found must return the text that write() was given, or ' +
      'undefined, and no promise of it. Load the session before: session: async (request) => { … }, which is waited for.',
  )
}
