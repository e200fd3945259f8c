import { types } from 'node:util'
import { ConfigurationError } from '../../errors/token-error.js'
import { fieldValue } from '../../options/own-properties.js'
import { contentHeaders, headersToLeave, leavesBody, methodWithoutBody, targetOf } from '../redirect-rules.js'
import { isStream } from '../streams.js'
import type { MakeDispatcher } from './certificate-dispatchers.js'

type Input = Parameters<typeof fetch>[0]

/** One request of those that a call of `fetch()` makes, before it is authorized. */
export interface FetchRequest {
  readonly url: string
  readonly method: string
  readonly headers: Headers
  readonly body: RequestInit['body']
  readonly redirect: RequestInit['redirect']
  readonly signal: AbortSignal | null | undefined
  /** Makes the dispatcher of the requests that carry the token, if the app asks for the client certificate. */
  readonly makeDispatcher?: MakeDispatcher | undefined
  /** The other options of the app for `fetch()`. */
  readonly settings: Readonly<Record<string, unknown>>
}

/** The options of `fetch()` that are passed on as they are. `dispatcher` is Node's own. */
const SETTINGS = [
  'cache',
  'credentials',
  'dispatcher',
  'duplex',
  'integrity',
  'keepalive',
  'mode',
  'referrer',
  'referrerPolicy',
] as const

/**
 * Makes one request of the arguments of `fetch()`. The properties of `init` replace those of a `Request`. A relative URL is
 * appended to `baseURL`.
 */
export function requestOf(input: Input, init: RequestInit, baseURL: string): FetchRequest {
  const request = input instanceof Request ? input : undefined
  const asked = <Name extends string>(name: Name) => {
    const option = fieldValue(init, name)
    return option === undefined && request ? fieldValue(request, name) : option
  }
  const settings = SETTINGS.map((name) => [name, asked(name)]).filter(([, value]) => value !== undefined)
  return {
    url: request?.url ?? appended(baseURL, textOf(input)),
    method: String(asked('method') ?? 'GET'),
    headers: new Headers(asked('headers') as Headers | undefined),
    // Without a body among the options, the body of the Request is sent.
    body: snapshotOf((fieldValue(init, 'body') as FetchRequest['body']) ?? request?.body ?? null),
    redirect: asked('redirect') as RequestInit['redirect'],
    signal: asked('signal') as FetchRequest['signal'],
    settings: Object.fromEntries(settings),
  }
}

/** Returns the text of a URL. Another object would be asked for as `[object Request]`, with GET. */
function textOf(input: unknown): string {
  const text = String(input)
  if (typeof input !== 'object' || !text.startsWith('[object ')) return text
  throw new ConfigurationError(
    'The first argument of fetch() must be a URL, or a Request of Node itself. The Request of another library, such as undici, is ' +
      'not one: give its url, and its other properties as the second argument.',
  )
}

/** Copies a body as it is now, as `fetch()` does. So the app may change the original while the call waits for a token. */
function snapshotOf(body: FetchRequest['body']): FetchRequest['body'] {
  if (body instanceof URLSearchParams) return new URLSearchParams(body)
  if (body instanceof FormData) return copyOf(body)
  if (types.isArrayBuffer(body)) return body.slice(0)
  if (ArrayBuffer.isView(body)) return new Uint8Array(body.buffer, body.byteOffset, body.byteLength).slice()
  return body
}

function copyOf(form: FormData): FormData {
  const copy = new FormData()
  for (const [name, value] of form) copy.append(name, value as string)
  return copy
}

/** Appends a relative URL to `baseURL`, with one slash between, as axios does. An absolute URL is used as it is. */
function appended(baseURL: string, url: string): string {
  if (/^([a-z][a-z\d+.-]*:)?\/\//i.test(url)) return url
  return url === '' ? baseURL : `${baseURL.replace(/\/+$/, '')}/${url.replace(/^\/+/, '')}`
}

/** Whether a body can be sent only once. */
export function isUsedUp(body: unknown): boolean {
  return isStream(body) || Symbol.asyncIterator in Object(body)
}

/** Whether the request that a redirect leads to needs the body again. */
export function takesBodyAlong({ method, body }: FetchRequest, status: number): boolean {
  return body !== null && !leavesBody(status, method)
}

/**
 * Returns the request that a redirect leads to.
 *
 * @throws `Error` if it leads to no URL for HTTP
 */
export function redirected(request: FetchRequest, status: number, location: string): FetchRequest {
  const { method, url } = request
  const target = targetOf(location, url)
  const headers = new Headers(request.headers)
  for (const name of headersToLeave(url, target)) headers.delete(name)
  if (!leavesBody(status, method)) return { ...request, url: target.href, headers }
  for (const name of contentHeaders(headers.keys())) headers.delete(name)
  return { ...request, url: target.href, headers, method: methodWithoutBody(method), body: null }
}
