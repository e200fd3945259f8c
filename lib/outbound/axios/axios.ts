import {
  type AxiosAdapter,
  AxiosHeaders,
  type AxiosInstance,
  type AxiosResponse,
  default as axios,
  type CreateAxiosDefaults,
  type InternalAxiosRequestConfig,
} from 'axios'
import type { TokenNeed } from '../../token-set.js'
import type { OutboundTokens } from '../../token-source.js'
import { type Attempt, mayReplay, sendAuthorized } from '../authorized-call.js'
import { type Verdict, verdictOn } from '../challenge.js'
import { originOf, requireNamedOrigin } from '../origins.js'
import { checkedOptions, type OutboundOptions, type Replay } from '../outbound-options.js'
import { cleanAnswer, cleanError, discard, isStream, validated } from './answers.js'
import { requireWanted, whileWanted } from './cancellation.js'
import { followRedirects } from './redirects.js'

/** What axios takes, and which token goes where. */
export interface SessionAxiosConfig extends Omit<CreateAxiosDefaults, 'baseURL'>, OutboundOptions {}

/** The last step of a request: everything that axios and the app's interceptors do has been done. */
interface Call {
  readonly config: InternalAxiosRequestConfig
  readonly send: AxiosAdapter
  readonly origins: ReadonlySet<string>
}

/**
 * An axios instance that sends the session's access token to the origins named and to no other.
 *
 * The token is put in at the last moment, below interceptors and retries, and taken out again of what they get to see:
 * neither `response.config` nor an error shows it.
 *
 * @param client names the function in messages
 */
export function axiosOver(
  tokens: OutboundTokens,
  config: SessionAxiosConfig,
  client = 'axios',
): AxiosInstance {
  const { origins, need, replay } = checkedOptions(config, client)
  const { allowedOrigins: _, need: __, replay: ___, ...defaults } = config
  const instance = axios.create(defaults)
  // The first interceptor to be added runs last.
  instance.interceptors.request.use((config) => {
    const own = adapterOf(config)
    const send = axios.getAdapter(own, config)
    config.adapter = (config) => authorizedCall({ config, send, origins }, tokens, need, replay)
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

async function authorizedCall(
  call: Call,
  tokens: OutboundTokens,
  need: TokenNeed,
  replay: Replay,
): Promise<AxiosResponse> {
  const { config, origins } = call
  const url = axios.getUri(config)
  requireNamedOrigin(url, origins)
  const isUsedUp = isStream(config.data)
  return sendAuthorized({
    tokens,
    need,
    mayReplay: !isUsedUp && mayReplay(replay, config.method ?? 'get'),
    send: (token) => attempt(call, url, token),
    wait: (work) => whileWanted(work, config),
  })
}

/** Sends the request. What comes back knows nothing of the token. */
async function attempt(
  call: Call,
  start: string,
  token: string | undefined,
): Promise<Attempt<AxiosResponse>> {
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
      validated(answer)
    } else {
      const authorized = authorize(request, token)
      answer = await send({ ...authorized, beforeRedirect: withholding(config, origins) })
      cleanAnswer(answer, config, url)
    }
    return attemptOf({ answer }, answer, verdictOf(answer, url, origins, token))
  } catch (error) {
    const shown = cleanError(error, config, url)
    const refused = answer ?? (axios.isAxiosError(shown) ? shown.response : undefined)
    return attemptOf({ error: shown }, refused, refused ? verdictOf(refused, url, origins, token) : 'taken')
  }
}

function attemptOf(
  outcome: { readonly answer: AxiosResponse } | { readonly error: unknown },
  answer: AxiosResponse | undefined,
  verdict: Verdict,
): Attempt<AxiosResponse> {
  return {
    verdict,
    settle() {
      if ('error' in outcome) throw outcome.error
      return outcome.answer
    },
    discard() {
      if (answer) discard(answer)
    },
  }
}

/** What an answer says of the token, if its origin has seen one. */
function verdictOf(
  { status, headers }: AxiosResponse,
  url: string,
  origins: ReadonlySet<string>,
  token: string | undefined,
): Verdict {
  if (token === undefined || !origins.has(new URL(url).origin)) return 'taken'
  return verdictOn(status, String(headers?.['www-authenticate'] ?? ''), token)
}

/** Sends one request of those that redirects make of a call, with the token if its origin is one that was named. */
async function sendOne(
  { config, send, origins }: Call,
  hop: InternalAxiosRequestConfig,
  url: string,
  token: string | undefined,
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
