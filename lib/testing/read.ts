import { type Case, is, record, same } from './case.js'

export const readCases: Case[] = [
  ['of an unknown grant is empty', async ({ store, grant }) => same(await store.read(grant), {})],
  [
    'does not wait for the lease, nor take it',
    async ({ store, grant, lease, longMs }) => {
      await store.commit(grant, 'a', record(1))
      await store.read(grant)
      same(await lease('a', { revision: 1, waitMs: 0 }), { granted: true, record: record(1) })
      same(await store.read(grant), { record: record(1) })
      is(await store.renew(grant, 'a', longMs), true, 'renew()')
    },
  ],
]
