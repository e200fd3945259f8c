import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { type Case, type CaseContext, record } from './case.js'

/** Cases of the optional `grantsWith()`. A store without the method meets them. */
export const labelCases: Case[] = [
  ['of no grant is an empty list', ({ store }) => expectGrants(store, randomUUID(), [])],
  [
    'lists every grant whose record has the label, and no other',
    async ({ store, grant }) => {
      const [user, login, otherLogin, stranger] = [1, 2, 3, 4].map(() => randomUUID())
      const [second, third] = [randomUUID(), randomUUID()]
      await store.commit(grant, 'a', { ...record(1), labels: [user!, login!] })
      await store.commit(second, 'a', { ...record(1), labels: [user!, otherLogin!] })
      await store.commit(third, 'a', { ...record(1), labels: [stranger!] })
      await expectGrants(store, user!, [grant, second])
      await expectGrants(store, login!, [grant])
      await expectGrants(store, stranger!, [third])
    },
  ],
  [
    'lists the grant once after a later record, with or without labels',
    async ({ store, grant }) => {
      const label = randomUUID()
      await store.commit(grant, 'a', { ...record(1), labels: [label] })
      await store.commit(grant, 'a', { ...record(2), labels: [label] })
      await expectGrants(store, label, [grant])
      await store.commit(grant, 'a', record(3))
      await expectGrants(store, label, [grant])
    },
  ],
  [
    'lists a grant that has got its labels later',
    async ({ store, grant }) => {
      const label = randomUUID()
      await store.commit(grant, 'a', record(1))
      await store.commit(grant, 'a', { ...record(2), labels: [label] })
      await expectGrants(store, label, [grant])
    },
  ],
]

async function expectGrants(
  store: CaseContext['store'],
  label: string,
  expected: readonly string[],
): Promise<void> {
  if (!store.grantsWith) return
  assert.deepEqual([...(await store.grantsWith(label))].sort(), [...expected].sort(), 'grantsWith()')
}

/** Cases of the optional `recentEnds()`. The storage may be in use, so the list may have other grants. */
export const recentEndCases: Case[] = [
  [
    'lists the grants that have ended, and why',
    async ({ store, grant }) => {
      const [second, alive] = [randomUUID(), randomUUID()]
      await store.commit(grant, 'a', record(1))
      await store.commit(alive, 'a', record(1))
      await store.end(grant, 'logged_out')
      await store.end(second, 'backchannel_logout')
      const ends = await store.recentEnds?.(60_000)
      if (!ends) return
      const reasonOf = (id: string) => ends.find(({ grantId }) => grantId === id)?.ended
      const reasons = [grant, second, alive].map(reasonOf)
      assert.deepEqual(reasons, ['logged_out', 'backchannel_logout', undefined], 'the ends')
    },
  ],
]
