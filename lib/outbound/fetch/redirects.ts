import { followRedirects, isRedirect } from '../redirect-rules.js'
import { type FetchRequest, isUsedUp, redirected, takesBodyAlong } from './request.js'

/**
 * Sends a request of `fetch()`, and follows its redirects. A redirect that would need a stream a second time is returned.
 *
 * @param send sends one request and follows no redirect
 */
export async function sendFollowing(
  first: FetchRequest,
  maxRedirects: number,
  send: (request: FetchRequest) => Promise<Response>,
): Promise<{ readonly response: Response; readonly url: string }> {
  const most = first.redirect === 'manual' ? 0 : maxRedirects
  const { followed, request, response } = await followRedirects<FetchRequest, Response>(first, most, {
    send,
    canFollow: (request, { headers, status }) =>
      isRedirect(status, headers.get('location')) &&
      !(isUsedUp(request.body) && takesBodyAlong(request, status)),
    next(request, { headers, status }) {
      try {
        return redirected(request, status, headers.get('location')!)
      } catch (error) {
        throw failedFetch(error)
      }
    },
    discard,
    tooManyError: () => failedFetch(new Error('Maximum number of redirects exceeded')),
  })
  return { response: followed > 0 ? asRedirected(response) : response, url: request.url }
}

/** Returns a response that says of itself that it was redirected to, as the platform's own would. */
function asRedirected(response: Response): Response {
  const { clone } = response
  return Object.defineProperties(response, {
    redirected: { value: true, configurable: true },
    clone: { value: () => asRedirected(clone.call(response)), configurable: true },
  })
}

/** Returns the error with which the platform's `fetch()` fails when there is no response. */
function failedFetch(cause: unknown): TypeError {
  return new TypeError('fetch failed', { cause })
}

/** Frees the connection of a response that will not be read. */
export function discard(response: Response): void {
  response.body?.cancel().catch(() => {})
}
