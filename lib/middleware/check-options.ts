import {
  DEFAULT_PATIENCE_MS,
  DEFAULT_REFRESH_TIMEOUT_MS,
  DEFAULT_TIMEOUT_MS,
} from '../concurrency/time-constants.js'
import { ConfigurationError, SHARED_GRANT_STORES } from '../errors/token-error.js'
import type { GrantStore } from '../grants/grant-store.js'
import * as clientAuthentications from '../oauth/client-authentication/client-authentication.js'
import { selfSignedTlsClientAuth, tlsClientAuth } from '../oauth/client-authentication/tls-client.js'
import { checkDpop } from '../oauth/dpop/dpop-options.js'
import { DEFAULT_CONNECT_TIMEOUT_MS, type HttpOptions } from '../oauth/http.js'
import { checkRefreshParameters } from '../oauth/token-endpoint/refresh-parameters.js'
import { checkExchanges } from '../oauth/token-endpoint/token-exchange.js'
import {
  checkedBy,
  count,
  DAY_MS,
  duration,
  flag,
  fn,
  oneOf,
  optional,
  propertyName,
  unchecked,
} from '../options/option-kinds.js'
import { type Checked, checkOptions, type Option, type OptionTable } from '../options/option-table.js'
import { assertStringRecord } from '../options/string-record.js'
import { KeyRing } from '../sessions/codec/key-ring.js'
import type { AnySessionTokensOptions } from './options.js'

const USER_AGENT = "{ 'User-Agent': 'my-app' }"

const HTTP_OPTIONS = {
  httpAgent: unchecked,
  httpsAgent: unchecked,
  proxy: unchecked,
  headers: checkedBy((headers) => assertStringRecord(headers, '`http.headers`', USER_AGENT)),
} satisfies OptionTable<HttpOptions>

/** The options of `sessionTokens()`. The URLs are checked where they are used, by `authorizationServer()`. */
const OPTIONS = {
  issuer: checkIssuer,
  tokenEndpoint: unchecked,
  refreshEndpoint: unchecked,
  revocationEndpoint: unchecked,
  jwksUri: unchecked,
  clientId: checkClientId,
  clientAuthentication: checkClientAuthentication,
  refreshParameters: optional(checkedBy(checkRefreshParameters)),
  isGrantEnded: optional(fn("({ error }) => error === 'token_dead' || undefined")),
  exchanges: optional(checkExchanges),
  authorizationScheme: optional(oneOf(['Bearer'])),
  dpop: checkDpop,
  encryptionKeys: sealingKeys,
  acceptUnsealed: checkAcceptUnsealed,
  grants: optional(checkGrantStore),
  keep: checkKeep,
  onGrantStoreError: oneOf(['fail', 'local']),
  session: optional(fn('(request) => ({ read, write, clear })')),
  sessionMaxAgeMs: optional(duration(30 * DAY_MS, { most: 3_650 * DAY_MS })),
  maxLoginAgeMs: optional(duration(12 * 60 * 60 * 1000, { most: 3_650 * DAY_MS })),
  sessionKey: sessionKey('tokens'),
  property: propertyName('tokens'),
  leewayMs: duration(10_000, { least: 0 }),
  refreshAheadMs: checkRefreshAhead,
  patienceMs: duration(DEFAULT_PATIENCE_MS, { least: 0 }),
  maxConcurrentRefreshes: count(200, { least: 1 }),
  waitUntil: optional(fn('(work) => context.waitUntil(work)')),
  timeoutMs: duration(DEFAULT_TIMEOUT_MS),
  refreshTimeoutMs: duration(DEFAULT_REFRESH_TIMEOUT_MS),
  connectTimeoutMs: duration(DEFAULT_CONNECT_TIMEOUT_MS),
  defaultLifetimeMs: duration(300_000, { most: 365 * DAY_MS }),
  adopt: optional(fn('(request) => request.session?.oauth')),
  ambient: flag(),
  http: optional(checkHttp),
  onEvent: optional(fn('(event) => logger.info(event)')),
} satisfies OptionTable<AnySessionTokensOptions>

