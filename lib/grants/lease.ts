import { randomUUID } from 'node:crypto'
import { detached } from '../concurrency/detached.js'
import { LEASE_MS, LEASE_SURE_MS, RENEW_EVERY_MS } from '../concurrency/time-constants.js'
import { ownProperties } from '../options/own-properties.js'
import type { GrantRecord, GrantState, GrantStore, Retention } from './grant-store.js'

/** The lease of one grant, for one refresh of this process. It is renewed until it is committed or released. */
export class Lease {
  readonly #grants: GrantStore
  readonly #grantId: string
  readonly #owner = randomUUID()
  #held = false
  #isReleased = false
  /** When the grant store was last asked and confirmed the lease, on the monotonic clock in milliseconds. */
  #confirmedAt = 0
  /**
   * A renewal came too late, the grant store refused it, or the lease is no longer renewed. If the lease is taken again, the
   * state shows the commits of other processes.
   */
  #hasLapsed = false

  constructor(grants: GrantStore, grantId: string) {
    this.#grants = grants
    this.#grantId = grantId
  }

  /**
   * Waits for the lease, or for a record newer than `revision`, for at most `waitMs`. If this lease is still held, it is released
   * first, since a grant store may make even its owner wait for it.
   */
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
    if (this.#held) {
      this.#stopRenewing()
      this.#held = false
      await this.#grants.release(this.#grantId, this.#owner)
    }
    const askedAt = performance.now()
    const response = ownProperties(await this.#grants.lease(this.#grantId, request))
    if (response.granted) {
      this.#held = true
      this.#hasLapsed = false
      // The lease may have been granted long before this process read the response. It was not granted before the request.
      this.#confirmedAt = askedAt
      this.#keepRenewing()
      // The caller released the lease before it was granted.
      if (this.#isReleased) await this.release()
    }
    return response
  }

  /** Stores a record and releases the lease. Works after the lease was lost, too: newer tokens must be kept. */
  async commit(record: GrantRecord, retention?: Retention): Promise<GrantState> {
    // A renewal that arrives after the commit could take the lease again. Without renewals it may run out, if the commit fails.
    this.#stopRenewing()
    this.#hasLapsed = true
    const state = ownProperties(await this.#grants.commit(this.#grantId, this.#owner, record, retention))
    this.#held = false
    return state
  }

  /** Releases the lease if it is held, or as soon as it is granted. */
  async release(): Promise<void> {
    this.#isReleased = true
    this.#stopRenewing()
    if (!this.#held) return
    this.#held = false
    await this.#grants.release(this.#grantId, this.#owner)
  }

  /** Whether the lease was granted, and has been neither committed nor released since. */
  get isHeld(): boolean {
    return this.#held
  }

  /**
   * Whether no other process can have held the lease since it was granted. After this process was suspended or blocked for
   * some seconds, it is not sure: another process may have taken the lease, spent the refresh token and released the lease. A later
   * renewal proves nothing.
   */
  get isSure(): boolean {
    return this.#held && !this.#hasLapsed && performance.now() - this.#confirmedAt <= LEASE_SURE_MS
  }

  /** Prolongs the lease. Resolves with `false` if it is lost. */
  async renew(): Promise<boolean> {
    const askedAt = performance.now()
    if (askedAt - this.#confirmedAt > LEASE_SURE_MS) this.#hasLapsed = true
    const renewed = await this.#grants.renew(this.#grantId, this.#owner, LEASE_MS)
    if (renewed) this.#confirmedAt = askedAt
    else this.#hasLapsed = true
    // A grant store that has lost the grant takes a renewal that arrives after the release for that of the holder.
    if (renewed && this.#isReleased) await this.#grants.release(this.#grantId, this.#owner)
    return renewed
  }

  #keepRenewing(): void {
    heldLeases.add(this)
    renewals ??= detached(() => setInterval(renewAll, RENEW_EVERY_MS).unref())
  }

  #stopRenewing(): void {
    heldLeases.delete(this)
    if (heldLeases.size > 0) return
    clearInterval(renewals)
    renewals = undefined
  }

  /** Whether the lease was confirmed long enough ago to be renewed. */
  get isDue(): boolean {
    return performance.now() - this.#confirmedAt >= RENEW_EVERY_MS / 2
  }
}

/** The leases that this process holds. One timer renews them all. */
const heldLeases = new Set<Lease>()
let renewals: NodeJS.Timeout | undefined

function renewAll(): void {
  for (const lease of heldLeases) {
    // A failed renewal is tried again at the next interval. A lost lease does not stop the refresh.
    if (lease.isDue) lease.renew().catch(() => {})
  }
}
