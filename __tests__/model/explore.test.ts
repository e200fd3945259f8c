import { describe, expect, it } from '@jest/globals'
import { explore, type Model, type Step } from './explore.js'

/** Numbers, and which follow which. */
function numbers(due: Record<number, number[]>, events: Record<number, number[]> = {}): Model<number> {
  const step = (to: number): Step<number> => ({ what: `to ${to}`, state: to })
  return {
    initial: [0],
    steps: (state) => [
      ...(due[state] ?? []).map(step),
      ...(events[state] ?? []).map((to) => ({ ...step(to), fromOutside: true })),
    ],
    key: String,
    violation: (state) => (state === 13 ? 'it is 13' : undefined),
    isAtRest: (state) => state % 10 === 0,
  }
}

describe('explore(model)', () => {
  it('goes through every state once', () => {
    expect(explore(numbers({ 0: [1, 2], 1: [3], 2: [3], 3: [10] }))).toEqual({ states: 5 })
  })

  it('returns the shortest path to a violation', () => {
    const { violation } = explore(numbers({ 0: [1, 2], 1: [3], 3: [13], 2: [13] }))
    expect(violation).toEqual({ what: 'it is 13', trace: ['to 2', 'to 13'] })
  })

  it('finds a violation that only something from outside leads to', () => {
    const { violation } = explore(numbers({ 0: [1], 1: [10] }, { 1: [13] }))
    expect(violation).toEqual({ what: 'it is 13', trace: ['to 1', 'to 13'] })
  })

  it('calls it a deadlock when nothing is due and not all is done', () => {
    const { violation } = explore(numbers({ 0: [1] }, { 1: [10] }))
    expect(violation).toEqual({ what: 'deadlock: nothing is due', trace: ['to 1'] })
  })

  it('reports a livelock if the pending steps form a cycle', () => {
    const { violation } = explore(numbers({ 0: [1], 1: [2, 10], 2: [1] }))
    expect(violation?.what).toBe('livelock: what is due may never be done')
  })

  it('minds no circle that something from outside closes', () => {
    expect(explore(numbers({ 0: [1], 1: [10] }, { 10: [0] }))).toEqual({ states: 3 })
  })
})
