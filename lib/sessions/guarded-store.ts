import { setTimeout as delay } from 'node:timers/promises'
import { CROSSING_MS } from '../crossing.js'
import {
  type LoadingRequest,
  type NotedRequest,
  noteLoaded,
  noteNew,
  requestOf as storeRequestOf,
} from './loaded-session.js'
import { type Saved, Saves } from './saves.js'
import { BareStore, type SessionData, type SessionStore } from './session-store.js'
import { SessionTurns } from './session-turns.js'
import { type Callback, finishing, inTime, over, replaceMethod, reporting } from './store-calls.js'
import type { StoreObserver } from './store-observer.js'

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
  readonly #regenerations = new Set<{ readonly sid: string }>()
  /** Sessions that are being saved by `replace()`, and what was stored before. */
  readonly #replacing = new Map<SessionData, SessionData | undefined>()
  readonly #store: SessionStore
  readonly #bare: BareStore
  readonly #saves: Saves

  constructor(store: SessionStore) {
    this.#store = store
    this.#bare = new BareStore(store)
    this.#saves = new Saves(this.#bare, this.#turns, this.observers)
    this.#guardLoading()
    this.#guardSave()
    this.#guardTouch()
    this.#guardDestroy()
    this.#guardRegenerate()
    this.#guardClear()
  }

  /** The stored session; `undefined` if there is none. `request` is told to a store that wants to know for which it is. */
  read(sid: string, request?: NotedRequest): Promise<SessionData | undefined> {
    return this.#bare.read(sid, request)
  }

  /**
   * Lets a session be saved with nobody of this process in between: what is under way ends first, and what comes
   * meanwhile waits. Resolves with what was stored before.
   */
  replace(sid: string, session: SessionData, save: () => Promise<void>): Promise<SessionData | undefined> {
    return this.#turns.exclusively(sid, async () => {
      const stored = await this.read(sid, storeRequestOf(session))
      this.#replacing.set(session, stored)
      try {
        await inTime(save())
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
  update(sid: string, change: (session: SessionData) => boolean, request?: NotedRequest): Promise<boolean> {
    return this.#turns.exclusively(sid, async () => {
      const data = await this.#bare.readJustNow(sid, request)
      if (!data) return false
      const session = this.#bare.inflate(sid, data)
      if (!change(session)) return false
      await this.#bare.write(sid, session)
      return true
    })
  }

  /** Notes on each request what its session was when it got it. */
  #guardLoading(): void {
    const store = this.#store
    const createSession = store.createSession?.bind(store)
    if (createSession) {
      replaceMethod(store, 'createSession', (request: LoadingRequest, data: SessionData) => {
        noteLoaded(request, request.sessionID, data, this.observers)
        return createSession(request, data)
      })
    }
    const generate = store.generate?.bind(store)
    if (generate) {
      replaceMethod(store, 'generate', (request: LoadingRequest) => {
        generate(request)
        noteNew(request)
      })
    }
  }

  #guardSave(): void {
    replaceMethod(this.#store, 'set', (sid: string, session: SessionData, callback?: Callback) => {
      if (this.#bare.isAsking(sid)) return this.#bare.set(sid, session, callback)
      const replacing = this.#replacingOf(session)
      if (replacing) {
        const observed = this.#saves.observed(sid, session, replacing.stored)
        return this.#bare.set(sid, observed, callback)
      }
      const set = this.#bare.set.bind(this.#bare)
      return this.#save(set, sid, session, () => this.#saves.saved(sid, session), callback)
    })
  }

  /** Of a session that `replace()` is saving. What it was given may be a proxy in front of the session that is saved. */
  #replacingOf(session: SessionData): { readonly stored: SessionData | undefined } | undefined {
    for (const [replacing, stored] of this.#replacing) {
      if (replacing === session || isSameRequests(replacing, session)) return { stored }
    }
    return undefined
  }

  #guardTouch(): void {
    const touch = this.#store.touch?.bind(this.#store)
    if (!touch) return
    replaceMethod(this.#store, 'touch', (sid: string, session: SessionData, callback?: Callback) =>
      this.#save(touch, sid, session, () => this.#saves.touched(sid, session), callback, true),
    )
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
    isTouch = false,
  ): unknown {
    let saved: Saved | undefined
    const confirmed: Callback = (...results) => {
      if (!saved || results[0]) return callback?.(...results)
      void this.#saves.confirm(sid, saved).then(() => callback?.(...results))
    }
    const saveOver = async () => {
      saved = await this.#saves.saveOver(sid, session, operation, isTouch)
      if (!callback) void this.#saves.confirm(sid, saved)
    }
    return this.#inTurn('shared', sid, callback && confirmed, (done) => {
      const simple = asItIs()
      return simple ? operation(sid, simple, done) : reporting(done, saveOver)
    })
  }

  #guardDestroy(): void {
    replaceMethod(this.#store, 'destroy', (sid: string, callback?: Callback, request?: NotedRequest) => {
      if (this.#bare.isAsking(sid)) return this.#bare.destroy(sid, callback, request)
      const regeneration = [...this.#regenerations].find((regeneration) => regeneration.sid === sid)
      if (regeneration) this.#regenerations.delete(regeneration)
      const destroy = async () => {
        const crossed = await this.#tellDestroyed(sid, regeneration !== undefined, request)
        await over((callback) => this.#bare.destroy(sid, callback, request))
        if (!crossed) return
        await delay(CROSSING_MS)
        await over((callback) => this.#bare.destroy(sid, callback, request))
      }
      return this.#inTurn('exclusive', sid, callback, (done) => reporting(done, destroy))
    })
  }

  /** Resolves with whether another process may be about to write the session. */
  async #tellDestroyed(sid: string, regenerated: boolean, request?: NotedRequest): Promise<boolean> {
    const session = await this.read(sid, request).catch(() => undefined)
    const told = [...this.observers].map((observer) => observer.onDestroy(sid, session, regenerated, request))
    return (await Promise.all(told)).includes(true)
  }

  /** One destroy() of a session that is regenerated is part of it; any other one is a destroy() in its own right. */
  #guardRegenerate(): void {
    const regenerate = this.#store.regenerate?.bind(this.#store)
    if (!regenerate) return
    replaceMethod(this.#store, 'regenerate', (request: { sessionID?: string }, callback: Callback) => {
      const regeneration = { sid: request.sessionID ?? '' }
      this.#regenerations.add(regeneration)
      return regenerate(request, (...results) => {
        this.#regenerations.delete(regeneration)
        callback(...results)
      })
    })
  }

  #guardClear(): void {
    if (typeof this.#store.clear !== 'function') return
    replaceMethod(this.#store, 'clear', (callback?: Callback) => {
      const cleared = this.#clear()
      // A failure is told to the callback where there is one.
      if (callback) cleared.then(() => callback(), callback)
      return cleared
    })
  }

  /** Nothing is written meanwhile, and what comes after it finds no session. */
  async #clear(): Promise<void> {
    const later = await this.#turns.alone(async () => {
      const listed = await this.#bare.all().catch(() => [])
      const told = await Promise.all([...this.observers].map((observer) => observer.onClear(listed)))
      await over((callback) => this.#bare.clear(callback))
      return told
    })
    await Promise.all(later.map((takeOut) => takeOut()))
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
    later.catch(() => {})
    return later
  }
}

/** Whether both are the one session of a request. */
function isSameRequests(a: SessionData, b: SessionData): boolean {
  const request = requestOf(a)
  return request !== undefined && request === requestOf(b) && a.id === b.id
}

/** What express-session hides in its sessions. Under the same name an app may keep something of its own in others. */
function requestOf(session: SessionData): unknown {
  const hidden = Object.getOwnPropertyDescriptor(session, 'req')
  return hidden?.enumerable === false ? hidden.value : undefined
}
