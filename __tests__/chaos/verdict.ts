import type { AuthorizationServer } from '../helpers/authorization-server.js'
import type { Chronicle } from './chronicle.js'
import {
  type Excuse,
  type Loss,
  lateIssuesOf,
  lateWritesTo,
  lossOf,
  mayBeServed,
  type Repetition,
  repetitionsOf,
} from './judge.js'
import { type Grant, type Incarnation, now, type OlderToken, type RedisRestart } from './records.js'
import type { Stage } from './stage.js'

export interface Verdict {
  /** Refresh tokens that were presented once more, by what excuses it. */
  readonly repetitions: ReadonlyMap<Excuse, number>
  readonly lost: readonly Loss[]
  /** How often an older token was served that was valid, while the newer one had been told to nobody. */
  readonly older: number
  /** Tokens that came after a logout, by what became of them. */
  readonly late: ReadonlyMap<string, number>
}

/** Judges by the authorization server's records what had not been seen while it happened. */
export async function judge({ desk, server, saboteur, processes, chronicle }: Stage): Promise<Verdict> {
  const { redisRestarts } = saboteur
  const repetitions = new Tally<Excuse>()
  const lost: Loss[] = []
  const incarnations = [...processes.incarnations.values()]
  let older = 0
  const late = new Tally<string>()
  for (const grant of desk.grants) {
    older += judgeOlderTokens(grant, incarnations, chronicle)
    judgeRepetitions(repetitionsOf(grant, redisRestarts, incarnations), chronicle, repetitions)
    if (grant.lost) lost.push(judgeLoss(lossOf(grant, redisRestarts, incarnations), chronicle))
    if (grant.logout) await judgeLogout(grant, server, redisRestarts, chronicle, late)
  }
  excuseLateWrites(desk.grants, incarnations, chronicle)
  return { repetitions, lost, older, late }
}

/** What follows from an old session that a paused process had already sent off is not held against the library. */
function excuseLateWrites(
  grants: readonly Grant[],
  incarnations: readonly Incarnation[],
  chronicle: Chronicle,
): void {
  const writes = new Map<number, number[]>()
  for (const { session } of chronicle.violations) {
    const own = grants.filter((grant) => grant.session === session)
    if (!writes.has(session)) writes.set(session, lateWritesTo(own, incarnations))
  }
  chronicle.excuse('an old session was being written when its process was paused', ({ session, at }) =>
    writes.get(session)!.some((to) => to <= at),
  )
}

class Tally<K> extends Map<K, number> {
  add(key: K): void {
    this.set(key, (this.get(key) ?? 0) + 1)
  }
}

function judgeRepetitions(
  found: readonly Repetition[],
  chronicle: Chronicle,
  repetitions: Tally<Excuse>,
): void {
  for (const { grant, earlier, later, excuse } of found) {
    if (excuse) {
      repetitions.add(excuse)
      continue
    }
    const token = `${grant.login}/${later.serial}`
    const first = `${earlier.by.name} at ${chronicle.time(earlier.at).trim()}`
    const what = `${token} was presented by ${later.by.name}, and had been by ${first}`
    chronicle.violation('I1', grant.session, what, later.at)
  }
}

/** Answers how many there are that are as they should be. */
function judgeOlderTokens(grant: Grant, incarnations: readonly Incarnation[], chronicle: Chronicle): number {
  const { login, session, olderTokens } = grant
  const [fine, wrong] = [[], []] as [OlderToken[], OlderToken[]]
  for (const older of olderTokens) (mayBeServed(grant, older, incarnations) ? fine : wrong).push(older)
  for (const { at, serial, newest } of wrong) {
    chronicle.violation('I2', session, `${login}/${serial} came after ${login}/${newest} had come`, at)
  }
  for (const { at, serial } of fine) {
    chronicle.noteAt(at, `${login}/${serial} was valid, and the newer one told to nobody`, session)
  }
  return fine.length
}

function judgeLoss(loss: Loss, chronicle: Chronicle): Loss {
  const { grant, reason, explanation } = loss
  const { at, what } = grant.lost!
  chronicle.noteAt(at, `login ${grant.login}: ${reason ?? 'UNEXPLAINED'} (${explanation})`, grant.session)
  if (!reason) chronicle.violation('I6', grant.session, `login lost (${what}): ${explanation}`, at)
  return loss
}

async function judgeLogout(
  grant: Grant,
  server: AuthorizationServer,
  redisRestarts: readonly RedisRestart[],
  chronicle: Chronicle,
  late: Tally<string>,
): Promise<void> {
  for (const { issue, excuse } of lateIssuesOf(grant, redisRestarts)) {
    const alive = await server.isActive(issue.refreshToken)
    late.add(alive ? (excuse ?? 'still valid') : 'not valid any more')
    if (!alive || excuse) continue
    const what = `${grant.login}/${issue.serial} came after the logout and was not revoked`
    chronicle.violation('I4', grant.session, what, now())
  }
}
