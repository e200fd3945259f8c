import { LRUCache } from 'lru-cache'
import { ConfigurationError } from '../errors.js'
import { refuseUnknown } from '../spelling.js'
import type { GrantEnd, GrantRecord, GrantState, GrantStore, LeaseRequest } from './grant-store.js'

export interface MemoryGrantStoreOptions {
  /**
   * How many grants are remembered, the least recently refreshed being forgotten first. What is forgotten here is
   * still in the session. Default: 10,000.
   */
  maxGrants?: number
}

interface Lease {
  readonly owner: string
  /** On the monotonic clock, in milliseconds. */
  expiresAt: number
}

/**
 * Keeps grants in this process's memory: all that an app in a single process needs.
 *
 * Leases are held apart from the bounded cache and are never evicted.
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
  refuseUnknown(options, ['maxGrants'] satisfies (keyof MemoryGrantStoreOptions)[], 'memoryGrantStore()')
  const { maxGrants = 10_000 } = options
  if (!Number.isSafeInteger(maxGrants) || maxGrants < 1) {
    throw new ConfigurationError('`maxGrants` must be a whole number from 1, e.g. maxGrants: 10_000.')
  }
  return new MemoryGrantStore(maxGrants)
}

/** Whether a grant store forgets everything when the process ends. */
export function isMemoryGrantStore(store: GrantStore): boolean {
  return store instanceof MemoryGrantStore
}

class MemoryGrantStore implements GrantStore {
  readonly #records: LRUCache<string, GrantRecord>
  readonly #ended: LRUCache<string, GrantEnd>
  readonly #leases = new Map<string, Lease>()
  readonly #waiting = new Map<string, Set<() => void>>()

  constructor(maxGrants: number) {
    this.#records = new LRUCache({ max: maxGrants })
    this.#ended = new LRUCache({ max: maxGrants * 10 })
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

  async commit(grantId: string, owner: string, record: GrantRecord): Promise<GrantState> {
    const known = this.#records.peek(grantId)
    if (!this.#ended.has(grantId) && record.revision > (known?.revision ?? 0))
      this.#records.set(grantId, record)
    this.#release(grantId, owner)
    return this.#state(grantId)
  }

  async release(grantId: string, owner: string): Promise<void> {
    this.#release(grantId, owner)
  }

  async read(grantId: string): Promise<GrantState> {
    return this.#state(grantId)
  }

  async end(grantId: string, why: GrantEnd): Promise<GrantRecord | undefined> {
    const record = this.#records.peek(grantId)
    this.#records.delete(grantId)
    this.#ended.set(grantId, this.#ended.get(grantId) ?? why)
    this.#wake(grantId)
    return record
  }

  #state(grantId: string): GrantState {
    const ended = this.#ended.get(grantId)
    if (ended) return { ended }
    const record = this.#records.peek(grantId)
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
