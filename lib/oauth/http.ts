import http, { type ClientRequest, Agent as HttpAgent, type RequestOptions } from 'node:http'
import https, { Agent as HttpsAgent } from 'node:https'
import type { Socket } from 'node:net'
import type { Readable } from 'node:stream'
import type { TLSSocket } from 'node:tls'
import { Axios, type AxiosProxyConfig, type AxiosResponse } from 'axios'
import { abortedError } from '../concurrency/abortable.js'
import { failOnUpgrade } from '../concurrency/unexpected-upgrade.js'
import { redactCode, safeExcerpt } from '../errors/redact.js'
import { OwnError, TokenError } from '../errors/token-error.js'
import { ownProperties } from '../options/own-properties.js'
import type { ClientCertificate } from '../tokens/client-certificate.js'

/** The agents, the proxy and the headers for requests to the authorization server. */
export interface HttpOptions {
  /** The agent for plain http, which is used on the loopback interface only. */
  readonly httpAgent?: HttpAgent
  /**
   * The agent for https, e.g. with a client certificate or a private CA. Default: an agent with the options of the global agent.
   * It closes connections that were idle for 4 seconds, so that no refresh is sent over a connection that the server is about to
   * close.
   */
  readonly httpsAgent?: HttpsAgent
  /**
   * The proxy for https; `false` ignores the `HTTPS_PROXY` and `NO_PROXY` environment variables. Requests over
   * plain http stay on this machine and go through no proxy.
   */
  readonly proxy?: AxiosProxyConfig | false
  /** Headers of every request, e.g. `User-Agent`. */
  readonly headers?: Readonly<Record<string, string>>
}

/** A request to the authorization server. */
export interface HttpRequest {
  /** Names the endpoint, without its URL: `The token endpoint`. */
  readonly describe: () => string
  /** Returns the endpoint's URL for the operator, without secrets. Called when an error is made. */
  readonly where: () => string
  readonly method: 'GET' | 'POST'
  readonly url: string
  readonly headers: Readonly<Record<string, string>>
  readonly body?: string
  /** The client certificate of the connection. */
  readonly certificate?: ClientCertificate
  /** Collects the strings that no error may show. Called when an error is made. */
  readonly secrets: () => readonly string[]
  readonly signal: AbortSignal
}

/** A response with any status. */
export interface HttpResponse {
  readonly status: number
  readonly header: (name: string) => string | undefined
  /** The body as text, or why it cannot be read. */
  readonly body: { readonly text: string } | { readonly flaw: string }
}

/** Sends a request, once. Rejects with `ERR_TOKEN_ENDPOINT_UNAVAILABLE` when no complete response arrives. */
export type SendHttp = (request: HttpRequest) => Promise<HttpResponse>

/** The largest body that is read, after decompression. */
const MAX_BODY_BYTES = 1024 * 1024
/** Many servers close a connection that was idle for 5 seconds. A request that meets the end of its connection may be lost. */
const IDLE_MS = 4_000
export const DEFAULT_CONNECT_TIMEOUT_MS = 3_000

/** The errors of requests of which nothing was sent. */
const unsent = new WeakSet<object>()

/** Whether a request failed before anything was sent, since there was no connection. Then a refresh token was not used. */
export function isUnsent(error: object): boolean {
  return unsent.has(error)
}

/**
 * Makes an HTTP client that is separate from the app's axios, whose defaults and interceptors must not see secrets. It
 * follows no redirect, repeats no request and does not parse bodies.
 *
 * @param connectTimeoutMs how long a connection may take, TLS included, in milliseconds
 */
