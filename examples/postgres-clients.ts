/**
 * The grant store in PostgreSQL as docs/postgresql.md shows it. This file is only type-checked.
 */
import express from 'express'
import { Client, Pool } from 'pg'
import { type SessionTokensOptions, sessionTokens } from 'session-token-manager'
import { postgresGrantStore } from 'session-token-manager/postgres'

const app = express()
const logError = (error: Error) => console.error(error.message)

export async function overAPool(options: SessionTokensOptions) {
  const pool = new Pool({ connectionString: process.env.DATABASE_URL, max: 5 })
  pool.on('error', logError)
  const grants = postgresGrantStore(pool)
  await grants.migrate()
  app.use(sessionTokens({ ...options, grants }))
}

export function printed() {
  process.stdout.write(postgresGrantStore.migration({ schema: 'my_app' }))
}

export function overPgBouncer() {
  const pooled = new Pool({ connectionString: process.env.PGBOUNCER_URL })
  const listenClient = () => new Client({ connectionString: process.env.DATABASE_URL })
  const grants = postgresGrantStore(pooled, { listenClient })
  return grants
}
