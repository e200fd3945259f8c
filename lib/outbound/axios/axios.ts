import {
  type AxiosAdapter,
  AxiosHeaders,
  type AxiosInstance,
  type AxiosResponse,
  default as axios,
  type CreateAxiosDefaults,
  type InternalAxiosRequestConfig,
} from 'axios'
import { ConfigurationError } from '../../errors/token-error.js'
import { flag } from '../../options/option-kinds.js'
import { ownProperties, ownValue } from '../../options/own-properties.js'
import type { TokenNeed } from '../../tokens/token-need.js'
import type { OutboundTokens } from '../../tokens/token-source.js'
import { type Attempt, type Authorization, mayReplay, sendAuthorized } from '../authorized-call.js'
import type { Secrets } from '../cleaning.js'
import { originOf, requireHttps, requireNamedOrigin } from '../origins.js'
import { checkKnownOutboundOptions, type OutboundOptions, type Replay } from '../outbound-options.js'
import { tokenAlong } from '../redirect-rules.js'
import { isStream } from '../streams.js'
import { throwIfCancelled, untilCancelled } from './cancellation.js'
import { type Connections, detachConnections } from './connections.js'
import { sendHopProven } from './proven-hop.js'
import { type Hop, sendFollowing } from './redirects.js'
import { cleanAxiosError, cleanAxiosResponse, discard, type Shown, validated } from './responses.js'
import { forgetfulTransport } from './transport.js'

/** The options of axios, and which token goes where. */
export interface SessionAxiosConfig extends Omit<CreateAxiosDefaults, 'baseURL'>, OutboundOptions {
  /**
   * Whether the connections to the named origins have the client certificate of `tlsClientAuth()` or `selfSignedTlsClientAuth()`, for
   * an API whose tokens are bound to it (RFC 8705 §3). Does not go with an adapter or a transport of your own, nor with `httpVersion: 2`.
   * Default: `false`.
   */
  clientCertificate?: boolean
}

/** The last step of a request: everything that axios and the app's interceptors do has been done. */
interface Call {
  /** The config that is sent. */
  readonly config: InternalAxiosRequestConfig
  /** The config that the app may see: without the connections. */
  readonly shown: InternalAxiosRequestConfig
  readonly send: AxiosAdapter
  readonly origins: ReadonlySet<string>
  readonly isCertified: boolean
}

/**
 * Makes an axios instance that sends the session's access token to the origins named and to no other.
 *
 * The token is put in at the last moment, below interceptors and retries, and is taken out of the response and of errors: neither
 * `response.config` nor an error shows it. They do not refer to the app's agents either, since these hold requests of other
 * users. A config that the app sends again still uses these agents.
 *
 * @param tokens returns the tokens that a call carries; called when the call is made
 * @param client names the function in messages
 */
