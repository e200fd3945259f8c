import type { AxiosInstance } from 'axios'
import type { AdoptingSession } from './adoption.js'
import { ConfigurationError, isNobody } from './errors.js'
import type { Mount } from './mount.js'
import type { AcquireParameters } from './oauth/authorization-server.js'
import { type IdTokenClaims, idTokenClaims } from './oauth/id-token.js'
import { handedOverTokens } from './oauth/token-response.js'
import { axiosOver, type SessionAxiosConfig } from './outbound/axios/axios.js'
import { fetchOver } from './outbound/fetch/fetch.js'
import type { OutboundOptions } from './outbound/outbound-options.js'
import { ownProperties } from './own-properties.js'
import type { SessionAdapter } from './sessions/session-adapter.js'
import { checkedNeed, namedIn } from './token-need.js'
import { secretsOf, type TokenNeed } from './token-set.js'
import type { OutboundTokens, TokenSource, UserPolicy, ValidAccessToken } from './token-source.js'

/**
 * The tokens of one request's session: `req.tokens`. Having it costs nothing; only asking it for something does.
 *
 * Every method that touches the session rejects with a `ConfigurationError` when there is no session middleware in
 * front.
 */
export interface SessionTokens extends TokenSource {
  /**
   * Resolves with an access token that is valid, refreshing it first if need be (RFC 6749 §6). A token that is valid
   * costs no I/O.
   *
   * Without a scope or resource of its own the need is the route's, see `requireTokens()`, else the token that the
   * login brought.
   *
   * @throws `TokenError` with `ERR_NO_TOKENS` (nobody is logged in), `ERR_REAUTHENTICATION_REQUIRED` (the grant is
   * dead), `ERR_INSUFFICIENT_SCOPE` (the login's token is for something else, and cannot be refreshed; or the authorization
   * server refuses this scope or resource), a `StepUpError` (it issues such a token only after a stronger login),
   * `ERR_TOKEN_ENDPOINT_UNAVAILABLE` (try again later), `ERR_CLIENT_REJECTED`, `ERR_TOKEN_ENDPOINT`,
   * `ERR_INVALID_TOKEN_RESPONSE`, `ERR_GRANT_STORE`, `ERR_SESSION_STORE`
   *
   * @example
   * const { token } = await req.tokens.getAccessToken({ scope: 'orders.read' })
   */
  getAccessToken(need?: TokenNeed): Promise<ValidAccessToken>
  /**
   * Puts the tokens of a login into the session and starts a grant with them. Resolves when the session store has them.
   *
   * Takes a token endpoint's response (RFC 6749 §5.1) as it is or as a library hands it over: `access_token` or
   * `accessToken`, scopes with spaces or commas or in an array, and an expiry by any of the names that servers and libraries
   * have for it: `expires_in`, `expires_at`, `expires_on`, `expires`, `expiry_date`, `expiresOn` and so on. Tokens that the
   * session held before are given up.
   *
   * Regenerate the session first, so that nobody goes on with an id from before the login.
   *
   * The ID token in it is taken as it is: whoever got it has checked it, as login libraries do.
   *
   * @throws `TokenError` with `ERR_INVALID_TOKEN_RESPONSE` (it holds no token), `ERR_SESSION_STORE`
   *
   * @example
   * await req.tokens.set(await openidClient.authorizationCodeGrant(config, url, checks))
   */
  set(tokenResponse: unknown): Promise<void>
  /**
   * Gets tokens for an authorization code (RFC 6749 §4.1.3, RFC 7636 §4.5), a password (RFC 6749 §4.3), a JWT bearer
   * assertion (RFC 7523 §2.1) or an extension grant (RFC 6749 §4.5) from the token endpoint, and starts a grant with them as
   * `set()` does.
   *
   * An ID token among them is checked before anything is stored (OpenID Connect Core §3.1.3.7): issuer, subject, audience,
   * authorized party, expiry, time of issue and, if the issuer's keys are known, the signature. One that is not signed is
   * refused then. With a `nonce`, that of the authorization request, there must be an ID token that has this very one.
   * With `iss`, that of the callback, nothing is sent unless it is the option `issuer` (RFC 9207). Neither is sent along.
   * The caller checks `state` first.
   *
   * @throws `TokenError`, as `getAccessToken()` and `set()`; `ERR_INVALID_TOKEN_RESPONSE` for an ID token, or an `iss`, that
   * is not what it must be; a `StepUpError` when the server wants the user once more
   *
   * @example
   * await req.tokens.acquire({ grant_type: 'authorization_code', code, redirect_uri, code_verifier, nonce, iss })
   */
  acquire(parameters: AcquireParameters): Promise<void>
  /** Whether the session holds tokens that can serve, refreshed or not, or there are some to be adopted. No I/O. */
  hasTokens(): boolean
  /**
   * The newest ID token, as the authorization server sent it. One that a refresh brought has been checked: it is signed by
   * the issuer, as far as its keys are known, and about the same user; one that could not be checked was left out. No I/O.
   */
  readonly idToken: string | undefined
  /** What the newest ID token says; `undefined` without one, or when it is encrypted for the app. No I/O. */
  readonly idTokenClaims: IdTokenClaims | undefined
  /**
   * Logs out here and at the authorization server (RFC 7009): takes the tokens out of the session, then revokes the
   * refresh token. Other data of the session stays.
   *
   * A token that is gone at the authorization server already counts as revoked. When it rejects the user is logged out here
   * all the same; the authorization server could not be told.
   *
   * @throws `TokenError` with `ERR_TOKEN_ENDPOINT_UNAVAILABLE` and the others of the token endpoint;
   * `ERR_CONFIGURATION` if no revocation endpoint is known
   */
  revoke(): Promise<void>
  /**
   * Logs out here: takes the tokens out of the session for good, and tells the authorization server nothing. Other sessions
   * that were handed the same refresh token go on; the grant ends with the last of them.
   */
  clear(): Promise<void>
  /**
   * An axios instance that sends a valid access token along, to the origin of `baseURL` and to `allowedOrigins` alone.
   * An API's 401 gets the token refreshed and the request repeated, once, as far as `replay` and its body allow.
   *
   * A call rejects as `getAccessToken()` does when there is no token, with `ERR_ORIGIN_NOT_ALLOWED` when its URL is of
   * another origin, with a `StepUpError` when the API wants a stronger login (RFC 9470), else as axios does. No
   * error or response shows a token of the session, or leads to the agents of the app.
   *
   * @throws `ConfigurationError` if there is no absolute `baseURL`
   *
   * @example
   * const { data } = await req.tokens.axios({ baseURL: 'https://api.example.com' }).get('/orders')
   */
  axios(config: SessionAxiosConfig): AxiosInstance
  /**
   * A function that is called as the platform's `fetch()` is, and sends a valid access token along as `axios()` does, with
   * the same rules for origins, redirects, replays and refusals. There are no default headers.
   *
   * A relative URL is appended to `baseURL`, path and all: `'/orders'` to `'https://api.example.com/v1'` gives
   * `https://api.example.com/v1/orders`. An `Authorization` header among the options is left out.
   *
   * A stream, an async iterable and the body of a `Request` can be read once, so such a call is not repeated, and a redirect
   * that asks for the body again is the answer.
   *
   * @throws `ConfigurationError` if there is no absolute `baseURL`, or an option is unknown
   *
   * @example
   * const api = req.tokens.fetch({ baseURL: 'https://api.example.com' })
   * const orders = await (await api('/orders')).json()
   */
  fetch(config: OutboundOptions): typeof fetch
}

