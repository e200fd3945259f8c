import { AsyncLocalStorage } from 'node:async_hooks'
import { PROMPT_MS } from '../crossing.js'
import type { NotedRequest } from './loaded-session.js'
import { type Callback, called } from './store-calls.js'

/** A session's data as it comes out of a store, or as express-session's `Session` object. */
export type SessionData = Record<string, unknown>

/**
 * What is asked of an express-session store. All of it is part of the contract that every store fulfils. `request` is given
 * where the store wants to know for which request it is asked, as those of koa-session do.
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

/** How often a session that was read too long ago to be written back is read again. */
const MAX_READS = 3

/** A store that works on a session, or on all of them, from the call of its method until it calls back. */
interface Work {
  readonly store: BareStore
  readonly sid: string | undefined
  over: boolean
}

const work = new AsyncLocalStorage<Work>()

/** A session store as it is behind its guard: with its own methods, whatever has been put in their place since. */
export class BareStore {
  readonly #store: SessionStore
  readonly #get: SessionStore['get']
  readonly #set: SessionStore['set']
  readonly #destroy: SessionStore['destroy']
  readonly #clear: SessionStore['clear']

  constructor(store: SessionStore) {
    this.#store = store
    this.#get = store.get.bind(store)
    this.#set = store.set.bind(store)
    this.#destroy = store.destroy.bind(store)
    this.#clear = store.clear
  }

  /**
   * Whether it is the store itself that asks, in the middle of its work on this session: some destroy what they find
   * expired, others keep what is destroyed. Whoever makes them wait for that work to end waits for ever.
   */
  isAsking(sid: string): boolean {
    const current = work.getStore()
    return current?.store === this && (current.sid ?? sid) === sid && !current.over
  }

  /** The stored session; `undefined` if there is none. */
  async read(sid: string, request?: NotedRequest): Promise<SessionData | undefined> {
    try {
      return await called<SessionData | undefined>((callback) =>
        this.#working(sid, callback, (answer) =>
          request ? this.#get(sid, answer, request) : this.#get(sid, answer),
        ),
      )
    } catch (error) {
      // File stores say so when there is no such session, and express-session reads it that way too.
      if ((error as { code?: unknown }).code === 'ENOENT') return undefined
      throw error
    }
  }

  /** The stored session, to be written back at once: if it took long, another process may have saved it since. */
  async readJustNow(sid: string, request?: NotedRequest): Promise<SessionData | undefined> {
    for (let reads = 1; ; reads++) {
      const startedAt = performance.now()
      const data = await this.read(sid, request)
      if (performance.now() - startedAt <= PROMPT_MS || reads === MAX_READS) return data
    }
  }

  async write(sid: string, session: SessionData): Promise<void> {
    await called((callback) => this.set(sid, session, callback))
  }

  set(sid: string, session: SessionData, callback?: Callback): unknown {
    return this.#working(sid, callback, (answer) => this.#set(sid, session, answer))
  }

  destroy(sid: string, callback?: Callback, request?: NotedRequest): unknown {
    return this.#working(sid, callback, (answer) =>
      request ? this.#destroy(sid, answer, request) : this.#destroy(sid, answer),
    )
  }

  /** Empties the store. */
  clear(callback: Callback): unknown {
    return this.#working(undefined, callback, (answer) => {
      const returned = this.#clear?.call(this.#store, answer)
      // A store that takes no callback and returns no promise is done.
      if (this.#clear?.length === 0 && !(returned instanceof Promise)) answer()
      return returned
    })
  }

  /** All stored sessions; none from a store that does not list them. */
  async all(): Promise<SessionData[]> {
    const { all } = this.#store
    if (typeof all !== 'function') return []
    const found = await called<object | undefined>((callback) => all.call(this.#store, callback))
    return Object.values(found ?? {}).filter((data) => typeof data === 'object' && data !== null)
  }

  /** Stores compute the time to live from the methods of express-session's cookie object; plain data has none. */
  inflate(sid: string, data: SessionData): SessionData {
    if (typeof this.#store.createSession !== 'function' || !data.cookie) return data
    return this.#store.createSession({ sessionID: sid, sessionStore: this.#store }, data)
  }

  #working(
    sid: string | undefined,
    callback: Callback | undefined,
    method: (answer: Callback) => unknown,
  ): unknown {
    const current: Work = { store: this, sid, over: false }
    const answer: Callback = (...results) => {
      // What whoever waits for the answer does next is not the store's doing.
      current.over = true
      callback?.(...results)
    }
    return work.run(current, method, answer)
  }
}
