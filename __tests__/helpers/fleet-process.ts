/**
 * One process of a fleet (see `fleet.ts`): an Express app with its sessions in Redis and its grants in the same Redis or
 * another. It tells its parent what happens in it, and waits where the parent wants it to.
 */
import { once } from 'node:events'
import { createServer } from 'node:http'
import { RedisStore } from 'connect-redis'
import express, { type ErrorRequestHandler, type Request, type RequestHandler } from 'express'
import session from 'express-session'
import { createClient } from 'redis'
import type { GrantStore } from '../../lib/grants/grant-store.js'
import { clientSecretBasic, sessionTokens } from '../../lib/index.js'
import { createGate, type Gate } from './gate.js'
import { openGrants } from './grant-servers.js'

/** What a process is told at its start. */
export interface FleetProcessOptions {
  readonly sessionsUrl: string
  readonly grantsUrl: string
  readonly tokenEndpoint: string
  readonly revocationEndpoint: string
  readonly clientId: string
  readonly clientSecret: string
  readonly tokens: object
  readonly session: object
}

/** Where a process can be made to wait. */
export type HoldPoint =
  /** A request that will write to its session has loaded it. */
  | 'write'
  /** The lease of a grant was granted; the authorization server has not been asked. */
  | 'leased'
  /** The authorization server has answered; the grant store does not know yet. */
  | 'commit'
  /** The grant store knows; the session store does not yet. */
  | 'committed'
  /** A session is about to be written to the session store, by a request or a refresh. */
  | 'session set'

/** What a parent tells a process. Everything is answered with its number. */
export type Order = { readonly id: number } & (
  | { readonly hold: HoldPoint }
  | { readonly release: HoldPoint }
  | { readonly say: 'hello' }
)

/** When a step of the grant store began and ended, in milliseconds on a clock that all processes of the machine share. */
export interface GrantStoreStep {
  readonly method: 'lease' | 'commit'
  readonly from: number
  readonly to: number
  readonly granted?: boolean
}

/** What a process tells of the library's events. */
export interface FleetEvent {
  readonly type: string
  readonly grantId: string
  readonly revision?: number
  readonly error?: { readonly code: string; readonly message: string; readonly retryable: boolean }
}

/** What a process tells its parent. */
export type News =
  | { readonly ready: string }
  | { readonly done: number }
  | { readonly reached: HoldPoint }
  | { readonly asked: 'token' }
  | { readonly left: 'token' }
  | { readonly event: FleetEvent }
  | { readonly step: GrantStoreStep }

const options = JSON.parse(process.env.FLEET_PROCESS!) as FleetProcessOptions
const tell = (news: News) => void process.send?.(news)

const gates = new Map<HoldPoint, Gate>()

async function pass(point: HoldPoint): Promise<void> {
  const gate = gates.get(point)
  if (!gate) return
  tell({ reached: point })
  await gate.pass()
}

process.on('message', (order: Order) => {
  if ('hold' in order) gates.set(order.hold, createGate())
  if ('release' in order) {
    gates.get(order.release)?.release()
    gates.delete(order.release)
  }
  tell({ done: order.id })
})

const now = () => Number(process.hrtime.bigint()) / 1e6

/** The grant store, with places to wait at. */
function observed(grants: GrantStore): GrantStore {
  const methods = [
    ...(['renew', 'release', 'read', 'end'] as const),
    ...(['publish', 'subscribe', 'grantsWith', 'recentEnds'] as const),
  ]
  const others = Object.fromEntries(methods.map((name) => [name, grants[name]!.bind(grants)]))
  return {
    ...(others as Pick<GrantStore, (typeof methods)[number]>),
    ...(grants.onLoss && { onLoss: grants.onLoss.bind(grants) }),
    async lease(grantId, request) {
      const from = now()
      const answer = await grants.lease(grantId, request)
      tell({ step: { method: 'lease', from, to: now(), granted: answer.granted } })
      if (answer.granted) await pass('leased')
      return answer
    },
    async commit(grantId, owner, record, retention) {
      await pass('commit')
      const from = now()
      const state = await grants.commit(grantId, owner, record, retention)
      tell({ step: { method: 'commit', from, to: now() } })
      await pass('committed')
      return state
    },
  }
}

/** A session store with a place to wait at. */
class ObservedStore extends RedisStore {
  override async set(...args: Parameters<RedisStore['set']>): Promise<unknown> {
    await pass('session set')
    return super.set(...args)
  }
}

const sessionsClient = createClient({ url: options.sessionsUrl })
// It connects again by itself; what fails meanwhile is told by who needed it.
sessionsClient.on('error', () => {})
await sessionsClient.connect()

const grants = await openGrants(options.grantsUrl)
const tokens = sessionTokens({
  tokenEndpoint: options.tokenEndpoint,
  revocationEndpoint: options.revocationEndpoint,
  clientId: options.clientId,
  clientAuthentication: clientSecretBasic(options.clientSecret),
  encryptionKeys: false,
  grants: observed(grants.store),
  onEvent(event) {
    const { type, grantId = '' } = event
    if (type === 'logged_in') return
    const error = 'error' in event ? event.error : undefined
    tell({
      event: {
        type,
        grantId,
        ...('revision' in event && { revision: event.revision }),
        ...(error && { error: { code: error.code, message: error.message, retryable: error.retryable } }),
      },
    })
  },
  ...options.tokens,
})

const app = express()
app.set('env', 'test')
app.use(
  session({
    secret: 'test',
    resave: false,
    saveUninitialized: false,
    ...options.session,
    store: new ObservedStore({ client: sessionsClient }),
  }),
)
app.use(tokens)
app.use(express.json())

const needOf = ({ query }: Request): object => query
const answered =
  (handler: (request: Request) => unknown): RequestHandler =>
  async (request, response) => {
    response.json((await handler(request)) ?? null)
  }

app.get(
  '/token',
  (_request, response, next) => {
    tell({ asked: 'token' })
    response.once('close', () => {
      if (!response.writableFinished) tell({ left: 'token' })
    })
    next()
  },
  answered((request) => request.tokens.getAccessToken(needOf(request))),
)
app.post(
  '/login',
  answered((request) => request.tokens.set(request.body)),
)
app.post(
  '/logout',
  answered((request) => request.tokens.revoke()),
)
app.get(
  '/reference',
  answered((request) => request.tokens.offlineReference()),
)
app.post(
  '/job',
  answered(({ body }) => tokens.offline(body.reference).getAccessToken()),
)
app.get(
  '/session',
  answered(({ session }) => session),
)
app.all(
  '/write',
  answered(async ({ query, session }) => {
    await pass('write')
    Object.assign(session, { [String(query.key)]: query.value })
  }),
)
app.use(((error, _request, response, _next) => {
  const { code, retryable, retryAfterMs, message } = error
  response.status(error.status ?? 500).json({ code, retryable, retryAfterMs, message })
}) as ErrorRequestHandler)

const server = createServer(app)
// Clients take this as a hint not to keep connections, which would hold up the end of the process.
server.keepAliveTimeout = 1_000
server.listen(0, '127.0.0.1')
await once(server, 'listening')

// Nothing ends the process but that there is nothing left to do.
process.on('SIGTERM', () => {
  server.close(async () => {
    await tokens.close()
    await grants.close()
    await sessionsClient.close()
    process.disconnect?.()
  })
})

const { port } = server.address() as { port: number }
tell({ ready: `http://127.0.0.1:${port}` })
