/**
 * A process of which a test reads the whole memory (see `ended-tokens-leave-memory.test.ts`): one app for each session
 * layer. It gets its tokens from the authorization server alone, and sends none to its parent.
 */
import { once } from 'node:events'
import { Agent, createServer } from 'node:http'
import { setImmediate as turn } from 'node:timers/promises'
import { getHeapSnapshot } from 'node:v8'
import cookieSession from 'cookie-session'
import express, { type ErrorRequestHandler, type Express, type RequestHandler } from 'express'
import session from 'express-session'
import Koa, { type Context } from 'koa'
import koaSession from 'koa-session'
import type { GrantStore } from '../../lib/grants/grant-store.js'
import {
  clientSecretBasic,
  memoryGrantStore,
  type SessionTokensOptions,
  sessionAxios,
  sessionTokens,
} from '../../lib/index.js'
import { sessionTokens as koaTokens } from '../../lib/koa.js'
import type { AnySessionTokensOptions } from '../../lib/middleware/options.js'
import type { SessionTokens } from '../../lib/middleware/session-tokens.js'
import { bearerProxy } from '../../lib/proxy.js'

/** What the process is told at its start. */
export interface MemoryProcessOptions {
  /** Of the authorization server, which is the API as well. */
  readonly serverUrl: string
}

const { serverUrl } = JSON.parse(process.env.MEMORY_PROCESS!) as MemoryProcessOptions

/** Whom a grant is of, as its events tell. */
const grants = new Map<string, string>()
let user = ''

const common: SessionTokensOptions = {
  tokenEndpoint: `${serverUrl}/token`,
  revocationEndpoint: `${serverUrl}/revoke`,
  clientId: 'web',
  clientAuthentication: clientSecretBasic('secret of the client'),
  onEvent: ({ grantId }) => void (grantId && grants.set(user, grantId)),
}
const encryptionKeys = ['m8Xx0aDGPMkFBU5k2FjAZkHyqdmyd8VxDNn3LhR6mYE=']

/** A grant store that other processes share, as the library sees it. */
function sharedGrantStore(): GrantStore {
  const store = memoryGrantStore()
  return {
    lease: (...args) => store.lease(...args),
    renew: (...args) => store.renew(...args),
    commit: (...args) => store.commit(...args),
    release: (...args) => store.release(...args),
    read: (...args) => store.read(...args),
    end: (...args) => store.end(...args),
  }
}

const shared = sharedGrantStore()
/** Agents of Node.js keep the options of the request that opened a connection, for as long as that lives. */
const httpAgent = new Agent({ keepAlive: true })
const proxy = bearerProxy({ target: serverUrl })
const ambient = sessionAxios({ baseURL: serverUrl, httpAgent })
const AMBIENT = ['ambient', 'koa']

/** What a visitor does at a path. */
const deeds: Record<string, (tokens: SessionTokens, query: Record<string, unknown>) => Promise<unknown>> = {
  login: (tokens, { user }) =>
    tokens.acquire({ grant_type: 'password', username: `${user}`, password: 'of the user' }),
  /** Has the token refreshed that an API refuses. */
  refresh: async (tokens) => {
    const { token } = await tokens.getAccessToken()
    await tokens.getAccessToken({ rejected: token })
  },
  /** Calls an API, and begins something that outlives the request, in whose context it runs. */
  use: async (tokens, { site }) => {
    setTimeout(() => {}, 3_600_000).unref()
    await tokens.fetch({ baseURL: serverUrl })('/api')
    await tokens.axios({ baseURL: serverUrl, httpAgent }).get('/api')
    if (AMBIENT.includes(`${site}`)) await ambient.get('/api')
  },
  logout: (tokens) => tokens.revoke(),
  clear: (tokens) => tokens.clear(),
  /** Another process ends the grant: this one hears of it when it next asks the grant store. */
  elsewhere: async (_tokens, { user }) => {
    await shared.end(grants.get(`${user}`)!, 'logged_out', { ttlMs: 3_600_000 })
  },
}

function site(layer: RequestHandler, options: Partial<AnySessionTokensOptions> = {}): Express {
  const app = express()
  app.set('env', 'test')
  app.use(layer, sessionTokens({ ...common, ...options } as SessionTokensOptions))
  for (const [name, deed] of Object.entries(deeds)) {
    app.post(`/${name}`, async (request, response) => {
      user = `${request.query.user}`
      await deed(request.tokens, request.query)
      response.json({})
    })
  }
  app.post('/proxied', proxy)
  app.use(((error, _request, response, _next) => {
    response.status(error.status ?? 500).json({ code: error.code, message: error.message })
  }) as ErrorRequestHandler)
  return app
}

function koaSite(options: Partial<AnySessionTokensOptions>): Koa {
  const app = new Koa()
  app.keys = ['keys of the app']
  app.use(koaSession({ signed: true }, app))
  app.use(koaTokens({ ...common, ...options } as SessionTokensOptions))
  app.use((context: Context, next) => (context.path === '/proxied' ? proxy(context, next) : next()))
  app.use(async (context: Context) => {
    user = `${context.query.user}`
    try {
      await deeds[context.path.slice(1)]!(context.tokens, context.query)
      context.body = {}
    } catch (error) {
      const { status, code, message } = error as { status?: number; code?: string; message?: string }
      context.status = status ?? 500
      context.body = { code, message }
    }
  })
  return app
}

const expressSession = (): RequestHandler =>
  session({ secret: 'secret of the sessions', resave: false, saveUninitialized: false })
const cookies = (): RequestHandler =>
  cookieSession({ name: 'cookie', keys: ['keys of the app'] }) as RequestHandler

const sites: Record<string, (request: never, response: never) => void> = {
  plain: site(expressSession(), { encryptionKeys: false }),
  sealed: site(expressSession(), { encryptionKeys }),
  shared: site(expressSession(), { encryptionKeys, grants: shared }),
  store: site(expressSession(), { encryptionKeys, grants: shared, keep: 'store' }),
  ambient: site(expressSession(), { encryptionKeys: false, ambient: true }),
  cookie: site(cookies(), { encryptionKeys }),
  koa: koaSite({ encryptionKeys, ambient: true }).callback() as never,
}

const server = createServer((request, response) => {
  const [, name = '', ...path] = (request.url ?? '').split('/')
  if (name === 'heap') return void sendHeap(response)
  request.url = `/${path.join('/')}`
  sites[name]!(request as never, response as never)
})

/** Sends all that is left after a garbage collection, as a heap snapshot. */
async function sendHeap(response: NodeJS.WritableStream): Promise<void> {
  for (let round = 0; round < 5; round++) {
    await turn()
    globalThis.gc!()
  }
  getHeapSnapshot().pipe(response)
}

server.listen(0, '127.0.0.1')
await once(server, 'listening')
process.on('disconnect', () => process.exit())
process.send!((server.address() as { port: number }).port)
