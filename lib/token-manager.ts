import { randomUUID } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import { within } from './deadline.js'
import { TokenError } from './errors.js'
import type { Flights } from './flights.js'
import { Logout } from './logout.js'
import type { AcquireParameters, RefreshAnswer } from './oauth/authorization-server.js'
import { checkFirstIdToken, refusedAtLogin } from './oauth/id-token.js'
import { differentSubjects } from './oauth/subject.js'
import { Refresh, type RefreshContext, type RefreshOutcome } from './refresh.js'
import { loggedOut, nothingToRefreshWith } from './refusals.js'
import { crossingIsOver, type Ending, SessionWrites, sessionStoreFailed } from './session-writes.js'
import type { CopyKeeper } from './sessions/copy-keeper.js'
import type { SessionAdapter } from './sessions/session-adapter.js'
import {
  type AccessToken,
  firstTokenSet,
  needKey,
  newest,
  secretsOf,
  type TokenAnswer,
  type TokenNeed,
  type TokenSet,
  unexpiredToken,
  usableToken,
} from './token-set.js'

export interface TokenManagerContext extends Omit<RefreshContext, 'writes'> {
  /** For how long a caller waits for a token, in milliseconds. The refresh itself goes on. */
  readonly timeoutMs: number
  readonly flights: Flights
}

/** When to try again to save what nobody has taken, in milliseconds from one time to the next. */
const SAVE_AGAIN_MS = [500, 1_000, 2_000, 4_000, 8_000]

/**
 * Keeps the tokens of sessions valid: hands out what is valid, and has one refresh at a time made for each grant when
 * it is not.
 */
export class TokenManager implements CopyKeeper {
  readonly #context: TokenManagerContext & RefreshContext
  readonly #logout: Logout
  /** Up to which revision a request has seen to the session in the store. */
  readonly #healed = new WeakMap<SessionAdapter, number>()
  /** Everything that goes on behind the callers' backs. */
  readonly #pending = new Map<string, Promise<unknown>>()

  constructor(context: TokenManagerContext) {
    this.#context = { ...context, writes: new SessionWrites(context) }
    this.#logout = new Logout(this.#context)
  }

  /** The newest tokens of a session as far as this process knows; `undefined` when nobody is logged in. No I/O. */
  tokensOf(session: SessionAdapter): TokenSet | undefined {
    const { copies, known } = this.#context
    const held = copies.read(session.read())
    if (!held || known.ended(held.grantId)) return undefined
    return newest(held, known.get(held.grantId))
  }

  hasTokens(session: SessionAdapter): boolean {
    const tokens = this.tokensOf(session)
    if (!tokens) return false
    const now = this.#context.known.now(tokens.grantId)
    if (tokens.isElsewhere || tokens.refreshToken !== undefined) return true
    return tokens.accessTokens.some((token) => now < token.expiresAt)
  }

  async getAccessToken(session: SessionAdapter, need: TokenNeed): Promise<AccessToken> {
    const accessToken = await this.#validToken(session, need)
    if (session.isInAnswer) await this.#bringAlong(session)
    return accessToken
  }

