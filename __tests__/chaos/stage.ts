import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type AuthorizationServer, startAuthorizationServer } from '../helpers/authorization-server.js'
import { Chronicle } from './chronicle.js'
import { ACCESS_TOKEN_TTL, type Plan, type PlanOptions, plan } from './plan.js'
import type { Incarnation } from './records.js'
import { startRedisProcess } from './redis-process.js'
import { Saboteur } from './saboteur.js'
import { SiteProcesses } from './site-processes.js'
import { StoredSessions } from './stored-sessions.js'
import { TokenDesk } from './token-desk.js'

export interface StageOptions extends PlanOptions {
  /** Sessions and grants are in one Redis, which keeps its data over a restart. */
  readonly oneRedis: boolean
}

/** Everybody who takes part. */
export interface Stage {
  readonly plan: Plan
  readonly chronicle: Chronicle
  readonly server: AuthorizationServer
  readonly desk: TokenDesk
  readonly processes: SiteProcesses
  readonly stored: StoredSessions
  readonly saboteur: Saboteur
  close(): Promise<void>
}

export async function openStage(options: StageOptions): Promise<Stage> {
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
  options: StageOptions,
  atEnd: (end: () => unknown) => void,
): Promise<Omit<Stage, 'close'>> {
  const { processes: count, oneRedis, pace = 1 } = options
  const chronicle = new Chronicle()
  const planned = plan(options)
  const directory = await mkdtemp(join(tmpdir(), 'chaos-'))
  atEnd(() => rm(directory, { recursive: true, force: true }))

  const grantsRedis = await startRedisProcess(oneRedis)
  atEnd(grantsRedis.close)
  const sessionsRedis = oneRedis ? grantsRedis : await startRedisProcess()
  if (!oneRedis) atEnd(sessionsRedis.close)
  const stored = new StoredSessions(sessionsRedis.url)
  await stored.open()
  atEnd(() => stored.close())

  const server = await startAuthorizationServer({ accessTokenTtl: ACCESS_TOKEN_TTL })
  atEnd(server.close)
  const incarnations = new Map<string, Incarnation>()
  let saboteur: Saboteur | undefined
  const desk = new TokenDesk({
    server,
    plan: planned,
    chronicle,
    incarnations,
    atMoment: (...moment) => saboteur?.atMoment(...moment),
  })
  await desk.open()
  atEnd(() => desk.close())

  const settings = {
    seed: options.seed,
    ...siteSettings(server, desk),
    sessionsUrl: sessionsRedis.url,
    grantsUrl: grantsRedis.url,
  }
  const processes = new SiteProcesses(count, { directory, settings, incarnations, chronicle })
  atEnd(() => processes.close())
  await processes.start()
  saboteur = new Saboteur({ plan: planned, chronicle, processes, desk, grantsRedis, oneRedis, pace })
  return { plan: planned, chronicle, server, desk, processes, stored, saboteur }
}

function siteSettings(server: AuthorizationServer, { tokenEndpoint, revocationEndpoint }: TokenDesk) {
  const { clientId, clientSecret } = server.clients.client_secret_basic
  return { tokenEndpoint, revocationEndpoint, clientId, clientSecret }
}
