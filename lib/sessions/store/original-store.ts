import { AsyncLocalStorage } from 'node:async_hooks'
import { QUICK_TIMEOUT_MS, STORE_TIMEOUT_MS } from '../../concurrency/time-constants.js'
import { withTimeout } from '../../concurrency/with-timeout.js'
import type { NotedRequest } from './session-baseline.js'
import { isFast } from './write-race.js'

/** The callback of a store's method. */
export type Callback = (error?: unknown, result?: unknown) => void

/** A session's data: plain data out of a store, or express-session's `Session` object. */
export type SessionData = Record<string, unknown>

/**
 * A store of express-session, with the methods of the contract that every store fulfils. `request` is the request for which the
 * store is called: stores of koa-session get it.
 */
export interface SessionStore {
  get(sid: string, callback: Callback, request?: NotedRequest): unknown
  set(sid: string, session: SessionData, callback?: Callback): unknown
  destroy(sid: string, callback?: Callback, request?: NotedRequest): unknown
  clear?(callback?: Callback): unknown
  all?(callback: Callback): unknown
  touch?(sid: string, session: SessionData, callback?: Callback): unknown
  regenerate?(request: { sessionID?: string }, callback: Callback): unknown
  createSession?(request: object, data: SessionData): SessionData
  generate?(request: object): void
}

export function isStore(store: unknown): store is SessionStore {
  const { get, set, destroy } = (store ?? {}) as Partial<SessionStore>
  return typeof get === 'function' && typeof set === 'function' && typeof destroy === 'function'
}

/** Whether a value can be awaited: a promise of any kind, or a query that runs when it is awaited. */
export function isPromise(value: unknown): value is PromiseLike<unknown> {
  return typeof (value as Partial<PromiseLike<unknown>> | null | undefined)?.then === 'function'
}

/** Resolves when a store operation has called back, or when the promise that it returned has settled. */
export function promisify(operation: (callback: Callback) => unknown): Promise<unknown> {
  return new Promise((resolve, reject) => {
    const returned = operation((error, result) => (error ? reject(error) : resolve(result)))
    if (returned instanceof Promise) returned.then(resolve, reject)
  })
}

/** Waits for a store, with a time-out. */
export function withStoreTimeout<T>(result: Promise<T>): Promise<T> {
  return withTimeout(STORE_TIMEOUT_MS, result, () => new Error('The session store did not respond in time.'))
}

/** How many times a session is read at most before it is written back. It is read again after a slow read, as it may have changed. */
const MAX_READS = 3

/** The work of a store on one session, or on all: from the call of its method until it calls back. */
interface Work {
  readonly store: OriginalStore
  readonly sid: string | undefined
  readonly isTouch: boolean
  /** The work within which this work was started, if it still runs. */
  readonly outer: Work | undefined
  isDone: boolean
}

const work = new AsyncLocalStorage<Work>()

/**
 * How many works run. While none runs, the `AsyncLocalStorage` is switched off, since it makes every promise of a process slower.
 */
let running = 0

function end(current: Work): void {
  if (current.isDone) return
  current.isDone = true
  running--
  if (running === 0) work.disable()
}

function runningWork(): Work | undefined {
  let current = work.getStore()
  while (current?.isDone) current = current.outer
  return current
}

/** A session store with its own methods, which the library has replaced by patched ones. */
export class OriginalStore {
  readonly #store: SessionStore
  readonly #get: SessionStore['get']
  readonly #set: SessionStore['set']
  readonly #destroy: SessionStore['destroy']
  readonly #clear: SessionStore['clear']
  readonly #touch: SessionStore['touch']

  constructor(store: SessionStore) {
    this.#store = store
    this.#get = store.get.bind(store)
    this.#set = store.set.bind(store)
    this.#destroy = store.destroy.bind(store)
    this.#clear = store.clear
    this.#touch = store.touch?.bind(store)
  }

  /**
   * Returns the running work on this session if the store itself makes the present call within that work. For example, some
   * stores destroy a session that they find expired. Such a call must not wait for the end of the work, as the work waits for the
   * call.
   */
  workOn(sid: string): Work | undefined {
    const current = runningWork()
    return current?.store === this && (current.sid ?? sid) === sid ? current : undefined
  }

