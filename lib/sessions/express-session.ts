import { LRUCache } from 'lru-cache'
import { ConfigurationError } from '../errors.js'
import type { CopyKeeper } from './copy-keeper.js'
import {
  type GuardedStore,
  guardedStore,
  LOADED,
  type LoadedSession,
  type SessionData,
  type SessionStore,
  type StoreObserver,
} from './guarded-store.js'
import type { SessionAdapter } from './session-adapter.js'

/** What express-session adds to a request, and what we note on it. */
export interface SessionRequest {
  session?: SessionData
  sessionID?: string
  sessionStore?: unknown
  [LOADED]?: LoadedSession
}

/** How many sessions are remembered, for the saves of requests that are still under way. */
const MAX_SESSIONS = 10_000
/** In how many sessions a grant is looked after at a time. More than one is a session that is being regenerated. */
const MAX_HOMES = 4

/**
 * The session layer of express-session, with any store, under one session key.
 *
 * The key belongs to this library: a session that the app saves keeps the copy that is stored, or a newer one, whatever
 * the session that is saved holds under the key. So no slow request brings an old copy back, nor undoes a login, nor a
 * logout. Only login, refresh and logout change the copy, and they change nothing else.
 */
export class ExpressSessions implements StoreObserver {
  readonly key: string
  readonly #keeper: CopyKeeper
  /** The copies of logins that are being stored: they take the place of whatever is stored. */
  readonly #logins = new Set<unknown>()
  /** Sessions that got tokens, and of which grant: a request from before the login must not save its session without them. */
  readonly #grants = new LRUCache<string, string>({ max: MAX_SESSIONS })
  /** In which sessions a grant was saved, the last one last: regenerating a session carries it into another. */
  readonly #homes = new LRUCache<string, Set<string>>({ max: MAX_SESSIONS })
  readonly #guards = new Set<GuardedStore>()
  #lastStore: unknown

  constructor(key: string, keeper: CopyKeeper) {
    this.key = key
    this.#keeper = keeper
  }

