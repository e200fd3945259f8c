/** A token set as a grant store keeps it. The text is the library's own; a store never looks into it. */
export interface GrantRecord {
  /** Of two records of one grant the higher revision is the newer one. */
  readonly revision: number
  readonly tokens: string
}

/**
 * Why a grant has ended. Tokens that still arrive for one that was logged out are revoked at the authorization server;
 * for one that a later login of the same user replaced they are not, since servers may tie the two together.
 */
export type GrantEnd = 'logged_out' | 'replaced'

/** What a grant store knows of a grant. */
export interface GrantState {
  /** The newest record that was committed; absent when none was, or when the store has forgotten it. */
  readonly record?: GrantRecord
  /** Why the grant has ended, if it has. An ended grant has no record and takes none. */
  readonly ended?: GrantEnd
}

/** What a grant store had of a grant that it has ended. */
export interface EndedGrant extends GrantRecord {
  /**
   * Whether there was a lease that its owner had neither committed nor released. The refresh token of the record may have
   * been spent then. A store that cannot say so leaves it out.
   */
  readonly isLeased?: boolean
}

export interface LeaseRequest {
  /** Names who asks: random, and another one for every refresh. */
  readonly owner: string
  /** For how long the lease holds unless it is renewed, in milliseconds. */
  readonly ttlMs: number
  /** For how long to wait for another owner's lease, in milliseconds. */
  readonly waitMs: number
  /** The revision that the caller has: a newer record ends the wait, lease or not. */
  readonly revision: number
  /**
   * How long ago the grant was refreshed last as far as the caller knows, in milliseconds; absent when it does not know. By
   * this a store tells a grant that it has forgotten, since it was old, from one that it has lost. It may be ignored.
   */
  readonly idleMs?: number
}

/** For how long a grant, or that it has ended, is worth remembering: as long as its session could come back. */
export interface Retention {
  /** For how long from now at least, in milliseconds. A store may remember it for longer. */
  readonly ttlMs: number
  /** To be called when the store forgets it sooner, for want of memory. */
  readonly onEvicted?: (grantId: string) => void
}

/**
 * Where the processes that serve a session agree: leases a grant to one refresher at a time and keeps its newest
 * token set.
 *
 * Every method is atomic. A method that cannot reach its storage rejects; the library turns that into
 * `ERR_GRANT_STORE`. Whether a store of your own does what it must, `grantStoreContract()` of
 * `session-token-manager/testing` tells.
 *
 * `retention` is absent where the session has a copy of the tokens and its lifetime is not known: then the store decides. A
 * store that ignores it must remember grants and ends for as long as sessions live by itself.
 */
export interface GrantStore {
  /**
   * Takes the lease of a grant, waiting for its holder if there is one.
   *
   * Resolves with `granted: false` as soon as there is a record newer than `revision`, the grant has ended, or `waitMs`
   * is over; with `granted: true` as soon as the lease is the caller's. The newest state comes along either way.
   */
  lease(grantId: string, request: LeaseRequest): Promise<GrantState & { readonly granted: boolean }>
  /**
   * Prolongs a lease. Resolves with `false` when it is no longer the caller's. One that ran out and that nobody else has
   * taken may be prolonged; and a store that may lose what it knows of a grant, in a restart say, may lease it again to
   * the one who asks here. The library renews every 400 ms.
   */
  renew(grantId: string, owner: string, ttlMs: number): Promise<boolean>
  /**
   * Keeps the record if it is newer than the one held and the grant has not ended, whoever holds the lease now; then
   * releases the lease if it is the caller's. Resolves with the state after that.
   */
  commit(grantId: string, owner: string, record: GrantRecord, retention?: Retention): Promise<GrantState>
  /** Releases the lease if it is the caller's. */
  release(grantId: string, owner: string): Promise<void>
  /** The newest state, without taking the lease. */
  read(grantId: string): Promise<GrantState>
  /**
   * Ends the grant for good: forgets its record and remembers that it has ended, for as long as `retention` says and for
   * longer than any request takes. The first reason stands. Resolves with the record it forgot, and whether the grant was
   * leased.
   */
  end(grantId: string, why: GrantEnd, retention?: Retention): Promise<EndedGrant | undefined>
  /**
   * Optional, for a store whose storage may come back with an earlier state, after a failover for example. Calls the
   * listener whenever that may have happened; then the library stores again what this process knows and the store has
   * lost. Returns how to stop. Without it the library finds out by `read()`, within a few seconds.
   */
  onLoss?(listener: () => void): () => void
}
