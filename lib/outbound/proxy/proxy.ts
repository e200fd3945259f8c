import type { IncomingMessage, ServerResponse } from 'node:http'
import { pipeline, type Readable } from 'node:stream'
import { whenOver } from '../../response-over.js'
import type { ParsedBody } from './body.js'
import type { BearerProxyOptions } from './options.js'
import type { Addressed } from './path.js'
import type { Reply } from './reply.js'
import { type ProxyRoute, proxyRoute } from './route.js'
import { upgradeOf } from './upgrades.js'

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
 * Needs http-proxy-middleware to be installed. WebSockets go through with {@link upgradesThrough}.
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
  const { body, rawBody } = request as ParsedBody
  const upgrade = upgradeOf(request)
  const reply = await replyTo(route, response, {
    carrier: request,
    carrierName: 'req',
    request,
    parsed: { body, rawBody },
    ip: request.ip ?? request.socket.remoteAddress,
    protocol: request.protocol,
    host: request.headers.host,
    isUpgrade: upgrade !== undefined,
  })
  if (!reply) return
  if (upgrade && reply.upgraded) {
    upgrade.far = reply.upgraded
    response.writeHead(reply.status, reply.headers).end()
    return
  }
  response.statusCode = reply.status
  for (const [name, value] of headersOf(reply, response)) response.setHeader(name, value)
  if (typeof reply.body === 'string') {
    response.end(reply.body)
    return
  }
  // A page that listens for events knows that it is connected before the first one comes.
  if (!response.hasHeader('content-length')) flushHeaders(response)
  pipeline(reply.body, response, () => {})
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
  })
  if (!reply) return
  ctx.status = reply.status
  if (upgrade && reply.upgraded) {
    ctx.respond = false
    upgrade.far = reply.upgraded
    upgrade.answer = () => void response.writeHead(reply.status, reply.headers).end()
    return
  }
  const isEmpty = request.method === 'HEAD' || WITHOUT_BODY.includes(reply.status)
  if (typeof reply.body === 'string') ctx.body = reply.body
  else if (isEmpty) reply.body.resume()
  else streamOnKoa(ctx, reply.body)
  if (reply.headers['content-type'] === undefined) ctx.remove('Content-Type')
  for (const [name, value] of headersOf(reply, response)) ctx.set(name, value as string)
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
  visit: Omit<Parameters<ProxyRoute>[0], 'signal'>,
): Promise<Reply | undefined> {
  const signal = untilOver(visit.request, response)
  try {
    const reply = await route({ ...visit, signal })
    if (!signal.aborted && !response.headersSent) return reply
    if (typeof reply.body !== 'string') reply.body.destroy()
    reply.upgraded?.socket.destroy()
    return undefined
  } catch (error) {
    if (signal.aborted) return undefined
    throw error
  }
}

function untilOver(request: IncomingMessage, response: ServerResponse): AbortSignal {
  const controller = new AbortController()
  whenOver(request, response, () => {
    if (!response.writableFinished) controller.abort()
  })
  return controller.signal
}

/** What an app says of itself in a middleware in front: the policies of its pages, and whatever it has made up. */
const OF_THE_APP =
  /^(?:content-security-policy|cross-origin-|origin-agent-cluster|permissions-policy|referrer-policy|x-)/

/** The headers of a reply, as far as the app has not said better, with what it has said that its answers depend on. */
function headersOf({ headers }: Reply, response: ServerResponse): [string, string | string[]][] {
  const own = Object.entries(headers).filter(
    ([name, value]) =>
      !(OF_THE_APP.test(name) && response.hasHeader(name)) &&
      !(name === 'cache-control' && value === 'private' && isNotStored(response)),
  )
  const said = response.getHeader('vary')
  const added = own.map(([name, value]) => [name, name === 'vary' && said ? `${said}, ${value}` : value])
  return added as [string, string | string[]][]
}

/** Whether the app has said so: more than `Cache-Control: private`. */
function isNotStored(response: ServerResponse): boolean {
  return /\bno-store\b/i.test(String(response.getHeader('cache-control')))
}
