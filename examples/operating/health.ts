/** A health check of a grant store, as docs/operating.md shows it. */
import { randomUUID } from 'node:crypto'
import type { GrantStore } from 'session-token-manager'

/** Takes a lease that no grant has, and releases it: two commands. A store that is full or read-only fails, too. */
export async function checkGrantStore(grants: GrantStore): Promise<{ milliseconds: number }> {
  const began = performance.now()
  const owner = randomUUID()
  await grants.lease('health-check', { owner, ttlMs: 1_000, waitMs: 0, revision: 0 })
  await grants.release('health-check', owner)
  return { milliseconds: Math.round(performance.now() - began) }
}
