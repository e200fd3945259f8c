import type { SessionData } from './original-store.js'
import type { NotedRequest, SessionBaseline } from './session-baseline.js'

/** Decides which value is stored under one key of a session when the app saves or destroys the session. */
export interface SaveInterceptor {
  /** The key of a session under which the interceptor keeps its value. */
  readonly key: string
  /** Names the client and the format of that value. */
  readonly audience: string
  /** Finds, by the id of a session, the value that may be stored as it is: this process knows that there is no newer one. */
  readonly current: { get(sid: string): { readonly value: unknown } | undefined }
  /** Whether the interceptor needs the stored session to decide which value is stored. */
  wantsStored(sid: string, session: SessionData, loaded: SessionBaseline | undefined): boolean
  /** Returns the stored value as far as this process knows, for a request that found `loaded` in its session. */
  recall(sid: string, loaded: unknown): unknown
  /**
   * Returns the session to be stored for one that is touched, as a store may write the whole session then; `undefined` if it holds
   * another login than the one that is known to be stored. The other parameters are those of `onSave()`.
   */
  onTouch(
    sid: string,
    session: SessionData,
    loaded: SessionBaseline | undefined,
    onWrite: (effect: () => void) => void,
  ): SessionData | undefined
  /**
   * Returns the session to be stored in place of the one that the app saves; the same object if nothing is to be changed. It may be
   * called again for one save, with a session that was read again.
   *
   * @param stored the stored session, where `wantsStored()` asked for it; `undefined` also if nothing is stored
   * @param onWrite takes an effect that is due once, right before the returned session is written
   */
  onSave(
    sid: string,
    session: SessionData,
    loaded: SessionBaseline | undefined,
    stored: SessionData | undefined,
    onWrite: (effect: () => void) => void,
  ): SessionData
  /** Whether another process has changed the value of a session that was just stored. Never rejects. */
  isOutdated(session: SessionData): Promise<boolean>
  /**
   * Called before all sessions are destroyed. Resolves with a function to be called afterwards, for sessions that another process
   * may have written again. Never rejects.
   *
   * @param listed the sessions that the store lists
   */
  onClear(listed: readonly SessionData[]): Promise<() => Promise<void>>
  /**
   * Called before a session is destroyed. Resolves with whether another process may be about to write it.
   *
   * @param regenerated whether the session goes on under another id
   */
  onDestroy(
    sid: string,
    session: SessionData | undefined,
    regenerated: boolean,
    request: NotedRequest | undefined,
  ): Promise<boolean>
}
