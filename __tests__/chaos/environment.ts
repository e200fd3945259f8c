import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type AuthorizationServer, startAuthorizationServer } from '../helpers/authorization-server.js'
import { FaultInjector } from './fault-injector.js'
import { ACCESS_TOKEN_TTL, type Plan, type PlanOptions, plan } from './plan.js'
import { startPostgresProcess } from './postgres-process.js'
import type { Incarnation } from './records.js'
import { startRedisProcess } from './redis-process.js'
import { RunLog } from './run-log.js'
import { SiteProcesses } from './site-processes.js'
import { StoredSessions } from './stored-sessions.js'
import { TokenEndpoint } from './token-endpoint.js'

export interface EnvironmentOptions extends PlanOptions {
  /** Sessions and grants are in one Redis, which keeps its data over a restart. */
  readonly oneRedis: boolean
  /** Where the grants are. PostgreSQL keeps its data over a restart. Default: `'redis'`. */
  readonly grants?: 'redis' | 'postgres'
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
  const { processes: count, oneRedis, grants = 'redis', pace = 1 } = options
  const log = new RunLog()
  const planned = plan(options)
  const directory = await mkdtemp(join(tmpdir(), 'chaos-'))
  atEnd(() => rm(directory, { recursive: true, force: true }))

  const grantsRedis = await (grants === 'postgres' ? startPostgresProcess() : startRedisProcess(oneRedis))
  atEnd(grantsRedis.close)
  const sessionsRedis = oneRedis ? grantsRedis : await startRedisProcess()
  if (!oneRedis) atEnd(sessionsRedis.close)
  const stored = new StoredSessions(sessionsRedis.url)
  await stored.open()
  atEnd(() => stored.close())

  const server = await startAuthorizationServer({ accessTokenTtl: ACCESS_TOKEN_TTL })
  atEnd(server.close)
  const incarnations = new Map<string, Incarnation>()
  let faultInjector: FaultInjector | undefined
  const endpoint = new TokenEndpoint({
    server,
    plan: planned,
    log,
    incarnations,
    atMoment: (...moment) => faultInjector?.atMoment(...moment),
  })
  await endpoint.open()
  atEnd(() => endpoint.close())

  const settings = {
    seed: options.seed,
    ...siteSettings(server, endpoint),
    sessionsUrl: sessionsRedis.url,
    grantsUrl: grantsRedis.url,
  }
  const processes = new SiteProcesses(count, { directory, settings, incarnations, log })
  atEnd(() => processes.close())
  await processes.start()
  faultInjector = new FaultInjector({ plan: planned, log, processes, endpoint, grantsRedis, oneRedis, pace })
  return { plan: planned, log, server, endpoint, processes, stored, faultInjector }
}

function siteSettings(server: AuthorizationServer, { tokenEndpoint, revocationEndpoint }: TokenEndpoint) {
  const { clientId, clientSecret } = server.clients.client_secret_basic
  return { tokenEndpoint, revocationEndpoint, clientId, clientSecret }
}
