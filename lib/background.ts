/** What goes on behind the callers' backs. */
export class Background {
  readonly #works = new Map<string, Promise<unknown>>()

  /** Whether something of this name is going on. */
  has(name: string): boolean {
    return this.#works.has(name)
  }

  /** Lets something go on while nobody waits for it but `end()`. Its failure is its own affair. */
  start(name: string, work: Promise<unknown>): void {
    const land = () => {
      if (this.#works.get(name) === over) this.#works.delete(name)
    }
    const over = work.then(land, land)
    this.#works.set(name, over)
  }

  /** Resolves when nothing goes on any more. */
  async end(): Promise<void> {
    while (this.#works.size > 0) await Promise.allSettled(this.#works.values())
  }
}
