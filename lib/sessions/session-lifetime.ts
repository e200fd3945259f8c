import type { SessionData } from './store/original-store.js'

/** Ten years. A forged seal, or a cookie that is to be kept for ever, may say more than a grant store can count. */
const MOST_MS = 3_650 * 24 * 60 * 60 * 1000

/*
 * For how long from now a session can come back, in milliseconds: a request still brings it with its tokens. The result is
 * `undefined` where the layer does not say, for example for a cookie that is kept until the browser is closed.
 */

/** A cookie of express-session. */
interface ExpressCookie {
  readonly originalMaxAge?: unknown
  readonly maxAge?: unknown
}

/** Returns for how long a session of express-session can come back: one of a request, or plain data out of a store. */
export function expressMaxAgeMs(session: { readonly cookie?: unknown } | undefined): number | undefined {
  const { originalMaxAge, maxAge } = (session?.cookie ?? {}) as ExpressCookie
  return longest(originalMaxAge, maxAge)
}

/** Returns for how long a session in a store can come back, of express-session or of koa-session. */
export function storedMaxAgeMs(session: SessionData | undefined): number | undefined {
  return expressMaxAgeMs(session) ?? longest(session?._maxAge)
}

/** Returns for how long a session in a cookie can come back, by the options of its cookie. */
export function cookieMaxAgeMs(
  options: { readonly maxAge?: unknown; readonly expires?: unknown } | undefined,
) {
  const { maxAge, expires } = options ?? {}
  return longest(maxAge) ?? (expires instanceof Date ? longest(expires.getTime() - Date.now()) : undefined)
}

/** The seals of iron-session in a text. */
const IRON_SEAL = /Fe26\.2(?:\*|%2A)[^;,\s"]+/gi
/** The index of the part of a seal that is its expiry, in milliseconds since the epoch. */
const EXPIRY_PART = 5

/**
 * Returns for how long the seals of iron-session in a text, such as a `Cookie` header, are valid: the longest of them.
 * Nothing says here whether a seal is forged.
 */
export function ironMaxAgeMs(text: string): number | undefined {
  const seals = text.match(IRON_SEAL) ?? []
  const expiries = seals.map((seal) => Number(seal.replaceAll(/%2A/gi, '*').split('*')[EXPIRY_PART]))
  return longest(...expiries.map((expiresAt) => Math.floor(expiresAt - Date.now())))
}

/** Returns the longest of some times, and ten years at most. A value that is no positive number does not count. */
export function longest(...times: readonly unknown[]): number | undefined {
  const known = times.filter((ms): ms is number => typeof ms === 'number' && Number.isFinite(ms) && ms > 0)
  return known.length > 0 ? Math.min(Math.max(...known), MOST_MS) : undefined
}
