import { decodeJwt } from 'jose'
import { fieldValue, ownProperties } from '../own-properties.js'
import type { Fields } from './fields.js'

/** No token lives longer; a longer life is cut to ten years, so that its expiry stays a date. */
const MAX_LIFETIME_MS = 10 * 365 * 24 * 60 * 60 * 1000
/** Numbers below are seconds since the epoch, numbers above milliseconds. */
const SECONDS_OR_MILLISECONDS = 1e11
/** A number of seconds below is a life, one above a moment: thirty years, and 2001. */
const LIFETIME_OR_MOMENT = 1e9

/**
 * Where a life in seconds stands. The unmistakable names come first: Zoho has `expires_in` in milliseconds beside
 * `expires_in_sec`.
 */
const LIFETIMES = [
  ...['expires_in_sec', 'expires_in_seconds', 'expiresInSec', 'expiresInSeconds'],
  ...['expires_in', 'expiresIn'],
]
/**
 * Where a moment stands: openid-client, simple-oauth2, Strava (`expires_at`), MSAL (`expiresOn`), Azure AD v1 and AD FS
 * (`expires_on`), google-auth-library (`expiry_date`), golang.org/x/oauth2 (`expiry`), Azure Identity
 * (`expiresOnTimestamp`). `ext_expires_in` and `extExpiresOn` are for outages of Entra ID, and no expiry.
 */
const MOMENTS = [
  ...['expires_at', 'expiresAt', 'accessTokenExpiresAt', 'access_token_expires_at'],
  ...['expires_on', 'expiresOn', 'expiresOnTimestamp', 'expiry_date', 'expiryDate', 'expiry'],
]
/** A moment (client-oauth2, Auth.js) or a life in seconds (Facebook, Stack Exchange). */
const EITHER = 'expires'

/** What tokens say of their expiry, each in milliseconds from now; `undefined` where nothing is said, or nothing of use. */
export interface Expiry {
  /** By a moment. It is negative if that is over. */
  readonly untilMs: number | undefined
  /** By a life, which counts from when the tokens were issued. */
  readonly forMs: number | undefined
}

/** Reads the expiry of an access token from the fields that come with it, whichever names they have. */
export function expiryIn(fields: Fields, now: number): Expiry {
  const either = fieldValue(fields, EITHER)
  const isLifetime = isBelow(either, LIFETIME_OR_MOMENT)
  const moment = firstOf([...valuesOf(fields, MOMENTS), ...(isLifetime ? [] : [either])], epochMs)
  const lifetime = firstOf([...valuesOf(fields, LIFETIMES), ...(isLifetime ? [either] : [])], secondsIn)
  return { untilMs: moment === undefined ? undefined : moment - now, forMs: lifetime }
}

export function boundedLifetime(lifetimeMs: number | undefined): number | undefined {
  return lifetimeMs === undefined ? undefined : Math.min(lifetimeMs, MAX_LIFETIME_MS)
}

/** The life of a JWT access token by its `exp` (RFC 9068 §2.2); not longer than from its `iat`, if our clock is slow. */
export function lifetimeOfJwt(accessToken: string, now: number): number | undefined {
  try {
    const { exp, iat } = ownProperties(decodeJwt(accessToken))
    if (typeof exp !== 'number') return undefined
    const seconds = Math.min(exp - now / 1000, typeof iat === 'number' ? exp - iat : Infinity)
    return seconds > 0 ? Math.round(seconds * 1000) : undefined
  } catch {
    // Not a JWT: most access tokens are opaque.
    return undefined
  }
}

function valuesOf(fields: Fields, names: readonly string[]): unknown[] {
  return names.map((name) => fieldValue(fields, name))
}

function firstOf(values: readonly unknown[], read: (value: unknown) => number | undefined) {
  return values.map(read).find((it) => it !== undefined)
}

/** Seconds in milliseconds; `undefined` unless it is a number above zero, possibly written as a text. */
function secondsIn(value: unknown): number | undefined {
  const seconds = numberIn(value)
  return seconds !== undefined && seconds > 0 ? seconds * 1000 : undefined
}

/** Milliseconds since the epoch of a `Date`, a date in a text, or a number of seconds or milliseconds. */
function epochMs(value: unknown): number | undefined {
  const number = numberIn(value)
  if (number !== undefined) return number > SECONDS_OR_MILLISECONDS ? number : number * 1000
  const date = typeof value === 'string' && /\d[-/ ]/.test(value) ? new Date(value) : value
  const time = isDate(date) ? date.getTime() : Number.NaN
  return Number.isFinite(time) ? time : undefined
}

function isBelow(value: unknown, limit: number): boolean {
  const number = numberIn(value)
  return number !== undefined && number < limit
}

function numberIn(value: unknown): number | undefined {
  const number = typeof value === 'string' && /^\d+(\.\d+)?$/.test(value) ? Number(value) : value
  return typeof number === 'number' && Number.isFinite(number) ? number : undefined
}

function isDate(value: unknown): value is Date {
  return Object.prototype.toString.call(value) === '[object Date]'
}
