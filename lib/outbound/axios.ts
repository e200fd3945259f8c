import {
  type AxiosAdapter,
  AxiosHeaders,
  type AxiosInstance,
  type AxiosResponse,
  default as axios,
  type CreateAxiosDefaults,
  type InternalAxiosRequestConfig,
} from 'axios'
import { ConfigurationError, TokenError } from '../errors.js'
import type { TokenNeed } from '../token-set.js'
import type { TokenSource } from '../token-source.js'

/** What axios takes, and which token goes where. */
export interface SessionAxiosConfig extends CreateAxiosDefaults {
  /** The API. The access token is sent to this origin. */
  baseURL: string
  /** Further origins that may see the access token, e.g. `['https://files.example.com']`. */
  allowedOrigins?: readonly string[]
  /** Which access token is sent. Default: the route's, see `requireTokens()`, else the one that the login brought. */
  need?: Omit<TokenNeed, 'rejected'>
}

/** The last step of a request: everything that axios and the app's interceptors do has been done. */
interface Call {
  readonly config: InternalAxiosRequestConfig
  readonly send: AxiosAdapter
  readonly source: TokenSource
  readonly need: TokenNeed
  readonly origins: ReadonlySet<string>
}

/**
 * An axios instance that sends the session's access token to the origins named and to no other.
 *
 * The token is put in at the last moment, below interceptors and retries, and taken out again of what they get to see:
 * neither `response.config` nor an error shows it.
 */
export function sessionAxios(source: TokenSource, config: SessionAxiosConfig): AxiosInstance {
  const { allowedOrigins = [], need = {}, ...defaults } = config
  const origins = new Set([config.baseURL, ...allowedOrigins].map(originOf))
  const instance = axios.create(defaults)
  const authorizing = new WeakSet<object>()
  // The first interceptor to be added runs last.
  instance.interceptors.request.use((config) => {
    if (typeof config.adapter === 'function' && authorizing.has(config.adapter)) return config
    const send = axios.getAdapter(config.adapter)
    config.adapter = (config) => authorizedCall({ config, send, source, need, origins })
    authorizing.add(config.adapter)
    return config
  })
  return instance
}

async function authorizedCall(call: Call): Promise<AxiosResponse> {
  requireNamedOrigin(call)
  const { token, tokenType } = await call.source.getAccessToken(call.need)
  requireBearer(tokenType)
  const first = await attempt(call, token)
  if (!('answer' in first) || first.answer.status !== 401 || !mayRepeat(call.config, first.answer))
    return settle(first)

  const next = await call.source.getAccessToken({ ...call.need, rejected: token })
  if (next.token === token) return settle(first)
  discard(first.answer)
  return settle(await attempt(call, next.token))
}

type Attempt = { readonly answer: AxiosResponse; readonly error?: unknown } | { readonly error: unknown }

/** Sends the request with a token. What comes back knows nothing of the token. */
async function attempt({ config, send, origins }: Call, token: string): Promise<Attempt> {
  const headers = AxiosHeaders.concat(config.headers).set('Authorization', `Bearer ${token}`)
  const { auth: _, ...rest } = config
  const authorized = { ...rest, headers, beforeRedirect: withholding(config, origins) }
  try {
    return { answer: cleaned(await send(authorized), config) }
  } catch (error) {
    if (!axios.isAxiosError(error)) return { error }
    cleaned(error, config)
    return error.response ? { answer: cleaned(error.response, config), error } : { error }
  }
}

function settle(attempt: Attempt): AxiosResponse {
  if ('error' in attempt) throw attempt.error
  return attempt.answer
}

/** Gives back the app's own config, and keeps the raw request, whose headers hold the token, out of logs. */
function cleaned<T extends { config?: unknown; request?: unknown }>(
  result: T,
  config: InternalAxiosRequestConfig,
): T {
  result.config = config
  Object.defineProperty(result, 'request', {
    value: result.request,
    enumerable: false,
    writable: true,
    configurable: true,
  })
  return result
}

/** On a redirect the token goes along only to an origin that was named (axios itself would send it to subdomains). */
function withholding(config: InternalAxiosRequestConfig, origins: ReadonlySet<string>) {
  return (...redirect: Parameters<NonNullable<InternalAxiosRequestConfig['beforeRedirect']>>): void => {
    config.beforeRedirect?.(...redirect)
    const [options] = redirect
    if (origins.has(originOf(String(options.href)))) return
    for (const name of Object.keys(options.headers)) {
      if (name.toLowerCase() === 'authorization') delete options.headers[name]
    }
  }
}

function requireNamedOrigin({ config, origins }: Call): void {
  const origin = originOf(axios.getUri(config))
  if (origins.has(origin)) return
  throw new TokenError(
    'ERR_ORIGIN_NOT_ALLOWED',
    `The access token must not be sent to ${origin}. Add it to allowedOrigins if that is wanted.`,
  )
}

function requireBearer(tokenType: string): void {
  if (tokenType.toLowerCase() === 'bearer') return
  throw new TokenError(
    'ERR_INVALID_TOKEN_RESPONSE',
    'The access token is not a bearer token, and axios() can send no other. Use getAccessToken() and send it yourself.',
  )
}

/** A refused token is worth another try, unless the API says that it is the token's scope, or the body is used up. */
function mayRepeat(config: InternalAxiosRequestConfig, answer: AxiosResponse): boolean {
  const challenge = String(answer.headers?.['www-authenticate'] ?? '')
  return !/error="?insufficient/.test(challenge) && !isStream(config.data)
}

function isStream(data: unknown): boolean {
  const { pipe, getReader } = (data ?? {}) as { pipe?: unknown; getReader?: unknown }
  return typeof pipe === 'function' || typeof getReader === 'function'
}

/** Frees the connection of an answer that nobody will read. */
function discard(answer: AxiosResponse): void {
  const data = answer.data as { destroy?: () => void } | undefined
  if (isStream(data) && typeof data?.destroy === 'function') data.destroy()
}

function originOf(url: string): string {
  try {
    const { origin } = new URL(url)
    if (origin !== 'null') return origin
  } catch {
    // Reported below.
  }
  throw new ConfigurationError(
    'baseURL and allowedOrigins must be absolute http or https URLs, e.g. baseURL: "https://api.example.com".',
  )
}
