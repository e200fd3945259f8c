import type { GrantStore } from '../grants/grant-store.js'
import type { ClientAuthentication } from '../oauth/client-authentication/client-authentication.js'
import type { DpopOptions } from '../oauth/dpop/dpop-options.js'
import type { HttpOptions } from '../oauth/http.js'
import type { IsGrantEnded } from '../oauth/token-endpoint/is-grant-ended.js'
import type { RefreshParametersOption } from '../oauth/token-endpoint/refresh-parameters.js'
import type { ExchangeOptions } from '../oauth/token-endpoint/token-exchange.js'
import type { EncryptionKeysOption } from '../sessions/codec/key-ring.js'
import type { OwnSession } from '../sessions/custom-session.js'
import type { TokenEventListener } from '../tokens/events.js'

/**
 * The options of `sessionTokens()`. Name the authorization server by `issuer`, or by its endpoints. `keep: 'store'` needs
 * `grants`. `Request` is the type of the request that `adopt` and `session` get.
 */
export type SessionTokensOptions<Request = unknown> = AnySessionTokensOptions<Request> &
  ({ issuer: string; tokenEndpoint?: undefined } | { issuer?: undefined; tokenEndpoint: string }) &
  ({ keep?: 'session' } | { keep: 'store'; grants: GrantStore; adopt?: undefined })

