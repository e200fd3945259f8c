import { identityOf } from '../../tokens/grant-proof.js'
import type { TokenSet } from '../../tokens/token-set.js'
import type { TokenSetCodec } from '../codec/token-set-codec.js'
import { GrantCache } from '../grant-cache.js'
import type { EndedSession, SessionHome } from '../session-adapter.js'
import type { GrantSession, SessionGrants } from '../session-grants.js'
import { keyTakenError, putCopy } from '../session-key.js'
import type { SessionLayerContext } from '../session-layer.js'
import { storedMaxAgeMs } from '../session-lifetime.js'
import { GrantSessionIndex } from './grant-session-index.js'
import { type Callback, promisify, type SessionData } from './original-store.js'
import type { PatchedStore } from './patched-store.js'
import type { SaveInterceptor } from './save-interceptor.js'
import { type NotedRequest, requestOf, type SessionBaseline } from './session-baseline.js'
import {
  type HeldCopy,
  isNewerOfSame,
  isSameSession,
  NO_COPY,
  revisionOf,
  SessionCopies,
} from './session-copies.js'
import { raceWindowOver } from './write-race.js'

interface CurrentCopy extends HeldCopy {
  readonly grantId: string
}

/** For how many sessions the current copy is remembered. */
const MAX_CURRENT = 10_000

/**
 * The tokens in the sessions of one store: the copies under one key.
 *
 * The key belongs to this library. A session that the app saves keeps the stored copy, or a newer one, whatever copy the saved
 * session holds. So a slow request cannot bring an old copy back, and cannot undo a login or a logout. Only login, refresh and
 * logout change the copy, and they change nothing else.
 */
export class StoredTokens implements SaveInterceptor {
  readonly key: string
  readonly audience: string
  readonly #grants: SessionGrants
  readonly #codec: TokenSetCodec
  readonly #copies: SessionCopies
  readonly #store: PatchedStore
  readonly #index = new GrantSessionIndex()
  /** For each session the copy that was written or touched last, until its grant changes. */
  readonly current = new GrantCache<CurrentCopy>(MAX_CURRENT)
  readonly #stopListening: () => void
  /** The copies of logins that are being stored: each replaces the stored copy, whatever that is. */
  readonly #logins = new Set<unknown>()

  constructor({ key, audience, codec, grants }: SessionLayerContext, store: PatchedStore) {
    this.key = key
    this.audience = audience
    this.#grants = grants
    this.#codec = codec
    this.#copies = new SessionCopies(key, codec, grants)
    this.#store = store
    const foreign = [...store.interceptors].some((other) => other.key === key && other.audience !== audience)
    if (foreign) throw keyTakenError(key)
    store.interceptors.add(this)
    this.#stopListening = grants.onChange((grantId) => this.current.forget(grantId))
  }

  /** Stops changing the sessions that the app saves. */
  close(): void {
    this.#stopListening()
    this.#store.interceptors.delete(this)
  }

  /** @param request the request for which the store is called, if its methods get it; the same in the methods below */
  async read(sid: string, request?: NotedRequest): Promise<unknown> {
    return this.#copies.valueIn(await this.#store.original.read(sid, request))
  }

