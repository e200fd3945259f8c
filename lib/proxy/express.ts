import type { IncomingMessage, ServerResponse } from 'node:http'
import { type ArrivedRequest, hostAskedFor } from '../outbound/cross-origin.js'
import { whenClosed } from '../outbound/streams.js'
import type { ParsedBody } from './body.js'
import type { Addressed } from './path.js'
import { ProxyRequest } from './proxy-request.js'
import { flushHeaders, putHeaders } from './response-headers.js'
import type { ProxyRoute } from './route.js'
import type { UpstreamResponse } from './upstream-request.js'

/** The properties of an Express request that are used. */
export type ExpressRequest = IncomingMessage &
  Addressed &
  ParsedBody & { readonly ip?: string; readonly protocol?: string }

class ExpressProxyRequest extends ProxyRequest {
  readonly carrierName = 'req'
  declare readonly request: ExpressRequest

  get carrier(): object {
    return this.request
  }

  get parsed(): ParsedBody {
    return this.request
  }

  get ip(): string | undefined {
    return this.request.ip ?? this.request.socket.remoteAddress
  }

  get protocol(): string | undefined {
    return this.request.protocol
  }

  get host(): string | undefined {
    return hostAskedFor(this.request as ArrivedRequest)
  }
}

/** Serves a request with Express. */
export async function serveExpress(
  route: ProxyRoute,
  request: ExpressRequest,
  response: ServerResponse,
): Promise<void> {
  const proxyRequest = new ExpressProxyRequest(request, response)
  const { upgrade } = proxyRequest
  const reply = await route(proxyRequest)
  if (!reply) return
  const { status, headers, body } = reply
  if (upgrade && typeof body !== 'string' && body.upgraded) {
    upgrade.upstream = body.upgraded
    response.writeHead(status, headers).end()
    return
  }
  response.statusCode = status
  try {
    putHeaders(reply, response, (name, value) => response.setHeader(name, value))
  } catch (error) {
    // setHeader() throws for a header that Node's lenient parser has accepted from the API.
    if (typeof body !== 'string') body.end()
    throw error
  }
  if (typeof body === 'string') response.end(body)
  else sendBody(body, response)
}

/**
 * Sends the body of the API's response as fast as the browser reads. No pipe(): middleware in front would be handed the
 * API's response, which leads to the request and its token.
 */
function sendBody({ message, end }: UpstreamResponse, response: ServerResponse): void {
  const { flush } = response as { flush?: () => void }
  const isStream = !response.hasHeader('content-length')
  // A page that listens for events knows that it is connected before the first one comes.
  if (isStream) flushHeaders(response)
  message.on('data', (chunk) => {
    // The app may end a response that is still being sent, such as that of an event stream at a shutdown.
    if (response.writableEnded) {
      end()
      return
    }
    if (!response.write(chunk)) {
      message.pause()
      response.once('drain', () => message.resume())
    }
    // Of compressing middleware: a chunk that the API has sent by now is not held back until more have come.
    if (isStream && typeof flush === 'function') flush.call(response)
  })
  message.once('end', () => response.end())
  // The API may have broken off while a new token was waited for. `complete` says nothing of a body that the end of the connection
  // ends: Node sets it when this process breaks off, too.
  whenClosed(message, () => {
    if (!message.readableEnded) response.destroy()
    end()
  })
}
