import { ConfigurationError } from '../errors.js'
import { ownValue } from '../own-properties.js'
import { type CookieSession, CookieSessionAdapter, claimed } from './cookie-session.js'
import { notSealed, unsealedInCookie } from './express-layers.js'
import {
  type KoaContext,
  type KoaSession,
  type KoaSessionOptions,
  put,
  storableNow,
  UNDER_WAY,
} from './koa-context.js'
import { KoaStoreSessions } from './koa-session.js'
import type { SessionAdapter } from './session-adapter.js'
import type { SessionLayer, SessionLayerContext } from './session-layer.js'
import { cookieMaxAgeMs } from './session-lifetime.js'
import type { SessionData } from './session-store.js'
import { keyIsTaken } from './stored-copies.js'
import { UnusableSession } from './unusable-session.js'

/** What koa-session has on its session objects; what it stores beside the session begins with an underscore. */
const RESERVED_SESSION_KEYS = [
  ...['commit', 'externalKey', 'inspect', 'isNew', 'length', 'manuallyCommit', 'maxAge', 'populated'],
  ...['regenerate', 'save', 'toJSON'],
]

/** The session layers of Koa apps: koa-session with an external store, and in cookies. */
export function koaSessions(context: SessionLayerContext): SessionLayer<KoaContext> {
  checkKey(context.key)
  const stored = new KoaStoreSessions(context)
  return {
    of(ctx) {
      const options = ctx.sessionOptions
      if (!options) return new UnusableSession(notMounted)
      if (options.ContextStore) return new UnusableSession(contextStore)
      // A session in a cookie is decoded when it is first looked at, so it is not looked at here.
      return options.store ? stored.of(ctx) : cookieSessionOf(ctx, options, context)
    },
    close: () => stored.close(),
  }
}

function cookieSessionOf(
  ctx: KoaContext,
  options: KoaSessionOptions,
  { key, audience, keeper, isSealed, acceptsUnsealed }: SessionLayerContext,
): SessionAdapter {
  if (!isSealed) return new UnusableSession(notSealed)
  if (acceptsUnsealed) return new UnusableSession(unsealedInCookie)
  if (!claimed(ctx, key, audience)) return new UnusableSession(() => keyIsTaken(key))
  const session: CookieSession = {
    get: () => ownValue(ctx.session, key),
    isGone: () => !ctx.session,
    came: () => ownValue(sessionInCookie(ctx, options), key),
    put(copy) {
      // The app may have done away with the session.
      if (copy !== undefined) ctx.session ??= {}
      if (ctx.session) put(ctx.session, key, copy)
    },
    // An app that commits by itself does not know of a refresh.
    async send() {
      if (options.autoCommit === false) await ctx.session?.manuallyCommit()
    },
    // koa-session sets the cookie as soon as everything behind it is done.
    isAnswered: () => ctx[UNDER_WAY] === 0 || ctx.headerSent,
    size: () => options.key.length + (ctx.session ? encodedLength(ctx.session, options) : 0),
    maxAgeMs: () => cookieMaxAgeMs(options),
  }
  return new CookieSessionAdapter(session, keeper)
}

/** What koa-session does itself, once for each request. */
function sessionInCookie(ctx: KoaContext, options: KoaSessionOptions): SessionData | undefined {
  try {
    const cookie = ctx.cookies.get(options.key, options)
    return cookie ? options.decode(cookie) : undefined
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
