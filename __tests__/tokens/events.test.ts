import { subscribe, unsubscribe } from 'node:diagnostics_channel'
import { setImmediate } from 'node:timers/promises'
import { inspect } from 'node:util'
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals'
import { TokenError } from '../../lib/errors/token-error.js'
import { emitterOf } from '../../lib/tokens/event-emitter.js'
import type { TokenEvent, TokenEventFacts, TokenEventListener } from '../../lib/tokens/events.js'

const FACTS: TokenEventFacts = { type: 'late_tokens_revoked', grantId: 'grant' }
const now = () => 1_700_000_000_000.25

describe('emitterOf({ onEvent, now, tenant })', () => {
  const unhandled: unknown[] = []
  const onUnhandled = (reason: unknown) => unhandled.push(reason)
  const emitTo = (onEvent: TokenEventListener | undefined) => emitterOf({ onEvent, now })

  beforeEach(() => {
    unhandled.length = 0
    process.on('unhandledRejection', onUnhandled)
  })
  afterEach(() => {
    process.off('unhandledRejection', onUnhandled)
  })

  it('calls the listener at once, with the time in whole milliseconds', () => {
    const received: TokenEvent[] = []
    emitTo((event) => received.push(event))(FACTS)
    expect(received).toEqual([{ ...FACTS, at: 1_700_000_000_000 }])
  })

  it('names the tenant', () => {
    const received: TokenEvent[] = []
    emitterOf({ onEvent: (event) => received.push(event), now, tenant: 'acme' })(FACTS)
    expect(received).toMatchObject([{ tenant: 'acme' }])
  })

  it('rounds durations', () => {
    const received: TokenEvent[] = []
    emitTo((event) => received.push(event))({
      ...{ type: 'refreshed', grantId: 'g', revision: 2, reason: 'expired', waiting: 3 },
      ...{ durationMs: 12.6, leaseWaitMs: 0.4 },
    })
    expect(received).toMatchObject([{ durationMs: 13, leaseWaitMs: 0, waiting: 3 }])
  })

  it('S95 asks for the time only if something listens', () => {
    const asked: number[] = []
    const counting = () => asked.push(0)
    emitterOf({ onEvent: undefined, now: counting })(FACTS)
    expect(asked).toEqual([])
    emitterOf({ onEvent: () => {}, now: counting })(FACTS)
    expect(asked).toHaveLength(1)
  })

  it('S95 publishes the same event on the channel session-token-manager:event', () => {
    const published: unknown[] = []
    const received: TokenEvent[] = []
    const note = (event: unknown) => published.push(event)
    subscribe('session-token-manager:event', note)
    emitTo((event) => received.push(event))(FACTS)
    emitTo(undefined)(FACTS)
    unsubscribe('session-token-manager:event', note)
    emitTo(undefined)(FACTS)
    expect(published).toHaveLength(2)
    expect(published[0]).toBe(received[0])
    expect(published[1]).toEqual(received[0])
  })

  it('S95 has JSON with the message and the codes of its error, and without a stack', () => {
    const received: TokenEvent[] = []
    const error = new TokenError('ERR_TOKEN_ENDPOINT_UNAVAILABLE', 'It is down.', {
      cause: Object.assign(new Error('of rt-1'), { code: 'ECONNRESET' }),
      ...{ retryAfterMs: 2_000, responseStatus: 503, error: 'temporarily_unavailable', secrets: ['rt-1'] },
    })
    const facts = { reason: 'ahead', waiting: 0, leaseWaitMs: 1, durationMs: 2 } as const
    emitTo((event) => received.push(event))({ type: 'refresh_failed', grantId: 'g', error, ...facts })
    expect(JSON.parse(JSON.stringify(received[0]))).toEqual({
      ...{ type: 'refresh_failed', grantId: 'g', at: 1_700_000_000_000, ...facts },
      error: {
        ...{ code: 'ERR_TOKEN_ENDPOINT_UNAVAILABLE', message: 'It is down.', status: 503 },
        ...{ responseStatus: 503, retryAfterMs: 2_000, error: 'temporarily_unavailable' },
        causeCode: 'ECONNRESET',
      },
    })
    expect(inspect(received, { depth: 9 })).not.toContain('rt-1')
  })

  it('needs no listener', () => {
    expect(() => emitTo(undefined)(FACTS)).not.toThrow()
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
    expect(() => emitTo(listener)(FACTS)).not.toThrow()
    for (let turn = 0; turn < 5; turn++) await setImmediate()
    expect(unhandled).toEqual([])
  })
})
