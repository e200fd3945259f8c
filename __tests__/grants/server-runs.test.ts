import { describe, expect, it, jest } from '@jest/globals'
import { ServerRuns } from '../../lib/grants/server-runs.js'
import { someTurnsOfTheLoop } from '../helpers/next-commit.js'

/** Servers by the grants that they have. */
function servers(having: Record<string, string>) {
  const runs = new ServerRuns(async (grantId) => {
    const run = having[grantId]
    if (run === undefined) throw new Error('no connection')
    return run
  })
  let losses = 0
  runs.onLoss(() => losses++)
  return {
    runs,
    hear: async (run: string, grantId: string) => {
      runs.noteRun(run, grantId)
      await someTurnsOfTheLoop()
    },
    get losses() {
      return losses
    },
  }
}

describe('another run of a server', () => {
  it('in the place of one is a loss, and holds leases off for five seconds', async () => {
    const having: Record<string, string> = { one: 'first' }
    const known = servers(having)
    await known.hear('first', 'one')
    expect([known.losses, known.runs.holdOffMs]).toEqual([0, 0])
    having.one = 'second'
    await known.hear('second', 'two')
    expect(known.losses).toBe(1)
    expect(known.runs.holdOffMs).toBeGreaterThan(4_000)
    await known.hear('second', 'one')
    expect(known.losses).toBe(1)
  })

  it('while the others still respond is another node of a cluster, and no loss', async () => {
    const known = servers({ one: 'first', two: 'second' })
    await known.hear('first', 'one')
    await known.hear('second', 'two')
    expect([known.losses, known.runs.holdOffMs]).toEqual([0, 0])
  })

  it('is a loss if the previous one cannot be reached', async () => {
    const known = servers({})
    await known.hear('first', 'one')
    await known.hear('second', 'two')
    expect(known.losses).toBe(1)
  })

  it('is a loss again when the first one returns', async () => {
    const having: Record<string, string> = { one: 'second' }
    const known = servers(having)
    await known.hear('first', 'one')
    await known.hear('second', 'one')
    having.one = 'first'
    await known.hear('first', 'one')
    expect(known.losses).toBe(2)
  })

  it('is noticed for a silent node of a cluster', async () => {
    jest.useFakeTimers({ doNotFake: ['setImmediate', 'nextTick', 'queueMicrotask', 'performance'] })
    try {
      const having: Record<string, string> = { one: 'first', two: 'second' }
      const known = servers(having)
      await known.hear('first', 'one')
      await known.hear('second', 'two')
      delete having.one
      await jest.advanceTimersByTimeAsync(2_000)
      expect(known.losses).toBe(0)
      having.one = 'third'
      await jest.advanceTimersByTimeAsync(2_000)
      await someTurnsOfTheLoop()
      expect(known.losses).toBe(1)
    } finally {
      jest.useRealTimers()
    }
  })

  it('may have taken over just before this process began, so grants from before wait for five seconds', async () => {
    const now = Math.round(performance.now())
    const clock = jest.spyOn(performance, 'now').mockReturnValue(now)
    try {
      const known = servers({ one: 'first', two: 'second' })
      expect([known.runs.holdOffOfEarlierMs, known.runs.holdOffMs]).toEqual([5_000, 0])
      await known.hear('first', 'one')
      expect([known.runs.holdOffOfEarlierMs, known.runs.holdOffMs]).toEqual([5_000, 0])
      clock.mockReturnValue(now + 4_000)
      await known.hear('first', 'one')
      expect(known.runs.holdOffOfEarlierMs).toBe(1_000)
      clock.mockReturnValue(now + 6_000)
      expect(known.runs.holdOffOfEarlierMs).toBe(0)
      await known.hear('second', 'two')
      expect([known.runs.holdOffOfEarlierMs, known.runs.holdOffMs]).toEqual([0, 0])
    } finally {
      clock.mockRestore()
    }
  })

  it('is not known if the server does not report it: INFO may be forbidden', async () => {
    const known = servers({ one: 'first' })
    await known.hear('first', 'one')
    await known.hear('', 'one')
    expect(known.losses).toBe(0)
  })
})
