import { Agent as HttpAgent } from 'node:http'
import { ConfigurationError } from '../errors/token-error.js'
import {
  checkedBy,
  count,
  DAY_MS,
  flag,
  instanceOf,
  oneOf,
  optional,
  propertyName,
} from '../options/option-kinds.js'
import { type Checked, checkOptions, type OptionTable } from '../options/option-table.js'
import { checkedAllowedOrigins } from '../outbound/cross-origin.js'
import { namedOrigins, requireHttps } from '../outbound/origins.js'
import { needOption, type Replay, replayOption } from '../outbound/outbound-options.js'
import type { TokenNeed } from '../tokens/token-need.js'
import { isHopByHop, normalForm } from './header-names.js'
import { type PathRules, rewriteOf } from './path.js'

/** Rewrites a path with its query before it is appended to the target's. */
export type PathRewrite =
  | Readonly<Record<string, string>>
  | ((path: string, request: object) => string | null | undefined | Promise<string | null | undefined>)

/** Logs each request: its method, its URL without the query, and the status, or the code of the error. */
export type ProxyLogger = Pick<Console, 'info' | 'warn' | 'error'>

/** The API that a proxied route leads to, the token, and how the request is changed on its way. */
export interface BearerProxyOptions {
  /**
   * The API: an absolute http or https URL, e.g. `'https://api.example.com/orders'`. Paths below the mount are appended to
   * its path and never lead out of it. The access token is sent to this origin and to no other.
   */
  target: string
  /** The access token to send. Default: the one that the route needs, see `requireTokens()`; otherwise the one from the login. */
  need?: Omit<TokenNeed, 'rejected'>
  /**
   * Which requests are replayed, once, when the API rejects the token: all whose body can be sent again (`'always'`), those with
   * an idempotent method (RFC 9110 §9.2.2), or none. In each case the next request has a new token. Default: `'always'`.
   */
  replay?: Replay
  /**
   * How many bytes of a request's body are kept for a replay. Larger bodies stream through and are sent once. Default: 65536.
   */
  maxReplayBytes?: number
  /**
   * Origins whose pages may send requests that change something (all but GET, HEAD and OPTIONS), and open WebSockets,
   * besides those of this site: `['https://app.example.com']`. Pages of other origins get 403. Default: none.
   */
  allowedOrigins?: readonly string[]
  /** The `property` of `sessionTokens()`. Default: `'tokens'`. */
  property?: string
  /**
   * Rewrites the path. Either regular expressions with their replacements, of which the first that matches counts, or a
   * function of the path and its query, which may return a promise. A function that returns `undefined` or `null` keeps the
   * path; any other result than a string is a `ConfigurationError`. The result is checked like the request's own path.
   * Default: the path stays as the framework's router has left it.
   */
  pathRewrite?: PathRewrite
  /**
   * How to treat a path with an encoded slash or backslash (`%2F`, `%5C`), which some servers read as a separator. `'refuse'`
   * responds with 400. `'pass'` sends the path unchanged, for an API with such identifiers. Dot segments that are made with
   * them are always refused. Default: `'refuse'`.
   */
  encodedSeparators?: 'refuse' | 'pass'
  /** Headers for the API besides those of the request, or in their place. */
  headers?: Readonly<Record<string, string>>
  /**
   * Names of further request headers that the API must not get, e.g. your own CSRF header. Every spelling of a name is withheld:
   * `X-Mine`, `X_Mine`.
   */
  withhold?: readonly string[]
  /**
   * Sends `X-Forwarded-For`, `-Host` and `-Proto` to the API, with the client, the host and the scheme that the framework
   * trusts (`trust proxy`, `app.proxy`). The request's own values of these headers are always withheld. Default: `false`.
   */
  xfwd?: boolean
  /**
   * The agent for the connections to the API. Give an agent of your own to limit their number, or for a CA or a client
   * certificate: `new https.Agent({ keepAlive: true, maxSockets: 100, ca })`. Default: an agent that all proxies share. It keeps
   * up to 256 idle connections for each API, for 4 seconds. The number of connections in use has no limit.
   */
  agent?: HttpAgent
  /**
   * Whether the connections have the client certificate of `tlsClientAuth()` or `selfSignedTlsClientAuth()`, for an API whose tokens
   * are bound to it (RFC 8705 §3). Default: `false`.
   */
  clientCertificate?: boolean
  /**
   * How long the API may be silent before its response begins, in milliseconds. After that the browser gets 504. A response
   * that has begun may take any time. Default: 60000; 24 hours at most; 0 sets no limit.
   */
  proxyTimeout?: number
  /**
   * Whether open WebSockets and event streams (`text/event-stream`) are closed when the login ends, anywhere. The browser's
   * next attempt gets 401. Default: `true`.
   */
  endWithLogin?: boolean
  /** Gets a line for each request to the API: `info` for a response, `error` if there is none. Default: nothing is logged. */
  logger?: ProxyLogger
}

