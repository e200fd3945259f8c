import type { IncomingMessage, OutgoingHttpHeaders } from 'node:http'
import { PassThrough, pipeline, type Readable } from 'node:stream'
import type { StepUpError } from '../../errors.js'
import { problem } from '../../problem.js'
import type { Exchange, UpgradedSocket } from './exchange.js'
import { headersForBrowser } from './headers.js'

/** What the browser gets. */
export interface Reply {
  readonly status: number
  readonly headers: OutgoingHttpHeaders
  readonly body: Readable | string
  /** What the browser's socket is to be joined with after this reply. */
  readonly upgraded?: UpgradedSocket
}

/** The API's answer, without what is not for the browser. Its body streams. */
export function replyOf({ answer, end, upgraded }: Exchange, token: string | undefined): Reply {
  const status = answer.statusCode ?? 502
  const headers = headersForBrowser(answer.headers, status, token)
  if (!upgraded) return { status, headers, body: detached(answer, end) }
  return { status, headers: { ...headers, connection: 'Upgrade', upgrade: 'websocket' }, body: '', upgraded }
}

/** The same bytes from a stream of our own: that of an answer leads to its request, whose headers hold the token. */
function detached(answer: IncomingMessage, end: () => void): Readable {
  const body = new PassThrough()
  pipeline(answer, body, () => {})
  // Over when all of it is on its way to the browser, when the API breaks off, or when the browser has gone.
  body.once('close', end)
  return body
}

/** What the page needs to send the user to the login (RFC 9470 §3), under the names of the wire. */
export function stepUpRequired({ acrValues, maxAge, scope }: StepUpError): Reply {
  return problem(401, 'Unauthorized', 'Log in again: the API asks for a stronger or a more recent login.', {
    error: 'insufficient_user_authentication',
    ...(acrValues !== undefined && { acr_values: acrValues }),
    ...(maxAge !== undefined && { max_age: maxAge }),
    ...(scope !== undefined && { scope }),
  })
}
