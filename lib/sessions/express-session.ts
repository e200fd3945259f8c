import { ConfigurationError } from '../errors.js'
import { ownValue } from '../own-properties.js'
import type { CopyKeeper } from './copy-keeper.js'
import { guardedStore } from './guarded-store.js'
import { LOADED, type LoadingRequest, noteLate } from './loaded-session.js'
import { oneAfterAnother, type Queue } from './one-after-another.js'
import type { SessionAdapter, SessionHome } from './session-adapter.js'
import type { SessionLayer, SessionLayerContext } from './session-layer.js'
import { expressMaxAgeMs } from './session-lifetime.js'
import { isStore } from './session-store.js'
import { StoredCopies } from './stored-copies.js'

/** What express-session adds to a request, and what we note on it. */
export interface SessionRequest extends LoadingRequest {
  sessionStore?: unknown
}

/** The session layer of express-session, with any store, under one session key. */
export class ExpressSessions implements SessionLayer<SessionRequest> {
  readonly #key: string
  readonly #audience: string
  readonly #keeper: CopyKeeper
  readonly #copies = new Map<unknown, StoredCopies>()
  /** Of the store that was asked about last; there is hardly ever another one. */
  #last: { readonly store: unknown; readonly copies: StoredCopies | undefined } | undefined

  constructor({ key, audience, keeper }: Pick<SessionLayerContext, 'key' | 'audience' | 'keeper'>) {
    this.#key = key
    this.#audience = audience
    this.#keeper = keeper
  }

  of(request: SessionRequest): SessionAdapter {
    const { sessionStore: store } = request
    if (this.#last?.store !== store) this.#last = { store, copies: this.#copiesIn(store) }
    // A request may have loaded its session before anybody watched the store.
    noteLate(request, this.#key)
    return new ExpressSessionAdapter(this.#last?.copies, request, this.#key)
  }

  close(): void {
    for (const copies of this.#copies.values()) copies.close()
    this.#copies.clear()
    this.#last = undefined
  }

  #copiesIn(store: unknown): StoredCopies | undefined {
    if (!isStore(store)) return undefined
    const known = this.#copies.get(store)
    if (known) return known
    const copies = new StoredCopies(this.#key, this.#audience, this.#keeper, guardedStore(store))
    this.#copies.set(store, copies)
    return copies
  }
}

/** One request's session. The copy in `req.session` is only ever touched at login and logout. */
class ExpressSessionAdapter implements SessionAdapter {
  readonly isInAnswer = false
  readonly #copies: StoredCopies | undefined
  readonly #request: SessionRequest
  readonly #key: string
  readonly #mountedInFront: boolean
  #seen: unknown
  #logins: Queue | undefined

  constructor(copies: StoredCopies | undefined, request: SessionRequest, key: string) {
    this.#copies = copies
    this.#request = request
    this.#key = key
    this.#mountedInFront = request.session === undefined
    this.#seen = ownValue(request.session, key)
  }

  get maxAgeMs(): number | undefined {
    return expressMaxAgeMs(this.#request.session)
  }

  get seen(): unknown {
    return this.#seen
  }

  read(): unknown {
    if (this.#mountedInFront) throw noSession()
    const copy = ownValue(this.#request.session, this.#key)
    if (copy !== undefined) this.#seen = copy
    return copy
  }

  checkStorable(): void {
    // A store takes it whenever it comes.
  }

  async reread(): Promise<unknown> {
    const { sessionID } = this.#request
    return sessionID === undefined ? undefined : this.#stored().read(sessionID)
  }

  /** The copy is in the request's session at once, unless another login is under way there: the later one comes after it. */
  save(copy: unknown): Promise<string[]> {
    this.#logins ??= oneAfterAnother()
    return this.#logins(() => this.#save(copy))
  }

  async #save(copy: unknown): Promise<string[]> {
    const { session, sessionID } = this.#request
    if (this.#mountedInFront || !session || typeof session.save !== 'function' || sessionID === undefined) {
      throw noSession()
    }
    const stored = this.#stored()
    const before = ownValue(session, this.#key)
    session[this.#key] = copy
    try {
      const displaced = await stored.login(sessionID, session, this.#seen)
      this.#note(copy)
      this.#seen = copy
      return displaced
    } catch (error) {
      // A login that failed must not be saved by the way when the request ends.
      if (before === undefined) delete session[this.#key]
      else session[this.#key] = before
      throw error
    }
  }

  get home(): SessionHome | undefined {
    const { sessionID } = this.#request
    return sessionID === undefined ? undefined : this.#copies?.homeOf(sessionID, this.#seen)
  }

  async replace(copy: unknown, replaces: (stored: unknown) => boolean): Promise<boolean> {
    return this.#stored().replace(this.#request.sessionID, copy ?? this.#seen, copy, replaces)
  }

  async clear(clears: (stored: unknown) => boolean): Promise<void> {
    const { session, sessionID } = this.#request
    const copy = ownValue(session, this.#key) ?? this.#seen
    if (session) delete session[this.#key]
    this.#note(undefined)
    await this.#stored().replace(sessionID, copy, undefined, clears)
  }

  /** From here on the request's session counts as one that was loaded with this copy. */
  #note(copy: unknown): void {
    const { [LOADED]: loaded, sessionID: sid } = this.#request
    this.#request[LOADED] = { sid, values: { ...loaded?.values, [this.#key]: copy }, isNew: false }
  }

  #stored(): StoredCopies {
    if (!this.#copies) throw noSession()
    return this.#copies
  }
}

function noSession(): ConfigurationError {
  return new ConfigurationError(
    'This request has no session. Mount express-session before sessionTokens(): ' +
      'app.use(session({ … })); app.use(sessionTokens({ … })); likewise cookie-session, or what puts an iron-session on ' +
      'req.session. For another session layer give the option `session`. ' +
      'If it is mounted, its store may be disconnected, or the session was destroyed earlier in this request.',
  )
}
