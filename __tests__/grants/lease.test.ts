import { afterEach, beforeEach, describe, expect, it, jest } from '@jest/globals'
import { LEASE_MS, RENEW_EVERY_MS } from '../../lib/concurrency/time-constants.js'
import type { GrantStore } from '../../lib/grants/grant-store.js'
import { Lease } from '../../lib/grants/lease.js'
import { memoryGrantStore } from '../../lib/grants/memory-grant-store.js'
import { createGate } from '../helpers/gate.js'

const BEAT_MS = RENEW_EVERY_MS
const record = { revision: 1, tokens: 'tokens' }

let store: GrantStore
let renew: jest.SpiedFunction<GrantStore['renew']>
let release: jest.SpiedFunction<GrantStore['release']>
let lease: Lease

beforeEach(() => {
  jest.useFakeTimers()
  store = memoryGrantStore()
  renew = jest.spyOn(store, 'renew')
  release = jest.spyOn(store, 'release')
  lease = new Lease(store, 'grant')
})

afterEach(async () => {
  // One timer renews all leases, so none may be left.
  await lease.release().catch(() => {})
  jest.useRealTimers()
})

const takenByAnother = () => store.lease('grant', { owner: 'another', ttlMs: 60_000, waitMs: 0, revision: 0 })

describe('a lease that is held', () => {
  it('is requested with the right parameters', async () => {
    const ask = jest.spyOn(store, 'lease')
    await lease.take(7, 1_234)
    const request = { owner: expect.any(String), ttlMs: LEASE_MS, waitMs: 1_234, revision: 7 }
    expect(ask.mock.calls).toEqual([['grant', request]])
  })

  it('is renewed by its owner every 800 ms', async () => {
    const ask = jest.spyOn(store, 'lease')
    await lease.take(0, 0)
    expect(renew).not.toHaveBeenCalled()
    for (let beat = 1; beat <= 4; beat++) {
      await jest.advanceTimersByTimeAsync(BEAT_MS + 1)
      expect(renew).toHaveBeenCalledTimes(beat)
    }
    expect(renew).toHaveBeenLastCalledWith('grant', ask.mock.calls[0]![1].owner, LEASE_MS)
  })

  it('is held for much longer than its time to live', async () => {
    await lease.take(0, 0)
    await jest.advanceTimersByTimeAsync(20 * LEASE_MS)
    expect(await takenByAnother()).toEqual({ granted: false })
    await lease.release()
    expect(await takenByAnother()).toEqual({ granted: true })
  })

  it('survives a renewal that fails', async () => {
    renew.mockRejectedValueOnce(new Error('unreachable'))
    await lease.take(0, 0)
    await jest.advanceTimersByTimeAsync(2 * LEASE_MS)
    expect(await takenByAnother()).toEqual({ granted: false })
  })

  it('is still renewed after a renewal that reports its loss', async () => {
    renew.mockResolvedValueOnce(false)
    await lease.take(0, 0)
    await jest.advanceTimersByTimeAsync(2 * BEAT_MS + 2)
    expect(renew).toHaveBeenCalledTimes(2)
  })

  it.each<[string, number, renewal: 'succeeds' | 'fails' | 'is refused', sure: boolean]>([
    ['is renewed', 3 * LEASE_MS, 'succeeds', true],
    ['has not been renewed for a moment', LEASE_MS / 2, 'fails', true],
    ['has not been renewed for more than half of its time', LEASE_MS / 2 + BEAT_MS, 'fails', false],
    ['is lost, as the grant store says', BEAT_MS + 1, 'is refused', false],
  ])('is sure or not when it %s', async (_, ms, renewal, sure) => {
    if (renewal === 'fails') renew.mockRejectedValue(new Error('unreachable'))
    if (renewal === 'is refused') renew.mockResolvedValue(false)
    await lease.take(0, 0)
    await jest.advanceTimersByTimeAsync(ms)
    expect(lease.isSure).toBe(sure)
  })

  it('is not sure if the response that grants it took long: the lease may have run out', async () => {
    let arrive = () => {}
    const arrived = new Promise<void>((resolve) => (arrive = resolve))
    const ask = store.lease.bind(store)
    jest.spyOn(store, 'lease').mockImplementationOnce(async (...request) => {
      const answer = await ask(...request)
      await arrived
      return answer
    })
    const taking = lease.take(0, 0)
    await jest.advanceTimersByTimeAsync(LEASE_MS + 1)
    expect(await takenByAnother()).toEqual({ granted: true })
    arrive()
    expect(await taking).toEqual({ granted: true })
    expect(lease.isSure).toBe(false)
  })

  it('becomes sure again by being taken again, not by a renewal', async () => {
    renew.mockRejectedValue(new Error('unreachable'))
    await lease.take(0, 0)
    await jest.advanceTimersByTimeAsync(LEASE_MS / 2 + BEAT_MS)
    renew.mockResolvedValue(true)
    await jest.advanceTimersByTimeAsync(2 * BEAT_MS)
    expect(lease.isSure).toBe(false)
    const taken = lease.take(0, 0)
    expect(release).toHaveBeenCalledTimes(1)
    expect(await taken).toEqual({ granted: true })
    expect(lease.isSure).toBe(true)
    await jest.advanceTimersByTimeAsync(2 * LEASE_MS)
    expect(lease.isSure).toBe(true)
    await lease.release()
    expect(jest.getTimerCount()).toBe(0)
  })

  it('is not taken again if the grant store fails to release it', async () => {
    await lease.take(0, 0)
    release.mockRejectedValueOnce(new Error('unreachable'))
    await expect(lease.take(0, 0)).rejects.toThrow('unreachable')
    expect(lease.isHeld).toBe(false)
  })

  it('is not held if it was released to be taken again, and another process was faster', async () => {
    await lease.take(0, 0)
    release.mockImplementationOnce(async (grantId, owner) => {
      await store.release(grantId, owner)
      await takenByAnother()
    })
    expect(await lease.take(0, 0)).toEqual({ granted: false })
    expect(lease.isHeld).toBe(false)
  })

  it('is not sure after a commit that failed, since it is not renewed any more', async () => {
    jest.spyOn(store, 'commit').mockRejectedValueOnce(new Error('unreachable'))
    await lease.take(0, 0)
    await expect(lease.commit(record)).rejects.toThrow('unreachable')
    expect([lease.isHeld, lease.isSure]).toEqual([true, false])
    await lease.take(0, 0)
    expect(lease.isSure).toBe(true)
  })

  it('has an owner of its own, also within one process', async () => {
    await lease.take(0, 0)
    expect(await new Lease(store, 'grant').take(0, 0)).toEqual({ granted: false })
  })

  it.each([
    ['release', () => lease.release()],
    ['a commit', () => lease.commit(record)],
  ])('is not renewed after %s', async (_, giveUp) => {
    await lease.take(0, 0)
    await giveUp()
    await jest.advanceTimersByTimeAsync(2 * LEASE_MS)
    expect(renew).not.toHaveBeenCalled()
    expect(jest.getTimerCount()).toBe(0)
  })

  it('is not renewed after a commit is sent, since a renewal would take it again', async () => {
    jest.spyOn(store, 'commit').mockReturnValue(new Promise(() => {}))
    await lease.take(0, 0)
    void lease.commit(record)
    await jest.advanceTimersByTimeAsync(2 * LEASE_MS)
    expect(renew).not.toHaveBeenCalled()
  })
})

