/** How many reports are remembered. A report that is forgotten may be made again. */
const MAX_REPORTED = 10_000

/** Remembers the names of reports, so that each report is made once and not at each request. */
export class ReportedOnce {
  /** In the order of their last use. */
  readonly #reported = new Set<string>()

  /** Whether something was reported. */
  has(name: string): boolean {
    return this.#reported.has(name)
  }

  /** Notes that something is reported. Returns whether it is the first time. */
  isFirst(name: string): boolean {
    const isFirst = !this.#reported.delete(name)
    this.#reported.add(name)
    if (this.#reported.size > MAX_REPORTED) this.#reported.delete(this.#reported.values().next().value!)
    return isFirst
  }
}
