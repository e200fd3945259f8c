import { type SerialQueue, serialQueue } from '../../concurrency/serial-queue.js'
import type { ConfigurationError } from '../../errors/token-error.js'
import { ownValue } from '../../options/own-properties.js'
import type { SessionAdapter, SessionHome } from '../session-adapter.js'
import type { GrantSession } from '../session-grants.js'
import { putCopy } from '../session-key.js'
import type { SessionLayerContext } from '../session-layer.js'
import type { SessionData } from './original-store.js'
import type { PatchedStore } from './patched-store.js'
import {
  BASELINE,
  lateBaseline,
  type NotedRequest,
  recordCopy,
  type SessionBaseline,
  type SessionCarrier,
  type SessionSource,
} from './session-baseline.js'
import { StoredTokens } from './stored-tokens.js'

/** How one framework keeps a request's session in a store. It has no state of its own. */
export interface StoredSessionFace<Request extends SessionCarrier> extends SessionSource<Request> {
  /** Patches a store at the first call; `undefined` for a value that is no store. */
  patched(store: unknown): PatchedStore | undefined
  /** See {@link SessionAdapter.maxAgeMs}. */
  maxAgeMs(request: Request): number | undefined
  /** Returns the session as it is now, as an object whose `save()` stores it. */
  storable(request: Request, sid: string, session: SessionData): SessionData
  /** Returns the request, if the methods of the store get the request for which they are called. */
  requestForStore?(request: Request): NotedRequest | undefined
  /** Gives the session of a request another id, and no data but these fields. */
  regenerate(request: Request, fields: readonly string[]): Promise<void>
  noSessionError(): ConfigurationError
}

/** A session layer that keeps its sessions in stores, under one session key. */
export class StoredSessions<Request extends SessionCarrier> {
  readonly #face: StoredSessionFace<Request>
  readonly #context: SessionLayerContext
  readonly #tokens = new Map<unknown, StoredTokens>()

  constructor(face: StoredSessionFace<Request>, context: SessionLayerContext) {
    this.#face = face
    this.#context = context
  }