describe('a lease that is not granted', () => {
  it('is not renewed, and there is nothing to release', async () => {
    await takenByAnother()
    expect(await lease.take(0, 0)).toEqual({ granted: false })
    await jest.advanceTimersByTimeAsync(LEASE_MS)
    await lease.release()
    expect(renew).not.toHaveBeenCalled()
    expect(release).not.toHaveBeenCalled()
  })

  it('returns the newer record', async () => {
    await store.commit('grant', 'another', record)
    expect(await lease.take(0, 0)).toEqual({ granted: false, record })
  })

  it('can be requested again', async () => {
    await takenByAnother()
    await lease.take(0, 0)
    await store.release('grant', 'another')
    expect(await lease.take(0, 0)).toEqual({ granted: true })
  })

  it('passes on the failure of the store, and there is nothing to release', async () => {
    jest.spyOn(store, 'lease').mockRejectedValue(new Error('unreachable'))
    await expect(lease.take(0, 0)).rejects.toThrow('unreachable')
    await lease.release()
    expect(release).not.toHaveBeenCalled()
    expect(jest.getTimerCount()).toBe(0)
  })
})

describe('release', () => {
  it('comes once', async () => {
    await lease.take(0, 0)
    await Promise.all([lease.release(), lease.release()])
    await lease.release()
    expect(release).toHaveBeenCalledTimes(1)
    expect(await takenByAnother()).toEqual({ granted: true })
  })

  it('does nothing before the lease was requested', async () => {
    await lease.release()
    expect(release).not.toHaveBeenCalled()
  })

  it('has nothing to do after a commit', async () => {
    await lease.take(0, 0)
    expect(await lease.commit(record)).toEqual({ record })
    await lease.release()
    expect(release).not.toHaveBeenCalled()
    expect(await store.lease('grant', { owner: 'b', ttlMs: 1, waitMs: 0, revision: 1 })).toMatchObject({
      granted: true,
    })
  })

  it('comes after a commit that failed', async () => {
    jest.spyOn(store, 'commit').mockRejectedValue(new Error('unreachable'))
    await lease.take(0, 0)
    await expect(lease.commit(record)).rejects.toThrow('unreachable')
    await lease.release()
    expect(release).toHaveBeenCalledTimes(1)
    expect(await takenByAnother()).toEqual({ granted: true })
  })

  it('rejects with the failure of the store, and the lease runs out', async () => {
    release.mockRejectedValue(new Error('unreachable'))
    await lease.take(0, 0)
    await expect(lease.release()).rejects.toThrow('unreachable')
    expect(await takenByAnother()).toEqual({ granted: false })
    await jest.advanceTimersByTimeAsync(LEASE_MS + 1)
    expect(await takenByAnother()).toEqual({ granted: true })
  })

  it('is made up for by a lease that arrives after it', async () => {
    await takenByAnother()
    const late = lease.take(0, 60_000)
    await lease.release()
    expect(release).not.toHaveBeenCalled()
    await store.release('grant', 'another')
    expect(await late).toEqual({ granted: true })
    expect(release).toHaveBeenCalledTimes(2)
    expect(await takenByAnother()).toEqual({ granted: true })
    await jest.advanceTimersByTimeAsync(2 * LEASE_MS)
    expect(renew).not.toHaveBeenCalled()
  })
})

