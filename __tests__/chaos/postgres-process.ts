import { setTimeout as delay } from 'node:timers/promises'
import { startPostgres } from '../helpers/postgres-server.js'
import type { RedisProcess } from './redis-process.js'

/** Starts a throw-away PostgreSQL in the place of the Redis of the grants. Its restarts are crashes, and keep its data. */
export async function startPostgresProcess(): Promise<RedisProcess> {
  const server = await startPostgres()
  return {
    url: server.url,
    kill: server.kill,
    start: server.restart,
    async goBack({ afterMs, forMs, onKilled }) {
      const replaceByCopy = await server.backUp()
      await delay(afterMs)
      await server.kill()
      onKilled()
      await delay(forMs)
      await replaceByCopy()
    },
    freeze: server.pause,
    thaw: server.resume,
    close: server.close,
  }
}
