import { decodeJwt } from 'jose'
import { TokenError } from '../errors.js'
import { ownProperties } from '../own-properties.js'
import { isEncrypted } from './encrypted.js'
import { issuerAndSub } from './subject.js'

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

/** How far the clocks of two hosts may be apart before an ID token counts as expired, or as one from the future. */
const CLOCK_SKEW_SECONDS = 60

/** What is known of the user before a refresh. */
export interface KnownUser {
  readonly idToken?: string
  /** Who the last ID token that could be read was about, where the one above cannot be read. See `subjectOf()`. */
  readonly subject?: string
}

/**
 * Checks that an ID token which a refresh brought is about the same user as the one before it (OpenID Connect Core
 * §12.2): equal `iss` and `sub`, and the client in `aud`, and in `azp` if there is one. Without one before it, `iss` must
 * be the issuer, if known. `exp` is not looked at: there are servers that send the login's ID token once more.
 *
 * The signature is another matter, see `issuerKeys()`, and so is the time, see {@link fromTheFuture}.
 *
 * An encrypted one (JWE, RFC 7516) is for the app alone to read: it is taken unchecked, and the one that follows it is
 * checked against the last one that could be read.
 *
 * @throws `ERR_INVALID_TOKEN_RESPONSE` when it is not, or cannot be read.
 */
export function checkRefreshedIdToken(
  previous: KnownUser,
  next: string,
  { clientId, issuer }: IdTokenExpectation,
): void {
  const claims = idTokenClaims(next)
  if (!claims && isEncrypted(next)) return
  if (!claims) throw refusedAtRefresh('could not be read as a JWT')
  const before = knownBefore(previous)
  const flaw =
    before.iss === undefined && issuer !== undefined && claims.iss !== issuer
      ? 'has another issuer (iss)'
      : flawBeside(before, claims)
  if (flaw) throw refusedAtRefresh(flaw)
  const flawOfClient = flawForClient(claims, clientId)
  if (flawOfClient) throw refusedAtRefresh(flawOfClient)
}

/**
 * Checks the ID token of a login that came from the token endpoint (OpenID Connect Core §3.1.3.7): `iss` is the issuer,
 * if known, there is a `sub`, the client is in `aud`, and in `azp` if there is one, `exp` is to come, `iat` and `nbf` are not,
 * and `nonce` is the one of the authorization request, if that had one. An encrypted one is taken unchecked, unless there
 * is a nonce to be checked.
 *
 * @param now Milliseconds since the epoch.
 * @throws `ERR_INVALID_TOKEN_RESPONSE` when it is not, or cannot be read.
 */
export function checkFirstIdToken(
  idToken: string,
  { clientId, issuer, nonce }: IdTokenExpectation & { readonly nonce?: string },
  now: number,
): void {
  const claims = idTokenClaims(idToken)
  if (!claims && isEncrypted(idToken)) {
    if (nonce === undefined) return
    throw refusedAtLogin('is encrypted, so that its nonce could not be checked')
  }
  if (!claims) throw refusedAtLogin('could not be read as a JWT')
  if (issuer !== undefined && claims.iss !== issuer) throw refusedAtLogin('has another issuer (iss)')
  if (!isName(claims.sub)) throw refusedAtLogin('does not say whom it is about (sub)')
  const flaw = flawForClient(claims, clientId)
  if (flaw) throw refusedAtLogin(flaw)
  if (typeof claims.exp !== 'number' || claims.exp <= now / 1000 - CLOCK_SKEW_SECONDS) {
    throw refusedAtLogin('has expired (exp), or does not say when')
  }
  const early = earlyClaim(claims, now)
  if (early) throw refusedAtLogin(`is from the future (${early}), or the clocks are apart`)
  if (nonce !== undefined && claims.nonce !== nonce) {
    throw refusedAtLogin('has another nonce than the authorization request, or none')
  }
}

/**
 * Why an ID token that a refresh brought is not taken yet: by its `iat` or `nbf` it is from the future. That is a clock gone
 * wrong, here or there, and says nothing about the user.
 */
export function fromTheFuture(idToken: string, now: number): TokenError | undefined {
  const claims = idTokenClaims(idToken)
  const early = claims && earlyClaim(claims, now)
  if (!early) return undefined
  return new TokenError(
    'ERR_INVALID_TOKEN_RESPONSE',
    `The ID token that the refresh brought is from the future (${early}). It was left out. Check the clocks of this host and of the authorization server.`,
  )
}

function knownBefore({ idToken, subject }: KnownUser): Pick<IdTokenClaims, 'iss' | 'sub'> {
  const claims = idToken === undefined ? undefined : idTokenClaims(idToken)
  return claims ?? (subject === undefined ? {} : issuerAndSub(subject))
}

function flawBeside(
  before: Pick<IdTokenClaims, 'iss' | 'sub'>,
  { iss, sub }: IdTokenClaims,
): string | undefined {
  if (before.iss !== undefined && iss !== before.iss) return 'has another issuer (iss) than the one before'
  if (!isName(sub)) return 'names no user, or is about another user (sub)'
  if (before.sub !== undefined && sub !== before.sub) return 'is about another user (sub) than the one before'
  return undefined
}

function flawForClient({ aud, azp }: IdTokenClaims, clientId: string): string | undefined {
  if (![aud].flat().includes(clientId)) return 'is not meant for this client (aud)'
  // Some servers write `null`, or nothing, into what they leave out.
  return !azp || azp === clientId ? undefined : 'was issued to another client (azp)'
}

/** The claim by which an ID token is from the future, or which is not a time at all. */
function earlyClaim(claims: IdTokenClaims, now: number): 'iat' | 'nbf' | undefined {
  const latest = now / 1000 + CLOCK_SKEW_SECONDS
  return (['iat', 'nbf'] as const).find((name) => {
    const time = claims[name]
    return time !== undefined && !(typeof time === 'number' && time <= latest)
  })
}

function isName(value: unknown): boolean {
  return typeof value === 'string' && value !== ''
}

/** What an ID token says, nothing of it checked; `undefined` for one that is encrypted, or no JWT. */
export function idTokenClaims(idToken: string): IdTokenClaims | undefined {
  try {
    return ownProperties(decodeJwt(idToken))
  } catch {
    return undefined
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
