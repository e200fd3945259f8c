import { createRequire } from 'node:module'
import { json } from 'node:stream/consumers'
import Koa3, { type Context } from 'koa'
import koaSession7, { type CreateSessionOptions } from 'koa-session'
import { clientSecretBasic, type SessionTokensOptions, type TokenEvent } from '../../lib/index.js'
import {
  composeMiddleware,
  type MiddlewareContext,
  type ProcessServices,
} from '../../lib/middleware/composition.js'
import { middlewareOf, type SessionTokensMiddleware } from '../../lib/middleware/koa.js'
import type { AnySessionTokensOptions } from '../../lib/middleware/options.js'
import { koaSessions } from '../../lib/sessions/koa/koa-sessions.js'
import { startApp } from './app.js'
import type { AuthorizationServer } from './authorization-server.js'
import { type Browser, browser } from './browser.js'
import { type TestClock, testClock } from './clock.js'
import { keepingEvents } from './events.js'
import { createGate, type Gate } from './gate.js'
import { type KoaMemoryStore, koaMemoryStore } from './koa-stores.js'
import { ownProcess } from './site.js'

// Neither brings types of its own; what is used here is the same in both versions.
const require = createRequire(import.meta.url)
const Koa2 = require('koa2') as typeof Koa3
export const koaSession6 = require('koa-session6') as typeof koaSession7

/** The Koa versions that the library supports, for `describe.each`. */
export const koaVersions: [name: string, Koa: typeof Koa3][] = [
  ['Koa 3', Koa3],
  ['Koa 2', Koa2],
]

/** What koa-session calls its cookie, unless told otherwise. */
export const KOA_COOKIE = 'koa.sess'

type Handler = (ctx: Context) => unknown

/** How a Koa site differs from the usual one. */
export interface KoaSiteOptions {
  /** Koa 3 by default. */
  Koa?: typeof Koa3
  /** Options of `sessionTokens()` besides those of the authorization server and the client. */
  tokens?: Partial<AnySessionTokensOptions>
  /** koa-session 7 by default. */
  koaSession?: typeof koaSession7
  /** Options of koa-session. */
  session?: CreateSessionOptions
  /** Default: one in memory. */
  store?: KoaMemoryStore
  /** Whether sessions are kept in cookies, and in no store. */
  inCookies?: boolean
  clock?: TestClock
  /** What a process has one of; a site of its own is a process of its own. */
  surroundings?: Partial<ProcessServices>
  /** Whether `sessionTokens()` comes before koa-session. */
  mountedInFront?: boolean
  /** Middleware between koa-session and `sessionTokens()`. */
  before?: Koa3.Middleware
}

/** A Koa app with sessions in a store and tokens, as a process of its own. */
export interface KoaSite {
  readonly url: string
  readonly app: Koa3
  readonly store: KoaMemoryStore
  readonly clock: TestClock
  readonly mounted: MiddlewareContext
  readonly middleware: SessionTokensMiddleware
  readonly events: readonly TokenEvent[]
  /** What Koa was told of errors. */
  readonly errors: readonly unknown[]
  /** Answers a path; what the handler returns is sent as JSON. May be called at any time, again too. */
  handle(path: string, handler: Handler): void
  /** Requests of a path wait at the gate, with their session as it was when they came; then the handler runs. */
  slow(path: string, handler?: Handler): Gate
  browser(visitor?: Browser): Browser
  stored(browser: Browser): Record<string, unknown> | undefined
  login(browser: Browser, account?: string): Promise<void>
  close(): Promise<void>
}

/**
 * Starts a Koa site in front of an authorization server. It has the paths `/token`, `/login`, `/logout` and `/session` of
 * the site of Express.
 */
export async function startKoaSite(
  server: Pick<AuthorizationServer, 'tokenEndpoint' | 'revocationEndpoint' | 'clients' | 'login'>,
  options: KoaSiteOptions = {},
): Promise<KoaSite> {
  const store = options.store ?? koaMemoryStore()
  const clock = options.clock ?? testClock()
  const events: TokenEvent[] = []
  const errors: unknown[] = []
  const handlers = new Map<string, Handler>()
  const { clientId, clientSecret } = server.clients.client_secret_basic
  const mounted = composeMiddleware(
    {
      tokenEndpoint: server.tokenEndpoint,
      revocationEndpoint: server.revocationEndpoint,
      clientId,
      clientAuthentication: clientSecretBasic(clientSecret),
      encryptionKeys: false,
      // A request waits for the refresh in the last minute, unless a test is about the refresh ahead of it.
      leewayMs: 60_000,
      refreshAheadMs: 0,
      onEvent: keepingEvents(events),
      ...options.tokens,
    } as SessionTokensOptions,
    ownProcess(clock, options.surroundings),
    koaSessions,
  )
  const middleware = middlewareOf(mounted)
  const app = new (options.Koa ?? Koa3)()
  app.keys = ['test']
  app.on('error', (error) => errors.push(error))
  const sessions = (options.koaSession ?? koaSession7)(
    { ...options.session, ...(!options.inCookies && { store }) } as CreateSessionOptions,
    app,
  )
  const inOrder = [sessions, ...(options.before ? [options.before] : []), middleware]
  for (const each of options.mountedInFront ? inOrder.reverse() : inOrder) app.use(each)
  app.use(async (ctx, next) => {
    const handler = handlers.get(ctx.path)
    if (!handler) return next()
    try {
      ctx.body = JSON.stringify((await handler(ctx)) ?? null)
    } catch (error) {
      const { status = 500, code, message } = error as { status?: number; code?: string; message: string }
      errors.push(error)
      ctx.status = status
      ctx.body = JSON.stringify({ code, message })
    }
  })

  const running = await startApp(() => app.callback())
  const handle = (path: string, handler: Handler) => void handlers.set(path, handler)
  handle('/token', (ctx) => ctx.tokens.getAccessToken({ ...ctx.query }))
  handle('/login', async (ctx) => ctx.tokens.set(await json(ctx.req)))
  handle('/logout', (ctx) => ctx.tokens.revoke())
  handle('/session', (ctx) => ctx.session)

  return {
    url: running.url,
    app,
    store,
    clock,
    mounted,
    middleware,
    events,
    errors,
    handle,
    slow(path, handler = () => {}) {
      const gate = createGate()
      handle(path, async (ctx) => {
        await gate.pass()
        return handler(ctx)
      })
      return gate
    },
    browser(visitor) {
      const visiting = browser(running.url)
      for (const name of [KOA_COOKIE, `${KOA_COOKIE}.sig`]) {
        const cookie = visitor?.cookie(name)
        if (cookie !== undefined) visiting.setCookie(name, cookie)
      }
      return visiting
    },
    stored(browser) {
      const cookie = browser.cookie(KOA_COOKIE) ?? ''
      if (!options.inCookies) return store.peek(cookie)
      return cookie === '' ? undefined : JSON.parse(Buffer.from(cookie, 'base64').toString())
    },
    async login(browser, account = 'user') {
      const answer = await browser.post('/login', await server.login(account))
      if (answer.status !== 200) throw new Error(`login failed: ${answer.status} ${answer.text}`)
    },
    async close() {
      await running.close()
      await middleware.close()
    },
  }
}
