import { withTimeout } from '../concurrency/with-timeout.js'
import type { GrantStore } from '../grants/grant-store.js'
import { duration } from '../options/option-kinds.js'
import { checkOptions, type OptionTable } from '../options/option-table.js'
import { type Case, contextOn } from './case.js'
import { commitCases } from './commit.js'
import { endCases } from './end.js'
import { labelCases, recentEndCases } from './labels.js'
import { leaseCases } from './lease.js'
import { newsCases } from './news.js'
import { otherGrantCases } from './other-grants.js'
import { readCases } from './read.js'
import { releaseCases } from './release.js'
import { renewCases } from './renew.js'

/** A grant store as one case of the contract gets it. */
export interface OpenGrantStore {
  readonly store: GrantStore
  /** Called at the end of the case, also after a failure. A promise is awaited. */
  close?(): unknown
}

/** One requirement on every grant store, in the form that test frameworks take. */
export interface GrantStoreCase {
  /** The requirement, beginning with the method: `'lease of another owner is waited for until it is released'`. */
  readonly title: string
  /** Opens a store, checks the requirement, and closes the store. Rejects with an `AssertionError` if the store does not meet it. */
  readonly run: () => Promise<void>
}

export interface GrantStoreContractOptions {
  /**
   * The duration of the leases that the cases let expire, in milliseconds: at least ten times a round trip to the storage. A
   * case that was too slow for such a lease runs again with one ten times as long; a case that takes forty times as long
   * fails. Default: 100, for a storage on the same machine.
   */
  shortMs?: number
}

const OPTIONS = { shortMs: duration(100) } satisfies OptionTable<GrantStoreContractOptions>

const USAGE = {
  of: 'grantStoreContract()',
  takes: 'The options of grantStoreContract() must be an object: grantStoreContract(open, { shortMs: 1000 })',
}

/** How much longer than a short lease a case may take. */
const CASE_LIMIT = 40

/** How much longer the leases are when a case runs again. */
const AGAIN = 10

/**
 * Lists the requirements on every {@link GrantStore}, as cases for any test framework. Use it for a custom grant store.
 *
 * Every case opens a store and works on new grants with random ids. So the cases may run at the same time, and on a storage
 * that is in use.
 *
 * @param open opens a store; called once for each case
 *
 * @example
 * import { describe, it } from 'node:test'
 * import { memoryGrantStore } from 'session-token-manager'
 * import { grantStoreContract } from 'session-token-manager/testing'
 *
 * const open = () => ({ store: memoryGrantStore() })
 *
 * describe('my grant store', () => {
 *   for (const { title, run } of grantStoreContract(open)) it(title, run)
 * })
 */
export function grantStoreContract(
  open: () => OpenGrantStore | Promise<OpenGrantStore>,
  options: GrantStoreContractOptions = {},
): GrantStoreCase[] {
  const { shortMs } = checkOptions(options, OPTIONS, USAGE)
  const cases: Record<string, readonly Case[]> = {
    lease: leaseCases(shortMs),
    renew: renewCases,
    commit: commitCases,
    release: releaseCases,
    end: endCases,
    read: readCases,
    grantsWith: labelCases,
    recentEnds: recentEndCases,
    subscribe: newsCases,
    'another grant': otherGrantCases,
  }
  return Object.entries(cases).flatMap(([subject, list]) =>
    list.map((each) => ({
      title: `${subject} ${each[0]}`,
      run: () => runCase(open, each, shortMs),
    })),
  )
}

async function runCase(
  open: () => OpenGrantStore | Promise<OpenGrantStore>,
  [, check, races]: Case,
  shortMs: number,
): Promise<void> {
  const limitMs = CASE_LIMIT * shortMs
  const opened = await open()
  const start = performance.now()
  const runWith = (leaseMs: number) => check(contextOn(opened.store, leaseMs))
  const runOnce = () => runWith(shortMs)
  // On a stalled machine a lease may expire between two steps, which is not the store's fault.
  const runAgainIfSlow = () =>
    runOnce().catch((error: unknown) => {
      const tookMs = performance.now() - start
      if (tookMs < shortMs || tookMs > limitMs) throw error
      return runWith(AGAIN * shortMs)
    })
  try {
    const late = () => new Error(`The grant store kept the case waiting for more than ${limitMs} ms.`)
    await withTimeout(limitMs, races ? runAgainIfSlow() : runOnce(), late)
  } finally {
    await opened.close?.()
  }
}
