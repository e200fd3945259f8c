import { Readable } from 'node:stream'
import axios, {
  AxiosError,
  type AxiosHeaders,
  type AxiosResponse,
  type InternalAxiosRequestConfig,
} from 'axios'
import { cleanBody } from '../bodies.js'
import { cleanError, type Secrets } from '../cleaning.js'
import { detached, isStream } from '../streams.js'

/** The parts of a request that the app may see: its config without connections, and its URL. */
export interface Shown {
  readonly config: InternalAxiosRequestConfig
  readonly url: string
  readonly secrets: Secrets
}

/** The properties of a response of axios. An adapter of the app may add others. */
const OF_AXIOS: readonly string[] = ['config', 'data', 'headers', 'request', 'status', 'statusText']

/**
 * Makes a response show nothing of the token: it gets the app's config, a harmless request, and a stream that leads nowhere.
 */
export function cleanAxiosResponse(response: AxiosResponse, shown: Shown): AxiosResponse {
  const { config, url } = shown
  response.config = config
  response.request = { ...requestInPlace(shown), res: { responseUrl: url } }
  response.data = cleanData(response.data, shown)
  for (const name of Reflect.ownKeys(response)) {
    if (!OF_AXIOS.includes(name as string)) Reflect.set(response, name, cleanAddition(response, name, shown))
  }
  return response
}

/** Cleans a property that an adapter of the app has added to a response. */
function cleanAddition(response: AxiosResponse, name: string | symbol, { secrets }: Shown): unknown {
  const value: unknown = Reflect.get(response, name)
  if (typeof value !== 'object' && typeof value !== 'function') return value
  return (cleanError({ value }, secrets()) as { value?: unknown }).value
}

/** Returns a body whose failures show no token. Streams are replaced: that of a response leads to its request. */
function cleanData(data: unknown, shown: Shown): unknown {
  const clean = (error: unknown) => cleanAxiosError(error, shown)
  if (data instanceof Readable) return detached(data, clean)
  return cleanBody(data, clean)
}

/**
 * Takes the tokens out of an error: out of its properties, its causes and its response. An error that cannot be changed is
 * replaced.
 */
export function cleanAxiosError(error: unknown, shown: Shown): unknown {
  const { config } = shown
  const cleaned = cleanError(error, shown.secrets(), {
    config: () => config,
    request: () => requestInPlace(shown),
    response: (response, clean) => cleanErrorResponse(response as AxiosResponse, shown, clean),
  }) as Partial<AxiosError> | null | undefined
  if (typeof cleaned !== 'object' || cleaned === null) return cleaned
  if (cleaned !== error) return new AxiosError(cleaned.message, cleaned.code, config)
  if (cleaned.response) cleaned.request = cleaned.response.request
  // The reason of a CancelToken may be that of other calls, too.
  if (axios.isAxiosError(cleaned) && !axios.isCancel(cleaned)) cleaned.config ??= config
  return cleaned
}

/** Cleans the response of an error. A log of the error shows all of it, so a token that the API echoes is taken out. */
function cleanErrorResponse(
  response: AxiosResponse,
  shown: Shown,
  clean: (part: unknown) => unknown,
): AxiosResponse {
  cleanAxiosResponse(response, shown)
  if (!isStream(response.data) && !(response.data instanceof Response)) response.data = clean(response.data)
  response.statusText = clean(response.statusText) as string
  const headers = (response.headers ?? {}) as AxiosHeaders
  for (const [name, value] of Object.entries(headers)) headers[name] = clean(value) as string
  return response
}

/** Returns an object in place of the raw request, whose headers hold the token. */
function requestInPlace({ config, url }: Shown): { method: string; url: string } {
  return { method: (config.method ?? 'get').toUpperCase(), url }
}

/** Returns the response if the app's `validateStatus` accepts it, as axios does. */
export function validated(response: AxiosResponse): AxiosResponse {
  const { status, config, request } = response
  if (!config.validateStatus || config.validateStatus(status)) return response
  const code = status >= 400 && status < 500 ? AxiosError.ERR_BAD_REQUEST : AxiosError.ERR_BAD_RESPONSE
  throw new AxiosError(`Request failed with status code ${status}`, code, config, request, response)
}

/** Frees the connection of a response that will not be read. */
export function discard(response: AxiosResponse): void {
  const data = response.data as { destroy?: () => void; cancel?: () => Promise<void> } | undefined
  if (!isStream(data)) return
  if (typeof data?.destroy === 'function') data.destroy()
  else data?.cancel?.().catch(() => {})
}
