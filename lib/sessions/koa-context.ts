import type { NotedRequest } from './loaded-session.js'
import type { SessionData } from './session-store.js'

/** Under which name a request has the key that its session was stored under last. */
export const STORED_AS = Symbol('key of the stored session')

/** Under which name a request has how many of our middlewares are waiting for what is behind them. */
export const UNDER_WAY = Symbol('middlewares under way')

/** What koa-session adds to a request, and what we note on it. */
export interface KoaContext extends NotedRequest {
  get session(): KoaSession | null | undefined
  /** Any object with data can be put in the session's place, or `null` to destroy it. */
  set session(data: object | null)
  readonly headerSent: boolean
  readonly cookies: { get(name: string, options: object): string | undefined }
  [UNDER_WAY]?: number
  readonly sessionOptions?: KoaSessionOptions
  [STORED_AS]?: string
}

export interface KoaSession {
  readonly isNew: boolean
  /** The key it was loaded with, or will be stored under. Regenerating the session leaves it as it was. */
  readonly externalKey?: string
  /** What the app keeps in it. */
  toJSON(): SessionData
  /** Sets the cookie, where that is the app's to do. */
  manuallyCommit(): Promise<void>
  [name: string]: unknown
}

export interface KoaSessionOptions {
  readonly store?: unknown
  readonly ContextStore?: unknown
  /** The name of the cookie. */
  readonly key: string
  /** Milliseconds, or `'session'`. */
  readonly maxAge?: unknown
  readonly rolling?: boolean
  /** `false` where the app commits its sessions by itself. */
  readonly autoCommit?: boolean
  encode(session: SessionData): string
  decode(text: string): SessionData
}

/** What koa-session stores: the session, and for how long it is valid. */
export interface Storable {
  readonly data: SessionData
  /** For how long the store is to keep it: milliseconds, or `'session'`. */
  readonly maxAge: unknown
}

/** For how long koa-session keeps a session whose `maxAge` is not configured. */
const ONE_DAY_MS = 24 * 60 * 60 * 1000
/** For how much longer than its cookie koa-session keeps a session in the store. */
const BEYOND_COOKIE_MS = 10_000

/** What koa-session would store for a request now. */
export function storableNow(session: KoaSession, { maxAge }: KoaSessionOptions): Storable {
  const data = session.toJSON()
  if (maxAge === 'session') return { data: { ...data, _session: true }, maxAge }
  const lifetimeMs = typeof maxAge === 'number' && maxAge > 0 ? maxAge : ONE_DAY_MS
  const expiry = { _expire: Date.now() + lifetimeMs, _maxAge: lifetimeMs }
  return { data: { ...data, ...expiry }, maxAge: lifetimeMs + BEYOND_COOKIE_MS }
}

/** For how long a store is to keep a session that was read from it and is written back. */
export function remainingMaxAge({ _expire: expiresAt, _session: untilClosed }: SessionData): unknown {
  if (untilClosed) return 'session'
  const remainingMs = typeof expiresAt === 'number' ? Math.max(expiresAt - Date.now(), 0) : ONE_DAY_MS
  return remainingMs + BEYOND_COOKIE_MS
}

/** Under which key the session of a request is in the store. */
export function keyOf(ctx: KoaContext): string | undefined {
  return ctx[STORED_AS] ?? ctx.session?.externalKey
}

export function put(session: KoaSession, key: string, copy: unknown): void {
  if (copy === undefined) delete session[key]
  else session[key] = copy
}

/** Runs what is behind one of our middlewares. */
export async function underWay(ctx: KoaContext, next: () => Promise<unknown>): Promise<void> {
  ctx[UNDER_WAY] = (ctx[UNDER_WAY] ?? 0) + 1
  try {
    await next()
  } finally {
    ctx[UNDER_WAY] -= 1
  }
}
