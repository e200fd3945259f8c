/** After another server has taken the place of one, its clients find it within this time, in milliseconds. */
const HOLD_OFF_MS = 5_000
/** How often the nodes of a cluster are asked, in milliseconds: one that says nothing may have been replaced. */
const ASK_EVERY_MS = 2_000

/**
 * Which runs of which servers have responded, by the id that a server gives itself at each start. When one is there in
 * the place of another it may have an earlier state: a server that was restarted, or a replica that was promoted.
 */
export class ServerRuns {
  /** Each run, and a grant that it had when it responded last. Over a cluster there is one for each node. */
  readonly #runs = new Map<string, string>()
  readonly #runOf: (grantId: string) => Promise<string>
  readonly #listeners = new Set<() => void>()
  #changedAt = Number.NEGATIVE_INFINITY
  #asking: NodeJS.Timeout | undefined

  /** @param runOf asks which run has a grant now */
  constructor(runOf: (grantId: string) => Promise<string>) {
    this.#runOf = runOf
  }

  /** For how long still other processes may be on their way to the server with what it has lost, in milliseconds. */
  get holdOffMs(): number {
    return Math.max(0, this.#changedAt + HOLD_OFF_MS - performance.now())
  }

  /** Notes that a run has responded for a grant. */
  hear(run: string, grantId: string): void {
    if (run === '') return
    const isNew = this.#runs.size > 0 && !this.#runs.has(run)
    this.#runs.set(run, grantId)
    // A node of a cluster that had not been asked before takes no other's place.
    if (isNew) void this.#lookForOthers(run)
    // Of a single server the library reads what it has committed last.
    if (this.#runs.size > 1 && this.#listeners.size > 0) this.#keepAsking()
  }

  /** Calls the listener when a server may have an earlier state. Returns how to stop. */
  onLoss(listener: () => void): () => void {
    this.#listeners.add(listener)
    return () => {
      this.#listeners.delete(listener)
      if (this.#listeners.size === 0) clearInterval(this.#asking)
    }
  }

  #keepAsking(): void {
    this.#asking ??= setInterval(() => void this.#ask(), ASK_EVERY_MS).unref()
  }

  /** Looks whether each run is there still. A node that cannot be reached is asked again later. */
  async #ask(): Promise<void> {
    const runs = [...this.#runs]
    const present = await Promise.all(runs.map(([run, id]) => this.#runOf(id).catch(() => run)))
    for (const [index, [run, grantId]] of runs.entries()) {
      if (present[index] !== run) this.hear(present[index]!, grantId)
    }
  }

  async #lookForOthers(run: string): Promise<void> {
    const changedAt = this.#changedAt
    // The others may take their time to say that they are there.
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
