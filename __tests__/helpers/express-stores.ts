import { randomBytes } from 'node:crypto'
import { createRequire } from 'node:module'
import { afterAll, beforeAll } from '@jest/globals'
import { RedisStore } from 'connect-redis'
import session, { type Store } from 'express-session'
import type { Pool } from 'pg'
import { createClient } from 'redis'
import { redisUrl } from './redis.js'
import { expressSessionLayer } from './session-layers.js'
import { fileStore } from './stores.js'

type ExpressSessionLayer = ReturnType<typeof expressSessionLayer>
type PostgresStore = new (options: Record<string, unknown>) => Store

const connectPgSimple = createRequire(import.meta.url)('connect-pg-simple') as (
  sessions: typeof session,
) => PostgresStore

/** express-session with connect-redis, over one connection of node-redis. To be called where tests are defined. */
export function expressRedisLayer(): ExpressSessionLayer {
  let client: ReturnType<typeof createClient>
  const prefix = `sessions-${unique()}:`
  beforeAll(async () => {
    client = createClient({ url: await redisUrl() })
    await client.connect()
  })
  afterAll(async () => {
    const keys = await client.keys(`${prefix}*`)
    if (keys.length > 0) await client.del(keys)
    await client.close()
  })
  return expressSessionLayer('connect-redis', async () => ({
    open: () => new RedisStore({ client, prefix }),
    close: async () => {},
  }))
}

/** express-session with connect-pg-simple, in a table of its own. To be called where tests are defined. */
export function expressPostgresLayer(pool: Pool): ExpressSessionLayer {
  const PostgresSessionStore = connectPgSimple(session)
  const tableName = `sessions_${unique()}`
  const open = (): Store => new PostgresSessionStore({ pool, tableName, pruneSessionInterval: false })
  beforeAll(async () => {
    await pool.query(
      `create table ${tableName} (sid varchar primary key, sess json not null, expire timestamp(6) not null)`,
    )
  })
  afterAll(async () => {
    await pool.query(`drop table ${tableName}`)
  })
  return expressSessionLayer('connect-pg-simple', async () => ({
    open,
    close: async () => {},
  }))
}

/** express-session with session-file-store, which notes the time of each write in the session. */
export const expressFileLayer: ExpressSessionLayer = expressSessionLayer(
  'session-file-store',
  async () => {
    const files = await fileStore()
    return { open: files.reopen, close: files.close }
  },
  {
    S21: {
      holds: 'partly',
      why:
        "The store's own `touch()` reads the session and writes it back. When two requests end at the same " +
        "moment, one may undo the other's changes, with this library or without. The tokens stay the newest.",
    },
  },
)

function unique(): string {
  return randomBytes(6).toString('hex')
}
