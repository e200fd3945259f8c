import { setTimeout as delay } from 'node:timers/promises'
import { describe, expect, it } from '@jest/globals'
import type { GrantEnd, GrantStore, LeaseRequest } from '../../lib/grants/grant-store.js'
import { memoryGrantStore } from '../../lib/grants/memory-grant-store.js'
import { grantStoreContract, type OpenGrantStore } from '../../lib/testing.js'

type Change = (store: GrantStore) => Partial<GrantStore>

/** The cases by which a store breaks the contract, with the errors. */
async function broken(change: Change, shortMs: number): Promise<[title: string, error: Error][]> {
  const failures = grantStoreContract(async () => memoryBut(change), { shortMs }).map(({ title, run }) =>
    run().then(
      () => [],
      (error: Error) => [[title, error] as [string, Error]],
    ),
  )
  return (await Promise.all(failures)).flat()
}

/** A store in memory, but for what is done differently. */
function memoryBut(change: Change): OpenGrantStore {
  const store = memoryGrantStore({ maxGrants: 100 })
  const leased = new Set<string>()
  const whole: GrantStore = {
    lease: (grantId, request) => store.lease(grantId, request),
    renew: (grantId, owner, ttlMs) => store.renew(grantId, owner, ttlMs),
    commit: (grantId, owner, record) => store.commit(grantId, owner, record),
    release: (grantId, owner) => store.release(grantId, owner),
    read: (grantId) => store.read(grantId),
    end: (grantId, why) => store.end(grantId, why),
    ...change(store),
  }
  return {
    store: { ...whole, lease: (grantId, request) => whole.lease(leased.add(grantId) && grantId, request) },
    // Those that a failed case has left waiting get their answer.
    close: async () => void (await Promise.all([...leased, ''].map((each) => store.end(each, 'replaced')))),
  }
}

/** A store that asks for leases otherwise than it is asked. */
const asking = (change: (request: LeaseRequest) => Partial<LeaseRequest>) => (store: GrantStore) => ({
  lease: (grantId: string, request: LeaseRequest) => store.lease(grantId, { ...request, ...change(request) }),
})

/** A store in which everybody acts as the holder of the lease. */
function asHolder(method: 'commit' | 'release' | 'renew') {
  return (store: GrantStore): Partial<GrantStore> => {
    const holders = new Map<string, string>()
    const act = store[method].bind(store) as (
      grantId: string,
      owner: string,
      more?: unknown,
    ) => Promise<never>
    return {
      async lease(grantId, request) {
        const answer = await store.lease(grantId, request)
        if (answer.granted) holders.set(grantId, request.owner)
        return answer
      },
      [method]: (grantId: string, owner: string, more?: unknown) =>
        act(grantId, holders.get(grantId) ?? owner, more),
    }
  }
}

/** A store that knows one grant, whatever it is asked for. */
function oneGrant(store: GrantStore): GrantStore {
  return {
    lease: (_, request) => store.lease('', request),
    renew: (_, owner, ttlMs) => store.renew('', owner, ttlMs),
    commit: (_, owner, record) => store.commit('', owner, record),
    release: (_, owner) => store.release('', owner),
    read: () => store.read(''),
    end: (_, why) => store.end('', why),
  }
}

type Row = [what: string, change: Change, title: string]

