import { AsyncLocalStorage } from 'node:async_hooks'
import { openSync, writeSync } from 'node:fs'
import type { AddressInfo } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import { RedisStore } from 'connect-redis'
import express, { type Request } from 'express'
import session from 'express-session'
import { calculateJwkThumbprint, decodeProtectedHeader } from 'jose'
import { createClient } from 'redis'
import {
  type ClientAuthentication,
  clientSecretBasic,
  type GrantState,
  type GrantStore,
  publicClient,
  type SessionTokens,
  sessionTokens,
  type TokenError,
  type TokenEvent,
  type TokenNeed,
} from '../../lib/index.js'
import { openGrants } from '../helpers/grant-servers.js'
import { type ProcessFault, ProcessFaults } from './process-faults.js'
import { now } from './records.js'
import { watchForStalls } from './stalls.js'
import { storedTokensReader } from './stored-tokens.js'

declare module 'express-session' {
  interface SessionData {
    written?: number
  }
}

/** The settings that a process of the site gets when it is started. */
export interface ProcessSettings {
  readonly name: string
  readonly seed: string
  readonly logFile: string
  readonly sessionsUrl: string
  readonly grantsUrl: string
  readonly tokenEndpoint: string
  readonly revocationEndpoint: string
  readonly clientId: string
  /** Absent for a public client. */
  readonly clientSecret?: string
  /** The key that the tokens are sealed with; then they are bound to keys. */
  readonly encryptionKey?: string
  /** Whether there is a token exchange: `billing`. */
  readonly exchange: boolean
}

const settings = JSON.parse(process.env.CHAOS!) as ProcessSettings
const readTokens = storedTokensReader(settings)

// Written synchronously, so that the entries of a process that is killed a moment later are complete.
const log = openSync(settings.logFile, 'a')
function note(entry: object): void {
  writeSync(log, `${JSON.stringify({ at: now(), ...entry })}\n`)
}

function noteEvent(event: TokenEvent): void {
  const { error, ...rest } = event as TokenEvent & {
    error?: { code: string; message: string; cause?: Error }
  }
  const message = error && `${error.message} ${error.cause?.message ?? ''}`
  const refreshToken = rest.type === 'refreshed' ? lastCommitted.get(rest.grantId) : undefined
  note({ ...rest, refreshToken, ...(error && { code: error.code, message }) })
}

/** Writes a message to the parent process, synchronously, before anything else happens. */
function tell(what: number | ProcessFault): void {
  writeSync(1, `${JSON.stringify(what)}\n`)
}

const faults = new ProcessFaults(`${settings.seed}/${settings.name}`, tell)
process.on('message', () => {
  faults.calm = true
})

watchForStalls((from, to) => note({ type: 'stalled', at: from, to }))

const sessions = createClient({ url: settings.sessionsUrl })
sessions.on('error', () => {})
await sessions.connect()

/** The refresh token that this process tried to commit last, of each grant. */
const lastCommitted = new Map<string, string | undefined>()

/** The client that connect-redis uses. */
const sessionClient = {
  async get(key: string) {
    const found = await sessions.get(key)
    if (found !== null) noteStored(key, JSON.parse(found).tokens)
    faults.at('session read')
    return found
  },
  async set(...args: Parameters<typeof sessions.set>) {
    faults.at('session about to be written')
    const key = String(args[0])
    const at = handedOver.get(key) ?? now()
    handedOver.delete(key)
    const answer = await sessions.set(...args)
    const { tokens } = JSON.parse(String(args[1])) as { tokens?: string }
    const grantId = grantIn(tokens) ?? lastGrants.get(String(args[0]))
    if (now() - at > LONG_WRITE_MS && grantId) note({ type: 'long write', at, to: now(), grantId })
    noteStored(String(args[0]), tokens)
    return answer
  },
  expire: (...args: Parameters<typeof sessions.expire>) => sessions.expire(...args),
  del: (...args: Parameters<typeof sessions.del>) => sessions.del(...args),
}

/** When the library handed each session over to the store. From then on the library can change nothing about the write. */
const handedOver = new Map<string, number>()