  /** The adapter of a request's session. Called on every request: no I/O, nothing read but a property or two. */
  of(request: SessionRequest): SessionAdapter {
    if (request.sessionStore !== this.#lastStore) this.#watch(request)
    return new ExpressSessionAdapter(this, request, this.key)
  }

  /** Stops watching the stores. */
  close(): void {
    for (const guard of this.#guards) guard.observers.delete(this)
    this.#guards.clear()
    this.#lastStore = undefined
  }

  #watch(request: SessionRequest): void {
    const { session, sessionStore } = request
    if (!isStore(sessionStore)) return
    const guard = guardedStore(sessionStore)
    guard.observers.add(this)
    this.#guards.add(guard)
    this.#lastStore = sessionStore
    // The first request was loaded before the guard was up.
    if (session) {
      const isNew = Object.keys(session).length <= 1
      request[LOADED] ??= { sid: request.sessionID, data: { ...session }, isNew }
    }
  }

  /** Stores a session with the copy of a login. Resolves with the grants whose place it takes. */
  async login(guard: GuardedStore, sid: string, session: SessionData, seen: unknown): Promise<string[]> {
    const copy = session[this.key]
    const before = this.#grants.get(sid)
    this.#logins.add(copy)
    try {
      const stored = await guard.replace(sid, session, () => saved(session))
      const replaced = this.#keeper.grantOf(seen)
      // Another request may have regenerated the session meanwhile, and carried away the tokens that this login replaces.
      if (replaced !== undefined) await this.takeOut(replaced, sid)
      const displaced = [before, this.#keeper.grantOf(stored?.[this.key])]
      return displaced.filter((id) => id !== undefined)
    } finally {
      this.#logins.delete(copy)
    }
  }

  /** The sessions that may hold the grant of a copy: the one asked about, and those it was saved in. */
  homesOf(copy: unknown, sid: string | undefined): string[] {
    const homes = this.#homes.get(this.#keeper.grantOf(copy) ?? '') ?? []
    return [...new Set([sid, ...homes])].filter((id) => id !== undefined)
  }

  /** Takes the copies of a grant out of the sessions it was saved in, but for the one named. Never rejects. */
  async takeOut(grantId: string, except: string): Promise<void> {
    const takeOut = (stored: SessionData) => {
      if (this.#keeper.grantOf(stored[this.key]) !== grantId) return false
      delete stored[this.key]
      return true
    }
    const homes = [...(this.#homes.get(grantId) ?? [])].filter((sid) => sid !== except)
    const updates = [...this.#guards].flatMap((guard) => homes.map((sid) => guard.update(sid, takeOut)))
    await Promise.allSettled(updates)
  }

  #settleIn(grantId: string, sid: string): void {
    const homes = this.#homes.get(grantId) ?? new Set()
    if (homes.has(sid)) return
    homes.add(sid)
    const [oldest] = homes
    if (homes.size > MAX_HOMES) homes.delete(oldest!)
    this.#homes.set(grantId, homes)
  }

  wantsStored(sid: string, session: SessionData, loaded: LoadedSession | undefined): boolean {
    const holdsOne = [session, loaded?.data].some(
      (data) => this.#keeper.grantOf(data?.[this.key]) !== undefined,
    )
    return holdsOne || (loaded !== undefined && this.#grants.has(sid))
  }

  isSuperseded(sid: string, session: SessionData): boolean {
    const stored = this.#grants.get(sid)
    if (stored === undefined || stored === this.#keeper.grantOf(session[this.key])) return false
    if (!this.#keeper.isEnded(stored)) return true
    this.#grants.delete(sid)
    return false
  }

  onSave(
    sid: string,
    session: SessionData,
    loaded: LoadedSession | undefined,
    stored: SessionData | undefined,
  ): SessionData {
    const copy = session[this.key]
    const current = this.#logins.has(copy) ? copy : this.#currentCopy(copy, loaded, stored)
    const grantId = this.#keeper.grantOf(current)
    if (grantId !== undefined) {
      this.#settleIn(grantId, sid)
      this.#grants.set(sid, grantId)
    }
    if (current === copy) return session
    const changed = cloneSession(session)
    if (current === undefined) delete changed[this.key]
    else changed[this.key] = current
    return changed
  }

  /** The copy that belongs into a session which is about to be stored with `copy` in it. */
  #currentCopy(copy: unknown, loaded: LoadedSession | undefined, stored: SessionData | undefined): unknown {
    const key = this.key
    const kept = this.#newestOf(stored?.[key])
    const before = this.#keeper.grantOf(loaded?.data[key])
    if (copy === undefined && before !== undefined) {
      // The app has deleted it from a session that had it: a logout by hand, unless somebody has logged in since.
      void this.#keeper.end(before, loaded?.data[key])
      return this.#keeper.grantOf(kept) === before ? undefined : kept
    }
    // A session that was written for no request is written on purpose as it is.
    if (copy === undefined) return loaded ? kept : undefined
    if (kept !== undefined) return this.#newestOf(kept, copy)
    // What the request found in its session and is not stored any more was taken out by somebody else.
    const takenOut = loaded && !loaded.isNew && before !== undefined && before === this.#keeper.grantOf(copy)
    return takenOut ? undefined : this.#newestOf(copy)
  }

  /** The newest copy of the grant, `undefined` if it has ended. What is no copy of ours stays as it is. */
  #newestOf(copy: unknown, other?: unknown): unknown {
    const grantId = this.#keeper.grantOf(copy)
    return grantId === undefined ? copy : this.#keeper.newestOf(grantId, copy, other)
  }

  async onDestroy(sid: string, session: SessionData | undefined, regenerated: boolean): Promise<boolean> {
    const copy = session?.[this.key]
    const grantId = session ? this.#keeper.grantOf(copy) : this.#grants.get(sid)
    if (grantId === undefined) return false
    this.#homes.get(grantId)?.delete(sid)
    if (regenerated) return false
    const crossed = await this.#keeper.end(grantId, copy)
    // Another request may have carried it into another session. Nobody waits: this process knows that it has ended.
    void this.takeOut(grantId, sid)
    return crossed
  }

  isOutdated(session: SessionData): Promise<boolean> {
    return this.#keeper.isOutdated(session[this.key])
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
    return (await this.#guard().read(sessionID))?.[this.#key]
  }

  async save(copy: unknown): Promise<string[]> {
    const { session, sessionID } = this.#request
    if (this.#mountedInFront || !session || typeof session.save !== 'function' || sessionID === undefined) {
      throw noSession()
    }
    const guard = this.#guard()
    const before = session[this.#key]
    session[this.#key] = copy
    try {
      const displaced = await this.#sessions.login(guard, sessionID, session, this.#seen)
      this.#note(copy)
      this.#seen = copy
      return displaced
    } catch (error) {
      // A login that failed must not be saved by the way when the request ends.
      if (before === undefined) delete session[this.#key]
      else session[this.#key] = before
      throw error
    }
  }

  async replace(copy: unknown, replaces: (stored: unknown) => boolean): Promise<boolean> {
    const change = (session: SessionData) => {
      if (!replaces(session[this.#key])) return false
      if (copy === undefined) delete session[this.#key]
      else session[this.#key] = copy
      return true
    }
    return this.#updateAll(copy ?? this.#seen, change)
  }

  async clear(clears: (stored: unknown) => boolean): Promise<void> {
    const { session } = this.#request
    const copy = session?.[this.#key] ?? this.#seen
    if (session) delete session[this.#key]
    this.#note(undefined)
    const change = (stored: SessionData) => {
      if (!clears(stored[this.#key])) return false
      delete stored[this.#key]
      return true
    }
    await this.#updateAll(copy, change)
  }

  async #updateAll(copy: unknown, change: (session: SessionData) => boolean): Promise<boolean> {
    const sids = this.#sessions.homesOf(copy, this.#request.sessionID)
    const guard = this.#guard()
    const updated = await Promise.all(sids.map((sid) => guard.update(sid, change)))
    return updated.includes(true)
  }

  /** From here on the request's session counts as one that was loaded with this copy. */
  #note(copy: unknown): void {
    const { [LOADED]: loaded, sessionID: sid } = this.#request
    this.#request[LOADED] = { sid, data: { ...loaded?.data, [this.#key]: copy }, isNew: false }
  }

  #guard(): GuardedStore {
    const { sessionStore } = this.#request
    if (!isStore(sessionStore)) throw noSession()
    return guardedStore(sessionStore)
  }
}

function saved(session: SessionData): Promise<void> {
  return new Promise((resolve, reject) => {
    const save = session.save as (callback: (error?: unknown) => void) => void
    save.call(session, (error) => (error ? reject(error) : resolve()))
  })
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