  async #validToken(session: SessionAdapter, need: TokenNeed): Promise<AccessToken> {
    const tokens = this.#tokensOrThrow(session)
    const usable = this.#usable(tokens, need)
    if (usable) {
      if (!session.isInAnswer) this.#heal(session, tokens)
      return usable
    }
    try {
      return await within(this.#context.timeoutMs, this.#refreshed(session, need), tooSlow)
    } catch (error) {
      const left = this.tokensOf(session)
      // What was found in the grant store belongs into the session, whatever has become of the refresh.
      if (left && !session.isInAnswer) this.#heal(session, left)
      const unexpired = left && unexpiredToken(left, need, this.#context.known.now(left.grantId))
      if (unexpired) return unexpired
      throw error
    }
  }

  /** Starts a grant: the tokens of a login, stored in the session when this resolves. What the session held is given up. */
  async set(session: SessionAdapter, answer: TokenAnswer): Promise<void> {
    const { clock, copies, defaultLifetimeMs, known, writes } = this.#context
    // A session that was regenerated for the login does not hold the earlier tokens any more.
    const previous = copies.read(session.read() ?? session.seen)
    const tokens = firstTokenSet(randomUUID(), answer, clock.now(), defaultLifetimeMs)
    known.learn(tokens)
    const copy = copies.write(tokens)
    const introduced = writes.introduce(tokens)
    // Nobody else has the tokens then.
    const failure = copies.isReference && (await introduced)
    if (failure) throw failure
    const displaced = await session.save(copy).catch((error) => {
      throw sessionStoreFailed(error, [...secretsOf(tokens), ...(previous ? secretsOf(previous) : [])])
    })
    await introduced
    const earlier = new Set([...displaced, ...(previous ? [previous.grantId] : [])])
    // A save of the app may have been faster with it.
    earlier.delete(tokens.grantId)
    const ends = [...earlier]
    const endings = await Promise.all(ends.map((grantId) => this.#giveUp(grantId, previous, tokens)))
    if (endings.some(({ crossed }) => crossed)) await this.#lookAgain(session, tokens, ends)
    else if (ends.length > 0 && this.#context.keepsForOthers) {
      this.#inBackground(`login ${tokens.grantId}`, this.#lookAgain(session, tokens, ends))
    }
  }

  /** A refresh of what a login has replaced may have been written to the session meanwhile, or taken out again with it. */
  async #lookAgain(session: SessionAdapter, tokens: TokenSet, replaced: readonly string[]): Promise<void> {
    const { copies, known, writes } = this.#context
    await crossingIsOver()
    await writes.ask(tokens.grantId)
    const isLost = (stored: unknown) =>
      !known.ended(tokens.grantId) && (stored === undefined || replaced.includes(this.grantOf(stored) ?? ''))
    await session.replace(copies.write(tokens), isLost)
  }

  #giveUp(grantId: string, previous: TokenSet | undefined, tokens: TokenSet): Promise<Ending> {
    const seen = previous?.grantId === grantId ? previous : this.#context.known.get(grantId)
    const why = differentSubjects(seen?.idToken, tokens.idToken) ? 'logged_out' : 'replaced'
    return this.#context.writes.end(grantId, why, seen)
  }

  /** Starts a grant with the tokens that the token endpoint gives for a code, a password or an assertion. */
  async acquire(session: SessionAdapter, parameters: AcquireParameters): Promise<void> {
    const { refreshTimeoutMs, server } = this.#context
    // A missing session is found out before the code is spent.
    session.read()
    const answer = await server.acquire(parameters, AbortSignal.timeout(refreshTimeoutMs))
    if (answer.idToken !== undefined) await this.#checkFirstIdToken(answer.idToken, answer)
    await this.set(session, answer)
  }

  /** What came beside an ID token that is refused is revoked: nobody will have it. */
  async #checkFirstIdToken(idToken: string, { accessToken, refreshToken }: RefreshAnswer): Promise<void> {
    const { clock, refreshTimeoutMs, server } = this.#context
    try {
      checkFirstIdToken(idToken, this.#context, clock.now())
      const signature = await server.signatureOf(idToken)
      if (signature.verdict === 'bad') throw refusedAtLogin(signature.why)
      if (signature.verdict === 'unknown') throw signature.error
    } catch (error) {
      const hint = refreshToken === undefined ? 'access_token' : 'refresh_token'
      const signal = AbortSignal.timeout(refreshTimeoutMs)
      // Without a revocation endpoint they end by themselves.
      await server.revoke(refreshToken ?? accessToken, hint, signal).catch(() => {})
      throw error
    }
  }

  /** Logs out here, see {@link Logout}. */
  clear(session: SessionAdapter): Promise<void> {
    return this.#logout.here(session)
  }

  /** Logs out here and at the authorization server. */
  revoke(session: SessionAdapter): Promise<void> {
    return this.#logout.everywhere(session)
  }

  /** Resolves when every refresh under way has ended and its result is stored. */
  async close(): Promise<void> {
    while (this.#pending.size > 0) await Promise.allSettled(this.#pending.values())
  }

  grantOf(copy: unknown): string | undefined {
    return this.#context.copies.read(copy)?.grantId
  }

  isEnded(grantId: string): boolean {
    return this.#context.known.ended(grantId) !== undefined
  }

  newestOf(grantId: string, ...copies: unknown[]): unknown {
    const { copies: format, known } = this.#context
    if (known.ended(grantId)) return undefined
    const revisionOf = (copy: unknown): number => {
      const tokens = format.read(copy)
      return tokens?.grantId === grantId ? tokens.revision : 0
    }
    const tokens = known.get(grantId)
    const newest = copies.toSorted((a, b) => revisionOf(b) - revisionOf(a))[0]
    return tokens && tokens.revision > revisionOf(newest) ? format.write(tokens) : newest
  }

  async end(grantId: string, copy: unknown): Promise<boolean> {
    const { copies, writes } = this.#context
    return (await writes.end(grantId, 'logged_out', copies.read(copy))).crossed
  }

  isOutdated(copy: unknown): Promise<boolean> {
    return this.#context.writes.isOutdated(copy)
  }

  #tokensOrThrow(session: SessionAdapter): TokenSet {
    const tokens = this.tokensOf(session)
    if (tokens) return tokens
    this.#takeOutEnded(session)
    throw loggedOut()
  }

  /** A process that has brought back the copy of an ended grant may have died before it could mend that. */
  #takeOutEnded(session: SessionAdapter): void {
    const grantId = this.grantOf(session.read())
    if (grantId === undefined || !this.#context.keepsForOthers) return
    const name = `take out ${grantId}`
    if (!this.#pending.has(name)) this.#inBackground(name, this.#context.writes.takeOut(session, [grantId]))
  }

  #usable(tokens: TokenSet, need: TokenNeed): AccessToken | undefined {
    return usableToken(tokens, need, this.#context.known.now(tokens.grantId), this.#context.leewayMs)
  }

  /** One refresh of a grant at a time; those who need the same share it, those who need another token take turns. */
  async #refreshed(session: SessionAdapter, need: TokenNeed): Promise<AccessToken> {
    const key = needKey(need)
    for (;;) {
      const tokens = this.#tokensOrThrow(session)
      const usable = this.#usable(tokens, need)
      if (usable) return usable
      const flight = this.#context.flights.of(tokens.grantId)
      if (!flight) {
        const { accessToken, fresh } = await this.#fly(session, tokens, need)
        // Whoever refreshed in another process may have died before it wrote to the session.
        if (!fresh && !session.isInAnswer) this.#heal(session, this.#tokensOrThrow(session))
        return accessToken
      }
      if (flight.key !== key) {
        await flight.outcome.catch(giveUpIfRetryable)
        continue
      }
      // What the authorization server has just answered will do, even if it is the very token that an API refused.
      const { accessToken, fresh } = await flight.outcome
      if (fresh) return accessToken
    }
  }

  async #fly(session: SessionAdapter, tokens: TokenSet, need: TokenNeed): Promise<RefreshOutcome> {
    const { emit, flights } = this.#context
    const { grantId } = tokens
    if (tokens.refreshToken === undefined && !tokens.isElsewhere) throw nothingToRefreshWith()
    const refresh = new Refresh(this.#context, session, tokens, need)
    const { outcome } = flights.start(grantId, needKey(need), () => refresh.run())
    this.#inBackground(`refresh ${grantId}`, outcome)
    try {
      const refreshed = await outcome
      if (refreshed.isUnsaved) this.#inBackground(`save ${grantId}`, this.#saveLater(session, grantId))
      return refreshed
    } catch (error) {
      emit({ type: 'refresh_failed', grantId, error: error as TokenError })
      throw error
    }
  }

  /** Goes on trying to save what both stores have refused. If this process ends first, the user has to log in again. */
  async #saveLater(session: SessionAdapter, grantId: string): Promise<void> {
    const { known, writes } = this.#context
    for (const ms of SAVE_AGAIN_MS) {
      await delay(ms)
      const tokens = known.get(grantId)
      if (!tokens) return
      const isCommitted = (await writes.introduce(tokens)) === undefined
      const isStored = await writes.store(session, tokens)
      if (isCommitted || isStored) return
    }
  }

