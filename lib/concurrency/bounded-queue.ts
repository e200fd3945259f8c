/** Bounds how many pieces of work run at a time. Further pieces of work wait in order. */
export class BoundedQueue {
  readonly #limit: number
  readonly #waiting: (() => void)[] = []
  #running = 0

  constructor(limit: number) {
    this.#limit = limit
  }

  /** Whether a piece of work would run at once. */
  get hasRoom(): boolean {
    return this.#running < this.#limit
  }

  /**
   * Resolves when a piece of work may run. {@link leave} must be called when it has ended.
   *
   * @param isUrgent runs it at once, beyond the limit
   */
  async enter(isUrgent = false): Promise<void> {
    if (isUrgent || this.hasRoom) this.#running++
    else await new Promise<void>((resolve) => this.#waiting.push(resolve))
  }

  /** Lets the next piece of work run. */
  leave(): void {
    this.#running--
    if (!this.hasRoom) return
    const next = this.#waiting.shift()
    if (!next) return
    this.#running++
    next()
  }

  /** Lets all waiting work run, beyond the limit, since it will end at once. */
  release(): void {
    const all = this.#waiting.splice(0)
    this.#running += all.length
    for (const run of all) run()
  }
}
