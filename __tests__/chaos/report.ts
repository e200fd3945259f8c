import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Violation } from './records.js'
import type { ChaosOptions, ChaosResult, Progress } from './run.js'

const MAX_TRACES_PRINTED = 3

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
  const { chronicle, repetitions, losses, late } = result
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
    ...table('answers', chronicle.counts('answer: ')),
    ...table('what the library told', chronicle.counts('event: ')),
    ...table(`${total(repetitions)} refresh tokens presented again, with an excuse`, repetitions),
    ...table(`${total(late)} tokens that came after a logout`, late),
    ...table(`${total(losses)} logins lost`, losses),
    ...table(`${chronicle.violations.length} violations`, byInvariant(chronicle.violations)),
  ].join('\n')
}

function table(title: string, rows: ReadonlyMap<string, number>): string[] {
  const lines = [...rows].sort(([, a], [, b]) => b - a)
  return [title, ...lines.map(([name, count]) => `${String(count).padStart(9)}  ${name}`)]
}

function total(rows: ReadonlyMap<string, number>): number {
  return [...rows.values()].reduce((sum, count) => sum + count, 0)
}

function byInvariant(violations: readonly Violation[]): Map<string, number> {
  const counts = new Map<string, number>()
  for (const { invariant } of violations) counts.set(invariant, (counts.get(invariant) ?? 0) + 1)
  return counts
}

/** The violations, each with what led to it; no more than a few are given in full. */
export function violationsOf({ chronicle }: ChaosResult): string {
  const sessions = [...new Set(chronicle.violations.map(({ session }) => session))]
  const list = chronicle.violations.map(
    ({ invariant, at, session, what }) =>
      `${invariant} in session ${session} at ${chronicle.time(at).trim()}: ${what}`,
  )
  const traces = sessions
    .slice(0, MAX_TRACES_PRINTED)
    .flatMap((session) => ['', `session ${session}`, ...chronicle.trace(session)])
  return [...list, ...traces].join('\n')
}

/** Writes the trace of every session with a violation or a lost login to a file of its own. */
export async function writeTraces(directory: string, { chronicle }: ChaosResult): Promise<void> {
  await mkdir(directory, { recursive: true })
  for (const session of new Set(chronicle.violations.map(({ session }) => session))) {
    await writeFile(join(directory, `session-${session}.txt`), `${chronicle.trace(session).join('\n')}\n`)
  }
}
