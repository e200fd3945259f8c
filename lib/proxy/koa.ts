import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Readable } from 'node:stream'
import { detached, whenClosed } from '../outbound/streams.js'
import type { ParsedBody } from './body.js'
import { ProxyRequest } from './proxy-request.js'
import { flushHeaders, putHeaders } from './response-headers.js'
import type { ProxyRoute } from './route.js'

/** The properties of Koa's context that are used. */
export interface Context {
  readonly req: IncomingMessage
  readonly res: ServerResponse
  readonly request: object
  readonly ip: string
  readonly protocol: string
  readonly host: string
  readonly originalUrl: string
  status: number
  body: unknown
  respond?: boolean
  set(name: string, value: string | string[]): void
  remove(name: string): void
}

class KoaProxyRequest extends ProxyRequest {
  readonly carrierName = 'ctx'
  readonly carrier: Context

  constructor(ctx: Context) {
    super(ctx.req, ctx.res)
    this.carrier = ctx
  }

  get parsed(): ParsedBody {
    return this.carrier.request
  }

  override get originalUrl(): string {
    return this.carrier.originalUrl
  }

  get ip(): string {
    return this.carrier.ip
  }

  get protocol(): string {
    return this.carrier.protocol
  }

  get host(): string {
    return this.carrier.host
  }
}

const WITHOUT_BODY: readonly number[] = [204, 205, 304]

/** Serves a request with Koa. */
export async function serveKoa(route: ProxyRoute, ctx: Context): Promise<void> {
  const { req: request, res: response } = ctx
  const proxyRequest = new KoaProxyRequest(ctx)
  const { upgrade } = proxyRequest
  const reply = await route(proxyRequest)
  if (!reply) return
  const { status, headers, body } = reply
  ctx.status = status
  if (upgrade && typeof body !== 'string' && body.upgraded) {
    ctx.respond = false
    upgrade.upstream = body.upgraded
    const respond = () => void response.writeHead(status, headers).end()
    upgrade.respond = respond
    return
  }
  const isEmpty = request.method === 'HEAD' || WITHOUT_BODY.includes(status)
  if (typeof body === 'string') ctx.body = body
  else if (isEmpty) whenClosed(body.message.resume(), body.end)
  else {
    // The stream of the API's response leads to the request and its token.
    const stream = detached(body.message)
    // It closes when all of it is on its way to the browser, when the API breaks off, or when the browser disconnects.
    stream.once('close', body.end)
    streamOnKoa(ctx, stream)
  }
  if (headers['content-type'] === undefined) ctx.remove('Content-Type')
  putHeaders(reply, response, (name, value) => ctx.set(name, value))
}

/** Streams a body. Koa sends headers with the first bytes, and version 2 leaves a response open whose body breaks off. */
function streamOnKoa(ctx: Context, body: Readable): void {
  const { res: response } = ctx
  ctx.body = body
  response.once('pipe', () => flushHeaders(response))
  body.once('error', () => {
    if (!response.writableEnded) response.destroy()
  })
}
