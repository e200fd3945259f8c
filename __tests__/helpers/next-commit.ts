import type { GrantStore } from '../../lib/grants/grant-store.js'

/** Resolves when the next commit is done and what follows it at once has happened, a look at the session included. */
export function nextCommit(grants: GrantStore): Promise<void> {
  const { commit } = grants
  return new Promise((resolve) => {
    grants.commit = async (...args) => {
      const state = await commit.apply(grants, args)
      void someTurnsOfTheLoop().then(resolve)
      return state
    }
  })
}

export async function someTurnsOfTheLoop(): Promise<void> {
  for (let turn = 0; turn < 5; turn++) await new Promise((next) => setImmediate(next))
}
