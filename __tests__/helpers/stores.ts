import { mkdtemp, rm } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import session, { type SessionData, type Store } from 'express-session'
import { createGate, type Gate } from './gate.js'

const METHODS = ['get', 'set', 'touch', 'destroy', 'regenerate'] as const
type StoreMethod = (typeof METHODS)[number]

/** One call of a session store's method. */
export interface StoreCall {
  readonly method: StoreMethod
  readonly sid: string
  /** What was written, as the store got it at that moment. */
  readonly session?: SessionData
}

/** What a store was asked, and the means to make it fail or wait. */
export interface StoreRecording<T extends Store> {
  /** The store itself, to be given to `session({ store })`. */
  readonly store: T
  /** Every call so far, in order. */
  readonly calls: readonly StoreCall[]
  /** How often a method was called, or any of them. */
  count(method?: StoreMethod): number
  /** Forgets the calls so far. */
  forget(): void
  /** The next calls of a method fail, without reaching the store. */
  failNext(method: StoreMethod, times?: number, error?: Error): void
  /** From now on calls of a method fail, until what this returns is called. */
  failAll(method: StoreMethod): () => void
  /** From now on calls of a method wait at the gate before they reach the store. */
  hold(method: StoreMethod): Gate
  /** From now on calls of a method reach the store, and their answers wait at the gate. */
  holdAnswer(method: StoreMethod): Gate
}

type Callback = (error?: unknown, result?: unknown) => void
type AnyMethod = (...args: unknown[]) => unknown

/** Records the calls of an express-session store, a `MemoryStore` by default. The store goes on doing its work. */
export function recordingStore(): StoreRecording<session.MemoryStore>
export function recordingStore<T extends Store>(store: T): StoreRecording<T>
export function recordingStore(store: Store = new session.MemoryStore()): StoreRecording<Store> {
  const calls: StoreCall[] = []
  const failures: { method: StoreMethod; error: Error }[] = []
  const before: { method: StoreMethod; gate: Gate }[] = []
  const after: { method: StoreMethod; gate: Gate }[] = []

  const addGate = (gates: typeof before, method: StoreMethod) => {
    const gate = createGate()
    gates.push({ method, gate })
    return gate
  }
  const failing = new Set<StoreMethod>()
  const failure = (method: StoreMethod) => {
    if (failing.has(method)) return new Error(`the session store fails to ${method}`)
    const index = failures.findIndex((planned) => planned.method === method)
    return index === -1 ? undefined : failures.splice(index, 1)[0]?.error
  }
  for (const method of METHODS) {
    const original = (store as unknown as Record<string, AnyMethod | undefined>)[method]
    if (original === undefined) continue
    const recorded: AnyMethod = (...args) => {
      calls.push(storeCall(method, args))
      const error = failure(method)
      const gates = before.filter((held) => held.method === method)
      const answerGates = after.filter((held) => held.method === method)
      const callback = callbackOf(args)
      const answered: Callback = (...answer) => whenOpen(answerGates, () => callback(...answer))
      return whenOpen(gates, () =>
        error
          ? void setImmediate(answered, error)
          : original.apply(store, [...args.filter((arg) => typeof arg !== 'function'), answered]),
      )
    }
    Object.assign(store, { [method]: recorded })
  }
  return {
    store,
    calls,
    count: (method) => calls.filter((call) => method === undefined || call.method === method).length,
    forget: () => void calls.splice(0),
    failNext(method, times = 1, error = new Error(`the session store failed to ${method}`)) {
      failures.push(...Array.from({ length: times }, () => ({ method, error })))
    },
    failAll(method) {
      failing.add(method)
      return () => void failing.delete(method)
    },
    hold: (method) => addGate(before, method),
    holdAnswer: (method) => addGate(after, method),
  }
}

function storeCall(method: StoreMethod, args: readonly unknown[]): StoreCall {
  const [first, second] = args
  const sid = method === 'regenerate' ? (first as { sessionID: string }).sessionID : String(first)
  const writes = method === 'set' || method === 'touch'
  return { method, sid, ...(writes && { session: JSON.parse(JSON.stringify(second)) as SessionData }) }
}

function callbackOf(args: readonly unknown[]): Callback {
  return (args.find((arg) => typeof arg === 'function') as Callback | undefined) ?? (() => {})
}

/** Goes on at once, in the same tick and with what comes of it, when there is no gate to wait at. */
function whenOpen(gates: readonly { gate: Gate }[], next: () => unknown): unknown {
  if (gates.length === 0) return next()
  Promise.all(gates.map(({ gate }) => gate.pass())).then(next)
  return undefined
}

/** The session as the store has it, or `undefined`. A file store's "no such file" is no session. */
export function readSession(store: Store, sid: string): Promise<SessionData | undefined> {
  return new Promise((resolve, reject) => {
    store.get(sid, (error: NodeJS.ErrnoException | null | undefined, stored) => {
      if (error && error.code !== 'ENOENT') reject(error)
      else resolve(stored ?? undefined)
    })
  })
}

/** The session id in the value of an express-session cookie, which is signed and URL-encoded. */
export function sessionIdOf(cookie: string | undefined): string {
  const [, sid] = /^s:(.+)\.[^.]+$/.exec(decodeURIComponent(cookie ?? '')) ?? []
  if (sid === undefined) throw new Error('not a session cookie')
  return sid
}

/** A second `MemoryStore` over the same sessions, as another process would open it. */
export function sameSessions(store: session.MemoryStore): session.MemoryStore {
  const { sessions } = store as unknown as { sessions: object }
  return Object.assign(new session.MemoryStore(), { sessions })
}

type FileStoreFactory = (sessions: typeof session) => new (options: Record<string, unknown>) => Store
const fileStoreFactory = createRequire(import.meta.url)('session-file-store') as FileStoreFactory

/** A session store that survives a restart. */
export interface FileStore {
  readonly store: Store
  /** The directory of the files. */
  readonly path: string
  /** A second store over the same files, as another process would open it. */
  reopen(): Store
  /** Deletes the files. */
  close(): Promise<void>
}

/** A session-file-store in a temporary directory of its own. */
export async function fileStore(): Promise<FileStore> {
  const path = await mkdtemp(join(tmpdir(), 'sessions-'))
  const reopen = () => openFileStore(path)
  return { store: reopen(), path, reopen, close: () => rm(path, { recursive: true, force: true }) }
}

/** A session-file-store over the files of a directory. */
export function openFileStore(path: string): Store {
  const FileSessionStore = fileStoreFactory(session)
  return new FileSessionStore({ path, retries: 0, reapInterval: -1, logFn: () => {} })
}
