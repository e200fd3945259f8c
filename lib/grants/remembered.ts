/** Times of expiry are rounded up to this, in milliseconds, so that equal entries of one moment are one object. */
const ROUNDED_MS = 60_000
/** How many entries are looked at for each one that is added: what has expired goes away without a pause. */
const SWEPT_AT_A_TIME = 4

interface Entry<V> {
  readonly value: V
  /** On the clock of the memory, in milliseconds. */
  readonly expiresAt: number
  readonly onEvicted: ((grantId: string) => void) | undefined
}

/**
 * What is remembered of grants in this process: each value for a time of its own, at most `max` of them. Beyond that the
 * one that was set longest ago is forgotten before its time, and `onEvicted` of it is called.
 *
 * An entry takes some 100 bytes where many share one value, as the reasons of ends do, the id of the grant included.
 */
export class Remembered<V> {
  readonly #entries = new Map<string, Entry<V>>()
  readonly #now: () => number
  readonly #max: number
  /** Where the look for expired entries goes on. */
  #sweep: Iterator<[string, Entry<V>]> | undefined
  #last: Entry<V> | undefined

  /** @param now a clock that never jumps, in milliseconds */
  constructor(now: () => number, max: number) {
    this.#now = now
    this.#max = max
  }

  get(grantId: string): V | undefined {
    const entry = this.#entries.get(grantId)
    if (!entry) return undefined
    if (entry.expiresAt > this.#now()) return entry.value
    this.#entries.delete(grantId)
    return undefined
  }

  has(grantId: string): boolean {
    return this.get(grantId) !== undefined
  }

  /** Remembers a value for `ttlMs`, and for no less than the time that an earlier one of the grant has left. */
  set(grantId: string, value: V, ttlMs: number, onEvicted?: (grantId: string) => void): void {
    const now = this.#now()
    const leftUntil = this.#entries.get(grantId)?.expiresAt ?? 0
    const until = Math.ceil((now + ttlMs) / ROUNDED_MS) * ROUNDED_MS
    const entry = this.#entryOf(value, Math.max(until, leftUntil), onEvicted)
    // The order of the map is that of the last changes.
    this.#entries.delete(grantId)
    this.#entries.set(grantId, entry)
    this.#forgetExpired(now)
    if (this.#entries.size > this.#max) this.#evictOldest(now)
  }

  delete(grantId: string): void {
    if (this.#entries.get(grantId) === this.#last) this.#last = undefined
    this.#entries.delete(grantId)
    // An iterator that waits may hold the map as it was before it grew or shrank, with all that was in it.
    this.#forgetExpired(this.#now())
  }

  #entryOf(value: V, expiresAt: number, onEvicted: Entry<V>['onEvicted']): Entry<V> {
    const last = this.#last
    if (last?.value === value && last.expiresAt === expiresAt && last.onEvicted === onEvicted) return last
    this.#last = { value, expiresAt, onEvicted }
    return this.#last
  }

  #forgetExpired(now: number): void {
    for (let n = 0; n < SWEPT_AT_A_TIME; n++) {
      this.#sweep ??= this.#entries.entries()
      const next = this.#sweep.next()
      if (next.done) {
        this.#sweep = undefined
        return
      }
      const [grantId, { expiresAt }] = next.value
      if (expiresAt <= now) this.#entries.delete(grantId)
    }
  }

  #evictOldest(now: number): void {
    const [oldest] = this.#entries
    const [grantId, { expiresAt, onEvicted }] = oldest!
    this.#entries.delete(grantId)
    if (expiresAt > now) onEvicted?.(grantId)
  }
}