const rows: Row[] = [
  [
    'grants every lease',
    (store) => ({
      lease: async (grantId, request) => ({
        ...(await store.lease(grantId, { ...request, waitMs: 0 })),
        granted: true,
      }),
    }),
    'lease goes to each of twenty waiters, one at a time',
  ],
  [
    'does not wait for a lease',
    asking(() => ({ waitMs: 0 })),
    'lease of another owner is waited for until it is released',
  ],
  [
    'waits for a lease for ever',
    (store) => ({
      lease: async (grantId, request) => {
        const answer = await store.lease(grantId, request)
        return answer.granted ? answer : new Promise(() => {})
      },
    }),
    'lease is not granted when 0 ms of waiting are over',
  ],
  [
    'does not ask for the revision of the caller',
    asking(() => ({ revision: Number.MAX_SAFE_INTEGER })),
    'lease is not granted, and not waited for, if there is a newer record: free',
  ],
  [
    'lets leases expire at once',
    asking(() => ({ ttlMs: 1 })),
    'lease passes on when its holder lets it expire, and not before',
  ],
  [
    'does not let leases expire',
    asking(({ ttlMs }) => ({ ttlMs: ttlMs * 1_000 })),
    'lease passes on when its holder lets it expire, and not before',
  ],
  [
    'leases without the record',
    (store) => ({
      lease: async (grantId, request) => ({ granted: (await store.lease(grantId, request)).granted }),
    }),
    'lease comes with the newest record',
  ],
  [
    'renews anything',
    () => ({ renew: async () => true }),
    'renew does not take a lease that another owner has',
  ],
  ['renews for anybody', asHolder('renew'), 'renew does not take a lease that another owner has'],
  [
    'renews for too short a time',
    (store) => ({ renew: (grantId, owner) => store.renew(grantId, owner, 1) }),
    'renew prolongs the lease of its owner',
  ],
  ['renews nothing', () => ({ renew: async () => false }), 'renew prolongs the lease of its owner'],
  [
    'keeps the lease after a commit',
    (store) => ({ commit: (grantId, _, record) => store.commit(grantId, 'nobody', record) }),
    'commit by the owner leaves the lease free',
  ],
  [
    'frees the lease after anybody’s commit',
    asHolder('commit'),
    'commit by another owner leaves the lease held',
  ],
  [
    'answers a commit with what it was given',
    (store) => ({
      commit: async (grantId, owner, record) => {
        await store.commit(grantId, owner, record)
        return { record }
      },
    }),
    'commit by the owner of an older record keeps the one held',
  ],
  [
    'keeps plain text alone',
    (store) => ({
      commit: (grantId, owner, { revision, tokens }) =>
        store.commit(grantId, owner, { revision, tokens: tokens.replace(/[^ -~]/g, '?') }),
    }),
    'commit keeps the text as it is',
  ],
  ['does not release', () => ({ release: async () => {} }), 'release frees the lease for its owner'],
  ['releases for anybody', asHolder('release'), 'release does nothing for another owner'],
  [
    'keeps the end to itself',
    (store) => ({ end: (grantId, why) => store.end(grantId, why).then(() => undefined) }),
    'end forgets the record, hands it back once and remembers why: logged_out',
  ],
  [
    'knows one end',
    (store) => ({ end: (grantId) => store.end(grantId, 'logged_out') }),
    'end of a grant without a record remembers why: replaced',
  ],
  [
    'forgets that a grant has ended',
    (store) => ({ end: async (grantId) => (await store.read(grantId)).record }),
    'commit to a grant that has ended keeps nothing',
  ],
  [
    'remembers the last reason',
    (store) => {
      const reasons = new Map<string, GrantEnd>()
      return {
        end: (grantId, why) => store.end(reasons.set(grantId, why) && grantId, why),
        read: async (grantId) => {
          const state = await store.read(grantId)
          return state.ended ? { ended: reasons.get(grantId)! } : state
        },
      }
    },
    'end keeps the first reason: logged_out, then replaced',
  ],
  [
    'takes the lease to read',
    (store) => ({
      read: async (grantId) => {
        const { granted: _, ...state } = await store.lease(grantId, {
          owner: 'reader',
          ttlMs: 60_000,
          waitMs: 0,
          revision: Number.MAX_SAFE_INTEGER,
        })
        return state
      },
    }),
    'read does not wait for the lease, nor take it',
  ],
  ['knows one grant', oneGrant, 'another grant has its own record'],
  [
    'finds no grant by its labels',
    () => ({ grantsWith: async () => [] }),
    'grantsWith lists every grant whose record has the label, and no other',
  ],
  [
    'forgets the labels of a grant whose next record has none',
    (store) => ({
      commit: (grantId, owner, { labels = [], ...record }) =>
        store.commit(grantId, owner, { ...record, labels }),
      grantsWith: (label) => store.grantsWith!(label),
    }),
    'grantsWith lists the grant once after a later record, with or without labels',
  ],
  [
    'lists no recent ends',
    () => ({ recentEnds: async () => [] }),
    'recentEnds lists the grants that have ended, and why',
  ],
  [
    'publishes nothing',
    () => ({ publish: async () => {}, subscribe: (_, onOpen) => () => onOpen?.() }),
    'subscribe calls onOpen, and from then on the listener with each text',
  ],
]

describe('grantStoreContract(open)', () => {
  it('has a title of its own for each case', () => {
    const titles = grantStoreContract(() => Promise.reject(new Error('never opened'))).map(
      ({ title }) => title,
    )
    expect(titles.length).toBeGreaterThan(70)
    expect(new Set(titles).size).toBe(titles.length)
  })

  it.concurrent.each(rows)('finds the store that %s', async (_, change, title) => {
    const failures = await broken(change, 20)
    expect(failures.map(([failed]) => failed)).toContain(title)
  })

  it('takes a property that is undefined for one that is absent', async () => {
    const change: Change = (store) => ({
      lease: async (grantId, request) =>
        ({ record: undefined, ended: undefined, ...(await store.lease(grantId, request)) }) as never,
    })
    expect(await broken(change, 200)).toEqual([])
  })

  it('gives a machine that was too slow for short leases longer ones', async () => {
    const late: Change = (store) => ({
      lease: async (grantId, request) => {
        const answer = await store.lease(grantId, request)
        await delay(75)
        return answer
      },
    })
    expect((await broken(late, 50)).map(([title]) => title)).not.toEqual(
      expect.arrayContaining([
        expect.stringMatching(/^(lease passes|lease holds|renew prolongs|renew keeps)/),
      ]),
    )
  })

  it('says of a store that hangs for how long', async () => {
    const failures = await broken(() => ({ lease: () => new Promise(() => {}) }), 10)
    expect(failures[0]?.[1].message).toBe('The grant store kept the case waiting for more than 400 ms.')
  })

  it('says which method answered what, and what was expected', async () => {
    const failures = await broken(() => ({ renew: async () => true }), 20)
    const messages = failures.map(([, { message }]) => message)
    expect(messages).toContainEqual(expect.stringContaining('renew(): expected false, got true'))
    const held = await broken(() => ({ release: async () => {} }), 20)
    expect(held.map(([, { message }]) => message)).toContainEqual(
      expect.stringContaining('whether the lease is free: expected true, got false'),
    )
  })

  it('does without a close()', async () => {
    const [first] = grantStoreContract(() => ({ store: memoryGrantStore() }))
    await expect(first!.run()).resolves.toBeUndefined()
  })

  it('closes every store that it opens, and passes on the failure to open one', async () => {
    let open = 0
    const counted = async () => {
      open++
      const { store } = memoryBut(() => ({ read: () => Promise.reject(new Error('down')) }))
      return { store, close: async () => void open-- }
    }
    const runs = await Promise.allSettled(grantStoreContract(counted).map(({ run }) => run()))
    expect(new Set(runs.map(({ status }) => status))).toEqual(new Set(['fulfilled', 'rejected']))
    expect(open).toBe(0)
    const [first] = grantStoreContract(() => Promise.reject(new Error('no connection')))
    await expect(first!.run()).rejects.toThrow('no connection')
  })
})
