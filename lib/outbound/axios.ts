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
import { cleanAnswer, cleanError, discard, isStream, validated } from './answers.js'
import { requireWanted, whileWanted } from './cancellation.js'
import { followRedirects } from './redirects.js'

/** What axios takes, and which token goes where. */
export interface SessionAxiosConfig extends CreateAxiosDefaults {
  /** The API. The access token is sent to this origin. */
  baseURL: string
  /** Further origins that may see the access token, e.g. `['https://files.example.com']`. */
  allowedOrigins?: readonly string[]
  /** Which access token is sent. Default: the route's, see `requireTokens()`, else the one that the login brought. */
  need?: Omit<TokenNeed, 'rejected'>
  /** How many redirects are followed. Default: 5; none with 0. The token goes along to the origins named alone. */
  maxRedirects?: number
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
  if (!Array.isArray(allowedOrigins)) {
    throw new ConfigurationError(
      "`allowedOrigins` must be an array of origins, e.g. allowedOrigins: ['https://files.example.com'].",
    )
  }
  const origins = new Set([config.baseURL, ...allowedOrigins].map(configuredOrigin))
  requireNoCredentials(config.baseURL)
  const instance = axios.create(defaults)
  // The first interceptor to be added runs last.
  instance.interceptors.request.use((config) => {
    const own = adapterOf(config)
    const send = axios.getAdapter(own, config)
    config.adapter = (config) => authorizedCall({ config, send, source, need, origins })
    ownAdapters.set(config.adapter, own)
    return config
  })
  return instance
}

type Adapter = InternalAxiosRequestConfig['adapter']

/** The app's adapters below ours, which stay in a config that is sent again, and perhaps for another user then. */
const ownAdapters = new WeakMap<object, Adapter>()

/** The adapter that the app wants its request to be sent with. */
function adapterOf({ adapter }: InternalAxiosRequestConfig): Adapter {
  return typeof adapter === 'function' && ownAdapters.has(adapter) ? ownAdapters.get(adapter) : adapter
}

async function authorizedCall(call: Call): Promise<AxiosResponse> {
  const { config, source, need } = call
  const url = requireNamedOrigin(call)
  const bodyIsUsedUp = isStream(config.data)
  const { token, tokenType } = await whileWanted(source.getAccessToken(need), config)
  requireBearer(tokenType)
  const first = await attempt(call, url, token)
  if (!first.refused || bodyIsUsedUp) return settle(first)

  const next = await anotherToken(call, first.refused, token)
  if (next === token) return settle(first)
  discard(first.refused)
  return settle(await attempt(call, url, next))
}

/** A token in place of the one that was refused. Without one, nobody gets to see the answer that refused it. */
async function anotherToken({ config, source, need }: Call, refused: AxiosResponse, rejected: string) {
  try {
    return (await whileWanted(source.getAccessToken({ ...need, rejected }), config)).token
  } catch (error) {
    discard(refused)
    throw error
  }
}

/** What came of a request, and the answer that refuses the token, if one does. */
interface Attempt {
  readonly outcome: { readonly answer: AxiosResponse } | { readonly error: unknown }
  readonly refused?: AxiosResponse | undefined
}

/** Sends the request with a token. What comes back knows nothing of the token. */
async function attempt(call: Call, start: string, token: string): Promise<Attempt> {
  const { config, send, origins } = call
  const request = { ...config }
  // Its pipes lead to the request that holds the token, and it cannot be sent again.
  if (isStream(config.data)) delete config.data
  let answer: AxiosResponse | undefined
  let url = start
  try {
    if (send === axios.getAdapter('http') && !config.transport) {
      const arrival = await followRedirects(request, start, (hop, url) => sendOne(call, hop, url, token))
      answer = arrival.answer
      url = arrival.url
      return { outcome: { answer: validated(answer) }, refused: refusal(answer, url, origins) }
    }
    const authorized = authorize(request, token)
    answer = await send({ ...authorized, beforeRedirect: withholding(config, origins) })
    cleanAnswer(answer, config, url)
    return { outcome: { answer }, refused: refusal(answer, url, origins) }
  } catch (error) {
    const shown = cleanError(error, config, url)
    const refused = answer ?? (axios.isAxiosError(shown) ? shown.response : undefined)
    return { outcome: { error: shown }, refused: refused && refusal(refused, url, origins) }
  }
}

