import { randomUUID } from 'node:crypto'
import { describe, expect, it } from '@jest/globals'
import fc from 'fast-check'
import type { GrantEnd, GrantRecord, GrantStore } from '../../lib/grants/grant-store.js'
import { commit, end, lease, read, release, renew, type StoredGrant } from './grant-store-model.js'

interface OpenGrantStore {
  readonly store: GrantStore
  close(): Promise<void>
}

/** Longer than a test may take. How leases expire is a matter of the contract's own tests. */
const TTL_MS = 60_000
const NOW = 0

interface Command {
  readonly operation: 'lease' | 'renew' | 'commit' | 'release' | 'read' | 'end'
  readonly grant: number
  readonly owner: string
  readonly revision: number
  readonly why: GrantEnd
}

const command: fc.Arbitrary<Command> = fc.record({
  operation: fc.oneof(
    { weight: 8, arbitrary: fc.constant('lease') },
    { weight: 12, arbitrary: fc.constantFrom('renew', 'commit', 'release') },
    { weight: 3, arbitrary: fc.constantFrom('read', 'end') },
  ),
  grant: fc.integer({ min: 0, max: 1 }),
  owner: fc.constantFrom('a', 'b', 'c'),
  revision: fc.integer({ min: 1, max: 20 }),
  why: fc.constantFrom<GrantEnd[]>('logged_out', 'replaced'),
})

/**
 * Plays the same commands to a grant store and to the model's, and compares every answer: what has been shown of the
 * model then goes for the store.
 */
export function describeConformance(name: string, openStore: () => Promise<OpenGrantStore>): void {
  describe(`the grant store ${name}`, () => {
    it('responds as the model does, for every operation', async () => {
      const { store, close } = await openStore()
      const property = fc.asyncProperty(fc.array(command, { minLength: 1, maxLength: 40 }), (commands) =>
        compare(store, commands),
      )
      try {
        await fc.assert(property, { numRuns: 300, seed: 1 })
      } finally {
        await close()
      }
    }, 60_000)
  })
}

async function compare(store: GrantStore, commands: readonly Command[]): Promise<void> {
  const ids = [randomUUID(), randomUUID()]
  const grants: StoredGrant<GrantRecord>[] = [{}, {}]
  const leased = new Set<string>()
  const answers: unknown[] = []
  const expected: unknown[] = []
  for (const [index, command] of commands.entries()) {
    const grant = grants[command.grant]!
    const name = `${command.grant} ${command.owner}`
    if (isOpen(command, grant, leased.has(name))) continue
    const record = { revision: command.revision, tokens: `command ${index}` }
    const [left, answer] = modelled(grant, command, record)
    grants[command.grant] = left
    if (left.lease?.owner === command.owner) leased.add(name)
    expected.push(answer)
    answers.push(await told(store, ids[command.grant]!, command, record))
  }
  expect(answers).toEqual(expected)
}

/**
 * What a store answers then is its own affair: no owner asks for a lease that it holds, renews one that it never had, or
 * minds whether it has the lease of a grant that has ended.
 */
function isOpen({ operation, owner }: Command, grant: StoredGrant<GrantRecord>, hasLeased: boolean): boolean {
  if (operation === 'lease') return grant.lease?.owner === owner
  return operation === 'renew' && (!hasLeased || grant.ended !== undefined)
}

function modelled(
  grant: StoredGrant<GrantRecord>,
  { operation, owner, revision, why }: Command,
  record: GrantRecord,
): readonly [StoredGrant<GrantRecord>, unknown] {
  switch (operation) {
    case 'lease':
      return lease(grant, { owner, ttlMs: TTL_MS, revision: 2 * revision }, NOW)
    case 'renew':
      return renew(grant, owner, TTL_MS, NOW)
    case 'commit':
      return commit(grant, owner, record)
    case 'release':
      return [release(grant, owner), undefined]
    case 'read':
      return [grant, read(grant)]
    case 'end':
      return end(grant, why)
  }
}

function told(
  store: GrantStore,
  grantId: string,
  { operation, owner, revision, why }: Command,
  record: GrantRecord,
): Promise<unknown> {
  switch (operation) {
    case 'lease':
      return store.lease(grantId, { owner, ttlMs: TTL_MS, waitMs: 0, revision: 2 * revision })
    case 'renew':
      return store.renew(grantId, owner, TTL_MS)
    case 'commit':
      return store.commit(grantId, owner, record)
    case 'release':
      return store.release(grantId, owner)
    case 'read':
      return store.read(grantId)
    case 'end':
      return store.end(grantId, why)
  }
}
