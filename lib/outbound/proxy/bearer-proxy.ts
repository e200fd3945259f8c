import type { IncomingMessage, ServerResponse } from 'node:http'
import { PassThrough, pipeline, type Readable } from 'node:stream'
import { whenOver } from '../../response-over.js'
import type { ParsedBody } from './body.js'
import { Disconnect } from './disconnect.js'
import type { BearerProxyOptions } from './options.js'
import type { Addressed } from './path.js'
import type { Reply } from './reply.js'
import { type ProxyRoute, proxyRoute, type Visit } from './route.js'
import { upgradeOf } from './upgrades.js'
import type { UpstreamResponse } from './upstream-request.js'

type Next = (error?: unknown) => void

/** What of an Express request is used. */
type ExpressRequest = IncomingMessage &
  Addressed &
  ParsedBody & { readonly ip?: string; readonly protocol?: string }

/** What of Koa's context is used. */
interface Context {
  readonly req: IncomingMessage
  readonly res: ServerResponse
  readonly request: object
  readonly ip: string
  readonly protocol: string
  readonly host: string
  status: number
  body: unknown
  respond?: boolean
  set(name: string, value: string | string[]): void
  remove(name: string): void
}

/** Middleware for Express (4 and 5) and for Koa (2 and 3). */
export interface BearerProxy {
  (request: IncomingMessage, response: ServerResponse, next: Next): void
  (ctx: object, next: () => Promise<unknown>): Promise<void>
}

/**
 * Passes the requests of a route on to an API, each with a valid access token of the session that it belongs to, and the
 * API's answers back, streaming both ways.
 *
 * The API gets `Authorization: Bearer` and neither cookies nor what else is between the browser and this site; the browser
 * gets neither the token nor the API's cookies. Which token goes along, and whether a request may go without one, is the
 * route's policy, see `requireTokens()`; without one it is the user's, and a request without tokens gets 401.
 *
 * When the API refuses the token (RFC 6750 §3.1) it is refreshed and the request sent once more, if its body could be
 * kept. An API that cannot be reached gives 502, one that is silent 504, a demand for a stronger login (RFC 9470) 401 with
 * `acr_values` and `max_age`: problem bodies (RFC 9457) all. Failures of the tokens go to the app's error handler as
 * `TokenError`.
 *
 * The API is asked for the path below the mount, byte for byte, since the guards in front have decided on that one. A path
 * that servers read in more than one way gives 400: dot segments, encoded slashes unless `encodedSeparators` passes them, a
 * target with a scheme and a host. So does a request with two lengths, a `Content-Length` and a `Transfer-Encoding`.
 *
 * WebSockets go through with {@link upgradesThrough}.
 *
 * @throws `ConfigurationError` when an option is wrong
 *
 * @example
 * app.use('/api/orders', requireTokens({ scope: 'orders.read' }), bearerProxy({ target: 'https://api.example.com/orders' }))
 *
 * @example
 * // Koa, with koa-mount; a router leaves the path whole, of which `pathRewrite: { '^/api/orders': '' }` takes the beginning
 * app.use(mount('/api/orders', bearerProxy({ target: 'https://api.example.com/orders' })))
 */
export function bearerProxy(options: BearerProxyOptions): BearerProxy {
  const route = proxyRoute(options)

  function bearerProxyMiddleware(first: object, second: object, next?: Next): Promise<void> {
    return next === undefined
      ? serveKoa(route, first as Context)
      : serveExpress(route, first as ExpressRequest, second as ServerResponse).catch(next)
  }
  return bearerProxyMiddleware as BearerProxy
}

async function serveExpress(
  route: ProxyRoute,
  request: ExpressRequest,
  response: ServerResponse,
): Promise<void> {
  const upgrade = upgradeOf(request)
  const reply = await replyTo(route, response, {
    carrier: request,
    carrierName: 'req',
    request,
    parsed: request,
    ip: request.ip ?? request.socket.remoteAddress,
    protocol: request.protocol,
    host: request.headers.host,
    isUpgrade: upgrade !== undefined,
    disconnect: disconnectOf(request, response),
  })
  if (!reply) return
  const { status, headers, body } = reply
  if (upgrade && typeof body !== 'string' && body.upgraded) {
    upgrade.far = body.upgraded
    response.writeHead(status, headers).end()
    return
  }
  response.statusCode = status
  try {
    putHeaders(reply, response, (name, value) => response.setHeader(name, value))
  } catch (error) {
    // A header that only a lenient parser has let through.
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
    if (!response.write(chunk)) {
      message.pause()
      response.once('drain', () => message.resume())
    }
    // Of compressing middleware: a chunk that the API has sent by now is not held back until more have come.
    if (isStream && typeof flush === 'function') flush.call(response)
  })
  message.once('end', () => response.end())
  message.once('close', () => {
    if (!message.complete) response.destroy()
    end()
  })
}

