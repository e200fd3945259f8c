import { randomUUID } from 'node:crypto'
import type { GrantRecord, GrantState, GrantStore, Retention } from './grant-store.js'

/** How long a lease holds unless it is renewed. A process that dies holds the others up for about this long. */
export const LEASE_MS = 5_000
/** How often it is renewed. A grant store that has lost it finds out that it is held from this. */
export const RENEW_EVERY_MS = 400

/** One process's turn to refresh a grant: renewed until it is committed or released. */
export class Lease {
  readonly #grants: GrantStore
  readonly #grantId: string
  readonly #owner = randomUUID()
  #renewal: NodeJS.Timeout | undefined
  #held = false
  #over = false
  /** When it was known last to be this process's, in milliseconds since the process began. */
  #knownAt = 0

  constructor(grants: GrantStore, grantId: string) {
    this.#grants = grants
    this.#grantId = grantId
  }

  /** Waits for the lease, or for a record newer than `revision`, for `waitMs` at most. */
  async take(
    revision: number,
    waitMs: number,
    idleMs?: number,
  ): Promise<GrantState & { readonly granted: boolean }> {
    const request = {
      owner: this.#owner,
      ttlMs: LEASE_MS,
      waitMs,
      revision,
      ...(idleMs !== undefined && { idleMs }),
    }
    const askedAt = performance.now()
    const answer = await this.#grants.lease(this.#grantId, request)
    if (answer.granted) {
      this.#held = true
      // When it was granted nobody says: the answer may have found this process standing still.
      this.#knownAt = askedAt
      this.#keepRenewing()
      // It came after the caller had given up.
      if (this.#over) await this.release()
    }
    return answer
  }

  /** Stores a record and releases the lease. Also after the lease was lost: what is newer is worth keeping. */
  async commit(record: GrantRecord, retention?: Retention): Promise<GrantState> {
    // A renewal that arrives after it might take the lease again.
    this.#stopRenewing()
    const state = await this.#grants.commit(this.#grantId, this.#owner, record, retention)
    this.#held = false
    return state
  }

  /** Releases the lease if it is held, or as soon as it is. */
  async release(): Promise<void> {
    this.#over = true
    this.#stopRenewing()
    if (!this.#held) return
    this.#held = false
    await this.#grants.release(this.#grantId, this.#owner)
  }

  /** Whether it was granted, and has been neither committed nor released since. */
  get isHeld(): boolean {
    return this.#held
  }

  /** Whether nothing has been heard of it for so long that another process may have it: this one may have stood still. */
  get isDoubtful(): boolean {
    return this.#held && performance.now() - this.#knownAt > LEASE_MS / 2
  }

  /** Prolongs the lease. Resolves with `false` if it is lost. */
  async renew(): Promise<boolean> {
    const askedAt = performance.now()
    const renewed = await this.#grants.renew(this.#grantId, this.#owner, LEASE_MS)
    if (renewed) this.#knownAt = askedAt
    return renewed
  }

  #keepRenewing(): void {
    this.#stopRenewing()
    this.#renewal = setInterval(() => {
      // A renewal that fails is tried again at the next beat; a lease that is lost does not stop the refresh.
      this.renew().catch(() => {})
    }, RENEW_EVERY_MS)
    this.#renewal.unref()
  }

  #stopRenewing(): void {
    clearInterval(this.#renewal)
  }
}
