import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Loss } from './judge.js'
import type { Violation } from './records.js'
import type { ChaosOptions, ChaosResult, Progress } from './run.js'
import type { RunLog } from './run-log.js'

const MAX_LISTED = 30
const MAX_TRACES_PRINTED = 3
/** How far back a printed trace goes. */
const TRACE_MS = 12_000

/** One line with the progress of the run. */
export function progressLine({ sessions }: ChaosOptions, progress: Progress): string {
  const { phase, begun, ended, checked, refreshes, log } = progress
  const seconds = log
    .time(performance.timeOrigin + performance.now())
    .trim()
    .split('.')[0]
  const how = phase === 'chaos' ? `${ended} ended, ${begun} begun of ${sessions}` : `${checked} of ${begun}`
  const faults = total(log.counts('fault: '))
  const lost = log.counts('lost').get('') ?? 0
  const found = `${lost} lost, ${log.violations.length} violations`
  return `${seconds} s  ${phase}: sessions ${how}; ${refreshes} refreshes, ${faults} faults, ${found}`
}

/** The result, as text. */
export function reportOf(options: ChaosOptions, result: ChaosResult): string {
  const { seed, processes, oneRedis, grants, dpop, exchange } = options
  const { log, repetitions, lost, older, late } = result
  const seconds = result.tookMs / 1000
  const requests = log.counts('requests').get('') ?? 0
  const jobs = log.counts('requests of jobs').get('') ?? 0
  const { succeeded, refused } = result.exchanges
  const withExchange = log.counts('requests with an exchange').get('') ?? 0
  const nonces = log.counts('nonces').get('') ?? 0
  const redis = storesOf(oneRedis, grants)
  const { ms, what } = log.slowestResponse
  return [
    `chaos: seed ${seed}, ${processes} processes, ${redis}${dpop ? ', DPoP' : ''}${exchange ? ', exchanges' : ''}`,
    `${result.sessions} sessions, ${result.logins} logins, ${result.logouts} logouts, ${requests} requests, ${jobs} of them of jobs`,
    `${result.refreshes} refreshes, ${result.presentations} refresh tokens presented`,
    ...(exchange ? [`${succeeded} exchanges, for ${withExchange} requests; ${refused} were refused`] : []),
    ...(dpop ? [`${nonces} token requests without the newest nonce`] : []),
    `${seconds.toFixed(0)} s, ${(result.refreshes / seconds).toFixed(0)} refreshes/s, ${(requests / seconds).toFixed(0)} requests/s`,
    `slowest response: ${ms.toFixed(0)} ms (${what})`,
    ...table(`${total(log.counts('fault: '))} faults`, log.counts('fault: ')),
    ...table('left out, as another of the kind was under way', log.counts('left out: ')),
    ...table('stalled, as the machine was busy', log.counts('stalled: ')),
    ...table('logouts', log.counts('logout: ')),
    ...table('responses', log.counts('response: ')),
    ...table('events of the library', log.counts('event: ')),
    ...table(`${total(repetitions)} refresh tokens presented again, with an excuse`, repetitions),
    `${older} times a valid token was served while another process was about to store a newer one`,
    ...table(`${total(late)} tokens that arrived after a logout`, late),
    ...table(`${lost.length} logins lost`, countOf(lost.map(kindOf))),
    ...table('excused, as a store that can only read and write cannot prevent it', log.counts('excused: ')),
    ...table(
      `${log.violations.length} violations`,
      countOf(log.violations.map(({ invariant }) => invariant)),
    ),
  ].join('\n')
}

function storesOf(oneRedis: boolean, grants: ChaosOptions['grants']): string {
  if (grants === 'postgres') return 'grants in a PostgreSQL (called Redis below), sessions in a Redis'
  return oneRedis ? 'one durable Redis' : 'two Redis, that of the grants restarted empty'
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

/** The violations; the first ones with their traces. */
export function violationsOf({ log }: ChaosResult): string {
  const { violations } = log
  const more = violations.length - MAX_LISTED
  const list = violations.slice(0, MAX_LISTED).map((violation) => lineOf(violation, log))
  const traces = firstOfEach(violations)
    .slice(0, MAX_TRACES_PRINTED)
    .flatMap((violation) => ['', lineOf(violation, log), ...log.trace(violation, TRACE_MS)])
  return [...list, ...(more > 0 ? [`… and ${more} more`] : []), ...traces].join('\n')
}

function lineOf({ invariant, at, session, what }: Violation, log: RunLog): string {
  return `${invariant} in session ${session} at ${log.time(at).trim()}: ${what}`
}

/** One violation of each session. */
function firstOfEach(violations: readonly Violation[]): Violation[] {
  const ordered = violations.toSorted((a, b) => a.at - b.at)
  return ordered.filter(({ session }, index) => ordered.findIndex((one) => one.session === session) === index)
}

/** Writes a list of the lost logins, and the whole trace of every session with a violation. */
export async function writeTraces(directory: string, { log, lost }: ChaosResult): Promise<void> {
  await mkdir(directory, { recursive: true })
  const logins = lost.map(({ grant, reason, explanation }) => {
    const at = log.time(grant.lost!.at)
    return `${at} session ${grant.session}, login ${grant.login}: ${reason ?? 'unexplained'} (${explanation})`
  })
  await writeFile(join(directory, 'lost-logins.txt'), `${logins.join('\n')}\n`)
  for (const session of new Set(log.violations.map(({ session }) => session))) {
    await writeFile(join(directory, `session-${session}.txt`), `${log.trace({ session }).join('\n')}\n`)
  }
}
