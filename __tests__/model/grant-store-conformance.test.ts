import { Redis } from 'ioredis'
import { memoryGrantStore } from '../../lib/grants/memory-grant-store.js'
import { redisGrantStore } from '../../lib/redis.js'
import { describeConformance } from './grant-store-conformance.js'

describeConformance('in memory', async () => ({ store: memoryGrantStore(), close: async () => {} }))

describeConformance('over ioredis', async () => {
  const client = new Redis(process.env.REDIS_URL ?? 'redis://127.0.0.1:6379')
  const store = redisGrantStore(client, { graceMs: 0 })
  return {
    store,
    close: async () => {
      await store.close()
      client.disconnect()
    },
  }
})
