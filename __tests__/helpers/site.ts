import express, { type Express, type Request, type RequestHandler, type Response } from 'express'
import session, { type SessionOptions, type Store } from 'express-session'
import type { Clock } from '../../lib/concurrency/clock.js'
import { GrantRegistry } from '../../lib/grants/grant-registry.js'
import type { GrantStore } from '../../lib/grants/grant-store.js'
import { memoryGrantStore } from '../../lib/grants/memory-grant-store.js'
import { clientSecretBasic, type SessionTokensOptions, type TokenEvent } from '../../lib/index.js'
import {
  composeMiddleware,
  type MiddlewareContext,
  type ProcessServices,
} from '../../lib/middleware/composition.js'
import { middlewareOf, type SessionTokensMiddleware } from '../../lib/middleware/express.js'
import type { AnySessionTokensOptions } from '../../lib/middleware/options.js'
import type { TokenSet } from '../../lib/tokens/token-set.js'
import { startApp } from './app.js'
import type { AuthorizationServer } from './authorization-server.js'
import { type Browser, browser } from './browser.js'
import { type TestClock, testClock } from './clock.js'
import { keepingEvents } from './events.js'
import { createGate, type Gate } from './gate.js'
import { readSession, recordingStore, type StoreRecording, sessionIdOf } from './stores.js'

type Handler = (request: Request, response: Response) => unknown

/** How a site differs from the usual one. */
export interface SiteOptions {
  /** Options of `sessionTokens()` besides those of the authorization server and the client. */
  tokens?: Partial<AnySessionTokensOptions>
  /** Options of express-session. Default: `resave: false`, `saveUninitialized: false`. */
  session?: Partial<SessionOptions>
  /** Default: a `MemoryStore`. */
  store?: Store
  /** Default: one that starts at the machine's time and goes on by itself. */
  clock?: TestClock
  /** Express 5 by default. */
  express?: typeof express
  /** What a process has one of; a site of its own is a process of its own. */
  surroundings?: Partial<ProcessServices>
  /** Middleware between express-session and `sessionTokens()`. */
  before?: RequestHandler
}

/** An Express app with sessions and tokens, as a process of its own, and what tests want to know of it. */
export interface Site {
  readonly url: string
  readonly app: Express
  readonly store: StoreRecording<Store>
  readonly clock: TestClock
  readonly mounted: MiddlewareContext
  readonly middleware: SessionTokensMiddleware
  /** What `onEvent` was told, except for logins. */
  readonly events: readonly TokenEvent[]
  /** What the app's error handler got. */
  readonly errors: readonly unknown[]
  /** Answers `GET` and `POST` of a path; what the handler returns is sent as JSON. May be called at any time, again too. */
  handle(path: string, handler: Handler): void
  /** Requests of a path wait at the gate, with their session as it was when they came; then the handler runs. */
  slow(path: string, handler?: Handler): Gate
  /** A browser without cookies, or with those that another site over the same sessions gave to `visitor`. */
  browser(visitor?: Browser): Browser
  /** The stored session of a browser. */
  stored(browser: Browser): Promise<Record<string, unknown> | undefined>
  /** The tokens in the stored session of a browser. */
  storedTokens(browser: Browser): Promise<TokenSet | undefined>
  /** Another site's browser, with the cookies of this moment. */
  visitorOf(other: Browser): Browser
  /** Logs a user in at the authorization server and puts the tokens into the browser's session. */
  login(
    browser: Browser,
    account?: string,
    request?: Parameters<AuthorizationServer['login']>[1],
  ): Promise<void>
  close(): Promise<void>
}

/**
 * Starts a site in front of an authorization server. Paths of every site: `/token` (answers `{ token }`, the query is
 * the need), `/login` (puts the posted token response into the session), `/logout` (revokes), `/session` (the session).
 */
