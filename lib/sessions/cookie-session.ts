import { TokenError } from '../errors.js'
import type { CopyKeeper } from './copy-keeper.js'
import type { SessionAdapter } from './session-adapter.js'

/** A session that is kept in a cookie: it comes with the request and goes with the answer, whole. */
export interface CookieSession {
  /** The value under our key; `undefined` also where the app has done away with the session. */
  get(): unknown
  /** The value that the request came with, where that can still be told when the app has done away with the session. */
  came?(): unknown
  /** Whether the app has done away with the session, so that nothing but a login starts one. */
  isGone?(): boolean
  /** Puts a value under our key, or takes it out. */
  put(copy: unknown): void | Promise<void>
  /** Has the answer bring what was put, where the layer does not see to it by itself. */
  send?(): Promise<void>
  /** Whether the answer's headers are out, and with them the cookie. */
  isAnswered(): boolean
  /** How many bytes the cookie takes now: its name and its value. A layer that sees to it by itself says 0. */
  size(): number
  /** For how long the cookie could come back, see {@link SessionAdapter.maxAgeMs}. */
  maxAgeMs?(): number | undefined
}

/** What browsers take, in bytes, of a cookie's name and value (RFC 6265 §6.1). */
const MAX_COOKIE_BYTES = 4_096

/** Under which name a request has whose copies are under which key of its session. */
const CLAIMS = Symbol('session keys in use')

/** Claims a key of a request's session. `false` if copies of another audience are there. */
export function claimed(request: object, key: string, audience: string): boolean {
  const claiming: { [CLAIMS]?: Record<string, string> } = request
  claiming[CLAIMS] ??= Object.create(null) as Record<string, string>
  claiming[CLAIMS][key] ??= audience
  return claiming[CLAIMS][key] === audience
}

/** One request's session, where the session is a cookie. */
export class CookieSessionAdapter implements SessionAdapter {
  readonly isInAnswer = true
  readonly #session: CookieSession
  readonly #keeper: CopyKeeper
  #seen: unknown

  constructor(session: CookieSession, keeper: CopyKeeper) {
    this.#session = session
    this.#keeper = keeper
  }

  get maxAgeMs(): number | undefined {
    return this.#session.maxAgeMs?.()
  }

  get seen(): unknown {
    this.#seen ??= this.#session.came?.()
    return this.#seen
  }

  read(): unknown {
    const copy = this.#session.get()
    if (copy !== undefined) this.#seen = copy
    return copy
  }

  async reread(): Promise<unknown> {
    return this.read()
  }

  checkStorable(): void {
    if (this.#session.isAnswered()) throw headersSent()
  }

  async save(copy: unknown): Promise<string[]> {
    const before = this.#keeper.grantOf(this.read())
    await this.#put(copy)
    this.#seen = copy
    return before === undefined ? [] : [before]
  }

  async replace(copy: unknown, replaces: (stored: unknown) => boolean): Promise<boolean> {
    if (this.#session.isGone?.() || !replaces(this.read())) return false
    await this.#put(copy)
    return true
  }

  async clear(): Promise<void> {
    if (this.#mayHold()) await this.#put(undefined)
  }

  /** What cannot be read is taken out as well: nobody is to stay logged in by it. */
  #mayHold(): boolean {
    try {
      return this.read() !== undefined
    } catch {
      return true
    }
  }

  async #put(copy: unknown): Promise<void> {
    this.checkStorable()
    const before = copy === undefined ? undefined : this.#session.get()
    try {
      await this.#session.put(copy)
      const bytes = this.#session.size()
      if (copy !== undefined && bytes > MAX_COOKIE_BYTES) throw cookieTooLarge(bytes)
      await this.#session.send?.()
    } catch (error) {
      // A session that cannot be sent back must not be sent back by the way.
      await this.#session.put(before)
      throw error
    }
  }
}

function headersSent(): TokenError {
  return new TokenError(
    'ERR_HEADERS_SENT',
    'The headers of the answer are out, so the session cookie cannot be changed any more. Ask for the token, log in or ' +
      'log out before the answer begins; or share a grant store between your processes, which keeps what the cookie cannot.',
  )
}

/** Why a session is not put into a cookie. */
export function cookieTooLarge(bytes: number): TokenError {
  return new TokenError(
    'ERR_SESSION_TOO_LARGE',
    `The session with its tokens would make a cookie of ${bytes} bytes, and browsers take ${MAX_COOKIE_BYTES}. ` +
      "Use keep: 'store' with a shared grant store, grants: redisGrantStore(client), or a session layer with a store.",
  )
}
