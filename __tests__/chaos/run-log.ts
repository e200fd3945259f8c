import { now, type Violation } from './records.js'

/** One entry, of a session or (without one) of the whole run. */
export interface Entry {
  readonly at: number
  readonly session?: number
  readonly text: string
}

/** The log of a run, for the traces of violations. */
export class RunLog {
  readonly startedAt = now()
  violations: readonly Violation[] = []
  slowestResponse = { ms: 0, what: '' }
  readonly #ofAll: Entry[] = []
  readonly #ofSession = new Map<number, Entry[]>()
  readonly #counts = new Map<string, number>()

  note(text: string, session?: number): void {
    this.noteAt(now(), text, session)
  }

  noteAt(at: number, text: string, session?: number): void {
    if (session === undefined) this.#ofAll.push({ at, text })
    else this.#entriesOf(session).push({ at, session, text })
  }

  #entriesOf(session: number): Entry[] {
    const entries = this.#ofSession.get(session) ?? []
    this.#ofSession.set(session, entries)
    return entries
  }

  count(what: string, by = 1): void {
    this.#counts.set(what, (this.#counts.get(what) ?? 0) + by)
  }

  /** Keeps the slowest response. */
  slowest(ms: number, what: string): void {
    if (ms > this.slowestResponse.ms) this.slowestResponse = { ms, what }
  }

  /** The counts of the names with a prefix, by the rest of the name. */
  counts(prefix: string): ReadonlyMap<string, number> {
    const counted = [...this.#counts].filter(([what]) => what.startsWith(prefix))
    return new Map(counted.sort().map(([what, count]) => [what.slice(prefix.length), count]))
  }

  violation(invariant: Violation['invariant'], session: number, what: string, at = now()): void {
    this.violations = [...this.violations, { invariant, at, session, what }]
    this.noteAt(at, `VIOLATION of ${invariant}: ${what}`, session)
  }

  /** Removes violations that are not a fault of the library. */
  excuse(why: string, isExcused: (violation: Violation) => boolean): void {
    for (const { at, session } of this.violations.filter(isExcused)) {
      this.noteAt(at, `excused: ${why}`, session)
      this.count(`excused: ${why}`)
    }
    this.violations = this.violations.filter((violation) => !isExcused(violation))
  }

  /** The entries of a session in order of time, as lines of text; with `at` only those around that moment. */
  trace({ session, at }: { readonly session: number; readonly at?: number }, withinMs = 0): string[] {
    const own = this.#ofSession.get(session) ?? []
    const times = at === undefined ? own.map((entry) => entry.at) : [at - withinMs, at + 1_000]
    const [from, to] = [Math.min(...times), Math.max(...times)]
    return [...own, ...this.#ofAll]
      .filter(({ at }) => at >= from && at <= to)
      .sort((a, b) => a.at - b.at)
      .map((entry) => `${this.time(entry.at)} ${entry.session === undefined ? '* ' : ''}${entry.text}`)
  }

  /** Seconds since the start. */
  time(at: number): string {
    return ((at - this.startedAt) / 1000).toFixed(4).padStart(9)
  }
}
