import { expect, it } from '@jest/globals'
import { redisGrantStore } from '../../../lib/redis.js'

/** A Redis whose replies wait in the socket while the process stands still. */
function standingStill(ms: number) {
  const sent: string[] = []
  const send = async (command: readonly string[]) => {
    sent.push(command[1]!)
    const end = performance.now() + (sent.length === 1 ? ms : 0)
    while (performance.now() < end);
    return ['granted', 0, '', '', '']
  }
  return { send, sent }
}

const request = { owner: 'a', ttlMs: 5_000, waitMs: 0, revision: 0 }

it('a lease that was granted while the process stood still is not used, and is released', async () => {
  const { send, sent } = standingStill(60)
  const store = redisGrantStore({ send }, { commandTimeoutMs: 30 })
  await expect(store.lease('grant', request)).rejects.toThrow(
    'Redis did not reply within 30 ms (commandTimeoutMs).',
  )
  expect(sent).toHaveLength(2)
})

it('a lease that was granted in time is', async () => {
  const { send, sent } = standingStill(1)
  const store = redisGrantStore({ send }, { commandTimeoutMs: 2_000 })
  expect(await store.lease('grant', request)).toEqual({ granted: true })
  expect(sent).toHaveLength(1)
})
