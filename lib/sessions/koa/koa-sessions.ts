import { ConfigurationError } from '../../errors/token-error.js'
import { ownValue } from '../../options/own-properties.js'
import { cookieFace, cookieSessionAdapter } from '../cookie/cookie-session.js'
import type { SessionAdapter } from '../session-adapter.js'
import type { SessionLayer, SessionLayerContext } from '../session-layer.js'
import { cookieMaxAgeMs } from '../session-lifetime.js'
import type { SessionData } from '../store/original-store.js'
import { StoredSessions } from '../store/stored-session-adapter.js'
import { UnusableSession } from '../unusable-session.js'
import {
  type KoaContext,
  type KoaSession,
  type KoaSessionOptions,
  storableNow,
  UNDER_WAY,
} from './koa-context.js'
import { koaSessionFace } from './koa-session.js'

/** The properties of koa-session's session objects. The values that it stores beside the session begin with an underscore. */
const RESERVED_SESSION_KEYS = [
  ...['commit', 'externalKey', 'inspect', 'isNew', 'length', 'manuallyCommit', 'maxAge', 'populated'],
  ...['regenerate', 'save', 'toJSON'],
]

/** Returns the sessions of Koa apps: of koa-session with an external store, and in cookies. */
export function koaSessions(context: SessionLayerContext): SessionLayer<KoaContext> {
  checkKey(context.key)
  const stored = new StoredSessions(koaSessionFace, context)
  return {
    of(ctx) {
      const options = ctx.sessionOptions
      if (!options) return new UnusableSession(notMounted)
      if (options.ContextStore) return new UnusableSession(contextStore)
      // A session in a cookie is decoded when it is first looked at, so it is not looked at here.
      return options.store ? stored.of(ctx, options.store) : cookieSessionOf(ctx, options, context)
    },
    homeOf: (sid, of) => stored.homeOf(sid, of),
    close: () => stored.close(),
  }
}

function cookieSessionOf(
  ctx: KoaContext,
  options: KoaSessionOptions,
  context: SessionLayerContext,
): SessionAdapter {
  const { key } = context
  const face = cookieFace(
    key,
    () => ctx.session,
    () => {
      ctx.session = {}
    },
  )
  return cookieSessionAdapter(ctx, context, false, () => ({
    ...face,
    loaded: () => ownValue(sessionInCookie(ctx, options), key),
    // An app that commits its sessions by itself does not know of a refresh.
    async send() {
      if (options.autoCommit === false) await ctx.session?.manuallyCommit()
    },
    // koa-session sets the cookie as soon as the middlewares after it are done.
    headersSent: () => ctx[UNDER_WAY] === 0 || ctx.headerSent,
    size: () => options.key.length + (ctx.session ? encodedLength(ctx.session, options) : 0),
    maxAgeMs: () => cookieMaxAgeMs(options),
  }))
}

/** Decodes the session in the request's cookie and checks it, as koa-session does once for each request. */
function sessionInCookie(ctx: KoaContext, options: KoaSessionOptions): SessionData | undefined {
  try {
    const cookie = ctx.cookies.get(options.key, options)
    if (!cookie) return undefined
    const session = options.decode(cookie)
    const hasExpired = Number(session._expire) < Date.now()
    return hasExpired || !(options.valid?.(ctx, session) ?? true) ? undefined : session
  } catch {
    return undefined
  }
}

function encodedLength(session: KoaSession, options: KoaSessionOptions): number {
  return Buffer.byteLength(options.encode(storableNow(session, options).data))
}

function checkKey(key: string): void {
  if (!RESERVED_SESSION_KEYS.includes(key) && !key.startsWith('_')) return
  throw new ConfigurationError(
    `\`sessionKey\` must not be '${key}', which koa-session keeps for itself. Choose another, e.g. 'tokens'.`,
  )
}

function notMounted(): ConfigurationError {
  return new ConfigurationError(
    'This request has no session. Mount koa-session before sessionTokens(): ' +
      'app.use(session({ … }, app)); app.use(sessionTokens({ … })).',
  )
}

function contextStore(): ConfigurationError {
  return new ConfigurationError(
    'The option `ContextStore` of koa-session is not supported, since it makes a store anew for every request. ' +
      'Use its option `store`: a store is told the request with every call.',
  )
}
