import { isRedirect } from '../redirect-rules.js'
import { type FetchRequest, isUsedUp, redirected, takesBodyAlong } from './request.js'

/** The last answer, and the URL that gave it. */
export interface Arrival {
  readonly answer: Response
  readonly url: string
}

/**
 * Follows redirects one request at a time, so that each is sent what its origin may see. One that would need a stream a
 * second time is the answer.
 *
 * @param send sends one request and follows nothing
 */
export async function followRedirects(
  start: FetchRequest,
  maxRedirects: number,
  send: (request: FetchRequest) => Promise<Response>,
): Promise<Arrival> {
  const follows = maxRedirects > 0 && start.redirect !== 'manual'
  let hop = start
  for (let followed = 0; ; followed++) {
    const answer = await send(hop)
    const next = follows ? nextOf(hop, answer) : undefined
    if (!next) return { answer: followed > 0 ? asRedirected(answer) : answer, url: hop.url }

    discard(answer)
    if (followed >= maxRedirects) throw failedFetch(new Error('Maximum number of redirects exceeded'))
    hop = next
  }
}

/** The request that an answer leads to. */
function nextOf(request: FetchRequest, answer: Response): FetchRequest | undefined {
  const { headers, status } = answer
  const location = headers.get('location')
  if (!isRedirect(status, location)) return undefined
  if (isUsedUp(request.body) && takesBodyAlong(request, status)) return undefined
  try {
    return redirected(request, status, location!)
  } catch (error) {
    discard(answer)
    throw failedFetch(error)
  }
}

/** A response that says of itself that it was redirected to, as the platform's own would. */
function asRedirected(response: Response): Response {
  const { clone } = response
  return Object.defineProperties(response, {
    redirected: { value: true, configurable: true },
    clone: { value: () => asRedirected(clone.call(response)), configurable: true },
  })
}

/** How the platform's `fetch()` fails when there is no answer. */
function failedFetch(cause: unknown): TypeError {
  return new TypeError('fetch failed', { cause })
}

/** Frees the connection of an answer that nobody will read. */
export function discard(answer: Response): void {
  answer.body?.cancel().catch(() => {})
}
