import { setTimeout as delay } from 'node:timers/promises'
import type { Chronicle } from './chronicle.js'
import { newestKnownSerial } from './judge.js'
import type { Saboteur } from './saboteur.js'
import type { SiteProcesses } from './site-processes.js'
import type { TokenDesk } from './token-desk.js'
import type { Visitor } from './visitor.js'

export interface LastLookContext {
  readonly processes: SiteProcesses
  readonly desk: TokenDesk
  readonly chronicle: Chronicle
  readonly saboteur: Saboteur
}

/** For how long a process may still be held up by what went wrong before. */
const RECOVERS_WITHIN_MS = 20_000
/** For how long a stored session may still be waiting for its newest tokens. */
const STORED_WITHIN_MS = 2_000

/** What must hold of a session when nothing goes wrong any more and all processes are up. */
export async function lookOnceMore(visitor: Visitor, context: LastLookContext): Promise<void> {
  for (const session of visitor.closed) await visitor.checkLoggedOut('in the end', session)
  if (visitor.loggedIn) await lookAtTokens(visitor, context)
}

async function lookAtTokens(
  visitor: Visitor,
  { processes, chronicle, saboteur }: LastLookContext,
): Promise<void> {
  const grant = visitor.grant!
  const first = visitor.index % processes.count
  const say = (what: string) => chronicle.violation('I2', visitor.index, what)

  const found = await untilAnswered(visitor, processes, first)
  if (!found) return
  const newest = newestKnownSerial(grant, saboteur.redisRestarts)
  if (found.serial < newest) say(`in the end ${grant.login}/${found.serial} came instead of ${newest}`)

  const rejected = new URLSearchParams({ rejected: found.token })
  const refreshed = await untilAnswered(visitor, processes, first + 1, rejected)
  if (!refreshed) return
  if (refreshed.serial <= found.serial) say(`in the end ${grant.login}/${found.serial} was not refreshed`)
  for (let process = 0; process < processes.count; process++) {
    const elsewhere = await untilAnswered(visitor, processes, process)
    if (!elsewhere) return
  }
  await lookAtStored(visitor, chronicle)
}

/** Asks until a process has recovered. Resolves with nothing when the login turns out to be lost. */
async function untilAnswered(
  visitor: Visitor,
  processes: SiteProcesses,
  slot: number,
  query?: URLSearchParams,
): Promise<{ serial: number; token: string } | undefined> {
  const deadline = Date.now() + RECOVERS_WITHIN_MS
  for (;;) {
    const process = await processes.serving(slot % processes.count)
    const { status, serial, token } = await visitor.askForToken(process, query)
    if (serial !== undefined && token !== undefined) return { serial, token }
    if (!visitor.loggedIn || status === 200) return undefined
    if (Date.now() > deadline) {
      visitor.neverRecovered(process, status)
      return undefined
    }
    await delay(250)
  }
}

async function lookAtStored(visitor: Visitor, chronicle: Chronicle): Promise<void> {
  const grant = visitor.grant!
  const newest = grant.issues.at(-1)!
  const deadline = Date.now() + STORED_WITHIN_MS
  for (;;) {
    const stored = await visitor.readStored(visitor.cookie!)
    const written = stored?.written ?? 0
    if (stored?.refreshToken === newest.refreshToken && written >= visitor.written) return
    if (Date.now() > deadline) {
      const serial = grant.issues.find(({ refreshToken }) => refreshToken === stored?.refreshToken)?.serial
      if (written < visitor.written) {
        const what = `in the end ${written} is stored after ${visitor.written} had been written`
        chronicle.violation('I3', visitor.index, what)
      }
      if (serial !== newest.serial) {
        const what = `in the end ${grant.login}/${serial} is stored instead of ${newest.serial}`
        chronicle.violation('I2', visitor.index, what)
      }
      return
    }
    await delay(100)
  }
}
