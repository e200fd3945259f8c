import { AxiosError, AxiosHeaders, type AxiosResponse, type InternalAxiosRequestConfig } from 'axios'
import { ownProperties, ownValue } from '../../options/own-properties.js'
import {
  contentHeaders,
  DEFAULT_MAX_REDIRECTS,
  followRedirects,
  headersToLeave,
  isRedirect,
  leavesBody,
  methodWithoutBody,
  targetOf,
} from '../redirect-rules.js'
import { isStream } from '../streams.js'
import { discard } from './responses.js'

/** One request of a call: its config, and its URL with the parameters of the config. */
export interface Hop {
  readonly config: InternalAxiosRequestConfig
  readonly url: string
}

/**
 * Sends a call of axios, and follows its redirects. axios leaves this to `follow-redirects`, which prints all headers, the token
 * among them, when `DEBUG` is set.
 *
 * @param send sends one request, follows no redirect, and resolves whatever the status of the response is
 */
export async function sendFollowing(
  first: Hop,
  send: (hop: Hop) => Promise<AxiosResponse>,
): Promise<{ readonly response: AxiosResponse; readonly url: string }> {
  const { config } = first
  const { maxRedirects = DEFAULT_MAX_REDIRECTS } = config
  const startedAt = performance.now()
  const { request, response } = await followRedirects<Hop, AxiosResponse>(first, maxRedirects, {
    send,
    canFollow: (hop, { headers, status }) =>
      isRedirect(status, ownValue(headers, 'location')) &&
      !isStream(withoutBodyIfAsked(hop.config, status).data),
    next(hop, response) {
      try {
        const next = nextHop(hop, response)
        if (config.timeout) Object.assign(next.config, timeLeft(config, startedAt))
        return next
      } catch (error) {
        throw failedRedirect(error, config, response)
      }
    },
    discard,
    tooManyError: ({ request }) =>
      new AxiosError('Maximum number of redirects exceeded', 'ERR_FR_TOO_MANY_REDIRECTS', config, request),
  })
  return { response, url: request.url }
}

function nextHop({ config, url }: Hop, response: AxiosResponse): Hop {
  const target = targetOf(String(response.headers.location), url)
  const next = withoutBodyIfAsked(config, response.status)
  const from = { url, method: config.method, headers: config.headers }
  return { config: redirected(next, target, response, from), url: target.href }
}

function withoutBodyIfAsked(config: InternalAxiosRequestConfig, status: number): InternalAxiosRequestConfig {
  const { method = 'get' } = config
  const headers = AxiosHeaders.concat(config.headers)
  if (!leavesBody(status, method)) return ownProperties({ ...config, headers })
  headers.delete(contentHeaders(Object.keys(headers)))
  const bodyless = { ...config, headers, method: methodWithoutBody(method).toLowerCase(), data: undefined }
  return ownProperties(bodyless)
}

/** Returns the request that a redirect leads to, after the app's `beforeRedirect` has changed its method and headers. */
function redirected(
  config: InternalAxiosRequestConfig,
  target: URL,
  response: AxiosResponse,
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
    { headers: { ...response.headers } as Record<string, string>, statusCode: response.status },
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
  response: AxiosResponse,
): AxiosError {
  const reason = cause instanceof Error ? cause.message : String(cause)
  const message = `Redirected request failed: ${reason}`
  const error = new AxiosError(message, 'ERR_FR_REDIRECTION_FAILURE', config, response.request)
  return Object.assign(error, { cause })
}

/** Returns the time that is left: the app's `timeout` is for the whole call, not for each of its requests. */
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
