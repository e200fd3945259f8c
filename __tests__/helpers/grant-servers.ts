import { setTimeout as delay } from 'node:timers/promises'
import { Redis } from 'ioredis'
import { Pool } from 'pg'
import type { GrantStore } from '../../lib/grants/grant-store.js'
import { postgresGrantStore } from '../../lib/postgres.js'
import { redisGrantStore } from '../../lib/redis.js'
import { type PostgresServer, startPostgres } from './postgres-server.js'

/** How long a server must have run until it leases what it does not know. */
const YOUNG_MS = 5_000

/** A server of a grant store, for the tests of several processes. */
export interface GrantServer {
  readonly url: string
  /** Resolves when the server is old enough to lease what it does not know. */
  settled(): Promise<void>
  /** Removes what the server knows of a grant. */
  forget(grantId: string): Promise<void>
  close(): Promise<void>
}

export type StartGrants = () => Promise<GrantServer>

export interface OpenGrants {
  readonly store: GrantStore
  close(): Promise<void>
}

/** Opens the grant store at a URL, of Redis or PostgreSQL, as a process of an app does. */
export async function openGrants(url: string): Promise<OpenGrants> {
  if (!url.startsWith('postgres:')) {
    const client = new Redis(url)
    client.on('error', () => {})
    const store = redisGrantStore(client)
    return {
      store,
      async close() {
        await store.close()
        await client.quit()
      },
    }
  }
  const pool = new Pool({ connectionString: url, max: 5 })
  // What fails is told by who needed it.
  pool.on('error', () => {})
  const store = postgresGrantStore(pool)
  // A process that starts while the database is down migrates with its first command.
  await store.migrate().catch(() => {})
  return {
    store,
    async close() {
      await store.close()
      await pool.end()
    },
  }
}

/** Starts a PostgreSQL for grants. */
export async function startPostgresGrants(): Promise<GrantServer & PostgresServer> {
  const server = await startPostgres()
  const startedAt = Date.now()
  return {
    ...server,
    settled: () => delay(Math.max(0, startedAt + YOUNG_MS - Date.now())),
    async forget(grantId) {
      const pool = new Pool({ connectionString: server.url, max: 1 })
      const { rowCount } = await pool.query('delete from session_token_grants where grant_id = $1', [grantId])
      await pool.end()
      if (rowCount !== 1) throw new Error(`PostgreSQL does not know the grant ${grantId}.`)
    },
  }
}
