import { type GuardedStore, guardedStore } from './guarded-store.js'
import { type KoaContext, keyOf, remainingMaxAge, STORED_AS, type Storable } from './koa-context.js'
import {
  LOADED,
  type NotedRequest,
  noteLoaded,
  ORIGIN,
  READ_FOR,
  requestOf,
  type SessionOrigin,
} from './loaded-session.js'
import type { SessionData, SessionStore } from './session-store.js'
import { type Callback, replaceMethod } from './store-calls.js'

/** What koa-session tells a store, besides the session. */
interface CallOptions {
  readonly ctx?: KoaContext | undefined
  readonly rolling?: boolean
  readonly changed?: boolean
}

/** What is asked of an external store of koa-session: each method answers with a value or with a promise. */
export interface KoaStore {
  get(key: string, maxAge?: unknown, options?: CallOptions): unknown
  set(key: string, session: SessionData, maxAge?: unknown, options?: CallOptions): unknown
  destroy(key: string, options?: CallOptions): unknown
  /** Koa-session does not call it; stores of an app may have it. */
  clear?(...args: unknown[]): unknown
}

/** How a session is to be stored. */
interface Saving {
  readonly maxAge: unknown
  readonly options: CallOptions
  /** The session as it was handed over; a store that is given another one must not leave it at a longer lifetime. */
  readonly session: SessionData
}

/** Under which name a session has its {@link Saving}. */
const SAVING = Symbol('how a session is stored')

/** A store of koa-session whose methods have been replaced by guarded ones. */
export interface GuardedKoaStore {
  readonly guard: GuardedStore
  /** A session of a request, as an object that can be stored by its `save(callback)`. */
  sessionOf(ctx: KoaContext, key: string, storable: Storable): SessionData
}

const guarded = new WeakMap<object, GuardedKoaStore>()

/** The one guard of a store, put up at the first call. */
export function guardedKoaStore(store: KoaStore): GuardedKoaStore {
  const existing = guarded.get(store)
  if (existing) return existing
  const facade = new StoreFacade(store)
  const guard = guardedStore(facade)
  guardLoading(store, guard)
  guardSave(store, facade)
  guardDestroy(store, facade)
  guardClear(store, facade)
  const added = { guard, sessionOf: sessionsOf(facade) }
  guarded.set(store, added)
  return added
}

/** Notes on each request what its session was when it got it. */
function guardLoading(store: KoaStore, { observers }: GuardedStore): void {
  const get = store.get.bind(store)
  replaceMethod(store, 'get', (key: string, maxAge?: unknown, options?: CallOptions) => {
    const { ctx } = options ?? {}
    const loaded = (data: unknown): unknown => {
      const isNews = ctx !== undefined && ctx[LOADED]?.isNew !== false
      if (isNews && isSession(data)) noteLoaded(ctx, key, data, observers)
      return data
    }
    const answer = get(key, maxAge, options)
    return answer instanceof Promise ? answer.then(loaded) : loaded(answer)
  })
}

function guardSave(store: KoaStore, facade: StoreFacade): void {
  replaceMethod(
    store,
    'set',
    (key: string, session: SessionData, maxAge?: unknown, options: CallOptions = {}) => {
      const { ctx } = options
      if (ctx) ctx[STORED_AS] = key
      const saved = plainSession(session, ctx ? { req: ctx, id: key } : {})
      mark(saved, SAVING, { maxAge, options, session: saved } satisfies Saving)
      return answered((callback) => facade.set(key, saved, callback))
    },
  )
}

function guardDestroy(store: KoaStore, facade: StoreFacade): void {
  replaceMethod(store, 'destroy', (key: string, options?: CallOptions) => {
    const { ctx } = options ?? {}
    // koa-session destroys the session of a request that has one only to store it under another key.
    const regenerated = ctx?.session != null && keyOf(ctx) === key
    return answered((callback) =>
      regenerated ? facade.regenerate({ sessionID: key, ctx }, callback) : facade.destroy(key, callback, ctx),
    )
  })
}

