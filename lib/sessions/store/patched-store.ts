import {
  type Callback,
  OriginalStore,
  type SessionData,
  type SessionStore,
  withStoreTimeout,
} from './original-store.js'
import { replaceMethod, reportTo } from './replace-method.js'
import type { SaveInterceptor } from './save-interceptor.js'
import { type Saved, SavePipeline } from './save-pipeline.js'
import {
  baselineOfLoaded,
  baselineOfNew,
  isOfRequest,
  isOfSameRequest,
  type LoadingRequest,
  type NotedRequest,
  recordBaseline,
  requestOf,
} from './session-baseline.js'
import { patchDestruction } from './session-destruction.js'
import { SessionLocks } from './session-locks.js'

const patchedStores = new WeakMap<object, PatchedStore>()

/** Stores a session under a lock, which it may release before it is done. */
type Write = (sid: string, session: SessionData, done: Callback, release: () => void) => unknown

/** A touch of a current session that is in flight. It does not refer to the session, whose request would be longer in memory. */
interface Touch {
  readonly sid: string
  /** The cookie object of the session, by which the session is recognized. */
  readonly cookie: unknown
  readonly release: () => void
  /** Whether the session may have been destroyed meanwhile, so that the touch may have stored it again. */
  isReleased: boolean
}

/** Patches a store at the first call; later calls return the same object. */
export function patchedStore(store: SessionStore): PatchedStore {
  const existing = patchedStores.get(store)
  if (existing) return existing
  const patched = new PatchedStore(store)
  patchedStores.set(store, patched)
  return patched
}

/**
 * Replaces the methods of a session store, so that a saved session holds the newest tokens, and so that one value in a stored
 * session can be changed without undoing other writes.
 *
 * The methods are replaced on the store itself, since express-session and apps refer to it. A call that need not be changed goes
 * to the store at once, with its own arguments.
 */
export class PatchedStore {
  readonly interceptors = new Set<SaveInterceptor>()
  readonly #locks = new SessionLocks()
  /** The touches of current sessions that are in flight. */
  readonly #touches = new Set<Touch>()
  /** The sessions that `replace()` is saving, each with the session that was stored before. */
  readonly #replacing = new Map<SessionData, SessionData | undefined>()
  readonly #store: SessionStore
  readonly original: OriginalStore
  readonly #pipeline: SavePipeline

  constructor(store: SessionStore) {
    this.#store = store
    this.original = new OriginalStore(store)
    this.#pipeline = new SavePipeline(this.original, this.#locks, this.interceptors)
    this.#patchLoading()
    this.#patchSave()
    this.#patchTouch()
    patchDestruction({
      store,
      original: this.original,
      locks: this.#locks,
      interceptors: this.interceptors,
      releaseTouches: (sid) => this.#releaseTouches(sid),
    })
  }

