import type { GrantEnd } from '../grants/grant-store.js'
import { type Case, type CaseContext, is, record, same } from './case.js'

const reasons: GrantEnd[] = ['logged_out', 'replaced', 'backchannel_logout']

export const endCases: Case[] = [
  ...reasons.flatMap((why) => [forgetsTheRecord(why), ofAGrantWithoutARecord(why)]),
  keepsTheFirstReason('logged_out', 'replaced'),
  keepsTheFirstReason('replaced', 'logged_out'),
  ['wakes every waiter', wakesEveryWaiter],
  [
    'leaves no lease to take',
    async ({ store, grant, lease }) => {
      await store.end(grant, 'replaced')
      same(await lease('a'), { granted: false, ended: 'replaced' })
    },
  ],
  [
    'accepts how long to remember it',
    async ({ store, grant, longMs, shortLeasesAreOver }) => {
      await store.end(grant, 'logged_out', { ttlMs: longMs })
      await shortLeasesAreOver()
      same(await store.read(grant), { ended: 'logged_out' })
    },
  ],
  [
    'may report that there was a lease, and reports none if there was none',
    async ({ store, grant, lease }) => {
      await store.commit(grant, 'a', record(1))
      await lease('b', { revision: 1 })
      await store.release(grant, 'b')
      is((await store.end(grant, 'logged_out'))?.isLeased ?? false, false, 'isLeased')
    },
  ],
  [
    'leaves the holder of the lease to release it',
    async ({ store, grant, lease }) => {
      await lease('a')
      await store.end(grant, 'logged_out')
      await store.release(grant, 'a')
      same(await lease('b'), { granted: false, ended: 'logged_out' })
    },
  ],
]

function forgetsTheRecord(why: GrantEnd): Case {
  return [
    `forgets the record, hands it back once and remembers why: ${why}`,
    async ({ store, grant }) => {
      await store.commit(grant, 'a', record(4))
      same(await store.end(grant, why), record(4))
      same(await store.read(grant), { ended: why })
      is(await store.end(grant, why), undefined, 'end()')
    },
  ]
}

function ofAGrantWithoutARecord(why: GrantEnd): Case {
  return [
    `of a grant without a record remembers why: ${why}`,
    async ({ store, grant }) => {
      is(await store.end(grant, why), undefined, 'end()')
      same(await store.read(grant), { ended: why })
    },
  ]
}

function keepsTheFirstReason(first: GrantEnd, second: GrantEnd): Case {
  return [
    `keeps the first reason: ${first}, then ${second}`,
    async ({ store, grant }) => {
      await store.end(grant, first)
      await store.end(grant, second)
      same(await store.read(grant), { ended: first })
    },
  ]
}

async function wakesEveryWaiter({ store, grant, lease, stillWaiting }: CaseContext): Promise<void> {
  await store.commit(grant, 'a', record(1))
  await lease('a', { revision: 1 })
  const waiting = ['b', 'c', 'd'].map((owner) => lease(owner, { revision: 1 }))
  await Promise.all(waiting.map(stillWaiting))
  await store.end(grant, 'logged_out')
  for (const response of await Promise.all(waiting)) same(response, { granted: false, ended: 'logged_out' })
}
