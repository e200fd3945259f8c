import { decodeProtectedHeader } from 'jose'
import { isJsonObject, ownProperties, ownValue } from '../options/own-properties.js'
import { idTokenClaims } from './id-token/id-token.js'

/** The claims of a logout token: the user or the login that is over, and the time of issue. */
export interface LogoutToken {
  readonly sub?: string
  readonly sid?: string
  /** Seconds since the epoch. */
  readonly iat: number
  readonly exp: number
  /** Names the logout token, which is used once. */
  readonly jti: string
}

/** The client and the issuer that a logout token must name, and the time. */
export interface LogoutTokenExpectation {
  readonly clientId: string
  readonly issuer: string
  /** Milliseconds since the epoch. */
  readonly now: number
}

const EVENT = 'http://schemas.openid.net/event/backchannel-logout'
/** The types that a logout token may have in its header (OpenID Connect Back-Channel Logout 1.0 §2.4). */
const TYPES: readonly unknown[] = [undefined, 'jwt', 'logout+jwt', 'application/logout+jwt']
/** The difference between the clocks of two hosts that is tolerated. */
const CLOCK_SKEW_SECONDS = 60

/**
 * Reads a logout token, and checks everything but its signature (OpenID Connect Back-Channel Logout 1.0 §2.6). Returns its flaw
 * as a text that follows "The logout token …".
 */
export function readLogoutToken(token: string, expected: LogoutTokenExpectation): LogoutToken | string {
  const claims = idTokenClaims(token)
  const type = typeOf(token)
  if (!claims || type === false) return 'is not a JWT'
  if (!TYPES.includes(type)) return 'has another type (typ)'
  const { aud, exp, iat, iss, jti, sid, sub } = claims
  const now = expected.now / 1000
  if (iss !== expected.issuer) return 'has another issuer (iss)'
  if (![aud].flat().includes(expected.clientId)) return 'is not meant for this client (aud)'
  if (!isTime(iat) || iat > now + CLOCK_SKEW_SECONDS)
    return 'has no time of issue, or one in the future (iat)'
  if (!isTime(exp) || exp <= now - CLOCK_SKEW_SECONDS) return 'has expired, or has no time of expiry (exp)'
  if (!hasEvent(claims.events)) return 'is not about a back-channel logout (events)'
  if (Object.hasOwn(claims, 'nonce')) return 'has a nonce, as ID tokens have'
  if (!isName(jti)) return 'has no identifier (jti)'
  if (!isNameOrAbsent(sub) || !isNameOrAbsent(sid)) return 'has a wrong user or login (sub, sid)'
  if (sub === undefined && sid === undefined) return 'names neither a user nor a login (sub, sid)'
  return ownProperties({
    ...(sub !== undefined && { sub }),
    ...(sid !== undefined && { sid }),
    iat,
    exp,
    jti,
  })
}

/** Returns the type in the header, in lower case; `false` for a text without a header. */
function typeOf(token: string): unknown {
  try {
    const typ = ownValue(decodeProtectedHeader(token), 'typ')
    return typeof typ === 'string' ? typ.toLowerCase() : typ
  } catch {
    return false
  }
}

function hasEvent(events: unknown): boolean {
  return isJsonObject(events) && isJsonObject(ownValue(events, EVENT))
}

function isTime(value: unknown): value is number {
  return typeof value === 'number' && Number.isFinite(value)
}

function isName(value: unknown): value is string {
  return typeof value === 'string' && value !== ''
}

function isNameOrAbsent(value: unknown): value is string | undefined {
  return value === undefined || isName(value)
}
