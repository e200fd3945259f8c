import { detached } from '../concurrency/detached.js'
import { HOLD_OFF_MS } from '../concurrency/time-constants.js'

/** How long after a failover a process may still store data that the new server has lost, in milliseconds. */
const JUST_CHANGED_MS = 60_000
/** How often the nodes of a cluster are asked, in milliseconds: a silent node may have been replaced. */
const ASK_EVERY_MS = 2_000

/**
 * The runs of the database servers that have responded. A server has a new run id after each start. A run that replaces another one
 * may have an earlier state: the server was restarted, or a replica was promoted.
 */
export class ServerRuns {
  /** Each run with a grant that it last responded for. A cluster has one run for each node. */
  readonly #runs = new Map<string, string>()
  readonly #runOf: (grantId: string) => Promise<string>
  readonly #listeners = new Set<() => void>()
  #changedAt = Number.NEGATIVE_INFINITY
  /** When the first server responded. */
  #metAt = Number.NEGATIVE_INFINITY
  #asking: NodeJS.Timeout | undefined

  /** @param runOf asks the database for the run that has a grant now */
  constructor(runOf: (grantId: string) => Promise<string>) {
    this.#runOf = runOf
  }

  /**
   * Returns how much longer other processes may need to find a new server and to commit the data that it has lost, in
   * milliseconds.
   */
  get holdOffMs(): number {
    return holdOffFrom(this.#changedAt)
  }

  /**
   * Returns how much longer other processes may need, for a grant that was last leased in an earlier run, in milliseconds. When
   * this process first uses the database, the server may have taken over a moment before.
   */
  get holdOffOfEarlierMs(): number {
    if (this.#runs.size === 0) return HOLD_OFF_MS
    return holdOffFrom(Math.max(this.#changedAt, this.#metAt))
  }

  /** Whether another server has taken over within the last minute. */
  get hasJustChanged(): boolean {
    return performance.now() - this.#changedAt < JUST_CHANGED_MS
  }

  /** Notes that a run has responded for a grant. */
  noteRun(run: string, grantId: string): void {
    if (run === '') return
    const isNew = this.#runs.size > 0 && !this.#runs.has(run)
    if (this.#runs.size === 0) this.#metAt = performance.now()
    this.#runs.set(run, grantId)
    // A new run may be a cluster node that was not asked before. Then all other runs still respond.
    if (isNew) void this.#lookForOthers(run)
    // With a single server there is nothing to ask: the library reads its last commit again at short intervals.
    if (this.#runs.size > 1 && this.#listeners.size > 0) this.#keepAsking()
  }

  /** Calls the listener when a server may have an earlier state. Returns a function that stops the calls. */
  onLoss(listener: () => void): () => void {
    this.#listeners.add(listener)
    return () => {
      this.#listeners.delete(listener)
      if (this.#listeners.size === 0) clearInterval(this.#asking)
    }
  }

  #keepAsking(): void {
    this.#asking ??= detached(() => setInterval(() => void this.#ask(), ASK_EVERY_MS).unref())
  }

  /** Asks whether each run is still there. A node that cannot be reached is asked again later. */
  async #ask(): Promise<void> {
    const runs = [...this.#runs]
    const present = await Promise.all(runs.map(([run, id]) => this.#runOf(id).catch(() => run)))
    for (const [index, [run, grantId]] of runs.entries()) {
      if (present[index] !== run) this.noteRun(present[index]!, grantId)
    }
  }

  async #lookForOthers(run: string): Promise<void> {
    const changedAt = this.#changedAt
    // The hold-off begins before the other runs have responded, since a response may take long.
    this.#changedAt = performance.now()
    const others = [...this.#runs].filter(([other]) => other !== run)
    const arePresent = await Promise.all(others.map(([other, grantId]) => this.#isPresent(other, grantId)))
    if (arePresent.every(Boolean)) {
      this.#changedAt = changedAt
      return
    }
    for (const listener of this.#listeners) listener()
  }

  async #isPresent(run: string, grantId: string): Promise<boolean> {
    const isPresent = await this.#runOf(grantId).then(
      (present) => present === run,
      () => false,
    )
    if (!isPresent) this.#runs.delete(run)
    return isPresent
  }
}

function holdOffFrom(changedAt: number): number {
  return Math.max(0, changedAt + HOLD_OFF_MS - performance.now())
}
