/** The process that measures single calls, on a request and a session that have come over HTTP. */
import { webcrypto } from 'node:crypto'
import type { ServerResponse } from 'node:http'
import express, { type Request } from 'express'
import session, { type SessionData } from 'express-session'
import { measure } from 'mitata'
import { publicClient, type SessionTokensMiddleware, sessionTokens } from 'session-token-manager'
import { client, logIn, median, send } from '../harness/load.js'
import { serve } from '../harness/servers.js'
import { PROOF, SEALING_KEY, SIGNATURE } from './work.js'

/** What one call takes. */
export interface Measured {
  readonly call: string
  readonly ns: number
  readonly bytes: number
}

interface Arrived {
  readonly request: Request
  readonly response: ServerResponse
}

const ES256 = { name: 'ECDSA', namedCurve: 'P-256' } as const

type Work = () => unknown
type Cost = Pick<Measured, 'ns' | 'bytes'>

const next = () => {}

/**
 * A call on a new request is measured together with the request, and the cost of the request is taken off: a batch of
 * requests that are made beforehand would be copied by each garbage collection of the calls.
 */
async function measureAll(rounds: number, ms: number): Promise<Measured[]> {
  const [clear, sealed] = [await siteWith(false), await siteWith([SEALING_KEY])]
  const bound = await siteWith(
    [SEALING_KEY],
    await webcrypto.subtle.generateKey(ES256, true, ['sign', 'verify']),
  )
  const { privateKey } = await webcrypto.subtle.generateKey(ES256, false, ['sign', 'verify'])
  const proven = Buffer.alloc(500)
  const attach = ({ middleware }: Site, { request, response }: Arrived) => {
    middleware(request, response, next)
    return request
  }
  const ready = attach(clear, clear.fresh())
  const readyToProve = attach(bound, bound.fresh())
  const call = { method: 'GET', url: 'https://api.example.com/orders', accessToken: 'a'.repeat(900) }
  const works = {
    nothing: async () => {},
    again: () => ready.tokens.getAccessToken(),
    property: () => setProperty(clear.withSession(ready.session)),
    attached: () => attach(clear, clear.withSession(ready.session)),
    fresh: () => attach(clear, clear.fresh()),
    asked: () => attach(clear, clear.fresh()).tokens.getAccessToken(),
    freshSealed: () => attach(sealed, sealed.fresh()),
    signed: () => webcrypto.subtle.sign({ name: 'ECDSA', hash: 'SHA-256' }, privateKey, proven),
    proof: () => readyToProve.tokens.dpopProof(call),
    askedSealed: () => attach(sealed, sealed.fresh()).tokens.getAccessToken(),
  }
  const costs = await measureInRounds(works, rounds, ms)
  return [
    { call: 'an async function that does nothing', ...cost(costs.nothing) },
    { call: 'a request that never asks', ...cost(costs.attached, costs.property) },
    { call: 'getAccessToken(), first in a request', ...cost(costs.asked, costs.fresh) },
    { call: 'the same, with sealed tokens', ...cost(costs.askedSealed, costs.freshSealed) },
    { call: 'getAccessToken(), again', ...cost(costs.again) },
    { call: SIGNATURE, ...cost(costs.signed) },
    { call: PROOF, ...cost(costs.proof) },
  ]
}

/** Any middleware that offers something on a request does this. */
function setProperty({ request }: Arrived): void {
  ;(request as { tokens: unknown }).tokens = request
}

/** The median of the rounds, less the cost of something else in the same round. */
function cost(costs: readonly Cost[], base?: readonly Cost[]): Cost {
  const less = (key: keyof Cost) =>
    median(costs.map((cost, round) => cost[key] - (base === undefined ? 0 : base[round]![key])))
  return { ns: less('ns'), bytes: less('bytes') }
}

async function measureInRounds<Name extends string>(works: Record<Name, Work>, rounds: number, ms: number) {
  const costs = {} as Record<Name, Cost[]>
  const entries = Object.entries(works) as [Name, Work][]
  for (const [name, work] of entries) {
    costs[name] = []
    for (let warmUp = 0; warmUp < 20_000; warmUp++) await work()
  }
  for (let round = 0; round < rounds; round++)
    for (const [name, work] of entries) costs[name].push(await take(work, ms))
  return costs
}

interface Site {
  readonly middleware: SessionTokensMiddleware
  /** Makes a plain object with the properties that count, and a session that is there. */
  withSession(session: Request['session']): Arrived
  /** Makes such an object, and its session as express-session does. */
  fresh(): Arrived
}

/** A site with a session that holds tokens. */
async function siteWith(encryptionKeys: string[] | false, dpopKey?: webcrypto.CryptoKeyPair): Promise<Site> {
  const app = express()
  const store = new session.MemoryStore()
  const middleware: SessionTokensMiddleware = sessionTokens({
    tokenEndpoint: 'http://127.0.0.1:9/token',
    clientId: 'bench',
    clientAuthentication: publicClient(),
    encryptionKeys,
    dpop: dpopKey !== undefined,
  })
  app.use(session({ secret: 'bench', resave: false, saveUninitialized: false, store }))
  app.get('/login', middleware, async (request, response) => {
    const tokens = {
      access_token: 'a'.repeat(900),
      refresh_token: 'r'.repeat(64),
      expires_in: 36_000,
      token_type: dpopKey ? 'DPoP' : 'Bearer',
    }
    await request.tokens.set(tokens, dpopKey && { dpopKey })
    response.end()
  })
  const arriving = new Promise<Arrived>((resolve) => {
    app.get('/', async (request, response) => {
      response.end()
      resolve({ request, response })
    })
  })
  const server = app.listen(0, '127.0.0.1')
  await new Promise((resolve) => server.once('listening', resolve))
  const browser = client((server.address() as { port: number }).port, 1)
  await logIn(browser)
  await send(browser, '/')
  browser.agent.destroy()
  server.close()
  const { request: arrived, response } = await arriving
  const { session: loaded, sessionID } = arrived
  const stored = JSON.stringify(loaded)
  const withSession = (session?: Request['session']): Arrived => {
    const bare = { method: 'GET', url: '/', sessionStore: store, sessionID, session }
    const request = bare as unknown as Request
    if (session === undefined) store.createSession(request, JSON.parse(stored) as SessionData)
    return { request, response }
  }
  return { middleware, withSession, fresh: () => withSession() }
}

/** Measures the CPU time, and in a second pass the bytes, each batch after a collection. */
async function take(work: Work, ms: number): Promise<Cost> {
  const options = {
    now: cpuTime,
    min_cpu_time: ms * 1e6,
    batch_samples: 512,
    batch_threshold: 1e9,
    warmup_threshold: 1e9,
    gc: globalThis.gc!,
  }
  const heap = () => process.memoryUsage().heapUsed
  const time = await measure(work, { ...options })
  const space = await measure(work, {
    ...options,
    heap,
    inner_gc: true,
    batch_samples: 1024,
    min_cpu_time: 0,
  })
  return { ns: time.p50, bytes: space.heap?.avg ?? Number.NaN }
}

function cpuTime(): number {
  const { user, system } = process.cpuUsage()
  return (user + system) * 1000
}

await serve((_request, response) => response.end(), {
  measure: ({ rounds, ms }: { rounds: number; ms: number }) => measureAll(rounds, ms),
})
