import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import { inspect } from 'node:util'
import type { GrantRecord, GrantState, GrantStore, LeaseRequest } from '../grants/grant-store.js'

/** What a case of the contract plays on: a store, and a grant that nobody knows yet. */
export interface Scene {
  readonly store: GrantStore
  readonly grant: string
  /** The length of a lease that the case sees expire. */
  readonly shortMs: number
  /** Longer than the case may take: what is to be woken must be woken by something else. */
  readonly longMs: number
  /** Asks for a lease that holds long, and waits long for it, unless told otherwise. */
  lease(
    owner: string,
    request?: Partial<LeaseRequest>,
    grantId?: string,
  ): Promise<GrantState & { readonly granted: boolean }>
  /** Whether the lease is to be had without waiting. */
  isFree(): Promise<boolean>
  /** Resolves when a lease of `shortMs` that was taken before has expired by the store's own time. */
  shortLeasesAreOver(): Promise<void>
  /** Fails if the answer is there already; gives a store that is elsewhere the time to begin waiting. */
  stillWaiting(answer: Promise<unknown>): Promise<void>
}

/** One thing that a grant store must do, and whether it must be done while a short lease holds. */
export type Case = readonly [title: string, play: (scene: Scene) => Promise<unknown>, races?: 'a short lease']

/** How much longer than `shortMs` a long lease is. */
const LONG = 100

export function sceneOn(store: GrantStore, shortMs: number): Scene {
  const grant = randomUUID()
  const longMs = LONG * shortMs
  const lease: Scene['lease'] = (owner, request = {}, grantId = grant) =>
    store.lease(grantId, { owner, ttlMs: longMs, waitMs: longMs, revision: 0, ...request })
  return {
    store,
    grant,
    shortMs,
    longMs,
    lease,
    async isFree() {
      const { granted } = await lease('whoever asks', { waitMs: 0, revision: Number.MAX_SAFE_INTEGER })
      if (granted) await store.release(grant, 'whoever asks')
      return granted
    },
    async shortLeasesAreOver() {
      const other = randomUUID()
      await lease('first', { ttlMs: shortMs }, other)
      await lease('second', {}, other)
    },
    async stillWaiting(answer) {
      const first = await Promise.race([answer, delay(0.4 * shortMs, 'waiting')])
      assert.equal(first, 'waiting', 'the lease was to be waited for')
    },
  }
}

export function record(revision: number, what = 'tokens'): GrantRecord {
  return { revision, tokens: `${what} ${revision}` }
}

/** Compares what came of one question; `what` names it in the message. */
export function is(answer: unknown, expected: unknown, what: string): void {
  assert.equal(answer, expected, `${what}: expected ${inspect(expected)}, got ${inspect(answer)}`)
}

/** Compares what a store answered. A property that is undefined counts as absent. */
export function same(answer: unknown, expected: unknown): void {
  assert.deepEqual(withoutUndefined(answer), expected)
}

function withoutUndefined(value: unknown): unknown {
  if (typeof value !== 'object' || value === null) return value
  const present = Object.entries(value).filter(([, property]) => property !== undefined)
  return Object.fromEntries(present.map(([name, property]) => [name, withoutUndefined(property)]))
}
