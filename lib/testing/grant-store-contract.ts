import { within } from '../deadline.js'
import type { GrantStore } from '../grants/grant-store.js'
import { ownOptions } from '../own-options.js'
import { commitCases } from './commit.js'
import { endCases } from './end.js'
import { leaseCases } from './lease.js'
import { otherGrantCases } from './other-grants.js'
import { readCases } from './read.js'
import { releaseCases } from './release.js'
import { renewCases } from './renew.js'
import { type Case, sceneOn } from './scene.js'

/** A grant store as one case of the contract gets it. */
export interface OpenGrantStore {
  readonly store: GrantStore
  /** Called when the case is over, also after a failure. A promise is waited for. */
  close?(): unknown
}

/** One thing that every grant store must do, in the form that test frameworks take. */
export interface GrantStoreCase {
  /** What is done, beginning with the method: `'lease of another owner is waited for until it is released'`. */
  readonly title: string
  /** Opens a store, does it, and closes the store. Rejects with an `AssertionError` if the store does otherwise. */
  readonly run: () => Promise<void>
}

export interface GrantStoreContractOptions {
  /**
   * How long the leases hold that the cases wait to expire, in milliseconds: at least ten times a round trip to the
   * storage. A case that was too slow for such a lease is played again with one ten times as long; one that takes forty
   * times as long fails. Default: 100, which suits a storage on the same machine.
   */
  shortMs?: number
}

/** How much longer than a short lease a case may take. */
const CASE_LIMIT = 40

/** How much longer the leases are when a case is played again. */
const AGAIN = 10

/**
 * What every {@link GrantStore} must do, for those who write their own: one list of cases, for any test framework.
 *
 * Every case opens a store of its own and works on new grants with random ids, so they may run at the same time, and on
 * a storage that is in use.
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
  const { shortMs = 100 } = ownOptions(options, ['shortMs'], 'grantStoreContract()')
  const cases: Record<string, readonly Case[]> = {
    lease: leaseCases(shortMs),
    renew: renewCases,
    commit: commitCases,
    release: releaseCases,
    end: endCases,
    read: readCases,
    'another grant': otherGrantCases,
  }
  return Object.entries(cases).flatMap(([subject, list]) =>
    list.map((each) => ({
      title: `${subject} ${each[0]}`,
      run: () => playCase(open, each, shortMs),
    })),
  )
}

async function playCase(
  open: () => OpenGrantStore | Promise<OpenGrantStore>,
  [, play, races]: Case,
  shortMs: number,
): Promise<void> {
  const limitMs = CASE_LIMIT * shortMs
  const opened = await open()
  const start = performance.now()
  const playWith = (leaseMs: number) => play(sceneOn(opened.store, leaseMs))
  const playOnce = () => playWith(shortMs)
  // On a machine that stalls a lease may expire between two steps, which is nothing that the store does.
  const playAgainIfSlow = () =>
    playOnce().catch((error: unknown) => {
      const tookMs = performance.now() - start
      if (tookMs < shortMs || tookMs > limitMs) throw error
      return playWith(AGAIN * shortMs)
    })
  try {
    const late = () => new Error(`The grant store kept the case waiting for more than ${limitMs} ms.`)
    await within(limitMs, races ? playAgainIfSlow() : playOnce(), late)
  } finally {
    await opened.close?.()
  }
}
