import { describe, expect, it, jest } from '@jest/globals'
import { ServerRuns } from '../../lib/grants/redis/server-runs.js'
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
      runs.hear(run, grantId)
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

  it('beside the others is another node of a cluster, and none', async () => {
    const known = servers({ one: 'first', two: 'second' })
    await known.hear('first', 'one')
    await known.hear('second', 'two')
    expect([known.losses, known.runs.holdOffMs]).toEqual([0, 0])
  })

  it('is a loss where the one before is out of reach', async () => {
    const known = servers({})
    await known.hear('first', 'one')
    await known.hear('second', 'two')
    expect(known.losses).toBe(1)
  })

  it('is one again when the first takes its place back', async () => {
    const having: Record<string, string> = { one: 'second' }
    const known = servers(having)
    await known.hear('first', 'one')
    await known.hear('second', 'one')
    having.one = 'first'
    await known.hear('first', 'one')
    expect(known.losses).toBe(2)
  })

  it('is noticed of a node of a cluster from which nothing is heard', async () => {
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

  it('is not known where the server does not say: INFO may be forbidden', async () => {
    const known = servers({ one: 'first' })
    await known.hear('first', 'one')
    await known.hear('', 'one')
    expect(known.losses).toBe(0)
  })
})
