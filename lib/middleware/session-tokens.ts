import type { AxiosInstance } from 'axios'
import type { AcquireParameters } from '../oauth/authorization-server.js'
import type { IdTokenClaims } from '../oauth/id-token/id-token.js'
import type { SessionAxiosConfig } from '../outbound/axios/axios.js'
import type { SessionFetchConfig } from '../outbound/fetch/fetch.js'
import type { TokenNeed } from '../tokens/token-need.js'
import type { TokenSource, ValidAccessToken } from '../tokens/token-source.js'
import type { ClientTokenSource } from './client-token-source.js'
import type { LoginOptions } from './login-options.js'
import type { LogoutUrlOptions } from './logout-url-options.js'
import type { OfflineReferenceOptions } from './offline-options.js'
import type { DpopProofRequest, SetOptions } from './request-dpop.js'

/**
 * The tokens of one request's session: `req.tokens`. It does no work until a method is called.
 *
 * Every method that touches the session rejects with a `ConfigurationError` when no session middleware is mounted before
 * `sessionTokens()`.
 */
export interface SessionTokens extends TokenSource {
  /**
   * Resolves with a valid access token, and refreshes it first if it has expired (RFC 6749 §6). A token that is valid
   * costs no I/O.
   *
   * A need without a scope, a resource and an audience takes those of the route, see `requireTokens()`. If the route names
   * none either, the token is the one from the login.
   *
   * @throws `TokenError` with `ERR_NO_TOKENS` (the user is not logged in), `ERR_REAUTHENTICATION_REQUIRED` (the grant has
   * ended), `ERR_INSUFFICIENT_SCOPE` (the login's token is for something else and cannot be refreshed, or the authorization
   * server refuses this scope or resource), a `StepUpError` (the server issues this token only after a stronger login),
   * `ERR_TOKEN_ENDPOINT_UNAVAILABLE` (try again later), `ERR_CLIENT_REJECTED`, `ERR_TOKEN_ENDPOINT`,
   * `ERR_INVALID_TOKEN_RESPONSE`, `ERR_GRANT_STORE`, `ERR_SESSION_STORE`
   *
   * @example
   * const { token } = await req.tokens.getAccessToken({ scope: 'orders.read' })
   */
  getAccessToken(need?: TokenNeed): Promise<ValidAccessToken>
  /**
   * Puts the tokens of a login into the session and starts a grant with them. Resolves when the session store has them. The
   * tokens that the session held before are discarded.
   *
   * Takes a token response (RFC 6749 §5.1) from the server or from a library: `access_token` or `accessToken`; scopes
   * separated by spaces or commas, or in an array; and the expiry under the names that servers and libraries use, such as
   * `expires_in`, `expires_at`, `expires_on`, `expires`, `expiry_date` and `expiresOn`.
   *
   * With `regenerate: true` the session gets another id first, so that an id from before the login is of no use. Without it,
   * regenerate the session yourself.
   *
   * The ID token is stored without a check: the login library has checked it.
   *
   * With the option `dpop`, give `dpopKey`, the key that the login library requested the tokens with. Bearer tokens are refused,
   * unless `dpop: { bearer: 'accept' }` says otherwise.
   *
   * @throws `TokenError` with `ERR_INVALID_TOKEN_RESPONSE` (it holds no token), `ERR_SESSION_STORE`
   *
   * @example
   * await req.tokens.set(await openidClient.authorizationCodeGrant(config, url, checks))
   */
  set(tokenResponse: unknown, options?: SetOptions): Promise<void>
  /**
   * Gets tokens for an authorization code (RFC 6749 §4.1.3, RFC 7636 §4.5), a password (RFC 6749 §4.3), a JWT bearer
   * assertion (RFC 7523 §2.1) or an extension grant (RFC 6749 §4.5) from the token endpoint, and starts a grant with them as
   * `set()` does.
   *
   * An ID token in the response is checked before anything is stored (OpenID Connect Core §3.1.3.7): issuer, subject,
   * audience, authorized party, expiry, time of issue and, if the issuer's keys are known, the signature. If they are known,
   * an unsigned ID token is refused. With the `nonce` of the authorization request, there must be an ID token that has it.
   * With the `iss` of the callback, nothing is sent unless it equals the option `issuer` (RFC 9207). Neither `nonce` nor `iss`
   * is sent. Check `state` before you call.
   *
   * @throws `TokenError`, as `getAccessToken()` and `set()`; `ERR_INVALID_TOKEN_RESPONSE` for an ID token, or an `iss`, that
   * is wrong; a `StepUpError` when the server requires the user to log in once more
   *
   * @example
   * await req.tokens.acquire({ grant_type: 'authorization_code', code, redirect_uri, code_verifier, nonce, iss })
   */
  acquire(parameters: AcquireParameters, options?: LoginOptions): Promise<void>
  /**
   * Resolves with the thumbprint of the key that the tokens of the next login are bound to, for the parameter `dpop_jkt` of the
   * authorization request (RFC 9449 §10). If the session has no key, one is made and stored there, where `acquire()` finds it.
   * Needs the option `dpop`.
   *
   * @throws `TokenError` with `ERR_SESSION_STORE`; `ERR_CONFIGURATION` without the option `dpop`
   *
   * @example
   * url.searchParams.set('dpop_jkt', await req.tokens.dpopThumbprint())
   */
  dpopThumbprint(): Promise<string>
  /**
   * Makes the proof of one request for an HTTP client of your own (RFC 9449 §4): send it in the header `DPoP`, beside
   * `Authorization: DPoP <token>`. Each request needs a proof of its own. The clients of `axios()`, `fetch()` and
   * `bearerProxy()` do this by themselves.
   *
   * @throws as `getAccessToken()` does; `ERR_CONFIGURATION` without the option `dpop`
   *
   * @example
   * const { token, tokenType } = await req.tokens.getAccessToken()
   * const proof = await req.tokens.dpopProof({ method: 'GET', url, accessToken: token })
   * await client.get(url, { headers: { authorization: `${tokenType} ${token}`, dpop: proof } })
   */
  dpopProof(request: DpopProofRequest): Promise<string>
  /**
   * Whether the user is logged in, as far as this process knows. `true` if the session holds tokens that are valid or can be
   * refreshed, or the app has such tokens to adopt. `false` without tokens, after the end of the grant, when the login is over,
   * and when all tokens have expired and cannot be refreshed. No I/O.
   */
  hasTokens(): boolean
  /**
   * The id of the grant that the session holds, as events have it; `undefined` if the user is not logged in. It gives access to
   * nothing, so it may be logged. No I/O.
   */
  readonly grantId: string | undefined
  /**
   * The newest ID token, as the authorization server sent it. An ID token from a refresh has been checked: it is for the same
   * user, and signed by the issuer if the issuer's keys are known. An ID token that could not be checked was left out. No I/O.
   */
  readonly idToken: string | undefined
  /** The claims of the newest ID token; `undefined` without one, or when it is encrypted for the app. No I/O. */
  readonly idTokenClaims: IdTokenClaims | undefined
  /**
   * Aborts when the login of this session ends: by a logout here or in another process, by `end()`, by the authorization server, or
   * by another login in this session. Its `reason` is a `TokenError` whose `reason` says why. It works for as long as the request is
   * open: until the response is closed, or the WebSocket. If the user is not logged in, it has aborted. No I/O; it costs nothing
   * unless it is read.
   *
   * @example
   * req.tokens.signal.addEventListener('abort', () => res.end())
   */
  readonly signal: AbortSignal
  /**
   * Resolves with the URL of the authorization server's own logout (OpenID Connect RP-Initiated Logout 1.0): send the browser
   * there, after `revoke()`. The URL holds the ID token of the login as a hint, so get the URL before `revoke()`, and do not log
   * it.
   *
   * @throws `ConfigurationError` if the issuer's metadata names no `end_session_endpoint`, or an option is wrong; `TokenError`
   * with `ERR_TOKEN_ENDPOINT_UNAVAILABLE` if the metadata cannot be fetched
   *
   * @example
   * const url = await req.tokens.logoutUrl({ postLogoutRedirectUri: 'https://app.example.com/' })
   * await req.tokens.revoke()
   * res.redirect(303, url)
   */
  logoutUrl(options?: LogoutUrlOptions): Promise<string>
  /**
   * Logs out here and at the authorization server (RFC 7009): deletes the tokens from the session, then revokes the refresh
   * token. Other data of the session stays.
   *
   * A token that the authorization server no longer knows counts as revoked. When `revoke()` rejects, the user is logged out
   * of the app, but the token may still be valid at the authorization server.
   *
   * @throws `TokenError` with a code of the token endpoint, such as `ERR_TOKEN_ENDPOINT_UNAVAILABLE`;
   * `ERR_CONFIGURATION` if no revocation endpoint is known
   */
  revoke(): Promise<void>
  /**
   * Logs out here: deletes the tokens from the session, and sends nothing to the authorization server. Other sessions that
   * got the same refresh token by `set()` stay logged in. The grant ends with the last of them.
   */
  clear(): Promise<void>
  /**
   * Makes a reference to this login, for a job, a queue or a database: `tokens.offline(reference)` has the user's tokens in any
   * process, also when the session has expired. The reference ends with the login: at a logout, a new login in this session, or
   * the end of the grant.
   *
   * The reference is a string. With `encryptionKeys` it is sealed. Without them the string alone gives access to the user's
   * tokens. It works only with the same `clientId`, issuer and `sessionKey`. Without a grant store that processes share, it works
   * only in this process.
   *
   * Making a reference costs one command on the grant store and one write to the session. The grant store keeps the tokens for
   * `ttlMs` from now on and after each refresh by the reference: by default, for as long as the session could come back.
   *
   * @throws `TokenError` with `ERR_NO_TOKENS` (the user is not logged in), `ERR_GRANT_STORE`; `ERR_CONFIGURATION` if the tokens that
   * a job refreshes could be kept nowhere
   *
   * @example
   * await queue.add('export', { reference: await req.tokens.offlineReference({ ttlMs: 90 * 24 * 3_600_000 }) })
   */
  offlineReference(options?: OfflineReferenceOptions): Promise<string>
  /**
   * Makes an axios instance whose calls carry a valid access token, to the origin of `baseURL` and to `allowedOrigins` only.
   * When the API responds with 401, the token is refreshed and the request is replayed once, if `replay` and its body allow.
   *
   * A call rejects as `getAccessToken()` does when there is no token, with `ERR_ORIGIN_NOT_ALLOWED` when its URL has another
   * origin, with a `StepUpError` when the API requires a stronger login (RFC 9470), and otherwise as axios does. No error or
   * response shows a token of the session, or refers to the agents of the app.
   *
   * @throws `ConfigurationError` if there is no absolute `baseURL`
   *
   * @example
   * const { data } = await req.tokens.axios({ baseURL: 'https://api.example.com' }).get('/orders')
   */
  axios(config: SessionAxiosConfig): AxiosInstance
  /**
   * Makes a function that is called like the platform's `fetch()`, and whose calls carry a valid access token. The rules for
   * origins, redirects, replays and errors are those of `axios()`. There are no default headers.
   *
   * A relative URL is appended to the path of `baseURL`: `'/orders'` to `'https://api.example.com/v1'` gives
   * `https://api.example.com/v1/orders`. An `Authorization` header among the options is left out.
   *
   * A stream, an async iterable and the body of a `Request` can be read only once, so such a call is not replayed. A redirect
   * that needs the body again is returned as the response.
   *
   * @throws `ConfigurationError` if there is no absolute `baseURL`, or an option is unknown
   *
   * @example
   * const api = req.tokens.fetch({ baseURL: 'https://api.example.com' })
   * const orders = await (await api('/orders')).json()
   */
  fetch(config: SessionFetchConfig): typeof fetch
  /**
   * The client's own tokens (RFC 6749 §4.4), for calls that the app makes in its own name. No user need be logged in. On a route
   * with `requireTokens({ user: 'client' })` a need without a scope, a resource and an audience takes those of the route.
   *
   * @example
   * const api = req.tokens.client.axios({ baseURL: 'https://api.example.com', need: { scope: 'reports.write' } })
   */
  readonly client: ClientTokenSource
}
