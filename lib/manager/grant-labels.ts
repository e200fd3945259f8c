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
  readonly #isReference: boolean

  /**
   * @param audience names the client and its authorization server
   * @param isReference whether the sessions hold references: then most processes cannot read the ID token in the record of a grant,
   * so a label says that it names no login
   */
  constructor(audience: string, issuer?: string, isReference = false) {
    this.#audience = audience
    this.#issuer = issuer
    this.#isReference = isReference
  }

  /** Returns the labels of a grant: none without an ID token, with an encrypted one, or with one of another issuer. */
  ofTokens(tokens: TokenSet): string[] {
    if (tokens.idToken === undefined) return []
    const { sub, sid } = this.claimsOf(tokens)
    return [
      ...(sub === undefined ? [] : [this.ofUser(sub)]),
      ...(sid === undefined ? [] : [this.ofLogin(sid)]),
      ...(this.#isReference && sub !== undefined && sid === undefined ? [this.ofUserWithoutLogin(sub)] : []),
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

  /** Returns the label of the grants of a user whose ID token names no login, with references. */
  ofUserWithoutLogin(sub: string): string {
    return this.#labelOf('user without login', sub)
  }

  #labelOf(kind: 'user' | 'login' | 'user without login', name: string): string {
    return digestOf(`session-token-manager label\n${this.#audience}\n${kind}\n${name}`)
  }
}

function isName(value: unknown): value is string {
  return typeof value === 'string' && value !== ''
}