const ONE_TARGET = 'The token goes to the origin of `target` alone. Mount a bearerProxy() for each API.'
const DECIDED = 'bearerProxy() handles it; leave it out.'

/** Maps names of options from http-proxy-middleware and others to sentences that tell the app what to write. */
const CURES = {
  auth: 'The access token authorizes the request; leave it out.',
  autoRewrite: 'A redirect is passed on as it is. Rewrite its Location in a middleware in front.',
  changeOrigin: 'It is always on.',
  origin: 'Did you mean `allowedOrigins`?',
  origins: 'Did you mean `allowedOrigins`?',
  cookieDomainRewrite: "The API's cookies never reach the browser; leave it out.",
  cookiePathRewrite: "The API's cookies never reach the browser; leave it out.",
  ejectPlugins: DECIDED,
  followRedirects: 'Redirects are passed on to the browser, so that the token goes nowhere else.',
  forward: ONE_TARGET,
  on: 'Its events would show the token. Use `headers`, `pathRewrite` and `logger`, or a middleware in front.',
  pathFilter: "Mount it on a path instead: app.use('/api/orders', bearerProxy({ target })).",
  plugins: DECIDED,
  router: ONE_TARGET,
  scope: 'Did you mean `need: { scope }`?',
  secure: 'Certificates are always checked. Trust one of your own with `agent: new https.Agent({ ca })`.',
  selfHandleResponse: DECIDED,
  timeout: 'Did you mean `proxyTimeout`?',
  url: 'Did you mean `target`?',
  user: 'The guard before the proxy decides on the token: requireTokens({ user }).',
  ws: "For WebSockets: server.on('upgrade', upgradesThrough(app)).",
}

