import { randomUUID } from 'node:crypto'
import { within } from './deadline.js'
import { ConfigurationError, TokenError } from './errors.js'
import { ADOPTED, adoptedGrantId } from './grant-proof.js'
import type { GrantState } from './grants/grant-store.js'
import { differentSubjects } from './oauth/subject.js'
import { adoptedTokens } from './oauth/token-response.js'
import { ownProperties } from './own-properties.js'
import { grantStoreFailed } from './refusals.js'
import {
  GRANT_STORE_TIMEOUT_MS,
  SessionWrites,
  type SessionWritesContext,
  sessionStoreFailed,
} from './session-writes.js'
import type { SessionAdapter, SessionHome } from './sessions/session-adapter.js'
import { firstTokenSet, newest, secretsOf, type TokenSet } from './token-set.js'

export interface AdoptionContext extends SessionWritesContext {
  /** The app's own: hands over the tokens that it has for a request, if any. */
  readonly adopt: (request: unknown) => unknown
  /** Names the client and its authorization server. */
  readonly audience: string
  readonly defaultLifetimeMs: number
  readonly onGrantStoreError?: 'fail' | 'local'
}

/**
 * Takes over the tokens that an app has had before this library, or that its login library keeps for it.
 *
 * An adopted grant is named after the refresh token it was adopted with. So every process that finds this refresh token
 * finds the same grant, takes turns on its one lease, and knows that it has been refreshed, or has ended, however often
 * the app hands the old token over again. Another refresh token is another login.
 *
 * A session is never saved for it: the tokens are put into the stored session, beside what is there, as after a refresh.
 */
export class Adoption {
  readonly #context: AdoptionContext
  readonly #writes: SessionWrites
  /** The adoptions under way, by grant: whether the session holds the grant afterwards. */
  readonly #pending = new Map<string, Promise<boolean>>()

  constructor(context: AdoptionContext) {
    this.#context = context
    this.#writes = new SessionWrites(context)
  }

  /** A request's session in which tokens of the app's are found when there are none of ours. */
  of(session: SessionAdapter, request: unknown): AdoptingSession {
    return new AdoptingSession(this, session, request)
  }

  /** What the app has for a request, as the first tokens of a grant. `known` is what it had when asked last. */
  handedOver(request: unknown, known: TokenSet | undefined): TokenSet | undefined {
    const { audience, clock, defaultLifetimeMs } = this.#context
    const now = clock.now()
    const answer = this.#asking(() => adoptedTokens(this.#context.adopt(request), now))
    if (!answer) return undefined
    const tokens = firstTokenSet(ADOPTED, answer, now, defaultLifetimeMs)
    if (known && known.proof === nameGiver(tokens)) return known
    const proof = nameGiver(tokens) ?? ''
    return ownProperties({ ...tokens, grantId: adoptedGrantId(audience, proof), proof })
  }

  /** The tokens in a copy of ours, unless their grant has ended. */
  live(copy: unknown): TokenSet | undefined {
    const tokens = this.#context.copies.read(copy)
    return tokens && !this.#context.known.ended(tokens.grantId) ? tokens : undefined
  }

  isOfLaterVersion(copy: unknown): boolean {
    return this.#context.copies.isOfLaterVersion(copy)
  }

  copyOf(tokens: TokenSet): unknown {
    return this.#context.copies.write(tokens)
  }

  /** Takes tokens over into a session, once for all who ask meanwhile. Resolves with whether they are the session's now. */
  settle(session: SessionAdapter, tokens: TokenSet): Promise<boolean> {
    const { grantId } = tokens
    const pending = this.#pending.get(grantId)
    if (pending) return pending
    const settled = this.#settle(session, tokens).finally(() => this.#pending.delete(grantId))
    this.#pending.set(grantId, settled)
    return settled
  }

  /** Ends the grant of the tokens that the app has for a request, if it has any. */
  async disown(session: SessionAdapter, request: unknown): Promise<void> {
    const { known } = this.#context
    let tokens: TokenSet | undefined
    try {
      tokens = this.handedOver(request, undefined)
    } catch {
      // What cannot be read cannot be adopted.
    }
    if (!tokens || known.ended(tokens.grantId)) return
    await this.#writes.end(tokens.grantId, 'logged_out', tokens, session)
  }

  /** Resolves when nothing is under way any more. */
  async close(): Promise<void> {
    while (this.#pending.size > 0) await Promise.allSettled(this.#pending.values())
  }

  #asking<T>(ask: () => T): T {
    try {
      return ask()
    } catch (cause) {
      if (cause instanceof TokenError) throw cause
      throw new ConfigurationError(
        '`adopt` failed. It must hand over tokens, or undefined when there are none: adopt: (request) => request.session?.oauth.',
        // Other messages may quote what was to be read.
        { cause, causeMessage: cause instanceof TypeError },
      )
    }
  }

