import { IncomingMessage } from 'node:http'
import { Socket } from 'node:net'
import { ConfigurationError } from './errors.js'
import type { TokenEventListener } from './events.js'
import type { GrantStore } from './grants/grant-store.js'
import {
  type ClientAuthentication,
  clientAssertion,
  clientSecretBasic,
  clientSecretJwt,
  clientSecretPost,
  privateKeyJwt,
  publicClient,
} from './oauth/client-authentication.js'
import type { HttpOptions } from './oauth/http.js'
import { checkTexts } from './oauth/texts.js'
import type { OwnSession } from './sessions/own-session.js'
import { checkEncryptionKeys, type EncryptionKey } from './sessions/sealing.js'
import { closestTo } from './spelling.js'

/**
 * What `sessionTokens()` takes. Name the authorization server by `issuer`, or by its endpoints. `Request` is what `adopt`
 * is given.
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
   * Where the processes that serve a session agree. Default: this process's memory, one for the whole process, which
   * is right for an app in a single process.
   */
  grants?: GrantStore
  /**
   * Keys to seal the tokens with, in the session and in the grant store: as JWE, so that nobody who sees them there can
   * read or change them. Texts with the entropy of a key (`openssl rand -base64 32`), at least 32 bytes, or secret
   * `KeyObject`s. The first seals, all open, so a new key is put in front and the old one kept for as long as sessions
   * live. A copy that is not sealed, or not by one of them, is treated as none. Default: not sealed.
   */
  encryptionKeys?: readonly (EncryptionKey | undefined)[]
  /**
   * Where the tokens are: `'session'` holds a copy of them beside the grant store; `'store'` leaves only the grant's id and
   * its key in the session, so that the session stays small and holds no tokens, and needs `grants` to be a store that
   * outlives the processes and remembers a grant for as long as a session lives. Default: `'session'`.
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
   *
   * @example
   * sessionTokens({ …, session: (request) => ({
   *   read: () => request.mySession.data.tokens,
   *   write: (text) => request.mySession.save({ tokens: text }),
   *   clear: () => request.mySession.save({ tokens: undefined }),
   * }) })
   */
  session?(request: Request): OwnSession | Promise<OwnSession>
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
   * How long an access token is taken to live, in milliseconds, when neither `expires_in` nor the token itself says.
   * Default: 300,000.
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
   * After `revoke()` and `clear()` the same tokens are not adopted again, for as long as the grant store remembers: 24
   * hours in Redis, in memory until the process ends. Take them out of your session when you log out.
   *
   * @example
   * sessionTokens({ …, adopt: (request) => request.session?.passport?.user?.tokens })
   */
  adopt?(request: Request): unknown
  /** Connection settings for requests to the authorization server: agents, a proxy, further headers. */
  http?: HttpOptions
  /** Is told of refreshes and failures. No event holds a token; what the listener throws or rejects with is ignored. */
  onEvent?: TokenEventListener
}

const OPTIONS = [
  'issuer',
  'tokenEndpoint',
  'refreshEndpoint',
  'revocationEndpoint',
  'jwksUri',
  'clientId',
  'clientAuthentication',
  'encryptionKeys',
  'grants',
  'keep',
  'onGrantStoreError',
  'session',
  'sessionKey',
  'property',
  'leewayMs',
  'timeoutMs',
  'refreshTimeoutMs',
  'defaultLifetimeMs',
  'adopt',
  'http',
  'onEvent',
] as const satisfies readonly (keyof SessionTokensOptions)[]

/** What people are used to from other libraries. */
const ELSEWHERE: Readonly<Record<string, string>> = {
  clientSecret: 'Use clientAuthentication: clientSecretBasic(secret).',
  client_secret: 'Use clientAuthentication: clientSecretBasic(secret).',
  client_id: 'Did you mean `clientId`?',
  tokenURL: 'Did you mean `tokenEndpoint`?',
  authentication: 'Did you mean `clientAuthentication`?',
  store: 'The session store belongs to express-session; the store that processes share is `grants`.',
  scope:
    'Scopes are asked for where a token is needed: requireTokens({ scope }) or getAccessToken({ scope }).',
}

/** What makes a client authentication; passing one of these without calling it is easily done. */
const FACTORIES = [
  clientAssertion,
  clientSecretBasic,
  clientSecretJwt,
  clientSecretPost,
  privateKeyJwt,
  publicClient,
] as const

