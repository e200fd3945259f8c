import { ConfigurationError } from '../errors/token-error.js'
import {
  checkClientAuthentication,
  checkClientId,
  checkHttp,
  sealingKeys,
  sessionKey,
} from '../middleware/check-options.js'
import { returnPath } from '../middleware/return-path.js'
import { issuerUrl } from '../oauth/metadata.js'
import { duration, flag, fn, oneOf, optional, propertyName, unchecked } from '../options/option-kinds.js'
import { type Checked, checkOptions, type Option, type OptionTable } from '../options/option-table.js'
import { checkedAllowedOrigins } from '../outbound/cross-origin.js'
import { type AuthorizationParameters, authorizationRequest } from './authorization.js'
import type { LoginOptions, LoginRoutes } from './options.js'

const ROUTES = {
  login: route('/login'),
  callback: (value, name, all) => {
    const callback = route('/callback')(value, name, all)
    if (callback !== false) return callback
    throw new ConfigurationError(
      '`routes.callback` cannot be left out: the authorization server sends the user there.',
    )
  },
  logout: route('/logout'),
  session: route('/session'),
  backchannelLogout: route('/backchannel-logout'),
} satisfies OptionTable<LoginRoutes>

const OPTIONS = {
  issuer: (value) => issuerUrl(value),
  clientId: checkClientId,
  clientAuthentication: checkClientAuthentication,
  baseUrl: checkBaseUrl,
  authorization: checkAuthorization,
  routes: checkRoutes,
  responseMode: oneOf(['query', 'form_post']),
  transactions: checkTransactions,
  encryptionKeys: sealingKeys,
  afterLogin: ownPath('/'),
  afterLogout: ownPath('/'),
  idTokenHint: flag(true),
  keepFields: checkKeptFields,
  sessionClaims: names(['sub', 'name', 'preferred_username', 'email', 'picture']),
  visitorStatus: checkVisitorStatus,
  userinfo: flag(),
  onLogin: optional(fn('(tokens, claims, req) => { req.session.user = claims.sub }')),
  onFailure: optional(fn('(error) => logger.warn(error)')),
  pushedRequests: flag(true),
  requestObjectKey: unchecked,
  verifySignature: flag(true),
  allowedOrigins: checkedAllowedOrigins,
  regenerate: optional(fn('async (req) => { … }')),
  http: optional(checkHttp),
  configure: optional(fn('(configuration) => { enableDecryptingResponses(configuration, …) }')),
  timeoutMs: duration(10_000),
  property: propertyName('tokens'),
  sessionKey: sessionKey('login', 'tokens'),
} satisfies OptionTable<LoginOptions>

/** Maps names of options from express-openid-connect and others to sentences that tell the app what to write. */
const CURES = {
  afterCallback: 'Did you mean `onLogin`?',
  attemptSilentLogin: "Send prompt: 'none' with `authorization`, and handle `login_required` in `onFailure`.",
  auth0Logout: 'The logout uses the `end_session_endpoint` of the metadata. Leave it out.',
  authRequired: 'Guard routes with requireTokens({ loginPath }).',
  authorizationParams: 'Did you mean `authorization`?',
  baseURL: 'Did you mean `baseUrl`?',
  clientAuthMethod:
    'Use clientAuthentication: clientSecretBasic(secret), clientSecretPost(secret) or privateKeyJwt(key).',
  clientID: 'Did you mean `clientId`?',
  clientSecret: 'Use clientAuthentication: clientSecretBasic(secret).',
  idpLogout: 'It is always on. `idTokenHint: false` leaves out the ID token.',
  issuerBaseURL: 'Did you mean `issuer`?',
  pushedAuthorizationRequests: 'Did you mean `pushedRequests`?',
  redirectUri: 'It is `baseUrl` with `routes.callback`.',
  returnTo: 'It goes into the query of /login.',
  scope: "It is a parameter of the request: authorization: { scope: 'openid offline_access' }.",
  secret: 'Did you mean `encryptionKeys`?',
  session: 'The session is your own: mount express-session before login().',
}

/** The options of `login()` with their defaults. */
export type CheckedLoginOptions = Checked<LoginOptions<never>, typeof OPTIONS>

