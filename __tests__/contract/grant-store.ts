import { randomUUID } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals'
import type { GrantEnd, GrantRecord, GrantStore, LeaseRequest } from '../../lib/grants/grant-store.js'

/** Longer than a test may take: what is to be woken must be woken by something else. */
const LONG_MS = 60_000
/** A lease that the test sees expire. */
const SHORT_MS = 50

export interface OpenGrantStore {
  readonly store: GrantStore
  close(): Promise<void>
}

/** What every grant store must do, seen from outside. */
export function describeGrantStore(name: string, create: () => Promise<OpenGrantStore>): void {
  describe(`the grant store ${name}`, () => {
    let store: GrantStore
    let close: () => Promise<void>
    let grant: string

    beforeEach(async () => {
      const open = await create()
      store = open.store
      close = () => open.close()
      grant = randomUUID()
    })

    afterEach(() => close())

    const lease = (owner: string, request: Partial<LeaseRequest> = {}, grantId = grant) =>
      store.lease(grantId, { owner, ttlMs: LONG_MS, waitMs: LONG_MS, revision: 0, ...request })

    /** Asks without waiting. */
    const isFree = async () => {
      const { granted } = await lease('whoever asks', { waitMs: 0, revision: Number.MAX_SAFE_INTEGER })
      if (granted) await store.release(grant, 'whoever asks')
      return granted
    }

    /** Resolves when a lease of SHORT_MS that was taken before has expired by the store's own time. */
    const shortLeasesAreOver = async () => {
      const other = randomUUID()
      await lease('first', { ttlMs: SHORT_MS }, other)
      await lease('second', {}, other)
    }

    describe('lease', () => {
      it('is granted at once if nobody holds it', async () => {
        expect(await lease('a', { waitMs: 0 })).toEqual({ granted: true })
      })

      it('comes with the newest record', async () => {
        await store.commit(grant, 'a', record(3))
        expect(await lease('b', { revision: 3 })).toEqual({ granted: true, record: record(3) })
      })

      it('is granted with a record older than the revision of the caller', async () => {
        await store.commit(grant, 'a', record(3))
        expect(await lease('b', { revision: 4 })).toEqual({ granted: true, record: record(3) })
      })

      it('of another owner is waited for until it is released', async () => {
        await lease('a')
        const second = lease('b')
        await stillWaiting(second)
        await store.release(grant, 'a')
        expect(await second).toEqual({ granted: true })
        expect(await store.renew(grant, 'b', LONG_MS)).toBe(true)
      })

      it('of another owner is waited for until a newer record is committed, and is then not granted', async () => {
        await lease('a')
        const second = lease('b')
        await stillWaiting(second)
        await store.commit(grant, 'a', record(1))
        expect(await second).toEqual({ granted: false, record: record(1) })
        expect(await isFree()).toBe(true)
      })

      it('of another owner is waited for until anyone commits a newer record', async () => {
        await lease('a')
        const second = lease('b')
        await stillWaiting(second)
        await store.commit(grant, 'c', record(1))
        expect(await second).toEqual({ granted: false, record: record(1) })
        expect(await isFree()).toBe(false)
      })

      it('is granted after a commit of what the waiter has already', async () => {
        await lease('a', { revision: 2 })
        const second = lease('b', { revision: 2 })
        await stillWaiting(second)
        await store.commit(grant, 'a', record(2))
        expect(await second).toEqual({ granted: true, record: record(2) })
      })

      it.each(['free', 'held'])(
        'is not granted, and not waited for, if there is a newer record: %s',
        async (state) => {
          await store.commit(grant, 'a', record(2))
          if (state === 'held') await lease('a', { revision: 2 })
          expect(await lease('b', { revision: 1 })).toEqual({ granted: false, record: record(2) })
          expect(await isFree()).toBe(state === 'free')
        },
      )

      it.each([0, SHORT_MS])('is not granted when %i ms of waiting are over', async (waitMs) => {
        await store.commit(grant, 'a', record(1))
        await lease('a', { revision: 1 })
        expect(await lease('b', { revision: 1, waitMs })).toEqual({ granted: false, record: record(1) })
        await store.release(grant, 'a')
        expect(await isFree()).toBe(true)
      })

      it('passes on when its holder lets it expire, and not before', async () => {
        const start = performance.now()
        await lease('a', { ttlMs: SHORT_MS })
        expect(await isFree()).toBe(false)
        expect(await lease('b')).toEqual({ granted: true })
        // Clocks count whole milliseconds in some stores.
        expect(performance.now() - start).toBeGreaterThanOrEqual(SHORT_MS - 2)
      })

      it('holds from when it was granted, not from when it was asked for', async () => {
        await lease('a', { ttlMs: SHORT_MS })
        await lease('b', { ttlMs: SHORT_MS })
        expect(await store.renew(grant, 'b', LONG_MS)).toBe(true)
      })

      it('goes to each of twenty waiters, one at a time', async () => {
        const turns: string[] = []
        let holders = 0
        await lease('first')
        const waiters = Array.from({ length: 20 }, async (_, i) => {
          const owner = `waiter ${i}`
          const { granted } = await lease(owner)
          holders++
          expect(holders).toBe(1)
          await new Promise(setImmediate)
          holders--
          if (granted) turns.push(owner)
          await store.release(grant, owner)
        })
        await store.release(grant, 'first')
        await Promise.all(waiters)
        expect(new Set(turns).size).toBe(20)
      })

      it('is granted to one of twenty, the others getting what that one commits', async () => {
        const answers = await Promise.all(
          Array.from({ length: 20 }, async (_, i) => {
            const { granted } = await lease(`${i}`)
            return granted ? store.commit(grant, `${i}`, record(1)).then(() => 'refreshed') : 'told'
          }),
        )
        expect(answers.filter((answer) => answer === 'refreshed')).toHaveLength(1)
      })
    })

    describe('renew', () => {
      it('prolongs the lease of its owner', async () => {
        await lease('a', { ttlMs: SHORT_MS })
        expect(await store.renew(grant, 'a', LONG_MS)).toBe(true)
        await shortLeasesAreOver()
        expect(await isFree()).toBe(false)
        expect(await store.renew(grant, 'a', LONG_MS)).toBe(true)
      })

      it('keeps those waiting who came before', async () => {
        await lease('a', { ttlMs: SHORT_MS })
        const second = lease('b')
        await store.renew(grant, 'a', LONG_MS)
        await shortLeasesAreOver()
        await stillWaiting(second)
        await store.release(grant, 'a')
        expect(await second).toEqual({ granted: true })
      })

      it('prolongs it by the time given', async () => {
        await lease('a', { ttlMs: SHORT_MS })
        await store.renew(grant, 'a', SHORT_MS)
        expect(await lease('b')).toEqual({ granted: true })
      })

      it.each<[string, () => Promise<unknown>, leaseAfter: 'free' | 'held']>([
        ['another owner has', () => lease('b'), 'held'],
        ['was released', () => lease('a').then(() => store.release(grant, 'a')), 'free'],
        [
          'was released by a commit',
          () => lease('a').then(() => store.commit(grant, 'a', record(1))),
          'free',
        ],
        ['has expired', () => lease('a', { ttlMs: SHORT_MS }).then(shortLeasesAreOver), 'free'],
        ['has passed on', () => lease('a', { ttlMs: SHORT_MS }).then(() => lease('b')), 'held'],
      ])('does not take a lease that %s', async (_, given, leaseAfter) => {
        await given()
        expect(await store.renew(grant, 'a', LONG_MS)).toBe(false)
        expect(await isFree()).toBe(leaseAfter === 'free')
      })
    })

    describe('renew of a grant nobody knows', () => {
      it('takes the lease again, or says that there is none', async () => {
        const renewed = await store.renew(grant, 'a', LONG_MS)
        expect(await isFree()).toBe(!renewed)
        expect(await store.renew(grant, 'a', LONG_MS)).toBe(renewed)
      })
    })

    describe('commit', () => {
      const holders: [string, () => Promise<unknown>, leaseAfter: 'free' | 'held'][] = [
        ['the owner', () => lease('a', { revision: 99 }), 'free'],
        ['somebody without a lease', async () => {}, 'free'],
        ['somebody else than the owner', () => lease('b', { revision: 99 }), 'held'],
        [
          'somebody whose lease expired',
          () => lease('a', { revision: 99, ttlMs: SHORT_MS }).then(shortLeasesAreOver),
          'free',
        ],
        [
          'somebody who lost the lease to another',
          () => lease('a', { revision: 99, ttlMs: SHORT_MS }).then(() => lease('b', { revision: 99 })),
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

      describe.each(holders)('by %s', (_, given, leaseAfter) => {
        it.each(revisions)('of $what keeps the one $kept', async ({ held, committed, kept }) => {
          if (held) await store.commit(grant, 'somebody before', record(held, 'held'))
          await given()
          const expected = kept === 'held' ? record(held ?? 0, 'held') : record(committed, 'committed')
          expect(await store.commit(grant, 'a', record(committed, 'committed'))).toEqual({ record: expected })
          expect(await store.read(grant)).toEqual({ record: expected })
        })

        it(`leaves the lease ${leaseAfter}`, async () => {
          await given()
          await store.commit(grant, 'a', record(1))
          expect(await isFree()).toBe(leaseAfter === 'free')
          expect(await store.renew(grant, 'b', LONG_MS)).toBe(leaseAfter === 'held')
        })
      })

      it('to a grant that has ended keeps nothing', async () => {
        await lease('a')
        await store.end(grant, 'logged_out')
        expect(await store.commit(grant, 'a', record(5))).toEqual({ ended: 'logged_out' })
        expect(await store.read(grant)).toEqual({ ended: 'logged_out' })
        expect(await store.end(grant, 'logged_out')).toBeUndefined()
      })

      it('keeps the text as it is', async () => {
        const text = '{"a":"\\"\n ü 🔑 \u2028","n":1e400} \' ; -- $1 %s'
        await store.commit(grant, 'a', { revision: 1, tokens: text })
        expect(await store.read(grant)).toEqual({ record: { revision: 1, tokens: text } })
      })

      it('keeps the newest of many at once', async () => {
        const mixed = [7, 3, 20, 1, 12, 19, 5, 2, 18, 4]
        await Promise.all(mixed.map((revision) => store.commit(grant, `${revision}`, record(revision))))
        expect(await store.read(grant)).toEqual({ record: record(20) })
      })
    })

    describe('release', () => {
      it('frees the lease for its owner', async () => {
        await lease('a')
        await store.release(grant, 'a')
        expect(await isFree()).toBe(true)
      })

      it('does nothing for anybody else', async () => {
        await lease('a')
        const third = lease('c')
        await store.release(grant, 'b')
        await stillWaiting(third)
        expect(await store.renew(grant, 'a', LONG_MS)).toBe(true)
        await store.release(grant, 'a')
        expect(await third).toEqual({ granted: true })
      })

      it('does nothing for somebody whose lease has passed on', async () => {
        await lease('a', { ttlMs: SHORT_MS })
        await lease('b')
        await store.release(grant, 'a')
        expect(await store.renew(grant, 'b', LONG_MS)).toBe(true)
      })

      it('may come twice, or for a grant nobody knows', async () => {
        await lease('a')
        await store.release(grant, 'a')
        await store.release(grant, 'a')
        await store.release(randomUUID(), 'a')
        expect(await isFree()).toBe(true)
      })

      it('keeps the record', async () => {
        await store.commit(grant, 'a', record(1))
        await lease('a', { revision: 1 })
        await store.release(grant, 'a')
        expect(await store.read(grant)).toEqual({ record: record(1) })
      })
    })

    describe('end', () => {
      const reasons: GrantEnd[] = ['logged_out', 'replaced']

      it.each(reasons)('forgets the record, hands it back once and remembers why: %s', async (why) => {
        await store.commit(grant, 'a', record(4))
        expect(await store.end(grant, why)).toEqual(record(4))
        expect(await store.read(grant)).toEqual({ ended: why })
        expect(await store.end(grant, why)).toBeUndefined()
      })

      it.each(reasons)('of a grant without a record remembers why: %s', async (why) => {
        expect(await store.end(grant, why)).toBeUndefined()
        expect(await store.read(grant)).toEqual({ ended: why })
      })

      it.each([
        ['logged_out', 'replaced'],
        ['replaced', 'logged_out'],
      ] as const)('keeps the first reason: %s, then %s', async (first, second) => {
        await store.end(grant, first)
        await store.end(grant, second)
        expect(await store.read(grant)).toEqual({ ended: first })
      })

      it('wakes everybody who waits', async () => {
        await store.commit(grant, 'a', record(1))
        await lease('a', { revision: 1 })
        const waiting = ['b', 'c', 'd'].map((owner) => lease(owner, { revision: 1 }))
        await Promise.all(waiting.map(stillWaiting))
        await store.end(grant, 'logged_out')
        for (const answer of await Promise.all(waiting))
          expect(answer).toEqual({ granted: false, ended: 'logged_out' })
      })

      it('leaves no lease to be had', async () => {
        await store.end(grant, 'replaced')
        expect(await lease('a')).toEqual({ granted: false, ended: 'replaced' })
      })

      it('leaves the holder of the lease to release it', async () => {
        await lease('a')
        await store.end(grant, 'logged_out')
        await store.release(grant, 'a')
        expect(await lease('b')).toEqual({ granted: false, ended: 'logged_out' })
      })
    })

    describe('read', () => {
      it('of a grant nobody knows is empty', async () => {
        expect(await store.read(grant)).toEqual({})
      })

      it('does not wait for the lease, nor take it', async () => {
        await store.commit(grant, 'a', record(1))
        await store.read(grant)
        expect(await lease('a', { revision: 1, waitMs: 0 })).toMatchObject({ granted: true })
        expect(await store.read(grant)).toEqual({ record: record(1) })
        expect(await store.renew(grant, 'a', LONG_MS)).toBe(true)
      })
    })

    describe('another grant', () => {
      let other: string
      beforeEach(() => {
        other = randomUUID()
      })

      it('has its own lease', async () => {
        await lease('a')
        expect(await lease('a', { waitMs: 0 }, other)).toEqual({ granted: true })
        await store.release(other, 'a')
        expect(await store.renew(other, 'a', LONG_MS)).toBe(false)
        expect(await store.renew(grant, 'a', LONG_MS)).toBe(true)
      })

      it('has its own record', async () => {
        await store.commit(grant, 'a', record(2, 'one'))
        await store.commit(other, 'a', record(1, 'other'))
        expect(await store.read(grant)).toEqual({ record: record(2, 'one') })
        expect(await store.read(other)).toEqual({ record: record(1, 'other') })
      })

      it('ends by itself', async () => {
        await store.commit(other, 'a', record(1))
        await store.end(grant, 'logged_out')
        expect(await store.read(other)).toEqual({ record: record(1) })
        expect(await lease('a', { revision: 1 }, other)).toMatchObject({ granted: true })
      })

      it('wakes nobody', async () => {
        await lease('a')
        const waiting = lease('b')
        await lease('a', {}, other)
        await store.commit(other, 'a', record(1))
        await store.end(other, 'logged_out')
        await stillWaiting(waiting)
        await store.release(grant, 'a')
        expect(await waiting).toEqual({ granted: true })
      })
    })
  })
}

function record(revision: number, what = 'tokens'): GrantRecord {
  return { revision, tokens: `${what} ${revision}` }
}

/** Fails if the answer is there already; gives a store that is elsewhere the time to begin waiting. */
async function stillWaiting(answer: Promise<unknown>): Promise<void> {
  expect(await Promise.race([answer, delay(20, 'waiting')])).toBe('waiting')
}
