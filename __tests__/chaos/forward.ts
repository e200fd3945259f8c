import { Agent, request as httpRequest, type IncomingMessage } from 'node:http'
import { readBody } from '../helpers/http-server.js'

export interface Reply {
  readonly status: number
  readonly headers: Record<string, string>
  readonly body: string
}

/** The headers of a request that the authorization server gets. A proof is for the host that the client has sent it to (RFC 9449 §4.3). */
const REQUEST_HEADERS = ['authorization', 'content-type', 'dpop', 'host']
const RESPONSE_HEADERS = ['content-type', 'dpop-nonce']

/** Every request has a new connection, since a kept one may be about to close. */
const agent = new Agent()

/** Forwards a request to the authorization server, also if the client has disconnected. */
export function forward(issuer: string, { url, headers }: IncomingMessage, body: string): Promise<Reply> {
  const sent = { ...picked(headers, REQUEST_HEADERS), 'content-length': Buffer.byteLength(body) }
  return new Promise((resolve, reject) => {
    const forwarded = httpRequest(
      new URL(url ?? '/', issuer),
      { method: 'POST', headers: sent, agent },
      (response) => {
        readBody(response).then(
          (text) =>
            resolve({
              status: response.statusCode ?? 0,
              headers: picked(response.headers, RESPONSE_HEADERS),
              body: text,
            }),
          reject,
        )
      },
    )
    forwarded.once('error', reject)
    forwarded.end(body)
  })
}

function picked(headers: IncomingMessage['headers'], names: readonly string[]): Record<string, string> {
  return Object.fromEntries(
    names.flatMap((name) => (headers[name] === undefined ? [] : [[name, String(headers[name])]])),
  )
}
