import { TokenError } from './errors.js'
import type { KnownGrants } from './grants/known-grants.js'
import type { AuthorizationServer } from './oauth/authorization-server.js'
import type { TokenSet } from './token-set.js'

export interface RevocationContext {
  readonly known: KnownGrants
  readonly server: AuthorizationServer
  readonly refreshTimeoutMs: number
}

/**
 * Revokes the refresh token of a token set at the authorization server (RFC 7009), or its access token where it has no
 * refresh token.
 *
 * A refresh token that may have been spent is not sent: a server that detects reuse would end the user's other logins as
 * well. The access token is revoked in its place, and the promise rejects.
 *
 * @throws `TokenError`, as the revocation endpoint responds; `ERR_TOKEN_ENDPOINT_UNAVAILABLE` where the refresh token may
 *   have been spent
 */
export async function revokeTokens(context: RevocationContext, tokens: TokenSet): Promise<void> {
  const { known, server, refreshTimeoutMs } = context
  const { grantId, refreshToken, accessTokens } = tokens
  const accessToken = accessTokens[0]?.token
  const signal = AbortSignal.timeout(refreshTimeoutMs)
  if (refreshToken !== undefined && !known.mayBeSpent(grantId, refreshToken)) {
    return server.revoke(refreshToken, 'refresh_token', signal)
  }
  if (accessToken !== undefined) await server.revoke(accessToken, 'access_token', signal)
  if (refreshToken !== undefined) throw mayBeSpent()
}

function mayBeSpent(): TokenError {
  return new TokenError(
    'ERR_TOKEN_ENDPOINT_UNAVAILABLE',
    'The refresh token was not revoked: the response to its last use was lost, so it may have been spent, and a server could ' +
      "take it for reuse and end the user's other logins. The access token was revoked. The user is logged out here.",
  )
}
