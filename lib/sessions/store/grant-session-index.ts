import { LRUCache } from 'lru-cache'
import { identityOf } from '../../tokens/grant-proof.js'
import { atMost } from '../grant-cache.js'
import type { GrantSession } from '../session-grants.js'

/** How many sessions are remembered, for the saves of requests that are still running. */
const MAX_SESSIONS = 10_000
/** How many stored sessions of a grant are remembered. A session that is being regenerated is stored under two ids. */
const MAX_SIDS = 4

interface Entry {
  readonly of: GrantSession
  /** The ids of the sessions, in the order in which they were added. */
  readonly sids: Set<string>
}

/** Which grant is in which session of one store, as far as this process knows. */
export class GrantSessionIndex {
  readonly #grants = new LRUCache<string, GrantSession>(atMost(MAX_SESSIONS))
  readonly #sessions = new LRUCache<string, Entry>(atMost(MAX_SESSIONS))

  /** @param of names the session of a grant, and holds no tokens */
  add(of: GrantSession, sid: string): void {
    this.#grants.set(sid, of)
    const name = identityOf(of)
    const { sids } = this.#sessions.get(name) ?? { sids: new Set<string>() }
    if (sids.has(sid)) return
    sids.add(sid)
    const [oldest] = sids
    if (sids.size > MAX_SIDS) sids.delete(oldest!)
    this.#sessions.set(name, { of, sids })
  }

  /** Returns the ids of the sessions that a grant was saved in. */
  sessionsOf(of: GrantSession | undefined): string[] {
    return of ? [...(this.#sessions.get(identityOf(of))?.sids ?? [])] : []
  }

  /** Returns the grants of all sessions that are remembered. */
  grants(): GrantSession[] {
    return [...this.#sessions.values()].map(({ of }) => of)
  }

  /** Returns the grant that a session was saved with last, though the session may be gone. */
  grantOf(sid: string): GrantSession | undefined {
    return this.#grants.get(sid)
  }

  /** Removes a session that is gone. Requests that are still running may save it again. */
  remove(of: GrantSession, sid: string): void {
    this.#sessions.get(identityOf(of))?.sids.delete(sid)
  }

  forget(sid: string): void {
    this.#grants.delete(sid)
  }
}
