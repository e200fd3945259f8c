import { ConfigurationError, TokenError } from '../errors/token-error.js'
import type { TokenSetCodec } from './codec/token-set-codec.js'
import { CookieSessionAdapter } from './cookie/cookie-session.js'
import type { SessionAdapter } from './session-adapter.js'
import type { SessionLayer } from './session-layer.js'
import { isPromise, withStoreTimeout } from './store/original-store.js'
import { UnusableSession } from './unusable-session.js'

/**
 * Reads and stores the tokens of one request's session in a session layer of the app. The tokens are a text that the app need not
 * understand.
 */
export interface OwnSession {
  /** Returns the text that the request has, or `undefined`, but no promise. The function is called often, so it must be fast. */
  read(): string | undefined
  /** Stores the text, so that `read()` and the next request find it. The function must change nothing else in the session. */
  write(text: string): void | Promise<void>
  /** Forgets the text. */
  clear(): void | Promise<void>
}

/** The result of the option `session`. A visitor may have no session. */
type Found = OwnSession | null | undefined

const METHODS = ['read', 'write', 'clear'] as const

/** Returns the session layer whose sessions a function of the app finds. */
export function customSessions(
  find: (request: never) => Found | PromiseLike<Found>,
  codec: TokenSetCodec,
): SessionLayer<object> {
  const adapterOf = (session: Found): SessionAdapter => {
    if (session === undefined || session === null) return noSessionAdapter(codec)
    const missing = METHODS.find((method) => typeof session[method] !== 'function')
    return missing ? new UnusableSession(() => noSession(missing)) : ownSession(session, codec)
  }
  return {
    of(request) {
      const found = find(request as never)
      return isPromise(found) ? Promise.resolve(found).then(adapterOf) : adapterOf(found)
    },
    close() {},
  }
}

/** The adapter of a session in a layer of the app. The library cannot give such a session another id. */
class OwnSessionAdapter extends CookieSessionAdapter {
  async regenerate(): Promise<void> {
    throw new ConfigurationError(
      'regenerate: true is not for the option `session`. Give the session another id yourself before set(), and leave it out.',
    )
  }
}

/**
 * Returns the adapter of a session. Each request that asks for a token updates it, as with a cookie: requests may not share it.
 */
function ownSession(session: OwnSession, codec: TokenSetCodec): SessionAdapter {
  const put = async (text: unknown) =>
    withStoreTimeout(Promise.resolve(text === undefined ? session.clear() : session.write(text as string)))
  return new OwnSessionAdapter(
    { get: () => textOf(session), put, headersSent: () => false, canStoreLater: true, size: () => 0 },
    codec,
  )
}

/** Returns the adapter of a visitor without a session, who has no tokens and cannot get any. */
function noSessionAdapter(codec: TokenSetCodec): SessionAdapter {
  const headersSent = () => {
    throw nowhere()
  }
  return new CookieSessionAdapter(
    { get: () => undefined, isDestroyed: () => true, put() {}, headersSent, size: () => 0 },
    codec,
  )
}

/** Reads the text of a session. An app may return `null`, as a database does, or an empty text where there are no tokens. */
function textOf(session: OwnSession): string | undefined {
  let text: unknown
  try {
    text = session.read()
  } catch (cause) {
    // The message of the app's session layer may hold anything, such as tokens.
    throw new TokenError('ERR_SESSION_STORE', READ_FAILED, { cause, causeMessage: false })
  }
  if (typeof text === 'string') return text === '' ? undefined : text
  if (text === undefined || text === null) return undefined
  if (isPromise(text)) Promise.resolve(text).catch(() => {})
  throw notText()
}

const READ_FAILED =
  'The read() of the session that the option `session` has found failed. Check your session layer, then try again.'

function noSession(missing: string): ConfigurationError {
  return new ConfigurationError(
    `The result of the option \`session\` for a request has no method ${missing}(). The option must return { read, write, clear }, or ` +
      'undefined for a visitor without a session: session: (request) => ({ read: () => …, write: (text) => …, clear: () => … }).',
  )
}

function nowhere(): ConfigurationError {
  return new ConfigurationError(
    'There is no session to put the tokens in: `session` has returned no session for this request. Begin a session before the login.',
  )
}

function notText(): ConfigurationError {
  return new ConfigurationError(
    'The read() of the session that the option `session` has found must return the text that write() was given, or ' +
      'undefined, but no promise. To load a session first, make the option async: session: async (request) => { … }.',
  )
}
