import type { IncomingMessage, ServerResponse } from 'node:http'
import { type ExpressRequest, serveExpress } from './express.js'
import { type Context, serveKoa } from './koa.js'
import type { BearerProxyOptions } from './options.js'
import { proxyRoute } from './route.js'

type Next = (error?: unknown) => void

/** Middleware for Express (4 and 5) and for Koa (2 and 3). */
export interface BearerProxy {
  (request: IncomingMessage, response: ServerResponse, next: Next): void
  (ctx: object, next: () => Promise<unknown>): Promise<void>
}

/**
 * Passes the requests of a route on to an API, each with a valid access token of the session that it belongs to, and the
 * API's responses back, streaming both ways.
 *
 * The API gets `Authorization: Bearer` and neither cookies nor other headers between the browser and this site; the browser
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
