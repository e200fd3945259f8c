import type { IncomingMessage, ServerResponse } from 'node:http'
import type {} from 'koa'
import type { ArrivedRequest } from '../cross-origin.js'
import { ConfigurationError } from '../errors.js'
import { closeMount, type Mount, mount } from '../mount.js'
import type { SessionTokensOptions } from '../options.js'
import { whileServing } from '../outbound/ambient.js'
import { whenOver } from '../response-over.js'
import { RequestTokens, requireOwnPlace, type SessionTokens } from '../session-tokens.js'
import { type KoaContext, underWay } from '../sessions/koa-context.js'
import { koaSessions } from '../sessions/koa-layers.js'
import { isTenantOptions, type TenantOptions, Tenants } from '../tenants.js'
import { crossOriginCheck, type RefuseCrossOriginOptions } from './refuse-cross-origin.js'
import { guardOf, type RequireTokensOptions } from './require-tokens.js'

declare module 'koa' {
  interface ExtendableContext {
    /** The tokens of this request's session, put there by `sessionTokens()`. */
    tokens: SessionTokens
  }
}

/** What of Koa's context is used. */
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
/** A context as Koa has it: its own type, or what is used of it without the types of Koa. */
type KoaAppContext = [unknown] extends [InstalledContext] ? Context : InstalledContext

type Next = () => Promise<unknown>

/** Koa middleware (2 and 3) that can be waited for. */
export interface SessionTokensMiddleware {
  (ctx: object, next: Next): Promise<void>
  /**
   * Resolves when every refresh under way has ended and its result is stored. Call it after the HTTP server has
   * closed, before the process ends.
   */
  close(): Promise<void>
}

/** What Koa and its usual middleware keep on a context, besides what they keep on Express's request as well. */
const RESERVED_PROPERTIES = [
  ...['accept', 'append', 'assert', 'attachment', 'back', 'charset', 'etag', 'flushHeaders', 'has'],
  ...['headerSent', 'href', 'idempotent', 'inspect', 'lastModified', 'length', 'message', 'onerror'],
  ...['origin', 'querystring', 'redirect', 'remove', 'req', 'request', 'respond', 'response', 'search'],
  ...['sessionOptions', 'set', 'socket', 'state', 'status', 'throw', 'toJSON', 'type', 'URL', 'vary'],
  'writable',
]

/**
 * Attaches a token manager to every context: `ctx.tokens`. Mount it behind koa-session. Attaching does nothing yet; a
 * token is looked at when a handler asks for it.
 *
 * An app of several tenants names the tenant of a context, and the options of a tenant, which are looked up when its first
 * request comes, see `TenantOptions`.
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
export function sessionTokens(
  options: SessionTokensOptions<KoaAppContext> | TenantOptions<KoaAppContext>,
): SessionTokensMiddleware {
  return isTenantOptions(options)
    ? middlewareOfTenants(new Tenants(options, mountForKoa))
    : middlewareOf(mountForKoa(options))
}

function mountForKoa(options: SessionTokensOptions): Mount {
  const mounted = mount(options, undefined, koaSessions)
  if (RESERVED_PROPERTIES.includes(mounted.property)) {
    throw new ConfigurationError(
      `\`property\` must not be '${mounted.property}', which Koa has in use. Choose another, e.g. 'tokens'.`,
    )
  }
  return mounted
}

/** The middleware over parts that have been put together. */
export function middlewareOf(mounted: Mount): SessionTokensMiddleware {
  async function sessionTokensMiddleware(ctx: object, next: Next): Promise<void> {
    if (typeof next !== 'function') throw isExpress()
    await serve(mounted, ctx, next)
  }

  const close = () => closeMount(mounted)
  return Object.assign(sessionTokensMiddleware, { close })
}

/** The middleware over the parts of several tenants. */
export function middlewareOfTenants(tenants: Tenants<KoaAppContext>): SessionTokensMiddleware {
  async function sessionTokensMiddleware(ctx: object, next: Next): Promise<void> {
    if (typeof next !== 'function') throw isExpress()
    const { req, res } = ctx as Context
    const tenant = await tenants.of(ctx as KoaAppContext)
    // koa-session saves when this middleware is over, so the request is not; unless the client has gone by now.
    whenOver(req, res, tenant.enter())
    await serve(tenant.mounted, ctx, next)
  }

  const close = () => tenants.close()
  return Object.assign(sessionTokensMiddleware, { close })
}

function isExpress(): ConfigurationError {
  return new ConfigurationError(
    "This is not Koa. On Express import sessionTokens(), requireTokens() and refuseCrossOrigin() from 'session-token-manager'.",
  )
}

async function serve(mounted: Mount, ctx: object, next: Next): Promise<void> {
  const { isAmbient, property, sessions } = mounted
  requireOwnPlace(ctx, 'ctx', mounted)
  const tokens = new RequestTokens(mounted, await sessions.of(ctx), ctx)
  Object.assign(ctx, { [property]: tokens })
  const { req: request, res: response } = ctx as Context
  const rest = () => underWay(ctx as KoaContext, next)
  await (isAmbient ? whileServing({ property, tokens, request, response }, rest) : rest())
}

/**
 * Guards a route: what comes behind runs with a fresh access token at hand, or not at all. What is asked for here is the
 * default of `getAccessToken()` and of calls for the rest of the request. `user` says whose token calls carry.
 *
 * Without tokens a page is redirected to `loginPath`, and everything else is answered with 401 and a problem body
 * (RFC 9457). Other failures are thrown as `TokenError`; Koa answers with their status.
 *
 * @throws `ConfigurationError` when an option is wrong
 *
 * @example
 * router.get('/orders', requireTokens({ scope: 'orders.read', loginPath: '/login' }), handler)
 */
export function requireTokens(options: RequireTokensOptions = {}) {
  const guard = guardOf(options, 'ctx')

  return async function requireTokensMiddleware(ctx: Context, next: Next): Promise<void> {
    if (typeof next !== 'function') throw isExpress()
    const refusal = await guard(ctx, ctx.req, ctx.originalUrl)
    if (refusal) {
      ctx.status = refusal.status
      ctx.set(refusal.headers)
      ctx.body = refusal.body
    } else await next()
  }
}

/**
 * Refuses requests that may change something and come from a page of another origin, with 403 and a problem body
 * (RFC 9457, `"error": "cross_origin_request"`): protection against CSRF for all that comes behind it, without tokens or
 * headers of its own. `bearerProxy()` does so by itself.
 *
 * A request is of this site if `Sec-Fetch-Site` says `same-origin` or `none`; without that header, if the host of `Origin`
 * is the one that is asked, over https where the request is known to have come so. A request with neither header passes,
 * since browsers send one. GET, HEAD and OPTIONS pass, so they must change nothing. A proxy in front must leave `Host` as it
 * is, or be trusted (`app.proxy`) to say it in `X-Forwarded-Host`.
 *
 * @throws `ConfigurationError` when an option is wrong
 *
 * @example
 * app.use(refuseCrossOrigin())
 */
export function refuseCrossOrigin(options: RefuseCrossOriginOptions = {}) {
  const refusalOf = crossOriginCheck(options)

  return async function refuseCrossOriginMiddleware(ctx: Context, next: Next): Promise<void> {
    if (typeof next !== 'function') throw isExpress()
    const { host, protocol } = ctx
    const refusal = refusalOf(ctx.req as ArrivedRequest, { host, protocol })
    if (refusal) {
      ctx.status = refusal.status
      ctx.set(refusal.headers)
      ctx.body = refusal.body
    } else await next()
  }
}
