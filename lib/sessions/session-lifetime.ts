import type { SessionData } from './session-store.js'

/*
 * For how long a session could come back, as its layer says it: in milliseconds from now, `undefined` where it does not say,
 * such as for a cookie that lives until the browser is closed.
 */

/** A cookie of express-session. */
interface ExpressCookie {
  readonly originalMaxAge?: unknown
  readonly maxAge?: unknown
}

/** Of a session of express-session: with a `Cookie` object on a request, plain data out of a store. */
export function expressMaxAgeMs(session: { readonly cookie?: unknown } | undefined): number | undefined {
  const { originalMaxAge, maxAge } = (session?.cookie ?? {}) as ExpressCookie
  return longest(originalMaxAge, maxAge)
}

/** Of a session in a store, of express-session or of koa-session. */
export function storedMaxAgeMs(session: SessionData | undefined): number | undefined {
  return expressMaxAgeMs(session) ?? longest(session?._maxAge)
}

/** Of the options that cookie-session has for a request. */
export function cookieMaxAgeMs(
  options: { readonly maxAge?: unknown; readonly expires?: unknown } | undefined,
) {
  const { maxAge, expires } = options ?? {}
  return longest(maxAge) ?? (expires instanceof Date ? longest(expires.getTime() - Date.now()) : undefined)
}

/** What a seal of iron-session begins with. */
const IRON_SEAL = /Fe26\.2(?:\*|%2A)[^;,\s"]+/gi
/** Which part of a seal is its expiry, in milliseconds since the epoch. */
const EXPIRY_PART = 5

/** Of the seals of iron-session in a text, such as a `Cookie` header: the one that lives for longest. */
export function ironMaxAgeMs(text: string): number | undefined {
  const seals = text.match(IRON_SEAL) ?? []
  const expiries = seals.map((seal) => Number(seal.replaceAll(/%2A/gi, '*').split('*')[EXPIRY_PART]))
  return longest(...expiries.map((expiresAt) => expiresAt - Date.now()))
}

/** The longest of some times; what is no time does not count. */
function longest(...times: readonly unknown[]): number | undefined {
  const known = times.filter((ms): ms is number => typeof ms === 'number' && Number.isFinite(ms) && ms > 0)
  return known.length > 0 ? Math.max(...known) : undefined
}
