import { setTimeout as delay } from 'node:timers/promises'
import { CROSSING_MS } from '../crossing.js'
import { ConfigurationError } from '../errors.js'
import { ownValue } from '../own-properties.js'
import type { CopyKeeper } from './copy-keeper.js'
import { GrantHomes } from './grant-homes.js'
import type { GuardedStore } from './guarded-store.js'
import { type LoadedSession, type NotedRequest, requestOf } from './loaded-session.js'
import type { EndedSession, SessionHome } from './session-adapter.js'
import { storedMaxAgeMs } from './session-lifetime.js'
import type { SessionData } from './session-store.js'
import type { StoreObserver } from './store-observer.js'

/**
 * The copies under one key in the sessions of one store.
 *
 * The key belongs to this library: a session that the app saves keeps the copy that is stored, or a newer one, whatever
 * the session that is saved holds under the key. So no slow request brings an old copy back, nor undoes a login, nor a
 * logout. Only login, refresh and logout change the copy, and they change nothing else.
 */
export class StoredCopies implements StoreObserver {
  readonly key: string
  readonly audience: string
  readonly #keeper: CopyKeeper
  readonly #guard: GuardedStore
  readonly #homes = new GrantHomes()
  /** The copies of logins that are being stored: they take the place of whatever is stored. */
  readonly #logins = new Set<unknown>()

  constructor(key: string, audience: string, keeper: CopyKeeper, guard: GuardedStore) {
    this.key = key
    this.audience = audience
    this.#keeper = keeper
    this.#guard = guard
    const foreign = [...guard.observers].some((other) => other.key === key && other.audience !== audience)
    if (foreign) throw keyIsTaken(key)
    guard.observers.add(this)
  }

  /** Leaves the store to others. */
  close(): void {
    this.#guard.observers.delete(this)
  }

