import { randomUUID } from 'node:crypto'
import { type Case, is, record, same } from './case.js'

/** Operations on one grant do not affect another. */
export const otherGrantCases: Case[] = [
  [
    'has its own lease',
    async ({ store, grant, lease, longMs }) => {
      const other = randomUUID()
      await lease('a')
      same(await lease('a', { waitMs: 0 }, other), { granted: true })
      await store.release(other, 'a')
      is(await store.renew(other, 'a', longMs), false, 'renew()')
      is(await store.renew(grant, 'a', longMs), true, 'renew()')
    },
  ],
  [
    'has its own record',
    async ({ store, grant }) => {
      const other = randomUUID()
      await store.commit(grant, 'a', record(2, 'one'))
      await store.commit(other, 'a', record(1, 'other'))
      same(await store.read(grant), { record: record(2, 'one') })
      same(await store.read(other), { record: record(1, 'other') })
    },
  ],
  [
    'ends by itself',
    async ({ store, grant, lease }) => {
      const other = randomUUID()
      await store.commit(other, 'a', record(1))
      await store.end(grant, 'logged_out')
      same(await store.read(other), { record: record(1) })
      same(await lease('a', { revision: 1 }, other), { granted: true, record: record(1) })
    },
  ],
  [
    'wakes no waiter',
    async ({ store, grant, lease, stillWaiting }) => {
      const other = randomUUID()
      await lease('a')
      const waiting = lease('b')
      await lease('a', {}, other)
      await store.commit(other, 'a', record(1))
      await store.end(other, 'logged_out')
      await stillWaiting(waiting)
      await store.release(grant, 'a')
      same(await waiting, { granted: true })
    },
  ],
]
