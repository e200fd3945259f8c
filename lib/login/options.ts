import type { Configuration, CryptoKey, PrivateKey } from 'openid-client'
import type { ClientAuthentication } from '../oauth/client-authentication/client-authentication.js'
import type { HttpOptions } from '../oauth/http.js'
import type { EncryptionKeysOption } from '../sessions/codec/key-ring.js'
import type { AuthorizationOption } from './authorization.js'
import type { LoginError } from './login-error.js'
import type { LoginClaims, LoginTokens } from './provider.js'

/** The paths of the login. `false` leaves one out. */
export interface LoginRoutes {
  /** Sends the user to the authorization server. `returnTo` in the query is the path to come back to. Default: `'/login'`. */
  login?: string | false
  /**
   * Takes the response of the authorization server. The redirect URI to register there is `baseUrl` with this path. Default:
   * `'/callback'`.
   */
  callback?: string
  /** Logs the user out, by POST. Default: `'/logout'`. */
  logout?: string | false
  /** Tells a page who is logged in. Default: `'/session'`. */
  session?: string | false
  /**
   * Ends logins when the authorization server says so (OpenID Connect Back-Channel Logout 1.0). Default: `'/backchannel-logout'`.
   */
  backchannelLogout?: string | false
}

/** The options of `login()`. `Request` is the type of the request that functions of the app get; on Koa, of the context. */
export interface LoginOptions<Request = unknown> {
  /** The issuer identifier of the authorization server, as for `sessionTokens()`. */
  issuer: string
  /** The client identifier, as for `sessionTokens()`. */
  clientId: string
  /** How the client authenticates, as for `sessionTokens()`. */
  clientAuthentication: ClientAuthentication
  /**
   * Where browsers reach the app: `'https://app.example.com'`, with the path under which the app is, if there is one. The
   * paths of `routes` are appended to it. It uses https, or http on localhost.
   */
  baseUrl: string
  /**
   * The parameters of the authorization request, by their names on the wire, or a function of the request that returns them. The
   * function gets the request to `/login`, whose `returnTo` is the page. Parameters in the query of that request are not used.
   * Default: `{ scope: 'openid offline_access' }`.
   *
   * @example
   * login({ …, authorization: (req) => ({ scope: 'openid offline_access orders.read', login_hint: req.cookies.lastUser }) })
   */
  authorization?: AuthorizationOption<Request>
  /** The paths of the login, each of which can be moved or left out. */
  routes?: LoginRoutes
  /**
   * How the authorization server sends the callback: in the query of a GET, or as a form in a POST. With `'form_post'` the code
   * is in no URL. Default: `'query'`.
   */
  responseMode?: 'query' | 'form_post'
  /**
   * Where a login that is under way is kept. `'cookie'`: each one in a sealed cookie of its own, so that visitors need no
   * session, and tabs do not get in each other's way. It needs `encryptionKeys`. `'session'`: in the session. Default: `'cookie'`.
   */
  transactions?: 'cookie' | 'session'
  /** The keys of `sessionTokens()`, or its function of them. They seal the logins that are under way. */
  encryptionKeys?: EncryptionKeysOption | false
  /** The path to which the browser is sent after a login without a `returnTo`. Default: `'/'`. */
  afterLogin?: string
  /**
   * The path to which the browser is sent after a logout. Register its URL at the authorization server
   * (`post_logout_redirect_uris`). Default: `'/'`.
   */
  afterLogout?: string
  /** Whether the logout sends the ID token to the authorization server, which then knows which login to end. Default: `true`. */
  idTokenHint?: boolean
  /**
   * The fields of a visitor's session that a login keeps, such as `['cart']`. Name only fields that may be shown to the user who
   * logs in next in this browser. Treat their values as input of a stranger: an attacker who plants a session cookie chooses
   * them. Never name a field that says who the user is. If `login()` knows of another user in the session, no field is kept.
   * Default: none.
   */
  keepFields?: readonly string[]
  /** The claims of the user that `GET /session` shows. Default: `['sub', 'name', 'preferred_username', 'email', 'picture']`. */
  sessionClaims?: readonly string[]
  /** The status of `GET /session` for a visitor: `401`, or `200` with the body `null`. Default: `401`. */
  visitorStatus?: 200 | 401
  /** Whether the claims of userinfo are fetched, at the login and when a refresh has brought a new ID token. Default: `false`. */
  userinfo?: boolean
  /**
   * Is called when the user has logged in, with the new session and before it has the tokens. Store the data that your app needs
   * in the session. `false` refuses the user: the tokens are revoked, and the session ends. An error of this function goes to the
   * app's error handler. Then the session ends as well, unless this user was logged in before.
   */
  onLogin?(tokens: LoginTokens, claims: LoginClaims, request: Request): unknown
  /**
   * Is called with each login that does not succeed. It may log the error. If it returns a string, or a promise of one, the user
   * is sent to this path of the app, and does not get the page of login(). The page at this path must not redirect to the login.
   * Without this option, failures of a login that was begun here are printed on stderr if the reason is `invalid`, `rejected` or
   * `unavailable`; on Koa the app emits `error`.
   */
  onFailure?(error: LoginError, request: Request): unknown
  /**
   * Whether the authorization request is pushed to a server that offers this (RFC 9126). For a server that requires it, the
   * request is pushed in any case. Default: `true`.
   */
  pushedRequests?: boolean
  /** Signs the authorization request (RFC 9101): a private `CryptoKey`, or `{ key, kid }`. */
  requestObjectKey?: CryptoKey | PrivateKey
  /**
   * Whether the signature of the ID token is checked, besides TLS. `false` is for clients whose ID tokens are signed with the
   * client secret (`HS256`). Default: `true`.
   */
  verifySignature?: boolean
  /** Origins whose pages may log out the user, besides those of this site. Default: none. */
  allowedOrigins?: readonly string[]
  /** Gives the session of a request another id. It is needed only for a session layer of your own. */
  regenerate?(request: Request): unknown
  /** Connection settings for requests to the authorization server, as for `sessionTokens()`: agents, a proxy, further headers. */
  http?: HttpOptions
  /**
   * Gets the configuration of openid-client after each discovery, for settings that are no option of `login()`, such as decryption.
   */
  configure?(configuration: Configuration): void
  /** How long a request to the authorization server may take, in milliseconds. Default: 10,000. */
  timeoutMs?: number
  /** The `property` of `sessionTokens()`. Default: `'tokens'`. */
  property?: string
  /** The key of the session under which login() keeps its data. Default: `'login'`. */
  sessionKey?: string
}
