import type { ClientRequest, IncomingHttpHeaders, IncomingMessage } from 'node:http'
import { ConfigurationError } from '../errors/token-error.js'
import { whenClosed } from '../outbound/streams.js'

/** The body of a request to an API. */
export interface ProxyBody {
  /** The headers about the body, such as its length and its type, in place of those of the request. */
  readonly headers: IncomingHttpHeaders
  /** Whether the body can be sent once more, from its beginning. */
  readonly isKept: boolean
  /**
   * Sends the body from its beginning, as fast as the API reads. An earlier request to the API gets no more of it.
   *
   * @param onProgress is called whenever the API has received a part of the body
   */
  sendTo(upstream: ClientRequest, onProgress: () => void): void
  /** Notes that the API has responded: the body is not sent again, and its rest is read once the response is over. */
  leaveTo(response: IncomingMessage): void
  /** Reads the rest of the body without sending it, so that the browser reads the response. */
  drain(): void
}

/** The properties that a body parser in front puts on a request. */
export interface ParsedBody {
  readonly body?: unknown
  /** The body as it came, which some parsers keep. */
  readonly rawBody?: unknown
}

/**
 * Returns the body of a request: an empty one, the one that a body parser in front has read, or the stream of the request.
 *
 * @param maxBytes how much of a stream is kept
 */
export function bodyOf(request: IncomingMessage, parsed: ParsedBody, maxBytes: number): ProxyBody {
  if (!hasBody(request)) return NO_BODY
  if (!request.readableDidRead && !request.readableEnded) return new StreamedBody(request, maxBytes)
  return parsedBody(request, parsed)
}

function hasBody(request: IncomingMessage): boolean {
  const { headers, httpVersionMajor } = request
  if (headers['transfer-encoding'] !== undefined || Number(headers['content-length']) > 0) return true
  // HTTP/2 has frames in place of both.
  const { stream } = request as { stream?: { endAfterHeaders?: boolean } }
  return httpVersionMajor > 1 && headers['content-length'] === undefined && stream?.endAfterHeaders === false
}

/** A body that is in memory. */
class WholeBody implements ProxyBody {
  readonly isKept = true

  constructor(
    readonly bytes: Buffer,
    readonly headers: IncomingHttpHeaders,
  ) {}

  sendTo(upstream: ClientRequest): void {
    if (this.bytes.length > 0) upstream.end(this.bytes)
    else upstream.end()
  }

  leaveTo(): void {}

  drain(): void {}
}

const NO_BODY = new WholeBody(Buffer.alloc(0), {})

/** A body that streams through. Its beginning is kept as long as the whole body may fit into `maxBytes`. */
class StreamedBody implements ProxyBody {
  readonly headers: IncomingHttpHeaders
  readonly #source: IncomingMessage
  readonly #maxBytes: number
  #kept: Buffer[] | undefined = []
  #keptBytes = 0
  #upstream: ClientRequest | undefined
  #onProgress: () => void = () => {}
  #begun = false

  constructor(source: IncomingMessage, maxBytes: number) {
    const length = source.headers['content-length']
    this.headers =
      length === undefined
        ? { 'transfer-encoding': 'chunked' }
        : { 'content-length': length.replace(/^0+(?=\d)/, '') }
    this.#source = source
    this.#maxBytes = maxBytes
    if (Number(length) > maxBytes) this.#kept = undefined
  }

  get isKept(): boolean {
    return this.#kept !== undefined
  }

