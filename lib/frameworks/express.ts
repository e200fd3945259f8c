import type { IncomingMessage, ServerResponse } from 'node:http'
import type {} from 'express-session'
import { closeMount, type Mount, mount } from '../mount.js'
import type { SessionTokensOptions } from '../options.js'
import { RequestTokens, type SessionTokens } from '../session-tokens.js'
import type { SessionCopy } from '../sessions/session-copy.js'
import { guardOf, type Refusal, type RequireTokensOptions } from './require-tokens.js'

declare global {
  namespace Express {
    interface Request {
      /** The tokens of this request's session, put there by `sessionTokens()`. */
      tokens: SessionTokens
    }
  }
}

// biome-ignore lint/suspicious/noTsIgnore: whether there is an error depends on the app.
/** @ts-ignore A Koa app has no types of express-session. */
declare module 'express-session' {
  interface SessionData {
    /** The tokens of `session-token-manager`. Leave them to `req.tokens`. */
    tokens?: SessionCopy
  }
}

type Next = (error?: unknown) => void

/** Express middleware (4 and 5) that can be waited for. */
export interface SessionTokensMiddleware {
  (request: IncomingMessage, response: ServerResponse, next: Next): void
  /**
   * Resolves when every refresh under way has ended and its result is stored. Call it after the HTTP server has
   * closed, before the process ends.
   */
  close(): Promise<void>
}

/**
 * Attaches a token manager to every request: `req.tokens`. Mount it behind express-session. Attaching does nothing
 * yet; a token is looked at when a handler asks for it.
 *
 * @throws `ConfigurationError` when an option is missing, unknown or contradicts another
 *
 * @example
 * app.use(session({ … }))
 * app.use(sessionTokens({
 *   issuer: 'https://idp.example.com',
 *   clientId: 'web',
 *   clientAuthentication: clientSecretBasic(process.env.CLIENT_SECRET),
 * }))
 */
export function sessionTokens(options: SessionTokensOptions<Express.Request>): SessionTokensMiddleware {
  return middlewareOf(mount(options))
}

/** The middleware over parts that have been put together. */
export function middlewareOf(mounted: Mount): SessionTokensMiddleware {
  const { property, sessions } = mounted

  function sessionTokensMiddleware(
    request: IncomingMessage & Record<PropertyKey, unknown>,
    _response: ServerResponse,
    next: Next,
  ): void {
    request[property] = new RequestTokens(mounted, sessions.of(request), request)
    next()
  }

  const close = () => closeMount(mounted)
  return Object.assign(sessionTokensMiddleware as SessionTokensMiddleware, { close })
}

/**
 * Guards a route: the handler runs with a fresh access token at hand, or not at all. What is asked for here is the
 * default of `getAccessToken()` and `axios()` for the rest of the request.
 *
 * Without tokens a page is redirected to `loginPath`, and everything else is answered with 401 and a problem body
 * (RFC 9457). Other failures go to the app's error handler as `TokenError`.
 *
 * @throws `ConfigurationError` when an option is wrong
 *
 * @example
 * app.get('/orders', requireTokens({ scope: 'orders.read', loginPath: '/login' }), handler)
 */
export function requireTokens(options: RequireTokensOptions = {}) {
  const guard = guardOf(options, 'req')

  return async function requireTokensMiddleware(
    request: IncomingMessage & { readonly originalUrl?: string },
    response: ServerResponse,
    next: Next,
  ): Promise<void> {
    let refusal: Refusal | undefined
    try {
      refusal = await guard(request, request, request.originalUrl ?? request.url)
    } catch (error) {
      next(error)
      return
    }
    if (refusal) response.writeHead(refusal.status, refusal.headers).end(refusal.body)
    else next()
  }
}
