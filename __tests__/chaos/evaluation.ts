import type { AuthorizationServer } from '../helpers/authorization-server.js'
import type { Environment } from './environment.js'
import {
  type Excuse,
  exchangesOfOlder,
  type Loss,
  lateIssuesOf,
  lateWritesTo,
  lossOf,
  mayBeServed,
  type Repetition,
  repetitionsOf,
  wronglyRefused,
} from './judge.js'
import {
  END_WITHIN_MS,
  type Exchange,
  type Grant,
  type Incarnation,
  now,
  type OlderToken,
  type Pause,
  type RedisRestart,
} from './records.js'
import type { RunLog } from './run-log.js'

export interface Evaluation {
  /** Refresh tokens that were presented again, by their excuse. */
  readonly repetitions: ReadonlyMap<Excuse, number>
  readonly lost: readonly Loss[]
  /** How often an older, valid token was served while no other process knew the newer one. */
  readonly older: number
  /** Tokens that arrived after a logout, by their end. */
  readonly late: ReadonlyMap<string, number>
}

/** Checks the authorization server's records for violations that were not visible during the run. */
export async function evaluate({
  endpoint,
  server,
  faultInjector,
  processes,
  log,
}: Environment): Promise<Evaluation> {
  const { redisRestarts } = faultInjector
  const repetitions = new Tally<Excuse>()
  const lost: Loss[] = []
  const incarnations = [...processes.incarnations.values()]
  let older = 0
  const late = new Tally<string>()
  const unreachable = [
    ...redisRestarts.map(({ downAt, upAt }) => ({ from: downAt, ...(upAt !== undefined && { to: upAt }) })),
    ...faultInjector.redisFreezes,
  ]
  for (const grant of endpoint.grants) {
    checkServedAfterEnd(grant, unreachable, log)
    older += checkOlderTokens(grant, incarnations, log)
    checkExchanges(grant, redisRestarts, incarnations, log)
    checkRepetitions(repetitionsOf(grant, redisRestarts, incarnations), log, repetitions)
    if (grant.lost) lost.push(checkLoss(lossOf(grant, redisRestarts, incarnations), log))
    if (grant.logout) await checkLogout(grant, server, redisRestarts, log, late)
  }
  excuseLateWrites(endpoint.grants, incarnations, log)
  return { repetitions, lost, older, late }
}

/** Excuses violations that follow from the write of an old session that a paused process had already sent. */
function excuseLateWrites(grants: readonly Grant[], incarnations: readonly Incarnation[], log: RunLog): void {
  const writes = new Map<number, number[]>()
  for (const { session } of log.violations) {
    const own = grants.filter((grant) => grant.session === session)
    if (!writes.has(session)) writes.set(session, lateWritesTo(own, incarnations))
  }
  log.excuse('an old session was being written when its process was paused', ({ session, at }) =>
    writes.get(session)!.some((to) => to <= at),
  )
}

class Tally<K> extends Map<K, number> {
  add(key: K): void {
    this.set(key, (this.get(key) ?? 0) + 1)
  }
}

function checkRepetitions(found: readonly Repetition[], log: RunLog, repetitions: Tally<Excuse>): void {
  for (const { grant, earlier, later, excuse } of found) {
    if (excuse) {
      repetitions.add(excuse)
      continue
    }
    const token = `${grant.login}/${later.serial}`
    const first = `${earlier.by.name} at ${log.time(earlier.at).trim()}`
    const what = `${token} was presented by ${later.by.name}, and had been by ${first}`
    log.violation('I1', grant.session, what, later.at)
  }
}

/** The end of a login reaches every process within a second, unless the process or Redis stood still in the meantime. */
function checkServedAfterEnd(
  { login, logout, servedAfterEnd, session }: Grant,
  unreachable: readonly Pause[],
  log: RunLog,
): void {
  for (const { by, at } of servedAfterEnd) {
    const isExcused = [...unreachable, ...by.pauses].some(
      ({ from, to = at }) => from <= at && to + END_WITHIN_MS >= logout!.ended!,
    )
    if (isExcused)
      log.count('excused: a token came more than a second after an end, as the process or Redis stood still')
    else
      log.violation(
        'I10',
        session,
        `${by.name} served a token of login ${login} more than a second after its end`,
        at,
      )
  }
}

/** Returns how many of the older tokens were allowed. */
function checkOlderTokens(grant: Grant, incarnations: readonly Incarnation[], log: RunLog): number {
  const { login, session, olderTokens } = grant
  const [fine, wrong] = [[], []] as [OlderToken[], OlderToken[]]
  for (const older of olderTokens) (mayBeServed(grant, older, incarnations) ? fine : wrong).push(older)
  for (const { at, serial, newest } of wrong) {
    log.violation('I2', session, `${login}/${serial} came after ${login}/${newest} had come`, at)
  }
  for (const { at, serial } of fine) {
    log.noteAt(at, `${login}/${serial} was valid, and no other process knew the newer one`, session)
  }
  return fine.length
}

function checkExchanges(
  grant: Grant,
  redisRestarts: readonly RedisRestart[],
  incarnations: readonly Incarnation[],
  log: RunLog,
): void {
  const say = (invariant: 'I2' | 'I6', { by, serial, sentAt }: Exchange, what: string) =>
    log.violation(invariant, grant.session, `${by.name} exchanged ${grant.login}/${serial}, ${what}`, sentAt)
  for (const exchange of wronglyRefused(grant)) say('I6', exchange, 'which was refused')
  for (const exchange of exchangesOfOlder(grant, redisRestarts, incarnations))
    say('I2', exchange, 'which was old')
}

function checkLoss(loss: Loss, log: RunLog): Loss {
  const { grant, reason, explanation } = loss
  const { at, what } = grant.lost!
  log.noteAt(at, `login ${grant.login}: ${reason ?? 'UNEXPLAINED'} (${explanation})`, grant.session)
  if (!reason) log.violation('I6', grant.session, `login lost (${what}): ${explanation}`, at)
  return loss
}

async function checkLogout(
  grant: Grant,
  server: AuthorizationServer,
  redisRestarts: readonly RedisRestart[],
  log: RunLog,
  late: Tally<string>,
): Promise<void> {
  for (const { issue, excuse } of lateIssuesOf(grant, redisRestarts)) {
    const alive = await server.isActive(issue.refreshToken)
    late.add(alive ? (excuse ?? 'still valid') : 'not valid any more')
    if (!alive || excuse) continue
    const what = `${grant.login}/${issue.serial} came after the logout and was not revoked`
    log.violation('I4', grant.session, what, now())
  }
}