/** Maps names of options from other libraries to sentences that tell the app what to write. */
const CURES = {
  clientSecret: 'Use clientAuthentication: clientSecretBasic(secret).',
  client_secret: 'Use clientAuthentication: clientSecretBasic(secret).',
  client_id: 'Did you mean `clientId`?',
  tokenURL: 'Did you mean `tokenEndpoint`?',
  authentication: 'Did you mean `clientAuthentication`?',
  issuerUrl: 'Did you mean `issuer`?',
  issuerURL: 'Did you mean `issuer`?',
  redirectUri: 'It goes to acquire({ redirect_uri }).',
  redirectURI: 'It goes to acquire({ redirect_uri }).',
  redirect_uri: 'It goes to acquire({ redirect_uri }).',
  callbackURL: 'It goes to acquire({ redirect_uri }).',
  store: 'The session store belongs to express-session; the store that processes share is `grants`.',
  scope:
    'Scopes are asked for where a token is needed: requireTokens({ scope }) or getAccessToken({ scope }).',
}

/** The options of `sessionTokens()` with their defaults. */
export type CheckedOptions = Checked<AnySessionTokensOptions, typeof OPTIONS>

/**
 * Checks the options of `sessionTokens()`. Returns them with their defaults.
 *
 * @throws `ConfigurationError` that says what to change
 */
export function checkSessionTokensOptions(given: AnySessionTokensOptions): CheckedOptions {
  return checkOptions(given, OPTIONS, {
    of: 'sessionTokens()',
    takes: 'sessionTokens() takes an object: sessionTokens({ issuer, clientId, clientAuthentication })',
    mount: 'app.use(sessionTokens({ … }))',
    cures: CURES,
  })
}

/** The paths of OpenID Connect Discovery, and of RFC 8414. */
const METADATA_PATH = /\/\.well-known\/(?:openid-configuration|oauth-authorization-server)\b/

function checkIssuer(issuer: unknown, _: string, { tokenEndpoint }: Given): unknown {
  if (issuer !== undefined && tokenEndpoint !== undefined) {
    throw new ConfigurationError(
      'Both `issuer` and `tokenEndpoint` are given. Keep `issuer` if the authorization server publishes metadata, else `tokenEndpoint`.',
    )
  }
  if (issuer === undefined && tokenEndpoint === undefined) {
    throw new ConfigurationError(
      "Neither `issuer` nor `tokenEndpoint` is given. Give the issuer URL, e.g. issuer: 'https://idp.example.com', " +
        'or `tokenEndpoint` (and `revocationEndpoint`).',
    )
  }
  if (typeof issuer === 'string' && METADATA_PATH.test(issuer)) {
    throw new ConfigurationError(
      '`issuer` is the URL of the metadata. Give the value of `issuer` that the metadata contains.',
    )
  }
  return issuer
}

export function checkClientId(clientId: unknown): unknown {
  if (typeof clientId === 'string' && clientId !== '') return clientId
  throw new ConfigurationError(
    '`clientId` is missing. It is the identifier under which this app is registered at the authorization server.',
  )
}

/** The functions that make a client authentication. An app may give one without calling it. */
const FACTORIES: readonly unknown[] = [
  ...Object.values(clientAuthentications),
  selfSignedTlsClientAuth,
  tlsClientAuth,
]

export function checkClientAuthentication(authentication: unknown): unknown {
  if (FACTORIES.includes(authentication)) {
    throw uncalledError('clientAuthentication', authentication as { name: string })
  }
  if (typeof authentication === 'function') return authentication
  throw new ConfigurationError(
    '`clientAuthentication` is missing or not a function. Use clientSecretBasic(secret), clientSecretPost(secret), ' +
      'clientSecretJwt(secret), privateKeyJwt(key), clientAssertion(jwt), tlsClientAuth({ cert, key }) or ' +
      'selfSignedTlsClientAuth({ cert, key }), or for a client without a secret publicClient().',
  )
}

function uncalledError(option: string, { name }: { readonly name: string }): ConfigurationError {
  return new ConfigurationError(
    `\`${option}\` is the function ${name} itself; call it: ${option}: ${name}(…).`,
  )
}