export function httpClient(given: HttpOptions = {}, connectTimeoutMs = DEFAULT_CONNECT_TIMEOUT_MS): SendHttp {
  const options = ownProperties(given)
  // `axios.create()` would start from the app's `axios.defaults`; the bare class has no defaults.
  const axios = new Axios({
    adapter: 'http',
    maxRedirects: 0,
    responseType: 'stream',
    validateStatus: null,
    httpAgent: options.httpAgent ?? new HttpAgent(KEEP_ALIVE),
    httpsAgent: options.httpsAgent ?? keptConnections(),
  })
  const commonHeaders = { 'User-Agent': 'session-token-manager', ...options.headers }
  const proxy = options.proxy === undefined ? {} : { proxy: options.proxy }

  return async function send(given) {
    const request = ownProperties(given)
    const { method, url, body, certificate, signal } = request
    const connection = new Connection(connectTimeoutMs, certificate)
    try {
      const response: AxiosResponse<Readable> = await axios.request({
        method,
        url,
        signal,
        transport: connection,
        headers: mergeHeaders(commonHeaders, request.headers),
        // Plain http is for this machine alone, so such a request must not go through a proxy.
        ...(/^https:/i.test(url) ? proxy : { proxy: false as const }),
        ...(body !== undefined && { data: body }),
      })
      const { status, headers, data } = response
      return {
        status,
        header: (name) => (headers[name] === undefined ? undefined : String(headers[name])),
        body: await readBody(data),
      }
    } catch (error) {
      const failure = unreachable(error, request)
      if (!connection.isReady) unsent.add(failure)
      throw failure
    }
  }
}

const KEEP_ALIVE = { keepAlive: true, timeout: IDLE_MS }

/**
 * Makes an agent with the options of Node's global agent, whose idle connections are closed after {@link IDLE_MS}. Returns
 * `undefined` if the app has set a global agent of another class: then that agent makes the connections.
 */
function keptConnections(): HttpsAgent | undefined {
  const { globalAgent } = https
  if (globalAgent.constructor !== HttpsAgent) return undefined
  return new HttpsAgent({ ...globalAgent.options, ...KEEP_ALIVE })
}

/** The connection of one request. A request whose connection is not ready in time fails, and nothing is sent. */
class Connection {
  /** Whether the request could be sent. */
  isReady = false
  readonly #timeoutMs: number
  readonly #certificate: ClientCertificate | undefined
  #timer: NodeJS.Timeout | undefined

  constructor(timeoutMs: number, certificate: ClientCertificate | undefined) {
    this.#timeoutMs = timeoutMs
    this.#certificate = certificate
  }