  /** @param request for which it is, where the store wants to know; likewise below */
  async read(sid: string, request?: NotedRequest): Promise<unknown> {
    return ownValue(await this.#guard.read(sid, request), this.key)
  }

  /** Stores a session with the copy of a login. Resolves with the grants whose place it takes. */
  async login(sid: string, session: SessionData, seen: unknown): Promise<string[]> {
    const copy = ownValue(session, this.key)
    const before = this.#homes.grantOf(sid)
    this.#logins.add(copy)
    try {
      const stored = await this.#guard.replace(sid, session, () => saved(session))
      const displaced = [before, this.#keeper.grantOf(ownValue(stored, this.key))].filter(
        (id) => id !== undefined,
      )
      // Another request may have regenerated the session meanwhile, and carried away the tokens that this login replaces.
      const replaced = new Set([this.#keeper.grantOf(seen) ?? '', ...displaced])
      await Promise.all([...replaced].map((grantId) => this.#takeOut(grantId, sid, requestOf(session))))
      return displaced
    } finally {
      this.#logins.delete(copy)
    }
  }

  /** Where a session is stored, and whatever other session the grant of a copy is saved in by then. */
  homeOf(sid: string, copy: unknown, request?: NotedRequest): SessionHome {
    return this.#homeOf(sid, this.#keeper.grantOf(copy), request)
  }

  #homeOf(
    sid: string | undefined,
    grantId: string | undefined,
    request: NotedRequest | undefined,
  ): SessionHome {
    // A home may be kept for hours, and must not keep the request in memory for that.
    const asking = request && new WeakRef(request)
    return { replace: (newer, replaces) => this.#replace(sid, grantId, newer, replaces, asking?.deref()) }
  }

  /**
   * Puts a copy, or none, in the place of what `replaces` says, in the session and wherever else the grant of `known` was
   * saved. Resolves with whether anything was stored.
   */
  async replace(
    sid: string | undefined,
    known: unknown,
    copy: unknown,
    replaces: (stored: unknown) => boolean,
    request?: NotedRequest,
  ): Promise<boolean> {
    return this.#replace(sid, this.#keeper.grantOf(known), copy, replaces, request)
  }

  async #replace(
    sid: string | undefined,
    known: string | undefined,
    copy: unknown,
    replaces: (stored: unknown) => boolean,
    request: NotedRequest | undefined,
  ): Promise<boolean> {
    const homes = this.#homes.of(known ?? '')
    const sids = new Set(sid === undefined ? homes : [sid, ...homes])
    const change = this.#changing(copy, replaces)
    const grantId = this.#keeper.grantOf(copy)
    const changeAt = (home: string) => (session: SessionData) => {
      if (!change(session)) return false
      // Requests that loaded the session without it are about to save it.
      if (grantId !== undefined) this.#homes.settle(grantId, home)
      return true
    }
    const updated = [...sids].map((home) => this.#guard.update(home, changeAt(home), request))
    return (await Promise.all(updated)).includes(true)
  }

  /** Takes the copies of a grant out of the sessions it was saved in, but for the one named. Never rejects. */
  async #takeOut(grantId: string, except: string, request: NotedRequest | undefined): Promise<void> {
    const takeOut = this.#changing(undefined, (stored) => this.#keeper.grantOf(stored) === grantId)
    const homes = this.#homes.of(grantId).filter((sid) => sid !== except)
    await Promise.allSettled(homes.map((sid) => this.#guard.update(sid, takeOut, request)))
  }

  #changing(copy: unknown, replaces: (stored: unknown) => boolean): (session: SessionData) => boolean {
    return (session) => {
      if (!replaces(ownValue(session, this.key))) return false
      if (copy === undefined) delete session[this.key]
      else session[this.key] = copy
      return true
    }
  }

  wantsStored(sid: string, session: SessionData, loaded: LoadedSession | undefined): boolean {
    if (this.#keeper.grantOf(ownValue(session, this.key)) !== undefined) return true
    if (loaded === undefined) return false
    return (
      this.#keeper.grantOf(ownValue(loaded.values, this.key)) !== undefined ||
      this.#homes.grantOf(sid) !== undefined
    )
  }

  recall(sid: string, loaded: unknown): unknown {
    const found = this.#keeper.grantOf(loaded)
    const known = this.#homes.grantOf(sid)
    const isCurrent = found !== undefined && !this.#keeper.isEnded(found)
    return isCurrent || known === undefined ? loaded : this.#keeper.newestOf(known)
  }

  isSuperseded(sid: string, session: SessionData): boolean {
    const stored = this.#homes.grantOf(sid)
    if (stored === undefined || stored === this.#keeper.grantOf(ownValue(session, this.key))) return false
    if (!this.#keeper.isEnded(stored)) return true
    this.#homes.forget(sid)
    return false
  }

  onSave(
    sid: string,
    session: SessionData,
    loaded: LoadedSession | undefined,
    stored: SessionData | undefined,
  ): SessionData {
    const copy = ownValue(session, this.key)
    const current = this.#logins.has(copy) ? copy : this.#currentCopy(sid, session, loaded, stored)
    const grantId = this.#keeper.grantOf(current)
    if (grantId !== undefined) this.#homes.settle(grantId, sid)
    if (current === copy) return session
    const changed = cloneSession(session)
    if (current === undefined) delete changed[this.key]
    else changed[this.key] = current
    return changed
  }

  /** The copy that belongs into a session which is about to be stored. */
  #currentCopy(
    sid: string,
    session: SessionData,
    loaded: LoadedSession | undefined,
    stored: SessionData | undefined,
  ): unknown {
    const copy = ownValue(session, this.key)
    const kept = this.#newestOf(ownValue(stored, this.key))
    const found = ownValue(loaded?.values, this.key)
    const before = this.#keeper.grantOf(found)
    if (copy === undefined && before !== undefined) {
      // The app has deleted it from a session that had it: a logout by hand, unless somebody has logged in since.
      void this.#keeper.end(before, found, this.#ended(sid, before, session, requestOf(session)))
      return this.#keeper.grantOf(kept) === before ? undefined : kept
    }
    // A session that was written for no request is written on purpose as it is.
    if (copy === undefined) return loaded ? kept : undefined
    if (kept !== undefined) return this.#newestOf(kept, copy)
    // What the request found in its session and is not stored any more was taken out by somebody else.
    const takenOut = loaded && !loaded.isNew && before !== undefined && before === this.#keeper.grantOf(copy)
    return takenOut ? undefined : this.#newestOf(copy)
  }

  /** The newest copy of the grant, `undefined` if it has ended. What is no copy of ours stays as it is. */
  #newestOf(copy: unknown, other?: unknown): unknown {
    const grantId = this.#keeper.grantOf(copy)
    return grantId === undefined ? copy : this.#keeper.newestOf(grantId, copy, other)
  }

  #ended(
    sid: string | undefined,
    grantId: string | undefined,
    session: SessionData | undefined,
    request: NotedRequest | undefined,
  ): EndedSession {
    return { home: this.#homeOf(sid, grantId, request), maxAgeMs: storedMaxAgeMs(session) }
  }

  async onDestroy(
    sid: string,
    session: SessionData | undefined,
    regenerated: boolean,
    request: NotedRequest | undefined,
  ): Promise<boolean> {
    const copy = ownValue(session, this.key)
    const grantId = session ? this.#keeper.grantOf(copy) : this.#homes.grantOf(sid)
    if (grantId === undefined) return false
    this.#homes.leave(grantId, sid)
    if (regenerated) return false
    const crossed = await this.#keeper.end(grantId, copy, this.#ended(sid, grantId, session, request))
    // Another request may have carried it into another session. Nobody waits: this process knows that it has ended.
    void this.#takeOut(grantId, sid, request)
    return crossed
  }

  async onClear(listed: readonly SessionData[]): Promise<() => Promise<void>> {
    const ends = new Map<string, SessionData | undefined>()
    for (const grantId of this.#homes.grants()) ends.set(grantId, undefined)
    for (const session of listed) {
      const grantId = this.#keeper.grantOf(ownValue(session, this.key))
      if (grantId !== undefined) ends.set(grantId, session)
    }
    const crossed: string[] = []
    await eachOf([...ends], async ([grantId, session]) => {
      const copy = ownValue(session, this.key)
      const ended = this.#ended(undefined, grantId, session, undefined)
      if (await this.#keeper.end(grantId, copy, ended)) crossed.push(grantId)
    })
    return async () => {
      if (crossed.length === 0) return
      await delay(CROSSING_MS)
      await eachOf(crossed, (grantId) => this.#takeOut(grantId, '', undefined))
    }
  }

  isOutdated(session: SessionData): Promise<boolean> {
    return this.#keeper.isOutdated(ownValue(session, this.key))
  }
}

/** How many grants are ended at a time when a store is cleared. */
const ENDS_AT_A_TIME = 100

/** Does something for each of many items, some at a time. */
async function eachOf<T>(items: readonly T[], work: (item: T) => Promise<void>): Promise<void> {
  for (let from = 0; from < items.length; from += ENDS_AT_A_TIME) {
    await Promise.all(items.slice(from, from + ENDS_AT_A_TIME).map(work))
  }
}

function saved(session: SessionData): Promise<void> {
  return new Promise((resolve, reject) => {
    const save = session.save as (callback: (error?: unknown) => void) => void
    save.call(session, (error) => (error ? reject(error) : resolve()))
  })
}

/** The session with everything that hangs on it, so that a store sees no difference. */
function cloneSession(session: SessionData): SessionData {
  return Object.create(
    Object.getPrototypeOf(session),
    Object.getOwnPropertyDescriptors(session),
  ) as SessionData
}

export function keyIsTaken(key: string): ConfigurationError {
  return new ConfigurationError(
    `Two sessionTokens() for different clients or authorization servers keep their tokens under the same session key, \`${key}\`, ` +
      'or one with `encryptionKeys` or `keep` and one without. ' +
      "Give one of them another `sessionKey`, e.g. sessionKey: 'otherTokens'.",
  )
}