/** Returns the keys to seal with, if there are any. */
export function sealingKeys(keys: unknown): KeyRing | undefined {
  return keys === undefined || keys === false ? undefined : new KeyRing(keys)
}

function checkAcceptUnsealed(value: unknown, name: string, all: Given): boolean {
  const acceptsUnsealed = flag()(value, name, all)
  if (acceptsUnsealed && !all.encryptionKeys) {
    throw new ConfigurationError(
      '`acceptUnsealed` is for the change to sealed sessions: give `encryptionKeys` as well, or leave it out.',
    )
  }
  if (acceptsUnsealed && all.session !== undefined) {
    throw new ConfigurationError(
      '`acceptUnsealed` does not go with `session`: in a session layer of your own the browser may have written what is not ' +
        'sealed. Leave it out, and have the users log in again.',
    )
  }
  return acceptsUnsealed
}

/** Variables of the platforms that freeze a process after its response. */
const FREEZING_PLATFORMS = ['AWS_LAMBDA_FUNCTION_NAME', 'FUNCTIONS_WORKER_RUNTIME', 'NETLIFY', 'VERCEL']

function checkRefreshAhead(value: unknown, name: string, all: Given): number {
  const isFrozen = all.waitUntil === undefined && FREEZING_PLATFORMS.some((variable) => process.env[variable])
  return duration(isFrozen ? 0 : 60_000, { least: 0 })(value, name, all)
}

const GRANT_STORE_METHODS = ['lease', 'renew', 'commit', 'release', 'read', 'end'] as const

function checkGrantStore(store: unknown): unknown {
  if (typeof store === 'function') throw uncalledError('grants', store)
  const grants = store as Partial<GrantStore & Promise<unknown>> | null
  if (typeof grants?.then === 'function') {
    throw new ConfigurationError('`grants` is the promise of a grant store. Await it: grants: await ….')
  }
  const missing = GRANT_STORE_METHODS.find((name) => typeof grants?.[name] !== 'function')
  if (missing === undefined) return grants
  throw new ConfigurationError(
    `\`grants\` is not a grant store: it has no method ${missing}(). ` +
      'Use memoryGrantStore(), redisGrantStore(client) from session-token-manager/redis, or postgresGrantStore(pool) from ' +
      'session-token-manager/postgres.',
  )
}

function checkKeep(value: unknown, name: string, all: Given): 'session' | 'store' {
  const keep = oneOf(['session', 'store'])(value, name, all)
  if (keep === 'store' && all.adopt !== undefined) {
    throw new ConfigurationError(
      "keep: 'store' does not go with `adopt`, whose tokens are in the session already.",
    )
  }
  if (keep === 'store' && all.grants === undefined) {
    throw new ConfigurationError(
      `keep: 'store' needs \`grants\`, since the sessions hold no tokens then: grants: ${SHARED_GRANT_STORES}. ` +
        'With memoryGrantStore() a restart logs all users out.',
    )
  }
  return keep
}

/** The properties that express-session itself gives to a session. */
const SESSION_PROPERTIES: readonly string[] = [
  ...['cookie', 'id', 'req', 'save', 'reload', 'touch', 'destroy', 'regenerate', 'resetMaxAge'],
]

/** Checks for a key of the session: neither a property of express-session's sessions nor one of `inUse`. */
export function sessionKey(fallback: string, ...inUse: readonly string[]): Option<string> {
  return (value, name, all) => {
    const key = propertyName(fallback)(value, name, all)
    if (!SESSION_PROPERTIES.includes(key) && !inUse.includes(key)) return key
    throw new ConfigurationError(
      `\`${name}\` must not be '${key}': express-session or sessionTokens() uses this key of the session. Choose another, e.g. '${fallback}'.`,
    )
  }
}

/** Checks the option `http`, of `sessionTokens()` and of `login()`. */
export function checkHttp(http: unknown): HttpOptions {
  return checkOptions(http as HttpOptions, HTTP_OPTIONS, {
    of: '`http`',
    takes: `\`http\` must be an object, e.g. http: { headers: ${USER_AGENT} }`,
  })
}

type Given = Parameters<Option>[2]
