import type { GrantState, GrantStore } from '../../lib/grants/grant-store.js'
import { memoryGrantStore } from '../../lib/grants/memory-grant-store.js'

/** What a grant store had at some moment. */
export type SavedGrants = ReadonlyMap<string, GrantState>

/** A grant store for several processes that can be out of reach, and come back with the state of a moment ago. */
export interface FailingGrants {
  readonly store: GrantStore
  /** How many operations were under way at a time, at most, since the last call of `forget()`. */
  readonly atOnce: number
  forget(): void
  goAway(): void
  comeBack(): void
  save(): Promise<SavedGrants>
  goBackTo(saved: SavedGrants): Promise<void>
}

const METHODS = ['lease', 'renew', 'commit', 'release', 'read', 'end'] as const

export function failingGrants(): FailingGrants {
  let inner = memoryGrantStore()
  let isAway = false
  let underWay = 0
  let atOnce = 0
  const grants = new Set<string>()

  async function call(name: (typeof METHODS)[number], grantId: string, args: unknown[]): Promise<unknown> {
    atOnce = Math.max(atOnce, ++underWay)
    try {
      // As long as it takes to get there and back.
      await new Promise(setImmediate)
      if (isAway) throw new Error('no connection')
      grants.add(grantId)
      return await (inner[name] as (...args: unknown[]) => unknown)(grantId, ...args)
    } finally {
      underWay--
    }
  }
  const methods = METHODS.map((name) => [name, (id: string, ...args: unknown[]) => call(name, id, args)])
  return {
    store: Object.fromEntries(methods) as GrantStore,
    get atOnce() {
      return atOnce
    },
    forget() {
      atOnce = 0
    },
    goAway() {
      isAway = true
    },
    comeBack() {
      isAway = false
    },
    async save() {
      const states = [...grants].map(async (id) => [id, await inner.read(id)] as const)
      return new Map(await Promise.all(states))
    },
    async goBackTo(saved) {
      inner = memoryGrantStore()
      for (const [id, { record, ended }] of saved) {
        if (ended) await inner.end(id, ended)
        if (record) await inner.commit(id, 'before', record)
      }
    },
  }
}
