import { Agent as HttpAgent } from 'node:http'
import https, { Agent as HttpsAgent } from 'node:https'
import type { Readable } from 'node:stream'
import { Axios, type AxiosProxyConfig, type AxiosResponse } from 'axios'
import { TokenError } from '../errors.js'
import { ownProperties } from '../own-properties.js'
import { isPlainHttp } from './endpoint-url.js'
import { shownText } from './foreign-text.js'
import { abortedError } from './until-aborted.js'

/** How the authorization server is reached. */
export interface HttpOptions {
  /** The agent for plain http, which is used on the loopback interface only. */
  readonly httpAgent?: HttpAgent
  /**
   * The agent for https: client certificates, a CA of your own. Default: the options of the global agent, without
   * keep-alive, so that no refresh is lost on a connection that the server is about to close.
   */
  readonly httpsAgent?: HttpsAgent
  /**
   * The proxy for https; `false` ignores the `HTTPS_PROXY` and `NO_PROXY` environment variables. Requests over
   * plain http stay on this machine and go through no proxy.
   */
  readonly proxy?: AxiosProxyConfig | false
  /** Headers sent along with each request, e.g. `User-Agent`. */
  readonly headers?: Readonly<Record<string, string>>
}

export interface HttpRequest {
  /** Names the endpoint in messages, e.g. `The token endpoint https://idp.example.com/token`. */
  readonly what: string
  readonly method: 'GET' | 'POST'
  readonly url: string
  readonly headers: Readonly<Record<string, string>>
  readonly body?: string
  /** Strings that no error may show. */
  readonly secrets: readonly string[]
  readonly signal: AbortSignal
}

export interface HttpAnswer {
  readonly status: number
  readonly header: (name: string) => string | undefined
  /** The body as text, or what made it unreadable. */
  readonly body: { readonly text: string } | { readonly flaw: string }
}

/** Sends one request, once. Rejects with `ERR_TOKEN_ENDPOINT_UNAVAILABLE` when no whole answer arrives. */
export type SendHttp = (request: HttpRequest) => Promise<HttpAnswer>

/** How much of an answer is read, after decompression. */
const MAX_ANSWER_BYTES = 1024 * 1024

/**
 * An HTTP client of our own: not the app's axios, whose defaults and interceptors must not see secrets. It follows
 * no redirect, repeats nothing and leaves every body as it is.
 */
export function httpClient(options: HttpOptions = {}): SendHttp {
  // `axios.create()` would start from the app's `axios.defaults`; the bare class starts from nothing.
  const axios = new Axios({
    adapter: 'http',
    maxRedirects: 0,
    responseType: 'stream',
    validateStatus: () => true,
    httpAgent: options.httpAgent ?? new HttpAgent(),
    httpsAgent: options.httpsAgent ?? freshConnections(),
  })
  const ownHeaders = { 'User-Agent': 'session-token-manager', ...options.headers }
  const proxyFor = (url: string) => {
    if (isPlainHttp(url)) return { proxy: false as const }
    return options.proxy === undefined ? {} : { proxy: options.proxy }
  }

  return async function send(request) {
    const { method, url, body, signal } = request
    try {
      const response: AxiosResponse<Readable> = await axios.request({
        method,
        url,
        signal,
        headers: mergeHeaders(ownHeaders, request.headers),
        ...proxyFor(url),
        ...(body !== undefined && { data: body }),
      })
      const { status, headers, data } = response
      return {
        status,
        header: (name) => (headers[name] === undefined ? undefined : String(headers[name])),
        body: ownProperties(await readBody(data)),
      }
    } catch (error) {
      throw unreachable(error, request)
    }
  }
}

/**
 * A new connection for each request. A server may close an idle one just when a refresh is sent over it, and nobody
 * could tell whether the refresh token was used. What the app or the platform set on the global agent is kept.
 */
function freshConnections(): HttpsAgent | undefined {
  const { globalAgent } = https
  if (globalAgent.constructor !== HttpsAgent) return undefined
  return new HttpsAgent({ ...globalAgent.options, keepAlive: false, timeout: undefined })
}

/** The values of headers that may be keys to something. Too short ones are none, and would hide half of a message. */
export function secretsOfHeaders(headers: Readonly<Record<string, string>> = {}): string[] {
  const values = Object.entries(headers).filter(([name]) => name.toLowerCase() !== 'user-agent')
  return values.map(([, value]) => value).filter((value) => value.length >= 6)
}

/** Headers whose names differ in case alone are one header; the later one counts. */
function mergeHeaders(...parts: Readonly<Record<string, string>>[]): Record<string, string> {
  const merged = new Map<string, [string, string]>()
  for (const part of parts) {
    for (const [name, value] of Object.entries(part)) merged.set(name.toLowerCase(), [name, value])
  }
  return Object.fromEntries(merged.values())
}

async function readBody(stream: Readable): Promise<HttpAnswer['body']> {
  const chunks: Buffer[] = []
  let size = 0
  try {
    for await (const chunk of stream as AsyncIterable<Buffer>) {
      size += chunk.length
      // Leaving the loop destroys the stream and its connection.
      if (size > MAX_ANSWER_BYTES) return { flaw: 'is larger than 1 MB' }
      chunks.push(chunk)
    }
  } catch (error) {
    if (isDecompressionError(error)) return { flaw: 'could not be decompressed' }
    throw error
  }
  return { text: new TextDecoder().decode(Buffer.concat(chunks)) }
}

function isDecompressionError(error: unknown): boolean {
  // zlib says Z_DATA_ERROR, Brotli ERR__ERROR_FORMAT_….
  return /^(Z_|ERR__)/.test(String((error as { code?: unknown } | null)?.code))
}

function unreachable(error: unknown, { what, secrets, signal }: HttpRequest): TokenError {
  if (signal.aborted) return abortedError(signal, what)
  const code = (error as { code?: unknown } | null)?.code
  const why = typeof code === 'string' ? ` (${shownText(code, secrets, 64)})` : ''
  const tls = code === 'EPROTO' ? ' Does it speak https?' : ''
  const message = `${what} could not be reached${why}.${tls} Check the URL and the network, or try again later.`
  return new TokenError('ERR_TOKEN_ENDPOINT_UNAVAILABLE', message, { cause: error, secrets })
}
