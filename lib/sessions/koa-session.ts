import { ConfigurationError } from '../errors.js'
import { ownValue } from '../own-properties.js'
import type { CopyKeeper } from './copy-keeper.js'
import { type KoaContext, keyOf, put, storableNow } from './koa-context.js'
import { type GuardedKoaStore, guardedKoaStore, type KoaStore } from './koa-store.js'
import { LOADED } from './loaded-session.js'
import { oneAfterAnother, type Queue } from './one-after-another.js'
import type { SessionAdapter, SessionHome } from './session-adapter.js'
import type { SessionLayer, SessionLayerContext } from './session-layer.js'
import { cookieMaxAgeMs } from './session-lifetime.js'
import { StoredCopies } from './stored-copies.js'

/** The copies in the sessions of one store, and the store itself. */
interface WatchedStore {
  readonly store: GuardedKoaStore
  readonly copies: StoredCopies
}

/** The session layer of koa-session with an external store, under one session key. */
export class KoaStoreSessions implements SessionLayer<KoaContext> {
  readonly #key: string
  readonly #audience: string
  readonly #keeper: CopyKeeper
  readonly #watched = new Map<KoaStore, WatchedStore>()

  constructor({ key, audience, keeper }: Pick<SessionLayerContext, 'key' | 'audience' | 'keeper'>) {
    this.#key = key
    this.#audience = audience
    this.#keeper = keeper
  }

  of(ctx: KoaContext): SessionAdapter {
    const watched = this.#watch(ctx.sessionOptions?.store as KoaStore)
    noteSession(ctx, this.#key)
    return new KoaSessionAdapter(watched, ctx, this.#key)
  }

  close(): void {
    for (const { copies } of this.#watched.values()) copies.close()
    this.#watched.clear()
  }

  #watch(store: KoaStore): WatchedStore {
    const known = this.#watched.get(store)
    if (known) return known
    const guarded = guardedKoaStore(store)
    const copies = new StoredCopies(this.#key, this.#audience, this.#keeper, guarded.guard)
    const watched = { store: guarded, copies }
    this.#watched.set(store, watched)
    return watched
  }
}

/** Notes what a request holds under a key if its session is new, or was loaded when nobody asked for that key. */
function noteSession(ctx: KoaContext, key: string): void {
  const loaded = ctx[LOADED]
  if (loaded && (loaded.isNew || Object.hasOwn(loaded.values, key))) return
  const { session } = ctx
  if (!session) return
  const values = { ...loaded?.values, [key]: ownValue(session, key) }
  ctx[LOADED] = { sid: keyOf(ctx), values, isNew: session.isNew }
}

/** One request's session. The copy in `ctx.session` is only ever touched at login and logout. */
class KoaSessionAdapter implements SessionAdapter {
  readonly isInAnswer = false
  readonly #store: GuardedKoaStore
  readonly #copies: StoredCopies
  readonly #ctx: KoaContext
  readonly #key: string
  #seen: unknown
  #logins: Queue | undefined

  constructor({ store, copies }: WatchedStore, ctx: KoaContext, key: string) {
    this.#store = store
    this.#copies = copies
    this.#ctx = ctx
    this.#key = key
  }

  get maxAgeMs(): number | undefined {
    return cookieMaxAgeMs(this.#ctx.sessionOptions)
  }

  get seen(): unknown {
    return this.#seen ?? ownValue(this.#ctx[LOADED]?.values, this.#key)
  }

  read(): unknown {
    const copy = ownValue(this.#ctx.session, this.#key)
    if (copy !== undefined) this.#seen = copy
    return copy
  }

  checkStorable(): void {
    // A store takes it whenever it comes.
  }

  async reread(): Promise<unknown> {
    const sid = keyOf(this.#ctx)
    return sid === undefined ? undefined : this.#copies.read(sid, this.#ctx)
  }

  /** The copy is in the request's session at once, unless another login is under way there: the later one comes after it. */
  save(copy: unknown): Promise<string[]> {
    this.#logins ??= oneAfterAnother()
    return this.#logins(() => this.#save(copy))
  }

  /** koa-session stores the session once more when the request ends, and sets the cookie then. */
  async #save(copy: unknown): Promise<string[]> {
    const ctx = this.#ctx
    const { session, sessionOptions } = ctx
    const sid = keyOf(ctx)
    if (!session || !sessionOptions || sid === undefined) throw noSession()
    const before = ownValue(session, this.#key)
    session[this.#key] = copy
    try {
      const stored = this.#store.sessionOf(ctx, sid, storableNow(session, sessionOptions))
      const displaced = await this.#copies.login(sid, stored, this.seen)
      this.#note(copy)
      this.#seen = copy
      return displaced
    } catch (error) {
      // A login that failed must not be saved by the way when the request ends.
      put(session, this.#key, before)
      throw error
    }
  }

  get home(): SessionHome | undefined {
    const sid = keyOf(this.#ctx)
    return sid === undefined ? undefined : this.#copies.homeOf(sid, this.seen, this.#ctx)
  }

  async replace(copy: unknown, replaces: (stored: unknown) => boolean): Promise<boolean> {
    return this.#copies.replace(keyOf(this.#ctx), copy ?? this.seen, copy, replaces, this.#ctx)
  }

  async clear(clears: (stored: unknown) => boolean): Promise<void> {
    const { session } = this.#ctx
    const sid = keyOf(this.#ctx)
    const copy = session?.[this.#key] ?? this.seen
    if (session) put(session, this.#key, undefined)
    this.#note(undefined)
    await this.#copies.replace(sid, copy, undefined, clears, this.#ctx)
  }

  /** From here on the request's session counts as one that was loaded with this copy. */
  #note(copy: unknown): void {
    const values = { ...this.#ctx[LOADED]?.values, [this.#key]: copy }
    this.#ctx[LOADED] = { sid: keyOf(this.#ctx), values, isNew: false }
  }
}

function noSession(): ConfigurationError {
  return new ConfigurationError(
    'This request has no session any more: it was destroyed earlier in this request, with ctx.session = null.',
  )
}
