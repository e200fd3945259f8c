import { AsyncLocalStorage } from 'node:async_hooks'
import type { ServerResponse } from 'node:http'
import type { AxiosInstance } from 'axios'
import { ConfigurationError } from '../errors.js'
import type { TokenNeed } from '../token-set.js'
import type { OutboundTokens } from '../token-source.js'
import { axiosOver, type SessionAxiosConfig } from './axios.js'

/** A request that is being served, with the tokens of its session. */
interface Served {
  readonly property: string
  readonly tokens: OutboundTokens
  readonly response: ServerResponse
  /** The same request's tokens of other mounts. */
  readonly outer?: Served | undefined
}

const served = new AsyncLocalStorage<Served>()

/** Runs the rest of a request, in which `sessionAxios()` finds its tokens. */
export function whileServing<T>(request: Served, rest: () => T): T {
  return served.run({ ...request, outer: served.getStore() }, rest)
}

/** What `sessionAxios()` takes. */
export interface AmbientAxiosConfig extends SessionAxiosConfig {
  /** The `property` of the `sessionTokens()` in question. Default: `'tokens'`. */
  property?: string
}

/**
 * An axios instance for the whole app, to be made once: each call carries the token of the session whose request is being
 * served, as `req.tokens.axios()` does, without a `req` at hand. It takes `ambient: true` in the options of
 * `sessionTokens()`.
 *
 * A call that serves no request, or one that has been answered, rejects with a `ConfigurationError`, and nothing is sent.
 *
 * @throws `ConfigurationError` if there is no absolute `baseURL`
 *
 * @example
 * export const orders = sessionAxios({ baseURL: 'https://api.example.com' })
 * // anywhere below a handler: await orders.get('/orders')
 */
export function sessionAxios(config: AmbientAxiosConfig): AxiosInstance {
  const { property = 'tokens', ...axiosConfig } = config ?? {}
  return axiosOver({ tokenToSend: (need: TokenNeed) => tokensNow(property).tokenToSend(need) }, axiosConfig)
}

function tokensNow(property: string): OutboundTokens {
  const innermost = served.getStore()
  if (!innermost) {
    throw new ConfigurationError(
      'No request is being served here. Give sessionTokens() the option `ambient: true`, mount it before the handlers and ' +
        'behind body parsers, and call from below a handler; elsewhere use req.tokens.axios().',
    )
  }
  let request: Served | undefined = innermost
  while (request && request.property !== property) request = request.outer
  if (!request) {
    throw new ConfigurationError(
      `The request being served has no tokens under '${property}'. Name the \`property\` of sessionTokens() here.`,
    )
  }
  // Something that outlived its request may be at work for another one by now.
  if (request.response.writableFinished) {
    throw new ConfigurationError(
      'The request that this call belongs to has been answered. Call before the answer, or use req.tokens.axios().',
    )
  }
  return request.tokens
}
