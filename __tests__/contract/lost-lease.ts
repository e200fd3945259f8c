import { randomUUID } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import { describe, expect, it } from '@jest/globals'
import type { GrantStore } from '../../lib/index.js'

export interface LosingStore {
  readonly store: GrantStore
  /** How long the store leaves a lease that it may have lost to the holder, in milliseconds. */
  readonly graceMs: number
  /** Makes the storage lose a grant. */
  lose(grantId: string): Promise<unknown>
}

/** Tests that a store loses a grant with its lease, and that another process stores the record again before the holder renews. */
export function describeLostLease(start: () => LosingStore): void {
  const record = { revision: 1, tokens: 'tokens' }
  const again = { ...record, isStoredAgain: true }

  async function lost() {
    const { graceMs, lose, store } = start()
    const grant = randomUUID()
    const lease = (owner: string, waitMs = 0) =>
      store.lease(grant, { owner, ttlMs: 60_000, waitMs, revision: 1 })
    await store.commit(grant, 'login', record)
    expect(await lease('holder')).toMatchObject({ granted: true })
    await lose(grant)
    return { grant, graceMs, lease, store }
  }

  describe('S47 a lease that was lost with its grant, whose record is stored again', () => {
    it('S47 is left to its holder, which can renew it', async () => {
      const { grant, lease, store } = await lost()
      await store.commit(grant, 'another', again)
      expect(await lease('other')).toMatchObject({ granted: false, record })
      expect(await store.renew(grant, 'holder', 60_000)).toBe(true)
      expect(await lease('other')).toMatchObject({ granted: false })
      const newer = { revision: 2, tokens: 'newer' }
      expect(await store.commit(grant, 'holder', newer)).toMatchObject({ record: newer })
      expect(await lease('other')).toMatchObject({ granted: false, record: newer })
    })

    it('S47 is left to its holder if another process asks for it before the record is stored again', async () => {
      const { grant, lease, store } = await lost()
      expect(await lease('other')).toMatchObject({ granted: false })
      await store.commit(grant, 'another', again)
      expect(await lease('other')).toMatchObject({ granted: false })
      expect(await store.renew(grant, 'holder', 60_000)).toBe(true)
    })

    it('S47 goes to another process after the grace, and then its holder cannot renew it', async () => {
      const { grant, graceMs, lease, store } = await lost()
      await store.commit(grant, 'another', again)
      const askedAt = performance.now()
      expect(await lease('other', 10 * graceMs)).toMatchObject({ granted: true, record })
      expect(performance.now() - askedAt).toBeGreaterThan(graceMs / 2)
      expect(await store.renew(grant, 'holder', 60_000)).toBe(false)
    })

    it('S47 is over once its holder has renewed and released it', async () => {
      const { grant, lease, store } = await lost()
      await store.commit(grant, 'another', again)
      await lease('other')
      await store.renew(grant, 'holder', 60_000)
      await store.release(grant, 'holder')
      expect(await store.renew(grant, 'holder', 60_000)).toBe(false)
      expect(await lease('other')).toMatchObject({ granted: true })
    })

    it('S47 a lease that ran out while another process waited is over once it is released', async () => {
      const { grant, lease, store } = await lost()
      await store.commit(grant, 'another', { revision: 1, tokens: 'tokens' })
      await store.lease(grant, { owner: 'holder', ttlMs: 1, waitMs: 0, revision: 1 })
      await delay(10)
      expect(await lease('other')).toMatchObject({ granted: false })
      await store.release(grant, 'holder')
      expect(await store.renew(grant, 'holder', 60_000)).toBe(false)
    })

    it('S47 is over once its holder has committed', async () => {
      const { grant, store } = await lost()
      await store.commit(grant, 'another', again)
      await store.commit(grant, 'holder', { revision: 2, tokens: 'newer' })
      expect(await store.renew(grant, 'holder', 60_000)).toBe(false)
      const state = await store.lease(grant, { owner: 'next', ttlMs: 60_000, waitMs: 0, revision: 2 })
      expect(state).toMatchObject({ granted: true })
    })

    it('S47 a lease that ran out while another process waited is over once its owner has stored the record again', async () => {
      const { grant, lease, store } = await lost()
      await store.commit(grant, 'another', record)
      await store.lease(grant, { owner: 'holder', ttlMs: 1, waitMs: 0, revision: 1 })
      await delay(10)
      expect(await lease('other')).toMatchObject({ granted: false })
      await store.commit(grant, 'holder', again)
      expect(await store.renew(grant, 'late', 60_000)).toBe(false)
      expect(await lease('other')).toMatchObject({ granted: true })
    })
  })

  it('S47 a record that is stored again while the store still has the grant delays no lease', async () => {
    const { store } = start()
    const grant = randomUUID()
    await store.commit(grant, 'login', record)
    await store.commit(grant, 'another', { revision: 2, tokens: 'newer', isStoredAgain: true })
    const state = await store.lease(grant, { owner: 'a', ttlMs: 60_000, waitMs: 0, revision: 2 })
    expect(state).toMatchObject({ granted: true })
  })
}
