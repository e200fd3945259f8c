import { type Case, type CaseContext, is, record, same } from './case.js'

/** A revision that no record of these cases reaches. */
const NEWEST = 99

type Holder = readonly [
  owner: string,
  given: (context: CaseContext) => Promise<unknown>,
  leaseAfter: 'free' | 'held',
]

const holders: Holder[] = [
  ['the owner', ({ lease }) => lease('a', { revision: NEWEST }), 'free'],
  ['an owner without a lease', async () => {}, 'free'],
  ['another owner', ({ lease }) => lease('b', { revision: NEWEST }), 'held'],
  [
    'an owner whose lease has expired',
    async ({ lease, shortMs, shortLeasesAreOver }) => {
      await lease('a', { revision: NEWEST, ttlMs: shortMs })
      await shortLeasesAreOver()
    },
    'free',
  ],
  [
    'an owner whose lease has passed on to another',
    async ({ lease, shortMs }) => {
      await lease('a', { revision: NEWEST, ttlMs: shortMs })
      await lease('b', { revision: NEWEST })
    },
    'held',
  ],
]

const revisions = [
  { what: 'the first record', held: undefined, committed: 1, kept: 'committed' },
  { what: 'a newer record', held: 2, committed: 3, kept: 'committed' },
  { what: 'a record many revisions newer', held: 2, committed: 10, kept: 'committed' },
  { what: 'a record of the same revision', held: 2, committed: 2, kept: 'held' },
  { what: 'an older record', held: 10, committed: 9, kept: 'held' },
] as const

export const commitCases: Case[] = [
  ...holders.flatMap((holder) => [
    ...revisions.map((revision) => keepsTheNewer(holder, revision)),
    leavesTheLease(holder),
  ]),
  ['to a grant that has ended keeps nothing', keepsNothing],
  [
    'keeps the text as it is',
    async ({ store, grant }) => {
      const text = '{"a":"\\"\n ü 🔑 \u2028","n":1e400} \' ; -- $1 %s'
      await store.commit(grant, 'a', { revision: 1, tokens: text })
      same(await store.read(grant), { record: { revision: 1, tokens: text } })
    },
  ],
  [
    'accepts how long to keep it',
    async ({ store, grant, longMs, shortLeasesAreOver }) => {
      same(await store.commit(grant, 'a', record(1), { ttlMs: longMs }), { record: record(1) })
      await shortLeasesAreOver()
      same(await store.read(grant), { record: record(1) })
    },
  ],
  [
    'keeps the newest of many at once',
    async ({ store, grant }) => {
      const mixed = [7, 3, 20, 1, 12, 19, 5, 2, 18, 4]
      await Promise.all(mixed.map((revision) => store.commit(grant, `${revision}`, record(revision))))
      same(await store.read(grant), { record: record(20) })
    },
  ],
]

function keepsTheNewer(
  [owner, given]: Holder,
  { what, held, committed, kept }: (typeof revisions)[number],
): Case {
  return [
    `by ${owner} of ${what} keeps the one ${kept}`,
    async (context) => {
      const { store, grant } = context
      if (held) await store.commit(grant, 'an earlier owner', record(held, 'held'))
      await given(context)
      const expected = kept === 'held' ? record(held, 'held') : record(committed, 'committed')
      same(await store.commit(grant, 'a', record(committed, 'committed')), { record: expected })
      same(await store.read(grant), { record: expected })
    },
  ]
}

function leavesTheLease([owner, given, leaseAfter]: Holder): Case {
  return [
    `by ${owner} leaves the lease ${leaseAfter}`,
    async (context) => {
      const { store, grant, isFree, longMs } = context
      await given(context)
      await store.commit(grant, 'a', record(1))
      is(await isFree(), leaseAfter === 'free', 'whether the lease is free')
      is(await store.renew(grant, 'b', longMs), leaseAfter === 'held', 'renew()')
    },
  ]
}

async function keepsNothing({ store, grant, lease }: CaseContext): Promise<void> {
  await lease('a')
  await store.end(grant, 'logged_out')
  same(await store.commit(grant, 'a', record(5)), { ended: 'logged_out' })
  same(await store.read(grant), { ended: 'logged_out' })
  is(await store.end(grant, 'logged_out'), undefined, 'end()')
}