/** Sends one request of those that redirects make of a call, with the token if its origin is one that was named. */
async function sendOne(
  { config, send, origins }: Call,
  hop: InternalAxiosRequestConfig,
  url: string,
  token: string,
): Promise<AxiosResponse> {
  requireWanted(config)
  const authorized = authorize(hop, origins.has(new URL(url).origin) ? token : undefined)
  try {
    const answer = await send({ ...authorized, maxRedirects: 0, validateStatus: null })
    return cleanAnswer(answer, config, url)
  } catch (error) {
    throw cleanError(error, config, url)
  }
}

/** Only the token authorizes a request: `auth` and an Authorization header of the app would displace it. */
function authorize(
  { auth: _, ...config }: InternalAxiosRequestConfig,
  token: string | undefined,
): InternalAxiosRequestConfig {
  const headers = AxiosHeaders.concat(config.headers)
  headers.delete('Authorization')
  if (token !== undefined) headers.set('Authorization', `Bearer ${token}`)
  return { ...config, headers }
}

function settle({ outcome }: Attempt): AxiosResponse {
  if ('error' in outcome) throw outcome.error
  return outcome.answer
}

/** On a redirect the token goes along only to an origin that was named (axios itself would send it to subdomains). */
function withholding(config: InternalAxiosRequestConfig, origins: ReadonlySet<string>) {
  return (...redirect: Parameters<NonNullable<InternalAxiosRequestConfig['beforeRedirect']>>): void => {
    config.beforeRedirect?.(...redirect)
    const [options] = redirect
    if (origins.has(originOf(String(options.href)) ?? '')) return
    for (const name of Object.keys(options.headers)) {
      if (name.toLowerCase() === 'authorization') delete options.headers[name]
    }
  }
}

/** The request's URL, when its origin may see the token. */
function requireNamedOrigin({ config, origins }: Call): string {
  const url = axios.getUri(config)
  const origin = originOf(url)
  if (origin === undefined) {
    throw new ConfigurationError(
      'The URL of the request is not an absolute http or https URL once url is appended to baseURL. Check its url.',
    )
  }
  if (!origins.has(origin)) {
    throw new TokenError(
      'ERR_ORIGIN_NOT_ALLOWED',
      `The access token must not be sent to ${origin}. Add it to allowedOrigins if that is wanted.`,
    )
  }
  requireNoCredentials(url)
  return url
}

function requireNoCredentials(url: string): void {
  const { username, password } = new URL(url)
  if (username === '' && password === '') return
  throw new ConfigurationError(
    'The URL holds a user name or a password, which would be sent in place of the access token. Leave them out.',
  )
}

function requireBearer(tokenType: string): void {
  if (tokenType.toLowerCase() === 'bearer') return
  throw new TokenError(
    'ERR_INVALID_TOKEN_RESPONSE',
    'The access token is not a bearer token, and axios() can send no other. Use getAccessToken() and send it yourself.',
  )
}

/**
 * The answer, if it refuses the token.
 *
 * It does not if its origin never saw the token, or if the API says that what is wrong is the token's scope.
 */
function refusal(
  answer: AxiosResponse,
  url: string,
  origins: ReadonlySet<string>,
): AxiosResponse | undefined {
  if (answer.status !== 401 || !origins.has(new URL(url).origin)) return undefined
  const challenge = String(answer.headers?.['www-authenticate'] ?? '')
  return /(^|[\s,])error\s*=\s*"?insufficient_/i.test(challenge) ? undefined : answer
}

function configuredOrigin(url: unknown): string {
  const origin = typeof url === 'string' ? originOf(url) : undefined
  if (origin !== undefined) return origin
  throw new ConfigurationError(
    'baseURL and allowedOrigins must be absolute http or https URLs, e.g. baseURL: "https://api.example.com".',
  )
}

/** The origin of an absolute http or https URL. */
function originOf(url: string): string | undefined {
  if (!URL.canParse(url)) return undefined
  const { origin, protocol } = new URL(url)
  return /^https?:$/.test(protocol) ? origin : undefined
}
