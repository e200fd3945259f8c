import type { Retention } from '../../grants/grant-store.js'
import type { SessionHome } from '../../sessions/session-adapter.js'
import type { GrantIdentity } from '../../tokens/grant-proof.js'
import type { TokenSet } from '../../tokens/token-set.js'

/** Which places lack a token set, or an end. */
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
  /** Whether the grant store may have lost the record. */
  isInDoubt: boolean
  /** Whether the event `tokens_unsaved` was emitted, and no store has stored the tokens since. */
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

/** The entries, each under the identity of its grant or share, in the order in which they were noted. */
export class RestorationEntries extends Map<string, RestorationEntry> {
  /** Returns the entry that was noted last. */
  newest(): RestorationEntry | undefined {
    return [...this.values()].at(-1)
  }

  /** Returns the entries that a store lacks or may lack: the most recent first, and entries with failed attempts last. */
  pending(): RestorationEntry[] {
    const pending = [...this.values()].filter((entry) => entry.isInDoubt || isLacking(entry))
    return pending.reverse().sort((a, b) => a.failures - b.failures)
  }

  /** Adds an entry as the one that was noted last. */
  put(identity: string, entry: RestorationEntry): void {
    this.delete(identity)
    this.set(identity, entry)
    if (this.size > MAX_GRANTS) this.#deleteOne()
  }

  /** Deletes the entries that are too old to matter. */
  deleteOld(): void {
    const now = performance.now()
    for (const [identity, { notedAt }] of this) {
      if (now - notedAt < MAX_AGE_MS) return
      this.delete(identity)
    }
  }

  #deleteOne(): void {
    const [oldest] = this.keys()
    const stored = [...this].find(([, entry]) => !isLacking(entry))
    this.delete(stored?.[0] ?? oldest!)
  }
}
