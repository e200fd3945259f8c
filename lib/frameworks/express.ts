import type { IncomingMessage, ServerResponse } from 'node:http'
import type {} from 'express-session'
import type { ArrivedRequest } from '../cross-origin.js'
import { ConfigurationError } from '../errors.js'
import { closeMount, type Mount, mount } from '../mount.js'
import type { SessionTokensOptions } from '../options.js'
import { whileServing } from '../outbound/ambient.js'
import { whenOver } from '../response-over.js'
import { RequestTokens, requireOwnPlace, type SessionTokens } from '../session-tokens.js'
import type { SessionAdapter } from '../sessions/session-adapter.js'
import type { SessionCopy } from '../sessions/session-copy.js'
import { isTenantOptions, type Tenant, type TenantOptions, Tenants } from '../tenants.js'
import { crossOriginCheck, type RefuseCrossOriginOptions } from './refuse-cross-origin.js'
import { guardOf, type Refusal, type RequireTokensOptions } from './require-tokens.js'

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
/** A request as Express has it: its own type, or what is there without the types of Express. */
type ExpressRequest = [unknown] extends [InstalledRequest]
  ? IncomingMessage & Express.Request
  : InstalledRequest
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
 * An app of several tenants names the tenant of a request, and the options of a tenant, which are looked up when its
 * first request comes. The tokens of each tenant have a place of their own in a session, `tokens:` and its name. A
 * request without a tenant, or whose options are not to be had, fails with a `ConfigurationError`.
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
export function sessionTokens(
  options: SessionTokensOptions<ExpressRequest> | TenantOptions<ExpressRequest>,
): SessionTokensMiddleware {
  return isTenantOptions(options)
    ? middlewareOfTenants(new Tenants(options, (options) => mount(options)))
    : middlewareOf(mount(options))
}

/** The middleware over parts that have been put together. */
export function middlewareOf(mounted: Mount): SessionTokensMiddleware {
  function sessionTokensMiddleware(
    request: IncomingMessage & Record<PropertyKey, unknown>,
    response: ServerResponse,
    next: Next,
  ): void {
    if (typeof next !== 'function') throw isKoa()
    attach(mounted, request, response, next)
  }

  const close = () => closeMount(mounted)
  return Object.assign(sessionTokensMiddleware as SessionTokensMiddleware, { close })
}

/** The middleware over the parts of several tenants. */
export function middlewareOfTenants(tenants: Tenants<ExpressRequest>): SessionTokensMiddleware {
  function sessionTokensMiddleware(
    request: ExpressRequest & Record<PropertyKey, unknown>,
    response: ServerResponse,
    next: Next,
  ): void {
    if (typeof next !== 'function') throw isKoa()
    const serve = (tenant: Tenant) => {
      // The client may have gone while the options were looked up.
      whenOver(request, response, tenant.enter())
      attach(tenant.mounted, request, response, next)
    }
    const tenant = tenants.of(request)
    if (tenant instanceof Promise) tenant.then(serve).catch(next)
    else serve(tenant)
  }

  const close = () => tenants.close()
  return Object.assign(sessionTokensMiddleware as SessionTokensMiddleware, { close })
}

function isKoa(): ConfigurationError {
  return new ConfigurationError(
    "This is not Express. On Koa import sessionTokens(), requireTokens() and refuseCrossOrigin() from 'session-token-manager/koa'.",
  )
}

function attach(
  mounted: Mount,
  request: IncomingMessage & Record<PropertyKey, unknown>,
  response: ServerResponse,
  next: Next,
): void {
  const { isAmbient, property, sessions } = mounted
  requireOwnPlace(request, 'req', mounted)
  const attachOver = (session: SessionAdapter) => {
    const tokens = new RequestTokens(mounted, session, request)
    request[property] = tokens
    if (isAmbient) whileServing({ property, tokens, request, response }, () => next())
    else next()
  }
  const session = sessions.of(request)
  if (session instanceof Promise) session.then(attachOver, next)
  else attachOver(session)
}

/**
 * Guards a route: the handler runs with a fresh access token at hand, or not at all. What is asked for here is the
 * default of `getAccessToken()` and of calls for the rest of the request. `user` says whose token calls carry.
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
    if (typeof next !== 'function') throw isKoa()
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

/**
 * Refuses requests that may change something and come from a page of another origin, with 403 and a problem body
 * (RFC 9457, `"error": "cross_origin_request"`): protection against CSRF for every route behind it, without tokens or
 * headers of its own. `bearerProxy()` does so by itself.
 *
 * A request is of this site if `Sec-Fetch-Site` says `same-origin` or `none`; without that header, if the host of `Origin`
 * is the one that is asked, over https where the request is known to have come so. A request with neither header passes,
 * since browsers send one. GET, HEAD and OPTIONS pass, so they must change nothing. A proxy in front must leave `Host` as it
 * is, or be trusted (`trust proxy`) to say it in `X-Forwarded-Host`.
 *
 * @throws `ConfigurationError` when an option is wrong
 *
 * @example
 * app.use(refuseCrossOrigin())
 */
export function refuseCrossOrigin(options: RefuseCrossOriginOptions = {}) {
  const refusalOf = crossOriginCheck(options)

  return function refuseCrossOriginMiddleware(
    request: IncomingMessage & { readonly protocol?: string },
    response: ServerResponse,
    next: Next,
  ): void {
    if (typeof next !== 'function') throw isKoa()
    const { protocol } = request
    const refusal = refusalOf(request as ArrivedRequest, { protocol })
    if (refusal) response.writeHead(refusal.status, refusal.headers).end(refusal.body)
    else next()
  }
}
