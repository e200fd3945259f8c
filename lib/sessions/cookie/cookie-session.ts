import { ConfigurationError, SHARED_GRANT_STORES, TokenError } from '../../errors/token-error.js'
import { ownValue } from '../../options/own-properties.js'
import { identityOf } from '../../tokens/grant-proof.js'
import type { TokenSetCodec } from '../codec/token-set-codec.js'
import type { SessionAdapter } from '../session-adapter.js'
import { keyTakenError, putCopy } from '../session-key.js'
import type { SessionLayerContext } from '../session-layer.js'
import { UnusableSession } from '../unusable-session.js'

/** A session that is kept in a cookie: the request brings all of it, and the response returns all of it. */
export interface CookieSession {
  /** Returns the copy in the session; `undefined` also if the app has destroyed the session. */
  get(): unknown
  /** Returns the copy that the request brought, where it can be read after the app has destroyed the session. */
  loaded?(): unknown
  /** Whether the app has destroyed the session. Then only a login starts another one. */
  isDestroyed?(): boolean
  /** Puts a copy into the session, or removes it if it is `undefined`. */
  put(copy: unknown): void | Promise<void>
  /** See {@link SessionAdapter.canStoreLater}. Default: `false`. */
  readonly canStoreLater?: boolean
  /** Sends the change with the response, where the layer does not do so by itself. */
  send?(): Promise<void>
  /** Whether the headers of the response have been sent, and the cookie with them. */
  headersSent(): boolean
  /** Returns how many bytes the name and the value of the cookie take now; 0 for a layer that checks the size by itself. */
  size(): number
  /** See {@link SessionAdapter.maxAgeMs}. */
  maxAgeMs?(): number | undefined
}

/** How many bytes browsers accept for the name and the value of a cookie (RFC 6265 §6.1). */
const MAX_COOKIE_BYTES = 4_096

/** The property of a request that says which audience uses which key of its session. */
const CLAIMS = Symbol('session keys in use')

/**
 * Makes the adapter of a session in a cookie.
 *
 * @param sealsItself whether the layer encrypts its cookies
 */
export function cookieSessionAdapter(
  request: object,
  { key, audience, codec, isSealed, acceptsUnsealed }: SessionLayerContext,
  sealsItself: boolean,
  session: () => CookieSession,
): SessionAdapter {
  if (!isSealed && !sealsItself) return new UnusableSession(sealingRequiredError)
  if (acceptsUnsealed) return new UnusableSession(unsealedCookieError)
  if (!claimKey(request, key, audience)) return new UnusableSession(() => keyTakenError(key))
  return new CookieSessionAdapter(session(), codec)
}

/** Reads and changes the copy in a framework's session. `begin` starts a session if there is none. */
export function cookieFace(
  key: string,
  get: () => object | null | undefined,
  begin: () => void,
): Required<Pick<CookieSession, 'get' | 'isDestroyed' | 'put'>> {
  return {
    get: () => ownValue(get(), key),
    isDestroyed: () => !get(),
    put(copy) {
      if (copy !== undefined && !get()) begin()
      const session = get()
      if (session) putCopy(session as Record<string, unknown>, key, copy)
    },
  }
}

/** Claims a key of a request's session. Returns `false` if copies of another audience are under the key. */
function claimKey(request: object, key: string, audience: string): boolean {
  const claiming: { [CLAIMS]?: Record<string, string> } = request
  claiming[CLAIMS] ??= Object.create(null) as Record<string, string>
  claiming[CLAIMS][key] ??= audience
  return claiming[CLAIMS][key] === audience
}

/** One request's session, where the session is a cookie. */
export class CookieSessionAdapter implements SessionAdapter {
  readonly isCookieBased = true
  readonly canStoreLater: boolean
  readonly #session: CookieSession
  readonly #codec: TokenSetCodec
  #lastKnown: unknown

  constructor(session: CookieSession, codec: TokenSetCodec) {
    this.canStoreLater = session.canStoreLater === true
    this.#session = session
    this.#codec = codec
  }

  get maxAgeMs(): number | undefined {
    return this.#session.maxAgeMs?.()
  }

  get lastKnown(): unknown {
    this.#lastKnown ??= this.#session.loaded?.()
    return this.#lastKnown
  }

  read(): unknown {
    const copy = this.#session.get()
    if (copy !== undefined) this.#lastKnown = copy
    return copy
  }

  async reread(): Promise<unknown> {
    return this.read()
  }

  checkStorable(): void {
    if (this.#session.headersSent()) throw headersSent()
  }

  async save(copy: unknown): Promise<string[]> {
    const before = this.#codec.read(this.read())
    await this.#put(copy)
    this.#lastKnown = copy
    return before ? [identityOf(before)] : []
  }

  async replace(copy: unknown, replaces: (stored: unknown) => boolean): Promise<boolean> {
    if (this.#session.isDestroyed?.() || !replaces(this.read())) return false
    await this.#put(copy)
    return true
  }

  async clear(): Promise<void> {
    if (this.#mayHold()) await this.#put(undefined)
  }

  /** Whether the session may hold a copy. One that cannot be read counts, so that it is removed and logs no user in later. */
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
      if (copy !== undefined && bytes > MAX_COOKIE_BYTES) throw cookieTooLargeError(bytes)
      await this.#session.send?.()
    } catch (error) {
      // The response must not carry a change that has failed.
      await this.#session.put(before)
      throw error
    }
  }
}

function headersSent(): TokenError {
  return new TokenError(
    'ERR_HEADERS_SENT',
    'The headers of the response have been sent, so the session cookie cannot be changed any more. Get the token, log in or ' +
      'log out before the response begins. Or give all processes one grant store, which keeps the tokens that the cookie cannot keep.',
  )
}

/** Returns the error of a session that is too large for a cookie. */
export function cookieTooLargeError(bytes: number): TokenError {
  return new TokenError(
    'ERR_SESSION_TOO_LARGE',
    `The session with its tokens would make a cookie of ${bytes} bytes, and browsers take ${MAX_COOKIE_BYTES}. ` +
      `Use keep: 'store' with a shared grant store, grants: ${SHARED_GRANT_STORES}, or a session layer ` +
      'with a store.',
  )
}

/** Returns the error of `acceptUnsealed` with sessions in cookies. */
function unsealedCookieError(): ConfigurationError {
  return new ConfigurationError(
    '`acceptUnsealed` is for sessions in a store. These are kept in cookies, where the browser may have written what is not ' +
      'sealed. Leave the option out.',
  )
}

/** Returns the error of sessions in cookies without `encryptionKeys`. */
function sealingRequiredError(): ConfigurationError {
  return new ConfigurationError(
    'The sessions are kept in cookies, and everyone with access to the browser can read them. Give `encryptionKeys` to sessionTokens(): ' +
      'encryptionKeys: [process.env.SESSION_KEY], made with openssl rand -base64 32.',
  )
}
