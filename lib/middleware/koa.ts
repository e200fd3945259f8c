import type { IncomingMessage, ServerResponse } from 'node:http'
import type {} from 'koa'
import { fieldValue } from '../options/own-properties.js'
import { whileServing } from '../outbound/ambient.js'
import type { ArrivedRequest } from '../outbound/cross-origin.js'
import { type KoaContext, underWay } from '../sessions/koa/koa-context.js'
import { koaSessions } from '../sessions/koa/koa-sessions.js'
import type { OutboundTokens } from '../tokens/token-source.js'
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
import { notKoaError } from './wrong-framework.js'

declare module 'koa' {
  interface ExtendableContext {
    /** The tokens of this request's session, put there by `sessionTokens()`. */
    tokens: SessionTokens
  }
}

/** The part of Koa's context that is used. */
interface Context {
  readonly req: IncomingMessage
  readonly res: ServerResponse
  readonly originalUrl: string
  readonly protocol: string
  readonly host: string
  status: number
  body: unknown
  set(headers: Record<string, string>): void
}

// biome-ignore lint/suspicious/noTsIgnore: where there are types of Koa nothing is to be ignored
/** @ts-ignore There may be no types of Koa. */
type InstalledContext = import('koa').Context
/** The type of Koa's contexts, or the best that there is without the types of Koa. */
type KoaAppContext = [unknown] extends [InstalledContext] ? Context : InstalledContext

type Next = () => Promise<unknown>

/** The middleware for Koa (2 and 3) that `sessionTokens()` returns. */
export interface SessionTokensMiddleware {
  (ctx: object, next: Next): Promise<void>
  /**
   * Resolves when every refresh under way has ended and its result is stored. Call it after the HTTP server has
   * closed, before the process ends.
   */
  close(): Promise<void>
  /**
   * Returns an object that gets valid access tokens by a reference from `ctx.tokens.offlineReference()`, for code that has no
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
   * Returns a middleware for the authorization server's logout tokens (OpenID Connect Back-Channel Logout 1.0). The middleware
   * needs no session and no body parser. It ends the grants of the user or the login that are older than the token, and responds
   * with 200. To a token that is wrong or was used before it responds with 400 and an `error`. With tenants, `tenant` names the
   * tenant of the context.
   *
   * @throws `ConfigurationError` if there is no `issuer`
   *
   * @example
   * router.post('/backchannel-logout', tokens.backchannelLogout())
   */
  backchannelLogout(): (ctx: object) => Promise<void>
}

/**
 * Attaches a token manager to every context of an app of several tenants, each with an authorization server or a client of
 * its own. `tenant` names the tenant of a context; `options` are looked up when the tenant's first request comes, see
 * `TenantOptions`.
 *
 * @throws `ConfigurationError` when an option is missing or unknown
 */
export function sessionTokens(options: TenantOptions<KoaAppContext>): SessionTokensMiddleware
/**
 * Attaches a token manager to every context: `ctx.tokens`. Mount it behind koa-session. Attaching costs nothing: the tokens are
 * read when a handler asks for them.
 *
 * @throws `ConfigurationError` when an option is missing, unknown or contradicts another
 *
 * @example
 * app.use(session({ store }, app))
 * app.use(sessionTokens({
 *   issuer: 'https://idp.example.com',
 *   clientId: 'web',
 *   clientAuthentication: clientSecretBasic(process.env.CLIENT_SECRET),
 * }))
 */
export function sessionTokens(options: SessionTokensOptions<KoaAppContext>): SessionTokensMiddleware
export function sessionTokens(
  options: SessionTokensOptions<KoaAppContext> | TenantOptions<KoaAppContext>,
): SessionTokensMiddleware {
  return middlewareOf(isTenantOptions(options) ? new Tenants(options, compose) : compose(options))
}

const compose = (options: AnySessionTokensOptions, tenant?: string) =>
  composeMiddleware(options, undefined, koaSessions, tenant)

/** Returns the middleware over parts that have been put together: one set for all requests, or one for each tenant. */
export function middlewareOf(parts: MiddlewareContext | Tenants<KoaAppContext>): SessionTokensMiddleware {
  async function sessionTokensMiddleware(ctx: object, next: Next): Promise<void> {
    if (typeof next !== 'function') throw notKoaError()
    const { req, res } = ctx as Context
    await serve(parts instanceof Tenants ? await parts.of(ctx as KoaAppContext, req, res) : parts, ctx, next)
  }

  const close = () => parts.close()
  return Object.assign(sessionTokensMiddleware, {
    close,
    offline: offlineOf(parts),
    client: clientOf(parts),
    end: endOf(parts),
    backchannelLogout: () => backchannelLogoutOf(parts),
  })
}

