import type { TokenSet } from './token-set.js'

/** The part of a token set that says how long a login lasts. */
type LoginTimes = Pick<TokenSet, 'accessTokens' | 'loggedInAt' | 'sessionExpiresAt'>

/**
 * Whether a login is over although its tokens may be valid: the authorization server's session has expired (`session_expiry` of the
 * ID token), or the login is older than the app allows. Then no token is used or refreshed.
 */
export function isLoginOver(tokens: LoginTimes, now: number, maxLoginAgeMs: number | undefined): boolean {
  const { sessionExpiresAt } = tokens
  if (sessionExpiresAt !== undefined && now >= sessionExpiresAt) return true
  return maxLoginAgeMs !== undefined && now >= loginTimeOf(tokens, now) + maxLoginAgeMs
}

/** Whether there is a refresh token that has not expired, as far as the tokens say. A reference may lead to one. */
export function canRefresh({ isReference, refreshExpiresAt, refreshToken }: TokenSet, now: number): boolean {
  if (isReference) return true
  return refreshToken !== undefined && (refreshExpiresAt === undefined || now < refreshExpiresAt)
}

/** Returns the time of the login, or the earliest time that tokens of an earlier version tell. */
export function loginTimeOf({ accessTokens, loggedInAt }: LoginTimes, now: number): number {
  return loggedInAt ?? Math.min(now, ...accessTokens.map(({ obtainedAt }) => obtainedAt))
}
