import { withTimeout } from '../concurrency/with-timeout.js'
import { TokenError } from '../errors/token-error.js'
import type { RefreshInFlight, Revocation } from '../grants/grant.js'
import { isOfLogin } from '../tokens/access-token.js'
import type { TokenSet } from '../tokens/token-set.js'
import type { ManagerContext } from './manager-context.js'

/**
 * Revokes the refresh token of a token set at the authorization server (RFC 7009), or its access token if it has no refresh
 * token.
 *
 * A refresh token that may have been spent is not sent: a server that detects reuse could end the user's other logins. The
 * access token is revoked instead, and the promise rejects.
 *
 * @throws `TokenError`, as the revocation endpoint responds; `ERR_TOKEN_ENDPOINT_UNAVAILABLE` if the refresh token may have
 *   been spent
 */
export async function revokeTokens(
  { registry, server, refreshTimeoutMs }: Pick<ManagerContext, 'registry' | 'server' | 'refreshTimeoutMs'>,
  { grantId, refreshToken, accessTokens, dpopKey }: TokenSet,
): Promise<void> {
  const signal = AbortSignal.timeout(refreshTimeoutMs)
  if (refreshToken !== undefined && !registry.peek(grantId)?.mayBeSpent(refreshToken)) {
    return server.revoke(refreshToken, 'refresh_token', signal, dpopKey)
  }
  const accessToken = (accessTokens.find(isOfLogin) ?? accessTokens[0])?.token
  if (accessToken !== undefined) await server.revoke(accessToken, 'access_token', signal, dpopKey)
  if (refreshToken !== undefined) throw mayBeSpentError()
}

/** Revokes tokens that arrived after a logout, and emits the result. Resolves with it; never rejects. */
export async function revokeLateTokens(
  context: Pick<ManagerContext, 'emit' | 'registry' | 'server' | 'refreshTimeoutMs'>,
  tokens: TokenSet,
): Promise<Revocation> {
  const { grantId, refreshToken, accessTokens } = tokens
  if (refreshToken === undefined && accessTokens.length === 0) return 'revoked'
  try {
    await revokeTokens(context, tokens)
    context.emit({ type: 'late_tokens_revoked', grantId })
    return 'revoked'
  } catch (error) {
    context.emit({ type: 'revocation_failed', grantId, error: error as TokenError })
    return error as TokenError
  }
}

/**
 * Revokes the tokens of a grant that has just ended. A refresh in flight revokes the tokens that it gets, so this waits for a refresh
 * in this process, and leaves the tokens to a refresh in another one (`isLeased`).
 *
 * @param tokens returns the newest tokens; absent if there are none
 * @throws `TokenError`, as {@link revokeTokens}
 */
export async function revokeAfterEnd(
  context: Pick<ManagerContext, 'registry' | 'server' | 'refreshTimeoutMs' | 'timeoutMs'>,
  refreshing: RefreshInFlight | undefined,
  isLeased: boolean | undefined,
  tokens: (() => TokenSet) | undefined,
): Promise<void> {
  const revocation = refreshing && (await endOf(refreshing, context.timeoutMs))
  if (revocation instanceof TokenError) throw revocation
  if (tokens && !revocation && !isLeased) await revokeTokens(context, tokens())
}

/** Waits until a refresh has ended, for as long as a caller waits. Resolves with the result of the revocation. */
async function endOf({ outcome, revocation }: RefreshInFlight, timeoutMs: number) {
  const ended = outcome.then(ignore, ignore)
  await withTimeout(timeoutMs, ended, stillRefreshing)
  return revocation()
}

function ignore(): void {}

function stillRefreshing(): TokenError {
  return new TokenError(
    'ERR_TOKEN_ENDPOINT_UNAVAILABLE',
    'The user is logged out in this app. A refresh is still in flight at the authorization server. When it ends, the library ' +
      'revokes the tokens and emits late_tokens_revoked or revocation_failed.',
  )
}

function mayBeSpentError(): TokenError {
  return new TokenError(
    'ERR_TOKEN_ENDPOINT_UNAVAILABLE',
    'The refresh token was not revoked. The response to its last use was lost, so it may have been spent, and a server could ' +
      "read it as reuse and end the user's other logins. The access token was revoked. The user is logged out in this app.",
  )
}
