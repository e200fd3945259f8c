import { ConfigurationError } from '../errors.js'
import { ownValue } from '../own-properties.js'
import { type CookieSession, CookieSessionAdapter, claimed, cookieTooLarge } from './cookie-session.js'
import { ExpressSessions, type SessionRequest } from './express-session.js'
import type { SessionAdapter } from './session-adapter.js'
import type { SessionLayer, SessionLayerContext } from './session-layer.js'
import { cookieMaxAgeMs, ironMaxAgeMs } from './session-lifetime.js'
import { keyIsTaken } from './stored-copies.js'
import { UnusableSession } from './unusable-session.js'

/** What the session layers put on a request. */
interface Request extends SessionRequest {
  /** Of cookie-session. */
  readonly sessionOptions?: { readonly name?: string; readonly maxAge?: unknown; readonly expires?: unknown }
  /** Express keeps the response there. */
  readonly res?: { readonly headersSent: boolean; getHeader(name: string): unknown }
  readonly headers?: { readonly cookie?: string }
}

/** An iron-session, as an app puts it on a request. */
interface IronSession {
  save(): Promise<void>
  updateConfig(options: unknown): void
  [name: string]: unknown
}

/** The session layers of Express apps, each found by what it puts on a request. */
export function expressSessions(context: SessionLayerContext): SessionLayer<Request> {
  const stored = new ExpressSessions(context)
  const iron = new IronLifetime()
  return {
    of(request) {
      if (request.sessionStore !== undefined) return stored.of(request)
      // The session of cookie-session is decoded when it is first looked at, so it is not looked at here.
      if (request.sessionOptions !== undefined) return cookieSessionOf(request, context)
      const { session } = request
      return isIronSession(session) ? ironSessionOf(request, session, context, iron) : stored.of(request)
    },
    close: () => stored.close(),
  }
}

function cookieSessionOf(request: Request, context: SessionLayerContext): SessionAdapter {
  const { key, audience, keeper, isSealed, acceptsUnsealed } = context
  if (!isSealed) return new UnusableSession(notSealed)
  if (acceptsUnsealed) return new UnusableSession(unsealedInCookie)
  if (!claimed(request, key, audience)) return new UnusableSession(() => keyIsTaken(key))
  const session: CookieSession = {
    get: () => ownValue(request.session, key),
    isGone: () => !request.session,
    put(copy) {
      // The app may have done away with the session.
      request.session ??= {}
      if (copy === undefined) delete request.session[key]
      else request.session[key] = copy
    },
    isAnswered: () => request.res?.headersSent ?? false,
    size: () => (request.sessionOptions?.name ?? 'session').length + base64Length(request.session),
    maxAgeMs: () => cookieMaxAgeMs(request.sessionOptions),
  }
  return new CookieSessionAdapter(session, keeper)
}

/** It seals its cookies by itself. */
function ironSessionOf(
  request: Request,
  session: IronSession,
  { key, audience, keeper, acceptsUnsealed }: SessionLayerContext,
  lifetime: IronLifetime,
): SessionAdapter {
  if (acceptsUnsealed) return new UnusableSession(unsealedInCookie)
  if (!claimed(request, key, audience)) return new UnusableSession(() => keyIsTaken(key))
  const copy = ownValue(session, key)
  const wasEmpty = isEmpty(session)
  return new CookieSessionAdapter(
    {
      get: () => ownValue(session, key),
      came: () => copy,
      isGone: () => !wasEmpty && isEmpty(session),
      put(copy) {
        if (copy === undefined) delete session[key]
        else session[key] = copy
      },
      send: () => session.save().catch(passOnTooLarge),
      isAnswered: () => request.res?.headersSent ?? false,
      size: () => 0,
      maxAgeMs: () => lifetime.of(request),
    },
    keeper,
  )
}

/**
 * For how long the sessions of iron-session live. Only their seals say it: those that a request has brought say how much is
 * left, those that go with its answer say all of it. The longest that was seen counts.
 */
class IronLifetime {
  #longestMs: number | undefined

  of({ headers, res }: Request): number | undefined {
    const setCookie = res?.getHeader('set-cookie')
    const seenMs = ironMaxAgeMs(`${headers?.cookie ?? ''} ${String(setCookie ?? '')}`)
    if (seenMs !== undefined && seenMs > (this.#longestMs ?? 0)) this.#longestMs = seenMs
    return this.#longestMs
  }
}

/** Its methods do not count. */
function isEmpty(session: IronSession): boolean {
  return Object.keys(session).length === 0
}

function isIronSession(session: unknown): session is IronSession {
  const { save, updateConfig } = (session ?? {}) as Partial<IronSession>
  return typeof save === 'function' && typeof updateConfig === 'function'
}

function passOnTooLarge(error: Error): never {
  const [, bytes] = /too big \((\d+) bytes\)/.exec(error.message) ?? []
  throw bytes === undefined ? error : cookieTooLarge(Number(bytes))
}

function base64Length(value: unknown): number {
  return Math.ceil(Buffer.byteLength(JSON.stringify(value)) / 3) * 4
}

/** Why tokens that are not sealed are not taken from a cookie. */
export function unsealedInCookie(): ConfigurationError {
  return new ConfigurationError(
    '`acceptUnsealed` is for sessions in a store. These are kept in cookies, where the browser may have written what is not ' +
      'sealed. Leave the option out.',
  )
}

/** Why tokens are not put into a cookie that others can read. */
export function notSealed(): ConfigurationError {
  return new ConfigurationError(
    'The sessions are kept in cookies, which whoever has the browser can read. Give `encryptionKeys` to sessionTokens(): ' +
      'encryptionKeys: [process.env.SESSION_KEY], made with openssl rand -base64 32.',
  )
}
