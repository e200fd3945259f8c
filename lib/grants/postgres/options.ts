import { GRACE_MS } from '../../concurrency/time-constants.js'
import { count, DAY_MS } from '../../options/option-kinds.js'
import type { OptionTable } from '../../options/option-table.js'
import type { PostgresClient } from './client.js'
import { listenOption } from './listener.js'
import { identifier, tableName } from './names.js'

/** Names the table. Both names are taken as they are: they are quoted, and upper case stays. */
export interface PostgresTableOptions {
  /** The schema of the table, which must exist. Default: `'public'`. */
  schema?: string
  /** The table. The store's functions have names that begin with the name of the table. Default: `'session_token_grants'`. */
  table?: string
}

export interface PostgresGrantStoreOptions extends PostgresTableOptions {
  /**
   * The least time that a grant is remembered after its last refresh, and an end after the grant has ended, in milliseconds. If
   * the session is known to live longer, both are remembered as long as the session. It must be longer than any request takes.
   * Default: 24 hours.
   */
  grantTtlMs?: number
  /**
   * How long PostgreSQL may take to reply to one command, in milliseconds, at most 24 hours. The wait for a connection of the pool
   * counts as well. Default: 2,000.
   */
  commandTimeoutMs?: number
  /**
   * How long only the holder may renew a lease after the lease ran out or the database lost it, in milliseconds. No other process
   * gets the lease in this time. Leases are renewed every 800 ms. At most 24 hours. Default: 1,800.
   */
  graceMs?: number
  /**
   * Makes the client that listens for notifications, one for a process and another one when the connection has broken. It must
   * reach the database itself, and not over PgBouncer in transaction mode. With `false` no process listens: a process that waits for
   * another process asks the database twenty times a second, and reads the recent ends every ten seconds. Default: a client with
   * the settings of the pool.
   */
  listenClient?: (() => PostgresClient) | false
}

export const TABLE_OPTIONS = {
  schema: identifier('public', "schema: 'my_app'"),
  table: tableName('session_token_grants', "{ schema: 'my_app', table: 'session_token_grants' }"),
} satisfies OptionTable<PostgresTableOptions>

export const OPTIONS = {
  ...TABLE_OPTIONS,
  grantTtlMs: count(DAY_MS, { least: 1, of: 'milliseconds' }),
  commandTimeoutMs: count(2_000, { least: 1, most: DAY_MS, of: 'milliseconds' }),
  graceMs: count(GRACE_MS, { most: DAY_MS, of: 'milliseconds' }),
  listenClient: listenOption,
} satisfies OptionTable<PostgresGrantStoreOptions>

const CURES = {
  ttl: 'Did you mean `grantTtlMs`?',
  ttlMs: 'Did you mean `grantTtlMs`?',
  tableName: 'Did you mean `table`?',
  schemaName: 'Did you mean `schema`?',
}

export const USAGE = {
  of: 'postgresGrantStore()',
  takes:
    "The options of postgresGrantStore() must be an object: postgresGrantStore(pool, { table: 'session_token_grants' })",
  cures: CURES,
}

export const MIGRATION_USAGE = {
  of: 'postgresGrantStore.migration()',
  takes:
    "postgresGrantStore.migration() takes the names of the store: postgresGrantStore.migration({ table: 'session_token_grants' })",
  cures: CURES,
}
