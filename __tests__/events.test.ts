import { setImmediate } from 'node:timers/promises'
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals'
import { emitterOf, type TokenEvent } from '../lib/events.js'

const EVENT: TokenEvent = { type: 'late_tokens_revoked', grantId: 'grant' }

describe('emitterOf(listener)', () => {
  const unhandled: unknown[] = []
  const onUnhandled = (reason: unknown) => unhandled.push(reason)

  beforeEach(() => {
    unhandled.length = 0
    process.on('unhandledRejection', onUnhandled)
  })
  afterEach(() => {
    process.off('unhandledRejection', onUnhandled)
  })

  it('tells the listener at once', () => {
    const told: TokenEvent[] = []
    emitterOf((event) => told.push(event))(EVENT)
    expect(told).toEqual([EVENT])
  })

  it('needs none', () => {
    expect(() => emitterOf(undefined)(EVENT)).not.toThrow()
  })

  const full = new Error('the log is full')
  const throws = () => {
    throw full
  }

  it.each<[string, () => unknown]>([
    ['throws', throws],
    ['rejects', () => Promise.reject(full)],
    ['rejects later', () => setImmediate().then(throws)],
  ])('a listener that %s does no harm', async (_, listener) => {
    expect(() => emitterOf(listener)(EVENT)).not.toThrow()
    for (let turn = 0; turn < 5; turn++) await setImmediate()
    expect(unhandled).toEqual([])
  })
})
