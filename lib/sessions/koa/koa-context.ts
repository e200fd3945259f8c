import type { SessionData } from '../store/original-store.js'
import type { NotedRequest } from '../store/session-baseline.js'

/** The property of a request with the key under which its session was stored last. */
export const STORED_AS = Symbol('key of the stored session')

/** The property of a request with the number of middlewares of this library that wait for the next ones. */
export const UNDER_WAY = Symbol('middlewares under way')

/** The properties that koa-session adds to a request, and those that this library notes on it. */
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
  /**
   * The key with which the session was loaded, or under which it will be stored. Regenerating the session does not change this
   * property.
   */
  readonly externalKey?: string
  /** Returns the data of the app. */
  toJSON(): SessionData
  /** Stores the session under another key. The data of the session stay. */
  regenerate(): Promise<void>
  /** Sets the cookie, where the app does so by itself. */
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
  /** The app's own check of a session that a request brings. */
  valid?(ctx: object, session: SessionData): unknown
  encode(session: SessionData): string
  decode(text: string): SessionData
}

/** The session as koa-session stores it, and how long it is valid. */
export interface Storable {
  readonly data: SessionData
  /** How long the store is to keep the session: milliseconds, or `'session'`. */
  readonly maxAge: unknown
}

/** How long koa-session keeps a session whose `maxAge` is not configured. */
const ONE_DAY_MS = 24 * 60 * 60 * 1000
/** How much longer koa-session keeps a session in the store than its cookie. */
const BEYOND_COOKIE_MS = 10_000

/** Returns the data and the lifetime that koa-session would store for a request now. */
export function storableNow(session: KoaSession, { maxAge }: KoaSessionOptions): Storable {
  const data = session.toJSON()
  if (maxAge === 'session') return { data: { ...data, _session: true }, maxAge }
  const lifetimeMs = typeof maxAge === 'number' && maxAge > 0 ? maxAge : ONE_DAY_MS
  const expiry = { _expire: Date.now() + lifetimeMs, _maxAge: lifetimeMs }
  return { data: { ...data, ...expiry }, maxAge: lifetimeMs + BEYOND_COOKIE_MS }
}

/** Returns how long a store is to keep a session that was read from it and is written back. */
export function remainingMaxAge({ _expire: expiresAt, _session: untilClosed }: SessionData): unknown {
  if (untilClosed) return 'session'
  const remainingMs = typeof expiresAt === 'number' ? Math.max(expiresAt - Date.now(), 0) : ONE_DAY_MS
  return remainingMs + BEYOND_COOKIE_MS
}

/** Returns the key under which the store has the session of a request. */
export function keyOf(ctx: KoaContext): string | undefined {
  return ctx[STORED_AS] ?? ctx.session?.externalKey
}

/** Runs the next middlewares, and counts this one as waiting meanwhile. */
export async function underWay(ctx: KoaContext, next: () => Promise<unknown>): Promise<void> {
  ctx[UNDER_WAY] = (ctx[UNDER_WAY] ?? 0) + 1
  try {
    await next()
  } finally {
    ctx[UNDER_WAY] -= 1
  }
}
