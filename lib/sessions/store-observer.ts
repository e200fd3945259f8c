import type { LoadedSession, NotedRequest } from './loaded-session.js'
import type { SessionData } from './session-store.js'

/** Who wants a say when the app saves or destroys a session. */
export interface StoreObserver {
  /** Under which key of a session it keeps its value. */
  readonly key: string
  /** Who can read that value. */
  readonly audience: string
  /** Whether it must see what is stored to tell what to store. */
  wantsStored(sid: string, session: SessionData, loaded: LoadedSession | undefined): boolean
  /** What is stored under its key as far as this process knows, for a request that found `loaded` there. */
  recall(sid: string, loaded: unknown): unknown
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
   * All sessions are about to be destroyed, those that are listed among them. Resolves with what to do when they are gone and
   * another process may have written some of them. Never rejects.
   */
  onClear(listed: readonly SessionData[]): Promise<() => Promise<void>>
  /**
   * The session is about to be destroyed; `regenerated` when another id is about to take its place. Resolves with whether
   * another process may be about to write it.
   */
  onDestroy(
    sid: string,
    session: SessionData | undefined,
    regenerated: boolean,
    request: NotedRequest | undefined,
  ): Promise<boolean>
}
