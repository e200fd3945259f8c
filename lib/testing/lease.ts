import assert from 'node:assert/strict'
import { type Case, type CaseContext, is, record, same } from './case.js'

export const leaseCases = (shortMs: number): Case[] => [
  ...granted,
  ...waitedFor,
  ...(['free', 'held'] as const).map(notGrantedToTheOutdated),
  ['is not granted if there is a record newer by a digit', newerByADigit],
  ...[0, shortMs].map(notGrantedWhenTimeIsOver),
  ...expiring,
  ['goes to each of twenty waiters, one at a time', oneAtATime],
  ['is granted to one of twenty, the others getting what that one commits', oneOfTwenty],
]

const granted: Case[] = [
  [
    'is granted at once if it is free',
    async ({ lease }) => same(await lease('a', { waitMs: 0 }), { granted: true }),
  ],
  [
    'comes with the newest record',
    async ({ store, grant, lease }) => {
      await store.commit(grant, 'a', record(3))
      same(await lease('b', { revision: 3 }), { granted: true, record: record(3) })
    },
  ],
  [
    'is granted with a record older than the revision of the caller',
    async ({ store, grant, lease }) => {
      await store.commit(grant, 'a', record(3))
      same(await lease('b', { revision: 4 }), { granted: true, record: record(3) })
    },
  ],
]

const waitedFor: Case[] = [
  [
    'of another owner is waited for until it is released',
    async ({ store, grant, lease, stillWaiting, longMs }) => {
      await lease('a')
      const second = lease('b')
      await stillWaiting(second)
      await store.release(grant, 'a')
      same(await second, { granted: true })
      is(await store.renew(grant, 'b', longMs), true, 'renew()')
    },
  ],
  [
    'of another owner is waited for until a newer record is committed, and is then not granted',
    async ({ store, grant, lease, stillWaiting, isFree }) => {
      await lease('a')
      const second = lease('b')
      await stillWaiting(second)
      await store.commit(grant, 'a', record(1))
      same(await second, { granted: false, record: record(1) })
      is(await isFree(), true, 'whether the lease is free')
    },
  ],
  [
    'of another owner is waited for until a third owner commits a newer record',
    async ({ store, grant, lease, stillWaiting, isFree }) => {
      await lease('a')
      const second = lease('b')
      await stillWaiting(second)
      await store.commit(grant, 'c', record(1))
      same(await second, { granted: false, record: record(1) })
      is(await isFree(), false, 'whether the lease is free')
    },
  ],
  [
    'is granted after a commit of what the waiter has already',
    async ({ store, grant, lease, stillWaiting }) => {
      await lease('a', { revision: 2 })
      const second = lease('b', { revision: 2 })
      await stillWaiting(second)
      await store.commit(grant, 'a', record(2))
      same(await second, { granted: true, record: record(2) })
    },
  ],
]

function notGrantedToTheOutdated(state: 'free' | 'held'): Case {
  return [
    `is not granted, and not waited for, if there is a newer record: ${state}`,
    async ({ store, grant, lease, isFree }) => {
      await store.commit(grant, 'a', record(2))
      if (state === 'held') await lease('a', { revision: 2 })
      same(await lease('b', { revision: 1 }), { granted: false, record: record(2) })
      is(await isFree(), state === 'free', 'whether the lease is free')
    },
  ]
}

async function newerByADigit({ store, grant, lease }: CaseContext): Promise<void> {
  await store.commit(grant, 'a', record(10))
  same(await lease('b', { revision: 9 }), { granted: false, record: record(10) })
  same(await lease('b', { revision: 11 }), { granted: true, record: record(10) })
  await store.commit(grant, 'b', record(100))
  same(await lease('a', { revision: 99 }), { granted: false, record: record(100) })
}

function notGrantedWhenTimeIsOver(waitMs: number): Case {
  return [
    `is not granted when ${waitMs} ms of waiting are over`,
    async ({ store, grant, lease, isFree }) => {
      await store.commit(grant, 'a', record(1))
      await lease('a', { revision: 1 })
      same(await lease('b', { revision: 1, waitMs }), { granted: false, record: record(1) })
      await store.release(grant, 'a')
      is(await isFree(), true, 'whether the lease is free')
    },
  ]
}

const expiring: Case[] = [
  [
    'passes on when its holder lets it expire, and not before',
    async ({ lease, isFree, shortMs }) => {
      const start = performance.now()
      await lease('a', { ttlMs: shortMs })
      is(await isFree(), false, 'whether the lease is free')
      same(await lease('b'), { granted: true })
      const tookMs = performance.now() - start
      // Clocks count whole milliseconds in some stores.
      assert(tookMs >= shortMs - 2, `a lease of ${shortMs} ms passed on after ${tookMs} ms`)
    },
    'a short lease',
  ],
  [
    'holds from when it was granted, not from when it was asked for',
    async ({ store, grant, lease, shortMs, longMs }) => {
      await lease('a', { ttlMs: shortMs })
      await lease('b', { ttlMs: shortMs })
      is(await store.renew(grant, 'b', longMs), true, 'renew()')
    },
    'a short lease',
  ],
]

const twenty = Array.from({ length: 20 }, (_, i) => `waiter ${i}`)

async function oneAtATime({ store, grant, lease }: CaseContext): Promise<void> {
  let holders = 0
  await lease('first')
  const turns = twenty.map(async (owner) => {
    const { granted } = await lease(owner)
    holders++
    assert.equal(holders, 1, 'one holder at a time')
    await new Promise(setImmediate)
    holders--
    await store.release(grant, owner)
    return granted
  })
  await store.release(grant, 'first')
  assert.deepEqual(await Promise.all(turns), Array(twenty.length).fill(true))
}

async function oneOfTwenty({ store, grant, lease }: CaseContext): Promise<void> {
  const refreshers = twenty.map(async (owner) => {
    const response = await lease(owner)
    if (response.granted) await store.commit(grant, owner, record(1))
    else same(response, { granted: false, record: record(1) })
    return response.granted
  })
  const responses = await Promise.all(refreshers)
  assert.equal(responses.filter((granted) => granted).length, 1, 'one lease is granted')
}
