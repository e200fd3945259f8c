import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { createServer, type IncomingMessage, type RequestListener, type ServerResponse } from 'node:http'
import type { AddressInfo, Socket } from 'node:net'
import { json } from 'node:stream/consumers'
import cookieSession from 'cookie-session'
import type express from 'express'
import type { ErrorRequestHandler, RequestHandler } from 'express'
import session from 'express-session'
import type Koa from 'koa'
import koaSession, { type CreateSessionOptions } from 'koa-session'
import { clientSecretBasic, type RequireTokensOptions, type SessionTokensOptions } from '../../lib/index.js'
import { composeMiddleware, type SessionLayerFactory } from '../../lib/middleware/composition.js'
import * as onExpress from '../../lib/middleware/express.js'
import * as onKoa from '../../lib/middleware/koa.js'
import {
  type BearerProxyOptions,
  bearerProxy,
  type UpgradeOptions,
  upgradesThrough,
} from '../../lib/proxy.js'
import { koaSessions } from '../../lib/sessions/koa/koa-sessions.js'
import { expressVersions } from './app.js'
import type { AuthorizationServer } from './authorization-server.js'
import { type Browser, browser } from './browser.js'
import { type TestClock, testClock } from './clock.js'
import { koaVersions } from './koa-site.js'
import { koaMemoryStore } from './koa-stores.js'
import { ownProcess } from './site.js'

/** How a site differs from the usual one, which has sessions in a store and a guard in front of the proxy. */
export interface ProxySiteOptions {
  readonly proxy: BearerProxyOptions
  /** Default: `{}`; `null` leaves it out. */
  readonly guard?: RequireTokensOptions | null
  readonly tokens?: Partial<SessionTokensOptions>
  /** Middleware of the framework in question: between the session and the tokens, and between the guard and the proxy. */
  readonly before?: unknown
  readonly between?: unknown
  /** Whether sessions are kept in cookies. */
  readonly inCookies?: boolean
  /** Whether the server takes malformed requests, as with `node --insecure-http-parser`. */
  readonly isLenient?: boolean
  /** `null` leaves `upgradesThrough()` out. */
  readonly upgrades?: UpgradeOptions | null
}

/** A site that passes on what is below `/api`, logs its users in at `/login`, and out at `/logout`. */
export interface ProxySite {
  readonly url: string
  readonly clock: TestClock
  /** What the app's error handler got. */
  readonly errors: readonly unknown[]
  /** The browsers' connections. */
  readonly sockets: ReadonlySet<Socket>
  browser(): Browser
  /** A browser whose user has logged in. */
  loggedIn(): Promise<Browser>
  close(): Promise<void>
}

export interface ProxyFramework {
  readonly name: string
  readonly isKoa: boolean
  start(server: AuthorizationServer, options: ProxySiteOptions): Promise<ProxySite>
}

export const proxyFrameworks: readonly ProxyFramework[] = [
  ...expressVersions.map(([name, version]) => ({
    name,
    isKoa: false,
    start: (server: AuthorizationServer, options: ProxySiteOptions) =>
      startWith(server, options, undefined, (parts) => expressApp(version, options, parts)),
  })),
  ...koaVersions.map(([name, version]) => ({
    name,
    isKoa: true,
    start: (server: AuthorizationServer, options: ProxySiteOptions) =>
      startWith(server, options, koaSessions, (parts) => koaApp(version, options, parts)),
  })),
]

interface Parts {
  readonly mounted: ReturnType<typeof composeMiddleware>
  readonly errors: unknown[]
}

interface App {
  readonly listener: RequestListener
  readonly middleware: { close(): Promise<void> }
}

const KEY = randomBytes(32).toString('base64')

