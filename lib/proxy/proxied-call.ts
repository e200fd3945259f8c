import type { ClientRequest } from 'node:http'
import { problemDetails } from '../errors/problem-details.js'
import {
  type Attempt,
  type Authorization,
  type AuthorizedCall,
  mayReplay,
} from '../outbound/authorized-call.js'
import { sendProven } from '../outbound/proven-request.js'
import { whenClosed } from '../outbound/streams.js'
import type { TokenNeed } from '../tokens/token-need.js'
import type { DpopProofs, OutboundTokens } from '../tokens/token-source.js'
import { bodyOf, type ProxyBody } from './body.js'
import { type HeadersForApi, isMisframed } from './headers.js'
import type { CheckedProxyOptions } from './options.js'
import type { ProxyRequest } from './proxy-request.js'
import { type Reply, replyOf } from './reply.js'
import { UpstreamTimeoutError } from './response-timeout.js'
import { DisconnectedError, type SendUpstream, type UpstreamResponse } from './upstream-request.js'

/** The parts that all requests of a route have in common. */
export interface Route {
  readonly options: CheckedProxyOptions
  readonly passHeaders: HeadersForApi
  readonly send: SendUpstream
}

/** A request that is passed on to the API. */
export class ProxiedCall implements AuthorizedCall<Reply> {
  readonly tokens: OutboundTokens
  readonly need: TokenNeed
  readonly method: string
  readonly body: ProxyBody
  readonly #route: Route
  readonly #proxyRequest: ProxyRequest
  readonly #path: string

  constructor(route: Route, proxyRequest: ProxyRequest, tokens: OutboundTokens, path: string) {
    const { maxReplayBytes, need, replay } = route.options
    const { request, parsed } = proxyRequest
    this.#route = route
    this.#proxyRequest = proxyRequest
    this.method = request.method ?? 'GET'
    this.#path = path
    this.tokens = tokens
    this.need = need
    this.body = bodyOf(request, parsed, mayReplay(replay, this.method) ? maxReplayBytes : 0)
  }

  /** Where the path of the target begins. The path of the request is left out. */
  get url(): string {
    return this.#route.options.target.href
  }

  get clientCertificate(): boolean {
    return this.#route.options.clientCertificate
  }

