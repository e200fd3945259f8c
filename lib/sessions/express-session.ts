import { LRUCache } from 'lru-cache'
import { ConfigurationError } from '../errors.js'
import type { CopyKeeper } from './copy-keeper.js'
import { type GuardedStore, guardedStore, type SessionData, type SessionStore } from './guarded-store.js'
import { SESSION, type SessionAdapter } from './session-adapter.js'

/** What express-session adds to a request. */
export interface SessionRequest {
  session?: SessionData
  sessionID?: string
  sessionStore?: unknown
}

/** How many sessions are remembered, for the saves of requests that are still under way. */
const MAX_SESSIONS = 10_000

/**
 * The session layer of express-session, with any store, under one session key.
 *
 * It sees to three things that a session layer in which the last writer wins does not do by itself: a session that is
 * saved carries the newest copy; a refresh changes the copy in the store and nothing else; and no copy of a grant that
 * has ended gets back into the store.
 */
export class ExpressSessions {
  readonly #key: string
  readonly #property: string
  readonly #keeper: CopyKeeper
  /** Which grant a session holds, as far as this process has seen: what a request from before the login must not undo. */
  readonly #grants = new LRUCache<string, string>({ max: MAX_SESSIONS })
  /** Which grant a session held when it was regenerated: under its old id it must not come back. */
  readonly #left = new LRUCache<string, string>({ max: MAX_SESSIONS })
  readonly #guards = new Set<GuardedStore>()
  #lastStore: unknown

  /**
   * @param key under which the session holds the copy
   * @param property under which the request has its token manager, which shows its adapter as `SESSION`
   */
  constructor(key: string, property: string, keeper: CopyKeeper) {
    this.#key = key
    this.#property = property
    this.#keeper = keeper
  }

