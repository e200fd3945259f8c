import { setTimeout as delay } from 'node:timers/promises'
import { CROSSING_MS, PROMPT_MS } from '../crossing.js'
import { SessionTurns } from './session-turns.js'
import { type Callback, called, finishing, over, replaceMethod, reporting } from './store-calls.js'

/** A session's data as it comes out of a store, or as express-session's `Session` object. */
export type SessionData = Record<string, unknown>

/** What is asked of an express-session store. All of it is part of the contract that every store fulfils. */
export interface SessionStore {
  get(sid: string, callback: Callback): unknown
  set(sid: string, session: SessionData, callback?: Callback): unknown
  destroy(sid: string, callback?: Callback): unknown
  touch?(sid: string, session: SessionData, callback?: Callback): unknown
  regenerate?(request: { sessionID?: string }, callback: Callback): unknown
  createSession?(request: object, data: SessionData): SessionData
  generate?(request: object): void
}

/** A session as it was when the request got it: from the store, or made anew. */
export interface LoadedSession {
  readonly sid: string | undefined
  readonly data: SessionData
  readonly isNew: boolean
}

/** Under which name a request has its {@link LoadedSession}. */
export const LOADED = Symbol('session as loaded')

/** A session that was saved, and what was stored in its place before. */
interface Saved {
  readonly before: SessionData | undefined
  readonly written: SessionData
  readonly at: number
}

/** Who wants a say when the app saves or destroys a session. */
export interface StoreObserver {
  /** Under which key of a session it keeps its value. */
  readonly key: string
  /** Whether it must see what is stored to tell what to store. */
  wantsStored(sid: string, session: SessionData, loaded: LoadedSession | undefined): boolean
  /** Whether a session that is about to be touched holds another login than the one that is known to be stored. */
  isSuperseded(sid: string, session: SessionData): boolean
  /**
   * What to store instead of the session that is about to be stored; the same object if it is fine as it is. `stored` is
   * given to those that want it; it is `undefined` also when nothing is stored.
   */
  onSave(
    sid: string,
    session: SessionData,
    loaded: LoadedSession | undefined,
    stored: SessionData | undefined,
  ): SessionData
  /** Whether another process has changed what this session should hold, which was just stored. Never rejects. */
  isOutdated(session: SessionData): Promise<boolean>
  /**
   * The session is about to be destroyed; `regenerated` when another id is about to take its place. Resolves with whether
   * another process may be about to write it.
   */
  onDestroy(sid: string, session: SessionData | undefined, regenerated: boolean): Promise<boolean>
}

/** How often a session that was read too long ago to be written back is read again. */
const MAX_READS = 3

interface LoadingRequest {
  sessionID?: string
  [LOADED]?: LoadedSession
}

const guarded = new WeakMap<object, GuardedStore>()

/** The one guard of a store, put up at the first call. */
export function guardedStore(store: SessionStore): GuardedStore {
  const existing = guarded.get(store)
  if (existing) return existing
  const guard = new GuardedStore(store)
  guarded.set(store, guard)
  return guard
}

/**
 * Stands in front of a session store's methods, so that whoever saves a session saves the newest tokens with it,
 * and so that one value in a stored session can be changed without losing what others write.
 *
 * The store's own methods are replaced, since express-session and apps hold on to the store itself. When nothing is
 * in the way a call goes through to the store at once and with the arguments it came with.
 */
export class GuardedStore {
  readonly observers = new Set<StoreObserver>()
  readonly #turns = new SessionTurns()
  readonly #regenerating = new Set<string>()
  /** Sessions that are being saved by `replace()`, and what was stored before. */
  readonly #replacing = new Map<SessionData, SessionData | undefined>()
  readonly #store: SessionStore
  readonly #get: SessionStore['get']
  readonly #set: SessionStore['set']

  constructor(store: SessionStore) {
    this.#store = store
    this.#get = store.get.bind(store)
    this.#set = store.set.bind(store)
    this.#guardLoading()
    this.#guardSave()
    this.#guardTouch()
    this.#guardDestroy()
    this.#guardRegenerate()
  }