class NotingStore extends RedisStore {
  override set(...args: Parameters<RedisStore['set']>): ReturnType<RedisStore['set']> {
    handedOver.set(`sess:${args[0]}`, now())
    return super.set(...args)
  }
}

/** A session write that takes this long was delayed by a pause, and may undo later writes of other processes. */
const LONG_WRITE_MS = 100

/** The grant that each stored session had last. A session may also be written to remove its tokens. */
const lastGrants = new Map<string, string>()

function noteStored(key: string, tokens: string | undefined): void {
  const grantId = grantIn(tokens)
  if (grantId) lastGrants.set(key, grantId)
  noteTokens('stored', tokens)
}

function grantIn(tokens: string | undefined): string | undefined {
  return readTokens(tokens)?.grantId
}

const noted = new Map<string, string>()

/** Notes the tokens that this process has found in the session store or the grant store, once for each change. */
function noteTokens(type: 'stored' | 'heard', tokens: string | undefined): void {
  const { grantId, refreshToken } = readTokens(tokens) ?? {}
  if (refreshToken === undefined || noted.get(`${type} ${grantId}`) === refreshToken) return
  noted.set(`${type} ${grantId}`, refreshToken)
  note({ type, grantId, refreshToken })
}

function noteState(grantId: string, { ended, record }: GrantState): void {
  if (ended) note({ type: 'end heard', grantId })
  noteTokens('heard', record?.tokens)
}

const { store: grantStore } = await openGrants(settings.grantsUrl)
const watchedGrantStore: GrantStore = {
  onLoss: (listener) => grantStore.onLoss!(listener),
  publish: (text) => grantStore.publish!(text),
  subscribe: (...listeners) => grantStore.subscribe!(...listeners),
  grantsWith: (label) => grantStore.grantsWith!(label),
  recentEnds: (withinMs) => grantStore.recentEnds!(withinMs),
  async lease(...args) {
    const state = await grantStore.lease(...args)
    noteState(args[0], state)
    if (state.granted) faults.at('lease taken')
    return state
  },
  async commit(grantId, owner, record, retention) {
    noteTokens('heard', record.tokens)
    const refreshToken = readTokens(record.tokens)?.refreshToken
    lastCommitted.set(grantId, refreshToken)
    faults.at('about to commit')
    const state = await grantStore.commit(grantId, owner, record, retention)
    noteState(grantId, state)
    note({ type: 'committed', grantId, revision: state.record?.revision, refreshToken })
    faults.at('committed')
    return state
  },
  renew: (...args) => grantStore.renew(...args),
  release: (...args) => grantStore.release(...args),
  async read(...args) {
    const state = await grantStore.read(...args)
    noteState(args[0], state)
    return state
  },
  end(grantId, ...why) {
    note({ type: 'end heard', grantId })
    return grantStore.end(grantId, ...why)
  },
}

/** Longer than any run. */
const REFERENCE_TTL_MS = 3 * 3_600_000

/** Whether a job has begun a refresh. */
const jobs = new AsyncLocalStorage<boolean>()

const { clientSecret, encryptionKey } = settings
const authenticate = clientSecret === undefined ? publicClient() : clientSecretBasic(clientSecret)

/** Adds the time at which a request was sent: a stopped process sends it only when it is resumed. */
const clientAuthentication: ClientAuthentication = async (request) => {
  const { headers, ...others } = await authenticate(request)
  const isJob = jobs.getStore() === true
  return { ...others, headers: { ...headers, 'x-chaos-sent': String(now()), 'x-chaos-job': String(isJob) } }
}

const app = express()
app.set('env', 'test')
app.use(
  session({
    secret: 'chaos',
    resave: false,
    saveUninitialized: false,
    store: new NotingStore({ client: sessionClient }),
  }),
)
const tokens = sessionTokens({
  tokenEndpoint: settings.tokenEndpoint,
  revocationEndpoint: settings.revocationEndpoint,
  clientId: settings.clientId,
  clientAuthentication,
  encryptionKeys: encryptionKey === undefined ? false : [encryptionKey],
  dpop: encryptionKey !== undefined,
  ...(settings.exchange && { exchanges: { billing: { audience: 'billing' } } }),
  grants: watchedGrantStore,
  timeoutMs: 9_000,
  refreshTimeoutMs: 10_000,
  http: { headers: { 'x-chaos-process': settings.name } },
  onEvent: noteEvent,
})
app.use(tokens)
app.use(express.json())

