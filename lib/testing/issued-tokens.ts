import { randomBytes } from 'node:crypto'

/** A token response (RFC 6749 §5.1). */
export interface IssuedTokens {
  access_token: string
  token_type: 'Bearer'
  /** Seconds. */
  expires_in: number
  refresh_token: string
  scope?: string
}

/** The tokens that one login has got. */
interface Family {
  readonly scope: string | undefined
  isEnded: boolean
}

/** Issues tokens, rotates refresh tokens, and detects the reuse of one (RFC 9700 §4.14.2). */
export class TokenIssuer {
  /** How many refreshes have succeeded. */
  refreshes = 0
  /** How many times a refresh token was presented again, which ended its grant. */
  reuses = 0
  readonly #lifetimeMs: number
  readonly #refreshTokens = new Map<string, { readonly family: Family; isUsed: boolean }>()
  readonly #accessTokens = new Map<string, Family>()

  constructor(lifetimeMs: number) {
    this.#lifetimeMs = lifetimeMs
  }

  /** Returns the tokens of a new login. */
  login(scope?: string): IssuedTokens {
    return this.#issue({ scope, isEnded: false })
  }

  /** Returns new tokens for a refresh token, or `undefined` if it is unknown, was used, or belongs to an ended grant. */
  refresh(refreshToken: string): IssuedTokens | undefined {
    const held = this.#refreshTokens.get(refreshToken)
    if (!held || held.family.isEnded) return undefined
    if (held.isUsed) {
      this.reuses++
      held.family.isEnded = true
      return undefined
    }
    held.isUsed = true
    this.refreshes++
    return this.#issue(held.family)
  }

  /** Ends the grant of a token. */
  revoke(token: string): void {
    const family = this.#refreshTokens.get(token)?.family ?? this.#accessTokens.get(token)
    if (family) family.isEnded = true
  }

  /** Makes all access tokens expire. */
  expire(): void {
    this.#accessTokens.clear()
  }

  /** Whether an API would accept an access token. */
  isValid(accessToken: string): boolean {
    return this.#accessTokens.get(accessToken)?.isEnded === false
  }

  #issue(family: Family): IssuedTokens {
    const access_token = randomBytes(16).toString('base64url')
    const refresh_token = randomBytes(16).toString('base64url')
    this.#accessTokens.set(access_token, family)
    this.#refreshTokens.set(refresh_token, { family, isUsed: false })
    return {
      access_token,
      token_type: 'Bearer',
      expires_in: this.#lifetimeMs / 1000,
      refresh_token,
      ...(family.scope !== undefined && { scope: family.scope }),
    }
  }
}