  /** The adapter of a request's session. Called on every request: no I/O, nothing read but a property or two. */
  of(request: SessionRequest): SessionAdapter {
    if (request.sessionStore !== this.#lastStore) this.#watch(request.sessionStore)
    return new ExpressSessionAdapter(this, request, this.#key)
  }

  /** Stops watching the stores. */
  close(): void {
    for (const guard of this.#guards) guard.observers.delete(this)
    this.#guards.clear()
    this.#lastStore = undefined
  }

  #watch(store: unknown): void {
    if (!isStore(store)) return
    const guard = guardedStore(store)
    guard.observers.add(this)
    this.#guards.add(guard)
    this.#lastStore = store
  }

  /** Remembers the grant that was put into a session at login. */
  bind(sid: string, copy: unknown): void {
    const grantId = this.#keeper.grantOf(copy)
    if (grantId === undefined) return
    this.#grants.set(sid, grantId)
    this.#left.delete(sid)
  }

  unbind(sid: string): void {
    this.#grants.delete(sid)
  }

  wantsStored(session: SessionData): boolean {
    const grantId = this.#keeper.grantOf(session[this.#key])
    return grantId !== undefined && !this.#keeper.knows(grantId)
  }

  onSave(sid: string, session: SessionData, stored?: SessionData): SessionData {
    const copy = session[this.#key]
    if (stored) {
      this.#keeper.learn(copy)
      this.#keeper.learn(stored[this.#key])
    }
    const current = this.#currentCopy(sid, session, copy)
    if (current === copy) return session
    const changed = cloneSession(session)
    if (current === undefined) delete changed[this.#key]
    else changed[this.#key] = current
    return changed
  }

  #currentCopy(sid: string, session: SessionData, copy: unknown): unknown {
    const grantId = this.#keeper.grantOf(copy)
    if (grantId !== undefined && this.#left.get(sid) !== grantId) {
      const newest = this.#keeper.newestOf(grantId, copy)
      if (newest !== undefined) {
        this.#grants.set(sid, grantId)
        return newest
      }
    }
    const bound = this.#grants.get(sid)
    if (bound === undefined || bound === grantId) return grantId === undefined ? copy : undefined
    if (copy === undefined && this.#wasTakenOut(session, bound)) return undefined
    // A request from before the login saves its session: the login stays.
    return this.#keeper.newestOf(bound) ?? (grantId === undefined ? copy : undefined)
  }

  /** Whether the app has deleted the copy from a session that had it: a logout by hand. */
  #wasTakenOut(session: SessionData, grantId: string): boolean {
    const { req } = session as { req?: Record<string, { [SESSION]?: SessionAdapter } | undefined> }
    // A session that was not loaded for a request is written on purpose as it is.
    if (!req || !('headers' in req)) return true
    const seen = req[this.#property]?.[SESSION]?.seen
    if (this.#keeper.grantOf(seen) !== grantId) return false
    void this.#keeper.end(grantId)
    return true
  }

  async onDestroy(sid: string, session: SessionData | undefined, regenerated: boolean): Promise<void> {
    const grantId = this.#keeper.grantOf(session?.[this.#key]) ?? this.#grants.get(sid)
    this.#grants.delete(sid)
    if (grantId === undefined) return
    if (regenerated) this.#left.set(sid, grantId)
    else await this.#keeper.end(grantId)
  }

  onRegenerated(oldSid: string, newSid: string): void {
    // An app may name its sessions itself, and by the same name again.
    if (oldSid === newSid) this.#left.delete(oldSid)
  }
}

/** One request's session. The copy in `req.session` is only ever touched at login and logout. */
class ExpressSessionAdapter implements SessionAdapter {
  readonly #sessions: ExpressSessions
  readonly #request: SessionRequest
  readonly #key: string
  readonly #mountedInFront: boolean
  #seen: unknown

  constructor(sessions: ExpressSessions, request: SessionRequest, key: string) {
    this.#sessions = sessions
    this.#request = request
    this.#key = key
    this.#mountedInFront = request.session === undefined
    this.#seen = request.session?.[key]
  }

  get seen(): unknown {
    return this.#seen
  }

  read(): unknown {
    if (this.#mountedInFront) throw noSession()
    const copy = this.#request.session?.[this.#key]
    if (copy !== undefined) this.#seen = copy
    return copy
  }

  async reread(): Promise<unknown> {
    const { sessionID } = this.#request
    if (sessionID === undefined) return undefined
    return (await this.#store().read(sessionID))?.[this.#key]
  }

  async save(copy: unknown): Promise<void> {
    const { session, sessionID } = this.#request
    if (this.#mountedInFront || !session || typeof session.save !== 'function' || sessionID === undefined) {
      throw noSession()
    }
    this.#store()
    session[this.#key] = copy
    this.#seen = copy
    this.#sessions.bind(sessionID, copy)
    await new Promise<void>((resolve, reject) => {
      ;(session.save as (callback: (error?: unknown) => void) => void)((error) =>
        error ? reject(error) : resolve(),
      )
    })
  }

  async replace(copy: unknown, replaces: (stored: unknown) => boolean): Promise<boolean> {
    const { sessionID } = this.#request
    if (sessionID === undefined) return false
    return this.#store().update(sessionID, (session) => {
      if (!replaces(session[this.#key])) return false
      session[this.#key] = copy
      return true
    })
  }

  async clear(clears: (stored: unknown) => boolean): Promise<void> {
    const { session, sessionID } = this.#request
    if (session) delete session[this.#key]
    if (sessionID === undefined) return
    this.#sessions.unbind(sessionID)
    await this.#store().update(sessionID, (stored) => {
      if (!clears(stored[this.#key])) return false
      delete stored[this.#key]
      return true
    })
  }

  #store(): GuardedStore {
    const { sessionStore } = this.#request
    if (!isStore(sessionStore)) throw noSession()
    return guardedStore(sessionStore)
  }
}

function isStore(store: unknown): store is SessionStore {
  const { get, set, destroy } = (store ?? {}) as Partial<SessionStore>
  return typeof get === 'function' && typeof set === 'function' && typeof destroy === 'function'
}

/** The session with everything that hangs on it, so that a store sees no difference. */
function cloneSession(session: SessionData): SessionData {
  return Object.create(
    Object.getPrototypeOf(session),
    Object.getOwnPropertyDescriptors(session),
  ) as SessionData
}

function noSession(): ConfigurationError {
  return new ConfigurationError(
    'This request has no express-session session. Mount express-session before sessionTokens(): ' +
      'app.use(session({ … })); app.use(sessionTokens({ … })). ' +
      'If it is mounted, its store may be disconnected, or the session was destroyed earlier in this request.',
  )
}
