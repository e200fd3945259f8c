import { type Environment, type EnvironmentOptions, openEnvironment } from './environment.js'
import { type Evaluation, evaluate } from './evaluation.js'
import { checkFinally } from './final-check.js'
import type { Exchange } from './records.js'
import type { RunLog } from './run-log.js'
import { SimulatedUser } from './simulated-user.js'
import type { SiteProcesses } from './site-processes.js'
import { watchForStalls } from './stalls.js'
import type { TokenEndpoint } from './token-endpoint.js'

export interface ChaosOptions extends EnvironmentOptions {
  readonly sessions: number
  /** How many sessions are active at a time. */
  readonly parallel: number
  /** No session begins after this time. */
  readonly maxMs?: number
  readonly onProgress?: (progress: Progress) => void
}

export interface Progress {
  readonly phase: 'chaos' | 'final check'
  readonly begun: number
  readonly ended: number
  readonly checked: number
  readonly refreshes: number
  readonly log: RunLog
}

export interface ChaosResult extends Evaluation {
  readonly sessions: number
  readonly logins: number
  readonly logouts: number
  readonly refreshes: number
  readonly presentations: number
  /** Access tokens that the authorization server exchanged, and those that it refused. */
  readonly exchanges: { readonly succeeded: number; readonly refused: number }
  readonly tookMs: number
  readonly log: RunLog
}

const CHECKS_AT_A_TIME = 12
/** Entries of the processes that are not events of the library. */
const OTHER_ENTRIES = ['committed', 'long write', 'stored', 'heard', 'end heard']

/** Runs a site of several processes with many users and faults, and evaluates the result. */
export async function runChaos(options: ChaosOptions): Promise<ChaosResult> {
  const began = Date.now()
  const environment = await openEnvironment(options)
  const progress = { phase: 'chaos' as Progress['phase'], begun: 0, ended: 0, checked: 0 }
  const { log, endpoint } = environment
  const report = () => options.onProgress?.({ ...progress, refreshes: endpoint.refreshes, log })
  const reporting = setInterval(report, 1_000)
  const watch = watchForStalls((from, to) => {
    log.noteAt(from, `the run itself stalled for ${(to - from).toFixed(0)} ms`)
    log.count('stalled: the run itself')
  })
  try {
    const users = await runUsers(environment, options, progress)
    progress.phase = 'final check'
    await checkAll(users, { ...environment, exchange: options.exchange ?? false }, progress)
    const evaluation = await evaluate(environment)
    report()
    return { ...evaluation, ...sums(endpoint), sessions: users.length, tookMs: Date.now() - began, log }
  } finally {
    clearInterval(reporting)
    clearInterval(watch)
    await environment.close()
  }
}

async function runUsers(
  environment: Environment,
  { sessions, parallel, maxMs = Number.POSITIVE_INFINITY, oneRedis, exchange = false }: ChaosOptions,
  progress: { begun: number; ended: number },
): Promise<SimulatedUser[]> {
  const users: SimulatedUser[] = []
  const until = Date.now() + maxMs
  environment.faultInjector.start()
  await inParallel(parallel, async () => {
    while (users.length < sessions && Date.now() < until) {
      const index = users.length
      const user = new SimulatedUser(index, environment.plan.session(index), {
        ...environment,
        sessionsMayFail: oneRedis,
        exchange,
      })
      users.push(user)
      progress.begun++
      await user.run()
      progress.ended++
    }
  })
  return users
}

async function checkAll(
  users: SimulatedUser[],
  environment: Environment & { readonly exchange: boolean },
  progress: { checked: number },
): Promise<void> {
  const { log, endpoint, faultInjector, processes } = environment
  log.note('no more faults from here on')
  endpoint.calm = true
  processes.calm()
  await faultInjector.end()
  processes.readEvents()
  const left = users.toReversed()
  await inParallel(CHECKS_AT_A_TIME, async () => {
    for (let user = left.pop(); user; user = left.pop()) {
      await checkFinally(user, environment)
      progress.checked++
    }
  })
  processes.readEvents()
  noteEvents(processes, endpoint, log)
}

async function inParallel(count: number, work: () => Promise<void>): Promise<void> {
  await Promise.all(Array.from({ length: count }, work))
}

/** Adds the events of the libraries to the traces of the sessions. */
function noteEvents(processes: SiteProcesses, endpoint: TokenEndpoint, log: RunLog): void {
  const sessions = new Map(endpoint.grants.map(({ libraryId, session }) => [libraryId, session]))
  for (const { name, events } of processes.incarnations.values()) {
    for (const { at, type, grantId, revision, code, message, refreshToken } of events) {
      if (!OTHER_ENTRIES.includes(type)) log.count(`event: ${type}`)
      const session = sessions.get(grantId)
      if (session === undefined) continue
      const owner = refreshToken === undefined ? undefined : endpoint.ownerOfRefreshToken(refreshToken)
      const tokens = owner && `${owner.grant.login}/${owner.issue.serial}`
      const details = [revision, tokens, code, message].filter((detail) => detail !== undefined).join(' ')
      log.noteAt(at, `${name} event: ${type} ${details}`, session)
    }
  }
}

function sums({ grants, refreshes }: TokenEndpoint) {
  const exchanges = grants.flatMap((grant) => grant.exchanges)
  const exchangesWith = (result: Exchange['outcome']) =>
    exchanges.filter(({ outcome }) => outcome === result).length
  return {
    logins: grants.filter(({ loggedInAt }) => loggedInAt !== undefined).length,
    logouts: grants.filter(({ logout }) => logout).length,
    refreshes,
    presentations: grants.reduce((sum, { presentations }) => sum + presentations.length, 0),
    exchanges: { succeeded: exchangesWith('succeeded'), refused: exchangesWith('refused') },
  }
}