  /** Returns the adapter of a request's session in a store. */
  of(request: Request, store: unknown): SessionAdapter {
    const { key } = this.#context
    const tokens = this.#tokens.get(store) ?? this.#tokensIn(store)
    const recorded = this.#face.baselineHolder(request)?.[BASELINE]
    // The request may have loaded its session before this layer patched the store.
    const isRecorded = recorded && (recorded.isNew || Object.hasOwn(recorded.values, key))
    const baseline = isRecorded ? recorded : lateBaseline(this.#face, request, key)
    return new StoredSessionAdapter(this.#face, request, key, tokens, baseline)
  }

  /** See {@link SessionLayer.homeOf}. */
  homeOf(sid: string, of: GrantSession): SessionHome | undefined {
    const [tokens, another] = this.#tokens.values()
    return another ? undefined : tokens?.homeOf(sid, of, undefined)
  }

  close(): void {
    for (const tokens of this.#tokens.values()) tokens.close()
    this.#tokens.clear()
  }

  #tokensIn(store: unknown): StoredTokens | undefined {
    const patched = this.#face.patched(store)
    if (!patched) return undefined
    const tokens = new StoredTokens(this.#context, patched)
    this.#tokens.set(store, tokens)
    return tokens
  }
}

/** The session of one request. Only login and logout change the copy in the request's session. */
class StoredSessionAdapter<Request extends SessionCarrier> implements SessionAdapter {
  readonly isCookieBased = false
  readonly canStoreLater = true
  readonly #face: StoredSessionFace<Request>
  readonly #request: Request
  readonly #key: string
  readonly #tokens: StoredTokens | undefined
  #lastKnown: unknown
  /** The last copy of this request, and the session of a grant that the copy names, so that each copy is read once. */
  #named: { readonly copy: unknown; readonly of: GrantSession | undefined } | undefined
  #logins: SerialQueue | undefined

  constructor(
    face: StoredSessionFace<Request>,
    request: Request,
    key: string,
    tokens: StoredTokens | undefined,
    baseline: SessionBaseline | undefined,
  ) {
    this.#face = face
    this.#request = request
    this.#key = key
    this.#tokens = tokens
    // The app may have put a copy into a session that it has just made. koa-session makes another session in place of one that it
    // loads and does not accept.
    const isLoaded = baseline?.isNew === false && baseline.sid === (this.#sid ?? baseline.sid)
    this.#lastKnown = isLoaded ? baseline.values[key] : ownValue(request.session, key)
  }

  get maxAgeMs(): number | undefined {
    return this.#face.maxAgeMs(this.#request)
  }

  get lastKnown(): unknown {
    return this.#lastKnown
  }

  read(): unknown {
    const { session } = this.#request
    const copy = session && Object.hasOwn(session, this.#key) ? session[this.#key] : undefined
    if (copy !== undefined) this.#lastKnown = copy
    return copy
  }

  checkStorable(): void {
    // A store can be written to at any time.
  }

  async reread(): Promise<unknown> {
    const sid = this.#sid
    return sid === undefined ? undefined : this.#stored().read(sid, this.#forStore)
  }

  /** Puts the copy into the request's session at once, or after the login of this request that is under way. */
  save(copy: unknown): Promise<string[]> {
    this.#logins ??= serialQueue()
    return this.#logins(() => this.#save(copy))
  }

  async #save(copy: unknown): Promise<string[]> {
    const { session } = this.#request
    const sid = this.#sid
    if (!session || sid === undefined) throw this.#face.noSessionError()
    const tokens = this.#stored()
    const holder = this.#face.baselineHolder(this.#request)
    const before = ownValue(session, this.#key)
    putCopy(session, this.#key, copy)
    try {
      const storable = this.#face.storable(this.#request, sid, session)
      const displaced = await tokens.login(sid, storable, this.#lastKnown)
      recordCopy(holder, sid, this.#key, copy)
      this.#lastKnown = copy
      return displaced
    } catch (error) {
      // The session must not be saved with the failed login when the request ends.
      putCopy(session, this.#key, before)
      throw error
    }
  }

  async regenerate(fields: readonly string[]): Promise<void> {
    this.read()
    if (this.#sid === undefined) throw this.#face.noSessionError()
    const own = (name: string) => name !== this.#key
    await this.#face.regenerate(this.#request, fields.filter(own))
  }

  get home(): SessionHome | undefined {
    const sid = this.#sid
    return sid === undefined ? undefined : this.#tokens?.homeOf(sid, this.#grantSession, this.#forStore)
  }

  async replace(copy: unknown, replaces: (stored: unknown) => boolean): Promise<boolean> {
    const of = copy === undefined ? this.#grantSession : undefined
    return this.#stored().replace(this.#sid, of, copy, replaces, this.#forStore)
  }

  async clear(clears: (stored: unknown) => boolean): Promise<void> {
    const { session } = this.#request
    const sid = this.#sid
    this.read()
    if (session) putCopy(session, this.#key, undefined)
    recordCopy(this.#face.baselineHolder(this.#request), sid, this.#key, undefined)
    await this.#stored().replace(sid, this.#grantSession, undefined, clears, this.#forStore)
  }

  /** Names the session of a grant that this request has known last. */
  get #grantSession(): GrantSession | undefined {
    const copy = this.#lastKnown
    if (this.#named?.copy !== copy) this.#named = { copy, of: this.#tokens?.sessionOf(copy) }
    return this.#named?.of
  }

  get #sid(): string | undefined {
    return this.#face.sid(this.#request)
  }

  get #forStore(): NotedRequest | undefined {
    return this.#face.requestForStore?.(this.#request)
  }

  #stored(): StoredTokens {
    if (!this.#tokens) throw this.#face.noSessionError()
    return this.#tokens
  }
}
