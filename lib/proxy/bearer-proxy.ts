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
 * Passes the requests of a route on to an API, each with a valid access token of its session, and passes the API's responses
 * back. Bodies are streamed in both directions.
 *
 * The API gets `Authorization: Bearer`, and neither the cookies nor other headers that are for this site alone. The browser gets
 * neither the token nor the API's cookies. The policy of the route decides which token is sent, and whether a request may be sent
 * without one, see `requireTokens()`. Without a policy the user's token is sent, and a request without tokens gets 401.
 *
 * When the API refuses the token (RFC 6750 §3.1), the token is refreshed, and the request is sent once more if its body was kept.
 * The browser gets a problem body (RFC 9457): with 502 if the API cannot be reached, with 504 if it is silent, and with 401,
 * `acr_values` and `max_age` if it requires a stronger login (RFC 9470). Failures of the tokens go to the app's error handler as
 * `TokenError`.
 *
 * The API is asked for the path below the mount, byte for byte, since the guards in front have decided on that path. A path that
 * servers read in more than one way gives 400: dot segments, encoded slashes unless `encodedSeparators` passes them, a target
 * with a scheme and a host. So does a request with two lengths, a `Content-Length` and a `Transfer-Encoding`.
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
