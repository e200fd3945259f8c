import { within } from '../deadline.js'
import { SessionTurns } from './session-turns.js'

type Callback = (error?: unknown, result?: unknown) => void

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

/** Who wants a say when the app saves or destroys a session. */
export interface StoreObserver {
  /** Whether it must see what is stored to tell what to store. */
  wantsStored(sid: string, session: SessionData, loaded: LoadedSession | undefined): boolean
  /** Whether a session that is about to be touched holds another login than the one that is known to be stored. */
  isOutdated(sid: string, session: SessionData): boolean
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
  /** The session is about to be destroyed; `regenerated` when another id is about to take its place. */
  onDestroy(sid: string, session: SessionData | undefined, regenerated: boolean): Promise<void>
}

/** How long a store may take for one operation of ours. */
const STORE_TIMEOUT_MS = 10_000

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
      const data = await this.read(sid)
      if (!data) return false
      const session = this.#inflate(sid, data)
      if (!change(session)) return false
      await called((callback) => this.#set(sid, session, callback))
      return true
    })
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
      return this.#inTurn('shared', sid, callback, (done) => {
        if (!this.#wantsStored(sid, session)) return this.#set(sid, this.#observed(sid, session), done)
        return this.#storeOver(this.#set, sid, session, done)
      })
    })
  }

  async #storeOver(
    operation: SessionStore['set'],
    sid: string,
    session: SessionData,
    done: Callback,
  ): Promise<void> {
    // Where the store cannot be read, what the request has loaded is the best that is known.
    const stored = await this.read(sid).catch(() => loadedSession(session)?.data ?? session)
    await over((callback) => operation(sid, this.#observed(sid, session, stored), callback), done)
  }

  /** A store may well write the whole session when it is touched. */
  #guardTouch(): void {
    const original = this.#store.touch?.bind(this.#store)
    if (!original) return
    replaceMethod(this.#store, 'touch', (sid: string, session: SessionData, callback?: Callback) =>
      this.#inTurn('shared', sid, callback, (done) => {
        if ([...this.observers].some((observer) => observer.isOutdated(sid, session))) {
          return this.#storeOver(original, sid, session, done)
        }
        // A touched session is as it was loaded: what was stored then, and what is known, will do.
        const stored = loadedSession(session)?.data ?? session
        return original(sid, this.#observed(sid, session, stored), done)
      }),
    )
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
      return this.#inTurn('exclusive', sid, callback, async (done) => {
        await this.#tellDestroyed(sid, regenerated)
        await over((callback) => original(sid, callback), done)
      })
    })
  }

  async #tellDestroyed(sid: string, regenerated: boolean): Promise<void> {
    const session = await this.read(sid).catch(() => undefined)
    await Promise.all([...this.observers].map((observer) => observer.onDestroy(sid, session, regenerated)))
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

/** Starts an operation; whichever way it ends, `done` is called, and the callback once. */
function finishing(
  operation: (done: Callback) => unknown,
  callback: Callback | undefined,
  done: () => void,
): unknown {
  let settled = false
  const settle: Callback = (...results) => {
    if (settled) return
    settled = true
    done()
    callback?.(...results)
  }
  try {
    const returned = operation(settle)
    if (returned instanceof Promise) returned.then(done, settle)
    return returned
  } catch (error) {
    if (!callback) {
      done()
      throw error
    }
    settle(error)
    return undefined
  }
}

/** Waits until a store operation is over, which is when it has called back or the promise it returned has settled. */
async function over(operation: (callback: Callback) => unknown, done: Callback): Promise<void> {
  try {
    await new Promise((resolve, reject) => {
      const returned = operation((error, result) => (error ? reject(error) : resolve(result)))
      if (returned instanceof Promise) returned.then(resolve, reject)
    })
  } catch (error) {
    done(error)
    throw error
  }
  done()
}

/** Calls a store's method and waits for its callback, for as long as is reasonable. */
function called<T>(operation: (callback: Callback) => unknown): Promise<T> {
  const answer = new Promise<T>((resolve, reject) => {
    const returned = operation((error, result) => (error ? reject(error) : resolve(result as T)))
    // A store may report a failure through its promise alone.
    if (returned instanceof Promise) returned.catch(reject)
  })
  return within(STORE_TIMEOUT_MS, answer, () => new Error('The session store did not answer in time'))
}

function replaceMethod(store: SessionStore, name: string, method: (...args: never[]) => unknown): void {
  Object.defineProperty(store, name, { value: method, configurable: true, writable: true, enumerable: false })
}

function ignore(): void {}
