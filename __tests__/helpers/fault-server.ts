import type { IncomingHttpHeaders } from 'node:http'
import { type Fault, fail } from './faults.js'
import { readBody, serve } from './http-server.js'

/** A request as a scripted token endpoint sees it. */
export interface EndpointRequest {
  readonly path: string
  readonly method: string
  readonly headers: IncomingHttpHeaders
  /** The exact bytes, as text. */
  readonly body: string
  /** The form parameters, decoded. */
  readonly parameters: URLSearchParams
}

/** A token endpoint that answers what a test tells it to. */
export interface FaultServer {
  readonly url: string
  readonly tokenEndpoint: string
  readonly revocationEndpoint: string
  /** Every request so far, in the order of arrival. */
  readonly requests: readonly EndpointRequest[]
  close(): Promise<void>
}

/**
 * Starts a scripted endpoint on 127.0.0.1, for answers that a real authorization server never gives.
 *
 * The handler returns an answer, the name of a fault, or a promise of one; a promise that never settles is a server
 * that never answers. It sees the requests to every path, `/elsewhere`, where redirects lead, among them.
 */
export async function startTokenEndpoint(
  handler: (request: EndpointRequest, index: number) => Fault | Promise<Fault>,
): Promise<FaultServer> {
  const requests: EndpointRequest[] = []
  const server = await serve(() => async (incoming, response) => {
    const body = await readBody(incoming).catch(() => undefined)
    if (body === undefined) return
    const request = {
      path: incoming.url ?? '',
      method: incoming.method ?? '',
      headers: incoming.headers,
      body,
      parameters: new URLSearchParams(body),
    }
    requests.push(request)
    fail(response, await handler(request, requests.length - 1))
  })
  return {
    url: server.url,
    tokenEndpoint: `${server.url}/token`,
    revocationEndpoint: `${server.url}/revoke`,
    requests,
    close: server.down,
  }
}