export function axiosOver(
  tokens: () => OutboundTokens,
  config: SessionAxiosConfig,
  client = 'axios',
): AxiosInstance {
  const { origins, need, replay } = checkKnownOutboundOptions(config, client)
  const { allowedOrigins: _, clientCertificate, need: __, replay: ___, ...defaults } = ownProperties(config)
  const isCertified = clientCertificate !== undefined && flag()(clientCertificate, 'clientCertificate', {})
  if (isCertified) requireHttps(origins)
  const ofInstance = detachConnections(defaults)
  const instance = axios.create(defaults)

  const prepare = (config: InternalAxiosRequestConfig): InternalAxiosRequestConfig => {
    const own = ownOf(config)
    const send = axios.getAdapter(own.adapter, ownProperties({ ...config, ...ofInstance, ...own }))
    let atCall = callers.get(config)
    const adapter: AxiosAdapter = (shown) => {
      const caller = atCall ?? tokens()
      // A config that is sent again is another call.
      atCall = undefined
      const connections = { ...ofInstance, ...own, ...detachConnections(shown) }
      const call = { config: ownProperties({ ...shown, ...connections }), shown, send, origins, isCertified }
      return authorizedCall(call, caller, need, replay)
    }
    config.adapter = adapter
    owns.set(adapter, own)
    return config
  }
  /** The tokens of each call in flight, by its config. The app's request may end before the interceptors of the call have run. */
  const callers = new WeakMap<object, OutboundTokens>()
  const runWhen = (config: InternalAxiosRequestConfig): true => {
    try {
      callers.set(config, tokens())
    } catch {
      // The same error fails the call, after the interceptors have run.
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

/** The adapter and the connections that the app has chosen for a request, besides those of the instance. */
type Own = Connections & Pick<InternalAxiosRequestConfig, 'adapter'>

/**
 * The app's own adapter and connections, by the adapter of this library that stands in their place. A config may be sent again,
 * perhaps for another user.
 */
const owns = new WeakMap<object, Own>()

/** Takes the app's adapter and connections out of a config, those of an earlier call with it among them. */
function ownOf(config: InternalAxiosRequestConfig): Own {
  const { adapter } = config
  const before = typeof adapter === 'function' ? owns.get(adapter) : undefined
  return ownProperties({ adapter, ...before, ...detachConnections(config) }) as Own
}

async function authorizedCall(
  call: Call,
  tokens: OutboundTokens,
  need: TokenNeed,
  replay: Replay,
): Promise<AxiosResponse> {
  const { config, isCertified, origins } = call
  const url = axios.getUri(config)
  requireNamedOrigin(url, origins)
  if (isCertified && !goesThroughNode(call)) throw ownTransportError()
  if (isCertified && Number(config.httpVersion) === 2) throw http2Error()
  const isUsedUp = isStream(config.data)
  return sendAuthorized({
    method: config.method ?? 'get',
    url,
    tokens,
    need,
    mayReplay: !isUsedUp && mayReplay(replay, config.method ?? 'get'),
    clientCertificate: isCertified,
    send: (authorization, secrets) => attempt(call, url, authorization, secrets),
    wait: (work) => untilCancelled(work, call.shown),
  })
}

/** Whether Node's own HTTP client sends the requests of a call. */
function goesThroughNode({ config, send }: Call): boolean {
  return send === axios.getAdapter('http') && !config.transport
}

function ownTransportError(): ConfigurationError {
  return new ConfigurationError(
    '`clientCertificate: true` does not go with an adapter or a transport of your own, which makes its connections itself. Leave one of ' +
      'them out, or give the certificate to its connections.',
  )
}

function http2Error(): ConfigurationError {
  return new ConfigurationError(
    '`clientCertificate: true` does not go with `httpVersion: 2`, for which axios makes connections without a certificate. Leave ' +
      '`httpVersion` out.',
  )
}

/** Sends the request. The outcome does not lead to the token. */
async function attempt(
  call: Call,
  start: string,
  authorization: Authorization | undefined,
  secrets: Secrets,
): Promise<Attempt<AxiosResponse>> {
  const { config, origins } = call
  const request = ownProperties(config)
  const authorizationFor = tokenAlong(origins, authorization)
  // Its pipes lead to the request that holds the token, and it cannot be sent again.
  if (isStream(config.data)) delete call.shown.data
  let response: AxiosResponse | undefined
  let shown: Shown = { config: call.shown, url: start, secrets }
  let result: () => AxiosResponse
  try {
    if (goesThroughNode(call)) {
      const arrival = await sendFollowing({ config: request, url: start }, ({ config, url }) =>
        sendOne(call, { config, url }, { ...shown, url }, authorizationFor(url)),
      )
      response = arrival.response
      shown = { ...shown, url: arrival.url }
      validated(response)
    } else {
      response = await sendThrough(call, { config: request, url: start }, authorization)
      cleanAxiosResponse(response, shown)
    }
    const received = response
    result = () => received
  } catch (error) {
    response ??= axios.isAxiosError(error) ? error.response : undefined
    const cleaned = cleanAxiosError(error, shown)
    result = () => {
      throw cleaned
    }
  }
  return {
    status: response?.status ?? 0,
    challenge: String(ownValue(response?.headers, 'www-authenticate') ?? ''),
    sawToken: authorizationFor(shown.url) !== undefined,
    result,
    discard() {
      if (response) discard(response)
    },
  }
}

const NO_ORIGINS: ReadonlySet<string> = new Set()
/** The headers that authorize a request. */
const CREDENTIALS: readonly string[] = ['authorization', 'dpop']

/** Sends one request of those that redirects make of a call. */
async function sendOne(
  { config, send }: Call,
  hop: Hop,
  shown: Shown,
  authorization: Authorization | undefined,
): Promise<AxiosResponse> {
  throwIfCancelled(config)
  const sendOnce = (proof?: string) => {
    const transport = forgetfulTransport(Number(hop.config.timeout), authorization?.certificate)
    const authorized = authorize(hop.config, authorization, proof)
    return send(ownProperties({ ...authorized, maxRedirects: 0, validateStatus: null, transport }))
  }
  const sent = authorization?.dpop ? sendHopProven(authorization.dpop, hop, sendOnce) : sendOnce()
  return cleanAxiosResponse(await sent, shown)
}

/** Sends a call through an adapter or a transport of the app, which follows redirects by itself. */
function sendThrough(
  { config, origins, send }: Call,
  hop: Hop,
  authorization: Authorization | undefined,
): Promise<AxiosResponse> {
  const dpop = authorization?.dpop
  // A proof is for one URL, so no redirect can take it along.
  const beforeRedirect = withholding(config, dpop ? NO_ORIGINS : origins)
  const sendOnce = (proof?: string) =>
    send(ownProperties({ ...authorize(hop.config, authorization, proof), beforeRedirect }))
  return dpop ? sendHopProven(dpop, hop, sendOnce) : sendOnce()
}

/**
 * Puts the token into a request, which nothing else authorizes: `auth` and an Authorization header of the app would displace it.
 */
function authorize(
  { auth: _, ...config }: InternalAxiosRequestConfig,
  authorization: Authorization | undefined,
  proof: string | undefined,
): InternalAxiosRequestConfig {
  const headers = AxiosHeaders.concat(config.headers)
  headers.delete('Authorization')
  if (authorization) headers.set('Authorization', authorization.header)
  if (proof !== undefined) headers.set('DPoP', proof)
  return ownProperties({ ...config, headers })
}

/**
 * Makes the `beforeRedirect` that lets the token go along only to an origin that was named (axios itself would send it to
 * subdomains).
 */
function withholding(config: InternalAxiosRequestConfig, origins: ReadonlySet<string>) {
  return (...redirect: Parameters<NonNullable<InternalAxiosRequestConfig['beforeRedirect']>>): void => {
    config.beforeRedirect?.(...redirect)
    const [options] = redirect
    if (origins.has(originOf(String(options.href)) ?? '')) return
    for (const name of Object.keys(options.headers)) {
      if (CREDENTIALS.includes(name.toLowerCase())) delete options.headers[name]
    }
  }
}
