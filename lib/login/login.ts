import type { IncomingMessage, ServerResponse } from 'node:http'
import { ConfigurationError } from '../errors/token-error.js'
import { type ArrivedRequest, crossOriginRefusal } from '../outbound/cross-origin.js'
import { login as begin } from './begin.js'
import { callback } from './callback.js'
import {
  type ExpressCarrier,
  type KoaCarrier,
  type LoginRequest,
  pathOfExpress,
  type Reply,
  requestOfExpress,
  requestOfKoa,
  sendExpress,
  sendKoa,
  tokensOf,
} from './login-request.js'
import { logout } from './logout.js'
import type { LoginOptions } from './options.js'
import { type LoginParts, loginParts } from './parts.js'
import { sessionInfo } from './session-info.js'

type Next = (error?: unknown) => void

/** Middleware for Express (4 and 5) and for Koa (2 and 3). */
export interface LoginMiddleware {
  (request: IncomingMessage, response: ServerResponse, next: Next): void
  (ctx: object, next: () => Promise<unknown>): Promise<void>
}

// biome-ignore lint/suspicious/noTsIgnore: where there are types of Express nothing is to be ignored
/** @ts-ignore There may be no types of Express. */
type InstalledRequest = import('express').Request
/** The type of Express's requests, or the best that there is without the types of Express. */
type ExpressRequest = [unknown] extends [InstalledRequest] ? IncomingMessage : InstalledRequest

type Handler = (parts: LoginParts, request: LoginRequest) => Promise<Reply>
type Find = (method: string | undefined, path: string) => Handler | undefined

/** The parts of a `login()`, which `stepUp()` needs. */
const partsOf = new WeakMap<object, LoginParts>()

/**
 * Logs users in and out at an authorization server with OpenID Connect, and hands the tokens over to `sessionTokens()`. Mount it
 * behind `sessionTokens()`. openid-client does every step of the protocol: the authorization code flow with PKCE, state and
 * nonce.
 *
 * `GET /login?returnTo=/orders` sends the user to the authorization server. `GET /callback` (with `form_post` also POST) gives
 * the session another id, stores the tokens in it, and redirects to the path. `POST /logout` logs out here, revokes the tokens,
 * and redirects to the logout of the authorization server. `GET /session` tells a page who is logged in.
 * `POST /backchannel-logout` ends logins when the authorization server says so. Other requests pass.
 *
 * @throws `ConfigurationError` when an option is missing, unknown or contradicts another
 *
 * @example
 * const client = { issuer, clientId, clientAuthentication: clientSecretBasic(secret), encryptionKeys: [process.env.SESSION_KEY] }
 * app.use(sessionTokens(client))
 * app.use(login({ ...client, baseUrl: 'https://app.example.com' }))
 */
export function login<Request = ExpressRequest>(options: LoginOptions<Request>): LoginMiddleware {
  const parts = loginParts(options as LoginOptions<never>)
  const find = finderOf(parts)

  function loginMiddleware(first: object, second: unknown, next?: Next): unknown {
    if (next === undefined)
      return serveKoa(parts, find, first as KoaCarrier, second as () => Promise<unknown>)
    return serveExpress(parts, find, first as ExpressCarrier, second as ServerResponse, next)
  }
  partsOf.set(loginMiddleware, parts)
  return loginMiddleware as LoginMiddleware
}

/** @throws `ConfigurationError` if the middleware is not of `login()` */
export function partsOfLogin(middleware: object): LoginParts {
  const parts = partsOf.get(middleware)
  if (parts) return parts
  throw new ConfigurationError(
    'stepUp() takes the middleware of login(): const auth = login({ … }); app.use(auth); …; app.use(stepUp(auth)).',
  )
}

/** Makes the function that finds the handler of a request. For a request to the app it only looks once into a map. */
function finderOf({ options, paths }: LoginParts): Find {
  const routes = new Map<string, Readonly<Record<string, Handler>>>()
  const add = (path: string | false, handlers: Readonly<Record<string, Handler>>) => {
    if (path !== false) routes.set(path, { __proto__: null as never, ...handlers })
  }
  add(paths.login, { GET: begin })
  add(paths.callback, { GET: callback, ...(options.responseMode === 'form_post' && { POST: callback }) })
  add(paths.logout, { POST: guarded(logout) })
  add(paths.session, { GET: sessionInfo })
  add(paths.backchannelLogout, { POST: backchannelLogout })
  return (method = 'GET', path) => {
    const end = path.indexOf('?')
    return routes.get(end === -1 ? path : path.slice(0, end))?.[method]
  }
}

/**
 * Ends logins that the authorization server has ended. The request comes from the server, so it has no session, and its origin is
 * not checked.
 */
const backchannelLogout: Handler = (parts, request) => {
  const tokens = tokensOf(request, parts.options.property)
  return tokens.backchannelLogout(request.message, request.parsedBody)
}

/**
 * Makes a handler refuse requests that a page of another origin has sent. The callback is not guarded: a page of the
 * authorization server may send it.
 */
function guarded(handler: Handler): Handler {
  return async (parts, request) =>
    crossOriginRefusal(request.message as ArrivedRequest, request.known, parts.options.allowedOrigins) ??
    handler(parts, request)
}

function serveExpress(
  parts: LoginParts,
  find: Find,
  carrier: ExpressCarrier,
  response: ServerResponse,
  next: Next,
): void {
  const handler = find(carrier.method, pathOfExpress(carrier))
  if (!handler) next()
  else {
    const replied = handled(parts, handler, requestOfExpress(carrier, response))
    replied.then((reply) => sendExpress(reply, response)).catch(next)
  }
}

function serveKoa(
  parts: LoginParts,
  find: Find,
  ctx: KoaCarrier,
  next: () => Promise<unknown>,
): Promise<unknown> {
  const handler = find(ctx.req.method, ctx.originalUrl)
  return handler ? handled(parts, handler, requestOfKoa(ctx)).then((reply) => sendKoa(reply, ctx)) : next()
}

async function handled(parts: LoginParts, handler: Handler, request: LoginRequest): Promise<Reply> {
  await parts.keys?.prepare()
  return handler(parts, request)
}
