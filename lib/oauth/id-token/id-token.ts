import { decodeJwt } from 'jose'
import { TokenError } from '../../errors/token-error.js'
import { ownProperties } from '../../options/own-properties.js'
import { isEncrypted } from './encrypted.js'

/** The claims of an ID token (OpenID Connect Core §2), and any others in it. */
export interface IdTokenClaims {
  readonly iss?: string
  readonly sub?: string
  readonly aud?: string | readonly string[]
  /** Seconds since the epoch, as every time in a claim. */
  readonly exp?: number
  readonly iat?: number
  readonly auth_time?: number
  /** When the session at the authorization server expires (IPSIE SL1). */
  readonly session_expiry?: number
  readonly nonce?: string
  readonly acr?: string
  readonly amr?: readonly string[]
  readonly azp?: string
  readonly [claim: string]: unknown
}

/** The client and the issuer that an ID token must name. */
export interface IdTokenExpectation {
  readonly clientId: string
  /** The issuer; absent if the authorization server is configured by its endpoints. */
  readonly issuer?: string
}

/** The difference between the clocks of two hosts that is tolerated before an ID token counts as expired or from the future. */
const CLOCK_SKEW_SECONDS = 60

/** The user as known before a refresh. */
export interface KnownUser {
  readonly idToken?: string
  /** The user of the last readable ID token, if `idToken` is encrypted. See {@link subjectOf}. */
  readonly subject?: string
}

/**
 * Checks that the ID token of a refresh is about the same user as the earlier one (OpenID Connect Core §12.2): equal `iss` and
 * `sub`, and the client in `aud`, and in `azp` if there is one. Without an earlier ID token, `iss` must be the issuer, if the
 * issuer is known. `exp` is not checked: some servers send the login's ID token again. The signature is checked by
 * `issuerKeys()`, the time by {@link futureIdToken}.
 *
 * An encrypted ID token (JWE, RFC 7516) is for the app alone to read. It is accepted unchecked, and the next one is compared
 * with the last readable one. A text that cannot be read claims no other user: see {@link unreadableIdToken}.
 *
 * @throws `ERR_INVALID_TOKEN_RESPONSE` if it is about another user, or for another client.
 */
export function checkRefreshedIdToken(
  previous: KnownUser,
  next: string,
  { clientId, issuer }: IdTokenExpectation,
): void {
  const claims = idTokenClaims(next)
  if (!claims) return
  const before = userBefore(previous)
  const flaw =
    before.iss === undefined && issuer !== undefined && claims.iss !== issuer
      ? 'has another issuer (iss)'
      : flawOfUser(before, claims)
  if (flaw) throw refusedAtRefresh(flaw)
  const flawOfClient = flawForClient(claims, clientId)
  if (flawOfClient) throw refusedAtRefresh(flawOfClient)
}

/**
 * Makes the error for an ID token that is neither a JWT nor encrypted; `undefined` for any other. A refresh ignores
 * such an ID token, as if the server had not sent it: without readable claims it cannot contradict the earlier ID token.
 */
export function unreadableIdToken(idToken: string): TokenError | undefined {
  if (idTokenClaims(idToken) || isEncrypted(idToken)) return undefined
  return new TokenError(
    'ERR_INVALID_TOKEN_RESPONSE',
    'The ID token that the refresh brought could not be read as a JWT. It was left out, and the earlier one is kept. Check ' +
      'what the authorization server issues to this client as an ID token.',
  )
}

/**
 * Checks the ID token that the token endpoint sent for a login (OpenID Connect Core §3.1.3.7). `iss` must be the issuer, if the
 * issuer is known. There must be a `sub`. `aud` must name the client, and so must `azp` if there is one. `exp` must be in the
 * future, `iat` and `nbf` must not. `nonce` must be that of the authorization request, if that request had one. An encrypted ID
 * token is accepted unchecked, unless there is a nonce to check.
 *
 * @param now Milliseconds since the epoch.
 * @throws `ERR_INVALID_TOKEN_RESPONSE` if a check fails, or if the ID token cannot be read.
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
  if (!isName(claims.sub)) throw refusedAtLogin('names no user (sub)')
  const flaw = flawForClient(claims, clientId)
  if (flaw) throw refusedAtLogin(flaw)
  if (typeof claims.exp !== 'number' || claims.exp <= now / 1000 - CLOCK_SKEW_SECONDS) {
    throw refusedAtLogin('has expired (exp), or names no time of expiry')
  }
  const early = earlyClaim(claims, now)
  if (early) throw refusedAtLogin(`is from the future (${early}), or the clocks differ`)
  if (nonce !== undefined && claims.nonce !== nonce) {
    throw refusedAtLogin('has another nonce than the authorization request, or none')
  }
}

/**
 * Makes the error for an ID token that a refresh leaves out because its `iat` or `nbf` is in the future; `undefined` for any
 * other. A wrong clock, of this host or of the server, says nothing about the user.
 */