async function startWith(
  server: AuthorizationServer,
  options: ProxySiteOptions,
  layer: SessionLayerFactory | undefined,
  build: (parts: Parts) => App,
): Promise<ProxySite> {
  const clock = testClock()
  const errors: unknown[] = []
  const { clientId, clientSecret } = server.clients.client_secret_basic
  const mounted = composeMiddleware(
    {
      tokenEndpoint: server.tokenEndpoint,
      revocationEndpoint: server.revocationEndpoint,
      clientId,
      clientAuthentication: clientSecretBasic(clientSecret),
      encryptionKeys: false,
      ...(options.inCookies && { encryptionKeys: [KEY] }),
      ...options.tokens,
    } as SessionTokensOptions,
    ownProcess(clock),
    layer,
  )
  const { listener, middleware } = build({ mounted, errors })
  const http = createServer({ insecureHTTPParser: options.isLenient ?? false }, listener).listen(
    0,
    '127.0.0.1',
  )
  if (options.upgrades !== null) http.on('upgrade', upgradesThrough(listener, options.upgrades))
  const sockets = new Set<Socket>()
  http.on('connection', (socket) => {
    sockets.add(socket)
    socket.once('close', () => sockets.delete(socket))
  })
  await once(http, 'listening')
  const url = `http://127.0.0.1:${(http.address() as AddressInfo).port}`
  return {
    url,
    clock,
    errors,
    sockets,
    browser: () => browser(url),
    async loggedIn() {
      const visitor = browser(url)
      const answer = await visitor.post('/login', await server.login('user'))
      if (answer.status !== 200) throw new Error(`login failed: ${answer.status} ${answer.text}`)
      return visitor
    },
    async close() {
      const closed = once(http, 'close')
      http.close()
      for (const socket of sockets) socket.destroy()
      await closed
      await middleware.close()
    },
  }
}

function expressApp(version: typeof express, options: ProxySiteOptions, { mounted, errors }: Parts): App {
  const { before, between, guard = {}, inCookies, proxy } = options
  const app = version()
  app.set('env', 'production')
  const store = new session.MemoryStore()
  const inStore = { secret: 'test', resave: false, saveUninitialized: false, store }
  app.use(inCookies ? (cookieSession({ secret: 'test' }) as RequestHandler) : session(inStore))
  if (before) app.use(before as RequestHandler)
  const middleware = onExpress.middlewareOf(mounted)
  app.use(middleware)
  app.post('/login', version.json(), (request, response, next) => {
    request.tokens.set(request.body).then(() => response.json(null), next)
  })
  app.post('/logout', (request, response, next) => {
    request.tokens.revoke().then(() => response.json(null), next)
  })
  if (guard) app.use('/api', onExpress.requireTokens(guard))
  if (between) app.use('/api', between as RequestHandler)
  app.use('/api', bearerProxy(proxy))
  app.use(((error, _request, _response, next) => {
    errors.push(error)
    next(error)
  }) as ErrorRequestHandler)
  return { listener: app, middleware }
}

function koaApp(Version: typeof Koa, options: ProxySiteOptions, { mounted, errors }: Parts): App {
  const { before, between, guard = {}, inCookies, proxy } = options
  const app = new Version()
  app.keys = ['test']
  app.on('error', (error) => errors.push(error))
  app.use(koaSession((inCookies ? {} : { store: koaMemoryStore() }) as CreateSessionOptions, app))
  if (before) app.use(before as Koa.Middleware)
  const middleware = onKoa.middlewareOf(mounted)
  app.use(middleware)
  app.use(async (ctx, next) => {
    if (ctx.path === '/login') await ctx.tokens.set(await json(ctx.req as IncomingMessage))
    else if (ctx.path === '/logout') await ctx.tokens.revoke()
    else return next()
    ctx.body = 'null'
  })
  app.use(async (ctx, next) => {
    if (!/^\/api(\/|$)/.test(ctx.path)) return
    ctx.path = ctx.path.slice('/api'.length) || '/'
    await next()
  })
  if (guard) app.use(onKoa.requireTokens(guard))
  if (between) app.use(between as Koa.Middleware)
  app.use(bearerProxy(proxy))
  return { listener: app.callback(), middleware }
}

/** Middleware of the framework that acts on each response before the request goes on. */
export function onResponse(framework: ProxyFramework, act: (response: ServerResponse) => unknown): unknown {
  return framework.isKoa
    ? (ctx: { res: ServerResponse }, next: () => unknown) => {
        act(ctx.res)
        return next()
      }
    : (_: unknown, response: ServerResponse, next: () => void) => {
        act(response)
        next()
      }
}
