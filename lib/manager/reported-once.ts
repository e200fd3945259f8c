import { LRUCache } from 'lru-cache'

/** How many reports are remembered. A report that is forgotten may be made again. */
const MAX_REPORTED = 10_000

/** Remembers the names of reports, so that each report is made once and not at each request. */
export class ReportedOnce {
  readonly #reported = new LRUCache<string, true>({ max: MAX_REPORTED })

  /** Returns whether something is reported for the first time. */
  isFirst(name: string): boolean {
    if (this.#reported.get(name)) return false
    this.#reported.set(name, true)
    return true
  }
}