export async function startSite(
  server: Pick<AuthorizationServer, 'tokenEndpoint' | 'revocationEndpoint' | 'clients' | 'login'>,
  options: SiteOptions = {},
): Promise<Site> {
  const store = recordingStore(options.store ?? new session.MemoryStore()) as StoreRecording<Store>
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
  )
  const middleware = middlewareOf(mounted)
  const app = (options.express ?? express)()
  app.set('env', 'test')
  app.use(
    session({
      secret: 'test',
      resave: false,
      saveUninitialized: false,
      ...options.session,
      store: store.store,
    }),
  )
  if (options.before) app.use(options.before)
  app.use(middleware)
  app.use(express.json())
  app.use(async (request, response, next) => {
    const handler = handlers.get(request.path)
    if (!handler) return next()
    try {
      const result = await handler(request, response)
      // express-session puts the end of an answer off until the session is saved.
      if (!response.headersSent) response.json(result ?? null)
    } catch (error) {
      next(error)
    }
  })
  app.use(((error, _request, response, next) => {
    errors.push(error)
    if (response.headersSent) return next(error)
    response
      .status(error.status ?? 500)
      .json({ code: error.code, retryAfterMs: error.retryAfterMs, message: error.message })
  }) as express.ErrorRequestHandler)

  const running = await startApp(() => app)
  const handle = (path: string, handler: Handler) => void handlers.set(path, handler)
  const stored = async (browser: Browser) =>
    (await readSession(store.store, sessionIdOf(browser.cookie('connect.sid')))) as
      | Record<string, unknown>
      | undefined
  handle('/token', (request) => request.tokens.getAccessToken(needOf(request)))
  handle('/login', (request) => request.tokens.set(request.body))
  handle('/logout', (request) => request.tokens.revoke())
  handle('/session', (request) => request.session)

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
    browser(visitor) {
      const visiting = browser(running.url)
      const cookie = visitor?.cookie('connect.sid')
      if (cookie !== undefined) visiting.setCookie('connect.sid', cookie)
      return visiting
    },
    slow(path, handler = () => {}) {
      const gate = createGate()
      handle(path, async (request, response) => {
        await gate.pass()
        return handler(request, response)
      })
      return gate
    },
    stored,
    storedTokens: async (browser) => tokensIn(await stored(browser)),
    visitorOf(other) {
      const visitor = browser(running.url)
      const cookie = other.cookie('connect.sid')
      if (cookie !== undefined) visitor.setCookie('connect.sid', cookie)
      return visitor
    },
    async login(browser, account = 'user', request) {
      const answer = await browser.post('/login', await server.login(account, request))
      if (answer.status !== 200) throw new Error(`login failed: ${answer.status} ${answer.text}`)
    },
    async close() {
      await running.close()
      await middleware.close()
    },
  }
}

/** Opens the same sessions once more at each call, as another process would: a store of its own over the same data. */
export function sharedSessions(): () => Store {
  const sessions = Object.create(null) as Record<string, string>
  return () => Object.assign(new session.MemoryStore(), { sessions })
}

/** What a process has one of: what is given, and the rest new, which knows nothing of any other process. */
export function ownProcess(
  clock: Clock = testClock(),
  given: Partial<ProcessServices> = {},
): ProcessServices {
  return {
    clock,
    registry: given.registry ?? new GrantRegistry(clock),
    grants: given.grants ?? memoryGrantStore(),
    ...given,
  }
}

export interface RecordingGrants extends GrantStore {
  readonly calls: readonly (keyof GrantStore)[]
  /** Forgets the calls so far. */
  forget(): void
}

/** A grant store in memory that tells what it was asked. */
export function recordingGrants(): RecordingGrants {
  const grants = memoryGrantStore()
  const calls: (keyof GrantStore)[] = []
  const recorded =
    <M extends keyof GrantStore>(method: M) =>
    (...args: unknown[]) => {
      calls.push(method)
      return (grants[method] as (...args: unknown[]) => unknown)(...args)
    }
  const methods = ['lease', 'renew', 'commit', 'release', 'read', 'end'] as const
  const store = Object.fromEntries(methods.map((method) => [method, recorded(method)]))
  return { ...(store as unknown as GrantStore), calls, forget: () => void calls.splice(0) }
}

function needOf(request: Request): Record<string, string | number> {
  const { minValidityMs, ...rest } = request.query as Record<string, string>
  return minValidityMs === undefined ? rest : { ...rest, minValidityMs: Number(minValidityMs) }
}

/** The token set in a session, read as what it is: a text. */
export function tokensIn(session: object | undefined, key = 'tokens'): TokenSet | undefined {
  const copy = (session as Record<string, unknown> | undefined)?.[key]
  return typeof copy === 'string' ? JSON.parse(copy) : undefined
}
