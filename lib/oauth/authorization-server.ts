import type { TokenError } from '../errors/token-error.js'
import type { ClientCertificate } from '../tokens/client-certificate.js'
import type { DpopKey } from '../tokens/dpop-key.js'
import type { TokenResponse } from '../tokens/token-response.js'

/** The port through which the token manager uses an authorization server. `httpAuthorizationServer()` implements it. */
export interface AuthorizationServer {
  /**
   * Refreshes (RFC 6749 §6), once: a failed request is not repeated. Resolves with a {@link FailedRefresh} if the response has no
   * usable access token, but a new refresh token.
   *
   * Rejects with a `TokenError`. `ERR_REAUTHENTICATION_REQUIRED`: the refresh token is dead (`invalid_grant`, or the code that
   * the server sends in its place). A `StepUpError`: the server issues this token only after the user has taken part.
   * `ERR_INSUFFICIENT_SCOPE`: the server refuses the scope, resource or audience. `ERR_TOKEN_ENDPOINT_UNAVAILABLE`: try again
   * later.
   */
  refresh(refreshToken: string, request: RefreshRequest): Promise<RefreshResponse | FailedRefresh>
  /**
   * Exchanges an access token of the session for another one (RFC 8693 §2), once. The response has the new access token and
   * neither a refresh token nor an ID token.
   *
   * Rejects with a `TokenError`, as `refresh()`. `ERR_REAUTHENTICATION_REQUIRED`: the server does not accept the access token.
   */
  exchange(subjectToken: string, request: ExchangeRequest): Promise<RefreshResponse>
  /**
   * Exchanges a code, a password or an assertion for tokens (RFC 6749 §4.1.3, §4.3, §4.5; RFC 7523 §2.1), once. An `iss`
   * among the parameters must be the issuer (RFC 9207 §2.4); otherwise nothing is sent. Neither `iss` nor `nonce` is sent.
   */
  acquire(parameters: AcquireParameters, signal: AbortSignal, dpopKey?: DpopKey): Promise<RefreshResponse>
  /**
   * Requests a token for the client itself (client credentials, RFC 6749 §4.4), once. The response has neither a refresh token nor
   * an ID token.
   */
  clientCredentials(
    need: ClientCredentialsNeed,
    signal: AbortSignal,
    dpopKey?: DpopKey,
  ): Promise<RefreshResponse>
  /**
   * Resolves with the client certificate of the moment (RFC 8705).
   *
   * @throws `ConfigurationError` if the client does not authenticate with a certificate
   */
  clientCertificate(): Promise<ClientCertificate>
  /** Revokes a token (RFC 7009). A token that has been revoked already is a success. Rejects with a `TokenError`. */
  revoke(
    token: string,
    tokenTypeHint: 'refresh_token' | 'access_token',
    signal: AbortSignal,
    dpopKey?: DpopKey,
  ): Promise<void>
  /**
   * Checks the signature of an ID token from the token endpoint with the issuer's keys. Where no keys are known the verdict
   * is good: the ID token came over TLS (OpenID Connect Core §3.1.3.7, number 6). Never rejects.
   */
  signatureOf(idToken: string): Promise<IdTokenSignature>
  /**
   * Checks the signature of a logout token with the issuer's keys. Any sender may send such a token, so the verdict is good only
   * if the issuer has signed it. Never rejects.
   */
  signatureOfLogoutToken(token: string): Promise<IdTokenSignature>
  /**
   * Resolves with the URL to which a browser is sent to log out at the authorization server (`end_session_endpoint`, OpenID Connect
   * RP-Initiated Logout 1.0 §2.1).
   *
   * @throws `ConfigurationError` if the metadata names no such endpoint
   */
  endSessionEndpoint(signal: AbortSignal): Promise<string>
}

/** Which token a refresh asks for, and how long it may take. */
export interface RefreshRequest {
  readonly scope?: string
  readonly resource?: string
  /** Sent as `audience`, for servers without RFC 8707. */
  readonly audience?: string
  /** The key that the new tokens are to be bound to (RFC 9449). */
  readonly dpopKey?: DpopKey
  /** Collects the other tokens of the session, which no error may show. Called when an error is made. */
  readonly secrets?: () => readonly string[]
  /**
   * Throws if the refresh token must not be sent any more. Called right before it is sent: the client authentication and the
   * metadata may have taken some time.
   */
  readonly beforeSending?: () => void
  readonly signal: AbortSignal
}

