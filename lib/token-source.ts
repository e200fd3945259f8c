import type { TokenNeed } from './token-set.js'

/** A valid access token, for one call to an API. */
export interface ValidAccessToken {
  readonly token: string
  /** `Bearer`, unless the authorization server said otherwise (RFC 6749 §7.1). */
  readonly tokenType: string
  /** Milliseconds since the epoch. */
  readonly expiresAt: number
  /** What the token was granted for, separated by spaces, when the authorization server said so. */
  readonly scope?: string
}

/** Hands out valid access tokens. */
export interface TokenSource {
  getAccessToken(need?: TokenNeed): Promise<ValidAccessToken>
}

/** Whose tokens a route's calls carry: the user's, the user's if somebody is logged in, or nobody's. */
export type UserPolicy = 'required' | 'optional' | 'none'

/** The tokens for the calls of one request, by its route's policy. All that an outbound client needs to know. */
export interface OutboundTokens {
  /** Resolves with the token that a call carries; with nothing where the policy has it carry none. */
  tokenToSend(need: TokenNeed): Promise<ValidAccessToken | undefined>
  /** All tokens that the session holds, which no error may show. Asked for when there is an error. No I/O. */
  secrets(): readonly string[]
}
