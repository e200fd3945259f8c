import type { IncomingHttpHeaders, OutgoingHttpHeaders } from 'node:http'
import { headersForBrowser } from './headers.js'
import type { UpstreamResponse } from './upstream-request.js'

/** The browser's response. */
export interface Reply {
  readonly status: number
  readonly headers: OutgoingHttpHeaders
  /** A text, or the API's response, the body of which streams. */
  readonly body: string | UpstreamResponse
}

/** Makes the browser's response of the API's, without the headers that are not for the browser. */
export function replyOf(upstream: UpstreamResponse, token: string | undefined): Reply {
  const { message, upgraded } = upstream
  const status = message.statusCode ?? 502
  const headers = headersForBrowser(message.headers, status, token)
  if (upgraded) {
    return { status, headers: { ...headers, connection: 'Upgrade', upgrade: 'websocket' }, body: upstream }
  }
  // Such a response has no body, and a length would have some readers wait for one (RFC 9110 §8.6).
  if (status === 204) delete headers['content-length']
  if (isReadPieceByPiece(message.headers)) unbuffered(headers)
  return { status, headers, body: upstream }
}

/** The types of bodies that are read piece by piece: event streams, and records of one line each. */
const PIECE_BY_PIECE =
  /^(?:text\/event-stream|application\/(?:x-)?(?:ndjson|jsonl|jsonlines|json-seq|stream\+json)|multipart\/x-mixed-replace)\s*(?:;|$)/i

function isReadPieceByPiece({ 'content-type': type }: IncomingHttpHeaders): boolean {
  return type !== undefined && PIECE_BY_PIECE.test(type)
}

/** Keeps compressing middleware (RFC 9111 §5.2.2.6) and nginx in front from holding a piece back until more have come. */
function unbuffered(headers: OutgoingHttpHeaders): void {
  const said = String(headers['cache-control'] ?? '')
  if (!/(?:^|[\s,])no-transform(?:$|[\s,])/i.test(said)) {
    headers['cache-control'] = said === '' ? 'no-transform' : `${said}, no-transform`
  }
  headers['x-accel-buffering'] = 'no'
}
