import { setTimeout as delay } from 'node:timers/promises'
import { CROSSING_MS } from '../crossing.js'
import { loadedSession, requestOf } from './loaded-session.js'
import type { BareStore, SessionData, SessionStore } from './session-store.js'
import type { SessionTurns } from './session-turns.js'
import { over } from './store-calls.js'
import type { StoreObserver } from './store-observer.js'

/** A session that was saved, and what was stored in its place before, as far as that could be read. */
export interface Saved {
  readonly before: SessionData | undefined
  readonly written: SessionData
  /** When the store was asked to store it, in milliseconds since the process began. */
  readonly at: number
}

/** How often a save is looked after. */
const MAX_ROUNDS = 3

/**
 * The saves of one store's sessions: each is stored as its observers want it, over what is stored already, and once more
 * if it has crossed with another process.
 */
export class Saves {
  readonly #store: BareStore
  readonly #turns: SessionTurns
  readonly #observers: ReadonlySet<StoreObserver>

  constructor(store: BareStore, turns: SessionTurns, observers: ReadonlySet<StoreObserver>) {
    this.#store = store
    this.#turns = turns
    this.#observers = observers
  }

  /** What to store for a session that is saved; `undefined` if that depends on what is stored. */
  saved(sid: string, session: SessionData): SessionData | undefined {
    const loaded = loadedSession(session)
    for (const observer of this.#observers) if (observer.wantsStored(sid, session, loaded)) return undefined
    return this.observed(sid, session)
  }

  /** The same for one that is touched: a store may well write the whole session then. */
  touched(sid: string, session: SessionData): SessionData | undefined {
    for (const observer of this.#observers) if (observer.isSuperseded(sid, session)) return undefined
    // A touched session is as it was loaded: what was stored then, and what is known, will do.
    return this.observed(sid, session, loadedSession(session)?.values ?? session)
  }

  /** What the observers make of a session. */
  observed(sid: string, session: SessionData, stored?: SessionData): SessionData {
    const loaded = loadedSession(session)
    let observed = session
    for (const observer of this.#observers) observed = observer.onSave(sid, observed, loaded, stored)
    return observed
  }

  /** Stores a session over what is stored. A touch changes nothing that could be undone by others. */
  async saveOver(
    sid: string,
    session: SessionData,
    operation: SessionStore['set'],
    isTouch: boolean,
  ): Promise<Saved> {
    let before: SessionData | undefined
    let stored: SessionData | undefined
    try {
      before = stored = await this.#store.readJustNow(sid, requestOf(session))
    } catch {
      stored = this.#recalled(sid, session)
    }
    const written = this.observed(sid, session, stored)
    const at = performance.now()
    await over((callback) => operation(sid, written, callback))
    return { before: isTouch ? undefined : before, written, at }
  }

  #recalled(sid: string, session: SessionData): SessionData {
    const values = loadedSession(session)?.values ?? session
    return Object.fromEntries(
      [...this.#observers].map((observer) => [observer.key, observer.recall(sid, values[observer.key])]),
    )
  }

  /**
   * A refresh in another process may have read the session before this save and written it back after, or the other way
   * round. Then what was saved is stored again, unless somebody else has changed it since; with the newest tokens: at once,
   * so that hardly anybody finds the older ones meanwhile, and when the other one has surely written. Never rejects.
   */
  async confirm(sid: string, saved: Saved, rounds = MAX_ROUNDS): Promise<void> {
    const isOutdated = await this.#isOutdated(saved)
    const isLate = performance.now() - saved.at > CROSSING_MS
    if (!isOutdated && !isLate) return
    const mended = await this.#saveAgain(sid, saved)
    await delay(CROSSING_MS)
    // What was stored just now may have crossed with the next refresh, which is known by this.
    if (mended) await this.#isOutdated(mended)
    const again = await this.#saveAgain(sid, mended ? { ...mended, before: saved.before } : saved)
    if (again && rounds > 1) await this.confirm(sid, again, rounds - 1)
  }

  async #isOutdated({ written }: Saved): Promise<boolean> {
    const outdated = [...this.#observers].map((observer) => observer.isOutdated(written))
    return (await Promise.all(outdated)).includes(true)
  }

  #saveAgain(sid: string, saved: Saved): Promise<Saved | undefined> {
    return this.#turns.exclusively(sid, () => this.#mend(sid, saved)).catch(() => undefined)
  }

  /** Resolves with what it has stored, if it had to. */
  async #mend(sid: string, { before, written }: Saved): Promise<Saved | undefined> {
    const data = await this.#store.read(sid, requestOf(written))
    if (!data) return undefined
    const undone =
      before !== undefined && this.#sameContent(data, before) && !this.#sameContent(data, written)
    const session = undone ? written : this.#store.inflate(sid, data)
    const observed = this.observed(sid, session, data)
    if (!undone && observed === session) return undefined
    const at = performance.now()
    await this.#store.write(sid, observed)
    return { before: undone ? data : undefined, written: observed, at }
  }

  /** Whether two sessions hold the same, but for what observers keep in them, and stores for themselves. */
  #sameContent(a: SessionData, b: SessionData): boolean {
    const ours = new Set(['cookie', ...[...this.#observers].map(({ key }) => key)])
    const content = (data: SessionData) =>
      JSON.stringify(data, (name, value) => (ours.has(name) || name.startsWith('__') ? undefined : value))
    return content(a) === content(b)
  }
}