  /** Starts an HTTP request. axios calls this method: the connection is its `transport`, in place of `http` or `https`. */
  request(options: RequestOptions, onResponse: (response: http.IncomingMessage) => void): ClientRequest {
    const { request } = options.protocol === 'https:' ? https : http
    // An agent keeps the options for as long as it keeps the connection. Those for redirects lead to the body and its token.
    const started = request(
      // An agent keeps the connections of each certificate apart.
      { ...options, ...this.#certificate, beforeRedirects: undefined } as RequestOptions,
      onResponse,
    )
    for (const name of Object.keys(options.headers ?? {}))
      delete (options.headers as Record<string, unknown>)[name]
    const tooLate = () =>
      started.destroy(Object.assign(new OwnError('no connection'), { code: 'ERR_CONNECT_TIMEOUT' }))
    this.#timer = setTimeout(tooLate, this.#timeoutMs).unref()
    started.once('socket', (socket) => this.#follow(socket))
    failOnUpgrade(started)
    started.once('close', () => clearTimeout(this.#timer))
    return started
  }

  #follow(socket: Socket | TLSSocket): void {
    const ready = () => {
      this.isReady = true
      clearTimeout(this.#timer)
    }
    if (isSecuring(socket)) socket.once('secureConnect', ready)
    else if (socket.connecting) socket.once('connect', ready)
    else ready()
  }
}

/** Whether the TLS handshake of a socket has not ended yet. */
function isSecuring(socket: Socket | TLSSocket): boolean {
  return (socket as { secureConnecting?: boolean }).secureConnecting === true
}

/** Collects the values of headers that may be secrets. Shorter values than 6 characters would hide half of a message. */
export function secretsOfHeaders(headers: Readonly<Record<string, string>> = {}): string[] {
  const values = Object.entries(headers).filter(([name]) => name.toLowerCase() !== 'user-agent')
  return values.map(([, value]) => value).filter((value) => value.length >= 6)
}

/** Merges headers without regard to case. The last value of a header counts. */
function mergeHeaders(...parts: Readonly<Record<string, string>>[]): Record<string, string> {
  const merged = new Map<string, [string, string]>()
  for (const part of parts) {
    for (const [name, value] of Object.entries(part)) merged.set(name.toLowerCase(), [name, value])
  }
  return Object.fromEntries(merged.values())
}

async function readBody(stream: Readable): Promise<HttpResponse['body']> {
  const chunks: Buffer[] = []
  let size = 0
  try {
    for await (const chunk of stream as AsyncIterable<Buffer>) {
      size += chunk.length
      // Leaving the loop destroys the stream and its connection.
      if (size > MAX_BODY_BYTES) return ownProperties({ flaw: 'is larger than 1 MB' })
      chunks.push(chunk)
    }
  } catch (error) {
    if (isDecompressionError(error)) return ownProperties({ flaw: 'could not be decompressed' })
    throw error
  }
  return ownProperties({ text: new TextDecoder().decode(Buffer.concat(chunks)) })
}

function isDecompressionError(error: unknown): boolean {
  // The codes of zlib begin with Z_, e.g. Z_DATA_ERROR; those of Brotli are ERR__ERROR_FORMAT_….
  return /^(Z_|ERR__)/.test(String((error as { code?: unknown } | null)?.code))
}

/** The codes of TLS alerts with which a server refuses the certificate of a client, or requires one. */
const CERTIFICATE_ALERT = /^ERR_SSL_[\w/]*ALERT_\w*(?:CERTIFICATE|UNKNOWN_CA|ACCESS_DENIED)/
/**
 * The words of OpenSSL for an alert during the handshake, such as "tlsv1 alert unknown ca", or "ssl/tls alert bad certificate" since
 * OpenSSL 3.2. Node gives it the code `EPROTO`.
 */
const HANDSHAKE_ALERT = /:((?:sslv3|tlsv\d+|ssl\/tls) [a-z ]+):/

/** Returns the code of an error. An alert during the TLS handshake has the code that it would have after the handshake. */
function codeOf(error: unknown): unknown {
  const { code, message } = (error ?? {}) as { code?: unknown; message?: unknown }
  const [, alert] = (code === 'EPROTO' && HANDSHAKE_ALERT.exec(String(message))) || []
  return alert === undefined ? code : `ERR_SSL_${alert.toUpperCase().replaceAll(' ', '_')}`
}

function unreachable(error: unknown, request: HttpRequest): TokenError {
  const { describe, signal, where } = request
  if (signal.aborted) return abortedError(signal, describe(), where())
  const secrets = request.secrets()
  const code = codeOf(error)
  if (CERTIFICATE_ALERT.test(String(code))) return certificateRefused(String(code), error, request)
  const why = typeof code === 'string' ? ` (${safeExcerpt(redactCode(code, secrets), [], 64)})` : ''
  const tls = code === 'EPROTO' ? ' Does it speak https?' : ''
  const message = `${describe()} could not be reached${why}.${tls} Check the URL and the network, or try again later.`
  return new TokenError('ERR_TOKEN_ENDPOINT_UNAVAILABLE', message, {
    cause: error,
    secrets,
    details: where(),
  })
}

/** Returns the error for a server that refused the client certificate before it read the request, or that requires one. */
function certificateRefused(
  code: string,
  error: unknown,
  { describe, secrets, where }: HttpRequest,
): TokenError {
  return new TokenError(
    'ERR_CLIENT_REJECTED',
    `${describe()} refused the client certificate (${code}). Check that there is one, that it has not expired, and that it is ` +
      'the one that is registered.',
    { cause: error, secrets: secrets(), details: where() },
  )
}