  /** The stored session; `undefined` if there is none. */
  async read(sid: string): Promise<SessionData | undefined> {
    try {
      return await called<SessionData | undefined>((callback) => this.#get(sid, callback))
    } catch (error) {
      // File stores say so when there is no such session, and express-session reads it that way too.
      if ((error as { code?: unknown }).code === 'ENOENT') return undefined
      throw error
    }
  }

  /**
   * Lets a session be saved with nobody of this process in between: what is under way ends first, and what comes
   * meanwhile waits. Resolves with what was stored before.
   */
  replace(sid: string, session: SessionData, save: () => Promise<void>): Promise<SessionData | undefined> {
    return this.#exclusively(sid, async () => {
      const stored = await this.read(sid)
      this.#replacing.set(session, stored)
      try {
        await save()
      } finally {
        this.#replacing.delete(session)
      }
      return stored
    })
  }

  /**
   * Reads the stored session, changes it and stores it again, with nobody of this process in between. `change` returns
   * `false` to leave the session alone. Resolves with whether it was stored.
   */
  update(sid: string, change: (session: SessionData) => boolean): Promise<boolean> {
    return this.#exclusively(sid, async () => {
      const data = await this.#readJustNow(sid)
      if (!data) return false
      const session = this.#inflate(sid, data)
      if (!change(session)) return false
      await called((callback) => this.#set(sid, session, callback))
      return true
    })
  }

  /** The stored session, to be written back at once: if it took long, another process may have saved it since. */
  async #readJustNow(sid: string): Promise<SessionData | undefined> {
    for (let reads = 1; ; reads++) {
      const startedAt = performance.now()
      const data = await this.read(sid)
      if (performance.now() - startedAt <= PROMPT_MS || reads === MAX_READS) return data
    }
  }

  #exclusively<T>(sid: string, work: () => Promise<T>): Promise<T> {
    return new Promise((resolve, reject) => {
      this.#turns.take('exclusive', sid, (done) => void work().then(resolve, reject).finally(done))
    })
  }

  /** Stores compute the time to live from the methods of express-session's cookie object; plain data has none. */
  #inflate(sid: string, data: SessionData): SessionData {
    if (typeof this.#store.createSession !== 'function' || !data.cookie) return data
    return this.#store.createSession({ sessionID: sid, sessionStore: this.#store }, data)
  }

  /** Notes on each request what its session was when it got it. */
  #guardLoading(): void {
    const store = this.#store
    const createSession = store.createSession?.bind(store)
    if (createSession) {
      replaceMethod(store, 'createSession', (request: LoadingRequest, data: SessionData) => {
        request[LOADED] = { sid: request.sessionID, data, isNew: false }
        return createSession(request, data)
      })
    }
    const generate = store.generate?.bind(store)
    if (generate) {
      replaceMethod(store, 'generate', (request: LoadingRequest) => {
        generate(request)
        request[LOADED] = { sid: request.sessionID, data: {}, isNew: true }
      })
    }
  }

  #guardSave(): void {
    replaceMethod(this.#store, 'set', (sid: string, session: SessionData, callback?: Callback) => {
      if (this.#replacing.has(session)) {
        return this.#set(sid, this.#observed(sid, session, this.#replacing.get(session)), callback)
      }
      const asItIs = () => (this.#wantsStored(sid, session) ? undefined : this.#observed(sid, session))
      return this.#save(this.#set, sid, session, asItIs, callback)
    })
  }

  /**
   * Saves a session as `asItIs` says, or over what is stored if it does not. Then it sees to it that the save did not cross
   * with another process.
   */
  #save(
    operation: SessionStore['set'],
    sid: string,
    session: SessionData,
    asItIs: () => SessionData | undefined,
    callback: Callback | undefined,
  ): unknown {
    let saved: Saved | undefined
    const confirmed: Callback = (...results) => {
      if (!saved || results[0]) return callback?.(...results)
      const confirmation = this.#confirm(sid, saved).catch(ignore)
      void confirmation.then(() => callback?.(...results))
    }
    const saveOver = async () => {
      // Where the store cannot be read, what the request has loaded is the best that is known.
      const before = await this.#readJustNow(sid).catch(() => loadedSession(session)?.data ?? session)
      const written = this.#observed(sid, session, before)
      saved = { before, written, at: performance.now() }
      await over((callback) => operation(sid, written, callback))
      if (!callback) void this.#confirm(sid, saved).catch(ignore)
    }
    return this.#inTurn('shared', sid, callback && confirmed, (done) => {
      const simple = asItIs()
      return simple ? operation(sid, simple, done) : reporting(done, saveOver)
    })
  }

  /**
   * A refresh in another process may have read the session before this save and written it back after, or the other way
   * round. Then what was saved is stored again, unless somebody else has changed it since; with the newest tokens.
   */
  async #confirm(sid: string, { before, written, at }: Saved): Promise<void> {
    const outdated = await Promise.all([...this.observers].map((observer) => observer.isOutdated(written)))
    const isLate = performance.now() - at > CROSSING_MS
    if (!outdated.includes(true) && !isLate) return
    await delay(CROSSING_MS)
    await this.#exclusively(sid, async () => {
      const data = await this.read(sid)
      if (!data) return
      const undone =
        before !== undefined && this.#sameContent(data, before) && !this.#sameContent(data, written)
      const session = undone ? written : this.#inflate(sid, data)
      const observed = this.#observed(sid, session, data)
      if (undone || observed !== session) await called((callback) => this.#set(sid, observed, callback))
    })
  }

  /** Whether two sessions hold the same, but for what observers keep in them. */
  #sameContent(a: SessionData, b: SessionData): boolean {
    const ours = new Set(['cookie', ...[...this.observers].map(({ key }) => key)])
    const content = (data: SessionData) =>
      JSON.stringify(data, (name, value) => (ours.has(name) ? undefined : value))
    return content(a) === content(b)
  }

  /** A store may well write the whole session when it is touched. */
  #guardTouch(): void {
    const original = this.#store.touch?.bind(this.#store)
    if (!original) return
    replaceMethod(this.#store, 'touch', (sid: string, session: SessionData, callback?: Callback) => {
      const asItIs = () => {
        if ([...this.observers].some((observer) => observer.isSuperseded(sid, session))) return undefined
        // A touched session is as it was loaded: what was stored then, and what is known, will do.
        return this.#observed(sid, session, loadedSession(session)?.data ?? session)
      }
      return this.#save(original, sid, session, asItIs, callback)
    })
  }

  #wantsStored(sid: string, session: SessionData): boolean {
    const loaded = loadedSession(session)
    return [...this.observers].some((observer) => observer.wantsStored(sid, session, loaded))
  }

  #observed(sid: string, session: SessionData, stored?: SessionData): SessionData {
    const loaded = loadedSession(session)
    let observed = session
    for (const observer of this.observers) observed = observer.onSave(sid, observed, loaded, stored)
    return observed
  }

  #guardDestroy(): void {
    const original = this.#store.destroy.bind(this.#store)
    replaceMethod(this.#store, 'destroy', (sid: string, callback?: Callback) => {
      const regenerated = this.#regenerating.has(sid)
      const destroy = async () => {
        const crossed = await this.#tellDestroyed(sid, regenerated)
        await over((callback) => original(sid, callback))
        if (!crossed) return
        await delay(CROSSING_MS)
        await over((callback) => original(sid, callback))
      }
      return this.#inTurn('exclusive', sid, callback, (done) => reporting(done, destroy))
    })
  }

  /** Resolves with whether another process may be about to write the session. */
  async #tellDestroyed(sid: string, regenerated: boolean): Promise<boolean> {
    const session = await this.read(sid).catch(() => undefined)
    const told = [...this.observers].map((observer) => observer.onDestroy(sid, session, regenerated))
    return (await Promise.all(told)).includes(true)
  }

  #guardRegenerate(): void {
    const original = this.#store.regenerate?.bind(this.#store)
    if (!original) return
    replaceMethod(this.#store, 'regenerate', (request: { sessionID?: string }, callback: Callback) => {
      const sid = request.sessionID ?? ''
      this.#regenerating.add(sid)
      return original(request, (...results) => {
        this.#regenerating.delete(sid)
        callback(...results)
      })
    })
  }

  /** Runs a store operation in its turn and hands its outcome on, to the callback and as what it returns. */
  #inTurn(
    kind: 'shared' | 'exclusive',
    sid: string,
    callback: Callback | undefined,
    operation: (done: Callback) => unknown,
  ): unknown {
    let began = false
    let returned: unknown
    let returnLater: ((returned: unknown) => void) | undefined
    this.#turns.take(kind, sid, (done) => {
      began = true
      const run = () => finishing(operation, callback, done)
      if (returnLater) returnLater(Promise.resolve().then(run))
      else returned = run()
    })
    if (began) return returned
    const later = new Promise((resolve) => (returnLater = resolve))
    // Whoever only gave a callback does not look at the promise.
    later.catch(ignore)
    return later
  }
}

/** What a session was when its request got it; `undefined` for one that is written for no request. */
function loadedSession(session: SessionData): LoadedSession | undefined {
  const { req, id } = session as { req?: LoadingRequest; id?: string }
  if (!req) return undefined
  const loaded = req[LOADED]
  // A further session() over the same store makes its new sessions past the guard.
  return loaded && (id === undefined || loaded.sid === id) ? loaded : { sid: id, data: {}, isNew: true }
}

function ignore(): void {}