  /**
   * Sees to it that a session whose copy is stale is up to date in its store: an earlier write may have failed, or
   * another process may have saved an old session over it. Once for each request, and not during a refresh, which stores
   * what comes of it itself.
   */
  #heal(session: SessionAdapter, tokens: TokenSet): void {
    const { copies } = this.#context
    const held = copies.read(session.read())
    if (
      !held ||
      held.revision >= tokens.revision ||
      copies.isReference ||
      this.#context.flights.of(tokens.grantId)
    )
      return
    if ((this.#healed.get(session) ?? 0) >= tokens.revision) return
    const name = `heal ${tokens.grantId}`
    if (this.#pending.has(name)) return
    const { keepsForOthers, writes } = this.#context
    // Another process may be about to do it.
    const turn = keepsForOthers ? crossingIsOver() : Promise.resolve()
    const stored = turn.then(() => writes.store(session, tokens))
    this.#inBackground(
      name,
      stored.then((done) => void (done && this.#healed.set(session, tokens.revision))),
    )
  }

  /** Puts the newest tokens into a session that goes with the answer, if there is time left for it. */
  async #bringAlong(session: SessionAdapter): Promise<void> {
    const { clock, copies, writes } = this.#context
    const tokens = this.tokensOf(session)
    const held = copies.read(session.read())
    if (!tokens || !held || held.revision >= tokens.revision || copies.isReference) return
    try {
      session.checkStorable()
    } catch {
      // The next request with this cookie is given what this process or the grant store knows.
      return
    }
    await writes.store(session, tokens, clock.monotonic())
  }

  /** Lets something go on while nobody waits for it but `close()`. */
  #inBackground(name: string, work: Promise<unknown>): void {
    const land = () => {
      if (this.#pending.get(name) === over) this.#pending.delete(name)
    }
    const over = work.then(land, land)
    this.#pending.set(name, over)
  }
}

/** Whoever waits for another token's refresh does not try at once what has just failed for a reason that passes. */
function giveUpIfRetryable(error: TokenError): void {
  if (error.retryable) throw error
}

function tooSlow(): TokenError {
  return new TokenError(
    'ERR_TOKEN_ENDPOINT_UNAVAILABLE',
    'There was no fresh access token within timeoutMs. The refresh goes on; the next request will find its result.',
  )
}
