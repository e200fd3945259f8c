import type { TokenEventListener } from './events.js'
import type { Retention } from './grants/grant-store.js'
import type { SessionAdapter } from './sessions/session-adapter.js'

/** What is asked of a session. */
type LivingSession = Pick<SessionAdapter, 'isInAnswer' | 'maxAgeMs'>

export interface RetentionsOptions {
  /** For how long a session lives whose layer does not say, in milliseconds. */
  readonly sessionMaxAgeMs: number | undefined
  /** Whether what the session holds leads to the tokens, rather than being a copy of them. */
  readonly isReference: boolean
  readonly emit: TokenEventListener
}

const DAY_MS = 24 * 60 * 60 * 1000
/** For how long a session is taken to live of which neither its layer nor the app says. */
const DEFAULT_MAX_AGE_MS = 30 * DAY_MS

/** For how long grants and their ends are remembered: as long as their sessions could come back. */
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
   * Of a grant with tokens. A session in a store has the newest ones by itself, so where its lifetime is not known the grant
   * store decides.
   */
  ofGrant({ isInAnswer, maxAgeMs = this.#sessionMaxAgeMs }: LivingSession): Retention | undefined {
    const needsIt = isInAnswer || this.#isReference
    if (maxAgeMs === undefined && !needsIt) return undefined
    const ttlMs = maxAgeMs ?? DEFAULT_MAX_AGE_MS
    // A store that has the session does not need to be told of a grant that is forgotten: its copy is the newest one.
    return { ttlMs, ...(needsIt && { onEvicted: this.#onGrantEvicted }) }
  }

  /** Of a grant that has ended, by what the layer of its session says. */
  ofEnd(maxAgeMs = this.#sessionMaxAgeMs ?? DEFAULT_MAX_AGE_MS): Retention {
    return { ttlMs: maxAgeMs, onEvicted: this.#onEndEvicted }
  }
}