/** The tokens of a request's session, over the parts that all requests share. */
export class RequestTokens implements SessionTokens, OutboundTokens {
  readonly #mount: Mount
  readonly #session: SessionAdapter
  /** The same session, if tokens of the app's are adopted. */
  readonly #adopting: AdoptingSession | undefined
  /** What the route asks for by default: scope, resource, audience. */
  #routeNeed: TokenNeed | undefined
  /** Whose tokens the route's calls carry. */
  #user: UserPolicy = 'required'

  /** @param request what the option `adopt` is asked with: the framework's request or context */
  constructor(mount: Mount, session: SessionAdapter, request: unknown) {
    this.#mount = mount
    this.#adopting = mount.adoption?.of(session, request)
    this.#session = this.#adopting ?? session
  }

  async getAccessToken(need: TokenNeed = {}): Promise<ValidAccessToken> {
    const complete = this.#complete(checkedNeed(need))
    await this.#adopting?.settle()
    const { token, tokenType, expiresAt, scope } = await this.#mount.manager.getAccessToken(
      this.#session,
      complete,
    )
    const { authorizationScheme = tokenType } = this.#mount
    return { token, tokenType: authorizationScheme, expiresAt, ...(scope !== undefined && { scope }) }
  }

  async set(tokenResponse: unknown): Promise<void> {
    await this.#mount.manager.set(this.#session, handedOverTokens(tokenResponse, this.#mount.clock.now()))
  }

  async acquire(parameters: AcquireParameters): Promise<void> {
    await this.#mount.manager.acquire(this.#session, parameters)
  }

  hasTokens(): boolean {
    return this.#mount.manager.hasTokens(this.#session)
  }

  get idToken(): string | undefined {
    return this.#mount.manager.tokensOf(this.#session)?.idToken
  }

  get idTokenClaims(): IdTokenClaims | undefined {
    const { idToken } = this
    return idToken === undefined ? undefined : idTokenClaims(idToken)
  }

  async revoke(): Promise<void> {
    await this.#mount.manager.revoke(this.#session)
  }

  async clear(): Promise<void> {
    await this.#mount.manager.clear(this.#session)
  }

  axios(config: SessionAxiosConfig): AxiosInstance {
    return axiosOver(() => this, config)
  }

  fetch(config: OutboundOptions): typeof fetch {
    return fetchOver(() => this, config)
  }

  async tokenToSend(need: TokenNeed): Promise<ValidAccessToken | undefined> {
    if (this.#user === 'none') return undefined
    try {
      return await this.getAccessToken(need)
    } catch (error) {
      if (this.#user === 'optional' && isNobody(error)) return undefined
      throw error
    }
  }

  secrets(): readonly string[] {
    try {
      const tokens = this.#mount.manager.tokensOf(this.#session)
      return tokens ? secretsOf(tokens) : []
    } catch {
      // The app may have thrown the session away by now.
      return []
    }
  }

  /**
   * Makes `need` and `user` the default for the rest of the request, and sees to it that there is a fresh token if there is
   * a user. What `requireTokens()` calls.
   */
  async enterRoute(need: TokenNeed, user: UserPolicy): Promise<void> {
    this.#user = user
    await this.tokenToSend(need)
    this.#routeNeed = namedIn(checkedNeed(need)) ?? this.#routeNeed
  }

  isOf(mount: Mount): boolean {
    return this.#mount === mount
  }

  #complete(need: TokenNeed): TokenNeed {
    return namedIn(need) ? need : ownProperties({ ...need, ...this.#routeNeed })
  }
}

/**
 * Refuses to put tokens in the place of those of another `sessionTokens()`: calls would carry the token of the wrong
 * authorization server.
 */
export function requireOwnPlace(carrier: object, carrierName: string, mount: Mount): void {
  const { property } = mount
  const earlier = (carrier as Record<string, unknown>)[property]
  if (!(earlier instanceof RequestTokens) || earlier.isOf(mount)) return
  throw new ConfigurationError(
    `${carrierName}.${property} has the tokens of another sessionTokens() already. Mount it once for a request, or give the ` +
      'second one another `property` and another `sessionKey`.',
  )
}