  /** Stores a session with the copy of a login. Resolves with the identities of the grants that it replaces. */
  async login(sid: string, session: SessionData, lastKnown: unknown): Promise<string[]> {
    const copy = this.#copies.valueIn(session)
    const before = this.#index.grantOf(sid)
    this.#logins.add(copy)
    try {
      const save = session.save as (callback: Callback) => unknown
      const stored = await this.#store.replace(sid, session, () =>
        promisify((done) => save.call(session, done)),
      )
      const displaced = [before, this.#copies.in(stored).of].filter((of) => of !== undefined)
      // Another request may have regenerated the session meanwhile, and carried the replaced tokens into the new session.
      const replaced = [this.sessionOf(lastKnown), ...displaced].filter((of) => of !== undefined)
      const takenOut = new Map(replaced.map((of) => [identityOf(of), of])).values()
      await Promise.all([...takenOut].map((of) => this.#takeOut(of, sid, requestOf(session))))
      return displaced.map(identityOf)
    } finally {
      this.#logins.delete(copy)
    }
  }

  /** Names the session of a grant that a copy is of. It holds no tokens in memory. */
  sessionOf(copy: unknown): GrantSession | undefined {
    const of = this.#codec.read(copy)
    return of && revisionOf(of, of.revision)
  }

  /**
   * Returns where a session is stored, with the other stored sessions of the grant that it is in.
   *
   * @param of a name, see {@link sessionOf}: a home may be kept for hours, and must not keep the request or tokens in memory
   */
  homeOf(
    sid: string | undefined,
    of: GrantSession | undefined,
    request: NotedRequest | undefined,
  ): SessionHome {
    const asking = request && new WeakRef(request)
    return {
      sid,
      replace: (copy, replaces) => this.replace(sid, of, copy, replaces, asking?.deref()),
      reread: async () => (sid === undefined ? undefined : this.read(sid, asking?.deref())),
    }
  }

  /**
   * Replaces the stored copy by another one, or removes it, where `replaces` agrees: in the session, and in the other stored
   * sessions of the grant. Resolves with whether anything was stored.
   *
   * @param of a name of the grant. Default: the grant of the new copy
   */
  async replace(
    sid: string | undefined,
    of: GrantSession | undefined,
    value: unknown,
    replaces: (stored: unknown) => boolean,
    request?: NotedRequest,
  ): Promise<boolean> {
    const copy = value === undefined ? NO_COPY : { value, of: this.#codec.read(value) }
    const others = this.#index.sessionsOf(of ?? copy.of)
    const sids = new Set(sid === undefined ? others : [sid, ...others])
    const updated = [...sids].map((sid) => this.#update(sid, copy, replaces, request))
    return (await Promise.all(updated)).includes(true)
  }

  #update(
    sid: string,
    copy: HeldCopy<TokenSet>,
    replaces: (stored: unknown) => boolean,
    request: NotedRequest | undefined,
  ): Promise<boolean> {
    const change = (session: SessionData) => {
      if (!replaces(this.#copies.valueIn(session))) return false
      putCopy(session, this.key, copy.value)
      return true
    }
    // Requests that loaded the session before this write are about to save it.
    const onWrite = () => this.#note(sid, copy, copy.of !== undefined && this.#isNewest(copy))
    return this.#store.update(sid, change, onWrite, request)
  }

  /** Remembers the copy that a session holds from now on, and whether it is the newest of its grant. */
  #note(sid: string, { value, of: held }: HeldCopy, isNewest: boolean): void {
    const of = held && revisionOf(held, held.revision)
    if (of) this.#index.add(of, sid)
    if (of && isNewest) this.current.add(sid, { grantId: of.grantId, value, of })
    else this.current.delete(sid)
  }

  /** Removes the copies of a grant from the sessions that it was saved in, except the named one. Never rejects. */
  async #takeOut(of: GrantSession, except: string, request: NotedRequest | undefined): Promise<void> {
    const isOfGrant = (stored: unknown) => isSameSession(of, this.#codec.read(stored))
    const sids = this.#index.sessionsOf(of).filter((sid) => sid !== except)
    await Promise.allSettled(sids.map((sid) => this.#update(sid, NO_COPY, isOfGrant, request)))
  }

  #isNewest(copy: HeldCopy): boolean {
    return this.#copies.newest(copy).value === copy.value
  }

  wantsStored(sid: string, session: SessionData, loaded: SessionBaseline | undefined): boolean {
    if (this.#copies.in(session).of) return true
    if (loaded === undefined) return false
    // Another process may have logged the user in since this session was loaded.
    if (this.#grants.isShared && !loaded.isNew) return true
    return this.#copies.in(loaded.values).of !== undefined || this.#index.grantOf(sid) !== undefined
  }

  recall(sid: string, loaded: unknown): unknown {
    const known = this.#index.grantOf(sid)
    const found = this.#copies.newest({ value: loaded, of: this.#codec.read(loaded) })
    if (found.of || known === undefined) return found.value
    return this.#copies.newest({ value: undefined, of: revisionOf(known, 0) }).value
  }

  onTouch(
    sid: string,
    session: SessionData,
    loaded: SessionBaseline | undefined,
    onWrite: (effect: () => void) => void,
  ): SessionData | undefined {
    const held = this.#copies.in(session)
    const current = this.current.get(sid)
    // Another request has stored newer tokens since.
    if (isNewerOfSame(current, held)) {
      return current.value === held.value ? session : this.#copies.put(session, current)
    }
    if (this.#isSuperseded(sid, held.of)) return undefined
    // A touched session is as it was loaded, so the stored session need not be read.
    return this.onSave(sid, session, loaded, loaded?.values ?? session, onWrite)
  }

  /** Whether a session holds another login than the one that is known to be stored. */
  #isSuperseded(sid: string, held: GrantSession | undefined): boolean {
    const stored = this.#index.grantOf(sid)
    if (stored === undefined || isSameSession(stored, held)) return false
    if (this.#grants.newestOf(stored) !== 'ended') return true
    this.#index.forget(sid)
    return false
  }

  onSave(
    sid: string,
    session: SessionData,
    loaded: SessionBaseline | undefined,
    stored: SessionData | undefined,
    onWrite: (effect: () => void) => void,
  ): SessionData {
    const held = this.#copies.in(session)
    const isLogin = this.#logins.has(held.value)
    const { before, current } = isLogin
      ? { current: held }
      : this.#copies.toStore(held, loaded, stored, this.current.get(sid))
    onWrite(() => {
      if (before) void this.#grants.end(before, before, this.#ended(sid, before, session, requestOf(session)))
      this.#note(sid, current, !isLogin || this.#isNewest(held))
    })
    return current.value === held.value ? session : this.#copies.put(session, current)
  }

  #ended(
    sid: string | undefined,
    of: GrantSession,
    session: SessionData | undefined,
    request: NotedRequest | undefined,
  ): EndedSession {
    return { home: this.homeOf(sid, revisionOf(of, 0), request), maxAgeMs: storedMaxAgeMs(session) }
  }

  async onDestroy(
    sid: string,
    session: SessionData | undefined,
    regenerated: boolean,
    request: NotedRequest | undefined,
  ): Promise<boolean> {
    const held = this.#copies.in(session).of
    const of = session ? held : this.#index.grantOf(sid)
    if (of === undefined) return false
    this.#index.remove(of, sid)
    // A save or touch that is still to come is noted again.
    this.current.delete(sid)
    if (regenerated) return false
    const mayRace = await this.#grants.end(of, held, this.#ended(sid, of, session, request))
    // Another request may have carried the copy into another session. This process knows by now that the grant has ended.
    void this.#takeOut(of, sid, request)
    return mayRace
  }

  async onClear(listed: readonly SessionData[]): Promise<() => Promise<void>> {
    const ends = new Map<string, { readonly of: GrantSession; readonly session?: SessionData }>()
    for (const of of this.#index.grants()) ends.set(identityOf(of), { of })
    for (const session of listed) {
      const of = this.#copies.in(session).of
      if (of) ends.set(identityOf(of), { of, session })
    }
    const raced: GrantSession[] = []
    await eachOf([...ends.values()], async ({ of, session }) => {
      const ended = this.#ended(undefined, of, session, undefined)
      if (await this.#grants.end(of, this.#copies.in(session).of, ended)) raced.push(of)
    })
    return async () => {
      if (raced.length === 0) return
      await raceWindowOver()
      await eachOf(raced, (of) => this.#takeOut(of, '', undefined))
    }
  }

  async isOutdated(session: SessionData): Promise<boolean> {
    const held = this.#copies.in(session).of
    return held !== undefined && this.#grants.isOutdated(held)
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
