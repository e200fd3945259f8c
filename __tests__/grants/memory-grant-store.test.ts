import { afterEach, describe, expect, it, jest } from '@jest/globals'
import { memoryGrantStore } from '../../lib/grants/memory-grant-store.js'
import { describeGrantStore } from '../contract/grant-store.js'

describeGrantStore('in memory', async () => ({ store: memoryGrantStore(), close: async () => {} }))

describe('the time for which a grant and its end are remembered', () => {
  afterEach(() => void jest.useRealTimers())
  const DAY_MS = 86_400_000
  const record = { revision: 1, tokens: 'tokens' }

  it.each([
    ['a day, without a retention', undefined, DAY_MS],
    ['the time of the retention', { ttlMs: 7 * DAY_MS }, 7 * DAY_MS],
  ])('is %s', async (_, retention, expectedMs) => {
    jest.useFakeTimers()
    const store = memoryGrantStore()
    await store.commit('grant', 'a', record, retention)
    await store.end('ended', 'logged_out', retention)
    jest.advanceTimersByTime(expectedMs - 1)
    expect([await store.read('grant'), await store.read('ended')]).toEqual([
      { record },
      { ended: 'logged_out' },
    ])
    jest.advanceTimersByTime(60_001)
    expect([await store.read('grant'), await store.read('ended')]).toEqual([{}, {}])
  })
})

it('a grant expires by fake timers too, as an app may use them in its tests', async () => {
  const store = memoryGrantStore()
  jest.useFakeTimers()
  await store.commit('grant', 'a', { revision: 1, tokens: 'tokens' }, { ttlMs: 60_000 })
  jest.advanceTimersByTime(10 * 60_000)
  expect(await store.read('grant')).toEqual({})
  jest.useRealTimers()
})

describe('the memory that grants use', () => {
  const first = { revision: 1, tokens: 'first' }
  const second = { revision: 2, tokens: 'second' }
  const request = { owner: 'a', ttlMs: 60_000, waitMs: 0, revision: 9 }

  it('is bounded: the grant is forgotten that was least recently refreshed', async () => {
    const store = memoryGrantStore({ maxGrants: 2 })
    await store.commit('one', 'a', first)
    await store.commit('two', 'a', first)
    await store.commit('one', 'a', second)
    await store.commit('three', 'a', first)
    expect(await store.read('one')).toEqual({ record: second })
    expect(await store.read('two')).toEqual({})
    expect(await store.read('three')).toEqual({ record: first })
  })

  it.each<[string, (store: ReturnType<typeof memoryGrantStore>) => Promise<unknown>]>([
    ['read', (store) => store.read('one')],
    ['leased', (store) => store.lease('one', request)],
    ['committed to with nothing newer', (store) => store.commit('one', 'a', first)],
  ])('does not remember a grant for longer because it is %s', async (_, use) => {
    const store = memoryGrantStore({ maxGrants: 2 })
    await store.commit('one', 'a', first)
    await store.commit('two', 'a', first)
    await use(store)
    await store.commit('three', 'a', first)
    expect(await store.read('one')).toEqual({})
    expect(await store.read('two')).toEqual({ record: first })
  })

  it('holds a hundred thousand grants by default', async () => {
    const store = memoryGrantStore()
    for (let i = 0; i <= 100_000; i++) await store.commit(`${i}`, 'a', first)
    expect(await store.read('0')).toEqual({})
    expect(await store.read('1')).toEqual({ record: first })
  })

  it('is called for a grant, and for an end, that was evicted', async () => {
    const store = memoryGrantStore({ maxGrants: 1 })
    const evicted: string[] = []
    const retention = { ttlMs: 60_000, onEvicted: (grantId: string) => evicted.push(grantId) }
    for (const grant of ['one', 'two']) await store.commit(grant, 'a', first, retention)
    expect(evicted).toEqual(['one'])
    for (let i = 0; i <= 10; i++) await store.end(`ended ${i}`, 'logged_out', retention)
    expect(evicted).toEqual(['one', 'ended 0'])
  })

  it('never evicts a lease', async () => {
    const store = memoryGrantStore({ maxGrants: 2 })
    await store.lease('one', request)
    for (let i = 0; i < 1_000; i++) {
      await store.lease(`other ${i}`, request)
      await store.commit(`another ${i}`, 'a', first)
      await store.end(`ended ${i}`, 'replaced')
    }
    expect(await store.lease('one', { ...request, owner: 'b' })).toEqual({ granted: false })
    expect(await store.renew('one', 'a', 60_000)).toBe(true)
  })

  it('outlives many grants for the end of one', async () => {
    const store = memoryGrantStore({ maxGrants: 10 })
    await store.end('one', 'logged_out')
    for (let i = 0; i < 1_000; i++) await store.commit(`other ${i}`, 'a', first)
    for (let i = 0; i < 99; i++) await store.end(`ended ${i}`, 'replaced')
    expect(await store.commit('one', 'a', second)).toEqual({ ended: 'logged_out' })
  })

  it('is not shared between stores', async () => {
    const store = memoryGrantStore()
    await store.commit('one', 'a', first)
    expect(await memoryGrantStore().read('one')).toEqual({})
  })
})

describe('the labels of grants in memory', () => {
  afterEach(() => void jest.useRealTimers())
  const labelled = (labels: string[], revision = 1) => ({ revision, tokens: 'tokens', labels })

  it('are forgotten with an evicted grant, an ended one and one that has expired', async () => {
    jest.useFakeTimers()
    const store = memoryGrantStore({ maxGrants: 2 })
    await store.commit('evicted', 'a', labelled(['user']))
    await store.commit('ended', 'a', labelled(['user']))
    await store.commit('expires', 'a', labelled(['user']), { ttlMs: 60_000 })
    expect(await store.grantsWith!('user')).toEqual(['ended', 'expires'])
    await store.end('ended', 'logged_out')
    expect(await store.grantsWith!('user')).toEqual(['expires'])
    jest.advanceTimersByTime(180_000)
    expect(await store.grantsWith!('user')).toEqual([])
  })

  it('are those of the newest record that has any', async () => {
    const store = memoryGrantStore()
    await store.commit('one', 'a', labelled(['first']))
    await store.commit('one', 'a', labelled(['second'], 2))
    await store.commit('one', 'a', { revision: 3, tokens: 'tokens' })
    expect(await store.grantsWith!('first')).toEqual([])
    expect(await store.grantsWith!('second')).toEqual(['one'])
  })
})
