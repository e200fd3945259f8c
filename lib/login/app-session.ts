import { promisify } from 'node:util'
import { ConfigurationError } from '../errors/token-error.js'

/** The data of an app's session. */
type Data = Readonly<Record<string, unknown>>

/** The session of a request, of whatever layer, as the login needs it. */
export interface AppSession {
  /** Returns the data of the app and of the libraries; empty without a session. */
  data(): Data
  /** Puts a value under a key. Begins a session if there is none. */
  put(key: string, value: unknown): Promise<void>
  /** Gives the session another id, and replaces its data by `data`. So an id from before the login is of no use. */
  renew(data: Data): Promise<void>
  /** Deletes the session of the request, and its data. For a session layer of the app, calls the app's `regenerate` instead. */
  end(): Promise<void>
  /** @throws `ConfigurationError` if the session is in a cookie that is neither encrypted by its layer nor sealed by login() */
  checkKeeps(isSealed: boolean): void
  /**
   * Returns when the session ends if no further request comes, in milliseconds since the epoch; `undefined` if its layer does not
   * say so.
   */
  expiresAt(): number | undefined
  /** Keeps this request from prolonging the session. */
  keepExpiry(): void
}

interface ExpressSession {
  cookie: { expires?: Date | null }
  regenerate(callback: (error?: unknown) => void): void
  destroy(callback: (error?: unknown) => void): void
  touch(): unknown
  [name: string]: unknown
}

interface KoaSession {
  regenerate(): Promise<void>
  toJSON(): Record<string, unknown>
  readonly _expire?: number
  [name: string]: unknown
}

interface IronSession {
  save(): Promise<void>
  destroy(): void
  updateConfig(options: unknown): void
  [name: string]: unknown
}

/** The properties that session layers add to a request or a context. */
interface Carrier {
  session?: unknown
  readonly sessionStore?: unknown
  readonly sessionOptions?: {
    readonly store?: unknown
    readonly ContextStore?: unknown
    rolling?: boolean
    renew?: boolean
  }
}

/**
 * Finds the session of a request, by the properties that its layer adds.
 *
 * @param carrier the framework's request or context
 * @param regenerate the app's own function, for a layer of its own
 */
export function appSessionOf(
  carrier: object,
  regenerate: ((carrier: never) => unknown) | undefined,
): AppSession {
  const found = carrier as Carrier
  if (regenerate) return ownLayer(carrier, regenerate)
  if (found.sessionStore !== undefined) return expressSession(found)
  if ('req' in carrier && found.sessionOptions !== undefined) return koaSession(found)
  if (found.sessionOptions !== undefined) return cookieSession(found)
  if (isIron(found.session)) return ironSession(found.session)
  throw new ConfigurationError(
    'login() finds no session. Mount the session middleware before sessionTokens() and login(). For sessions of your own, give ' +
      'login() a function that gives the session of a request another id: regenerate: async (request) => { … }.',
  )
}

const nothing = () => {}
const NO_DATA: Data = {}

function expressSession(carrier: Carrier): AppSession {
  const session = () => carrier.session as ExpressSession
  return {
    data: () => (carrier.session === undefined ? NO_DATA : session()),
    async put(key, value) {
      session()[key] = value
    },
    async renew({ cookie: _, ...data }) {
      await promisify(session().regenerate).call(session())
      Object.assign(session(), data)
    },
    end: () => promisify(session().destroy).call(session()),
    checkKeeps: nothing,
    expiresAt: () => session().cookie.expires?.getTime(),
    keepExpiry() {
      const unmoved = session()
      Object.defineProperty(unmoved, 'touch', { value: () => unmoved, configurable: true })
    },
  }
}

function koaSession(carrier: Carrier): AppSession {
  const options = carrier.sessionOptions!
  const current = () => carrier.session as KoaSession | null | undefined
  const session = () => {
    // koa-session makes a session of any object.
    if (!current()) carrier.session = {}
    return current()!
  }
  return {
    data: () => current()?.toJSON() ?? NO_DATA,
    async put(key, value) {
      session()[key] = value
    },
    async renew(data) {
      for (const name of Object.keys(session().toJSON())) delete session()[name]
      Object.assign(session(), data)
      await session().regenerate()
    },
    async end() {
      carrier.session = null
    },
    checkKeeps(isSealed) {
      if (!isSealed && !options.store && !options.ContextStore) throw readableError()
    },
    expiresAt: () => current()?._expire,
    // koa-session makes new options for each request.
    keepExpiry: () => void Object.assign(options, { rolling: false, renew: false }),
  }
}

/** Returns a session of cookie-session. It has no id, so new data makes a new session. */
function cookieSession(carrier: Carrier): AppSession {
  return {
    data: () => (carrier.session ?? NO_DATA) as Data,
    async put(key, value) {
      carrier.session ??= {}
      ;(carrier.session as Record<string, unknown>)[key] = value
    },
    async renew(data) {
      carrier.session = { ...data }
    },
    async end() {
      carrier.session = null
    },
    checkKeeps(isSealed) {
      if (!isSealed) throw readableError()
    },
    expiresAt: () => undefined,
    keepExpiry: nothing,
  }
}

function isIron(session: unknown): session is IronSession {
  const { save, updateConfig } = (session ?? {}) as Partial<IronSession>
  return typeof save === 'function' && typeof updateConfig === 'function'
}

/** Returns a session of iron-session, which is saved explicitly. It has no id. */
function ironSession(session: IronSession): AppSession {
  return {
    data: () => session,
    async put(key, value) {
      session[key] = value
      await session.save()
    },
    async renew(data) {
      for (const name of Object.keys(session)) delete session[name]
      Object.assign(session, data)
    },
    async end() {
      session.destroy()
    },
    checkKeeps: nothing,
    expiresAt: () => undefined,
    keepExpiry: nothing,
  }
}

function ownLayer(carrier: object, regenerate: (carrier: never) => unknown): AppSession {
  const renew = async () => void (await regenerate(carrier as never))
  return {
    data: () => NO_DATA,
    async put() {
      throw new ConfigurationError(
        "login() cannot keep values in a session of your own. Use transactions: 'cookie' and leave out `userinfo`.",
      )
    },
    renew,
    end: renew,
    checkKeeps: nothing,
    expiresAt: () => undefined,
    keepExpiry: nothing,
  }
}

function readableError(): ConfigurationError {
  return new ConfigurationError(
    'These sessions are kept in cookies, which everyone with access to the browser can read. Give login() the encryptionKeys of ' +
      'sessionTokens().',
  )
}
