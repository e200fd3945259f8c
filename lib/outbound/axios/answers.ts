import { PassThrough, pipeline, Readable } from 'node:stream'
import axios, {
  AxiosError,
  type AxiosHeaders,
  type AxiosResponse,
  type InternalAxiosRequestConfig,
} from 'axios'
import { cleanBody } from '../bodies.js'
import { cleanError, type Secrets } from '../cleaning.js'

/** What there is to be seen of a request: its config without connections, its URL, and not the tokens. */
export interface Shown {
  readonly config: InternalAxiosRequestConfig
  readonly url: string
  readonly secrets: Secrets
}

/** What an answer of axios consists of. Adapters of the app's may add to it. */
const OF_AXIOS: readonly string[] = ['config', 'data', 'headers', 'request', 'status', 'statusText']

/**
 * An answer that shows nothing of the token: the app's own config, a harmless request, a stream that leads nowhere.
 */
export function cleanAnswer(answer: AxiosResponse, shown: Shown): AxiosResponse {
  const { config, url } = shown
  answer.config = config
  answer.request = { ...standIn(shown), res: { responseUrl: url } }
  answer.data = cleanData(answer.data, shown)
  for (const name of Reflect.ownKeys(answer)) {
    if (!OF_AXIOS.includes(name as string)) Reflect.set(answer, name, ownPart(answer, name, shown))
  }
  return answer
}

/** What an adapter of the app's has added to an answer. */
function ownPart(answer: AxiosResponse, name: string | symbol, { secrets }: Shown): unknown {
  const value: unknown = Reflect.get(answer, name)
  if (typeof value !== 'object' && typeof value !== 'function') return value
  return (cleanError({ value }, secrets()) as { value?: unknown }).value
}

/** A body whose failures show no token. Streams are replaced: that of an answer leads to its request. */
function cleanData(data: unknown, shown: Shown): unknown {
  const clean = (error: unknown) => cleanAxiosError(error, shown)
  if (data instanceof Readable) return detached(data, clean)
  return cleanBody(data, clean)
}

/**
 * The error, showing nothing of the tokens any more: neither it itself nor what caused it, nor what the API answered. One
 * that cannot be changed is replaced.
 */
export function cleanAxiosError(error: unknown, shown: Shown): unknown {
  const { config } = shown
  const cleaned = cleanError(error, shown.secrets(), {
    config: () => config,
    request: () => standIn(shown),
    response: (answer, clean) => cleanRefusal(answer as AxiosResponse, shown, clean),
  }) as Partial<AxiosError> | null | undefined
  if (typeof cleaned !== 'object' || cleaned === null) return cleaned
  if (cleaned !== error) return new AxiosError(cleaned.message, cleaned.code, config)
  if (cleaned.response) cleaned.request = cleaned.response.request
  // The reason of a CancelToken may be that of other calls, too.
  if (axios.isAxiosError(cleaned) && !axios.isCancel(cleaned)) cleaned.config ??= config
  return cleaned
}

/** The answer that an error shows: a log of the error has all of it, so that a token that the API echoes is taken out. */
function cleanRefusal(answer: AxiosResponse, shown: Shown, clean: (part: unknown) => unknown): AxiosResponse {
  cleanAnswer(answer, shown)
  if (!isStream(answer.data) && !(answer.data instanceof Response)) answer.data = clean(answer.data)
  answer.statusText = clean(answer.statusText) as string
  const headers = (answer.headers ?? {}) as AxiosHeaders
  for (const [name, value] of Object.entries(headers)) headers[name] = clean(value) as string
  return answer
}

/** What stands in for the raw request, whose headers hold the token. */
function standIn({ config, url }: Shown): { method: string; url: string } {
  return { method: (config.method ?? 'get').toUpperCase(), url }
}

/** The same bytes from a stream of our own. */
function detached(source: Readable, clean: (error: unknown) => unknown): Readable {
  const data = new PassThrough({
    destroy: (error, done) => done(error && (clean(error) as Error)),
  })
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
