import { randomUUID } from 'node:crypto'
import { type Case, is, record, same } from './case.js'

export const releaseCases: Case[] = [
  [
    'frees the lease for its owner',
    async ({ store, grant, lease, isFree }) => {
      await lease('a')
      await store.release(grant, 'a')
      is(await isFree(), true, 'whether the lease is free')
    },
  ],
  [
    'does nothing for another owner',
    async ({ store, grant, lease, stillWaiting, longMs }) => {
      await lease('a')
      const third = lease('c')
      await store.release(grant, 'b')
      await stillWaiting(third)
      is(await store.renew(grant, 'a', longMs), true, 'renew()')
      await store.release(grant, 'a')
      same(await third, { granted: true })
    },
  ],
  [
    'does nothing for an owner whose lease has passed on',
    async ({ store, grant, lease, shortMs, longMs }) => {
      await lease('a', { ttlMs: shortMs })
      await lease('b')
      await store.release(grant, 'a')
      is(await store.renew(grant, 'b', longMs), true, 'renew()')
    },
  ],
  [
    'may come twice, or for an unknown grant',
    async ({ store, grant, lease, isFree }) => {
      await lease('a')
      await store.release(grant, 'a')
      await store.release(grant, 'a')
      await store.release(randomUUID(), 'a')
      is(await isFree(), true, 'whether the lease is free')
    },
  ],
  [
    'keeps the record',
    async ({ store, grant, lease }) => {
      await store.commit(grant, 'a', record(1))
      await lease('a', { revision: 1 })
      await store.release(grant, 'a')
      same(await store.read(grant), { record: record(1) })
    },
  ],
]
