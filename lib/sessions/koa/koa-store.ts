import { type Callback, isPromise, type SessionData, type SessionStore } from '../store/original-store.js'
import { type PatchedStore, patchedStore } from '../store/patched-store.js'
import { replaceMethod } from '../store/replace-method.js'
import {
  BASELINE,
  baselineOfLoaded,
  type NotedRequest,
  ORIGIN,
  READ_FOR,
  recordBaseline,
  requestOf,
  type SessionOrigin,
} from '../store/session-baseline.js'
import { type KoaContext, keyOf, remainingMaxAge, STORED_AS, type Storable } from './koa-context.js'

/** The options that koa-session passes to a store besides the session. */
interface CallOptions {
  readonly ctx?: KoaContext | undefined
  readonly rolling?: boolean
  readonly changed?: boolean
}

/** An external store of koa-session. Each method returns a value or a promise. */
export interface KoaStore {
  get(key: string, maxAge?: unknown, options?: CallOptions): unknown
  set(key: string, session: SessionData, maxAge?: unknown, options?: CallOptions): unknown
  destroy(key: string, options?: CallOptions): unknown
  /** Empties the store. koa-session does not call this method, but the store of an app may have it. */
  clear?(...args: unknown[]): unknown
}

/** The arguments with which koa-session asked a store to store a session. */
interface Saving {
  readonly maxAge: unknown
  readonly options: CallOptions
  /**
   * The session that koa-session passed. If another session is stored in its place, the store must write it, and not only prolong
   * its lifetime.
   */
  readonly session: SessionData
}

/** The property of a session with its {@link Saving}. */
const SAVING = Symbol('how a session is stored')

/** A store of koa-session whose methods were replaced. */
export interface PatchedKoaStore {
  readonly patched: PatchedStore
  /** Returns a session of a request, as an object that can be stored by its `save(callback)`. */
  sessionOf(ctx: KoaContext, key: string, storable: Storable): SessionData
}

const patchedStores = new WeakMap<object, PatchedKoaStore>()

/** Patches a store at the first call; later calls return the same object. */
export function patchedKoaStore(store: KoaStore): PatchedKoaStore {
  const existing = patchedStores.get(store)
  if (existing) return existing
  const facade = new StoreFacade(store)
  const patched = patchedStore(facade)
  patchLoading(store, patched)
  patchSave(store, facade)
  patchDestroy(store, facade)
  patchClear(store, facade)
  const added = { patched, sessionOf: sessionsOf(facade) }
  patchedStores.set(store, added)
  return added
}

/** Records on each request the session as the request got it. */
function patchLoading(store: KoaStore, { interceptors }: PatchedStore): void {
  const get = store.get.bind(store)
  replaceMethod(store, 'get', (key: string, maxAge?: unknown, options?: CallOptions) => {
    const { ctx } = options ?? {}
    const loaded = (data: unknown): unknown => {
      const isUnknown = ctx !== undefined && ctx[BASELINE]?.isNew !== false
      if (isUnknown && isSession(data)) recordBaseline(ctx, baselineOfLoaded(key, data, interceptors))
      return data
    }
    const returned = get(key, maxAge, options)
    return isPromise(returned) ? Promise.resolve(returned).then(loaded) : loaded(returned)
  })
}

function patchSave(store: KoaStore, facade: StoreFacade): void {
  replaceMethod(
    store,
    'set',
    (key: string, session: SessionData, maxAge?: unknown, options: CallOptions = {}) => {
      const { ctx } = options
      if (ctx) ctx[STORED_AS] = key
      const saved = plainSession(session, ctx ? { req: ctx, id: key } : {})
      mark(saved, SAVING, { maxAge, options, session: saved } satisfies Saving)
      return whenCalledBack((callback) => facade.set(key, saved, callback))
    },
  )
}

function patchDestroy(store: KoaStore, facade: StoreFacade): void {
  replaceMethod(store, 'destroy', (key: string, options?: CallOptions) => {
    const { ctx } = options ?? {}
    // If the request still has its session, koa-session destroys it only to store it under another key.
    const regenerated = ctx?.session != null && keyOf(ctx) === key
    return whenCalledBack((callback) =>
      regenerated ? facade.regenerate({ sessionID: key, ctx }, callback) : facade.destroy(key, callback, ctx),
    )
  })
}

/** Patches clear(), which an app may call if the store has it. */
function patchClear(store: KoaStore, facade: StoreFacade): void {
  const clear = store.clear?.bind(store)
  if (!clear) return
  replaceMethod(store, 'clear', (...args: unknown[]) => facade.cleared(() => clear(...args)))
}

function sessionsOf(facade: StoreFacade): PatchedKoaStore['sessionOf'] {
  return (ctx, key, { data, maxAge }) => {
    const session = plainSession(data, { req: ctx, id: key })
    const options = { ctx, changed: true, rolling: ctx.sessionOptions?.rolling ?? false }
    mark(session, SAVING, { maxAge, options, session } satisfies Saving)
    return mark(session, 'save', (callback: Callback) => facade.set(key, session, callback))
  }
}

/** A store of koa-session with the interface of express-session's stores. */
class StoreFacade implements SessionStore {
  readonly #get: KoaStore['get']
  readonly #set: KoaStore['set']
  readonly #destroy: KoaStore['destroy']
  /** The calls of the store's own clear() that wait. */
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
    callBack(read, callback)
  }

  set(key: string, session: SessionData, callback?: Callback): void {
    const { maxAge, options } = savingOf(session) ?? {
      maxAge: remainingMaxAge(session),
      options: { ctx: requestOf(session) as KoaContext | undefined, changed: true, rolling: false },
    }
    callBack(() => this.#set(key, { ...session }, maxAge, options), callback)
  }

  destroy(key: string, callback?: Callback, request?: NotedRequest): void {
    callBack(() => this.#destroy(key, { ctx: request as KoaContext | undefined }), callback)
  }

  /**
   * Calls `clear`, which empties the store, through the patched `clear()`: when no other operation runs. Resolves with its
   * result.
   */
  async cleared(clear: () => unknown): Promise<unknown> {
    let result: unknown
    this.#emptying.push(async () => {
      result = await clear()
    })
    await whenCalledBack((callback) => this.clear(callback))
    return result
  }

  clear(callback: Callback): void {
    callBack(() => this.#emptying.shift()?.(), callback)
  }

  /** Destroys a session that is about to be stored under another key. */
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
  // A store may only extend the lifetime of a session that is said to be unchanged.
  return { ...saving, options: { ...saving.options, changed: true } }
}

function isSession(data: unknown): data is SessionData {
  return typeof data === 'object' && data !== null
}

/**
 * Copies the data of a session, since a store may return the very object that it keeps. Notes the origin of the session on the
 * copy.
 */
function plainSession(data: SessionData, origin: SessionOrigin): SessionData {
  return mark({ ...data }, ORIGIN, origin)
}

/** Notes a value on a session that is not stored with it. */
function mark(session: SessionData, name: PropertyKey, value: unknown): SessionData {
  return Object.defineProperty(session, name, { value, configurable: true })
}

/** Calls back with the outcome of some work. */
function callBack(work: () => unknown, callback: Callback = () => {}): void {
  new Promise((resolve) => resolve(work())).then(
    (result) => callback(undefined, result),
    (error: unknown) => callback(error ?? new Error('The session store failed.')),
  )
}

/** Resolves or rejects as an operation calls back. */
function whenCalledBack(operation: (callback: Callback) => unknown): Promise<void> {
  return new Promise((resolve, reject) => {
    operation((error) => (error ? reject(error) : resolve()))
  })
}
