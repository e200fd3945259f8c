import { RACE_WINDOW_MS } from '../../concurrency/time-constants.js'
import { type OriginalStore, promisify, type SessionData, type SessionStore } from './original-store.js'
import type { SaveInterceptor } from './save-interceptor.js'
import { baselineOf, requestOf } from './session-baseline.js'
import type { SessionLocks } from './session-locks.js'
import { raceWindowOver } from './write-race.js'

/** A session that was saved. */
export interface Saved {
  /** The session that was stored in its place before, as far as that could be read. */
  readonly before: SessionData | undefined
  readonly written: SessionData
  /** When the store was asked to store it, in milliseconds since the process began. */
  readonly at: number
}

/** How many times a save is verified at most. */
const MAX_ROUNDS = 3

/**
 * Saves the sessions of one store as the interceptors decide. Merges a session with the stored one if an interceptor needs that.
 * Repairs a merged save after a write race with another process, in at most three rounds.
 */
export class SavePipeline {
  readonly #store: OriginalStore
  readonly #locks: SessionLocks
  readonly #interceptors: ReadonlySet<SaveInterceptor>

  constructor(store: OriginalStore, locks: SessionLocks, interceptors: ReadonlySet<SaveInterceptor>) {
    this.#store = store
    this.#locks = locks
    this.#interceptors = interceptors
  }

  /** Returns the session to be stored for one that is saved; `undefined` if that depends on the stored session. */
  prepareSave(sid: string, session: SessionData): SessionData | undefined {
    const loaded = baselineOf(session)
    for (const interceptor of this.#interceptors) {
      if (interceptor.wantsStored(sid, session, loaded)) return undefined
    }
    return this.applyInterceptors(sid, session, undefined, loaded)
  }

  /** Returns the session to be stored for one that is touched; `undefined` if that depends on the stored session. */
  prepareTouch(sid: string, session: SessionData): SessionData | undefined {
    const loaded = baselineOf(session)
    const effects: (() => void)[] = []
    const onWrite = (effect: () => void) => void effects.push(effect)
    let written: SessionData | undefined = session
    for (const interceptor of this.#interceptors) {
      written = interceptor.onTouch(sid, written, loaded, onWrite)
      if (!written) return undefined
    }
    for (const effect of effects) effect()
    return written
  }

  /** Returns the session to be stored, as the interceptors decide one after the other. It is to be written at once. */
  applyInterceptors(
    sid: string,
    session: SessionData,
    stored?: SessionData,
    loaded = baselineOf(session),
  ): SessionData {
    const { written, effects } = this.#decide(sid, session, stored, loaded)
    for (const effect of effects) effect()
    return written
  }

  /** Returns the session to be stored, and the effects that are due when it is written. */
  #decide(sid: string, session: SessionData, stored?: SessionData, loaded = baselineOf(session)) {
    const effects: (() => void)[] = []
    const onWrite = (effect: () => void) => void effects.push(effect)
    let written = session
    for (const interceptor of this.#interceptors)
      written = interceptor.onSave(sid, written, loaded, stored, onWrite)
    return { written, effects }
  }

  /** Stores a session merged with the stored one. */
  async saveMerged(sid: string, session: SessionData, operation: SessionStore['set']): Promise<Saved> {
    const { before, written, effects } = await this.#store.readToWrite(
      sid,
      requestOf(session),
      (before) => ({ before, ...this.#decide(sid, session, before) }),
      () => ({ before: undefined, ...this.#decide(sid, session, this.#recalled(sid, session)) }),
    )
    for (const effect of effects) effect()
    const at = performance.now()
    await promisify((callback) => operation(sid, written, callback))
    return { before, written, at }
  }

  /** Stores a session that is touched, merged with the stored one. A touch changes nothing that another process could undo. */
  async touchMerged(sid: string, session: SessionData, operation: SessionStore['set']): Promise<Saved> {
    return { ...(await this.saveMerged(sid, session, operation)), before: undefined }
  }

  #recalled(sid: string, session: SessionData): SessionData {
    const values = baselineOf(session)?.values ?? session
    return Object.fromEntries(
      [...this.#interceptors].map((interceptor) => [
        interceptor.key,
        interceptor.recall(sid, values[interceptor.key]),
      ]),
    )
  }

  /**
   * Repairs a save after a write race (write-race.ts): a refresh in another process may have read the session before this save and written it
   * back afterwards, or the other way round. Then the saved session is stored again with the newest tokens, unless yet another
   * request has changed it. This happens at once, so that hardly any request finds older tokens, and again when the other
   * process must have written. Never rejects.
   */
  async verifySave(sid: string, saved: Saved, rounds = MAX_ROUNDS): Promise<void> {
    const isOutdated = await this.#isOutdated(saved)
    const isLate = performance.now() - saved.at > RACE_WINDOW_MS
    if (!isOutdated && !isLate) return
    const repaired = await this.#saveAgain(sid, saved)
    await raceWindowOver()
    // The repair may have raced with the next refresh, which this process learns of here.
    if (repaired) await this.#isOutdated(repaired)
    const again = await this.#saveAgain(sid, repaired ? { ...repaired, before: saved.before } : saved)
    if (again && rounds > 1) await this.verifySave(sid, again, rounds - 1)
  }

  async #isOutdated({ written }: Saved): Promise<boolean> {
    const outdated = [...this.#interceptors].map((interceptor) => interceptor.isOutdated(written))
    return (await Promise.all(outdated)).includes(true)
  }

  /** Stores a session again as the interceptors decide, where a touch may have brought it back. Never rejects. */
  async checkTouched(sid: string): Promise<void> {
    await this.#saveAgain(sid, { before: undefined, written: {}, at: 0 })
  }

  #saveAgain(sid: string, saved: Saved): Promise<Saved | undefined> {
    return this.#locks.exclusively(sid, () => this.#repair(sid, saved)).catch(() => undefined)
  }

  /**
   * Stores the session again if a write race has undone the save, or if its tokens are not the newest. Resolves with the session
   * that was stored, or with `undefined`.
   */
  async #repair(sid: string, { before, written }: Saved): Promise<Saved | undefined> {
    const data = await this.#store.read(sid, requestOf(written))
    if (!data) return undefined
    const isUndone =
      before !== undefined && this.#sameContent(data, before) && !this.#sameContent(data, written)
    const session = isUndone ? written : this.#store.inflate(sid, data)
    const result = this.applyInterceptors(sid, session, data)
    if (!isUndone && result === session) return undefined
    const at = performance.now()
    await this.#store.write(sid, result)
    return { before: isUndone ? data : undefined, written: result, at }
  }

  /** Whether two sessions hold the same data of the app. Values of interceptors and of stores do not count. */
  #sameContent(a: SessionData, b: SessionData): boolean {
    const ours = new Set(['cookie', ...[...this.#interceptors].map(({ key }) => key)])
    const isOfApp = ([name]: [string, unknown]) => !ours.has(name) && !name.startsWith('__')
    const content = (data: SessionData) =>
      JSON.stringify(Object.fromEntries(Object.entries(data).filter(isOfApp)))
    return content(a) === content(b)
  }
}
