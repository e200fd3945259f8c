import type { Retention } from '../grants/grant-store.js'
import type { SessionAdapter } from '../sessions/session-adapter.js'
import type { EmitEvent } from '../tokens/event-emitter.js'

/** The part of a session that says how long it lives. */
type SessionLifetime = Pick<SessionAdapter, 'isCookieBased' | 'maxAgeMs'>

export interface RetentionsOptions {
  /** How long a session lives if its layer does not say so, in milliseconds. */
  readonly sessionMaxAgeMs: number | undefined
  /** Whether the session holds a reference to the tokens in the grant store, not a copy of them. */
  readonly isReference: boolean
  readonly emit: EmitEvent
}

const DAY_MS = 24 * 60 * 60 * 1000
/** How long a session is assumed to live if neither its layer nor the app says so. */
const DEFAULT_MAX_AGE_MS = 30 * DAY_MS

/** Decides how long grants and their ends are remembered: as long as their sessions could come back. */
export class Retentions {
  readonly #sessionMaxAgeMs: number | undefined
  readonly #isReference: boolean
  readonly #onGrantEvicted: (grantId: string) => void
  readonly #onEndEvicted: (grantId: string) => void

  constructor({ sessionMaxAgeMs, isReference, emit }: RetentionsOptions) {
    this.#sessionMaxAgeMs = sessionMaxAgeMs
    this.#isReference = isReference
    this.#onGrantEvicted = (grantId) => emit({ type: 'grant_evicted', grantId, ended: false })
    this.#onEndEvicted = (grantId) => emit({ type: 'grant_evicted', grantId, ended: true })
  }

  /**
   * Returns the retention of a grant with tokens. A stored session holds the newest tokens itself. So if its lifetime is not
   * known, the result is `undefined`, and the grant store decides.
   */
  ofGrant({ isCookieBased, maxAgeMs = this.#sessionMaxAgeMs }: SessionLifetime): Retention | undefined {
    const needsRecord = isCookieBased || this.#isReference
    if (maxAgeMs === undefined && !needsRecord) return undefined
    const ttlMs = maxAgeMs ?? DEFAULT_MAX_AGE_MS
    // The eviction of a grant in a stored session is no event: the copy in that session is the newest one.
    return { ttlMs, ...(needsRecord && { onEvicted: this.#onGrantEvicted }) }
  }

  /** Returns the retention of a grant with a reference, which finds the tokens only in the grant store. */
  ofReference(ttlMs: number): Retention {
    return { ttlMs, onEvicted: this.#onGrantEvicted }
  }

  /** Returns the retention of a grant that has ended. `maxAgeMs` is the lifetime of its session, if its layer knows it. */
  ofEnd(maxAgeMs = this.#sessionMaxAgeMs ?? DEFAULT_MAX_AGE_MS): Retention {
    return { ttlMs: maxAgeMs, onEvicted: this.#onEndEvicted }
  }
}
