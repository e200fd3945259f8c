import { afterEach, beforeEach, describe, expect, it, jest } from '@jest/globals'
import type { GrantStore } from '../../lib/grants/grant-store.js'
import { LEASE_MS, Lease, RENEW_EVERY_MS } from '../../lib/grants/lease.js'
import { memoryGrantStore } from '../../lib/grants/memory.js'

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

afterEach(() => {
  jest.useRealTimers()
})

const takenByAnother = () => store.lease('grant', { owner: 'another', ttlMs: 60_000, waitMs: 0, revision: 0 })

describe('a lease that is held', () => {
  it('is asked for as it should be', async () => {
    const ask = jest.spyOn(store, 'lease')
    await lease.take(7, 1_234)
    const request = { owner: expect.any(String), ttlMs: LEASE_MS, waitMs: 1_234, revision: 7 }
    expect(ask.mock.calls).toEqual([['grant', request]])
  })

  it('is renewed by its owner every 400 ms', async () => {
    const ask = jest.spyOn(store, 'lease')
    await lease.take(0, 0)
    expect(renew).not.toHaveBeenCalled()
    for (let beat = 1; beat <= 4; beat++) {
      await jest.advanceTimersByTimeAsync(BEAT_MS + 1)
      expect(renew).toHaveBeenCalledTimes(beat)
    }
    expect(renew).toHaveBeenLastCalledWith('grant', ask.mock.calls[0]![1].owner, LEASE_MS)
  })

  it('is held for much longer than it would hold by itself', async () => {
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

  it('goes on being renewed when a renewal tells that it is lost', async () => {
    renew.mockResolvedValueOnce(false)
    await lease.take(0, 0)
    await jest.advanceTimersByTimeAsync(2 * BEAT_MS + 2)
    expect(renew).toHaveBeenCalledTimes(2)
  })

  it.each<[string, number, renewed: boolean, doubtful: boolean]>([
    ['is renewed', 3 * LEASE_MS, true, false],
    ['has not been renewed for a moment', LEASE_MS / 2, false, false],
    ['has not been renewed for more than half of its time', LEASE_MS / 2 + RENEW_EVERY_MS, false, true],
  ])('is doubtful or not when it %s', async (_, ms, renewed, doubtful) => {
    if (!renewed) renew.mockResolvedValue(false)
    await lease.take(0, 0)
    await jest.advanceTimersByTimeAsync(ms)
    expect(lease.isDoubtful).toBe(doubtful)
  })

  it('is doubtful when the answer that grants it was long in coming: it may have run out on the way', async () => {
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
    expect(lease.isDoubtful).toBe(true)
    expect(await lease.renew()).toBe(false)
    expect(lease.isDoubtful).toBe(true)
  })

  it('is beyond doubt again when it could be renewed', async () => {
    await lease.take(0, 0)
    renew.mockResolvedValue(false)
    await jest.advanceTimersByTimeAsync(LEASE_MS)
    renew.mockResolvedValue(true)
    expect(lease.isDoubtful).toBe(true)
    expect(await lease.renew()).toBe(true)
    expect(lease.isDoubtful).toBe(false)
  })

  it('has an owner of its own, within one process too', async () => {
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

  it('is not renewed from the moment when a commit is sent, which would take it again', async () => {
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

  it('hands on the newer record', async () => {
    await store.commit('grant', 'another', record)
    expect(await lease.take(0, 0)).toEqual({ granted: false, record })
  })

  it('can be asked for again', async () => {
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

  it('has nothing to do before the lease was asked for', async () => {
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

  it('passes on the failure of the store, and the lease expires by itself', async () => {
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

describe('commit', () => {
  it('keeps the record and releases the lease', async () => {
    await lease.take(0, 0)
    expect(await lease.commit(record)).toEqual({ record })
    expect(await store.read('grant')).toEqual({ record })
  })

  it('keeps the record after the lease was lost, and leaves it to the one who has it', async () => {
    renew.mockRejectedValue(new Error('unreachable'))
    await lease.take(0, 0)
    await jest.advanceTimersByTimeAsync(LEASE_MS + 1)
    expect(await takenByAnother()).toEqual({ granted: true })
    expect(await lease.commit(record)).toEqual({ record })
    renew.mockRestore()
    expect(await store.renew('grant', 'another', 1_000)).toBe(true)
  })
})
