import { type Case, is, record, type Scene, same } from './scene.js'

type Given = readonly [what: string, given: (scene: Scene) => Promise<unknown>, leaseAfter: 'free' | 'held']

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

/** What a store may take for a lease that it has lost, or that its holder is only late to renew. */
const uncertain: (readonly [what: string, given: (scene: Scene) => Promise<unknown>])[] = [
  ['of a grant nobody knows', async () => {}],
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
    'keeps those waiting who came before',
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
    async (scene) => {
      await given(scene)
      is(await scene.store.renew(scene.grant, 'a', scene.longMs), false, 'renew()')
      is(await scene.isFree(), leaseAfter === 'free', 'whether the lease is free')
    },
  ]
}

function takenAgainOrNot([what, given]: (typeof uncertain)[number]): Case {
  return [
    `takes a lease ${what} again, or says that there is none`,
    async (scene) => {
      await given(scene)
      const renewed = await scene.store.renew(scene.grant, 'a', scene.longMs)
      is(await scene.isFree(), !renewed, 'whether the lease is free')
      is(await scene.store.renew(scene.grant, 'a', scene.longMs), renewed, 'renew()')
    },
  ]
}
