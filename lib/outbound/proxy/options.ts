import { Agent as HttpAgent } from 'node:http'
import { checkedAllowedOrigins } from '../../cross-origin.js'
import { ConfigurationError } from '../../errors.js'
import { ownOptions } from '../../own-options.js'
import { checkedNeed } from '../../token-need.js'
import type { TokenNeed } from '../../token-set.js'
import { refuseRequest } from '../../uncalled.js'
import { namedOrigins } from '../origins.js'
import type { Replay } from '../outbound-options.js'
import { isHopByHop, normalForm } from './header-names.js'
import { type PathRules, rewriteOf } from './path.js'

/** Rewrites a path with its query before it is appended to the target's. */
export type PathRewrite =
  | Readonly<Record<string, string>>
  | ((path: string, request: object) => string | null | undefined | Promise<string | null | undefined>)

/** What is told of each request: its method, its URL without the query, and the status code or the error's. */
export type ProxyLogger = Pick<Console, 'info' | 'warn' | 'error'>

/** Where a proxied route leads to, with which token, and what becomes of the request on its way. */
export interface BearerProxyOptions {
  /**
   * The API: an absolute http or https URL, e.g. `'https://api.example.com/orders'`. Paths below the mount are appended to
   * its path and never lead out of it. The access token is sent to this origin and to no other.
   */
  target: string
  /** Which access token is sent. Default: the route's, see `requireTokens()`, else the one that the login brought. */
  need?: Omit<TokenNeed, 'rejected'>
  /**
   * Which requests are sent again, once, when the API refuses the token: all whose body can be, those with an idempotent
   * method (RFC 9110 §9.2.2), or none. Whatever is chosen, the next request has another token. Default: `'always'`.
   */
  replay?: Replay
  /**
   * How many bytes of a request's body are kept so that it can be sent again. Larger bodies stream through and are sent
   * once. Default: 65536.
   */
  maxReplayBytes?: number
  /**
   * Origins whose pages may send requests that change something (all but GET, HEAD and OPTIONS), and open WebSockets,
   * besides those of this site: `['https://app.example.com']`. Those of all others get 403. Default: none.
   */
  allowedOrigins?: readonly string[]
  /** The `property` of the `sessionTokens()` in question. Default: `'tokens'`. */
  property?: string
  /**
   * Regular expressions and what they are replaced by, of which the first that matches counts, or a function of the path
   * and its query, which may take its time. A function that returns `undefined` or `null` leaves the path as it is; anything
   * else than a string is a `ConfigurationError`. What comes of it is checked as the request's own path is. Default: the
   * path stays as the framework's router has left it.
   */
  pathRewrite?: PathRewrite
  /**
   * What becomes of a path with an encoded slash or backslash (`%2F`, `%5C`), which some servers read as a separator:
   * `'refuse'` responds with 400, `'pass'` sends it as it is, for an API with such identifiers. Dot segments that are made
   * with them are refused in any case. Default: `'refuse'`.
   */
  encodedSeparators?: 'refuse' | 'pass'
  /** Headers for the API besides those of the request, or in their place. */
  headers?: Readonly<Record<string, string>>
  /**
   * Headers of the request that the API does not get, besides those it never gets: e.g. your own CSRF header. Every
   * spelling of a name is withheld: `X-Mine`, `X_Mine`.
   */
  withhold?: readonly string[]
  /**
   * Tells the API in `X-Forwarded-For`, `-Host` and `-Proto` who asks whom, as the framework sees it (`trust proxy`,
   * `app.proxy`). What the request says itself in these headers is withheld in any case. Default: `false`.
   */
  xfwd?: boolean
  /**
   * Makes the connections, bounds their number, or holds a CA and a client certificate:
   * `new https.Agent({ keepAlive: true, maxSockets: 100, ca })`. Default: an agent that all proxies share, which keeps
   * connections for 4 seconds, any number of them in use and 256 idle ones for each API.
   */
  agent?: HttpAgent
  /**
   * For how many milliseconds the API may be silent before its answer begins; the browser gets 504 then. An answer that has
   * begun may take any time. Default: 60000; 24 hours at most; 0 waits for ever.
   */
  proxyTimeout?: number
  /** Takes a line for each request to the API: `info` for a response, `error` where there is none. Default: nothing is logged. */
  logger?: ProxyLogger
}

/** The options of a proxy once they have been checked. */
export interface CheckedProxyOptions {
  readonly target: URL
  readonly path: PathRules
  readonly need: TokenNeed
  readonly replay: Replay
  readonly maxReplayBytes: number
  readonly allowedOrigins: ReadonlySet<string>
  readonly property: string
  readonly headers: Readonly<Record<string, string>>
  /** In their normal form: what is withheld, and what `headers` says in place of the request. */
  readonly withhold: readonly string[]
  readonly xfwd: boolean
  readonly agent: HttpAgent | undefined
  readonly proxyTimeout: number
  readonly logger: ProxyLogger | undefined
}

const OPTIONS = [
  'target',
  'need',
  'replay',
  'maxReplayBytes',
  'allowedOrigins',
  'property',
  'pathRewrite',
  'encodedSeparators',
  'headers',
  'withhold',
  'xfwd',
  'agent',
  'proxyTimeout',
  'logger',
] as const satisfies readonly (keyof BearerProxyOptions)[]

const ONE_TARGET = 'The token goes to the origin of `target` alone. Mount a bearerProxy() for each API.'
const DECIDED = 'bearerProxy() sees to it itself; leave it out.'

/** What people are used to from http-proxy-middleware and elsewhere. */
const ELSEWHERE: Readonly<Record<string, string>> = {
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
  user: 'Whose token goes along is the matter of the guard in front: requireTokens({ user }).',
  ws: "For WebSockets: server.on('upgrade', upgradesThrough(app)).",
}

