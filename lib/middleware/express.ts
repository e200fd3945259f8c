import type { IncomingMessage, ServerResponse } from 'node:http'
import type {} from 'express-session'
import { fieldValue } from '../options/own-properties.js'
import { whileServing } from '../outbound/ambient.js'
import type { ArrivedRequest } from '../outbound/cross-origin.js'
import type { SessionCopy } from '../sessions/codec/token-set-codec.js'
import type { SessionAdapter } from '../sessions/session-adapter.js'
import { backchannelResponse } from './backchannel-logout.js'
import { type ClientTokenSource, clientOf } from './client-token-source.js'
import { composeMiddleware, type MiddlewareContext } from './composition.js'
import { type EndedLogins, endOf, type LoginEndReason } from './end-grants.js'
import { type OfflineTokens, offlineOf } from './offline-tokens.js'
import type { AnySessionTokensOptions, SessionTokensOptions } from './options.js'
import { crossOriginCheck, type RefuseCrossOriginOptions } from './refuse-cross-origin.js'
import { RequestTokens, requireFreeProperty } from './request-tokens.js'
import { type GuardResponse, guardOf, type RequireTokensOptions } from './require-tokens.js'
import { refusedTokens } from './rotating-keys.js'
import type { SessionTokens } from './session-tokens.js'
import { isTenantOptions, type TenantOptions, Tenants } from './tenants.js'
import { notExpressError } from './wrong-framework.js'

declare global {
  namespace Express {
    interface Request {
      /** The tokens of this request's session, put there by `sessionTokens()`. */
      tokens: SessionTokens
    }
  }
}

declare module 'express-session' {
  interface SessionData {
    /** The tokens of `session-token-manager`. Leave them to `req.tokens`. */
    tokens?: SessionCopy
  }
}

// biome-ignore lint/suspicious/noTsIgnore: where there are types of Express nothing is to be ignored
/** @ts-ignore There may be no types of Express. */
type InstalledRequest = import('express').Request
/** The type of Express's requests, or the best that there is without the types of Express. */
type ExpressRequest = [unknown] extends [InstalledRequest]
  ? IncomingMessage & Express.Request
  : InstalledRequest
type Next = (error?: unknown) => void

/** The middleware for Express (4 and 5) that `sessionTokens()` returns. */
export interface SessionTokensMiddleware {
  (request: IncomingMessage, response: ServerResponse, next: Next): void
  /**
   * Resolves when every refresh under way has ended and its result is stored. Call it after the HTTP server has
   * closed, before the process ends.
   */
  close(): Promise<void>
  /**
   * Returns an object that gets valid access tokens by a reference from `req.tokens.offlineReference()`, for code that has no
   * request. No I/O: a reference that cannot be used fails when a token is first requested.
   *
   * @throws `ConfigurationError` for a value that is no string, and if `sessionTokens()` is used with tenants
   *
   * @example
   * const { data } = await tokens.offline(reference).axios({ baseURL: 'https://api.example.com' }).get('/orders')
   */
  offline(reference: string): OfflineTokens
  /**
   * The client's own tokens (RFC 6749 §4.4), for calls that the app makes in its own name. With tenants use the `client` of a
   * request's tokens.
   *
   * @example
   * const api = tokens.client.axios({ baseURL: 'https://api.example.com', need: { scope: 'reports.write' } })
   */
  readonly client: ClientTokenSource
  /**
   * Ends logins here, in all processes, and at the authorization server (RFC 7009): all logins of a user, those of one login at
   * the authorization server, or one. Resolves with the number of grants that had not ended before. Their sessions have no tokens
   * any more. This method finds the grants that the grant store remembers, by the `sub` and `sid` of their ID tokens.
   *
   * Every grant is tried before the promise rejects. If it rejects with another error than a `ConfigurationError`, the users are
   * logged out of the app even then.
   *
   * @throws `ConfigurationError` for a wrong argument, and if the grant store has no `grantsWith()`; `TokenError` as `revoke()`
   *
   * @example
   * await tokens.end({ sub: user.id }) // sign out everywhere
   */
  end(whom: EndedLogins, reason?: LoginEndReason): Promise<number>
  /**
   * Returns a handler for the authorization server's logout tokens (OpenID Connect Back-Channel Logout 1.0). The handler needs no
   * session and no body parser. It ends the grants of the user or the login that are older than the token, and responds with 200.
   * To a token that is wrong or was used before it responds with 400 and an `error`. With tenants, `tenant` names the tenant of
   * the request.
   *
   * @throws `ConfigurationError` if there is no `issuer`
   *
   * @example
   * app.post('/backchannel-logout', tokens.backchannelLogout())
   */
  backchannelLogout(): (request: IncomingMessage, response: ServerResponse, next: Next) => Promise<void>
}