/** The store loses the lease, and with it what it knows of its owner; then a renewal takes the lease, as that of its holder. */
async function renewedLate(owner: string): Promise<boolean> {
  return (await store.lease('grant', { owner, ttlMs: LEASE_MS, waitMs: 0, revision: 1 })).granted
}

describe('a renewal that arrives late', () => {
  it.each<[string, () => Promise<unknown>]>([
    ['a release', () => lease.release()],
    ['a commit', () => lease.commit(record).then(() => lease.release())],
  ])('takes no lease after %s, though the store has lost it', async (_, end) => {
    const gate = createGate()
    renew.mockImplementationOnce(async (_, owner) => {
      await gate.pass()
      return renewedLate(owner)
    })
    await lease.take(0, 0)
    await jest.advanceTimersByTimeAsync(BEAT_MS + 1)
    await gate.reached
    await end()
    gate.release()
    await jest.advanceTimersByTimeAsync(1)
    expect(await renewedLate('another')).toBe(true)
  })
})

describe('commit', () => {
  it('keeps the record and releases the lease', async () => {
    await lease.take(0, 0)
    expect(await lease.commit(record)).toEqual({ record })
    expect(await store.read('grant')).toEqual({ record })
  })

  it('keeps the record after the lease was lost, and does not release the lease of the other owner', async () => {
    renew.mockRejectedValue(new Error('unreachable'))
    await lease.take(0, 0)
    await jest.advanceTimersByTimeAsync(LEASE_MS + 1)
    expect(await takenByAnother()).toEqual({ granted: true })
    expect(await lease.commit(record)).toEqual({ record })
    renew.mockRestore()
    expect(await store.renew('grant', 'another', 1_000)).toBe(true)
  })
})
