import { afterAll, describe } from '@jest/globals'
import { Pool, type PoolConfig } from 'pg'
import { describeIf } from './describe-if.js'
import { postgresPrograms } from './postgres-server.js'

/** How long a server may take to answer, in milliseconds. */
const ANSWERS_WITHIN_MS = 5_000

/** Where a PostgreSQL may be: where the usual variables say, or on this machine, trusting everybody. */
function candidates(): PoolConfig[] {
  const { DATABASE_URL: connectionString, ...env } = process.env
  if (connectionString !== undefined) return [{ connectionString }]
  if (env.PGHOST !== undefined || env.PGDATABASE !== undefined) return [{}]
  const users = [...new Set([env.PGUSER ?? env.USER ?? 'root', 'root', 'postgres'])]
  return users.flatMap((user) =>
    ['test', user, 'postgres'].map((database) => ({ host: '127.0.0.1', user, database })),
  )
}

/** A PostgreSQL that answers and takes tables; `undefined` if there is none. */
async function connect(max: number): Promise<Pool | undefined> {
  for (const candidate of candidates()) {
    const pool = new Pool({ ...candidate, max, connectionTimeoutMillis: ANSWERS_WITHIN_MS })
    // A connection that breaks is told by the query that it breaks.
    pool.on('error', () => {})
    try {
      await pool.query('create temporary table probe ()')
      await pool.query('drop table if exists probe')
      return pool
    } catch {
      await pool.end()
    }
  }
  return undefined
}

/** Tests with a PostgreSQL. A developer's machine may have none; where CI is true, its absence is an error. */
export async function describeWithPostgres(
  name: string,
  tests: (pool: Pool) => void,
  { max = 4 }: { readonly max?: number } = {},
): Promise<void> {
  const pool = await connect(max)
  if (pool) {
    describe(name, () => tests(pool))
    // After what the tests have to do when they are over.
    afterAll(() => pool.end())
    return
  }
  const message = `No PostgreSQL at DATABASE_URL, PGHOST or 127.0.0.1: "${name}" is not tested.`
  if (process.env.CI === 'true') throw new Error(message)
  process.stderr.write(`${message}\n`)
}

/** Tests that start, stop and kill servers of their own with `startPostgres()`. */
export function describeWithPostgresServer(name: string, tests: () => void): void {
  describeIf(postgresPrograms() !== undefined, 'No programs of PostgreSQL', name, tests)
}
