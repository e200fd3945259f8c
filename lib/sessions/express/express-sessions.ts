import { ownValue } from '../../options/own-properties.js'
import { cookieFace, cookieSessionAdapter, cookieTooLargeError } from '../cookie/cookie-session.js'
import type { SessionAdapter } from '../session-adapter.js'
import { putCopy } from '../session-key.js'
import type { SessionLayer, SessionLayerContext } from '../session-layer.js'
import { cookieMaxAgeMs, ironMaxAgeMs, longest } from '../session-lifetime.js'
import { StoredSessions } from '../store/stored-session-adapter.js'
import { UnusableSession } from '../unusable-session.js'
import { expressSessionFace, noSessionError, type SessionRequest } from './express-session.js'

/** The properties that session layers add to a request. */
interface Request extends SessionRequest {
  /** The options of cookie-session. */
  readonly sessionOptions?: { readonly name?: string; readonly maxAge?: unknown; readonly expires?: unknown }
  /** Set by Express. */
  readonly res?: { readonly headersSent: boolean; getHeader(name: string): unknown }
  readonly headers?: { readonly cookie?: string }
}

/** An iron-session, as an app puts it on a request. */
interface IronSession {
  save(): Promise<void>
  updateConfig(options: unknown): void
  [name: string]: unknown
}

/** Finds the session layer of an Express app by the properties that it adds to a request. */
export function expressSessions(context: SessionLayerContext): SessionLayer<Request> {
  const stored = new StoredSessions(expressSessionFace, context)
  const iron = new IronLifetime()
  return {
    of(request) {
      const { sessionStore: store } = request
      // cookie-session decodes its session when it is first read, so it is not read here.
      if (store === undefined && request.sessionOptions !== undefined)
        return cookieSessionOf(request, context)
      const { session } = request
      if (session === undefined) return new UnusableSession(noSessionError)
      const isIron = store === undefined && isIronSession(session)
      return isIron ? ironSessionOf(request, session, context, iron) : stored.of(request, store)
    },
    homeOf: (sid, of) => stored.homeOf(sid, of),
    close: () => stored.close(),
  }
}

function cookieSessionOf(request: Request, context: SessionLayerContext): SessionAdapter {
  const face = cookieFace(
    context.key,
    () => request.session,
    () => {
      request.session = {}
    },
  )
  return cookieSessionAdapter(request, context, false, () => ({
    ...face,
    headersSent: () => request.res?.headersSent ?? false,
    size: () => (request.sessionOptions?.name ?? 'session').length + base64Length(request.session),
    maxAgeMs: () => cookieMaxAgeMs(request.sessionOptions),
  }))
}

function ironSessionOf(
  request: Request,
  session: IronSession,
  context: SessionLayerContext,
  lifetime: IronLifetime,
): SessionAdapter {
  const { key } = context
  return cookieSessionAdapter(request, context, true, () => {
    const copy = ownValue(session, key)
    const wasEmpty = isEmpty(session)
    return {
      get: () => ownValue(session, key),
      loaded: () => copy,
      isDestroyed: () => !wasEmpty && isEmpty(session),
      put: (copy) => putCopy(session, key, copy),
      send: () => session.save().catch(passOnTooLarge),
      headersSent: () => request.res?.headersSent ?? false,
      size: () => 0,
      maxAgeMs: () => lifetime.of(request),
    }
  })
}

/**
 * How long the sessions of iron-session are valid. Only their seals tell this. A seal in a response tells the whole time, and the
 * longest time that was seen counts. A seal that a request brings tells the time that is left. Such a seal may be forged, so it
 * counts for this request alone.
 */
class IronLifetime {
  #longestMs: number | undefined

  of({ headers, res }: Request): number | undefined {
    const sentMs = ironMaxAgeMs(String(res?.getHeader('set-cookie') ?? ''))
    this.#longestMs = longest(this.#longestMs, sentMs)
    return longest(this.#longestMs, ironMaxAgeMs(headers?.cookie ?? ''))
  }
}

/** Whether a session holds no data. Its methods are not enumerable. */
function isEmpty(session: IronSession): boolean {
  return Object.keys(session).length === 0
}

function isIronSession(session: unknown): session is IronSession {
  const { save, updateConfig } = (session ?? {}) as Partial<IronSession>
  return typeof save === 'function' && typeof updateConfig === 'function'
}

function passOnTooLarge(error: Error): never {
  const [, bytes] = /too big \((\d+) bytes\)/.exec(error.message) ?? []
  throw bytes === undefined ? error : cookieTooLargeError(Number(bytes))
}

function base64Length(value: unknown): number {
  return Math.ceil(Buffer.byteLength(JSON.stringify(value)) / 3) * 4
}