/** @throws `ConfigurationError` that says what to change */
export function checkLoginOptions(given: LoginOptions<never>): CheckedLoginOptions {
  return checkOptions(given as LoginOptions, OPTIONS, {
    of: 'login()',
    takes:
      'login() takes an object: login({ issuer, clientId, clientAuthentication, encryptionKeys, baseUrl })',
    mount: 'app.use(login({ … }))',
    cures: CURES,
  }) as unknown as CheckedLoginOptions
}

function route(fallback: string): Option<string | false> {
  return (value = fallback, name) => {
    if (value === false || (isOwnPath(value) && !/[?#]/.test(value))) return value
    throw new ConfigurationError(
      `\`routes.${name}\` must be a path such as '${fallback}', or false to leave it out.`,
    )
  }
}

function checkRoutes(value: unknown = {}): Required<LoginRoutes> & { readonly callback: string } {
  const routes = checkOptions(value as LoginRoutes, ROUTES, {
    of: '`routes`',
    takes: "`routes` must be an object of paths: routes: { login: '/login', session: false }",
  })
  const paths = Object.values(routes).filter((path) => path !== false)
  if (new Set(paths).size === paths.length) return routes as never
  throw new ConfigurationError('Two of the `routes` have the same path. Give each one its own.')
}

function ownPath(fallback: string): Option<string> {
  return (value = fallback, name) => {
    if (isOwnPath(value)) return value
    throw new ConfigurationError(`\`${name}\` must be a path of the app, e.g. ${name}: '/orders'.`)
  }
}

function isOwnPath(value: unknown): value is string {
  return typeof value === 'string' && returnPath(value, '') === value
}

const LOOPBACK = /^(localhost|127\.\d+\.\d+\.\d+|\[::1\])$/

/** Checks the URL of the app. Returns it without a slash at its end. */
function checkBaseUrl(value: unknown): string {
  const url = typeof value === 'string' && URL.canParse(value) ? new URL(value) : undefined
  const isSafe = url?.protocol === 'https:' || (url?.protocol === 'http:' && LOOPBACK.test(url.hostname))
  if (url && isSafe && url.username === '' && url.search === '' && url.hash === '') {
    return url.origin + url.pathname.replace(/\/$/, '')
  }
  throw new ConfigurationError(
    '`baseUrl` must be the https URL at which browsers reach the app, without a user name, a query and a fragment, e.g. baseUrl: ' +
      "'https://app.example.com'. Plain http is for the loopback interface alone: localhost, 127.0.0.1 and [::1].",
  )
}

/** Checks the option `authorization`. The result of a function is checked when the function is called. */
function checkAuthorization(value: unknown = {}): unknown {
  if (typeof value !== 'function') authorizationRequest(value as AuthorizationParameters)
  return value
}

function checkTransactions(value: unknown, name: string, all: Given): 'cookie' | 'session' {
  const place = oneOf(['cookie', 'session'])(value, name, all)
  if (place === 'cookie' && !all.encryptionKeys) {
    throw new ConfigurationError(
      'login() seals its cookies. Give it the `encryptionKeys` of sessionTokens(), made with openssl rand -base64 32; or ' +
        "transactions: 'session', which keeps logins that are under way in the session.",
    )
  }
  if (place === 'session' && all.responseMode === 'form_post') {
    throw new ConfigurationError(
      "responseMode: 'form_post' does not go with transactions: 'session'. A page of the authorization server sends the form, and browsers do not " +
        "send a session cookie with SameSite=Lax along. Use transactions: 'cookie'.",
    )
  }
  return place
}

function names(fallback: readonly string[]): Option<readonly string[]> {
  return (value = fallback, name) => {
    if (Array.isArray(value) && value.every((each) => typeof each === 'string')) return value
    throw new ConfigurationError(`\`${name}\` must be a list of names, e.g. ${name}: ['name'].`)
  }
}

function checkKeptFields(value: unknown, name: string, all: Given): readonly string[] {
  const fields = names([])(value, name, all)
  if (fields.length === 0 || !all.regenerate) return fields
  throw new ConfigurationError(
    '`keepFields` has no meaning with `regenerate`, which decides what the session keeps.',
  )
}

function checkVisitorStatus(value: unknown = 401): 200 | 401 {
  if (value === 200 || value === 401) return value
  throw new ConfigurationError('`visitorStatus` must be 401, or 200 for the body null.')
}

type Given = Parameters<Option>[2]