  /** Reads the stored session; `undefined` if there is none. */
  async read(sid: string, request?: NotedRequest): Promise<SessionData | undefined> {
    try {
      return await this.#call<SessionData | undefined>(sid, (respond) =>
        request ? this.#get(sid, respond, request) : this.#get(sid, respond),
      )
    } catch (error) {
      // File stores fail like this if there is no such session, and express-session understands it so too.
      if ((error as { code?: unknown }).code === 'ENOENT') return undefined
      throw error
    }
  }

  /**
   * Reads a session and makes the data to write; resolves with `undefined` if nothing is to be written. Reads again if the read was
   * slow, or this process was suspended or blocked since: another process may have saved the session.
   *
   * @param makeUnread makes the data if the read fails. Default: rejects
   */
  async readToWrite<T>(
    sid: string,
    request: NotedRequest | undefined,
    make: (stored: SessionData | undefined) => T,
    makeUnread?: () => T,
  ): Promise<T> {
    for (let reads = 1; ; reads++) {
      const startedAt = performance.now()
      let stored: SessionData | undefined
      try {
        stored = await this.read(sid, request)
      } catch (error) {
        if (makeUnread) return makeUnread()
        throw error
      }
      const made = make(stored)
      const isFresh = isFast(performance.now() - startedAt) || reads === MAX_READS
      if (isFresh || made === undefined) return made
    }
  }

  async write(sid: string, session: SessionData): Promise<void> {
    await this.#call(sid, (respond) => this.#set(sid, session, respond))
  }

  set(sid: string, session: SessionData, callback?: Callback): unknown {
    return this.#working(sid, callback, (respond) => this.#set(sid, session, respond))
  }

  touch(sid: string, session: SessionData, callback?: Callback): unknown {
    return this.#working(sid, callback, (respond) => this.#touch?.(sid, session, respond), true)
  }

  destroy(sid: string, callback?: Callback, request?: NotedRequest): unknown {
    return this.#working(sid, callback, (respond) =>
      request ? this.#destroy(sid, respond, request) : this.#destroy(sid, respond),
    )
  }

  /** Empties the store. */
  clear(callback: Callback): unknown {
    return this.#working(undefined, callback, (respond) => {
      const returned = this.#clear?.call(this.#store, respond)
      // A method without parameters may ignore the callback, or take it as a default parameter and call it later.
      if (this.#clear?.length === 0 && !(returned instanceof Promise)) setTimeout(respond, QUICK_TIMEOUT_MS)
      return returned
    })
  }

  /** Reads all stored sessions; none from a store that cannot list them. */
  async all(): Promise<SessionData[]> {
    const { all } = this.#store
    if (typeof all !== 'function') return []
    const found = await this.#call<object | undefined>(undefined, (respond) => all.call(this.#store, respond))
    return Object.values(found ?? {}).filter((data) => typeof data === 'object' && data !== null)
  }

  /** Makes a session of plain data: stores compute the time to live from the methods of express-session's cookie object. */
  inflate(sid: string, data: SessionData): SessionData {
    if (typeof this.#store.createSession !== 'function' || !data.cookie) return data
    return this.#store.createSession({ sessionID: sid, sessionStore: this.#store }, data)
  }

  /** Calls a method of the store and waits for its callback, with a time-out. */
  #call<T>(sid: string | undefined, method: (respond: Callback) => unknown): Promise<T> {
    const called = new Promise<T>((resolve, reject) => {
      const callback: Callback = (error, result) => (error ? reject(error) : resolve(result as T))
      const returned = this.#working(sid, callback, method)
      // A store may report a failure through its promise alone.
      if (returned instanceof Promise) returned.catch(reject)
    })
    return withStoreTimeout(called)
  }

  /** Calls a method of the store, and marks the calls that the store makes until it has called back. */
  #working(
    sid: string | undefined,
    callback: Callback | undefined,
    method: (respond: Callback) => unknown,
    isTouch = false,
  ): unknown {
    const current: Work = { store: this, sid, isTouch, outer: runningWork(), isDone: false }
    const respond: Callback = (...results) => {
      // The caller's next operations are not part of the store's work.
      end(current)
      callback?.(...results)
    }
    running++
    try {
      const returned = work.run(current, method, respond)
      if (returned instanceof Promise)
        returned.then(
          () => end(current),
          () => end(current),
        )
      return returned
    } catch (error) {
      end(current)
      throw error
    }
  }
}