  /**
   * Calls `save` under the exclusive lock of a session: it waits for operations that run, and later ones wait for it. Resolves
   * with the session that was stored before.
   */
  replace(sid: string, session: SessionData, save: () => Promise<unknown>): Promise<SessionData | undefined> {
    return this.#locks.exclusively(sid, async () => {
      const stored = await this.original.read(sid, requestOf(session))
      this.#replacing.set(session, stored)
      try {
        await withStoreTimeout(save())
      } finally {
        this.#replacing.delete(session)
      }
      return stored
    })
  }

  /**
   * Reads the stored session, changes it and stores it again, under its exclusive lock. `change` returns `false` to leave the
   * session alone; it may be called again, with a session that was read again. `onWrite` is called once, right before the session
   * is stored. Resolves with whether it was stored.
   */
  update(
    sid: string,
    change: (session: SessionData) => boolean,
    onWrite: () => void = () => {},
    request?: NotedRequest,
  ): Promise<boolean> {
    return this.#locks.exclusively(sid, async () => {
      const changed = await this.original.readToWrite(sid, request, (stored) => {
        const session = stored && this.original.inflate(sid, stored)
        return session && change(session) ? session : undefined
      })
      if (!changed) return false
      onWrite()
      await this.original.write(sid, changed)
      return true
    })
  }

  /** Records on each session how the request got it. */
  #patchLoading(): void {
    const store = this.#store
    const createSession = store.createSession?.bind(store)
    if (createSession) {
      replaceMethod(store, 'createSession', (request: LoadingRequest, data: SessionData) => {
        const baseline = baselineOfLoaded(request.sessionID, data, this.interceptors)
        const session = createSession(request, data)
        recordBaseline(session, baseline)
        return session
      })
    }
    const generate = store.generate?.bind(store)
    if (generate) {
      replaceMethod(store, 'generate', (request: LoadingRequest) => {
        generate(request)
        recordBaseline(request.session, baselineOfNew(request.sessionID))
      })
    }
  }

  #patchSave(): void {
    const original = this.original
    const set = original.set.bind(original)
    replaceMethod(this.#store, 'set', (sid: string, session: SessionData, callback?: Callback) => {
      const outer = original.workOn(sid)
      if (outer && !outer.isTouch) return set(sid, session, callback)
      const replacing = this.#replacingOf(session)
      if (replacing) {
        return set(sid, this.#pipeline.applyInterceptors(sid, session, replacing.stored), callback)
      }
      const prepare = () => this.#pipeline.prepareSave(sid, session)
      const writeMerged = () => this.#pipeline.saveMerged(sid, session, set)
      const waits = !outer && !this.#isByTouch(sid, session)
      return this.#write(set, sid, prepare, writeMerged, callback, waits)
    })
  }

  /**
   * Returns the session that was stored before the one that `replace()` is saving; `undefined` for any other session. The store
   * may get a proxy of the session that `replace()` saves.
   */
  #replacingOf(session: SessionData): { readonly stored: SessionData | undefined } | undefined {
    for (const [replacing, stored] of this.#replacing) {
      if (replacing === session || isOfSameRequest(replacing, session)) return { stored }
    }
    return undefined
  }

  #patchTouch(): void {
    if (typeof this.#store.touch !== 'function') return
    const touchCurrent = this.#touchCurrent(this.#store.touch.bind(this.#store))
    const touch = this.original.touch.bind(this.original)
    const touchPrepared: Write = (sid, session, done, release) =>
      this.#isCurrent(sid, session) ? touchCurrent(sid, session, done, release) : touch(sid, session, done)
    replaceMethod(this.#store, 'touch', (sid: string, session: SessionData, callback?: Callback) =>
      this.#locks.run('shared', sid, callback, (done, release) => {
        // Under the lock: a login may have stored other tokens until then.
        if (this.#isCurrent(sid, session)) return touchCurrent(sid, session, done, release)
        const prepared = this.#pipeline.prepareTouch(sid, session)
        if (prepared) return touchPrepared(sid, prepared, done, release)
        return this.#touchMerged(sid, session, touch, callback && done, release)
      }),
    )
  }

  /** Touches a session merged with the stored one, under the lock. Verifying it needs the lock, so it is released before. */
  async #touchMerged(
    sid: string,
    session: SessionData,
    touch: SessionStore['set'],
    done: Callback | undefined,
    release: () => void,
  ): Promise<void> {
    const saved = await this.#pipeline.touchMerged(sid, session, touch).finally(release)
    const verified = this.#pipeline.verifySave(sid, saved)
    if (done) void verified.then(() => done())
  }

  /**
   * Touches a current session, and remembers the touch until it is done. Every request makes such a touch, so it runs in no async
   * context, and a save or a `destroy()` by the touch itself looks like one of the app. A `destroy()` would wait for the touch, so it
   * releases the lock of the touch. Then the stored session is checked when the touch is done.
   */
  #touchCurrent(touch: SessionStore['set']): Write {
    return (sid, session, done, release) => {
      const inFlight: Touch = { sid, cookie: session.cookie, release, isReleased: false }
      const end = () => {
        if (this.#touches.delete(inFlight) && inFlight.isReleased) void this.#pipeline.checkTouched(sid)
      }
      this.#touches.add(inFlight)
      try {
        const returned = touch(sid, session, (...results) => {
          end()
          done(...results)
        })
        if (returned instanceof Promise) returned.then(end, end)
        return returned
      } catch (error) {
        end()
        throw error
      }
    }
  }

  #releaseTouches(sid: string): void {
    for (const touch of this.#touches) {
      if (touch.sid !== sid) continue
      touch.isReleased = true
      touch.release()
    }
  }

  /** Whether the store itself may be saving a session, within a touch: the session that is touched, or plain data. */
  #isByTouch(sid: string, session: SessionData): boolean {
    for (const touch of this.#touches) {
      if (touch.sid === sid && (touch.cookie === session.cookie || !isOfRequest(session))) return true
    }
    return false
  }

  /** Whether a session may be stored as it is, since this process knows that no value in it has become outdated. */
  #isCurrent(sid: string, session: SessionData): boolean {
    for (const { current, key } of this.interceptors) {
      const value = current.get(sid)?.value
      if (value === undefined || !Object.hasOwn(session, key) || session[key] !== value) return false
    }
    return true
  }

  /**
   * Stores a session as `prepare` returns it, or merged with the stored session if `prepare` cannot tell. A merged session is
   * verified after a write race with another process. The caller waits for that, unless it is a touch that saves: the lock that
   * verifying needs is free when the touch has ended.
   */
  #write(
    write: Write,
    sid: string,
    prepare: () => SessionData | undefined,
    writeMerged: () => Promise<Saved>,
    callback: Callback | undefined,
    waits = true,
  ): unknown {
    let saved: Saved | undefined
    const verified: Callback = (...results) => {
      if (!saved || !waits || results[0]) return callback?.(...results)
      void this.#pipeline.verifySave(sid, saved).then(() => callback?.(...results))
    }
    const merge = async () => {
      saved = await writeMerged()
      if (!callback || !waits) void this.#pipeline.verifySave(sid, saved)
    }
    return this.#locks.run('shared', sid, callback && verified, (done, release) => {
      const prepared = prepare()
      return prepared ? write(sid, prepared, done, release) : reportTo(done, merge)
    })
  }
}
