/** Times of expiry are rounded up to a multiple of this, in milliseconds. So equal entries of one time share one object. */
const ROUNDED_MS = 60_000
/** How many entries are checked for expiry at each change, so that no change takes long. */
const SWEPT_AT_A_TIME = 4

interface Entry<V> {
  readonly value: V
  /** The time of expiry on the clock of the map, in milliseconds. */
  readonly expiresAt: number
  readonly onEvicted: ((grantId: string) => void) | undefined
}

/**
 * A map from grant ids to values in which each entry expires after its own time. It holds at most `max` entries. Beyond that the
 * entry that was set longest ago is evicted before its time, and its `onEvicted` is called.
 *
 * An entry takes about 100 bytes, with the grant id, if many entries share one value, as the ends of grants do.
 */
export class ExpiringMap<V> {
  readonly #entries = new Map<string, Entry<V>>()
  readonly #now: () => number
  readonly #max: number
  /** The position of the sweep for expired entries. */
  #sweep: Iterator<[string, Entry<V>]> | undefined
  #last: Entry<V> | undefined

  readonly #onGone: (grantId: string, value: V) => void

  /**
   * @param onGone called when an entry has expired, or was evicted or deleted
   * @param now a clock that never jumps, in milliseconds
   */
  constructor(
    max: number,
    onGone: (grantId: string, value: V) => void = () => {},
    now: () => number = () => performance.now(),
  ) {
    this.#max = max
    this.#onGone = onGone
    this.#now = now
  }

  get(grantId: string): V | undefined {
    const entry = this.#entries.get(grantId)
    if (!entry) return undefined
    if (entry.expiresAt > this.#now()) return entry.value
    this.#remove(grantId, entry)
    return undefined
  }

  has(grantId: string): boolean {
    return this.get(grantId) !== undefined
  }

  /** Sets the value of a grant for `ttlMs`, and for at least the time that its previous value had left. */
  set(grantId: string, value: V, ttlMs: number, onEvicted?: (grantId: string) => void): void {
    const now = this.#now()
    const leftUntil = this.#entries.get(grantId)?.expiresAt ?? 0
    const until = Math.ceil((now + ttlMs) / ROUNDED_MS) * ROUNDED_MS
    const entry = this.#entryOf(value, Math.max(until, leftUntil), onEvicted)
    // A Map keeps the order of insertion, so the first entry is the one that was set longest ago.
    this.#entries.delete(grantId)
    this.#entries.set(grantId, entry)
    this.#forgetExpired(now)
    if (this.#entries.size > this.#max) this.#evictOldest(now)
  }

  delete(grantId: string): void {
    const entry = this.#entries.get(grantId)
    if (entry && entry === this.#last) this.#last = undefined
    if (entry) this.#remove(grantId, entry)
    // An iterator that stands still may keep the deleted entries in memory.
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
      const [grantId, entry] = next.value
      if (entry.expiresAt <= now) this.#remove(grantId, entry)
    }
  }

  #remove(grantId: string, { value }: Entry<V>): void {
    this.#entries.delete(grantId)
    this.#onGone(grantId, value)
  }

  #evictOldest(now: number): void {
    const [oldest] = this.#entries
    const [grantId, entry] = oldest!
    this.#remove(grantId, entry)
    if (entry.expiresAt > now) entry.onEvicted?.(grantId)
  }
}