/** Every option of `sessionTokens()`. {@link SessionTokensOptions} names those that go together. */
export interface AnySessionTokensOptions<Request = unknown> {
  /**
   * The authorization server's issuer identifier, an https URL. Its metadata (OpenID Connect Discovery 1.0, RFC 8414) is
   * fetched when an endpoint is first needed, and again after a day or when an endpoint has moved. It must name this very issuer.
   */
  issuer?: string
  /** The token endpoint (RFC 6749 §3.2), instead of `issuer`. */
  tokenEndpoint?: string
  /** The endpoint of refreshes, for a server that has a separate one. Default: the token endpoint. */
  refreshEndpoint?: string
  /** The revocation endpoint (RFC 7009). Default: the one in the issuer's metadata. */
  revocationEndpoint?: string
  /**
   * The URL of the issuer's public keys (`jwks_uri`), which check the signatures of ID tokens. Default: the one in the
   * issuer's metadata. If the server is named by its endpoints and this is left out, the signatures are not checked: TLS
   * authenticates the server (OpenID Connect Core §3.1.3.7).
   */
  jwksUri?: string
  /** The client identifier (RFC 6749 §2.2). */
  clientId: string
  /**
   * How the client authenticates: `clientSecretBasic(secret)`, `clientSecretPost(secret)`, `clientSecretJwt(secret)`,
   * `privateKeyJwt(key)`, `clientAssertion(jwt)`, `tlsClientAuth({ cert, key })`,
   * `selfSignedTlsClientAuth({ cert, key })`, `publicClient()`, or a function of your own.
   */
  clientAuthentication: ClientAuthentication
  /**
   * Further parameters of every refresh, besides those of RFC 6749 §6: a scope that the server requires, a policy (`p`), a
   * vendor's parameter. Either a record of strings, with an array for several values of one name, or a function of the need.
   * The function gets `{ scope, resource, audience }`, as far as the caller or the route named them. It may return `undefined`.
   *
   * The need's parameters replace those of a record. The result of a function is sent as it is. It must hold the parameters that
   * the need names, and it may add scopes. `grant_type`, `refresh_token` and the parameters that authenticate the client cannot
   * be set. A wrong result is a `ConfigurationError`, and the refresh token is not sent.
   *
   * @example
   * sessionTokens({ …, refreshParameters: { scope: 'openid offline_access', p: 'B2C_1_signin' } })
   * sessionTokens({ …, refreshParameters: ({ scope }) => ({ scope: `${scope ?? 'openid'} offline_access` }) })
   */
  refreshParameters?: RefreshParametersOption
  /**
   * Decides whether a rejected refresh ends the grant, which logs the user out. `true` ends it. `false` keeps it, also after
   * an `invalid_grant`: the refresh fails with `ERR_TOKEN_ENDPOINT_UNAVAILABLE`, and a later one tries again. `undefined`
   * leaves the decision to the library. The library knows `invalid_grant`, and the codes of GitHub, Slack, Atlassian, X,
   * HubSpot, Fitbit, Facebook, Strava, Twitch, Zoho and Ory Hydra.
   *
   * The function is called for every error response to a refresh below 500, in JSON or in a form, except 408 and 429. It gets
   * `{ status, body, error }`, which show no token: see `RefusedRefresh`. It must not return a promise. When it fails, or
   * returns anything else, the grant is kept, and the refresh fails with a `ConfigurationError`.
   *
   * @example
   * sessionTokens({ …, isGrantEnded: ({ body }) => body.code === 'REFRESH_TOKEN_EXPIRED' || undefined })
   */
  isGrantEnded?: IsGrantEnded
  /**
   * Token exchanges (RFC 8693) by name: the tokens that the authorization server gives for the session's own access token.
   * `getAccessToken({ exchange: 'billing' })` and `requireTokens({ exchange: 'billing' })` name an exchange. Its token is kept
   * with the other tokens of the session, renewed when it expires, and ends with them.
   *
   * @example
   * sessionTokens({ …, exchanges: { billing: { audience: 'billing', scope: 'invoices.read' } } })
   */
  exchanges?: Readonly<Record<string, ExchangeOptions>>
  /**
   * With `'Bearer'` the app sends every access token as a bearer token (RFC 6750), even if the `token_type` in the token response is
   * another word, such as Apigee's `BearerToken` or Slack's `user`. The `tokenType` of `getAccessToken()` is then `Bearer`.
   * Without this option, a token of such a type is not sent.
   */
  authorizationScheme?: 'Bearer'
  /**
   * Binds the tokens of each grant to a key of its own (DPoP, RFC 9449), so that a stolen token is of no use without the key:
   * `true`, or `{ alg, bearer }`. `alg` is `'ES256'` by default, `'EdDSA'` or `'PS256'`. A bearer token in place of a bound one
   * is refused, unless `bearer` is `'accept'`. The key is sealed with the tokens, so `encryptionKeys` must be given. Does not go
   * with `adopt` and `authorizationScheme`.
   */
  dpop?: boolean | DpopOptions
  /**
   * The grant store, in which the processes that serve a session agree. Default: one store in the memory of this process,
   * which is right for an app in a single process.
   */
  grants?: GrantStore
  /**
   * Keys that seal the tokens in the session and in the grant store (JWE): without a key the tokens there can neither be read
   * nor changed. A key has at least 32 random bytes. Give the bytes, a secret `KeyObject`, or a text in Base64, Base64url or
   * hexadecimal, such as `openssl rand -base64 32` prints. Passphrases, and bytes that follow a pattern, are refused. Every
   * character of a text counts, also the line end of a file, so give every process the same text.
   *
   * The first key seals, and all keys open. To change the key, add the new one at the end of the list in all processes, then
   * move it to the front, and keep the old one for as long as sessions live. A copy that is not sealed, or sealed with another
   * key, is ignored.
   *
   * A function returns the list, so that a vault can change it while the process runs. It is called at the start, and again when the
   * last call was a minute ago. When it fails, the last keys are used, and the event `secret_failed` tells. Without any keys yet,
   * requests that need tokens get `ERR_SESSION_STORE` (503).
   *
   * `false` leaves the tokens unsealed. If the option is left out, they are unsealed as well, and the process warns once, with
   * the code `SESSION_TOKENS_UNSEALED`. The warning holds for `keep: 'store'` too: there the key that opens the tokens in the
   * grant store is in the session.
   */
  encryptionKeys?: EncryptionKeysOption | false
  /**
   * Whether sessions whose tokens are not sealed, from before there were `encryptionKeys`, stay logged in. Remove the option
   * when each of them has been refreshed, or has expired. Such a session must hold the proof of its grant, or from version 0.1
   * a token of the grant. Its next refresh seals it. The option is for sessions in a store (express-session, koa-session): an
   * unsealed cookie may be written by the browser. The process warns with the code `SESSION_TOKENS_ACCEPT_UNSEALED`.
   * Default: `false`.
   */
  acceptUnsealed?: boolean
  /**
   * Where the tokens are. With `'session'` the session holds a copy of them. With `'store'` the session holds the grant's id
   * and a key, and the grant store alone holds the tokens: the session stays small. `'store'` needs `grants`, and
   * does not go with `adopt`. With `memoryGrantStore()` a restart logs all users out. Default: `'session'`.
   */
  keep?: 'session' | 'store'
  /**
   * How a refresh goes on when the grant store fails. `'fail'` rejects with `ERR_GRANT_STORE` and sends no refresh token.
   * `'local'` refreshes without the grant store, so two processes may send the same refresh token. Default: `'fail'`.
   */
  onGrantStoreError?: 'fail' | 'local'
  /**
   * Finds the session of a request in a session layer of your own, which stores one text for it. Leave the option out for
   * express-session, cookie-session, iron-session (on `request.session`) and koa-session. The function may return a promise.
   * For a request without a session it returns `undefined`: the user is not logged in.
   *
   * @example
   * sessionTokens({ …, session: (request) => ({
   *   read: () => request.mySession.data.tokens,
   *   write: (text) => request.mySession.save({ tokens: text }),
   *   clear: () => request.mySession.save({ tokens: undefined }),
   * }) })
   */
  session?(request: Request): OwnSession | null | undefined | Promise<OwnSession | null | undefined>
  /**
   * How long a session lives, in milliseconds, where the session layer does not say: a cookie without a `maxAge`, or a session
   * layer of your own. A grant, and the fact that it has ended, are remembered for as long as its session could come back. At
   * most 3,650 days. Default: 30 days; for a session in a store, the `grantTtlMs` of the grant store.
   */
  sessionMaxAgeMs?: number
  /**
   * How long a login may last, in milliseconds, whatever the authorization server allows. After that time no token is used
   * or refreshed until the user logs in again. At most 3,650 days. Default: only the limit of the authorization server applies.
   */
  maxLoginAgeMs?: number
  /** The key of the session under which the tokens are. Default: `'tokens'`. */
  sessionKey?: string
  /** The property of the request that has the token manager. Default: `'tokens'`, for `req.tokens`. */
  property?: string
  /**
   * How long an access token must still be valid when a caller gets it, in milliseconds, and at most an eighth of its lifetime.
   * A caller waits for a refresh otherwise. Default: 10,000.
   */
  leewayMs?: number
  /**
   * How long before its expiry an access token is refreshed ahead, in milliseconds, and at most a quarter of its lifetime. The
   * request gets the current token, and the refresh runs in the background. `0` switches this off. It is always off for
   * sessions in cookies without a shared grant store, where the new tokens could not be kept. It is also off on AWS Lambda, Azure
   * Functions, Netlify and Vercel unless `waitUntil` is given, since they freeze the process after the response. Switch it off
   * where the option `session` finds a session that cannot be written to after the response. Default: 60,000.
   */
  refreshAheadMs?: number
  /**
   * How long a caller waits for a refresh while its access token is still valid, in milliseconds. Then it gets that token, and
   * the refresh continues. A caller with `minValidityMs` waits for `timeoutMs`. Default: 1,000.
   */
  patienceMs?: number
  /**
   * How many refreshes of this process may run at a time. Further refreshes wait in order. A probe of a server that fails does
   * not wait. Middlewares of one authorization server have one limit, that of the first. Default: 200.
   */
  maxConcurrentRefreshes?: number
  /**
   * Keeps the process awake until a promise settles, on platforms that freeze it after the response. It is called with each
   * refresh and each write that goes on after its request.
   *
   * @example
   * import { waitUntil } from '@vercel/functions'
   * sessionTokens({ …, waitUntil })
   */
  waitUntil?: (work: Promise<unknown>) => void
  /** How long a caller waits for a token, in milliseconds. The refresh itself continues, and its result is kept. Default: 10,000. */
  timeoutMs?: number
  /** How long a request to the authorization server may take, in milliseconds. Default: 30,000. */
  refreshTimeoutMs?: number
  /**
   * How long a connection to the authorization server may take, TLS included, in milliseconds. Then nothing was sent, and another
   * process may refresh. Default: 3,000.
   */
  connectTimeoutMs?: number
  /**
   * The assumed lifetime of an access token, in milliseconds, when neither the response nor the token itself tells it and
   * there is a refresh token. An `expires_in` that is 0, negative or no number does not count. Without a refresh token the
   * access token is served until an API rejects it. Default: 300,000.
   */
  defaultLifetimeMs?: number
  /**
   * Returns the tokens that the app, or its login library, has stored for this user: anything that `set()` takes, or
   * `undefined` when there are none. The manager adopts them when a token is requested in a session that holds none yet. From
   * then on it uses and refreshes the session's own tokens, and the app's copy goes out of date. When the function returns
   * another refresh token, the user has logged in again, and the manager adopts the new tokens.
   *
   * The function may be called at any time, so it must be quick and without effects. It gets the request (Koa: the context)
   * and returns synchronously. Give `expires_at` rather than `expires_in`, which counts from an unknown time. Without it, an
   * access token that does not tell its own expiry is refreshed at once.
   *
   * After `revoke()` and `clear()` the same tokens are not adopted again, for as long as the session could come back
   * (`sessionMaxAgeMs`). This process remembers them in memory, so also delete them from your session at logout.
   *
   * @example
   * sessionTokens({ …, adopt: (request) => request.user?.oauth })
   */
  adopt?(request: Request): unknown
  /**
   * Whether `sessionAxios()` and `sessionFetch()` find the tokens of the request that is being served. It puts every request
   * into an `AsyncLocalStorage`, which has a cost. Default: `false`.
   */
  ambient?: boolean
  /** Connection settings for requests to the authorization server: agents, a proxy, further headers. */
  http?: HttpOptions
  /** Gets an event for each refresh and each failure. No event holds a token. An error of the listener is ignored. */
  onEvent?: TokenEventListener
}