const HEADER_NAME = /^[\w!#$%&'*+.^`|~-]+$/
/** Headers of the request to the API that bearerProxy() itself sets. */
const OWN_HEADERS: readonly string[] = ['authorization', 'dpop', 'host', 'content-length', 'expect', 'cookie']

const OPTIONS = {
  target: checkedTarget,
  need: needOption,
  replay: replayOption,
  maxReplayBytes: count(65_536),
  allowedOrigins: checkedAllowedOrigins,
  property: propertyName('tokens'),
  pathRewrite: optional(checkedBy(checkRewrite)),
  encodedSeparators: oneOf(['refuse', 'pass']),
  headers: checkedHeaders,
  withhold: checkedNames,
  xfwd: flag(),
  agent: optional(instanceOf(HttpAgent, 'an agent, e.g. agent: new https.Agent({ keepAlive: true })')),
  clientCertificate: flag(),
  proxyTimeout: count(60_000, { most: DAY_MS, of: 'milliseconds' }),
  endWithLogin: flag(true),
  logger: optional(checkedBy(checkLogger)),
} satisfies OptionTable<BearerProxyOptions>

const USAGE = {
  of: 'bearerProxy()',
  takes:
    "bearerProxy() takes an object that names the API: bearerProxy({ target: 'https://api.example.com' })",
  mount: "app.use('/api/orders', bearerProxy({ target }))",
  cures: CURES,
}

/** The options of a proxy once they have been checked. */
export interface CheckedProxyOptions
  extends Omit<Checked<BearerProxyOptions, typeof OPTIONS>, 'pathRewrite' | 'encodedSeparators'> {
  readonly path: PathRules
}

/**
 * Checks the options of a proxy. Returns them with their defaults.
 *
 * @throws `ConfigurationError` when an option is wrong; the message holds the cure
 */
export function checkedProxyOptions(given: BearerProxyOptions): CheckedProxyOptions {
  const { pathRewrite, encodedSeparators, ...options } = checkOptions(given, OPTIONS, USAGE)
  const { clientCertificate, target, headers } = options
  if (clientCertificate) requireHttps([target.origin])
  return {
    ...options,
    path: { target, rewrite: rewriteOf(pathRewrite), encodedSeparators },
    // In their normal form: what the request may not say, since `headers` says it in its place.
    withhold: [...options.withhold, ...Object.keys(headers)].map(normalForm),
  }
}

function checkedTarget(target: unknown): URL {
  if (typeof target !== 'string' || !URL.canParse(target) || !/^https?:$/.test(new URL(target).protocol)) {
    throw new ConfigurationError(
      "`target` must be an absolute http or https URL, e.g. target: 'https://api.example.com/orders'.",
    )
  }
  namedOrigins(target)
  const url = new URL(target)
  if (url.search === '' && url.hash === '') return url
  throw new ConfigurationError('`target` must have no query and no fragment. Add a query with `pathRewrite`.')
}

function checkRewrite(rewrite: unknown): void {
  if (typeof rewrite === 'function') return
  const isTable = typeof rewrite === 'object' && rewrite !== null && !Array.isArray(rewrite)
  const entries = isTable ? Object.entries(rewrite) : [['(', '']]
  for (const [pattern, replacement] of entries) {
    if (typeof replacement === 'string' && isPattern(pattern)) continue
    throw new ConfigurationError(
      '`pathRewrite` must be a function, or an object whose keys are regular expressions as strings and whose values are replacement ' +
        "strings: pathRewrite: { '^/api/orders': '/orders' }.",
    )
  }
}

function isPattern(pattern: string): boolean {
  try {
    return Boolean(new RegExp(pattern))
  } catch {
    return false
  }
}

/** Checks the headers. Returns them with their names in lower case. */
function checkedHeaders(headers: unknown = {}): Readonly<Record<string, string>> {
  if (typeof headers !== 'object' || headers === null || Array.isArray(headers)) {
    throw new ConfigurationError("`headers` must be an object, e.g. headers: { 'x-api-version': '2' }.")
  }
  for (const [name, value] of Object.entries(headers)) {
    if (!HEADER_NAME.test(name)) {
      throw new ConfigurationError(
        `\`headers\`: \`${name}\` is no name of a header. Use letters, digits and hyphens, e.g. 'x-api-version'.`,
      )
    }
    if (typeof value !== 'string' || /[^\t\x20-\x7e\x80-\xff]/.test(value)) {
      throw new ConfigurationError(
        `\`headers\`: the value of \`${name}\` must be a string, of characters that a header can hold. Encode all others, e.g. ` +
          'with encodeURIComponent().',
      )
    }
    if (OWN_HEADERS.includes(normalForm(name)) || isHopByHop(name)) {
      throw new ConfigurationError(`\`headers\` must not hold \`${name}\`, which bearerProxy() sets itself.`)
    }
  }
  return Object.fromEntries(Object.entries(headers).map(([name, value]) => [name.toLowerCase(), value]))
}

function checkedNames(names: unknown = []): readonly string[] {
  const isList =
    Array.isArray(names) && names.every((name) => typeof name === 'string' && HEADER_NAME.test(name))
  if (isList) return names
  throw new ConfigurationError(
    "`withhold` must be an array of the names of request headers that the API must not get, e.g. withhold: ['x-my-csrf-token'].",
  )
}

function checkLogger(logger: unknown): void {
  const { info, warn, error } = (logger ?? {}) as Record<string, unknown>
  if ([info, warn, error].every((method) => typeof method === 'function')) return
  throw new ConfigurationError('`logger` must have the methods info, warn and error, e.g. logger: console.')
}
