import { type Case, type CaseContext, is, record, same } from './case.js'

type Given = readonly [
  what: string,
  given: (context: CaseContext) => Promise<unknown>,
  leaseAfter: 'free' | 'held',
]

const others: Given[] = [
  ['another owner has', ({ lease }) => lease('b'), 'held'],
  [
    'was released',
    async ({ store, grant, lease }) => {
      await lease('a')
      await store.release(grant, 'a')
    },
    'free',
  ],
  [
    'was released by a commit',
    async ({ store, grant, lease }) => {
      await lease('a')
      await store.commit(grant, 'a', record(1))
    },
    'free',
  ],
  [
    'has passed on',
    async ({ lease, shortMs }) => {
      await lease('a', { ttlMs: shortMs })
      await lease('b')
    },
    'held',
  ],
]

/** States in which a store may treat a lease as lost, or as late for its renewal. */
const uncertain: (readonly [what: string, given: (context: CaseContext) => Promise<unknown>])[] = [
  ['of an unknown grant', async () => {}],
  [
    'that has expired',
    async ({ lease, shortMs, shortLeasesAreOver }) => {
      await lease('a', { ttlMs: shortMs })
      await shortLeasesAreOver()
    },
  ],
]

export const renewCases: Case[] = [
  [
    'prolongs the lease of its owner',
    async ({ store, grant, lease, isFree, shortLeasesAreOver, shortMs, longMs }) => {
      await lease('a', { ttlMs: shortMs })
      is(await store.renew(grant, 'a', longMs), true, 'renew()')
      await shortLeasesAreOver()
      is(await isFree(), false, 'whether the lease is free')
      is(await store.renew(grant, 'a', longMs), true, 'renew()')
    },
    'a short lease',
  ],
  [
    'keeps earlier callers waiting',
    async ({ store, grant, lease, stillWaiting, shortMs, longMs }) => {
      await lease('a', { ttlMs: shortMs })
      const second = lease('b')
      await stillWaiting(second)
      is(await store.renew(grant, 'a', longMs), true, 'renew()')
      same(await lease('c', { waitMs: shortMs }), { granted: false })
      await stillWaiting(second)
      await store.release(grant, 'a')
      same(await second, { granted: true })
    },
    'a short lease',
  ],
  [
    'prolongs it by the time given',
    async ({ store, grant, lease, shortMs }) => {
      await lease('a', { ttlMs: shortMs })
      await store.renew(grant, 'a', shortMs)
      same(await lease('b'), { granted: true })
    },
  ],
  ...others.map(notTheOwners),
  ...uncertain.map(takenAgainOrNot),
]

function notTheOwners([what, given, leaseAfter]: Given): Case {
  return [
    `does not take a lease that ${what}`,
    async (context) => {
      await given(context)
      is(await context.store.renew(context.grant, 'a', context.longMs), false, 'renew()')
      is(await context.isFree(), leaseAfter === 'free', 'whether the lease is free')
    },
  ]
}

function takenAgainOrNot([what, given]: (typeof uncertain)[number]): Case {
  return [
    `takes a lease ${what} again, or reports that there is none`,
    async (context) => {
      await given(context)
      const renewed = await context.store.renew(context.grant, 'a', context.longMs)
      is(await context.isFree(), !renewed, 'whether the lease is free')
      is(await context.store.renew(context.grant, 'a', context.longMs), renewed, 'renew()')
    },
  ]
}
