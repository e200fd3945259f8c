import { AsyncLocalStorage } from 'node:async_hooks'
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { AxiosInstance } from 'axios'
import { isResponseClosed, onResponseClosed } from '../concurrency/response-closed.js'
import { ConfigurationError } from '../errors/token-error.js'
import { ownProperties } from '../options/own-properties.js'
import type { OutboundTokens } from '../tokens/token-source.js'
import { axiosOver, type SessionAxiosConfig } from './axios/axios.js'
import { fetchOver, type SessionFetchConfig } from './fetch/fetch.js'
import { rejectInheritedOutboundOptions } from './outbound-options.js'

/** A request that is being served, with the tokens of its session. */
interface Served {
  readonly tokens: OutboundTokens
  readonly request: IncomingMessage
  readonly response: ServerResponse
}

interface Serving {
  readonly property: string
  /**
   * The request; `undefined` when it is over, since connections that were opened in it hold this object for as long as they live.
   */
  served: Served | undefined
  /** The same request's tokens of other mounts. */
  readonly outer: Serving | undefined
}

const serving = new AsyncLocalStorage<Serving>()

/** Runs the rest of a request, in which `sessionAxios()` and `sessionFetch()` find its tokens. */
export function whileServing<T>(
  { property, ...request }: Served & { readonly property: string },
  rest: () => T,
): T {
  const outer = serving.getStore()
  // A request that was made while another one is served must not find the tokens of that one.
  const isSame = outer?.served?.response === request.response
  const inner: Serving = { property, served: request, outer: isSame ? outer : undefined }
  const leave = () => {
    inner.served = undefined
  }
  whenEnded(request.response, leave)
  onResponseClosed(request.request, request.response, leave)
  return serving.run(inner, rest)
}

/** Calls back when the app ends a response. A session layer in front may put off the end itself until it has saved. */
function whenEnded(response: ServerResponse, callback: () => void): void {
  const { end } = response
  // V8 makes a function literal that is assigned to a property long-lived, and the request with it. This one is not.
  const ended = function ended(this: ServerResponse, ...args: Parameters<typeof end>) {
    callback()
    return Reflect.apply(end, this, args)
  }
  response.end = ended as typeof end
}

/** The options of `sessionAxios()`. */
export interface AmbientAxiosConfig extends SessionAxiosConfig, Ambient {}

/** The options of `sessionFetch()`. */
export interface AmbientFetchConfig extends SessionFetchConfig, Ambient {}

/** Selects the tokens where several `sessionTokens()` are mounted. */
export interface Ambient {
  /** The `property` of the `sessionTokens()` whose tokens are sent. Default: `'tokens'`. */
  property?: string
}

/**
 * Makes one axios instance for the whole app: each call carries the token of the session whose request is being served, as
 * `req.tokens.axios()` does, without a `req` at hand. It needs `ambient: true` in the options of `sessionTokens()`.
 *
 * A call outside of a request, or after its end, rejects with a `ConfigurationError`, and nothing is sent. A request is over when
 * the app has ended its response, or its client has gone.
 *
 * An object that several requests share (a queue, a batcher, a pool of connections) runs in the request that drives it. Bind its
 * callbacks to their own with `AsyncResource.bind()`, or hand `req.tokens` on.
 *
 * @throws `ConfigurationError` if there is no absolute `baseURL`
 *
 * @example
 * export const orders = sessionAxios({ baseURL: 'https://api.example.com' })
 * // anywhere below a handler: await orders.get('/orders')
 */
export function sessionAxios(config: AmbientAxiosConfig): AxiosInstance {
  const { property, others } = split(config, 'sessionAxios')
  return axiosOver(() => tokensNow(property), others, 'sessionAxios')
}

/**
 * Makes one function like the platform's `fetch()` for the whole app: it works like the result of `req.tokens.fetch()`, for the
 * session whose request is being served. The rules are those of `sessionAxios()`.
 *
 * @throws `ConfigurationError` if there is no absolute `baseURL`, or an option is unknown
 *
 * @example
 * export const orders = sessionFetch({ baseURL: 'https://api.example.com' })
 * // anywhere below a handler: await orders('/orders')
 */
export function sessionFetch(config: AmbientFetchConfig): typeof fetch {
  const { property, others } = split(config, 'sessionFetch', ['property', 'clientCertificate'])
  return fetchOver(() => tokensNow(property), others, 'sessionFetch')
}

/** Separates the `property` from the other options, which the client checks. */
function split<Config extends Ambient>(
  config: Config,
  client: string,
  names: string[] = ['property'],
): { property: string; others: Omit<Config, 'property'> } {
  if (typeof config !== 'object' || config === null) return { property: 'tokens', others: config }
  rejectInheritedOutboundOptions(config, client, names)
  const { property = 'tokens', ...others } = ownProperties(config)
  return { property, others }
}

/** Returns the tokens of the request that is being served. A call that is made with them may outlive the request. */
function tokensNow(property: string): OutboundTokens {
  const innermost = serving.getStore()
  if (!innermost) {
    throw new ConfigurationError(
      'No request is being served here. Give sessionTokens() the option `ambient: true`, mount it before the handlers and ' +
        'behind body parsers that go on in callbacks, and call from below a handler; elsewhere use req.tokens.axios() or ' +
        'req.tokens.fetch().',
    )
  }
  let found: Serving | undefined = innermost
  while (found && found.property !== property) found = found.outer
  if (!found) {
    throw new ConfigurationError(
      `The request being served has no tokens under '${property}'. Name the \`property\` of sessionTokens() here.`,
    )
  }
  // Something that outlived its request may be at work for another one by now.
  const { served } = found
  if (!served || isResponseClosed(served.request, served.response)) {
    throw new ConfigurationError(
      'This call came after its request had ended: the response was sent, or the client has disconnected. Call the API earlier, ' +
        'or pass req.tokens to the work that goes on after the request.',
    )
  }
  return served.tokens
}
