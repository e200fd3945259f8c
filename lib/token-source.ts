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

/** Hands out valid access tokens. All that an outbound client needs to know. */
export interface TokenSource {
  getAccessToken(need?: TokenNeed): Promise<ValidAccessToken>
}