const WITHOUT_BODY: readonly number[] = [204, 205, 304]

async function serveKoa(route: ProxyRoute, ctx: Context): Promise<void> {
  const { req: request, res: response } = ctx
  const upgrade = upgradeOf(request)
  const reply = await replyTo(route, response, {
    carrier: ctx,
    carrierName: 'ctx',
    request,
    parsed: ctx.request as ParsedBody,
    ip: ctx.ip,
    protocol: ctx.protocol,
    host: ctx.host,
    isUpgrade: upgrade !== undefined,
    disconnect: disconnectOf(request, response),
  })
  if (!reply) return
  const { status, headers, body } = reply
  ctx.status = status
  if (upgrade && typeof body !== 'string' && body.upgraded) {
    ctx.respond = false
    upgrade.far = body.upgraded
    upgrade.answer = () => void response.writeHead(status, headers).end()
    return
  }
  const isEmpty = request.method === 'HEAD' || WITHOUT_BODY.includes(status)
  if (typeof body === 'string') ctx.body = body
  else if (isEmpty) body.message.resume().once('close', body.end)
  else streamOnKoa(ctx, detached(body))
  if (headers['content-type'] === undefined) ctx.remove('Content-Type')
  putHeaders(reply, response, (name, value) => ctx.set(name, value))
}

/** The same bytes from a stream of our own: that of the API's response leads to the request and its token. */
function detached({ message, end }: UpstreamResponse): Readable {
  const body = new PassThrough()
  pipeline(message, body, () => {})
  // Over when all of it is on its way to the browser, when the API breaks off, or when the browser has gone.
  body.once('close', end)
  return body
}

/** Koa sends headers with the first bytes, and version 2 leaves an answer open whose body breaks off. */
function streamOnKoa(ctx: Context, body: Readable): void {
  const { res: response } = ctx
  ctx.body = body
  response.once('pipe', () => flushHeaders(response))
  body.once('error', () => {
    if (!response.writableEnded) response.destroy()
  })
}

/** Not those with letters beyond ASCII, which Node sends in another encoding when they go out on their own. */
function flushHeaders(response: ServerResponse): void {
  const values = Object.values(response.getHeaders()).join('')
  if (!/[\x80-\xff]/.test(values)) response.flushHeaders()
}

/** Resolves with nothing when the browser has gone, or somebody else has answered it by now. */
async function replyTo(
  route: ProxyRoute,
  response: ServerResponse,
  visit: Visit,
): Promise<Reply | undefined> {
  const { disconnect } = visit
  try {
    const reply = await route(visit)
    if (!disconnect.hasHappened && !response.headersSent) return reply
    if (typeof reply.body !== 'string') reply.body.end()
    return undefined
  } catch (error) {
    if (disconnect.hasHappened) return undefined
    throw error
  }
}

function disconnectOf(request: IncomingMessage, response: ServerResponse): Disconnect {
  const disconnect = new Disconnect()
  whenOver(request, response, () => {
    if (!response.writableFinished) disconnect.happen()
  })
  return disconnect
}

/** What an app says of itself in a middleware in front: the policies of its pages, and whatever it has made up. */
const OF_THE_APP =
  /^(?:content-security-policy|cross-origin-|origin-agent-cluster|permissions-policy|referrer-policy|x-)/

type HeaderValue = string | string[]

/** Sets the headers of a reply, as far as the app has not said better, with what it has said that its responses depend on. */
function putHeaders(
  { headers }: Reply,
  response: ServerResponse,
  put: (name: string, value: HeaderValue) => unknown,
): void {
  for (const name of Object.keys(headers)) {
    const value = headers[name] as HeaderValue
    if (OF_THE_APP.test(name) && response.hasHeader(name)) continue
    if (name === 'vary' && response.hasHeader(name)) {
      put(name, `${response.getHeader(name)}, ${value}`)
    } else if (name === 'cache-control' && isNotStored(response)) {
      const cacheControl = notStored(String(value), response)
      if (cacheControl !== undefined) put(name, cacheControl)
    } else put(name, value)
  }
}

/** What the app wants no cache to store stays so, unless the API says more than this proxy does by itself. */
function notStored(value: string, response: ServerResponse): string | undefined {
  if (value === 'private') return undefined
  return value === 'private, no-transform' ? `${response.getHeader('cache-control')}, no-transform` : value
}

/** Whether the app has said more than `Cache-Control: private`. */
function isNotStored(response: ServerResponse): boolean {
  return /\bno-store\b/i.test(String(response.getHeader('cache-control')))
}
