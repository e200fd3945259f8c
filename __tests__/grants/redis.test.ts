import { Redis } from 'ioredis'
import { createClient } from 'redis'
import { redisGrantStore } from '../../lib/redis.js'
import { describeGrantStore } from '../contract/grant-store.js'
import { describeWithRedis, redisUrl } from '../helpers/redis.js'

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
})
