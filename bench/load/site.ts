/** A process that serves an Express app whose handler asks for an access token. */
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { RedisStore } from 'connect-redis'
import express, { type ErrorRequestHandler } from 'express'
import session from 'express-session'
import { Redis } from 'ioredis'
import { createClient } from 'redis'
import { publicClient, type SessionTokensOptions, sessionTokens } from 'session-token-manager'
import { redisGrantStore } from 'session-token-manager/redis'
import { serve } from '../harness/servers.js'

export interface SiteOptions {
  readonly tokenEndpoint: string
  /** A Redis for sessions and grants. Default: both are in the memory of the process. */
  readonly redisUrl?: string
  /** Further options of `sessionTokens()`. */
  readonly tokens: object
}

/** The response to a request for a token. */
export interface SiteResponse {
  /** Names the access token. */
  readonly token?: string
  /** Milliseconds since the epoch. */
  readonly expiresAt?: number
  /** Whether the token was not at hand. */
  readonly waited?: boolean
  /** The code of an error. */
  readonly code?: string
}

/** The memory of a process, in bytes. */
export interface Memory {
  readonly rss: number
  /** The highest `rss` since the last call; it is measured ten times a second. */
  readonly peakRss: number
  /** After a garbage collection. */
  readonly heapUsed: number
}

setFlagsFromString('--expose-gc')
const collectGarbage: () => void = runInNewContext('gc')
const { redisUrl, tokenEndpoint, tokens }: SiteOptions = JSON.parse(process.argv[2]!)
const events: Record<string, number> = {}
let peakRss = 0

const app = express().set('etag', false)
app.use(
  session({ secret: 'bench', resave: false, saveUninitialized: false, store: await sessionStore() }),
  sessionTokens({
    tokenEndpoint,
    clientId: 'bench',
    clientAuthentication: publicClient(),
    onEvent: ({ type }) => {
      events[type] = (events[type] ?? 0) + 1
    },
    ...(redisUrl !== undefined && { grants: redisGrantStore(new Redis(redisUrl)) }),
    ...tokens,
  } as SessionTokensOptions),
)
app.get('/login', async (request, response) => {
  await request.tokens.acquire({ grant_type: 'password', username: 'user', password: 'of the user' })
  response.json({})
})
app.get('/token', async (request, response) => {
  const asked = request.tokens.getAccessToken()
  const { expiresAt, token, waited } = await withWaited(asked)
  response.json({ token: token.slice(0, token.indexOf('.')), expiresAt, waited } satisfies SiteResponse)
})
app.use(((error, _request, response, _next) => {
  response.status(error.status ?? 500).json({ code: error.code ?? String(error) } satisfies SiteResponse)
}) as ErrorRequestHandler)

setInterval(noteRss, 100).unref()
await serve(app, {
  /** How often each event has happened. */
  events: () => events,
  memory: (): Memory => {
    noteRss()
    const peak = peakRss
    collectGarbage()
    const { heapUsed, rss } = process.memoryUsage()
    peakRss = rss
    return { rss, peakRss: peak, heapUsed }
  },
})

async function sessionStore(): Promise<session.Store> {
  if (redisUrl === undefined) return new session.MemoryStore()
  const client = createClient({ url: redisUrl })
  await client.connect()
  return new RedisStore({ client })
}

/** Tells besides a token whether it was not at hand: then the event loop has taken a turn. */
async function withWaited<T extends object>(asked: Promise<T>): Promise<T & { waited: boolean }> {
  let waited = false
  const turn = setImmediate(() => {
    waited = true
  })
  const token = await asked
  clearImmediate(turn)
  return { ...token, waited }
}

function noteRss(): void {
  peakRss = Math.max(peakRss, process.memoryUsage.rss())
}