const GRANT_STORE_METHODS = ['lease', 'renew', 'commit', 'release', 'read', 'end'] as const
const HTTP_OPTIONS = ['httpAgent', 'httpsAgent', 'proxy', 'headers'] as const
/** What express-session and Express keep under these names. */
const RESERVED_SESSION_KEYS = [
  'cookie',
  'id',
  'req',
  'save',
  'reload',
  'touch',
  'destroy',
  'regenerate',
  'resetMaxAge',
]
/** What Express, its routers and its usual middleware keep on a request. Node's own names a request tells itself. */
const RESERVED_PROPERTIES = [
  ...['app', 'baseUrl', 'next', 'originalUrl', 'params', 'res', 'route'],
  ...[
    'accepts',
    'acceptsCharset',
    'acceptsCharsets',
    'acceptsEncoding',
    'acceptsEncodings',
    'acceptsLanguage',
  ],
  ...['acceptsLanguages', 'get', 'header', 'is', 'param', 'range', '_parsedUrl'],
  ...['fresh', 'host', 'hostname', 'ip', 'ips', 'path', 'protocol', 'query', 'secure', 'stale', 'subdomains'],
  ...['xhr', 'body', 'cookies', 'secret', 'signedCookies', 'session', 'sessionID', 'sessionStore'],
]

/**
 * The options with their defaults. Throws a {@link ConfigurationError} that says what to change. The URLs are checked
 * where they are used, by `authorizationServer()`.
 */
export function checkedOptions(options: SessionTokensOptions) {
  if (typeof options !== 'object' || options === null) {
    throw new ConfigurationError(
      'sessionTokens() takes an object: sessionTokens({ issuer, clientId, clientAuthentication }).',
    )
  }
  refuseUnknown(options, OPTIONS, 'sessionTokens()')
  checkServer(options)
  checkClient(options)
  checkGrantStore(options)
  if (options.encryptionKeys !== undefined) checkEncryptionKeys(options.encryptionKeys)
  if (options.http !== undefined) checkHttp(options.http)
  if (options.onEvent !== undefined && typeof options.onEvent !== 'function') {
    throw new ConfigurationError('`onEvent` must be a function: onEvent: (event) => logger.info(event).')
  }
  if (options.session !== undefined && typeof options.session !== 'function') {
    throw new ConfigurationError(
      '`session` must be a function that finds a session of your own: session: (request) => ({ read, write, clear }).',
    )
  }
  if (options.adopt !== undefined && typeof options.adopt !== 'function') {
    throw new ConfigurationError(
      '`adopt` must be a function that hands over tokens: adopt: (request) => request.session?.oauth.',
    )
  }
  return {
    ...options,
    sessionKey: checkedName(options.sessionKey, 'sessionKey', RESERVED_SESSION_KEYS),
    property: checkedProperty(options.property),
    keep: options.keep ?? 'session',
    onGrantStoreError: options.onGrantStoreError ?? 'fail',
    leewayMs: checkedDuration(options.leewayMs, 'leewayMs', 60_000, 0, DAY_MS),
    timeoutMs: checkedDuration(options.timeoutMs, 'timeoutMs', 10_000, 1, DAY_MS),
    refreshTimeoutMs: checkedDuration(options.refreshTimeoutMs, 'refreshTimeoutMs', 30_000, 1, DAY_MS),
    defaultLifetimeMs: checkedDuration(
      options.defaultLifetimeMs,
      'defaultLifetimeMs',
      300_000,
      1,
      365 * DAY_MS,
    ),
  }
}

/** Throws if an object has a key that is not among those allowed, and says which was probably meant. */
export function refuseUnknown(object: object, allowed: readonly string[], where: string): void {
  for (const name of Object.keys(object)) {
    if (allowed.includes(name)) continue
    const closest = closestTo(name, allowed)
    const cure =
      (Object.hasOwn(ELSEWHERE, name) && ELSEWHERE[name]) ||
      (closest ? `Did you mean \`${closest}\`?` : `Known are ${allowed.join(', ')}.`)
    throw new ConfigurationError(`${where} has no option \`${name}\`. ${cure}`)
  }
}

