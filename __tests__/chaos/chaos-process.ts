import { openSync, writeSync } from 'node:fs'
import type { AddressInfo } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import { RedisStore } from 'connect-redis'
import express, { type Request } from 'express'
import session from 'express-session'
import { Redis } from 'ioredis'
import { createClient } from 'redis'
import { clientSecretBasic, sessionTokens, type TokenEvent } from '../../lib/index.js'
import { redisGrantStore } from '../../lib/redis.js'
import { now } from './records.js'

declare module 'express-session' {
  interface SessionData {
    written?: number
  }
}

/** What a process of the site is told by who starts it. */
export interface ProcessSettings {
  readonly name: string
  readonly logFile: string
  readonly sessionsUrl: string
  readonly grantsUrl: string
  readonly tokenEndpoint: string
  readonly revocationEndpoint: string
  readonly clientId: string
  readonly clientSecret: string
}

const settings = JSON.parse(process.env.CHAOS!) as ProcessSettings

// Written at once: what has happened must be known also of a process that is killed in the next moment.
const log = openSync(settings.logFile, 'a')
function note(entry: object): void {
  writeSync(log, `${JSON.stringify({ at: now(), ...entry })}\n`)
}

function noteEvent(event: TokenEvent): void {
  const { error, ...rest } = event as TokenEvent & {
    error?: { code: string; message: string; cause?: Error }
  }
  const message = error && `${error.message} ${error.cause?.message ?? ''}`
  note({ ...rest, ...(error && { code: error.code, message }) })
}

const sessions = createClient({ url: settings.sessionsUrl })
const grants = new Redis(settings.grantsUrl)
sessions.on('error', () => {})
grants.on('error', () => {})
await sessions.connect()

const app = express()
app.set('env', 'test')
app.use(
  session({
    secret: 'chaos',
    resave: false,
    saveUninitialized: false,
    store: new RedisStore({ client: sessions }),
  }),
)
app.use(
  sessionTokens({
    tokenEndpoint: settings.tokenEndpoint,
    revocationEndpoint: settings.revocationEndpoint,
    clientId: settings.clientId,
    clientAuthentication: clientSecretBasic(settings.clientSecret),
    grants: redisGrantStore(grants),
    timeoutMs: 9_000,
    refreshTimeoutMs: 10_000,
    http: { headers: { 'x-chaos-process': settings.name } },
    onEvent: noteEvent,
  }),
)
app.use(express.json())

app.get('/token', async (request, response) => {
  const { written } = request.session
  const { rejected, handlerMs } = request.query as Record<string, string>
  if (handlerMs !== undefined) await delay(Number(handlerMs))
  const answer = await request.tokens
    .getAccessToken(rejected === undefined ? {} : { rejected })
    .catch((error) => error)
  if (answer instanceof Error)
    response.status(statusOf(answer)).json({ ...failure(answer), written: written ?? 0 })
  else response.json({ token: answer.token, written: written ?? 0 })
})

app.post('/write', async (request, response) => {
  const { written } = request.session
  const { value, handlerMs, asksForToken } = request.query as Record<string, string>
  const token = asksForToken === undefined ? undefined : await request.tokens.getAccessToken().catch(() => {})
  await delay(Number(handlerMs))
  request.session.written = Number(value)
  await saved(request)
  response.json({ token: token?.token, written: written ?? 0 })
})

app.post('/login', async (request, response) => {
  await request.tokens.set(request.body)
  response.json({ grantId: grantIn(request.session) })
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
  process.stdout.write(`${(server.address() as AddressInfo).port}\n`)
})

function grantIn(session: object): string {
  return JSON.parse((session as { tokens: string }).tokens).grantId
}

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
