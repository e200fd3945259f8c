import { randomUUID } from 'node:crypto'
import { describe, expect, it } from '@jest/globals'
import { Redis } from 'ioredis'
import { redisGrantStore } from '../../../lib/redis.js'
import { expectGrantStore } from '../../contract/grant-store.js'
import { describeWithRedis, redisUrl } from '../../helpers/redis.js'
import { type ConnectedClient, kindsOfClients } from '../../helpers/redis-clients.js'

const request = { ttlMs: 60_000, waitMs: 10_000, revision: 0 }

/** The stores of several processes that begin their keys alike. */
function storesOver({ client }: ConnectedClient) {
  const prefix = `${randomUUID()}:`
  const open = () => redisGrantStore(client, { prefix, graceMs: 0 })
  return { open, channel: `${prefix}changes` }
}

describeWithRedis('redisGrantStore(client)', () => {
  describe.each(kindsOfClients)('over $name', ({ connect, listens }) => {
    it('meets the contract of grant stores', async () => {
      const connected = await connect(await redisUrl())
      await expectGrantStore(async () => {
        const store = redisGrantStore(connected.client, { graceMs: 0 })
        return { store, close: () => store.close() }
      })
      await connected.close()
    }, 20_000)

    it(`${listens ? 'is notified' : 'finds'} that a lease is free`, async () => {
      const connected = await connect(await redisUrl())
      const inspector = new Redis(await redisUrl())
      const { open, channel } = storesOver(connected)
      const [holder, waiter] = [open(), open()]
      const subscribers = async () =>
        Number(((await inspector.pubsub('NUMSUB', channel)) as [string, number])[1])
      try {
        await holder.lease('grant', { ...request, owner: 'a' })
        const waiting = waiter.lease('grant', { ...request, owner: 'b' })
        if (listens) while ((await subscribers()) === 0) await new Promise(setImmediate)
        const start = performance.now()
        await holder.release('grant', 'a')
        expect(await waiting).toEqual({ granted: true })
        // Much less than the second after which it would ask all the same.
        expect(performance.now() - start).toBeLessThan(500)
        await waiter.close()
        while ((await subscribers()) > 0) await new Promise(setImmediate)
      } finally {
        inspector.disconnect()
        await Promise.all([holder.close(), waiter.close()])
        await connected.close()
      }
    })
  })
})
