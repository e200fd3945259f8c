import { EventEmitter } from 'node:events'
import type { ClientRequest, IncomingHttpHeaders, IncomingMessage, ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import type { Readable } from 'node:stream'
import { createProxyMiddleware } from 'http-proxy-middleware'
import { Silence } from './failure.js'
import type { CheckedProxyOptions } from './options.js'

/** What is sent to an API. */
export interface ApiRequest {
  readonly method: string
  readonly path: string
  readonly headers: IncomingHttpHeaders
  /** Opens the body. What is handed to it is to be called whenever some of it has been sent. */
  body(onProgress: () => void): Readable
}

/** A socket to the API that it has made a WebSocket, and what it has already sent over it. */
export interface UpgradedSocket {
  readonly socket: Socket
  readonly head: Buffer
}

/** What came back, and how to be done with it. */
export interface Exchange {
  readonly answer: IncomingMessage
  /** When the API has agreed to a WebSocket. */
  readonly upgraded?: UpgradedSocket
  /** Ends it. What has not arrived by then is broken off. */
  end(): void
}

/** Sends a request to the API; rejects when there is no answer. Aborting the signal breaks it off. */
export type Send = (request: ApiRequest, signal: AbortSignal) => Promise<Exchange>

/**
 * Sends requests with http-proxy-middleware, which is handed a request and a response of our own making: what the browser
 * has sent and what it is to get pass through our hands, so that a request can be sent again.
 */
export function sender({ agent, logger, proxyTimeout, target }: CheckedProxyOptions): Send {
  const proxy = createProxyMiddleware<IncomingMessage, ServerResponse>({
    target: target.origin,
    changeOrigin: true,
    selfHandleResponse: true,
    ...(agent && { agent }),
    ...(logger && { logger }),
    on: {
      proxyReq: (sent, request) => inFlight(request)?.begun(sent),
      proxyRes: (answer, request) => inFlight(request)?.answered(answer),
      error: (error, request) => inFlight(request)?.failed(error),
      econnreset: (error, request) => inFlight(request)?.failed(error),
    },
  })
  return (request, signal) =>
    new Promise((resolve, reject) => {
      const flight = new Flight(request, proxyTimeout, { resolve, reject }, signal)
      proxy(flight.request, flight.response, (error) => flight.failed(error)).catch(flight.failed)
    })
}

const flights = new WeakMap<object, Flight>()

function inFlight(request: object): Flight | undefined {
  return flights.get(request)
}

interface Outcome {
  resolve(exchange: Exchange): void
  reject(error: unknown): void
}

/** A request on its way through http-proxy-middleware. */
class Flight {
  readonly request: IncomingMessage
  readonly response: ServerResponse
  readonly #body: Readable
  readonly #outcome: Outcome
  readonly #silence: Silence
  readonly #signal: AbortSignal
  #sent: ClientRequest | undefined
  #ended = false

  constructor(
    { method, path, headers, body }: ApiRequest,
    proxyTimeout: number,
    outcome: Outcome,
    signal: AbortSignal,
  ) {
    this.#outcome = outcome
    this.#signal = signal
    this.#silence = new Silence(proxyTimeout, (error) => this.failed(error))
    this.#body = body(() => this.#silence.broken())
    // Version 4 looks at the version of HTTP, version 3 at the socket; neither gets to see the browser's.
    const http = { httpVersion: '1.1', httpVersionMajor: 1, httpVersionMinor: 1 }
    const socket = { destroyed: false, writable: true }
    const request = Object.assign(this.#body, {
      method,
      url: path,
      headers,
      ...http,
      socket,
      connection: socket,
    })
    this.request = request as unknown as IncomingMessage
    this.response = new ResponseStandIn() as unknown as ServerResponse
    flights.set(request, this)
    signal.addEventListener('abort', this.#abort)
  }

  /** It has a connection, for which it may have waited longer than anybody waits for it. */
  begun(sent: ClientRequest): void {
    this.#sent = sent
    // Nobody has asked for it here, and Node tells of nothing else when it comes.
    sent.once('upgrade', (_answer, socket) => {
      socket.destroy()
      this.failed(new Error('The API has changed the protocol.'))
    })
    if (this.#ended) sent.destroy()
  }

  answered(answer: IncomingMessage): void {
    this.#silence.end()
    // Whoever reads the answer is told; without a listener here it would end the process.
    answer.on('error', () => {})
    if (this.#ended) answer.destroy()
    else this.#outcome.resolve({ answer, end: this.#abort })
  }

  readonly failed = (error: unknown): void => {
    this.#outcome.reject(error ?? new Error('http-proxy-middleware did not take the request.'))
    this.#abort()
  }

  readonly #abort = (): void => {
    if (this.#ended) return
    this.#ended = true
    this.#silence.end()
    this.#signal.removeEventListener('abort', this.#abort)
    this.#outcome.reject(this.#signal.reason)
    this.#body.destroy()
    this.response.destroy()
    this.#sent?.destroy()
  }
}

/** As much of a response as http-proxy-middleware needs when it is not to write it. */
class ResponseStandIn extends EventEmitter {
  readonly headersSent = false
  readonly finished = false
  readonly writableEnded = false
  readonly writableFinished = false
  destroyed = false

  destroy(): void {
    if (this.destroyed) return
    this.destroyed = true
    this.emit('close')
  }
}
