import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Chronicle } from './chronicle.js'
import type { Loss } from './judge.js'
import type { Violation } from './records.js'
import type { ChaosOptions, ChaosResult, Progress } from './run.js'

const MAX_LISTED = 30
const MAX_TRACES_PRINTED = 3
/** How far back a trace goes that is printed. */
const TRACE_MS = 12_000

/** One line that tells how far the run is. */
export function progressLine({ sessions }: ChaosOptions, progress: Progress): string {
  const { phase, begun, over, looked, refreshes, chronicle } = progress
  const seconds = chronicle
    .time(performance.timeOrigin + performance.now())
    .trim()
    .split('.')[0]
  const how = phase === 'chaos' ? `${over} over, ${begun} begun of ${sessions}` : `${looked} of ${begun}`
  const faults = total(chronicle.counts('fault: '))
  const lost = chronicle.counts('lost').get('') ?? 0
  const found = `${lost} lost, ${chronicle.violations.length} violations`
  return `${seconds} s  ${phase}: sessions ${how}; ${refreshes} refreshes, ${faults} faults, ${found}`
}

/** The result, as text. */
export function reportOf({ seed, processes, oneRedis }: ChaosOptions, result: ChaosResult): string {
  const { chronicle, repetitions, lost, older, late } = result
  const seconds = result.tookMs / 1000
  const requests = chronicle.counts('requests').get('') ?? 0
  const redis = oneRedis ? 'one durable Redis' : 'two Redis, that of the grants restarted empty'
  const { ms, what } = chronicle.slowestAnswer
  return [
    `chaos: seed ${seed}, ${processes} processes, ${redis}`,
    `${result.sessions} sessions, ${result.logins} logins, ${result.logouts} logouts, ${requests} requests`,
    `${result.refreshes} refreshes, ${result.presentations} refresh tokens presented`,
    `${seconds.toFixed(0)} s, ${(result.refreshes / seconds).toFixed(0)} refreshes/s, ${(requests / seconds).toFixed(0)} requests/s`,
    `slowest answer: ${ms.toFixed(0)} ms (${what})`,
    ...table(`${total(chronicle.counts('fault: '))} faults`, chronicle.counts('fault: ')),
    ...table('left out, as another of the kind was under way', chronicle.counts('left out: ')),
    ...table('stood still, as the machine was busy', chronicle.counts('stalled: ')),
    ...table('answers', chronicle.counts('answer: ')),
    ...table('what the library told', chronicle.counts('event: ')),
    ...table(`${total(repetitions)} refresh tokens presented again, with an excuse`, repetitions),
    `${older} times a valid token came though another process had a newer one, which it was about to store`,
    ...table(`${total(late)} tokens that came after a logout`, late),
    ...table(`${lost.length} logins lost`, countOf(lost.map(kindOf))),
    ...table('excused, as no store that can only read and write has a remedy', chronicle.counts('excused: ')),
    ...table(
      `${chronicle.violations.length} violations`,
      countOf(chronicle.violations.map(({ invariant }) => invariant)),
    ),
  ].join('\n')
}

function table(title: string, rows: ReadonlyMap<string, number>): string[] {
  const lines = [...rows].sort(([, a], [, b]) => b - a)
  return [title, ...lines.map(([name, count]) => `${String(count).padStart(9)}  ${name}`)]
}

function total(rows: ReadonlyMap<string, number>): number {
  return [...rows.values()].reduce((sum, count) => sum + count, 0)
}

function kindOf({ reason, fault = '' }: Loss): string {
  if (!reason) return 'unexplained'
  return reason.includes('connection') ? `${reason}: ${fault}` : reason
}

function countOf(names: readonly string[]): Map<string, number> {
  const counts = new Map<string, number>()
  for (const name of names) counts.set(name, (counts.get(name) ?? 0) + 1)
  return counts
}

/** The violations; the first ones with what led to them. */
export function violationsOf({ chronicle }: ChaosResult): string {
  const { violations } = chronicle
  const more = violations.length - MAX_LISTED
  const list = violations.slice(0, MAX_LISTED).map((violation) => lineOf(violation, chronicle))
  const traces = firstOfEach(violations)
    .slice(0, MAX_TRACES_PRINTED)
    .flatMap((violation) => ['', lineOf(violation, chronicle), ...chronicle.trace(violation, TRACE_MS)])
  return [...list, ...(more > 0 ? [`… and ${more} more`] : []), ...traces].join('\n')
}

function lineOf({ invariant, at, session, what }: Violation, chronicle: Chronicle): string {
  return `${invariant} in session ${session} at ${chronicle.time(at).trim()}: ${what}`
}

/** One violation of each session. */
function firstOfEach(violations: readonly Violation[]): Violation[] {
  const ordered = violations.toSorted((a, b) => a.at - b.at)
  return ordered.filter(({ session }, index) => ordered.findIndex((one) => one.session === session) === index)
}

/** Writes a list of the lost logins, and the whole trace of every session with a violation. */
export async function writeTraces(directory: string, { chronicle, lost }: ChaosResult): Promise<void> {
  await mkdir(directory, { recursive: true })
  const logins = lost.map(({ grant, reason, explanation }) => {
    const at = chronicle.time(grant.lost!.at)
    return `${at} session ${grant.session}, login ${grant.login}: ${reason ?? 'unexplained'} (${explanation})`
  })
  await writeFile(join(directory, 'lost-logins.txt'), `${logins.join('\n')}\n`)
  for (const session of new Set(chronicle.violations.map(({ session }) => session))) {
    await writeFile(join(directory, `session-${session}.txt`), `${chronicle.trace({ session }).join('\n')}\n`)
  }
}
