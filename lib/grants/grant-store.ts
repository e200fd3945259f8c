/** A token set as a grant store keeps it. The text has a private format; a store only keeps it. */
export interface GrantRecord {
  /** Of two records of one grant, the one with the higher revision is newer. */
  readonly revision: number
  readonly tokens: string
  /**
   * Short texts by which `grantsWith()` finds the grant: digests that name its user, and its login at the authorization server.
   * Every process gives the same labels. The property is absent if there are none. `read()` and the other methods need not return
   * them.
   */
  readonly labels?: readonly string[]
  /**
   * Whether the store may have had the grant before. If so, a store that does not know the grant has lost it, and perhaps a lease
   * as well. A store that can lose data then waits before it leases the grant, so that the holder can renew first.
   */
  readonly isStoredAgain?: boolean
}

/**
 * Why a grant has ended. `'logged_out'`: tokens that arrive later are revoked at the authorization server. `'replaced'`: the same
 * user has logged in again. Tokens that arrive later are not revoked, since a server may tie both logins together.
 * `'backchannel_logout'`: the authorization server has logged the user out. Tokens that arrive later are revoked.
 */
export type GrantEnd = 'logged_out' | 'replaced' | 'backchannel_logout'

/** The state of a grant in a grant store. */
export interface GrantState {
  /** The newest record that was committed; absent if there was no commit, or if the store has forgotten it. */
  readonly record?: GrantRecord
  /** Why the grant has ended, if it has. An ended grant has no record, and a commit to it keeps nothing. */
  readonly ended?: GrantEnd
}

/** The record of a grant at the moment when it was ended. */
export interface EndedGrant extends GrantRecord {
  /**
   * Whether there was a lease that its owner had neither committed nor released. Then the refresh token of the record may have
   * been spent. A store that does not know this leaves the property out.
   */
  readonly isLeased?: boolean
}

/** A grant that has ended a short time ago. */
export interface RecentEnd {
  readonly grantId: string
  readonly ended: GrantEnd
}

export interface LeaseRequest {
  /** Names the caller: random, and different for each refresh. */
  readonly owner: string
  /** How long the lease holds unless it is renewed, in milliseconds. */
  readonly ttlMs: number
  /** How long to wait for the lease of another owner, in milliseconds. */
  readonly waitMs: number
  /** The revision that the caller has. A newer record ends the wait, whether or not the lease is held. */
  readonly revision: number
  /**
   * How long ago the grant was last refreshed, in milliseconds; absent if the caller does not know. With it a store can
   * distinguish a grant that it has forgotten after a long time from a grant that it has lost. A store may ignore it.
   */
  readonly idleMs?: number
}

/** How long a grant or its end is remembered: as long as its session could come back. */
export interface Retention {
  /** The least time from now, in milliseconds. A store may remember the grant or the end for longer. */
  readonly ttlMs: number
  /** Called when the store forgets the grant or the end sooner, for lack of memory. */
  readonly onEvicted?: (grantId: string) => void
}

/**
 * The store that all processes of an app share. It leases a grant to one process at a time, which may refresh the grant, and
 * keeps the newest token set of each grant.
 *
 * Every method is atomic. A method that cannot reach its storage rejects; the library turns that into `ERR_GRANT_STORE`. Use
 * `grantStoreContract()` of `session-token-manager/testing` to check a store of your own.
 *
 * `retention` is absent if the session has a copy of the tokens and its lifetime is not known: then the store decides. A store
 * that ignores `retention` must remember each grant and each end for at least as long as sessions live.
 */
export interface GrantStore {
  /**
   * Takes the lease of a grant. Waits if another owner holds it.
   *
   * Resolves with `granted: true` as soon as the caller holds the lease. Resolves with `granted: false` as soon as there is a
   * record newer than `revision`, the grant has ended, or `waitMs` has passed. The result holds the newest state in both cases.
   */
  lease(grantId: string, request: LeaseRequest): Promise<GrantState & { readonly granted: boolean }>
  /**
   * Prolongs a lease. Resolves with `false` if the caller no longer holds it. A lease that ran out may be prolonged if no other
   * owner has taken it. A store that can lose its knowledge of a grant, for example in a restart, may lease the grant to the
   * caller again. The library renews every 800 ms.
   */
  renew(grantId: string, owner: string, ttlMs: number): Promise<boolean>
  /**
   * Keeps the record if it is newer than the stored record and the grant has not ended. It does not matter which owner holds the
   * lease. Then releases the lease if the caller holds it. Resolves with the state after that.
   */
  commit(grantId: string, owner: string, record: GrantRecord, retention?: Retention): Promise<GrantState>
  /** Releases the lease if the caller holds it. */
  release(grantId: string, owner: string): Promise<void>
  /** Resolves with the newest state. Does not take the lease. */
  read(grantId: string): Promise<GrantState>
  /**
   * Ends the grant for good: deletes its record and remembers the end, for as long as `retention` says and for longer than any
   * request takes. If the grant has already ended, the first reason stays. Resolves with the deleted record, and with whether the
   * grant was leased.
   */
  end(grantId: string, why: GrantEnd, retention?: Retention): Promise<EndedGrant | undefined>
  /**
   * Optional, for a store whose storage may come back with an earlier state, for example after a failover. Calls the listener
   * whenever that may have happened. Then the library stores again all that this process knows and the store has lost. Returns a
   * function that stops the calls. Without this method the library notices the loss by `read()`, within a few seconds.
   */
  onLoss?(listener: () => void): () => void
  /**
   * Optional, with `subscribe()`: sends a short text to all processes that use the store. It holds no token. The library needs no
   * reply, and a text may be lost. Without these methods each process learns by its own requests that the authorization server
   * has asked for a pause.
   */
  publish?(text: string): Promise<void>
  /**
   * Calls the listener with each text that a process has published. Calls `onOpen` when the texts begin to arrive, and again when
   * they arrive again after a time in which some may have been lost: then the library reads the recent ends. Returns a function
   * that stops the calls.
   *
   * Calls `onInterrupted`, if the store notices it, when texts may be lost from now on. Then the library reads the recent ends
   * twice a second, until the store calls `onOpen`.
   */
  subscribe?(listener: (text: string) => void, onOpen?: () => void, onInterrupted?: () => void): () => void
  /**
   * Optional: resolves with the ids of the grants whose records have a label. It lists every grant that has not ended and that the
   * store remembers; it may list grants that have ended or were forgotten. It keeps a label for no longer than the grant. Without
   * this method `end({ sub })`, `end({ sid })` and back-channel logout are not available.
   */
  grantsWith?(label: string): Promise<readonly string[]>
  /**
   * Optional, for a store that outlives a process: resolves with the grants that have ended within the last `withinMs`
   * milliseconds, which is at most an hour. It may list older ends. A process that starts, or was cut off from the texts of the
   * other processes, reads this list before it serves tokens. Without this method the process learns of an end when it next asks
   * about the grant.
   */
  recentEnds?(withinMs: number): Promise<readonly RecentEnd[]>
}
