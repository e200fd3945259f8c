import { count } from '../options/option-kinds.js'
import { checkOptions, type OptionTable } from '../options/option-table.js'
import { ownProperties } from '../options/own-properties.js'
import { ExpiringMap } from './expiring-map.js'
import type {
  EndedGrant,
  GrantEnd,
  GrantRecord,
  GrantState,
  GrantStore,
  LeaseRequest,
  Retention,
} from './grant-store.js'
import { LabelIndex } from './label-index.js'

export interface MemoryGrantStoreOptions {
  /**
   * The largest number of grants that are remembered. Ten times as many ends are remembered. A grant is remembered for as long as
   * its session could come back. Beyond `maxGrants` the least recently refreshed grant is forgotten, with the event
   * `grant_evicted`: its tokens are still in the session, but an older copy of that session can no longer be used. A grant takes
   * about 0.7 KB with opaque tokens, and an end 0.1 KB. Default: 100,000.
   */
  maxGrants?: number
}

const OPTIONS = { maxGrants: count(100_000, { least: 1 }) } satisfies OptionTable<MemoryGrantStoreOptions>

/** How long a grant or an end is remembered without a `retention`. */
const GRANT_TTL_MS = 24 * 60 * 60 * 1000

interface Lease {
  readonly owner: string
  /** On the monotonic clock, in milliseconds. */
  expiresAt: number
}

/**
 * Creates a grant store in the memory of this process, for an app that runs as a single process.
 *
 * Leases are stored apart from the grants and are never evicted. A restart forgets everything.
 *
 * @throws `ConfigurationError` if `maxGrants` is not an integer of at least 1
 *
 * @example
 * sessionTokens({ …, grants: memoryGrantStore({ maxGrants: 50_000 }) })
 */
export function memoryGrantStore(options: MemoryGrantStoreOptions = {}): GrantStore {
  const { maxGrants } = checkOptions(options, OPTIONS, {
    of: 'memoryGrantStore()',
    takes: 'The options of memoryGrantStore() must be an object: memoryGrantStore({ maxGrants: 50_000 })',
  })
  return new MemoryGrantStore(maxGrants)
}

/** Whether a grant store forgets everything when the process ends. */
export function isMemoryGrantStore(store: GrantStore): boolean {
  return store instanceof MemoryGrantStore
}

class MemoryGrantStore implements GrantStore {
  readonly #records: ExpiringMap<GrantRecord>
  readonly #ended: ExpiringMap<GrantEnd>
  readonly #labels = new LabelIndex()
  readonly #leases = new Map<string, Lease>()
  readonly #waiting = new Map<string, Set<() => void>>()

  constructor(maxGrants: number) {
    this.#records = new ExpiringMap(maxGrants, (grantId, { labels }) => this.#labels.remove(grantId, labels))
    this.#ended = new ExpiringMap(maxGrants * 10)
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
    retention: Partial<Retention> = {},
  ): Promise<GrantState> {
    const { ttlMs = GRANT_TTL_MS, onEvicted } = ownProperties(retention)
    const known = this.#records.get(grantId)
    if (!this.#ended.has(grantId) && record.revision > (known?.revision ?? 0)) {
      const labels = record.labels ?? known?.labels
      if (labels !== known?.labels) {
        this.#labels.remove(grantId, known?.labels)
        this.#labels.add(grantId, labels)
      }
      this.#records.set(grantId, labels ? { ...record, labels } : record, ttlMs, onEvicted)
    }
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
    retention: Partial<Retention> = {},
  ): Promise<EndedGrant | undefined> {
    const { ttlMs = GRANT_TTL_MS, onEvicted } = ownProperties(retention)
    const record = this.#records.get(grantId)
    const isLeased = this.#leases.has(grantId)
    this.#records.delete(grantId)
    this.#ended.set(grantId, this.#ended.get(grantId) ?? why, ttlMs, onEvicted)
    this.#wake(grantId)
    return record && { ...withoutLabels(record), ...(isLeased && { isLeased }) }
  }

  async grantsWith(label: string): Promise<string[]> {
    // A grant that has expired leaves the index when it is looked up.
    return this.#labels.grantsWith(label).filter((grantId) => this.#records.has(grantId))
  }

  #state(grantId: string): GrantState {
    const ended = this.#ended.get(grantId)
    if (ended) return ownProperties({ ended })
    const record = this.#records.get(grantId)
    return ownProperties(record ? { record: withoutLabels(record) } : {})
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

  /** Resolves when the grant or its lease has changed, or after `ms`. */
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

function withoutLabels({ revision, tokens }: GrantRecord): GrantRecord {
  return { revision, tokens }
}
