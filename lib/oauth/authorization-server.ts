import type { TokenAnswer } from '../token-set.js'

/** A token endpoint's answer to a refresh: it always has an access token. */
export type RefreshAnswer = TokenAnswer & { readonly accessToken: string }

/** What the token manager asks of an authorization server. `lib/oauth/` speaks it over HTTP. */
export interface AuthorizationServer {
  /**
   * Refreshes (RFC 6749 §6), once: nothing is sent again when it fails.
   *
   * Rejects with a `TokenError`. An `invalid_grant` answer is `ERR_REAUTHENTICATION_REQUIRED`.
   */
  refresh(
    refreshToken: string,
    request: { readonly scope?: string; readonly resource?: string; readonly signal: AbortSignal },
  ): Promise<RefreshAnswer>
  /** Revokes a token (RFC 7009). Rejects with a `TokenError`. */
  revoke(token: string, tokenTypeHint: 'refresh_token' | 'access_token', signal: AbortSignal): Promise<void>
}