/**
 * Attaches a token manager to every request of an app of several tenants, each with an authorization server or a client of its
 * own. `tenant` names the tenant of a request; `options` are looked up when the tenant's first request comes. The tokens of each
 * tenant have a place of their own in a session, `tokens:` and its name. A request without a tenant, or whose options cannot be
 * looked up, fails with a `ConfigurationError`.
 *
 * @throws `ConfigurationError` when an option is missing or unknown
 *
 * @example
 * app.use(sessionTokens({
 *   tenant: (request) => request.headers.host ?? '',
 *   options: async (tenant) => {
 *     const { issuer, clientId, secret } = await tenants.find(tenant)
 *     return { issuer, clientId, clientAuthentication: clientSecretBasic(secret), grants }
 *   },
 * }))
 */
export function sessionTokens(options: TenantOptions<ExpressRequest>): SessionTokensMiddleware
/**
 * Attaches a token manager to every request: `req.tokens`. Mount it behind express-session. Attaching costs nothing: the tokens
 * are read when a handler asks for them.
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
export function sessionTokens(options: SessionTokensOptions<ExpressRequest>): SessionTokensMiddleware
export function sessionTokens(
  options: SessionTokensOptions<ExpressRequest> | TenantOptions<ExpressRequest>,
): SessionTokensMiddleware {
  return middlewareOf(isTenantOptions(options) ? new Tenants(options, compose) : compose(options))
}

const compose = (options: AnySessionTokensOptions, tenant?: string) =>
  composeMiddleware(options, undefined, undefined, tenant)

/** Returns the middleware over parts that have been put together: one set for all requests, or one for each tenant. */
export function middlewareOf(parts: MiddlewareContext | Tenants<ExpressRequest>): SessionTokensMiddleware {
  function sessionTokensMiddleware(
    request: ExpressRequest & Record<PropertyKey, unknown>,
    response: ServerResponse,
    next: Next,
  ): void {
    if (typeof next !== 'function') throw notExpressError()
    const context = parts instanceof Tenants ? parts.of(request, request, response) : parts
    if (context instanceof Promise) {
      context.then((context) => attach(context, request, response, next)).catch(next)
    } else attach(context, request, response, next)
  }

  const close = () => parts.close()
  return Object.assign(sessionTokensMiddleware as SessionTokensMiddleware, {
    close,
    offline: offlineOf(parts),
    client: clientOf(parts),
    end: endOf(parts),
    backchannelLogout: () => backchannelLogoutOf(parts),
  })
}

function backchannelLogoutOf(parts: MiddlewareContext | Tenants<ExpressRequest>) {
  if (!(parts instanceof Tenants)) parts.manager.backchannelLogout.requireIssuer()

  return async function backchannelLogout(
    request: IncomingMessage,
    response: ServerResponse,
    next: Next,
  ): Promise<void> {
    try {
      const context = parts instanceof Tenants ? await parts.of(request as never, request, response) : parts
      sendOrPass(await backchannelResponse(context, request, fieldValue(request, 'body')), response, next)
    } catch (error) {
      next(error)
    }
  }
}