function backchannelLogoutOf(parts: MiddlewareContext | Tenants<KoaAppContext>) {
  if (!(parts instanceof Tenants)) parts.manager.backchannelLogout.requireIssuer()

  return async function backchannelLogout(ctx: object): Promise<void> {
    const { req, request, res } = ctx as Context & { readonly request: object }
    const context = parts instanceof Tenants ? await parts.of(ctx as KoaAppContext, req, res) : parts
    const response = await backchannelResponse(context, req, fieldValue(request, 'body'))
    await sendOrPass(response, ctx as Context, async () => {})
  }
}

async function serve(context: MiddlewareContext, ctx: object, next: Next): Promise<void> {
  const { isAmbient, property } = context
  const { req: request, res: response } = ctx as Context
  const tokens = await attachedTokens(context, ctx)
  const rest = () => underWay(ctx as KoaContext, next)
  await (isAmbient ? whileServing({ property, tokens, request, response }, rest) : rest())
}

/** Attaches the tokens. While there are no keys the request passes, and fails when it asks for its tokens. */
async function attachedTokens(context: MiddlewareContext, ctx: object): Promise<OutboundTokens> {
  const { keys, property, sessions } = context
  if (property in ctx) requireFreeProperty(ctx, 'ctx', context)
  try {
    await keys?.prepare()
  } catch (error) {
    await sessions.of(ctx)
    return refusedTokens(ctx, property, error)
  }
  const { req, res } = ctx as Context
  const tokens = new RequestTokens(context, await sessions.of(ctx), ctx, req, res)
  Object.assign(ctx, { [property]: tokens })
  return tokens
}

/**
 * Guards a route: the handler runs only when a valid access token has been obtained. The need that is named here is the
 * default of `getAccessToken()` and of calls for the rest of the request. `user` decides whether calls carry the user's token.
 *
 * Without tokens, a request for a page is redirected to `loginPath`. Other requests get 401 and a problem body (RFC 9457).
 * Other failures are thrown as `TokenError`, and Koa responds with their status.
 *
 * @throws `ConfigurationError` when an option is wrong
 *
 * @example
 * router.get('/orders', requireTokens({ scope: 'orders.read', loginPath: '/login' }), handler)
 */
export function requireTokens(options: RequireTokensOptions = {}) {
  const guard = guardOf(options, 'ctx')

  return async function requireTokensMiddleware(ctx: Context, next: Next): Promise<void> {
    if (typeof next !== 'function') throw notKoaError()
    await sendOrPass(await guard(ctx, ctx.req, ctx.originalUrl), ctx, next)
  }
}

/**
 * Refuses requests that may change something and come from a page of another origin, with 403 and a problem body
 * (RFC 9457, `"error": "cross_origin_request"`). It protects the middleware that follows against CSRF, without a token or a
 * header of its own. `bearerProxy()` includes this protection.
 *
 * A request is from this site if its `Sec-Fetch-Site` is `same-origin` or `none`. Without that header, the host of `Origin`
 * must be the host of the request, and its scheme https if the request is known to use https. A request with neither header
 * passes, since browsers send one of them. GET, HEAD and OPTIONS pass, so they must change nothing. A proxy in front must
 * keep `Host`, or be trusted (`app.proxy`) to send it in `X-Forwarded-Host`.
 *
 * @throws `ConfigurationError` when an option is wrong
 *
 * @example
 * app.use(refuseCrossOrigin())
 */
export function refuseCrossOrigin(options: RefuseCrossOriginOptions = {}) {
  const check = crossOriginCheck(options)

  return async function refuseCrossOriginMiddleware(ctx: Context, next: Next): Promise<void> {
    if (typeof next !== 'function') throw notKoaError()
    const { host, protocol } = ctx
    await sendOrPass(check(ctx.req as ArrivedRequest, { host, protocol }), ctx, next)
  }
}

/** Sends the response of a guard, or passes the request on where the guard has none. */
async function sendOrPass(rejection: GuardResponse | undefined, ctx: Context, next: Next): Promise<void> {
  if (rejection) {
    ctx.status = rejection.status
    ctx.set(rejection.headers)
    ctx.body = rejection.body
  } else await next()
}