  async #settle(session: SessionAdapter, handedOver: TokenSet): Promise<boolean> {
    const { copies, known } = this.#context
    const { grantId } = handedOver
    const state = await this.#introduce(session, handedOver)
    if (state?.ended) known.end(grantId, state.ended)
    if (known.ended(grantId)) return false
    const found = newest(handedOver, copies.readRecord(handedOver, state?.record?.tokens))
    known.learn(found, found !== handedOver)
    return this.#store(session, newest(found, known.get(grantId)))
  }

  /** Tells the grant store of the grant, and is told what has become of it. */
  async #introduce(session: SessionAdapter, tokens: TokenSet): Promise<GrantState | undefined> {
    const { copies, emit, grants, onGrantStoreError, retentions } = this.#context
    const { grantId, revision } = tokens
    try {
      const record = { revision, tokens: copies.record(tokens) }
      const committed = grants.commit(grantId, randomUUID(), record, retentions.ofGrant(session))
      return await within(GRANT_STORE_TIMEOUT_MS, committed, noAnswer)
    } catch (cause) {
      const error = grantStoreFailed('The grant store cannot be asked whether tokens may be adopted', {
        cause,
        secrets: secretsOf(tokens),
      })
      if (onGrantStoreError !== 'local') throw error
      emit({ type: 'grant_store_failed', grantId, error })
      return undefined
    }
  }

  /** Puts the tokens into the stored session, in the place of none, or of an earlier adoption of this very session. */
  async #store(session: SessionAdapter, tokens: TokenSet): Promise<boolean> {
    const { copies, known } = this.#context
    const { grantId, revision } = tokens
    const earlier = this.live(session.read())
    let isOthers = false
    const replaces = (copy: unknown): boolean => {
      const stored = this.live(copy)
      if (known.ended(grantId) || copies.isOfLaterVersion(copy)) return false
      if (stored?.grantId === grantId) known.learn(stored, true)
      if (!stored || stored.grantId === grantId) return !stored || stored.revision < revision
      isOthers = stored.grantId !== earlier?.grantId
      return !isOthers
    }
    try {
      session.checkStorable()
    } catch {
      // The next request adopts them, and finds what has become of them in the grant store.
      return true
    }
    try {
      await session.replace(copies.write(tokens), replaces)
      // Whoever has logged out meanwhile did not find it.
      await this.#writes.ask(tokens)
      if (known.ended(grantId)) await this.#writes.takeOut(session, [grantId])
    } catch (error) {
      throw sessionStoreFailed(error, secretsOf(tokens))
    }
    if (isOthers || known.ended(grantId)) return false
    if (earlier && earlier.grantId !== grantId) await this.#giveUp(session, earlier, tokens)
    return true
  }

  /** There has been a new login since the session's tokens were adopted. */
  async #giveUp(session: SessionAdapter, earlier: TokenSet, tokens: TokenSet): Promise<void> {
    const seen = newest(earlier, this.#context.known.get(earlier.grantId))
    const why = differentSubjects(seen.idToken, tokens.idToken) ? 'logged_out' : 'replaced'
    await this.#writes.end(earlier.grantId, why, seen, session)
  }
}

/** The token that names an adopted grant. */
function nameGiver({ refreshToken, accessTokens }: TokenSet): string | undefined {
  return refreshToken ?? accessTokens[0]?.token
}

const noAnswer = () => new Error('The grant store did not answer in time.')

/**
 * A request's session with the app's tokens in it, as long as it holds none of ours. Finding them costs no I/O; before a
 * token is handed out they are taken over for good.
 */
export class AdoptingSession implements SessionAdapter {
  readonly #adoption: Adoption
  readonly #session: SessionAdapter
  readonly #request: unknown
  #handedOver: TokenSet | undefined
  /** What this request has tried to take over, and whether it is the session's. */
  #settled: { readonly grantId: string; readonly taken: boolean } | undefined

  constructor(adoption: Adoption, session: SessionAdapter, request: unknown) {
    this.#adoption = adoption
    this.#session = session
    this.#request = request
  }

  get isInAnswer(): boolean {
    return this.#session.isInAnswer
  }

  get maxAgeMs(): number | undefined {
    return this.#session.maxAgeMs
  }

  get seen(): unknown {
    return this.#session.seen
  }

  get home(): SessionHome | undefined {
    return this.#session.home
  }

  read(): unknown {
    const copy = this.#session.read()
    const found = this.#found(copy)
    if (!found) return copy
    const copyOfFound = this.#adoption.copyOf(found)
    const refused = this.#settled?.grantId === found.grantId && !this.#settled.taken
    return refused || !this.#adoption.live(copyOfFound) ? undefined : copyOfFound
  }

  /** Takes the app's tokens over if the session has none of ours. To be called before a token is handed out. */
  async settle(): Promise<void> {
    const found = this.#found(this.#session.read())
    if (!found || this.#settled?.grantId === found.grantId) return
    const taken = await this.#adoption.settle(this.#session, found)
    this.#settled = { grantId: found.grantId, taken }
  }

  checkStorable(): void {
    this.#session.checkStorable()
  }

  reread(): Promise<unknown> {
    return this.#session.reread()
  }

  save(copy: unknown): Promise<readonly string[]> {
    return this.#session.save(copy)
  }

  replace(copy: unknown, replaces: (stored: unknown) => boolean): Promise<boolean> {
    return this.#session.replace(copy, replaces)
  }

  /** What the app still has, beside tokens of a login by `set()` as well, is not to be adopted after a logout. */
  async clear(clears: (stored: unknown) => boolean): Promise<void> {
    await Promise.all([this.#session.clear(clears), this.#adoption.disown(this.#session, this.#request)])
  }

  /** The app's tokens, unless the session holds tokens of a login by `set()`, or has adopted these already. */
  #found(copy: unknown): TokenSet | undefined {
    const held = this.#adoption.live(copy)
    if (!held && this.#adoption.isOfLaterVersion(copy)) return undefined
    if (held && !held.grantId.startsWith(ADOPTED)) return undefined
    this.#handedOver = this.#adoption.handedOver(this.#request, this.#handedOver)
    return this.#handedOver?.grantId === held?.grantId ? undefined : this.#handedOver
  }
}