function checkServer(options: SessionTokensOptions): void {
  if (options.issuer !== undefined && options.tokenEndpoint !== undefined) {
    throw new ConfigurationError(
      'Both `issuer` and `tokenEndpoint` are given. Keep `issuer` if the authorization server publishes metadata, else `tokenEndpoint`.',
    )
  }
  if (options.issuer === undefined && options.tokenEndpoint === undefined) {
    throw new ConfigurationError(
      "Neither `issuer` nor `tokenEndpoint` is given. Give the issuer URL, e.g. issuer: 'https://idp.example.com', " +
        'or `tokenEndpoint` (and `revocationEndpoint`).',
    )
  }
}

function checkClient(options: SessionTokensOptions): void {
  if (typeof options.clientId !== 'string' || options.clientId === '') {
    throw new ConfigurationError(
      '`clientId` is missing. It is the identifier under which this app is registered at the authorization server.',
    )
  }
  if (FACTORIES.includes(options.clientAuthentication as never)) {
    const { name } = options.clientAuthentication
    throw new ConfigurationError(
      `\`clientAuthentication\` is the function ${name} itself; call it: clientAuthentication: ${name}(…).`,
    )
  }
  if (typeof options.clientAuthentication !== 'function') {
    throw new ConfigurationError(
      '`clientAuthentication` is missing or not a function. Use clientSecretBasic(secret), clientSecretPost(secret), ' +
        'clientSecretJwt(secret), privateKeyJwt(key) or clientAssertion(jwt), or for a client without a secret publicClient().',
    )
  }
}

function checkGrantStore(options: SessionTokensOptions): void {
  const { adopt, grants, keep = 'session', onGrantStoreError = 'fail' } = options
  if (!['session', 'store'].includes(keep)) {
    throw new ConfigurationError("`keep` must be 'session' or 'store'.")
  }
  if (keep === 'store' && adopt !== undefined) {
    throw new ConfigurationError(
      "keep: 'store' does not go with `adopt`, whose tokens are in the session already.",
    )
  }
  if (keep === 'store' && grants === undefined) {
    throw new ConfigurationError(
      "keep: 'store' needs a grant store that outlives the process: grants: redisGrantStore(client).",
    )
  }
  if (!['fail', 'local'].includes(onGrantStoreError)) {
    throw new ConfigurationError("`onGrantStoreError` must be 'fail' or 'local'.")
  }
  if (grants === undefined) return
  const missing = GRANT_STORE_METHODS.find((name) => typeof grants?.[name] !== 'function')
  if (missing) {
    throw new ConfigurationError(
      `\`grants\` is not a grant store: it has no method ${missing}(). ` +
        'Use memoryGrantStore(), or redisGrantStore(client) from session-token-manager/redis.',
    )
  }
}

function checkHttp(http: HttpOptions): void {
  if (typeof http !== 'object' || http === null) {
    throw new ConfigurationError(
      "`http` must be an object, e.g. http: { headers: { 'User-Agent': 'my-app' } }.",
    )
  }
  refuseUnknown(http, HTTP_OPTIONS, '`http`')
  checkTexts(http.headers, '`http.headers`', "{ 'User-Agent': 'my-app' }")
}

/** The name under which a request has the token manager. */
export function checkedProperty(value: unknown): string {
  const property = checkedName(value, 'property', RESERVED_PROPERTIES)
  if (property in new IncomingMessage(new Socket())) throw inUse('property', property)
  return property
}

function checkedName(value: unknown, name: string, reserved: readonly string[]): string {
  if (value === undefined) return 'tokens'
  if (typeof value !== 'string' || value === '' || value in Object.prototype) {
    throw new ConfigurationError(`\`${name}\` must be a name, e.g. ${name}: 'tokens'.`)
  }
  if (reserved.includes(value)) throw inUse(name, value)
  return value
}

function inUse(name: string, value: string): ConfigurationError {
  return new ConfigurationError(
    `\`${name}\` must not be '${value}', which is in use. Choose another, e.g. 'tokens'.`,
  )
}

function checkedDuration(
  value: unknown,
  name: string,
  fallback: number,
  least: number,
  most: number,
): number {
  if (value === undefined) return fallback
  if (typeof value !== 'number' || !Number.isFinite(value) || value < least || value > most) {
    const days = most === DAY_MS ? '24 hours' : `${most / DAY_MS} days`
    throw new ConfigurationError(
      `\`${name}\` must be a number of milliseconds from ${least} to ${most} (${days}), e.g. ${name}: ${fallback}.`,
    )
  }
  return value
}

/** The longest time that anyone is to wait. Sums of such times must be within what a timer of Node's can take, 24 days. */
const DAY_MS = 24 * 60 * 60 * 1000
