import {
  type AxiosAdapter,
  AxiosHeaders,
  type AxiosInstance,
  type AxiosResponse,
  default as axios,
  type CreateAxiosDefaults,
  type InternalAxiosRequestConfig,
} from 'axios'
import { ownProperties } from '../../own-properties.js'
import type { TokenNeed } from '../../token-set.js'
import type { OutboundTokens } from '../../token-source.js'
import { type Attempt, mayReplay, sendAuthorized } from '../authorized-call.js'
import { type Verdict, verdictOn } from '../challenge.js'
import type { Secrets } from '../cleaning.js'
import { originOf, requireNamedOrigin } from '../origins.js'
import { checkedOptions, type OutboundOptions, type Replay } from '../outbound-options.js'
import { tokenAlong } from '../redirect-rules.js'
import { cleanAnswer, cleanAxiosError, discard, isStream, type Shown, validated } from './answers.js'
import { requireWanted, whileWanted } from './cancellation.js'
import { type Connections, takeConnections } from './connections.js'
import { followRedirects } from './redirects.js'

/** What axios takes, and which token goes where. */
export interface SessionAxiosConfig extends Omit<CreateAxiosDefaults, 'baseURL'>, OutboundOptions {}

/** The last step of a request: everything that axios and the app's interceptors do has been done. */
interface Call {
  /** What is sent. */
  readonly config: InternalAxiosRequestConfig
  /** What of it the app gets to see again: all but the connections. */
  readonly shown: InternalAxiosRequestConfig
  readonly send: AxiosAdapter
  readonly origins: ReadonlySet<string>
}

/**
 * An axios instance that sends the session's access token to the origins named and to no other.
 *
 * The token is put in at the last moment, below interceptors and retries, and taken out again of what they get to see:
 * neither `response.config` nor an error shows it. They do not lead to the app's agents either, on which the requests of
 * other users are under way. A config that is sent again goes over the same agents all the same.
 *
 * @param tokens whose tokens a call carries, asked when it is made
 * @param client names the function in messages
 */
export function axiosOver(
  tokens: () => OutboundTokens,
  config: SessionAxiosConfig,
  client = 'axios',
): AxiosInstance {
  const { origins, need, replay } = checkedOptions(config, client)
  const { allowedOrigins: _, need: __, replay: ___, ...defaults } = ownProperties(config)
  const ofInstance = takeConnections(defaults)
  const instance = axios.create(defaults)

  const prepare = (config: InternalAxiosRequestConfig): InternalAxiosRequestConfig => {
    const own = ownOf(config)
    const send = axios.getAdapter(own.adapter, ownProperties({ ...config, ...ofInstance, ...own }))
    let atCall = callers.get(config)
    config.adapter = (shown) => {
      const caller = atCall ?? tokens()
      // What is sent again is another call.
      atCall = undefined
      const connections = { ...ofInstance, ...own, ...takeConnections(shown) }
      const call = { config: ownProperties({ ...shown, ...connections }), shown, send, origins }
      return authorizedCall(call, caller, need, replay)
    }
    owns.set(config.adapter, own)
    return config
  }
  /** The tokens of the calls under way. Until the interceptors are through, a request that is served may be over. */
  const callers = new WeakMap<object, OutboundTokens>()
  const runWhen = (config: InternalAxiosRequestConfig): true => {
    try {
      callers.set(config, tokens())
    } catch {
      // The same fails the call, once the interceptors are through.
    }
    return true
  }
  // The first interceptor to be added runs last, and `runWhen` is asked as soon as the call is made.
  instance.interceptors.request.use(prepare, undefined, { runWhen })
  // An interceptor of the app's may have failed before that, with the config as it was.
  instance.interceptors.response.use(undefined, (error) => {
    if (error?.config && !owns.has(error.config.adapter)) prepare(error.config)
    throw error
  })
  return instance
}

/** What the app has chosen for a request, besides the instance's: its adapter, and what it is sent over. */
type Own = Connections & Pick<InternalAxiosRequestConfig, 'adapter'>

/** The app's adapters below ours, which stay in a config that is sent again, and perhaps for another user then. */
const owns = new WeakMap<object, Own>()

/** Takes out of a config what the app has chosen to send it with, perhaps when it was sent before. */
function ownOf(config: InternalAxiosRequestConfig): Own {
  const { adapter } = config
  const before = typeof adapter === 'function' ? owns.get(adapter) : undefined
  return ownProperties({ adapter, ...before, ...takeConnections(config) }) as Own
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
    send: (token, secrets) => attempt(call, url, token, secrets),
    wait: (work) => whileWanted(work, call.shown),
  })
}

/** Sends the request. What comes back knows nothing of the token. */
async function attempt(
  call: Call,
  start: string,
  token: string | undefined,
  secrets: Secrets,
): Promise<Attempt<AxiosResponse>> {
  const { config, send, origins } = call
  const request = ownProperties(config)
  const tokenFor = tokenAlong(origins, token)
  // Its pipes lead to the request that holds the token, and it cannot be sent again.
  if (isStream(config.data)) delete call.shown.data
  let answer: AxiosResponse | undefined
  let shown: Shown = { config: call.shown, url: start, secrets }
  try {
    if (send === axios.getAdapter('http') && !config.transport) {
      const arrival = await followRedirects(request, start, (hop, url) =>
        sendOne(call, hop, { ...shown, url }, tokenFor(url)),
      )
      answer = arrival.answer
      shown = { ...shown, url: arrival.url }
      validated(answer)
    } else {
      const authorized = authorize(request, token)
      answer = await send(ownProperties({ ...authorized, beforeRedirect: withholding(config, origins) }))
      cleanAnswer(answer, shown)
    }
    const received = answer
    return attemptOf(() => received, answer, verdictOf(answer, tokenFor(shown.url), secrets))
  } catch (error) {
    const refused = answer ?? (axios.isAxiosError(error) ? error.response : undefined)
    const verdict = refused ? verdictOf(refused, tokenFor(shown.url), secrets) : 'taken'
    const cleaned = cleanAxiosError(error, shown)
    const fail = () => {
      throw cleaned
    }
    return attemptOf(fail, refused, verdict)
  }
}

function attemptOf(
  settle: () => AxiosResponse,
  answer: AxiosResponse | undefined,
  verdict: Verdict,
): Attempt<AxiosResponse> {
  return {
    verdict,
    settle,
    discard() {
      if (answer) discard(answer)
    },
  }
}

/** What an answer says of the token, if its origin has seen one. */
function verdictOf({ status, headers }: AxiosResponse, token: string | undefined, secrets: Secrets): Verdict {
  if (token === undefined) return 'taken'
  return verdictOn(status, String(headers?.['www-authenticate'] ?? ''), secrets)
}

/** Sends one request of those that redirects make of a call. */
async function sendOne(
  { config, send }: Call,
  hop: InternalAxiosRequestConfig,
  shown: Shown,
  token: string | undefined,
): Promise<AxiosResponse> {
  requireWanted(config)
  const authorized = authorize(hop, token)
  const hopConfig = ownProperties({ ...authorized, maxRedirects: 0, validateStatus: null })
  return cleanAnswer(await send(hopConfig), shown)
}

/** Only the token authorizes a request: `auth` and an Authorization header of the app would displace it. */
function authorize(
  { auth: _, ...config }: InternalAxiosRequestConfig,
  token: string | undefined,
): InternalAxiosRequestConfig {
  const headers = AxiosHeaders.concat(config.headers)
  headers.delete('Authorization')
  if (token !== undefined) headers.set('Authorization', `Bearer ${token}`)
  return ownProperties({ ...config, headers })
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
