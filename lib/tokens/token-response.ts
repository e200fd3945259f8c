import { ownProperties } from '../options/own-properties.js'
import { type AccessToken, isOfLogin, keyOf, needKey } from './access-token.js'
import type { DpopKey } from './dpop-key.js'
import { loginTimeOf } from './login-lifetime.js'
import { NO_NEED, type TokenNeed } from './token-need.js'
import type { TokenSet } from './token-set.js'

/** A checked response of the token endpoint (RFC 6749 §5.1). */
export interface TokenResponse {
  readonly accessToken?: string
  readonly tokenType?: string
  /** How long the access token lives from now, in milliseconds; absent if it is not known. */
  readonly lifetimeMs?: number
  readonly refreshToken?: string
  /** How long the refresh token lives from now, in milliseconds: `Infinity` if it does not expire; absent if it is not known. */
  readonly refreshLifetimeMs?: number
  readonly idToken?: string
  /** When the session at the authorization server expires, in milliseconds since the epoch, by the ID token. */
  readonly sessionExpiresAt?: number
  /** The subject of the previous ID token, if the new ID token cannot be read. */
  readonly subject?: string
  readonly scope?: string
  /** The key that the tokens were requested with, if the grant does not have it yet. */
  readonly dpopKey?: DpopKey
}

/** The largest number of access tokens in a set. Each scope and resource that was requested takes one place. */
const MAX_ACCESS_TOKENS = 16

/** Ten years. An access token of unknown expiry is served until an API rejects it, if there is no refresh token to replace it. */
const UNLIMITED_MS = 10 * 365 * 24 * 60 * 60 * 1000

/** Returns the first token set of a new grant. */
export function firstTokenSet(
  grantId: string,
  given: TokenResponse,
  now: number,
  defaultLifetimeMs: number,
): TokenSet {
  const response = ownProperties(given)
  const unknownMs = response.refreshToken === undefined ? UNLIMITED_MS : defaultLifetimeMs
  return ownProperties({
    grantId,
    revision: 1,
    accessTokens:
      response.accessToken === undefined
        ? []
        : [accessTokenOf(response.accessToken, response, NO_NEED, now, response.lifetimeMs ?? unknownMs)],
    ...(response.refreshToken !== undefined && { refreshToken: response.refreshToken }),
    ...expiryOfRefreshToken(response, now),
    ...(response.idToken !== undefined && { idToken: response.idToken }),
    ...(response.dpopKey !== undefined && { dpopKey: response.dpopKey }),
    ...(response.sessionExpiresAt !== undefined && { sessionExpiresAt: response.sessionExpiresAt }),
    loggedInAt: now,
  })
}

/** Returns the expiry of a refresh token, if the response says when it expires. */
function expiryOfRefreshToken(
  { refreshLifetimeMs = Infinity }: TokenResponse,
  now: number,
): Pick<TokenSet, 'refreshExpiresAt'> {
  return refreshLifetimeMs === Infinity ? {} : { refreshExpiresAt: now + refreshLifetimeMs }
}

/**
 * Returns the token set after a refresh. A refresh token, ID token or scope that the response omits is kept. The access tokens of
 * other needs are kept until they expire (RFC 6749 §6). A new refresh token without an expiry has none.
 */
export function mergeTokens(
  tokens: TokenSet,
  given: TokenResponse & { readonly accessToken: string },
  need: TokenNeed,
  now: number,
  defaultLifetimeMs: number,
): TokenSet {
  const response = ownProperties(given)
  const key = needKey(need)
  const replaced = tokens.accessTokens.find((token) => keyOf(token) === key)
  const lifetimeMs =
    response.lifetimeMs !== undefined && response.lifetimeMs > 0 ? response.lifetimeMs : defaultLifetimeMs
  const { accessToken, tokenType } = response
  const scope = response.scope ?? replaced?.scope ?? need.scope
  const fresh = accessTokenOf(accessToken, { tokenType, scope }, need, now, lifetimeMs)
  // The login's own token is kept past its expiry: it has the scope, which later responses may omit.
  const others = tokens.accessTokens.filter((token) => keyOf(token) !== key)
  const logins = others.filter((token) => isOfLogin(token))
  const further = others.filter((token) => !isOfLogin(token) && now < token.expiresAt)
  const { subject, refreshExpiresAt, ...kept } = tokens
  const isOfRefreshToken = response.refreshToken !== undefined || response.refreshLifetimeMs !== undefined
  const known = response.idToken === undefined ? subject : response.subject
  return ownProperties({
    ...kept,
    revision: tokens.revision + 1,
    accessTokens: [fresh, ...logins, ...further].slice(0, MAX_ACCESS_TOKENS),
    loggedInAt: loginTimeOf(tokens, now),
    ...(response.refreshToken !== undefined && { refreshToken: response.refreshToken }),
    ...(isOfRefreshToken
      ? expiryOfRefreshToken(response, now)
      : refreshExpiresAt !== undefined && { refreshExpiresAt }),
    ...(response.idToken !== undefined && { idToken: response.idToken }),
    ...(response.sessionExpiresAt !== undefined && { sessionExpiresAt: response.sessionExpiresAt }),
    ...(known !== undefined && { subject: known }),
    ...(response.dpopKey !== undefined && { dpopKey: response.dpopKey }),
  })
}

function accessTokenOf(
  token: string,
  response: { readonly tokenType?: string | undefined; readonly scope?: string | undefined },
  need: TokenNeed,
  now: number,
  lifetimeMs: number,
): AccessToken {
  return ownProperties({
    token,
    tokenType: response.tokenType || 'Bearer',
    obtainedAt: now,
    expiresAt: now + lifetimeMs,
    ...(response.scope && { scope: response.scope }),
    ...(need.scope && { requestedScope: need.scope }),
    ...(need.resource && { resource: need.resource }),
    ...(need.audience && { audience: need.audience }),
    ...(need.exchange && { exchange: need.exchange }),
  })
}
