import { decodeJwt } from 'jose'
import { type JsonObject, ownProperties } from '../../options/own-properties.js'

/** Ten years. A longer lifetime is cut to this one, so that the expiry stays a valid date. */
const MAX_LIFETIME_MS = 10 * 365 * 24 * 60 * 60 * 1000
/** Numbers below are seconds since the epoch, numbers above milliseconds. */
const SECONDS_OR_MILLISECONDS = 1e11
/** A number of seconds below is a lifetime (up to thirty years), a number above is a time (after 2001). */
const LIFETIME_OR_TIME = 1e9

/**
 * The fields that hold a lifetime in seconds. The unmistakable names come first: Zoho sends `expires_in` in milliseconds
 * beside `expires_in_sec`.
 */
const LIFETIMES = [
  ...['expires_in_sec', 'expires_in_seconds', 'expiresInSec', 'expiresInSeconds'],
  ...['expires_in', 'expiresIn'],
]
/**
 * The fields that hold a time: openid-client, simple-oauth2, Strava (`expires_at`), MSAL (`expiresOn`), Azure AD v1 and AD FS
 * (`expires_on`), google-auth-library (`expiry_date`), golang.org/x/oauth2 (`expiry`), Azure Identity
 * (`expiresOnTimestamp`). `ext_expires_in` and `extExpiresOn` are for outages of Entra ID, and are not read.
 */
const TIMES = [
  ...['expires_at', 'expiresAt', 'accessTokenExpiresAt', 'access_token_expires_at'],
  ...['expires_on', 'expiresOn', 'expiresOnTimestamp', 'expiry_date', 'expiryDate', 'expiry'],
]
/** The field that holds a time (client-oauth2, Auth.js) or a lifetime in seconds (Facebook, Stack Exchange). */
const EITHER = 'expires'

/** The fields that hold the lifetime of the refresh token, in seconds: Keycloak, and GitHub and Google. */
const REFRESH_LIFETIMES = [
  ...['refresh_expires_in', 'refresh_token_expires_in'],
  ...['refreshExpiresIn', 'refreshTokenExpiresIn'],
]
/** The fields that hold the time when the refresh token expires, as libraries keep it. */
const REFRESH_TIMES = [
  ...['refresh_token_expires_at', 'refresh_expires_at'],
  ...['refreshTokenExpiresAt', 'refreshExpiresAt'],
]

/** Every field that {@link lifetimesIn} reads. */
export const EXPIRY_FIELDS = [...LIFETIMES, ...TIMES, EITHER, ...REFRESH_LIFETIMES, ...REFRESH_TIMES]

/** The expiry of tokens, in milliseconds from now; `undefined` where a response names none, or an unusable one. */
export interface Expiry {
  /** The time until the named time of expiry; negative if that time has passed. */
  readonly untilMs: number | undefined
  /** The named lifetime, which counts from the time when the tokens were issued. */
  readonly forMs: number | undefined
}

/**
 * Reads how long tokens live from now, in milliseconds, from the other fields of their object. The fields may have any of the
 * names above. Returns `undefined` for a lifetime that no field holds.
 *
 * @param lifetimeBy chooses between the time of expiry and the lifetime. Default: as for tokens that are new
 */
export function lifetimesIn(
  fields: JsonObject,
  now: number,
  lifetimeBy: (expiry: Expiry) => number | undefined = lifetimeOfNew,
) {
  return {
    lifetimeMs: lifetimeBy(expiryIn(fields, now)),
    refreshLifetimeMs: lifetimeBy(refreshExpiryIn(fields, now)),
  }
}

/** Reads the expiry of an access token. */
function expiryIn(fields: JsonObject, now: number): Expiry {
  const either = numberIn(fields[EITHER])
  const isLifetime = either !== undefined && either < LIFETIME_OR_TIME
  const time = firstOf(fields, isLifetime ? TIMES : [...TIMES, EITHER], epochMs)
  const lifetime = firstOf(fields, isLifetime ? [...LIFETIMES, EITHER] : LIFETIMES, secondsIn)
  return { untilMs: time === undefined ? undefined : time - now, forMs: lifetime }
}

