import type { IncomingHttpHeaders } from 'node:http'
import { type ProblemDetails, problemDetails } from '../errors/problem-details.js'
import { ConfigurationError } from '../errors/token-error.js'
import { ownValue } from '../options/own-properties.js'

/** The properties of a request that say where it comes from and where it went: Node's, and those that Express adds. */
export interface ArrivedRequest {
  readonly method?: string | undefined
  readonly headers: IncomingHttpHeaders
  readonly rawHeaders: readonly string[]
  readonly socket: { readonly encrypted?: boolean; readonly remoteAddress?: string | undefined }
  readonly app?: { get?(name: string): unknown }
}

/** The properties of a request as the framework sees them, proxies in front included (`trust proxy`, `app.proxy`). */
export interface KnownOfRequest {
  readonly protocol?: string | undefined
  readonly host?: string | undefined
}

const SAFE_METHODS: ReadonlySet<string> = new Set(['GET', 'HEAD', 'OPTIONS'])

/**
 * Returns the response to a request that may change something and that a page of another origin has sent, else nothing. It asks
 * `Sec-Fetch-Site` first, which every browser since 2023 sends over https and to localhost, else compares `Origin` with the host
 * that the request is for. A request with neither is from no browser, or from this site.
 *
 * GET, HEAD and OPTIONS change nothing and pass (RFC 9110 §9.2.1); a request for a WebSocket does not count as one of them.
 */
export function crossOriginRefusal(
  request: ArrivedRequest,
  known: KnownOfRequest,
  allowedOrigins: ReadonlySet<string>,
): ProblemDetails | undefined {
  const { headers, method = 'GET' } = request
  if (SAFE_METHODS.has(method) && !asksForWebSocket(headers)) return undefined
  const origin = headerOf(headers, 'origin') ?? ''
  const site = headerOf(headers, 'sec-fetch-site') ?? ''
  if (site === 'same-origin' || site === 'none' || allowedOrigins.has(origin)) return undefined
  if (site === '' && (origin === '' || isOfThisSite(origin, request, known))) return undefined
  return problemDetails(
    403,
    'Forbidden',
    'A page of another origin has sent this request. If it may, name its origin in `allowedOrigins`.',
    { error: 'cross_origin_request' },
  )
}

/** Whether a request is for a WebSocket, which browsers let every page open, with this site's cookies. */
export function asksForWebSocket(headers: IncomingHttpHeaders): boolean {
  return headerOf(headers, 'upgrade')?.toLowerCase() === 'websocket'
}

/** Returns a header of the request itself. Node's headers inherit from `Object.prototype`. */
function headerOf(headers: IncomingHttpHeaders, name: string): string | undefined {
  return ownValue(headers, name) as string | undefined
}

/**
 * Checks the option `allowedOrigins`. Default: no origin.
 *
 * @throws `ConfigurationError` unless it is an array of http or https origins, as browsers write them
 */
export function checkedAllowedOrigins(value: unknown = []): ReadonlySet<string> {
  const origins: unknown[] = Array.isArray(value) ? [...value] : [value]
  if (Array.isArray(value) && origins.every(isOrigin)) return new Set(origins)
  throw new ConfigurationError(
    "`allowedOrigins` must be an array of origins, with no slash at the end, e.g. allowedOrigins: ['https://app.example.com'].",
  )
}

function isOrigin(value: unknown): value is string {
  if (typeof value !== 'string' || !URL.canParse(value)) return false
  const { origin, protocol } = new URL(value)
  return origin === value && (protocol === 'https:' || protocol === 'http:') && !value.includes('*')
}

/**
 * Whether an origin has the host that the request is for. If the request is known to have come over https, the origin must have
 * https. A request over http may come from a page of https, too: a proxy in front may have ended the TLS without the framework's
 * knowledge.
 */
function isOfThisSite(origin: string, request: ArrivedRequest, known: KnownOfRequest): boolean {
  if (!isOrigin(origin) || hasSeveralHosts(request)) return false
  const { protocol, host } = new URL(origin)
  if (protocol === 'http:' && isHttps(request, known)) return false
  const asked = hostOf(protocol, namedHost(request.headers))
  // A text that is no host is not read as one: frameworks read it differently.
  if (asked === undefined) return false
  return [asked, hostOf(protocol, known.host), hostOf(protocol, forwardedHost(request))].includes(host)
}

function isHttps({ socket }: ArrivedRequest, { protocol }: KnownOfRequest): boolean {
  return protocol === undefined ? socket.encrypted === true : protocol === 'https'
}

/** Whether a request has several `Host` headers. Proxies and servers differ in which of them they use (RFC 9112 §3.2). */
function hasSeveralHosts({ rawHeaders }: ArrivedRequest): boolean {
  const names = rawHeaders.filter((_, at) => at % 2 === 0)
  return names.filter((name) => name.toLowerCase() === 'host').length > 1
}

/** Returns the host that a request names. HTTP/2 has it in the pseudo-header `:authority`. */
function namedHost(headers: IncomingHttpHeaders): string | undefined {
  return headerOf(headers, ':authority') ?? headerOf(headers, 'host')
}

/**
 * Returns the host that the browser has asked for, of a request of Express: `X-Forwarded-Host` of a trusted proxy, else the
 * request's own host.
 */
export function hostAskedFor(request: ArrivedRequest): string | undefined {
  return forwardedHost(request) || namedHost(request.headers)
}

/**
 * Returns the host in `X-Forwarded-Host` if Express trusts the proxy in front (`trust proxy`). The header is read here, since
 * `hostname` of Express 4 leaves out the port.
 */
function forwardedHost({ app, headers, socket }: ArrivedRequest): string | undefined {
  const trusts = app?.get?.('trust proxy fn')
  if (typeof trusts !== 'function' || !trusts(socket.remoteAddress, 0)) return undefined
  return headerOf(headers, 'x-forwarded-host')?.split(',', 1)[0]?.trim()
}

/** Returns a host as a URL has it, without the default port of the scheme; `undefined` for a text that is no host. */
function hostOf(protocol: string, host = ''): string | undefined {
  const url = `${protocol}//${host.trim()}`
  return /^[\w.:[\]-]+$/.test(host.trim()) && URL.canParse(url) ? new URL(url).host : undefined
}
