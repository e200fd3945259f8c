/** Shares one piece of work among all callers that ask for the same key while it is in flight. */
export class SingleFlight<K, V> {
  readonly #inFlight = new Map<K, Promise<V>>()

  /** Starts the work, unless work for this key is in flight. Settles as that work does. */
  do(key: K, work: () => Promise<V>): Promise<V> {
    const inFlight = this.#inFlight.get(key)
    if (inFlight) return inFlight
    const started = work().finally(() => {
      if (this.#inFlight.get(key) === started) this.#inFlight.delete(key)
    })
    this.#inFlight.set(key, started)
    return started
  }

  /** Whether work for this key is in flight. */
  has(key: K): boolean {
    return this.#inFlight.has(key)
  }

  /** Resolves when no work is in flight. */
  async drain(): Promise<void> {
    while (this.#inFlight.size > 0) await Promise.allSettled(this.#inFlight.values())
  }
}
