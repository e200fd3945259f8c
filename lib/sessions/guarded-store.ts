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
}

/** Who wants a say when the app saves or destroys a session. */
export interface StoreObserver {
  /** Whether it takes a look at what is stored to tell if the session that is about to be stored is up to date. */
  wantsStored(session: SessionData): boolean
  /** What to store instead of the session that is about to be stored; the same object if it is fine as it is. */
  onSave(sid: string, session: SessionData, stored?: SessionData): SessionData
  /** The session is about to be destroyed; `regenerated` when another id is about to take its place. */
  onDestroy(sid: string, session: SessionData | undefined, regenerated: boolean): Promise<void>
  /** A regenerated session has its new id. */
  onRegenerated(oldSid: string, newSid: string): void
}

/** How long a store may take for one operation of ours. */
const STORE_TIMEOUT_MS = 10_000

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
  readonly #store: SessionStore
  readonly #get: SessionStore['get']
  readonly #set: SessionStore['set']

  constructor(store: SessionStore) {
    this.#store = store
    this.#get = store.get.bind(store)
    this.#set = store.set.bind(store)
    this.#guardSave('set')
    if (typeof store.touch === 'function') this.#guardSave('touch')
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
   * Reads the stored session, changes it and stores it again, with nobody of this process in between. `change` returns
   * `false` to leave the session alone. Resolves with whether it was stored.
   */
  update(sid: string, change: (session: SessionData) => boolean): Promise<boolean> {
    return new Promise((resolve, reject) => {
      this.#turns.take('exclusive', sid, (done) => {
        this.#update(sid, change).then(resolve, reject).finally(done)
      })
    })
  }

  async #update(sid: string, change: (session: SessionData) => boolean): Promise<boolean> {
    const data = await this.read(sid)
    if (!data) return false
    const session = this.#inflate(sid, data)
    if (!change(session)) return false
    await called((callback) => this.#set(sid, session, callback))
    return true
  }

  /** Stores compute the time to live from the methods of express-session's cookie object; plain data has none. */
  #inflate(sid: string, data: SessionData): SessionData {
    if (typeof this.#store.createSession !== 'function' || !data.cookie) return data
    return this.#store.createSession({ sessionID: sid, sessionStore: this.#store }, data)
  }

  #guardSave(method: 'set' | 'touch'): void {
    const original = this.#store[method]!.bind(this.#store)
    replaceMethod(this.#store, method, (sid: string, session: SessionData, callback?: Callback) =>
      this.#inTurn('shared', sid, callback, (done) => {
        if (method === 'touch' || !this.#wantsStored(session)) {
          return original(sid, this.#observed(sid, session), done)
        }
        return this.read(sid)
          .catch(() => undefined)
          .then((stored) => original(sid, this.#observed(sid, session, stored), done))
      }),
    )
  }

  #wantsStored(session: SessionData): boolean {
    return [...this.observers].some((observer) => observer.wantsStored(session))
  }

  #observed(sid: string, session: SessionData, stored?: SessionData): SessionData {
    let observed = session
    for (const observer of this.observers) observed = observer.onSave(sid, observed, stored)
    return observed
  }

  #guardDestroy(): void {
    const original = this.#store.destroy.bind(this.#store)
    replaceMethod(this.#store, 'destroy', (sid: string, callback?: Callback) => {
      const regenerated = this.#regenerating.has(sid)
      return this.#inTurn('exclusive', sid, callback, async (done) => {
        await this.#tellDestroyed(sid, regenerated)
        return original(sid, done)
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
      const oldSid = request.sessionID ?? ''
      this.#regenerating.add(oldSid)
      return original(request, (...results) => {
        this.#regenerating.delete(oldSid)
        for (const observer of this.observers) observer.onRegenerated(oldSid, request.sessionID ?? '')
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
      const result = finishing(operation, callback, done)
      if (returnLater) returnLater(result)
      else returned = result
    })
    return began ? returned : new Promise((resolve) => (returnLater = resolve))
  }
}

/** Starts an operation; whichever way it ends, `done` is called, and the callback once. */
function finishing(
  operation: (done: Callback) => unknown,
  callback: Callback | undefined,
  done: () => void,
): unknown {
  let over = false
  const settle: Callback = (...results) => {
    if (over) return
    over = true
    done()
    callback?.(...results)
  }
  try {
    const returned = operation(settle)
    if (returned instanceof Promise) returned.then(done, settle)
    return returned
  } catch (error) {
    settle(error)
    return undefined
  }
}

function replaceMethod(store: SessionStore, name: string, method: (...args: never[]) => unknown): void {
  Object.defineProperty(store, name, { value: method, configurable: true, writable: true, enumerable: false })
}

/** Calls a store's method and waits for its callback, for as long as is reasonable. */
function called<T>(operation: (callback: Callback) => unknown): Promise<T> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(
      () => reject(new Error('The session store did not answer in time')),
      STORE_TIMEOUT_MS,
    )
    const settle = (error: unknown, result: unknown) => {
      clearTimeout(timer)
      if (error) reject(error)
      else resolve(result as T)
    }
    try {
      const returned = operation(settle)
      // A store may report a failure through its promise alone.
      if (returned instanceof Promise) returned.catch((error) => settle(error, undefined))
    } catch (error) {
      settle(error ?? new Error('The session store failed'), undefined)
    }
  })
}
