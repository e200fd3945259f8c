import type { Retention } from '../../grants/grant-store.js'
import type { SessionHome } from '../../sessions/session-adapter.js'
import type { GrantIdentity } from '../../tokens/grant-proof.js'
import type { TokenSet } from '../../tokens/token-set.js'

/** The places that do not have a token set, or an end. */
export interface Missing {
  readonly record: boolean
  readonly copy: boolean
}

/** The stores that lack the tokens or the end of one grant, or the end of a share. The registry has the tokens and the ends. */
export interface RestorationEntry {
  readonly of: GrantIdentity
  /** Where the session is stored; absent if the session goes with the response. */
  readonly home: SessionHome | undefined
  /** The share of that session. */
  readonly share: string | undefined
  readonly notedAt: number
  /** How long the grant store keeps the grant. */
  retention: Retention | undefined
  /** The newest revision that the grant store has confirmed, or shown. */
  revision: number
  /** The tokens that a store lacks. They are kept here, since the registry may forget them. */
  tokens: TokenSet | undefined
  lacksRecord: boolean
  lacksCopy: boolean
  /** The grant store may have lost the record. */
  isInDoubt: boolean
  /** The event `tokens_unsaved` was emitted, and no store has stored the tokens since. */
  isReportedUnsaved: boolean
  failures: number
}

export function isLacking({ lacksCopy, lacksRecord }: RestorationEntry): boolean {
  return lacksCopy || lacksRecord
}

/** The largest number of entries. Beyond that, the entries that were noted longest ago are forgotten. */
const MAX_GRANTS = 10_000
/** A store that goes back further than this, in milliseconds, is not noticed. */
const MAX_AGE_MS = 2 * 3_600_000

/** The entries in the order in which they were noted. */
export class RestorationEntries {
  readonly #entries = new Map<string, RestorationEntry>()

  get size(): number {
    return this.#entries.size
  }

  get(identity: string): RestorationEntry | undefined {
    return this.#entries.get(identity)
  }

  all(): RestorationEntry[] {
    return [...this.#entries.values()]
  }

  /** Returns the entry that was noted last. */
  newest(): RestorationEntry | undefined {
    return this.all().at(-1)
  }

  /** Returns the entries that a store lacks or may lack: the most recent first, and entries with failed attempts last. */
  pending(): RestorationEntry[] {
    const pending = this.all().filter((entry) => entry.isInDoubt || isLacking(entry))
    return pending.reverse().sort((a, b) => a.failures - b.failures)
  }

  put(identity: string, entry: RestorationEntry): void {
    this.#entries.delete(identity)
    this.#entries.set(identity, entry)
    if (this.#entries.size > MAX_GRANTS) this.#deleteOne()
  }

  delete(identity: string): void {
    this.#entries.delete(identity)
  }

  /** Deletes the entries that are too old to matter. */
  deleteOld(): void {
    const now = performance.now()
    for (const [identity, { notedAt }] of this.#entries) {
      if (now - notedAt < MAX_AGE_MS) return
      this.#entries.delete(identity)
    }
  }

  #deleteOne(): void {
    const [oldest] = this.#entries.keys()
    const stored = [...this.#entries].find(([, entry]) => !isLacking(entry))
    this.#entries.delete(stored?.[0] ?? oldest!)
  }
}
