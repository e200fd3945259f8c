import { randomBytes } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type AuthorizationServer, startAuthorizationServer } from '../helpers/authorization-server.js'
import { startExchangingServer } from '../helpers/token-exchange.js'
import { FaultInjector } from './fault-injector.js'
import { ACCESS_TOKEN_TTL, type Plan, type PlanOptions, plan } from './plan.js'
import { startPostgresProcess } from './postgres-process.js'
import type { Incarnation } from './records.js'
import { startRedisProcess } from './redis-process.js'
import { RunLog } from './run-log.js'
import { SiteProcesses } from './site-processes.js'
import { StoredSessions } from './stored-sessions.js'
import { storedTokensReader } from './stored-tokens.js'
import { TokenEndpoint } from './token-endpoint.js'

export interface EnvironmentOptions extends PlanOptions {
  /** Sessions and grants are in one Redis, which keeps its data over a restart. */
  readonly oneRedis: boolean
  /** Where the grants are. PostgreSQL keeps its data over a restart. Default: `'redis'`. */
  readonly grants?: 'redis' | 'postgres'
  /** The tokens of each login are bound to a key of its own (RFC 9449), and are sealed. Default: `false`. */
  readonly dpop?: boolean
}

/** All parts of a run. */
export interface Environment {
  readonly plan: Plan
  readonly log: RunLog
  readonly server: AuthorizationServer
  readonly endpoint: TokenEndpoint
  readonly processes: SiteProcesses
  readonly stored: StoredSessions
  readonly faultInjector: FaultInjector
  close(): Promise<void>
}

export async function openEnvironment(options: EnvironmentOptions): Promise<Environment> {
  const closing: (() => unknown)[] = []
  const close = async () => {
    for (const end of closing.splice(0).toReversed()) await end()
  }
  try {
    return { ...(await open(options, (end) => closing.push(end))), close }
  } catch (error) {
    await close()
    throw error
  }
}

async function open(
  options: EnvironmentOptions,
  atEnd: (end: () => unknown) => void,
): Promise<Omit<Environment, 'close'>> {
  const { processes: count, oneRedis, grants = 'redis', pace = 1, dpop = false, exchange = false } = options
  const log = new RunLog()
  const planned = plan(options)
  const directory = await mkdtemp(join(tmpdir(), 'chaos-'))
  atEnd(() => rm(directory, { recursive: true, force: true }))

  const grantsRedis = await (grants === 'postgres' ? startPostgresProcess() : startRedisProcess(oneRedis))
  atEnd(grantsRedis.close)
  const sessionsRedis = oneRedis ? grantsRedis : await startRedisProcess()
  if (!oneRedis) atEnd(sessionsRedis.close)

  const start = exchange ? startExchangingServer : startAuthorizationServer
  const server = await start({
    accessTokenTtl: ACCESS_TOKEN_TTL,
    ...(dpop && { dpopNonces: 'required' }),
    // An access token is refused as soon as it has expired: then it has to be refreshed before it can be exchanged.
    configure: (standard) => ({ ...standard, clockTolerance: 0 }),
  })
  atEnd(server.close)
  const incarnations = new Map<string, Incarnation>()
  let faultInjector: FaultInjector | undefined
  const endpoint = new TokenEndpoint({
    server,
    plan: planned,
    log,
    dpop,
    incarnations,
    atMoment: (...moment) => faultInjector?.atMoment(...moment),
  })
  await endpoint.open()
  atEnd(() => endpoint.close())

  const settings = {
    seed: options.seed,
    ...siteSettings(server, endpoint, dpop),
    exchange,
    sessionsUrl: sessionsRedis.url,
    grantsUrl: grantsRedis.url,
  }
  const stored = new StoredSessions(sessionsRedis.url, storedTokensReader(settings))
  await stored.open()
  atEnd(() => stored.close())
  const processes = new SiteProcesses(count, { directory, settings, incarnations, log })
  atEnd(() => processes.close())
  await processes.start()
  faultInjector = new FaultInjector({ plan: planned, log, processes, endpoint, grantsRedis, oneRedis, pace })
  return { plan: planned, log, server, endpoint, processes, stored, faultInjector }
}

/** The refresh tokens of a public client are bound to the key as well (RFC 9449 §5). */
function siteSettings(
  { clients }: AuthorizationServer,
  { tokenEndpoint, revocationEndpoint }: TokenEndpoint,
  dpop: boolean,
) {
  const endpoints = { tokenEndpoint, revocationEndpoint }
  if (!dpop) return { ...endpoints, ...clients.client_secret_basic }
  return { ...endpoints, ...clients.none, encryptionKey: randomBytes(32).toString('base64url') }
}
