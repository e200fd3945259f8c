import { describe, expect, it } from '@jest/globals'
import { CircuitBreaker } from '../../lib/concurrency/circuit-breaker.js'

type Step =
  /** A caller asks: it may, or must wait for so many milliseconds. */
  | ['asks', caller: string, waitMs: number]
  | ['fails', caller: string, failure?: { retryAfterMs?: number; isOfService?: boolean }]
  | ['succeeds', startedAt: number]
  | ['ends', caller: string]
  | ['passes', ms: number]
  | ['is', 'open' | 'closed']

const opens: Step[] = [
  ['fails', 'a'],
  ['fails', 'b'],
  ['fails', 'c'],
]
/** The breaker is open, and `d` is its probe. */
const probes: Step[] = [...opens, ['passes', 1_000], ['asks', 'd', 0]]
const asksAll = { retryAfterMs: 30_000, isOfService: true }

function play(steps: readonly Step[], least = 3): void {
  const breaker = new CircuitBreaker(least)
  let now = 0
  for (const [index, step] of steps.entries()) {
    const at = `step ${index + 1}: ${step.join(' ')}`
    if (step[0] === 'fails') breaker.failed(step[1], now, step[2])
    if (step[0] === 'succeeds') breaker.succeeded(step[1])
    if (step[0] === 'ends') breaker.ended(step[1])
    if (step[0] === 'passes') now += step[1]
    if (step[0] === 'is') expect([at, breaker.isOpen]).toEqual([at, step[1] === 'open'])
    if (step[0] !== 'asks') continue
    const waitMs = breaker.waitMs(step[1], now)
    expect([at, waitMs]).toEqual([at, step[2]])
    if (waitMs === 0) breaker.started(step[1], now)
  }
}

describe('a circuit breaker for which failures of three callers count', () => {
  it.each<[transition: string, ...Step[]]>([
    ['is closed at first', ['asks', 'a', 0], ['is', 'closed']],
    ['stays closed after two failures', ['fails', 'a'], ['fails', 'b'], ['is', 'closed']],
    ['opens at the third failure, for a second', ...opens, ['is', 'open'], ['asks', 'd', 1_000]],
    [
      'stays closed when one caller alone fails',
      ...opens.map((): Step => ['fails', 'a']),
      ['fails', 'a'],
      ['is', 'closed'],
    ],
    [
      'opens as soon as the failures are of three callers',
      ['fails', 'a'],
      ['fails', 'a'],
      ['fails', 'b'],
      ['is', 'closed'],
      ['fails', 'c'],
      ['is', 'open'],
    ],
    [
      'counts failures in a row',
      ['fails', 'a'],
      ['fails', 'b'],
      ['succeeds', 0],
      ['fails', 'c'],
      ['is', 'closed'],
    ],
    [
      'lets one probe go after a second',
      ...opens,
      ['passes', 999],
      ['asks', 'd', 1],
      ['passes', 1],
      ['asks', 'd', 0],
      ['asks', 'e', 3_000],
    ],
    ['closes when the probe succeeds', ...probes, ['succeeds', 1_000], ['is', 'closed'], ['asks', 'e', 0]],
    [
      'stays open for another second when the probe fails',
      ...probes,
      ['fails', 'd'],
      ['is', 'open'],
      ['asks', 'e', 1_000],
    ],
    [
      'takes another caller for the next probe',
      ...probes,
      ['fails', 'd'],
      ['passes', 1_000],
      ['asks', 'd', 1_000],
      ['asks', 'e', 0],
    ],
    [
      'takes the same caller again if there is no other',
      ...probes,
      ['fails', 'd'],
      ['passes', 2_000],
      ['asks', 'd', 0],
    ],
    [
      'lets another probe go when one is silent for three seconds',
      ...probes,
      ['passes', 3_000],
      ['asks', 'e', 0],
    ],
    ['lets another probe go when one has ended without asking', ...probes, ['ends', 'd'], ['asks', 'e', 0]],
    ['keeps its probe when another caller ends', ...probes, ['ends', 'a'], ['asks', 'e', 3_000]],
    ['keeps its probe when another caller fails', ...probes, ['fails', 'a'], ['asks', 'e', 3_000]],
    [
      'closes when an earlier request succeeds: the service works',
      ...opens,
      ['succeeds', 0],
      ['is', 'closed'],
    ],
  ])('%s', (_, ...steps) => play(steps))

  it.each<[transition: string, ...Step[]]>([
    [
      'opens at once when the service asks all callers to wait',
      ['fails', 'a', asksAll],
      ['asks', 'b', 30_000],
      ['passes', 30_000],
      ['asks', 'a', 0],
    ],
    [
      'waits for five minutes at most',
      ['fails', 'a', { retryAfterMs: 3_600_000, isOfService: true }],
      ['asks', 'b', 300_000],
    ],
    [
      'stays closed when the service asks one caller to wait',
      ['fails', 'a', { retryAfterMs: 30_000 }],
      ['is', 'closed'],
      ['asks', 'b', 0],
    ],
    [
      'opens when three callers were asked within ten seconds, for the time that the last one was told',
      ['fails', 'a', { retryAfterMs: 5_000 }],
      ['fails', 'b', { retryAfterMs: 5_000 }],
      ['passes', 9_999],
      ['fails', 'c', { retryAfterMs: 7_000 }],
      ['asks', 'd', 7_000],
    ],
    [
      'opens then also when other callers succeeded in between',
      ['fails', 'a', { retryAfterMs: 5_000 }],
      ['succeeds', 0],
      ['fails', 'b', { retryAfterMs: 5_000 }],
      ['succeeds', 0],
      ['fails', 'c', { retryAfterMs: 7_000 }],
      ['asks', 'd', 7_000],
    ],
    [
      'stays closed when three callers were asked over a longer time',
      ['fails', 'a', { retryAfterMs: 5_000 }],
      ['passes', 10_000],
      ['succeeds', 10_000],
      ['fails', 'b', { retryAfterMs: 5_000 }],
      ['succeeds', 10_000],
      ['fails', 'c', { retryAfterMs: 5_000 }],
      ['is', 'closed'],
    ],
    [
      'is not closed by the success of an earlier request',
      ['passes', 1],
      ['fails', 'a', asksAll],
      ['succeeds', 0],
      ['asks', 'b', 30_000],
    ],
    ['is extended by a later request to wait', ...opens, ['fails', 'd', asksAll], ['asks', 'e', 30_000]],
  ])('Retry-After: %s', (_, ...steps) => play(steps))

  it('opens for the failures of one caller if one is enough', () => {
    play(
      [
        ['fails', 'a'],
        ['fails', 'a'],
        ['is', 'closed'],
        ['fails', 'a'],
        ['is', 'open'],
      ],
      1,
    )
  })
})
