import { ConfigurationError } from '../errors.js'
import { ownOptions } from '../own-options.js'
import type {
  EndedGrant,
  GrantEnd,
  GrantRecord,
  GrantState,
  GrantStore,
  LeaseRequest,
  Retention,
} from './grant-store.js'
import { Remembered } from './remembered.js'

export interface MemoryGrantStoreOptions {
  /**
   * How many grants are remembered at most, and ten times as many ends. A grant is remembered for as long as its session
   * could come back. Beyond `maxGrants` the least recently refreshed one is forgotten before that, which the event
   * `grant_evicted` tells: it is still in the session, but an older copy of that session is of no use any more. A grant
   * takes some 0.7 KB with opaque tokens, and an end 0.1 KB. Default: 100,000.
   */
  maxGrants?: number
}

/** For how long a grant is remembered where the caller leaves it to the store. */
const GRANT_TTL_MS = 24 * 60 * 60 * 1000

interface Lease {
  readonly owner: string
  /** On the monotonic clock, in milliseconds. */
  expiresAt: number
}

/**
 * Keeps grants in this process's memory: all that an app in a single process needs.
 *
 * Leases are held apart from the grants and are never evicted. A restart forgets everything.
 *
 * @throws `ConfigurationError` when `maxGrants` is not a whole number from 1
 *
 * @example
 * sessionTokens({ …, grants: memoryGrantStore({ maxGrants: 50_000 }) })
 */
export function memoryGrantStore(options: MemoryGrantStoreOptions = {}): GrantStore {
  if (typeof options !== 'object' || options === null) {
    throw new ConfigurationError(
      'The options of memoryGrantStore() must be an object: memoryGrantStore({ maxGrants: 50_000 }).',
    )
  }
  const { maxGrants = 100_000 } = ownOptions(options, ['maxGrants'], 'memoryGrantStore()')
  if (!Number.isSafeInteger(maxGrants) || maxGrants < 1) {
    throw new ConfigurationError('`maxGrants` must be a whole number from 1, e.g. maxGrants: 100_000.')
  }
  return new MemoryGrantStore(maxGrants)
}

/** Whether a grant store forgets everything when the process ends. */
export function isMemoryGrantStore(store: GrantStore): boolean {
  return store instanceof MemoryGrantStore
}

class MemoryGrantStore implements GrantStore {
  readonly #records: Remembered<GrantRecord>
  readonly #ended: Remembered<GrantEnd>
  readonly #leases = new Map<string, Lease>()
  readonly #waiting = new Map<string, Set<() => void>>()

  constructor(maxGrants: number) {
    const now = () => performance.now()
    this.#records = new Remembered(now, maxGrants)
    this.#ended = new Remembered(now, maxGrants * 10)
  }

  async lease(grantId: string, request: LeaseRequest): Promise<GrantState & { granted: boolean }> {
    const deadline = performance.now() + request.waitMs
    for (;;) {
      const state = this.#state(grantId)
      const holder = this.#holder(grantId)
      const newer = (state.record?.revision ?? 0) > request.revision
      if (state.ended || newer) return { ...state, granted: false }
      if (!holder) {
        this.#leases.set(grantId, { owner: request.owner, expiresAt: performance.now() + request.ttlMs })
        return { ...state, granted: true }
      }
      const left = deadline - performance.now()
      if (left <= 0) return { ...state, granted: false }
      await this.#change(grantId, Math.min(left, holder.expiresAt - performance.now()))
    }
  }

  async renew(grantId: string, owner: string, ttlMs: number): Promise<boolean> {
    const lease = this.#holder(grantId)
    if (lease?.owner !== owner) return false
    lease.expiresAt = performance.now() + ttlMs
    return true
  }

  async commit(
    grantId: string,
    owner: string,
    record: GrantRecord,
    { ttlMs = GRANT_TTL_MS, onEvicted }: Partial<Retention> = {},
  ): Promise<GrantState> {
    const known = this.#records.get(grantId)
    if (!this.#ended.has(grantId) && record.revision > (known?.revision ?? 0))
      this.#records.set(grantId, record, ttlMs, onEvicted)
    this.#release(grantId, owner)
    return this.#state(grantId)
  }

  async release(grantId: string, owner: string): Promise<void> {
    this.#release(grantId, owner)
  }

  async read(grantId: string): Promise<GrantState> {
    return this.#state(grantId)
  }

  async end(
    grantId: string,
    why: GrantEnd,
    { ttlMs = GRANT_TTL_MS, onEvicted }: Partial<Retention> = {},
  ): Promise<EndedGrant | undefined> {
    const record = this.#records.get(grantId)
    const isLeased = this.#leases.has(grantId)
    this.#records.delete(grantId)
    this.#ended.set(grantId, this.#ended.get(grantId) ?? why, ttlMs, onEvicted)
    this.#wake(grantId)
    return record && { ...record, ...(isLeased && { isLeased }) }
  }

  #state(grantId: string): GrantState {
    const ended = this.#ended.get(grantId)
    if (ended) return { ended }
    const record = this.#records.get(grantId)
    return record ? { record } : {}
  }

  #holder(grantId: string): Lease | undefined {
    const lease = this.#leases.get(grantId)
    if (lease && lease.expiresAt <= performance.now()) {
      this.#leases.delete(grantId)
      return undefined
    }
    return lease
  }

  #release(grantId: string, owner: string): void {
    if (this.#leases.get(grantId)?.owner === owner) this.#leases.delete(grantId)
    this.#wake(grantId)
  }

  #wake(grantId: string): void {
    const waiting = this.#waiting.get(grantId)
    this.#waiting.delete(grantId)
    for (const wake of waiting ?? []) wake()
  }

  /** Resolves when something about the grant has changed, or after `ms`. */
  #change(grantId: string, ms: number): Promise<void> {
    return new Promise((resolve) => {
      const waiting = this.#waiting.get(grantId) ?? new Set()
      this.#waiting.set(grantId, waiting)
      const wake = () => {
        clearTimeout(timer)
        waiting.delete(wake)
        if (waiting.size === 0 && this.#waiting.get(grantId) === waiting) this.#waiting.delete(grantId)
        resolve()
      }
      // One millisecond more, as a timer may fire a little early and the loop would then spin.
      const timer = setTimeout(wake, Math.max(ms, 0) + 1)
      waiting.add(wake)
    })
  }
}