/** A token for a call, and the thumbprint of the key that proves its possession: `none` if there is no key. */
async function tokenFrom(
  source: Pick<SessionTokens, 'dpopProof' | 'getAccessToken'>,
  { exchange, rejected }: TokenNeed,
) {
  const { token } = await source.getAccessToken({
    ...(exchange !== undefined && { exchange }),
    ...(rejected !== undefined && { rejected }),
  })
  const served = { token, servedAt: now() }
  if (encryptionKey === undefined) return served
  const request = { method: 'GET', url: 'https://api.example', accessToken: token }
  const proof = await source.dpopProof(request).catch((error: TokenError) => {
    if (error.code !== 'ERR_INVALID_TOKEN_RESPONSE') throw error
  })
  return { ...served, jkt: proof ? await calculateJwkThumbprint(decodeProtectedHeader(proof).jwk!) : 'none' }
}

app.get('/token', async (request, response) => {
  const { written } = request.session
  const { exchange, rejected, handlerMs } = request.query as Record<string, string>
  if (handlerMs !== undefined) await delay(Number(handlerMs))
  const answer = await tokenFrom(request.tokens, { exchange, rejected } as TokenNeed).catch((error) => error)
  if (answer instanceof Error)
    response.status(statusOf(answer)).json({ ...failure(answer), written: written ?? 0 })
  else response.json({ ...answer, written: written ?? 0 })
})

app.post('/reference', async (request, response) => {
  response.json({ reference: await request.tokens.offlineReference({ ttlMs: REFERENCE_TTL_MS }) })
})

// A job has no session.
app.post('/job', async (request, response) => {
  const { reference, ...need } = request.body as TokenNeed & { reference: string }
  response.json(await jobs.run(true, () => tokenFrom(tokens.offline(reference), need)))
})

app.post('/end', async (request, response) => {
  response.json({ ended: await tokens.end({ sub: String(request.query.sub) }) })
})

app.post('/write', async (request, response) => {
  const { written } = request.session
  const { value, handlerMs, asksForToken } = request.query as Record<string, string>
  const answer = asksForToken === undefined ? {} : await tokenFrom(request.tokens, {}).catch(() => ({}))
  await delay(Number(handlerMs))
  request.session.written = Number(value)
  await saved(request)
  response.json({ ...answer, written: written ?? 0 })
})

app.post('/login', async (request, response) => {
  const { dpopKey, ...tokens } = request.body
  await request.tokens.set(tokens, dpopKey && { dpopKey })
  response.json({ grantId: grantIn((request.session as { tokens?: string }).tokens) })
})

app.post('/logout', async (request, response) => {
  const { kind } = request.query
  if (kind === 'destroy') await destroyed(request)
  else if (kind === 'clear') await request.tokens.clear()
  else await request.tokens.revoke()
  response.json({})
})

app.use(((error, _request, response, _next) => {
  response.status(statusOf(error)).json(failure(error))
}) as express.ErrorRequestHandler)

const server = app.listen(0, '127.0.0.1', () => {
  tell((server.address() as AddressInfo).port)
})

function saved(request: Request): Promise<void> {
  return new Promise((resolve, reject) =>
    request.session.save((error) => (error ? reject(error) : resolve())),
  )
}

function destroyed(request: Request): Promise<void> {
  return new Promise((resolve, reject) =>
    request.session.destroy((error) => (error ? reject(error) : resolve())),
  )
}

function statusOf(error: Error): number {
  return (error as Error & { status?: number }).status ?? 500
}

function failure(error: Error): object {
  const { code, message } = error as Error & { code?: string }
  return { code, message }
}
