import { AxiosError, AxiosHeaders, type AxiosResponse, type InternalAxiosRequestConfig } from 'axios'
import { ownProperties } from '../../own-properties.js'
import {
  contentHeaders,
  DEFAULT_MAX_REDIRECTS,
  headersToLeave,
  isRedirect,
  leavesBody,
  methodWithoutBody,
  targetOf,
} from '../redirect-rules.js'
import { discard, isStream } from './answers.js'

/** Sends one request to the URL, follows nothing, and resolves whatever the status of the answer is. */
type Send = (config: InternalAxiosRequestConfig, url: string) => Promise<AxiosResponse>

/** The last answer, and the URL that gave it. */
export interface Arrival {
  readonly answer: AxiosResponse
  readonly url: string
}

/**
 * Follows redirects one request at a time, so that each is sent what its origin may see.
 *
 * axios leaves this to `follow-redirects`, which prints all headers, the token among them, when `DEBUG` is set.
 */
export async function followRedirects(
  config: InternalAxiosRequestConfig,
  start: string,
  send: Send,
): Promise<Arrival> {
  const { maxRedirects = DEFAULT_MAX_REDIRECTS } = config
  const startedAt = performance.now()
  let hop = config
  let url = start
  for (let followed = 0; ; followed++) {
    const answer = await send(hop, url)
    const location = answer.headers.location
    if (maxRedirects === 0 || !isRedirect(answer.status, location)) return { answer, url }
    const next = withoutBodyIfAsked(hop, answer.status)
    if (isStream(next.data)) return { answer, url }

    discard(answer)
    if (followed >= maxRedirects) {
      throw new AxiosError(
        'Maximum number of redirects exceeded',
        'ERR_FR_TOO_MANY_REDIRECTS',
        config,
        answer.request,
      )
    }
    try {
      const target = targetOf(String(location), url)
      hop = redirected(next, target, answer, { url, method: hop.method, headers: hop.headers })
      url = target.href
    } catch (error) {
      throw failedRedirect(error, config, answer)
    }
    if (config.timeout) Object.assign(hop, timeLeft(config, startedAt))
  }
}

function withoutBodyIfAsked(config: InternalAxiosRequestConfig, status: number): InternalAxiosRequestConfig {
  const { method = 'get' } = config
  const headers = AxiosHeaders.concat(config.headers)
  if (!leavesBody(status, method)) return ownProperties({ ...config, headers })
  headers.delete(contentHeaders(Object.keys(headers)))
  const bodyless = { ...config, headers, method: methodWithoutBody(method).toLowerCase(), data: undefined }
  return ownProperties(bodyless)
}

/** The request that a redirect leads to, once the app's `beforeRedirect` has had its say about method and headers. */
function redirected(
  config: InternalAxiosRequestConfig,
  target: URL,
  answer: AxiosResponse,
  from: { url: string; method: string | undefined; headers: AxiosHeaders },
): InternalAxiosRequestConfig {
  config.headers.delete([...headersToLeave(from.url, target)])
  if (target.origin !== new URL(from.url).origin) config.headers.delete(config.sensitiveHeaders ?? [])
  const options = {
    href: target.href,
    protocol: target.protocol,
    hostname: target.hostname,
    host: target.host,
    port: target.port,
    path: target.pathname + target.search,
    pathname: target.pathname,
    search: target.search,
    hash: target.hash,
    method: (config.method ?? 'get').toUpperCase(),
    headers: config.headers.toJSON() as Record<string, string>,
  }
  config.beforeRedirect?.(
    options,
    { headers: { ...answer.headers } as Record<string, string>, statusCode: answer.status },
    {
      url: from.url,
      method: (from.method ?? 'get').toUpperCase(),
      headers: from.headers.toJSON() as Record<string, string>,
    },
  )
  return ownProperties({
    ...config,
    baseURL: undefined as never,
    params: undefined,
    url: target.href,
    method: options.method,
    headers: AxiosHeaders.from(options.headers),
  })
}

function failedRedirect(
  cause: unknown,
  config: InternalAxiosRequestConfig,
  answer: AxiosResponse,
): AxiosError {
  const reason = cause instanceof Error ? cause.message : String(cause)
  const message = `Redirected request failed: ${reason}`
  const error = new AxiosError(message, 'ERR_FR_REDIRECTION_FAILURE', config, answer.request)
  return Object.assign(error, { cause })
}

/** The app's `timeout` is for all of it, not for every request on the way. */
function timeLeft(
  config: InternalAxiosRequestConfig,
  startedAt: number,
): Partial<InternalAxiosRequestConfig> {
  const timeout = config.timeout!
  return {
    timeout: Math.max(1, Math.ceil(timeout - (performance.now() - startedAt))),
    timeoutErrorMessage: config.timeoutErrorMessage || `timeout of ${timeout}ms exceeded`,
  }
}