/** An app may empty a store that can be emptied. */
function guardClear(store: KoaStore, facade: StoreFacade): void {
  const clear = store.clear?.bind(store)
  if (!clear) return
  replaceMethod(store, 'clear', (...args: unknown[]) => facade.cleared(() => clear(...args)))
}

function sessionsOf(facade: StoreFacade): GuardedKoaStore['sessionOf'] {
  return (ctx, key, { data, maxAge }) => {
    const session = plainSession(data, { req: ctx, id: key })
    const options = { ctx, changed: true, rolling: ctx.sessionOptions?.rolling ?? false }
    mark(session, SAVING, { maxAge, options, session } satisfies Saving)
    return mark(session, 'save', (callback: Callback) => facade.set(key, session, callback))
  }
}

/** A store of koa-session, as express-session would use it. */
class StoreFacade implements SessionStore {
  readonly #get: KoaStore['get']
  readonly #set: KoaStore['set']
  readonly #destroy: KoaStore['destroy']
  /** The calls of the store's own clear() that are waited for. */
  readonly #emptying: (() => Promise<void>)[] = []

  constructor(store: KoaStore) {
    this.#get = store.get.bind(store)
    this.#set = store.set.bind(store)
    this.#destroy = store.destroy.bind(store)
  }

  get(key: string, callback: Callback, request?: NotedRequest): void {
    const ctx = request as KoaContext | undefined
    const read = async () => {
      const data = await this.#get(key, ctx?.sessionOptions?.maxAge, { ctx, rolling: false })
      return isSession(data) ? mark(plainSession(data, {}), READ_FOR, ctx) : undefined
    }
    answer(read, callback)
  }

  set(key: string, session: SessionData, callback?: Callback): void {
    const { maxAge, options } = savingOf(session) ?? {
      maxAge: remainingMaxAge(session),
      options: { ctx: requestOf(session) as KoaContext | undefined, changed: true, rolling: false },
    }
    answer(() => this.#set(key, { ...session }, maxAge, options), callback)
  }

  destroy(key: string, callback?: Callback, request?: NotedRequest): void {
    answer(() => this.#destroy(key, { ctx: request as KoaContext | undefined }), callback)
  }

  /** Has the store emptied by `clear`, in its turn. Resolves with what that resolves with. */
  async cleared(clear: () => unknown): Promise<unknown> {
    let result: unknown
    this.#emptying.push(async () => {
      result = await clear()
    })
    await answered((callback) => this.clear(callback))
    return result
  }

  clear(callback: Callback): void {
    answer(() => this.#emptying.shift()?.(), callback)
  }

  /** Makes room for the same session under another key. */
  regenerate(
    { sessionID = '', ctx }: { sessionID?: string; ctx?: KoaContext | undefined },
    callback: Callback,
  ): void {
    this.destroy(sessionID, callback, ctx)
  }
}

function savingOf(session: SessionData): Saving | undefined {
  const saving = (session as { [SAVING]?: Saving })[SAVING]
  if (!saving || saving.session === session) return saving
  // A store may do no more than to extend the lifetime of a session that has not changed.
  return { ...saving, options: { ...saving.options, changed: true } }
}

function isSession(data: unknown): data is SessionData {
  return typeof data === 'object' && data !== null
}

/** A session's data as an object of its own: a store may hand out the very object that it keeps. */
function plainSession(data: SessionData, origin: SessionOrigin): SessionData {
  return mark({ ...data }, ORIGIN, origin)
}

/** Notes something on a session that is not stored with it. */
function mark(session: SessionData, name: PropertyKey, value: unknown): SessionData {
  return Object.defineProperty(session, name, { value, configurable: true })
}

/** Calls back with what comes of some work. */
function answer(work: () => unknown, callback: Callback = () => {}): void {
  new Promise((resolve) => resolve(work())).then(
    (result) => callback(undefined, result),
    (error: unknown) => callback(error ?? new Error('The session store failed.')),
  )
}

/** Resolves or rejects as an operation calls back. */
function answered(operation: (callback: Callback) => unknown): Promise<void> {
  return new Promise((resolve, reject) => {
    operation((error) => (error ? reject(error) : resolve()))
  })
}
