import { randomUUID } from 'node:crypto'
import { it } from '@jest/globals'
import { Redis } from 'ioredis'
import { createClient } from 'redis'
import { redisGrantStore } from '../../../lib/redis.js'
import { describeGrantStore } from '../../contract/grant-store.js'
import { expectHeardByAll } from '../../contract/publishing.js'
import { describeWithRedis, redisUrl } from '../../helpers/redis.js'

describeWithRedis('redisGrantStore(client)', () => {
  describeGrantStore('over ioredis', async () => {
    const client = new Redis(await redisUrl())
    const store = redisGrantStore(client, { graceMs: 0 })
    return {
      store,
      close: async () => {
        await store.close()
        client.disconnect()
      },
    }
  })

  describeGrantStore('over node-redis', async () => {
    const client = createClient({ url: await redisUrl() })
    await client.connect()
    const store = redisGrantStore(client, { graceMs: 0 })
    return {
      store,
      close: async () => {
        await store.close()
        client.destroy()
      },
    }
  })

  it('sends what a process publishes to all processes', async () => {
    const clients = await Promise.all([1, 2].map(async () => new Redis(await redisUrl())))
    const prefix = `${randomUUID()}:`
    const stores = clients.map((client) => redisGrantStore(client, { prefix }))
    await expectHeardByAll(stores)
    await Promise.all(stores.map((store) => store.close()))
    for (const client of clients) client.disconnect()
  })
})
