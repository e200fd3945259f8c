/** After another server has taken the place of one, its clients find it within this time, in milliseconds. */
const HOLD_OFF_MS = 5_000

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
  }

  /** Calls the listener when a server may have an earlier state. Returns how to stop. */
  onLoss(listener: () => void): () => void {
    this.#listeners.add(listener)
    return () => void this.#listeners.delete(listener)
  }

  async #lookForOthers(run: string): Promise<void> {
    const others = [...this.#runs].filter(([other]) => other !== run)
    const arePresent = await Promise.all(others.map(([other, grantId]) => this.#isPresent(other, grantId)))
    if (arePresent.every(Boolean)) return
    this.#changedAt = performance.now()
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
