import { type Callback, type OriginalStore, promisify, type SessionStore } from './original-store.js'
import { replaceMethod, reportTo } from './replace-method.js'
import type { SaveInterceptor } from './save-interceptor.js'
import type { NotedRequest } from './session-baseline.js'
import type { SessionLocks } from './session-locks.js'
import { raceWindowOver } from './write-race.js'

/** The parts of a patched store that its destroying methods need. */
export interface DestructionParts {
  readonly store: SessionStore
  readonly original: OriginalStore
  readonly locks: SessionLocks
  readonly interceptors: ReadonlySet<SaveInterceptor>
  /** Releases the locks of the touches of a session that are in flight, as a touch may destroy its session. */
  readonly releaseTouches: (sid: string) => void
}

/** Replaces the methods of a store that destroy sessions, so that each interceptor learns which sessions are destroyed. */
export function patchDestruction(parts: DestructionParts): void {
  const regenerations: Regenerations = new Set()
  patchDestroy(parts, regenerations)
  patchRegenerate(parts, regenerations)
  patchClear(parts)
}

/** The sessions that are being regenerated: each is destroyed once, and goes on under another id. */
type Regenerations = Set<{ readonly sid: string }>

function patchDestroy(parts: DestructionParts, regenerations: Regenerations): void {
  const { locks, original, releaseTouches, store } = parts
  replaceMethod(store, 'destroy', (sid: string, callback?: Callback, request?: NotedRequest) => {
    releaseTouches(sid)
    if (original.workOn(sid)) return original.destroy(sid, callback, request)
    // Any further destroy() of the session is the app's.
    const regeneration = [...regenerations].find((regeneration) => regeneration.sid === sid)
    if (regeneration) regenerations.delete(regeneration)
    const destroy = async () => {
      const mayRace = await notifyDestroyed(parts, sid, regeneration !== undefined, request)
      await promisify((callback) => original.destroy(sid, callback, request))
      if (!mayRace) return
      await raceWindowOver()
      await promisify((callback) => original.destroy(sid, callback, request))
    }
    return locks.run('exclusive', sid, callback, (done) => reportTo(done, destroy))
  })
}

/** Resolves with whether another process may be about to write the session. */
async function notifyDestroyed(
  { interceptors, original }: DestructionParts,
  sid: string,
  regenerated: boolean,
  request?: NotedRequest,
): Promise<boolean> {
  const session = await original.read(sid, request).catch(() => undefined)
  const notified = [...interceptors].map((interceptor) =>
    interceptor.onDestroy(sid, session, regenerated, request),
  )
  return (await Promise.all(notified)).includes(true)
}

function patchRegenerate({ store }: DestructionParts, regenerations: Regenerations): void {
  const regenerate = store.regenerate?.bind(store)
  if (!regenerate) return
  replaceMethod(store, 'regenerate', (request: { sessionID?: string }, callback: Callback) => {
    const regeneration = { sid: request.sessionID ?? '' }
    regenerations.add(regeneration)
    return regenerate(request, (...results) => {
      regenerations.delete(regeneration)
      callback(...results)
    })
  })
}

function patchClear(parts: DestructionParts): void {
  if (typeof parts.store.clear !== 'function') return
  replaceMethod(parts.store, 'clear', (callback?: Callback) => {
    const cleared = clear(parts)
    // A failure goes to the callback where there is one. Without one the app may still look at the promise.
    cleared.then(() => callback?.(), callback ?? (() => {}))
    return cleared
  })
}

/** Destroys all sessions. Nothing is written meanwhile, and later operations find no session. */
async function clear({ interceptors, locks, original }: DestructionParts): Promise<void> {
  const later = await locks.alone(async () => {
    const listed = await original.all().catch(() => [])
    const notified = await Promise.all([...interceptors].map((interceptor) => interceptor.onClear(listed)))
    await promisify((callback) => original.clear(callback))
    return notified
  })
  await Promise.all(later.map((takeOut) => takeOut()))
}
