import { Redis } from 'ioredis'
import type { GrantServer } from './grant-servers.js'
import { startRedis } from './redis.js'

/** Starts a Redis for grants. */
export async function startRedisGrants(): Promise<GrantServer> {
  const server = await startRedis({ fresh: true })
  return {
    url: server.url,
    settled: server.settled,
    close: server.close,
    async forget(grantId) {
      const client = new Redis(server.url)
      const deleted = await client.del(`session-tokens:${grantId}`)
      client.disconnect()
      if (deleted !== 1) throw new Error(`Redis does not know the grant ${grantId}.`)
    },
  }
}
