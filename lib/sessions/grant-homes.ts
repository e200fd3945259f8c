import { LRUCache } from 'lru-cache'

/** How many sessions are remembered, for the saves of requests that are still under way. */
const MAX_SESSIONS = 10_000
/** In how many sessions a grant is looked after at a time. More than one is a session that is being regenerated. */
const MAX_HOMES = 4

/** What this process knows of which grant lives in which session of one store. */
export class GrantHomes {
  readonly #grants = new LRUCache<string, string>({ max: MAX_SESSIONS })
  /** The sessions of a grant, the last one last: regenerating a session carries it into another. */
  readonly #homes = new LRUCache<string, Set<string>>({ max: MAX_SESSIONS })

  settle(grantId: string, sid: string): void {
    this.#grants.set(sid, grantId)
    const homes = this.#homes.get(grantId) ?? new Set()
    if (homes.has(sid)) return
    homes.add(sid)
    const [oldest] = homes
    if (homes.size > MAX_HOMES) homes.delete(oldest!)
    this.#homes.set(grantId, homes)
  }

  /** The sessions that a grant was saved in. */
  of(grantId: string): string[] {
    return [...(this.#homes.get(grantId) ?? [])]
  }

  /** The grants of all sessions that are remembered. */
  grants(): Iterable<string> {
    return this.#homes.keys()
  }

  /** The grant that a session was saved with last, though the session may be gone. */
  grantOf(sid: string): string | undefined {
    return this.#grants.get(sid)
  }

  /** The session is gone. Requests that are still under way may save it, though. */
  leave(grantId: string, sid: string): void {
    this.#homes.get(grantId)?.delete(sid)
  }

  forget(sid: string): void {
    this.#grants.delete(sid)
  }
}
