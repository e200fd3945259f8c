import { PassThrough, pipeline, Readable } from 'node:stream'
import axios, { AxiosError, type AxiosResponse, type InternalAxiosRequestConfig } from 'axios'

/** An answer that shows nothing of the token: the app's own config, a harmless request, a stream that leads nowhere. */
export function cleanAnswer(
  answer: AxiosResponse,
  config: InternalAxiosRequestConfig,
  url: string,
): AxiosResponse {
  answer.config = config
  answer.request = { ...standIn(config, url), res: { responseUrl: url } }
  if (answer.data instanceof Readable) answer.data = detached(answer.data, config, url)
  return answer
}

/**
 * The error, showing nothing of the token any more: neither it itself nor what caused it. One that cannot be changed is
 * replaced.
 */
export function cleanError(error: unknown, config: InternalAxiosRequestConfig, url: string): unknown {
  try {
    for (const each of withCauses(error)) cleanOne(each, config, url)
    return error
  } catch {
    return new AxiosError(String((error as { message?: unknown }).message ?? error), undefined, config)
  }
}

/** An app's own adapter may reject with anything, and its errors may hold what it was given to send. */
function cleanOne(error: object, config: InternalAxiosRequestConfig, url: string): void {
  const shown = error as Partial<AxiosError> & { rawPacket?: unknown; data?: unknown }
  // What the parser of HTTP could not read, which may be anything, such as the request itself. On Node 24 it has no code.
  if (String(shown.code).startsWith('HPE_') || shown.name === 'HTTPParserError') {
    delete shown.rawPacket
    delete shown.data
  }
  if (axios.isAxiosError(error) || shown.config) shown.config = config
  if (shown.request) shown.request = standIn(config, url)
  if (!shown.response) return
  cleanAnswer(shown.response, config, url)
  shown.request = shown.response.request
}

/** An error, what caused it, what caused that and so on, each once. */
function withCauses(error: unknown, found = new Set<object>()): Set<object> {
  if (typeof error !== 'object' || error === null || found.has(error)) return found
  found.add(error)
  const { cause, errors } = error as { cause?: unknown; errors?: unknown }
  for (const each of [cause, ...(Array.isArray(errors) ? errors : [])]) withCauses(each, found)
  return found
}

/** What stands in for the raw request, whose headers hold the token. */
function standIn(config: InternalAxiosRequestConfig, url: string): { method: string; url: string } {
  return { method: (config.method ?? 'get').toUpperCase(), url }
}

/** The same bytes from a stream of our own: that of an answer leads to its request. */
function detached(source: Readable, config: InternalAxiosRequestConfig, url: string): Readable {
  source.once('error', (error) => cleanError(error, config, url))
  const data = new PassThrough()
  // Failures reach whoever reads `data`, and destroying `data` destroys the source.
  pipeline(source, data, () => {})
  return data
}

/** Gives the answer to the caller if the app's `validateStatus` takes it, as axios does. */
export function validated(answer: AxiosResponse): AxiosResponse {
  const { status, config, request } = answer
  if (!config.validateStatus || config.validateStatus(status)) return answer
  const code = status >= 400 && status < 500 ? AxiosError.ERR_BAD_REQUEST : AxiosError.ERR_BAD_RESPONSE
  throw new AxiosError(`Request failed with status code ${status}`, code, config, request, answer)
}

/** Frees the connection of an answer that nobody will read. */
export function discard(answer: AxiosResponse): void {
  const data = answer.data as { destroy?: () => void; cancel?: () => Promise<void> } | undefined
  if (!isStream(data)) return
  if (typeof data?.destroy === 'function') data.destroy()
  else data?.cancel?.().catch(() => {})
}

export function isStream(data: unknown): boolean {
  const { pipe, getReader } = (data ?? {}) as { pipe?: unknown; getReader?: unknown }
  return typeof pipe === 'function' || typeof getReader === 'function'
}
