import { createGate, type Gate } from './gate.js'

type StoreMethod = 'get' | 'set' | 'destroy'
type StoredSession = Record<string, unknown>

/** One call of a store's method, as koa-session makes it. */
export interface KoaStoreCall {
  readonly method: StoreMethod
  readonly key: string
  /** What came with the key: of `set` the session as it was at that moment, and its `maxAge`. */
  readonly session?: StoredSession
  readonly maxAge?: unknown
  readonly options: { readonly ctx?: unknown; readonly rolling?: boolean; readonly changed?: boolean }
}

/** An external store of koa-session in memory, and the means to make it fail or wait. */
export interface KoaMemoryStore {
  get(key: string, maxAge: unknown, options: KoaStoreCall['options']): Promise<StoredSession | undefined>
  set(key: string, session: StoredSession, maxAge: unknown, options: KoaStoreCall['options']): Promise<void>
  destroy(key: string, options: KoaStoreCall['options']): Promise<void>
  readonly calls: KoaStoreCall[]
  /** From now on calls of a method wait at the gate before they reach the store. */
  hold(method: StoreMethod): Gate
  /** From now on calls of a method reach the store, and their answers wait at the gate. */
  holdAnswer(method: StoreMethod): Gate
  /** The next call of a method fails. */
  failNext(method: StoreMethod): void
  /** From now on calls of a method fail, until what this returns is called. */
  failAll(method: StoreMethod): () => void
  /** The stored session, past everything that stands in front of the store. */
  peek(key: string): StoredSession | undefined
  /** Stores a session as whoever knows nothing of this library would. */
  poke(key: string, session: StoredSession): void
}

/**
 * A store over sessions that several stores may share, as several processes do. With `references` it keeps the very
 * objects that it is given and hands them out, as a store in memory may.
 */
export function koaMemoryStore(
  sessions = new Map<string, unknown>(),
  { references = false } = {},
): KoaMemoryStore {
  const calls: KoaStoreCall[] = []
  const failures: StoreMethod[] = []
  const before: { method: StoreMethod; gate: Gate }[] = []
  const after: { method: StoreMethod; gate: Gate }[] = []
  const failingAll = new Set<StoreMethod>()
  const frozen = (session: unknown) => (references ? session : JSON.stringify(session))
  const thawed = (stored: unknown) =>
    (references || stored === undefined ? stored : JSON.parse(String(stored))) as StoredSession | undefined

  async function call<T>(call: KoaStoreCall, work: () => T): Promise<T> {
    calls.push(call)
    const gatesOf = (gates: typeof before) => gates.filter(({ method }) => method === call.method)
    const [first, last] = [gatesOf(before), gatesOf(after)]
    const failing = failures.indexOf(call.method)
    if (failing !== -1) failures.splice(failing, 1)
    await Promise.all(first.map(({ gate }) => gate.pass()))
    if (failing !== -1 || failingAll.has(call.method))
      throw new Error(`the session store failed to ${call.method}`)
    const result = work()
    await Promise.all(last.map(({ gate }) => gate.pass()))
    return result
  }
  const addGate = (gates: typeof before, method: StoreMethod) => {
    const gate = createGate()
    gates.push({ method, gate })
    return gate
  }

  return {
    get: (key, maxAge, options) =>
      call({ method: 'get', key, maxAge, options }, () => thawed(sessions.get(key))),
    set(key, session, maxAge, options) {
      const stored = frozen(session)
      const copy = JSON.parse(JSON.stringify(session)) as StoredSession
      return call(
        { method: 'set', key, session: copy, maxAge, options },
        () => void sessions.set(key, stored),
      )
    },
    destroy: (key, options) => call({ method: 'destroy', key, options }, () => void sessions.delete(key)),
    calls,
    hold: (method) => addGate(before, method),
    holdAnswer: (method) => addGate(after, method),
    failNext: (method) => void failures.push(method),
    failAll(method) {
      failingAll.add(method)
      return () => void failingAll.delete(method)
    },
    peek: (key) => thawed(sessions.get(key)),
    poke: (key, session) => void sessions.set(key, frozen(session)),
  }
}
