import { Redis } from 'ioredis'
import { createClient } from 'redis'
import { redisGrantStore } from '../../lib/redis.js'
import { describeGrantStore } from '../contract/grant-store.js'

const url = process.env.REDIS_URL ?? 'redis://127.0.0.1:6379'

describeGrantStore('over ioredis', async () => {
  const client = new Redis(url)
  const store = redisGrantStore(client)
  return {
    store,
    close: async () => {
      await store.close()
      client.disconnect()
    },
  }
})

describeGrantStore('over node-redis', async () => {
  const client = createClient({ url })
  await client.connect()
  const store = redisGrantStore(client)
  return {
    store,
    close: async () => {
      await store.close()
      client.destroy()
    },
  }
})