  sendTo(upstream: ClientRequest, onProgress: () => void): void {
    const source = this.#source
    this.#upstream = upstream
    this.#onProgress = onProgress
    for (const chunk of this.#kept ?? []) upstream.write(chunk)
    if (source.readableEnded) upstream.end()
    else if (source.destroyed) upstream.destroy(brokenOff())
    else this.#stream(upstream)
  }

  leaveTo(response: IncomingMessage): void {
    this.#kept = undefined
    whenClosed(response, () => this.drain())
  }

  drain(): void {
    this.#upstream = undefined
    this.#kept = undefined
    if (this.#begun) this.#source.resume()
  }

  #stream(upstream: ClientRequest): void {
    const source = this.#source
    upstream.on('drain', () => {
      if (this.#upstream !== upstream) return
      this.#onProgress()
      source.resume()
    })
    if (!this.#begun) this.#begin()
    source.resume()
  }

  #begin(): void {
    const source = this.#source
    this.#begun = true
    // No pipe(): it would put the request to the API, which holds the token, among the properties of the browser's.
    source.on('data', (chunk: Buffer) => this.#take(chunk))
    source.once('end', () => this.#upstream?.end())
    source.once('error', () => this.#upstream?.destroy(brokenOff()))
    source.once('close', () => {
      if (!source.readableEnded) this.#upstream?.destroy(brokenOff())
    })
  }

  #take(chunk: Buffer): void {
    // Between two attempts nothing is read: the second one begins with what has been kept.
    if (this.#upstream?.destroyed) {
      this.#source.pause()
      this.#source.unshift(chunk)
      return
    }
    this.#keptBytes += chunk.length
    if (this.#keptBytes > this.#maxBytes) this.#kept = undefined
    this.#kept?.push(chunk)
    if (!this.#upstream) return
    if (this.#upstream.write(chunk)) this.#onProgress()
    else this.#source.pause()
  }
}

function brokenOff(): Error {
  return Object.assign(new Error('The request was broken off.'), { code: 'ECONNRESET' })
}

/** Makes the body again from the values that a body parser has made of it. */
function parsedBody(request: IncomingMessage, { body, rawBody }: ParsedBody): WholeBody {
  const type = request.headers['content-type'] ?? ''
  const bytes = bytesOf(rawBody) ?? asItCame(request, body) ?? encoded(body, type) ?? bytesOf(body)
  if (bytes === undefined) {
    throw new ConfigurationError(
      'The body of the request has been read, and cannot be made again from what is left. Mount bearerProxy() before the ' +
        'body parser.',
    )
  }
  const headers: IncomingHttpHeaders = { 'content-length': String(bytes.length) }
  // Parsers decompress, and the body is written in UTF-8 here.
  if (type !== '') headers['content-type'] = type.replace(/(;\s*charset=)("[^"]*"|[^\s;]*)/i, '$1utf-8')
  return new WholeBody(bytes, { ...headers, 'content-encoding': undefined })
}

/**
 * Returns the bytes of a body that a parser has read as a text; `undefined` if their number is not the content length, as for a
 * string out of JSON, which has lost its quotes.
 */
function asItCame({ headers }: IncomingMessage, body: unknown): Buffer | undefined {
  const bytes = typeof body === 'string' ? Buffer.from(body) : undefined
  return bytes?.length === Number(headers['content-length']) ? bytes : undefined
}

function bytesOf(value: unknown): Buffer | undefined {
  if (Buffer.isBuffer(value)) return value
  return typeof value === 'string' ? Buffer.from(value) : undefined
}

function encoded(body: unknown, type: string): Buffer | undefined {
  if (body === undefined || Buffer.isBuffer(body)) return undefined
  if (/^application\/(?:[^;]*\+)?json\s*(?:;|$)/i.test(type)) return Buffer.from(JSON.stringify(body))
  if (typeof body === 'string' || !/^application\/x-www-form-urlencoded\s*(?:;|$)/i.test(type))
    return undefined
  return Buffer.from(new URLSearchParams(pairsOf(body)).toString())
}

/** Returns the fields of a form; of nested ones in the notation that `express.urlencoded()` reads: `a[b]=1`, `a[0]=1`. */
function pairsOf(value: unknown, name = ''): [string, string][] {
  if (typeof value !== 'object' || value === null) return [[name, String(value ?? '')]]
  if (Array.isArray(value) && value.every((each) => typeof each !== 'object')) {
    return value.map((each) => [value.length === 1 ? `${name}[]` : name, String(each)])
  }
  return Object.entries(value).flatMap(([key, each]) => pairsOf(each, name === '' ? key : `${name}[${key}]`))
}
