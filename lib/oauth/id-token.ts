import { decodeJwt, decodeProtectedHeader } from 'jose'
import { TokenError } from '../errors.js'

/** The claims of an ID token (OpenID Connect Core §2), and whatever else is in it. */
export interface IdTokenClaims {
  readonly iss?: string
  readonly sub?: string
  readonly aud?: string | readonly string[]
  /** Seconds since the epoch, as in all claims that are times. */
  readonly exp?: number
  readonly iat?: number
  readonly auth_time?: number
  readonly nonce?: string
  readonly acr?: string
  readonly amr?: readonly string[]
  readonly azp?: string
  readonly [claim: string]: unknown
}

/** What an ID token must be about. */
export interface IdTokenExpectation {
  readonly clientId: string
  /** Left out where the authorization server is named by its endpoints. */
  readonly issuer?: string
}

/** How far the clocks of two hosts may be apart before an ID token counts as expired. */
const CLOCK_SKEW_SECONDS = 60

/**
 * Checks that an ID token which a refresh brought is about the same user as the one before it (OpenID Connect Core
 * §12.2): equal `iss` and `sub`, and the client in `aud`. Without one before it, `iss` must be the issuer, if known.
 * `exp` is not looked at: there are servers that send the login's ID token once more.
 *
 * The signature is another matter, see `issuerKeys()`.
 *
 * An encrypted one (JWE, RFC 7516) is for the app alone to read: it is taken unchecked, and the one that follows it is
 * checked as if there were none before.
 *
 * @throws `ERR_INVALID_TOKEN_RESPONSE` when it is not, or cannot be read.
 */
export function checkRefreshedIdToken(
  previous: string | undefined,
  next: string,
  { clientId, issuer }: IdTokenExpectation,
): void {
  const claims = idTokenClaims(next)
  if (!claims && isEncrypted(next)) return
  if (!claims) throw refusedAtRefresh('could not be read as a JWT')
  const before = previous === undefined ? undefined : idTokenClaims(previous)
  const flaw = before
    ? flawBeside(before, claims)
    : issuer !== undefined && claims.iss !== issuer && 'has another issuer (iss)'
  if (flaw) throw refusedAtRefresh(flaw)
  if (!isFor(claims, clientId)) throw refusedAtRefresh('is not meant for this client (aud)')
}

/**
 * Checks the ID token of a login that came from the token endpoint (OpenID Connect Core §3.1.3.7): `iss` is the issuer,
 * if known, the client is in `aud`, and `exp` is to come. An encrypted one is taken unchecked. The `nonce` is for
 * whoever made it to check.
 *
 * @param now Milliseconds since the epoch.
 * @throws `ERR_INVALID_TOKEN_RESPONSE` when it is not, or cannot be read.
 */
export function checkFirstIdToken(
  idToken: string,
  { clientId, issuer }: IdTokenExpectation,
  now: number,
): void {
  const claims = idTokenClaims(idToken)
  if (!claims && isEncrypted(idToken)) return
  if (!claims) throw refusedAtLogin('could not be read as a JWT')
  if (issuer !== undefined && claims.iss !== issuer) throw refusedAtLogin('has another issuer (iss)')
  if (!isFor(claims, clientId)) throw refusedAtLogin('is not meant for this client (aud)')
  if (typeof claims.exp !== 'number' || claims.exp <= now / 1000 - CLOCK_SKEW_SECONDS) {
    throw refusedAtLogin('has expired (exp), or does not say when')
  }
}

function flawBeside(before: IdTokenClaims, claims: IdTokenClaims): string | undefined {
  if (claims.iss !== before.iss) return 'has another issuer (iss) than the one before'
  if (claims.sub !== before.sub) return 'is about another user (sub) than the one before'
  return undefined
}

function isFor({ aud }: IdTokenClaims, clientId: string): boolean {
  return [aud].flat().includes(clientId)
}

/** What an ID token says, nothing of it checked; `undefined` for one that is encrypted, or no JWT. */
export function idTokenClaims(idToken: string): IdTokenClaims | undefined {
  try {
    return decodeJwt(idToken)
  } catch {
    return undefined
  }
}

/** Whether a text is a JWE in compact form: five parts, the first of which names how the fourth is encrypted. */
export function isEncrypted(idToken: string): boolean {
  if (idToken.split('.').length !== 5) return false
  try {
    return typeof decodeProtectedHeader(idToken).enc === 'string'
  } catch {
    return false
  }
}

/** An ID token that a refresh brought and that is not taken. `why` follows on "The ID token". */
export function refusedAtRefresh(why: string): TokenError {
  return new TokenError(
    'ERR_INVALID_TOKEN_RESPONSE',
    `The ID token that the refresh brought ${why}. It was refused, and the user has to log in again once the access token expires.`,
  )
}

/** An ID token that a login brought and that is not taken. `why` follows on "The ID token". */
export function refusedAtLogin(why: string): TokenError {
  return new TokenError(
    'ERR_INVALID_TOKEN_RESPONSE',
    `The ID token that the token endpoint sent ${why}. It was refused, and nothing was stored.`,
  )
}