/** The scope, the resource and the audience of a token for the client itself (client credentials). */
export type ClientCredentialsNeed = Pick<RefreshRequest, 'scope' | 'resource' | 'audience'>

/** Which exchange is requested, and how long it may take. */
export interface ExchangeRequest {
  /** The key that the new token is to be bound to (RFC 9449). */
  readonly dpopKey?: DpopKey
  /** A name among the option `exchanges`. */
  readonly name: string
  /** Gets the client's own token (client credentials). Called only if the exchange has `actor: 'client'`. */
  readonly clientToken: () => Promise<{ readonly token: string }>
  /** Collects the other tokens of the session, which no error may show. Called when an error is made. */
  readonly secrets: () => readonly string[]
  readonly signal: AbortSignal
}

/** The tokens of a successful token response: there is always an access token. */
export type RefreshResponse = TokenResponse & { readonly accessToken: string }

/** A refresh that failed although the server has spent the refresh token and sent a new one. */
export interface FailedRefresh {
  readonly error: TokenError
  /** The new refresh token. The error does not show it. */
  readonly refreshToken: string
  /** The ID token of the same response, which names the user of the refresh token. */
  readonly idToken?: string
  /** The key that the refresh token may be bound to, if the grant does not have it yet. */
  readonly dpopKey?: DpopKey
}

/**
 * The result of a signature check. `good`: the issuer has signed the ID token, or no check is needed. `bad`: the issuer has
 * not signed it. `unknown`: it cannot be checked now, for the reason in the error.
 */
export type IdTokenSignature =
  | { readonly verdict: 'good' }
  | { readonly verdict: 'bad'; readonly why: string }
  | { readonly verdict: 'unknown'; readonly error: TokenError }

/** Parameters of every grant. Further parameters of the authorization server are sent as they are, e.g. `audience`. */
interface CommonParameters {
  /** Scopes, separated by spaces (RFC 6749 §3.3). */
  readonly scope?: string | undefined
  /** The APIs the token is for (RFC 8707). */
  readonly resource?: string | readonly string[] | undefined
  /**
   * The `nonce` of the authorization request (OpenID Connect Core §3.1.2.1). It is not sent to the token endpoint. The ID token
   * must hold the same nonce. A response without an ID token fails the login.
   */
  readonly nonce?: string
  /**
   * The `iss` of the callback (RFC 9207), if there is one. It is not sent to the token endpoint. If it differs from the option
   * `issuer`, the login fails before the code is sent.
   */
  readonly iss?: string | undefined
  readonly [parameter: string]: string | readonly string[] | undefined
}

/** The authorization code grant (RFC 6749 §4.1.3), with PKCE (RFC 7636 §4.5). */
export interface AuthorizationCodeRequest extends CommonParameters {
  readonly grant_type: 'authorization_code'
  readonly code: string
  /** The same as in the authorization request, if one was given there. */
  readonly redirect_uri?: string | undefined
  readonly code_verifier?: string | undefined
  /**
   * The `request_uri` of the pushed authorization request (RFC 9126 §2.2), for a server that wants to see it here again. The RFC does
   * not require it.
   */
  readonly request_uri?: string | undefined
}

/** The resource owner password grant (RFC 6749 §4.3.2). */
export interface PasswordRequest extends CommonParameters {
  readonly grant_type: 'password'
  readonly username: string
  readonly password: string
}

/** The grant for a JWT about the user (RFC 7523 §2.1). */
export interface JwtBearerRequest extends CommonParameters {
  readonly grant_type: 'urn:ietf:params:oauth:grant-type:jwt-bearer'
  readonly assertion: string
}

/** The parameters that an extension grant may have. */
type OwnParameters = Readonly<Record<string, string | readonly string[] | undefined>>

/**
 * An extension grant (RFC 6749 §4.5), named by a URI; with the parameters that the server defines. `Own` is their type.
 *
 * @example
 * const request: ExtensionGrantRequest<{ device_code: string }> = {
 *   grant_type: 'urn:ietf:params:oauth:grant-type:device_code',
 *   device_code,
 * }
 * await req.tokens.acquire(request)
 */
export type ExtensionGrantRequest<Own extends OwnParameters = OwnParameters> = CommonParameters &
  Own & { readonly grant_type: `${string}:${string}` }

/** The parameters of a request for the first tokens of a grant, by their names on the wire. */
export type AcquireParameters =
  | AuthorizationCodeRequest
  | PasswordRequest
  | JwtBearerRequest
  | ExtensionGrantRequest
