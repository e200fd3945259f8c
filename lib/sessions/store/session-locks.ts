import { LOCK_TIMEOUT_MS } from '../../concurrency/time-constants.js'
import { type Callback, withStoreTimeout } from './original-store.js'

type LockKind = 'shared' | 'exclusive'

interface Waiter {
  readonly kind: LockKind
  readonly start: () => void
}

/** The locks of one session: how many are held, and the operations that wait for one. */
interface SessionLock {
  shared: number
  exclusive: number
  /** The operations that wait; absent until one has waited, since most locks are free. */
  waiting?: Set<Waiter>
}

/**
 * Orders the operations of this process on one session in its store.
 *
 * An operation of the app (save, touch) holds a shared lock. Shared locks never wait for each other, since a store may call its
 * own `set` within `touch`. An operation that must not be interrupted (read, change, write back) holds an exclusive lock: it
 * waits for the running operations to end, and later operations wait for it. An operation on all sessions at once (clear) waits
 * for the running operations of every session. No other operation begins while it waits or runs.
 */
export class SessionLocks {
  readonly #sessions = new Map<string, SessionLock>()
  /** The operations on all sessions: those that wait, and how many run. */
  readonly #all = { waiting: new Set<() => void>(), running: 0 }

  /**
   * Runs a store operation under a lock. Passes the outcome on: to the callback, and as the returned value. The operation may
   * release the lock before it is done.
   */
  run(
    kind: LockKind,
    sid: string,
    callback: Callback | undefined,
    operation: (done: Callback, release: () => void) => unknown,
  ): unknown {
    const lock = this.#lockOf(sid)
    if (this.#mayBegin(lock, kind)) return callOnce(operation, callback, this.#hold(sid, lock, kind))
    const later = new Promise((resolve) => {
      this.#wait(lock, kind, () => {
        const release = this.#hold(sid, lock, kind)
        resolve(Promise.resolve().then(() => callOnce(operation, callback, release)))
      })
    })
    // A caller with a callback does not look at the promise.
    later.catch(() => {})
    return later
  }

  /** Calls `start` under a lock: at once if it is free. `start` must make sure that `release` is called. */
  acquire(kind: LockKind, sid: string, start: (release: () => void) => void): void {
    const lock = this.#lockOf(sid)
    const begin = () => start(this.#hold(sid, lock, kind))
    if (this.#mayBegin(lock, kind)) begin()
    else this.#wait(lock, kind, begin)
  }

  /** Runs some work under the exclusive lock of a session. Settles as the work does. */
  exclusively<T>(sid: string, work: () => Promise<T>): Promise<T> {
    return new Promise((resolve, reject) => {
      this.acquire('exclusive', sid, (release) => void work().then(resolve, reject).finally(release))
    })
  }

  /**
   * Runs some work while no other operation runs on any session. Settles as the work does. Other operations begin again when it has
   * settled, or after `STORE_TIMEOUT_MS`.
   */
  alone<T>(work: () => Promise<T>): Promise<T> {
    return new Promise((resolve, reject) => {
      const start = () => {
        clearTimeout(timer)
        if (!this.#all.waiting.delete(start)) return
        this.#all.running++
        const working = work()
        working.then(resolve, reject)
        withStoreTimeout(working).then(release, release)
      }
      const release = () => {
        this.#all.running--
        for (const [sid, lock] of this.#sessions) this.#admit(sid, lock)
        this.#startAlone()
      }
      const timer = setTimeout(start, LOCK_TIMEOUT_MS)
      this.#all.waiting.add(start)
      this.#startAlone()
    })
  }

  #startAlone(): void {
    if (this.#all.running > 0) return
    for (const lock of this.#sessions.values()) if (lock.shared + lock.exclusive > 0) return
    const [start] = this.#all.waiting
    start?.()
  }

  #lockOf(sid: string): SessionLock {
    let lock = this.#sessions.get(sid)
    if (!lock) {
      lock = { shared: 0, exclusive: 0 }
      this.#sessions.set(sid, lock)
    }
    return lock
  }

  /**
   * Whether an operation may begin. An operation within another one on the same session begins at once, since the other one waits
   * for it.
   */
  #mayBegin(lock: SessionLock, kind: LockKind): boolean {
    if (lock.exclusive > 0 || (kind === 'exclusive' && lock.shared > 0)) return false
    const isHeld = this.#all.running + this.#all.waiting.size > 0
    return !isHeld || (lock.shared > 0 && this.#all.running === 0)
  }

  /** Holds a lock. Returns the function that releases it. */
  #hold(sid: string, lock: SessionLock, kind: LockKind): () => void {
    let isReleased = false
    lock[kind]++
    return () => {
      if (isReleased) return
      isReleased = true
      lock[kind]--
      this.#admit(sid, lock)
    }
  }

  #wait(lock: SessionLock, kind: LockKind, begin: () => void): void {
    lock.waiting ??= new Set()
    const { waiting } = lock
    const start = () => {
      clearTimeout(timer)
      waiting.delete(waiter)
      begin()
    }
    const waiter: Waiter = { kind, start }
    const timer = setTimeout(start, LOCK_TIMEOUT_MS)
    waiting.add(waiter)
  }

  #admit(sid: string, lock: SessionLock): void {
    const { waiting } = lock
    if (waiting) for (const waiter of waiting) if (this.#mayBegin(lock, waiter.kind)) waiter.start()
    const isFree = lock.shared + lock.exclusive + (waiting?.size ?? 0) === 0
    if (isFree && this.#sessions.get(sid) === lock) this.#sessions.delete(sid)
    this.#startAlone()
  }
}

/**
 * Starts an operation. Whether it succeeds or fails, `release` is called, and the callback is called once. An error that the
 * callback throws is passed on.
 */
function callOnce(
  operation: (done: Callback, release: () => void) => unknown,
  callback: Callback | undefined,
  release: () => void,
): unknown {
  let isDone = false
  const done: Callback = (...results) => {
    if (isDone) return
    isDone = true
    release()
    callback?.(...results)
  }
  try {
    const returned = operation(done, release)
    if (returned instanceof Promise) returned.then(release, done)
    return returned
  } catch (error) {
    if (!callback || isDone) {
      release()
      throw error
    }
    done(error)
    return undefined
  }
}
