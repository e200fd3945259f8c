import { describe, expect, it } from '@jest/globals'
import { grantStoreContract, type OpenGrantStore } from '../../lib/testing.js'

/** What every grant store must do, seen from outside: the contract that `session-token-manager/testing` exports. */
export function describeGrantStore(name: string, create: () => Promise<OpenGrantStore>): void {
  describe(`the grant store ${name}`, () => {
    for (const { title, run } of grantStoreContract(create)) it.concurrent(title, run)
  })
}

/** Plays the whole contract at the same time. */
export async function expectGrantStore(create: () => Promise<OpenGrantStore>): Promise<void> {
  // So many cases at once take their time.
  const cases = grantStoreContract(create, { shortMs: 800 })
  const failures = cases.map(({ title, run }) =>
    run().then(
      () => [],
      (error: Error) => [`${title}: ${error.message}`],
    ),
  )
  expect((await Promise.all(failures)).flat()).toEqual([])
}