  get mayReplay(): boolean {
    return this.body.isKept && mayReplay(this.#route.options.replay, this.method)
  }

  /** Sends the request once. If the API cannot be reached, the proxy itself responds. */
  async send(authorization: Authorization | undefined): Promise<Attempt<Reply>> {
    const proxyRequest = this.#proxyRequest
    const { body } = this
    // The browser may have gone while the token was waited for.
    if (proxyRequest.isDisconnected) throw new DisconnectedError()
    let upstream: UpstreamResponse
    try {
      upstream = await (authorization?.dpop
        ? this.#sendProven(authorization, authorization.dpop)
        : this.#sendOnce(authorization, (sent) => this.#setHeaders(sent, authorization)))
    } catch (error) {
      if (proxyRequest.isDisconnected) throw error
      body.drain()
      this.#logFailure(error)
      return attemptWithout(unreachable(error))
    }
    const { message, end, upgraded } = upstream
    const { headers, statusCode: status = 0 } = message
    this.#logResponse(status)
    if ((status < 200 && !upgraded) || isMisframed(headers)) {
      end()
      body.drain()
      return attemptWithout(problemDetails(502, 'Bad Gateway', 'The response of the API cannot be read.'))
    }
    return {
      status,
      challenge: headers['www-authenticate'],
      sawToken: authorization !== undefined,
      result: () => {
        body.leaveTo(message)
        if (authorization && this.#route.options.endWithLogin) endWithLogin(this.tokens, upstream)
        return replyOf(upstream, authorization?.token)
      },
      discard: end,
    }
  }

  #sendOnce(
    authorization: Authorization | undefined,
    setHeaders: (sent: ClientRequest) => void,
    renew?: () => Promise<void>,
  ): Promise<UpstreamResponse> {
    const { body, method } = this
    const certificate = authorization?.certificate
    const request = { method, path: this.#path, body, setHeaders, ...(certificate && { certificate }) }
    return this.#route.send(renew ? { ...request, renew } : request, this.#proxyRequest)
  }

  /** Sends the request with a proof, and once more if the API asks for a nonce. */
  #sendProven(authorization: Authorization, dpop: DpopProofs): Promise<UpstreamResponse> {
    const { body, method } = this
    const url = `${this.#route.options.target.origin}${this.#path}`
    return sendProven<UpstreamResponse>(dpop, {
      method,
      url,
      mayRepeat: () => body.isKept && !this.#proxyRequest.isDisconnected,
      send: (first) => {
        let proof = first
        const renew = async () => {
          proof = await dpop.proof(method, url)
        }
        return this.#sendOnce(
          authorization,
          (sent) => {
            this.#setHeaders(sent, authorization)
            sent.setHeader('dpop', proof)
          },
          renew,
        )
      },
      read: ({ message }) => ({
        status: message.statusCode ?? 0,
        header: (name) => message.headers[name] as string | undefined,
      }),
      discard: ({ end }) => end(),
    })
  }

  #setHeaders(sent: ClientRequest, authorization: Authorization | undefined): void {
    const { options, passHeaders } = this.#route
    const put = (name: string, value: string | string[] | undefined) => {
      if (value === undefined) sent.removeHeader(name)
      else sent.setHeader(name, value)
    }
    passHeaders(this.#proxyRequest.request.headers, put)
    putAll(this.body.headers, put)
    if (options.xfwd) putAll(forwardedHeaders(this.#proxyRequest), put)
    putAll(options.headers, put)
    if (this.#proxyRequest.upgrade) putAll({ connection: 'Upgrade', upgrade: 'websocket' }, put)
    if (authorization) put('authorization', authorization.header)
  }

  #logResponse(status: number): void {
    this.#route.options.logger?.info(`${this.#described()} ${status}`)
  }

  /** Logs that there was no response. The message of Node is left out, since it may quote a header. */
  #logFailure(error: unknown): void {
    const reason = isTimeout(error) ? 'ETIMEDOUT' : (codeOf(error) ?? 'failed')
    this.#route.options.logger?.error(`${this.#described()} ${reason}`)
  }

  /** Returns the method and the URL for the log. The query is left out, since it may hold secrets. */
  #described(): string {
    return `${this.method} ${this.#route.options.target.origin}${this.#path.split('?', 1)[0]}`
  }
}

/** Ends a WebSocket or an event stream when the login ends. Other responses are over soon. */
function endWithLogin(tokens: OutboundTokens, { end, message, upgraded }: UpstreamResponse): void {
  const isEventStream = /^text\/event-stream\s*(?:;|$)/i.test(message.headers['content-type'] ?? '')
  if (!upgraded && !isEventStream) return
  const stop = tokens.onEnd?.(end)
  if (stop) whenClosed(upgraded?.socket ?? message, stop)
}

type Headers = Readonly<Record<string, string | string[] | undefined>>

function putAll(headers: Headers, put: (name: string, value: Headers[string]) => void): void {
  for (const name of Object.keys(headers)) put(name, headers[name])
}

function forwardedHeaders({ ip, host, protocol }: ProxyRequest): Headers {
  return { 'x-forwarded-for': ip, 'x-forwarded-host': host, 'x-forwarded-proto': protocol }
}

/** Returns the outcome of an attempt that brought no response of the API. */
function attemptWithout(reply: Reply): Attempt<Reply> {
  return { status: 0, challenge: undefined, sawToken: false, result: () => reply, discard() {} }
}

function isTimeout(error: unknown): boolean {
  return error instanceof UpstreamTimeoutError || codeOf(error) === 'ETIMEDOUT'
}

function codeOf(error: unknown): unknown {
  return (error as { code?: unknown }).code
}

function unreachable(error: unknown): Reply {
  return isTimeout(error)
    ? problemDetails(504, 'Gateway Timeout', 'The API did not respond in time.')
    : problemDetails(502, 'Bad Gateway', 'The API could not be reached.')
}
