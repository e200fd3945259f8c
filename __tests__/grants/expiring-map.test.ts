import { beforeEach, describe, expect, it } from '@jest/globals'
import { ExpiringMap } from '../../lib/grants/expiring-map.js'

const MINUTE_MS = 60_000
const HOUR_MS = 60 * MINUTE_MS

let now: number
const remembered = (max: number) => new ExpiringMap<string>(max, undefined, () => now)

beforeEach(() => {
  now = 1_000
})

describe('an entry of an ExpiringMap', () => {
  it.each([
    ['a millisecond before it expires', HOUR_MS - 1, 'value'],
    ['a minute after it expired', HOUR_MS + MINUTE_MS, undefined],
  ])('has the value that was set, or none: %s', (_, passedMs, expected) => {
    const memory = remembered(10)
    memory.set('grant', 'value', HOUR_MS)
    now += passedMs
    expect(memory.get('grant')).toBe(expected)
    expect(memory.has('grant')).toBe(expected !== undefined)
  })

  it('is not remembered for a shorter time since it was set again', () => {
    const memory = remembered(10)
    memory.set('grant', 'first', 2 * HOUR_MS)
    memory.set('grant', 'second', MINUTE_MS)
    now += 2 * HOUR_MS - 1
    expect(memory.get('grant')).toBe('second')
  })

  it('expires after its own time', () => {
    const memory = remembered(10)
    memory.set('long', 'value', HOUR_MS)
    memory.set('short', 'value', MINUTE_MS)
    now += 3 * MINUTE_MS
    expect([memory.get('long'), memory.get('short')]).toEqual(['value', undefined])
  })

  it('is absent after it was deleted', () => {
    const memory = remembered(10)
    memory.set('grant', 'value', HOUR_MS)
    memory.delete('grant')
    expect(memory.get('grant')).toBeUndefined()
  })
})

describe('a memory that is full', () => {
  it('is evicted if it was set longest ago, and onEvicted is called', () => {
    const memory = remembered(2)
    const evicted: string[] = []
    for (const grant of ['one', 'two', 'one', 'three']) {
      memory.set(grant, 'value', HOUR_MS, (grantId) => evicted.push(grantId))
    }
    expect(evicted).toEqual(['two'])
    expect(['one', 'two', 'three'].map((grant) => memory.get(grant))).toEqual(['value', undefined, 'value'])
  })

  it('calls no onEvicted after it has expired', () => {
    const memory = remembered(2)
    const evicted: string[] = []
    const set = (grant: string) => memory.set(grant, 'value', MINUTE_MS, (grantId) => evicted.push(grantId))
    for (const grant of ['one', 'two']) set(grant)
    now += HOUR_MS
    for (const grant of ['three', 'four']) set(grant)
    expect(evicted).toEqual([])
    expect(['three', 'four'].map((grant) => memory.get(grant))).toEqual(['value', 'value'])
  })

  it('is deleted after its expiry to make room, at any position', () => {
    const memory = remembered(1_000)
    const evicted: string[] = []
    const onEvicted = (grantId: string) => evicted.push(grantId)
    for (let n = 0; n < 500; n++) memory.set(`long ${n}`, 'value', 24 * HOUR_MS, onEvicted)
    for (let n = 0; n < 10_000; n++) {
      memory.set(`short ${n}`, 'value', MINUTE_MS, onEvicted)
      now += MINUTE_MS / 100
    }
    expect(evicted).toEqual([])
    expect(memory.get('long 0')).toBe('value')
  })
})
