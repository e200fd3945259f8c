import { IncomingMessage } from 'node:http'
import { Socket } from 'node:net'
import { ConfigurationError } from './errors.js'
import {
  clientAssertion,
  clientSecretBasic,
  clientSecretJwt,
  clientSecretPost,
  privateKeyJwt,
  publicClient,
} from './oauth/client-authentication.js'
import type { HttpOptions } from './oauth/http.js'
import { checkRefreshParameters } from './oauth/refresh-parameters.js'
import { checkTexts } from './oauth/texts.js'
import type { SessionTokensOptions } from './options.js'
import { ownOptions } from './own-options.js'
import { hasField } from './own-properties.js'
import { checkEncryptionKeys } from './sessions/sealing.js'
import { refuseRequest } from './uncalled.js'

const OPTIONS = [
  'issuer',
  'tokenEndpoint',
  'refreshEndpoint',
  'revocationEndpoint',
  'jwksUri',
  'clientId',
  'clientAuthentication',
  'refreshParameters',
  'isGrantEnded',
  'authorizationScheme',
  'encryptionKeys',
  'acceptUnsealed',
  'grants',
  'keep',
  'onGrantStoreError',
  'session',
  'sessionMaxAgeMs',
  'sessionKey',
  'property',
  'leewayMs',
  'timeoutMs',
  'refreshTimeoutMs',
  'defaultLifetimeMs',
  'adopt',
  'ambient',
  'http',
  'onEvent',
] as const satisfies readonly (keyof SessionTokensOptions)[]

/** What makes a client authentication; passing one of these without calling it is easily done. */
const FACTORIES = [
  clientAssertion,
  clientSecretBasic,
  clientSecretJwt,
  clientSecretPost,
  privateKeyJwt,
  publicClient,
] as const

/** Of OpenID Connect Discovery, and of RFC 8414. */
const METADATA_PATH = /\/\.well-known\/(?:openid-configuration|oauth-authorization-server)\b/
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
export function checkedOptions(given: SessionTokensOptions) {
  if (typeof given !== 'object' || given === null) {
    throw new ConfigurationError(
      'sessionTokens() takes an object: sessionTokens({ issuer, clientId, clientAuthentication }).',
    )
  }
  refuseRequest(given, 'app.use(sessionTokens({ … }))')
  const options = ownOptions(given, OPTIONS, 'sessionTokens()')
  checkServer(options)
  checkClient(options)
  checkRefreshOptions(options)
  checkGrantStore(options)
  checkAcceptUnsealed(options)
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
  if (options.ambient !== undefined && typeof options.ambient !== 'boolean') {
    throw new ConfigurationError('`ambient` must be true or false, or left out.')
  }
  return {
    ...options,
    sessionKey: checkedName(options.sessionKey, 'sessionKey', RESERVED_SESSION_KEYS),
    property: checkedProperty(options.property),
    ...(options.http !== undefined && { http: checkedHttp(options.http) }),
    encryptionKeys: checkedKeys(options.encryptionKeys),
    keep: options.keep ?? 'session',
    onGrantStoreError: options.onGrantStoreError ?? 'fail',
    sessionMaxAgeMs:
      options.sessionMaxAgeMs === undefined
        ? undefined
        : checkedDuration(options.sessionMaxAgeMs, 'sessionMaxAgeMs', 30 * DAY_MS, 1, 3_650 * DAY_MS),
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

/** The keys to seal with, if there are any. */
function checkedKeys(keys: SessionTokensOptions['encryptionKeys']) {
  if (keys === undefined || keys === false) return undefined
  checkEncryptionKeys(keys)
  return keys
}

function checkAcceptUnsealed({ acceptUnsealed, encryptionKeys, session }: SessionTokensOptions): void {
  if (acceptUnsealed !== undefined && typeof acceptUnsealed !== 'boolean') {
    throw new ConfigurationError('`acceptUnsealed` must be true or false, or left out.')
  }
  if (!acceptUnsealed) return
  if (!encryptionKeys) {
    throw new ConfigurationError(
      '`acceptUnsealed` is for the change to sealed sessions: give `encryptionKeys` as well, or leave it out.',
    )
  }
  if (session !== undefined) {
    throw new ConfigurationError(
      '`acceptUnsealed` does not go with `session`: in a session layer of your own the browser may have written what is not ' +
        'sealed. Leave it out, and have the users log in again.',
    )
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
  if (typeof options.issuer === 'string' && METADATA_PATH.test(options.issuer)) {
    throw new ConfigurationError(
      '`issuer` is where the metadata is. Give the issuer, without /.well-known/… and what follows it.',
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

function checkRefreshOptions(options: SessionTokensOptions): void {
  const { authorizationScheme, isGrantEnded, refreshParameters } = options
  if (refreshParameters !== undefined) checkRefreshParameters(refreshParameters)
  if (isGrantEnded !== undefined && typeof isGrantEnded !== 'function') {
    throw new ConfigurationError(
      "`isGrantEnded` must be a function: isGrantEnded: ({ error }) => error === 'token_dead' || undefined.",
    )
  }
  if (authorizationScheme !== undefined && authorizationScheme !== 'Bearer') {
    throw new ConfigurationError("`authorizationScheme` must be 'Bearer', or left out.")
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
  if (typeof grants === 'function') {
    const { name } = grants as { name: string }
    throw new ConfigurationError(`\`grants\` is the function ${name} itself; call it: grants: ${name}(…).`)
  }
  if (typeof (grants as Partial<Promise<unknown>> | null)?.then === 'function') {
    throw new ConfigurationError('`grants` is the promise of a grant store. Await it: grants: await ….')
  }
  const missing = GRANT_STORE_METHODS.find((name) => typeof grants?.[name] !== 'function')
  if (missing) {
    throw new ConfigurationError(
      `\`grants\` is not a grant store: it has no method ${missing}(). ` +
        'Use memoryGrantStore(), or redisGrantStore(client) from session-token-manager/redis.',
    )
  }
}

function checkedHttp(http: HttpOptions): HttpOptions {
  if (typeof http !== 'object' || http === null) {
    throw new ConfigurationError(
      "`http` must be an object, e.g. http: { headers: { 'User-Agent': 'my-app' } }.",
    )
  }
  const own = ownOptions(http, HTTP_OPTIONS, '`http`')
  checkTexts(own.headers, '`http.headers`', "{ 'User-Agent': 'my-app' }")
  return own
}

/** The name under which a request has the token manager. */
export function checkedProperty(value: unknown): string {
  const property = checkedName(value, 'property', RESERVED_PROPERTIES)
  if (hasField(new IncomingMessage(new Socket()), property)) throw inUse('property', property)
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
