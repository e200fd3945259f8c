import { originOf } from './origins.js'

/** How many redirects are followed unless the app's `maxRedirects` says otherwise. */
export const DEFAULT_MAX_REDIRECTS = 5

const REDIRECTS: readonly number[] = [301, 302, 303, 307, 308]

/** Headers that must not go along to another origin. */
const CREDENTIALS = ['authorization', 'cookie', 'proxy-authorization']

/** Whether a response leads to another URL. */
export function isRedirect(status: number, location: unknown): boolean {
  return REDIRECTS.includes(status) && Boolean(location)
}

/** Whether the body stays behind: 303 asks for a GET, and 301 and 302 have always made a GET of a POST (RFC 9110 §15.4). */
export function leavesBody(status: number, method: string): boolean {
  return status === 303 || ((status === 301 || status === 302) && method.toUpperCase() === 'POST')
}

/** Returns the method of the request that a redirect leads to when the body stays behind. */
export function methodWithoutBody(method: string): 'HEAD' | 'GET' {
  return method.toUpperCase() === 'HEAD' ? 'HEAD' : 'GET'
}

/** Returns the names of the headers that describe a body, such as `content-type`. A request without a body must not have them. */
export function contentHeaders(names: Iterable<string>): string[] {
  return [...names].filter((name) => /^content-/i.test(name))
}

/** Returns the headers that do not go along from one URL to another. */
export function headersToLeave(from: string, target: URL): readonly string[] {
  return target.origin === new URL(from).origin ? ['host'] : ['host', ...CREDENTIALS]
}

/**
 * Says which requests of a call carry the token, asked in their order: those to the origins that were named, until a redirect
 * leads to another origin. From then on no request carries it, since that origin would choose where the token goes.
 */
export function tokenAlong<Token>(
  origins: ReadonlySet<string>,
  token: Token | undefined,
): (url: string) => Token | undefined {
  let hasLeft = false
  return (url) => {
    hasLeft ||= !origins.has(originOf(url) ?? '')
    return hasLeft ? undefined : token
  }
}

/**
 * Returns where a redirect leads to. Credentials in its URL are left out: they would displace the token.
 *
 * @throws `Error` if that is no URL for HTTP
 */
export function targetOf(location: string, base: string): URL {
  const target = new URL(location, base)
  if (!/^https?:$/.test(target.protocol)) throw new Error(`Unsupported protocol ${target.protocol}`)
  target.username = ''
  target.password = ''
  return target
}

/** How one HTTP client sends the requests of a call that redirects lead through. */
export interface RedirectClient<Request, Response> {
  /** Sends one request and follows no redirect. */
  send(request: Request): Promise<Response>
  /** Whether a response is a redirect that this client can follow. It cannot send a stream a second time. */
  canFollow(request: Request, response: Response): boolean
  /** Returns the request that a redirect leads to. */
  next(request: Request, response: Response): Request
  /** Frees the connection of a response that will not be read. */
  discard(response: Response): void
  /** Makes the error of a call with more redirects than allowed. */
  tooManyError(response: Response): Error
}

/**
 * Follows redirects one request at a time, so that each origin gets only what it may see. Resolves with the last response and its
 * request.
 *
 * @param maxRedirects with 0, a redirect is returned as the response
 */
export async function followRedirects<Request, Response>(
  first: Request,
  maxRedirects: number,
  client: RedirectClient<Request, Response>,
): Promise<{ readonly request: Request; readonly response: Response; readonly followed: number }> {
  let request = first
  for (let followed = 0; ; followed++) {
    const response = await client.send(request)
    if (maxRedirects === 0 || !client.canFollow(request, response)) return { request, response, followed }
    client.discard(response)
    if (followed >= maxRedirects) throw client.tooManyError(response)
    request = client.next(request, response)
  }
}
