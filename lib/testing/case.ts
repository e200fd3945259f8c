import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import { inspect } from 'node:util'
import type { GrantRecord, GrantState, GrantStore, LeaseRequest } from '../grants/grant-store.js'

/** The store, the new grant and the helpers with which a case of the contract works. */
export interface CaseContext {
  readonly store: GrantStore
  readonly grant: string
  /** The length of a lease that the case sees expire. */
  readonly shortMs: number
  /** The length of a lease that does not expire during the case, so that no waiter is woken by its expiry. */
  readonly longMs: number
  /** Requests a long lease, with a long wait, unless `request` has other values. */
  lease(
    owner: string,
    request?: Partial<LeaseRequest>,
    grantId?: string,
  ): Promise<GrantState & { readonly granted: boolean }>
  /** Whether the lease can be taken without a wait. */
  isFree(): Promise<boolean>
  /** Resolves when a lease of `shortMs` that was taken before has expired by the store's own time. */
  shortLeasesAreOver(): Promise<void>
  /** Fails if the response has arrived; gives a remote store the time to begin its wait. */
  stillWaiting(response: Promise<unknown>): Promise<void>
}

/** One requirement on a grant store, and whether its check depends on a short lease. */
export type Case = readonly [
  title: string,
  check: (context: CaseContext) => Promise<unknown>,
  races?: 'a short lease',
]

/** How much longer than `shortMs` a long lease is. */
const LONG = 100

export function contextOn(store: GrantStore, shortMs: number): CaseContext {
  const grant = randomUUID()
  const longMs = LONG * shortMs
  const lease: CaseContext['lease'] = (owner, request = {}, grantId = grant) =>
    store.lease(grantId, { owner, ttlMs: longMs, waitMs: longMs, revision: 0, ...request })
  return {
    store,
    grant,
    shortMs,
    longMs,
    lease,
    async isFree() {
      const { granted } = await lease('isFree', { waitMs: 0, revision: Number.MAX_SAFE_INTEGER })
      if (granted) await store.release(grant, 'isFree')
      return granted
    },
    async shortLeasesAreOver() {
      const other = randomUUID()
      await lease('first', { ttlMs: shortMs }, other)
      await lease('second', {}, other)
    },
    async stillWaiting(response) {
      const first = await Promise.race([response, delay(0.4 * shortMs, 'waiting')])
      assert.equal(first, 'waiting', 'the lease should have been waited for')
    },
  }
}

export function record(revision: number, what = 'tokens'): GrantRecord {
  return { revision, tokens: `${what} ${revision}` }
}

/** Compares one result; `what` names it in the message. */
export function is(response: unknown, expected: unknown, what: string): void {
  assert.equal(response, expected, `${what}: expected ${inspect(expected)}, got ${inspect(response)}`)
}

/** Compares a store's response. A property that is `undefined` counts as absent. */
export function same(response: unknown, expected: unknown): void {
  assert.deepEqual(withoutUndefined(response), expected)
}

function withoutUndefined(value: unknown): unknown {
  if (typeof value !== 'object' || value === null) return value
  const present = Object.entries(value).filter(([, property]) => property !== undefined)
  return Object.fromEntries(present.map(([name, property]) => [name, withoutUndefined(property)]))
}