/** Reads the expiry of the refresh token. A lifetime of 0 is `Infinity`: Keycloak's offline tokens do not expire. */
function refreshExpiryIn(fields: JsonObject, now: number): Expiry {
  const time = firstOf(fields, REFRESH_TIMES, epochMs)
  const lifetime = firstOf(fields, REFRESH_LIFETIMES, refreshSecondsIn)
  return { untilMs: time === undefined ? undefined : time - now, forMs: lifetime }
}

/**
 * Returns how long new tokens live: the lifetime in the response, or else the time until their expiry. The lifetime is safer, since
 * it does not depend on the server's clock. An expiry in the past is ignored: the tokens are new, so the clocks differ.
 */
function lifetimeOfNew({ untilMs, forMs }: Expiry): number | undefined {
  return forMs ?? (untilMs !== undefined && untilMs > 0 ? untilMs : undefined)
}

function refreshSecondsIn(value: unknown): number | undefined {
  return numberIn(value) === 0 ? Infinity : secondsIn(value)
}

/**
 * Returns the lifetime of an access token, ten years at most. Where the response names none, a JWT may.
 *
 * @param lifetimeMs The lifetime that the response names.
 */
export function lifetimeOf(accessToken: string, lifetimeMs: number | undefined, now: number) {
  const known = lifetimeMs ?? lifetimeOfJwt(accessToken, now)
  return known === undefined ? undefined : Math.min(known, MAX_LIFETIME_MS)
}

/** Computes the lifetime of a JWT access token from its `exp` (RFC 9068 §2.2), at most from its `iat` if our clock is slow. */
function lifetimeOfJwt(accessToken: string, now: number): number | undefined {
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

/** Returns the first field that can be read. */
function firstOf(fields: JsonObject, names: readonly string[], read: (value: unknown) => number | undefined) {
  for (const name of names) {
    const value = fields[name]
    const result = value === undefined ? undefined : read(value)
    if (result !== undefined) return result
  }
  return undefined
}

/** Converts seconds to milliseconds. Returns `undefined` unless the value is a number above zero, or a string of one. */
function secondsIn(value: unknown): number | undefined {
  const seconds = numberIn(value)
  return seconds !== undefined && seconds > 0 ? seconds * 1000 : undefined
}

/** A time of day at the end of a date in a string, without a time zone. */
const WITHOUT_ZONE = /(?<![+-]\d?)\d:\d{2}(?:[.,]\d+)?(?:\s*[ap]m)?$/i

/** Parses a date in a string. Without a time zone it is in UTC: hosts differ in theirs. */
function dateIn(text: string): Date {
  if (!WITHOUT_ZONE.test(text)) return new Date(text)
  return new Date(text + (/\dT\d/.test(text) ? 'Z' : ' UTC'))
}

/** Converts a `Date`, a date in a string, or a number of seconds or milliseconds to milliseconds since the epoch. */
function epochMs(value: unknown): number | undefined {
  const number = numberIn(value)
  if (number !== undefined) return number > SECONDS_OR_MILLISECONDS ? number : number * 1000
  const date = typeof value === 'string' && /\d[-/ ]/.test(value) ? dateIn(value) : value
  const time = isDate(date) ? date.getTime() : Number.NaN
  return Number.isFinite(time) ? time : undefined
}

function numberIn(value: unknown): number | undefined {
  const number = typeof value === 'string' && /^\d+(\.\d+)?$/.test(value) ? Number(value) : value
  return typeof number === 'number' && Number.isFinite(number) ? number : undefined
}

function isDate(value: unknown): value is Date {
  return Object.prototype.toString.call(value) === '[object Date]'
}