export function futureIdToken(idToken: string, now: number): TokenError | undefined {
  const claims = idTokenClaims(idToken)
  const early = claims && earlyClaim(claims, now)
  if (!early) return undefined
  return new TokenError(
    'ERR_INVALID_TOKEN_RESPONSE',
    `The ID token that the refresh brought is from the future (${early}). It was left out, and the earlier one is kept. Check ` +
      'the clocks of this host and of the authorization server.',
  )
}

function userBefore({ idToken, subject }: KnownUser): Pick<IdTokenClaims, 'iss' | 'sub'> {
  const claims = idToken === undefined ? undefined : idTokenClaims(idToken)
  return claims ?? (subject === undefined ? {} : issuerAndSub(subject))
}

function flawOfUser(
  before: Pick<IdTokenClaims, 'iss' | 'sub'>,
  { iss, sub }: IdTokenClaims,
): string | undefined {
  if (before.iss !== undefined && iss !== before.iss) return 'has another issuer (iss) than the earlier one'
  if (!isName(sub)) return 'names no user, or is about another user (sub)'
  if (before.sub !== undefined && sub !== before.sub)
    return 'is about another user (sub) than the earlier one'
  return undefined
}

function flawForClient({ aud, azp }: IdTokenClaims, clientId: string): string | undefined {
  if (![aud].flat().includes(clientId)) return 'is not meant for this client (aud)'
  // Some servers send `null` or an empty string in place of no `azp`.
  return !azp || azp === clientId ? undefined : 'was issued to another client (azp)'
}

/** Finds the claim whose time is in the future, or which is not a time. */
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

/** Reads the claims of an ID token unchecked. Returns `undefined` if it is encrypted, or no JWT. */
export function idTokenClaims(idToken: string): IdTokenClaims | undefined {
  try {
    return ownProperties(decodeJwt(idToken))
  } catch {
    return undefined
  }
}

/** Makes the error for an ID token of a refresh that is refused. `why` follows "The ID token that the refresh brought". */
export function refusedAtRefresh(why: string): TokenError {
  return new TokenError(
    'ERR_INVALID_TOKEN_RESPONSE',
    `The ID token that the refresh brought ${why}. The response was refused, and the user must log in again when the access token expires.`,
  )
}

/** Makes the error for an ID token of a login that is refused, or that is missing. `why` follows "The ID token of the login". */
export function refusedAtLogin(why: string): TokenError {
  return new TokenError(
    'ERR_INVALID_TOKEN_RESPONSE',
    `The ID token of the login ${why}. The response of the token endpoint was refused, and nothing was stored. Send the user to the login again.`,
  )
}

/** Whether two ID tokens are known to be about different users (OpenID Connect Core §2, `iss` and `sub`). */
export function differentSubjects(idToken: string | undefined, other: string | undefined): boolean {
  const [subject, otherSubject] = [subjectOf(idToken), subjectOf(other)]
  return subject !== undefined && otherSubject !== undefined && subject !== otherSubject
}

/**
 * Names the user of an ID token: its `iss` and `sub`. Returns `undefined` if a claim is missing, or if the ID token cannot be
 * read.
 */
export function subjectOf(idToken: string | undefined): string | undefined {
  const { iss, sub } = (idToken !== undefined && idTokenClaims(idToken)) || ownProperties<IdTokenClaims>({})
  return typeof iss === 'string' && typeof sub === 'string' ? JSON.stringify([iss, sub]) : undefined
}

/**
 * Returns when the session at the authorization server expires, by the claim `session_expiry` of an ID token, in milliseconds
 * since the epoch.
 */
export function sessionExpiryOf(idToken: string): number | undefined {
  const seconds = idTokenClaims(idToken)?.session_expiry
  return typeof seconds === 'number' && Number.isFinite(seconds) ? seconds * 1000 : undefined
}

/** Returns when an ID token was issued (`iat`), in milliseconds since the epoch. Returns `undefined` if it cannot be read. */
export function issuedAt(idToken: string | undefined): number | undefined {
  const { iat } = (idToken !== undefined && idTokenClaims(idToken)) || ownProperties<IdTokenClaims>({})
  return typeof iat === 'number' && Number.isFinite(iat) ? iat * 1000 : undefined
}

/** Splits a result of {@link subjectOf}. Any other text gives an empty object. */
function issuerAndSub(subject: string): Pick<IdTokenClaims, 'iss' | 'sub'> {
  try {
    const [iss, sub] = JSON.parse(subject)
    return typeof iss === 'string' && typeof sub === 'string' ? { iss, sub } : ownProperties({})
  } catch {
    return ownProperties({})
  }
}
