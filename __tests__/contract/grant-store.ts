import { describe, it } from '@jest/globals'
import { grantStoreContract, type OpenGrantStore } from '../../lib/testing.js'

/** What every grant store must do, seen from outside: the contract that `session-token-manager/testing` exports. */
export function describeGrantStore(name: string, create: () => Promise<OpenGrantStore>): void {
  describe(`the grant store ${name}`, () => {
    for (const { title, run } of grantStoreContract(create)) it(title, run)
  })
}
