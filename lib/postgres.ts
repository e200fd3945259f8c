export type {
  GrantEnd,
  GrantRecord,
  GrantState,
  GrantStore,
  LeaseRequest,
  RecentEnd,
  Retention,
} from './grants/grant-store.js'
export type { PostgresClient, PostgresPool } from './grants/postgres/client.js'
export type { PostgresGrantStoreOptions, PostgresTableOptions } from './grants/postgres/options.js'
export { type PostgresGrantStore, postgresGrantStore } from './grants/postgres/postgres-grant-store.js'