const DAY_MS = 24 * 60 * 60 * 1000
const REPLAYS: readonly unknown[] = ['always', 'idempotent', 'never'] satisfies Replay[]
const HEADER_NAME = /^[\w!#$%&'*+.^`|~-]+$/
/** Headers of the request to the API that are ours to set. */
const OWN_HEADERS: readonly string[] = ['authorization', 'host', 'content-length', 'expect', 'cookie']

/** @throws `ConfigurationError` when an option is wrong; the message holds the cure */
export function checkedProxyOptions(given: BearerProxyOptions): CheckedProxyOptions {
  if (typeof given !== 'object' || given === null) {
    throw new ConfigurationError(
      "bearerProxy() takes an object that names the API: bearerProxy({ target: 'https://api.example.com' }).",
    )
  }
  refuseRequest(given, "app.use('/api/orders', bearerProxy({ target }))")
  const options = ownOptions(given, OPTIONS, 'bearerProxy()', ELSEWHERE)
  const {
    target,
    need = {},
    replay = 'always',
    property = 'tokens',
    pathRewrite,
    logger,
    xfwd = false,
  } = options
  const {
    agent,
    allowedOrigins,
    encodedSeparators = 'refuse',
    headers = {},
    maxReplayBytes = 65_536,
    proxyTimeout = 60_000,
    withhold = [],
  } = options
  if (!REPLAYS.includes(replay)) {
    throw new ConfigurationError("`replay` must be 'always', 'idempotent' or 'never', or left out.")
  }
  requireCount(maxReplayBytes, 'maxReplayBytes', 65_536)
  requireCount(proxyTimeout, 'proxyTimeout', 60_000)
  if (proxyTimeout > DAY_MS) throw new ConfigurationError('`proxyTimeout` must be 24 hours at most, or 0.')
  if (typeof property !== 'string' || property === '') {
    throw new ConfigurationError("`property` must be a name, e.g. property: 'tokens'.")
  }
  if (typeof xfwd !== 'boolean') throw new ConfigurationError('`xfwd` must be true or false, or left out.')
  if (agent !== undefined && !(agent instanceof HttpAgent)) {
    throw new ConfigurationError(
      '`agent` must be an agent, e.g. agent: new https.Agent({ keepAlive: true }).',
    )
  }
  checkRewrite(pathRewrite)
  if (encodedSeparators !== 'refuse' && encodedSeparators !== 'pass') {
    throw new ConfigurationError("`encodedSeparators` must be 'refuse' or 'pass', or left out.")
  }
  checkHeaders(headers)
  checkNames(withhold)
  checkLogger(logger)
  const url = checkedTarget(target)
  return {
    target: url,
    path: { target: url, rewrite: rewriteOf(pathRewrite), encodedSeparators },
    need: checkedNeed(need),
    replay,
    maxReplayBytes,
    allowedOrigins: checkedAllowedOrigins(allowedOrigins),
    property,
    headers: lowerCased(headers),
    withhold: [...withhold, ...Object.keys(headers)].map(normalForm),
    xfwd,
    agent,
    proxyTimeout,
    logger,
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

function requireCount(value: unknown, name: string, example: number): void {
  if (Number.isSafeInteger(value) && (value as number) >= 0) return
  throw new ConfigurationError(`\`${name}\` must be a whole number from 0, e.g. ${name}: ${example}.`)
}

function checkRewrite(rewrite: unknown): void {
  if (rewrite === undefined || typeof rewrite === 'function') return
  const isTable = typeof rewrite === 'object' && rewrite !== null && !Array.isArray(rewrite)
  const entries = isTable ? Object.entries(rewrite) : [['(', '']]
  for (const [pattern, replacement] of entries) {
    if (typeof replacement === 'string' && isPattern(pattern)) continue
    throw new ConfigurationError(
      "`pathRewrite` must be a function, or hold regular expressions: pathRewrite: { '^/api/orders': '/orders' }.",
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

function checkHeaders(headers: unknown): void {
  if (typeof headers !== 'object' || headers === null || Array.isArray(headers)) {
    throw new ConfigurationError("`headers` must be an object, e.g. headers: { 'x-api-version': '2' }.")
  }
  for (const [name, value] of Object.entries(headers)) {
    if (!HEADER_NAME.test(name) || typeof value !== 'string' || /[^\t\x20-\x7e\x80-\xff]/.test(value)) {
      throw new ConfigurationError(
        `\`headers\` must hold texts that can be sent, unlike that of \`${name}\`.`,
      )
    }
    if (OWN_HEADERS.includes(normalForm(name)) || isHopByHop(name)) {
      throw new ConfigurationError(
        `\`headers\` must not hold \`${name}\`, which bearerProxy() sees to itself.`,
      )
    }
  }
}

function lowerCased(headers: Readonly<Record<string, string>>): Readonly<Record<string, string>> {
  return Object.fromEntries(Object.entries(headers).map(([name, value]) => [name.toLowerCase(), value]))
}

function checkNames(names: unknown): void {
  const isList =
    Array.isArray(names) && names.every((name) => typeof name === 'string' && HEADER_NAME.test(name))
  if (isList) return
  throw new ConfigurationError(
    "`withhold` must be an array of header names, e.g. withhold: ['x-my-csrf-token'].",
  )
}

function checkLogger(logger: unknown): void {
  if (logger === undefined) return
  const { info, warn, error } = (logger ?? {}) as Record<string, unknown>
  if ([info, warn, error].every((method) => typeof method === 'function')) return
  throw new ConfigurationError('`logger` must have the methods info, warn and error, e.g. logger: console.')
}
