import { idTokenClaims } from '../oauth/id-token/id-token.js'
import { ownProperties } from '../options/own-properties.js'
import { digestOf } from '../tokens/grant-proof.js'
import type { TokenSet } from '../tokens/token-set.js'

/** The claims of an ID token by which a grant is found: the user, and the login at the authorization server. */
export interface LoginClaims {
  readonly sub?: string | undefined
  readonly sid?: string | undefined
}

/**
 * Makes the labels by which a grant store finds the grants of a user (`sub`), and those of one login at the authorization server
 * (`sid`, OpenID Connect Back-Channel Logout §2.1). A label is a digest. It is of one client and one authorization server, so no
 * other client or tenant finds the grant by it.
 */
export class GrantLabels {
  readonly #audience: string
  readonly #issuer: string | undefined

  /** @param audience names the client and its authorization server */
  constructor(audience: string, issuer?: string) {
    this.#audience = audience
    this.#issuer = issuer
  }

  /** Returns the labels of a grant: none without an ID token, with an encrypted one, or with one of another issuer. */
  ofTokens(tokens: TokenSet): string[] {
    if (tokens.idToken === undefined) return []
    const { sub, sid } = this.claimsOf(tokens)
    return [
      ...(sub === undefined ? [] : [this.ofUser(sub)]),
      ...(sid === undefined ? [] : [this.ofLogin(sid)]),
    ]
  }

  claimsOf({ idToken }: TokenSet): LoginClaims {
    const claims = idToken === undefined ? undefined : idTokenClaims(idToken)
    if (!claims || (this.#issuer !== undefined && claims.iss !== this.#issuer)) return ownProperties({})
    const { sub, sid } = claims
    return ownProperties({
      ...(isName(sub) && { sub }),
      ...(isName(sid) && { sid }),
    })
  }

  ofUser(sub: string): string {
    return this.#labelOf('user', sub)
  }

  ofLogin(sid: string): string {
    return this.#labelOf('login', sid)
  }

  #labelOf(kind: 'user' | 'login', name: string): string {
    return digestOf(`session-token-manager label\n${this.#audience}\n${kind}\n${name}`)
  }
}

function isName(value: unknown): value is string {
  return typeof value === 'string' && value !== ''
}