function attach(
  context: MiddlewareContext,
  request: IncomingMessage & Record<PropertyKey, unknown>,
  response: ServerResponse,
  next: Next,
): void {
  const waiting = context.keys?.prepare()
  if (waiting) {
    const attached = () => attachTokens(context, request, response, next)
    waiting.then(attached, (error) => attachFailure(context, request, response, next, error)).catch(next)
  } else attachTokens(context, request, response, next)
}

/** Lets a request pass while there are no keys. It fails when it asks for its tokens. */
async function attachFailure(
  { isAmbient, property, sessions }: MiddlewareContext,
  request: IncomingMessage,
  response: ServerResponse,
  next: Next,
  error: unknown,
): Promise<void> {
  await sessions.of(request)
  const tokens = refusedTokens(request, property, error)
  if (isAmbient) whileServing({ property, tokens, request, response }, () => next())
  else next()
}

function attachTokens(
  context: MiddlewareContext,
  request: IncomingMessage & Record<PropertyKey, unknown>,
  response: ServerResponse,
  next: Next,
): void {
  const { isAmbient, property, sessions } = context
  if (property in request) requireFreeProperty(request, 'req', context)
  const attachOver = (session: SessionAdapter) => {
    const tokens = new RequestTokens(context, session, request, request, response)
    request[property] = tokens
    if (isAmbient) whileServing({ property, tokens, request, response }, () => next())
    else next()
  }
  const session = sessions.of(request)
  if (session instanceof Promise) session.then(attachOver, next)
  else attachOver(session)
}

/**
 * Guards a route: the handler runs only when a valid access token has been obtained. The need that is named here is the
 * default of `getAccessToken()` and of calls for the rest of the request. `user` decides whether calls carry the user's token.
 *
 * Without tokens, a request for a page is redirected to `loginPath`. Other requests get 401 and a problem body (RFC 9457).
 * Other failures go to the app's error handler as `TokenError`.
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
    if (typeof next !== 'function') throw notExpressError()
    let rejection: GuardResponse | undefined
    try {
      rejection = await guard(request, request, request.originalUrl ?? request.url)
    } catch (error) {
      next(error)
      return
    }
    sendOrPass(rejection, response, next)
  }
}

/**
 * Refuses requests that may change something and come from a page of another origin, with 403 and a problem body
 * (RFC 9457, `"error": "cross_origin_request"`). It protects the routes that follow against CSRF, without a token or a
 * header of its own. `bearerProxy()` includes this protection.
 *
 * A request is from this site if its `Sec-Fetch-Site` is `same-origin` or `none`. Without that header, the host of `Origin`
 * must be the host of the request, and its scheme https if the request is known to use https. A request with neither header
 * passes, since browsers send one of them. GET, HEAD and OPTIONS pass, so they must change nothing. A proxy in front must
 * keep `Host`, or be trusted (`trust proxy`) to send it in `X-Forwarded-Host`.
 *
 * @throws `ConfigurationError` when an option is wrong
 *
 * @example
 * app.use(refuseCrossOrigin())
 */
export function refuseCrossOrigin(options: RefuseCrossOriginOptions = {}) {
  const check = crossOriginCheck(options)

  return function refuseCrossOriginMiddleware(
    request: IncomingMessage & { readonly protocol?: string },
    response: ServerResponse,
    next: Next,
  ): void {
    if (typeof next !== 'function') throw notExpressError()
    const { protocol } = request
    sendOrPass(check(request as ArrivedRequest, { protocol }), response, next)
  }
}

/** Sends the response of a guard, or passes the request on where the guard has none. */
function sendOrPass(rejection: GuardResponse | undefined, response: ServerResponse, next: Next): void {
  if (rejection) response.writeHead(rejection.status, rejection.headers).end(rejection.body)
  else next()
}
