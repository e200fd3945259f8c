import type { ClientCertificate } from './client-certificate.js'
import type { TokenNeed } from './token-need.js'

/** A valid access token, for one call to an API. */
export interface ValidAccessToken {
  readonly token: string
  /** `Bearer`, or `DPoP` with the option `dpop`, unless the authorization server returned another type (RFC 6749 §7.1). */
  readonly tokenType: string
  /** Milliseconds since the epoch. */
  readonly expiresAt: number
  /** The scopes that the token was granted for, separated by spaces, if the authorization server returned them. */
  readonly scope?: string
}

/** A source of valid access tokens. */
export interface TokenSource {
  getAccessToken(need?: TokenNeed): Promise<ValidAccessToken>
}

/**
 * The token that the calls of a route carry. `'required'`: the user's. `'optional'`: the user's if a user is logged in. `'none'`:
 * no token. `'client'`: the client's own.
 */
export type UserPolicy = 'required' | 'optional' | 'none' | 'client'

/** The part of a response that is read for the proofs of a call. */
export interface ProvenResponse {
  /** Returns a header by its name in lower case. */
  readonly header: (name: string) => string | null | undefined
}

/** The proofs that a call is made by the holder of the key that its token is bound to (RFC 9449). */
export interface DpopProofs {
  /** The proofs so far. No error may show them. */
  readonly made: readonly string[]
  /** Makes the proof of one request, with the newest nonce of its server. */
  proof(method: string, url: string): Promise<string>
  /** Keeps the nonce of a response. Returns whether the response brought another nonce than that of the last proof. */
  learn(url: string, response: ProvenResponse): boolean
  /** Notes that a server refused a proof: its clock may differ. */
  noteRefusal(url: string, response: ProvenResponse): void
}

/** A valid access token for one call, and the proofs that go with it if the token is bound to a key. */
export interface TokenToSend extends ValidAccessToken {
  readonly dpop?: DpopProofs
}

/** The tokens for the calls of one request, by the policy of its route. Outbound clients use no other part of the library. */
export interface OutboundTokens {
  /** Resolves with the token that a call carries, or with `undefined` if the policy lets the call carry no token. */
  tokenToSend(need: TokenNeed): Promise<TokenToSend | undefined>
  /** Returns the tokens that no error of these calls may show. Called only when there is an error. No I/O. */
  secrets(): readonly string[]
  /**
   * Resolves with the client certificate for the connection of a call, if the app asks for one (RFC 8705 §3). A source that never
   * has a certificate lacks this method.
   */
  clientCertificate?(): Promise<ClientCertificate>
  /**
   * Calls the listener once when the login of the tokens has ended. Returns a function that stops this; `undefined` without a
   * login. A source that follows no login, such as the client's own tokens, lacks this method.
   */
  onEnd?(listener: () => void): (() => void) | undefined
}
