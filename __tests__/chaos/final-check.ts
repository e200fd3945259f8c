import { setTimeout as delay } from 'node:timers/promises'
import type { FaultInjector } from './fault-injector.js'
import { newestKnownSerial } from './judge.js'
import type { RunLog } from './run-log.js'
import { EXCHANGE, type SimulatedUser } from './simulated-user.js'
import type { SiteProcesses } from './site-processes.js'
import type { TokenEndpoint } from './token-endpoint.js'

export interface FinalCheckContext {
  readonly processes: SiteProcesses
  readonly endpoint: TokenEndpoint
  readonly log: RunLog
  readonly faultInjector: FaultInjector
  /** Whether a part of the requests needs a token exchange. */
  readonly exchange: boolean
}

/** How long a process may need to recover from the faults. */
const RECOVERS_WITHIN_MS = 20_000
/** The status for a need that the authorization server has refused: the process does not ask again for a minute. */
const REFUSED = 403
/** How long a stored session may still lack its newest tokens. */
const STORED_WITHIN_MS = 2_000

/** Checks a session when all faults have ended and all processes are running. */
export async function checkFinally(user: SimulatedUser, context: FinalCheckContext): Promise<void> {
  for (const session of user.closed) await user.checkLoggedOut('in the end', session)
  if (user.loggedIn) await checkTokens(user, context)
}

async function checkTokens(
  user: SimulatedUser,
  { processes, log, faultInjector, exchange }: FinalCheckContext,
): Promise<void> {
  const grant = user.grant!
  const first = user.index % processes.count
  const say = (what: string) => log.violation('I2', user.index, what)

  const found = await askUntilRecovered(user, processes, first)
  if (!found) return
  const newest = newestKnownSerial(grant, faultInjector.redisRestarts)
  if (found.serial < newest) say(`in the end ${grant.login}/${found.serial} came instead of ${newest}`)

  const rejected = new URLSearchParams({ rejected: found.token })
  const refreshed = await askUntilRecovered(user, processes, first + 1, rejected)
  if (!refreshed) return
  if (refreshed.serial <= found.serial) say(`in the end ${grant.login}/${found.serial} was not refreshed`)
  for (let process = 0; process < processes.count; process++) {
    const elsewhere = await askUntilRecovered(user, processes, process)
    if (!elsewhere) return
  }
  if (exchange) await checkExchanges(user, processes, first, log)
  if (!user.loggedIn) return
  await checkStored(user, log)
  await checkJob(user, processes, first + 2, log)
}

/** Every process gets a token by exchange, and another one in place of one that an API has refused; a job gets one as well. */
async function checkExchanges(
  user: SimulatedUser,
  processes: SiteProcesses,
  first: number,
  log: RunLog,
): Promise<void> {
  const query = new URLSearchParams(EXCHANGE)
  const found = await askUntilRecovered(user, processes, first, query)
  if (!found) return
  const rejected = new URLSearchParams({ ...EXCHANGE, rejected: found.token })
  const renewed = await askUntilRecovered(user, processes, first + 1, rejected)
  if (!renewed) return
  if (renewed.serial <= found.serial) {
    const what = `in the end the token of exchange ${found.serial} was not replaced`
    log.violation('I2', user.index, what)
  }
  for (let process = 0; process < processes.count; process++)
    if (!(await askUntilRecovered(user, processes, process, query))) return
  for (let deadline = Date.now() + RECOVERS_WITHIN_MS; user.hasReference; await delay(250)) {
    const process = await processes.serving((first + 2) % processes.count)
    const { serial, status } = await user.askAsJob(process, EXCHANGE)
    if (serial !== undefined || !user.loggedIn || status === REFUSED) return
    if (Date.now() > deadline) return user.neverRecovered(process, status)
  }
}

/** By now the grant store knows every login, so a job that has a reference gets the newest token. */
async function checkJob(
  user: SimulatedUser,
  processes: SiteProcesses,
  slot: number,
  log: RunLog,
): Promise<void> {
  const newest = user.grant!.issues.at(-1)!.serial
  for (let deadline = Date.now() + RECOVERS_WITHIN_MS; user.hasReference; ) {
    const { serial } = await user.askAsJob(await processes.serving(slot % processes.count))
    if (serial !== undefined && serial >= newest) return
    if (!user.loggedIn)
      return log.violation('I2', user.index, 'in the end a job is told that the login is over')
    if (serial !== undefined || Date.now() > deadline) {
      return log.violation(
        'I2',
        user.index,
        `in the end a job got ${serial ?? 'no token'} instead of ${newest}`,
      )
    }
    await delay(250)
  }
}

/** Asks for a token until a process has recovered. Resolves with `undefined` when the login is lost. */
async function askUntilRecovered(
  user: SimulatedUser,
  processes: SiteProcesses,
  slot: number,
  query?: URLSearchParams,
): Promise<{ serial: number; token: string } | undefined> {
  const deadline = Date.now() + RECOVERS_WITHIN_MS
  for (;;) {
    const process = await processes.serving(slot % processes.count)
    const { status, serial, token } = await user.askForToken(process, query)
    if (serial !== undefined && token !== undefined) return { serial, token }
    if (!user.loggedIn || status === 200 || status === REFUSED) return undefined
    if (Date.now() > deadline) {
      user.neverRecovered(process, status)
      return undefined
    }
    await delay(250)
  }
}

async function checkStored(user: SimulatedUser, log: RunLog): Promise<void> {
  const grant = user.grant!
  const newest = grant.issues.at(-1)!
  const deadline = Date.now() + STORED_WITHIN_MS
  for (;;) {
    const stored = await user.readStored(user.cookie!)
    const written = stored?.written ?? 0
    if (stored?.refreshToken === newest.refreshToken && written >= user.written) return
    if (Date.now() > deadline) {
      const serial = grant.issues.find(({ refreshToken }) => refreshToken === stored?.refreshToken)?.serial
      if (written < user.written) {
        const what = `in the end ${written} is stored after ${user.written} had been written`
        log.violation('I3', user.index, what)
      }
      if (serial !== newest.serial) {
        const what = `in the end ${grant.login}/${serial} is stored instead of ${newest.serial}`
        log.violation('I2', user.index, what)
      }
      return
    }
    await delay(100)
  }
}
