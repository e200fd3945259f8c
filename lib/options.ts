import type { TokenEventListener } from './events.js'
import type { GrantStore } from './grants/grant-store.js'
import type { ClientAuthentication } from './oauth/client-authentication.js'
import type { IsGrantEnded } from './oauth/grant-ended-option.js'
import type { HttpOptions } from './oauth/http.js'
import type { RefreshParametersOption } from './oauth/refresh-parameters.js'
import type { OwnSession } from './sessions/own-session.js'
import type { EncryptionKey } from './sessions/sealing.js'

/**
 * What `sessionTokens()` takes. Name the authorization server by `issuer`, or by its endpoints. `Request` is what `adopt`
 * and `session` are given.
 */
export interface SessionTokensOptions<Request = unknown> {
  /**
   * The authorization server's issuer identifier, an https URL. Its metadata (OpenID Connect Discovery 1.0, RFC 8414) is
   * fetched when an endpoint is first needed, and must name this very issuer.
   */
  issuer?: string
  /** The token endpoint (RFC 6749 §3.2), instead of `issuer`. */
  tokenEndpoint?: string
  /** Where refreshes go, if not to the token endpoint. */
  refreshEndpoint?: string
  /** The revocation endpoint (RFC 7009). Default: the one in the issuer's metadata. */
  revocationEndpoint?: string
  /**
   * Where the issuer's public keys are (`jwks_uri`), to check the signatures of ID tokens with. Default: the one in the
   * issuer's metadata. Where the server is named by its endpoints and there is none, TLS vouches for ID tokens (OpenID
   * Connect Core §3.1.3.7).
   */
  jwksUri?: string
  /** The client identifier (RFC 6749 §2.2). */
  clientId: string
  /**
   * How the client authenticates: `clientSecretBasic(secret)`, `clientSecretPost(secret)`, `clientSecretJwt(secret)`,
   * `privateKeyJwt(key)`, `clientAssertion(jwt)`, `publicClient()`, or a function of your own.
   */
  clientAuthentication: ClientAuthentication
  /**
   * What is sent with every refresh besides what RFC 6749 §6 has: a scope that the server insists on, a policy (`p`), a
   * vendor's parameter. A record of texts, an array for several of one name; or a function of the need, which is told
   * `{ scope, resource, audience }` as far as the caller, or the route, named them, and may return `undefined`.
   *
   * What a need names wins over a record. What a function returns is sent as it is, and must keep what the need names: it may
   * add scopes. `grant_type`, `refresh_token` and what authenticates the client cannot be set. A wrong result is a
   * `ConfigurationError` before the refresh token is sent.
   *
   * @example
   * sessionTokens({ …, refreshParameters: { scope: 'openid offline_access', p: 'B2C_1_signin' } })
   * sessionTokens({ …, refreshParameters: ({ scope }) => ({ scope: `${scope ?? 'openid'} offline_access` }) })
   */
  refreshParameters?: RefreshParametersOption
  /**
   * Says whether a refused refresh ends the grant, and so logs the user out: `true` ends it, `false` keeps it, also after an
   * `invalid_grant` (the refresh then fails with `ERR_TOKEN_ENDPOINT_UNAVAILABLE`, and is tried again later), and `undefined`
   * leaves it to the library, which knows `invalid_grant` and what GitHub, Slack, Atlassian, X, HubSpot, Fitbit, Facebook,
   * Strava, Twitch and Zoho say instead.
   *
   * It is asked about every response to a refresh below 500 that is an error in JSON or a form, except 408 and 429. It gets
   * `{ status, body, error }`, which show no token: see `RefusedRefresh`. It must answer at once; a failure, or any
   * other result, ends no grant, and the refresh fails with a `ConfigurationError`.
   *
   * @example
   * sessionTokens({ …, isGrantEnded: ({ body }) => body.code === 'REFRESH_TOKEN_EXPIRED' || undefined })
   */
  isGrantEnded?: IsGrantEnded
  /**
   * `'Bearer'` sends every access token as a bearer token (RFC 6750), whatever `token_type` the server has for it, such as
   * Apigee's `BearerToken` or Slack's `user`; `tokenType` of `getAccessToken()` is `Bearer` then. Without it, a token of
   * another type is not sent.
   */
  authorizationScheme?: 'Bearer'
  /**
   * Where the processes that serve a session agree. Default: this process's memory, one for the whole process, which
   * is right for an app in a single process.
   */
  grants?: GrantStore
  /**
   * Keys to seal the tokens with, in the session and in the grant store: as JWE, so that without a key they can neither be
   * read nor changed there. A key is at least 32 random bytes: their text in Base64, Base64url or hexadecimal, such as
   * `openssl rand -base64 32` prints, the bytes, or a secret `KeyObject`. Passphrases, and bytes that follow a pattern, are
   * refused. A text is taken letter by letter, with the line end of its file, so every process must be given the same one.
   *
   * The first key seals, all open, so a new key is put in front and the old one kept for as long as sessions live. A copy that
   * is not sealed, or not by one of them, is treated as none.
   *
   * `false` leaves the tokens unsealed. Left out they are unsealed as well, and the process warns of it once, with the code
   * `SESSION_TOKENS_UNSEALED`. That holds for `keep: 'store'` too: the key in the session opens the tokens in the grant store.
   */
  encryptionKeys?: readonly (EncryptionKey | undefined)[] | false
  /**
   * Whether sessions from before there were `encryptionKeys`, whose tokens are not sealed, go on: for the time until each has
   * been refreshed, or has expired. Such a session must have the proof of its grant, or from version 0.1 a token that the
   * grant has had; its next refresh seals it. For sessions in a store alone, of express-session or koa-session: what is not
   * sealed in a cookie, the browser may have written. A warning with the code `SESSION_TOKENS_ACCEPT_UNSEALED` reminds of it.
   * Default: `false`.
   */
  acceptUnsealed?: boolean
  /**
   * Where the tokens are: `'session'` holds a copy of them beside the grant store; `'store'` leaves only the grant's id and
   * its key in the session, so that the session stays small and holds no tokens, and needs `grants` to be a store that
   * outlives the processes. Default: `'session'`.
   */
  keep?: 'session' | 'store'
  /**
   * What a refresh does when the grant store fails: `'fail'` rejects with `ERR_GRANT_STORE` and spends no refresh token;
   * `'local'` goes on in this process alone, so two processes may spend the same refresh token. Default: `'fail'`.
   */
  onGrantStoreError?: 'fail' | 'local'
  /**
   * Finds the session of a request in a session layer of your own: what keeps one text for it. For express-session,
   * cookie-session, iron-session (put on `request.session`) and koa-session leave it out. A promise is waited for.
   * For a visitor without a session it may return `undefined`: nobody is logged in then.
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
   * For how long a session lives, in milliseconds, where its layer does not say: a cookie without a `maxAge`, or a session
   * layer of your own. A grant, and that it has ended, are remembered for as long as its session could come back. At most
   * 3,650 days. Default: 30 days; for a grant whose session is in a store, what the grant store has (`grantTtlMs`).
   */
  sessionMaxAgeMs?: number
  /** Under which key the session holds the tokens. Default: `'tokens'`. */
  sessionKey?: string
  /** Under which name the request has the token manager. Default: `'tokens'`, for `req.tokens`. */
  property?: string
  /**
   * How long before its expiry an access token is refreshed, in milliseconds; at most a quarter of the token's
   * lifetime. Default: 60,000.
   */
  leewayMs?: number
  /** For how long a caller waits for a token, in milliseconds. The refresh goes on, and its result is kept. Default: 10,000. */
  timeoutMs?: number
  /** For how long a request to the authorization server may take, in milliseconds. Default: 30,000. */
  refreshTimeoutMs?: number
  /**
   * How long an access token is taken to live, in milliseconds, when neither the response nor the token itself says, and
   * there is a refresh token. An `expires_in` of 0, a negative one, and one that is no number say nothing. Without a refresh
   * token it is served until an API refuses it. Default: 300,000.
   */
  defaultLifetimeMs?: number
  /**
   * Hands over the tokens that the app, or its login library, has put somewhere for this user: whatever `set()` takes,
   * `undefined` when there are none. They are adopted when a token is asked for in a session that holds none yet; from
   * then on the session's own are used and refreshed, and what the app keeps is left as it is, and out of date. When
   * another refresh token is handed over, somebody has logged in anew, and those tokens are adopted in their place.
   *
   * It is asked at any time, so it must be quick, and without effects: it gets the request (Koa: the context) and looks
   * into it, synchronously. Give `expires_at` rather than `expires_in`, since nobody knows from when that counts: without,
   * an access token that does not say itself when it expires is refreshed at once.
   *
   * After `revoke()` and `clear()` the same tokens are not adopted again, for as long as the session could come back
   * (`sessionMaxAgeMs`), in memory until the process ends. Take them out of your session when you log out.
   *
   * @example
   * sessionTokens({ …, adopt: (request) => request.user?.oauth })
   */
  adopt?(request: Request): unknown
  /**
   * Whether `sessionAxios()` and `sessionFetch()` find the tokens of the request that is being served. It costs every
   * request an `AsyncLocalStorage`, so it is off unless asked for. Default: `false`.
   */
  ambient?: boolean
  /** Connection settings for requests to the authorization server: agents, a proxy, further headers. */
  http?: HttpOptions
  /** Is told of refreshes and failures. No event holds a token; what the listener throws or rejects with is ignored. */
  onEvent?: TokenEventListener
}
