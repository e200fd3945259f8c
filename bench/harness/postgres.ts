import { setTimeout as delay } from 'node:timers/promises'
import { postgresPrograms, startPostgres as start } from '../../__tests__/helpers/postgres-server.js'
import { atTheEnd } from './cleanup.js'

/** A PostgreSQL that started within this time grants no lease of a grant that it does not know. */
const SETTLED_MS = 5_500

/** Starts a PostgreSQL that waits for its disk, if this machine has one. Resolves with its URL when it is old enough to grant leases. */
export async function startPostgres(): Promise<string | undefined> {
  if (postgresPrograms() === undefined) return undefined
  const server = await start({ fsync: 'on' })
  atTheEnd(server.close)
  await delay(SETTLED_MS)
  return server.url
}
