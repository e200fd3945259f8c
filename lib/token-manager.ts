import { Background } from './background.js'
import { isNeedRefusal } from './backoff.js'
import { within } from './deadline.js'
import { TokenError } from './errors.js'
import type { Flights } from './flights.js'
import { identityOf, partsOf } from './grant-proof.js'
import { Login } from './login.js'
import { Logout } from './logout.js'
import { Mending } from './mending.js'
import type { AcquireParameters } from './oauth/authorization-server.js'
import { ownProperties } from './own-properties.js'
import { Refresh, type RefreshContext, type RefreshOutcome } from './refresh.js'
import { laterVersion, loggedOut, nothingToRefreshWith } from './refusals.js'
import { Restoration } from './restoration.js'
import { SessionWrites } from './session-writes.js'
import type { CopyKeeper } from './sessions/copy-keeper.js'
import type { EndedSession, SessionAdapter } from './sessions/session-adapter.js'
import { Shares } from './shares.js'
import {
  type AccessToken,
  needAtRefresh,
  needKey,
  newest,
  serves,
  type TokenAnswer,
  type TokenNeed,
  type TokenSet,
  unexpiredToken,
  usableToken,
} from './token-set.js'

export interface TokenManagerContext extends Omit<RefreshContext, 'restoration' | 'writes' | 'shares'> {
  /** For how long a caller waits for a token, in milliseconds. The refresh itself goes on. */
  readonly timeoutMs: number
  readonly flights: Flights
}

/**
 * Keeps the tokens of sessions valid: hands out what is valid, and has one refresh at a time made for each grant when
 * it is not.
 */
export class TokenManager implements CopyKeeper {
  readonly restoration: Restoration
  readonly #context: TokenManagerContext & RefreshContext
  readonly #background = new Background()
  readonly #stopListening: () => void
  readonly #login: Login
  readonly #logout: Logout
  readonly #mending: Mending

  constructor(context: TokenManagerContext) {
    this.restoration = new Restoration(context)
    const { restoration } = this
    const writes = new SessionWrites({ ...context, restoration })
    const shares = new Shares({ ...context, restoration, writes })
    this.#context = ownProperties({ ...context, restoration, writes, shares })
    this.#login = new Login(this.#context, this.#background)
    this.#logout = new Logout(this.#context)
    this.#mending = new Mending(this.#context, this.#background)
    this.#stopListening = context.known.onOver((grantId) => this.#forgetEnded(grantId))
  }

  /** The newest tokens of a session as far as this process knows; `undefined` when nobody is logged in. No I/O. */
  tokensOf(session: SessionAdapter): TokenSet | undefined {
    const { copies, known } = this.#context
    const held = copies.read(session.read())
    if (!held || known.endOf(held)) return undefined
    return newest(held, known.get(held.grantId))
  }

  hasTokens(session: SessionAdapter): boolean {
    const tokens = this.tokensOf(session)
    if (!tokens) return this.#context.copies.isOfLaterVersion(session.read())
    const now = this.#context.known.now(tokens.grantId)
    if (tokens.isElsewhere || tokens.refreshToken !== undefined) return true
    return tokens.accessTokens.some((token) => now < token.expiresAt)
  }

  async getAccessToken(session: SessionAdapter, need: TokenNeed): Promise<AccessToken> {
    const accessToken = await this.#validToken(session, need)
    const tokens = session.isInAnswer && this.tokensOf(session)
    if (tokens) await this.#mending.bringAlong(session, tokens)
    return accessToken
  }

  async #validToken(session: SessionAdapter, need: TokenNeed): Promise<AccessToken> {
    if (session.isInAnswer) await this.#hearOf(session)
    const tokens = this.#tokensOrThrow(session)
    // Also before a refresh, which may have to wait for its turn: others have no newer tokens than those in the session then.
    this.#mending.heal(session, tokens)
    const usable = this.#usable(tokens, need)
    if (usable) return usable
    try {
      return await within(this.#context.timeoutMs, this.#refreshed(session, need), tooSlow)
    } catch (error) {
      const left = this.tokensOf(session)
      // What was found in the grant store belongs into the session, whatever has become of the refresh.
      if (left) this.#mending.heal(session, left)
      const unexpired = left && unexpiredToken(left, need, this.#context.known.now(left.grantId))
      if (unexpired) return unexpired
      throw error
    }
  }

  /** Starts a grant with the tokens of a login, see {@link Login}. */
  set(session: SessionAdapter, answer: TokenAnswer): Promise<void> {
    return this.#login.with(session, answer)
  }

  /** Starts a grant with the tokens that the token endpoint gives. */
  acquire(session: SessionAdapter, parameters: AcquireParameters): Promise<void> {
    return this.#login.acquire(session, parameters)
  }

  /** Logs out here, see {@link Logout}. */
  clear(session: SessionAdapter): Promise<void> {
    return this.#logout.here(session)
  }

  /** Logs out here and at the authorization server. */
  revoke(session: SessionAdapter): Promise<void> {
    return this.#logout.everywhere(session)
  }

  /** Resolves when every refresh under way has ended and its result is stored, or no store has taken it for 5 seconds. */
  async close(): Promise<void> {
    await this.#background.end()
    await this.restoration.close()
    this.#stopListening()
  }

  #forgetEnded(grantId: string): void {
    this.#context.copies.forgetEnded(grantId)
    this.restoration.forgetEnded(grantId)
  }

  grantOf(copy: unknown): string | undefined {
    const tokens = this.#context.copies.read(copy)
    return tokens && identityOf(tokens)
  }

  isEnded(identity: string): boolean {
    return this.#context.known.endOf(partsOf(identity)) !== undefined
  }

  newestOf(identity: string, ...copies: unknown[]): unknown {
    const { copies: format, known } = this.#context
    const { grantId, share } = partsOf(identity)
    if (this.isEnded(identity)) return undefined
    const revisionOf = (copy: unknown): number => {
      const tokens = format.read(copy)
      return tokens && identityOf(tokens) === identity ? tokens.revision : 0
    }
    const tokens = known.get(grantId)
    const newest = copies.toSorted((a, b) => revisionOf(b) - revisionOf(a))[0]
    return tokens && tokens.revision > revisionOf(newest) ? format.write(tokens, share) : newest
  }

  async end(identity: string, copy: unknown, session: EndedSession): Promise<boolean> {
    const { copies, shares } = this.#context
    return (await shares.leave(session, identity, 'logged_out', copies.read(copy))).crossed
  }

  isOutdated(copy: unknown): Promise<boolean> {
    return this.#context.writes.isOutdated(copy)
  }

  /**
   * A session that is kept in the browser may come back after a logout that this process knows nothing of. So the grant store
   * is asked once, when the grant is seen here for the first time.
   */
  async #hearOf(session: SessionAdapter): Promise<void> {
    const { copies, known, writes } = this.#context
    const held = copies.read(session.read())
    if (held && !held.isElsewhere && !known.hasHeardOf(held.grantId)) await writes.ask(held)
  }

  #tokensOrThrow(session: SessionAdapter): TokenSet {
    const tokens = this.tokensOf(session)
    if (tokens) return tokens
    if (this.#context.copies.isOfLaterVersion(session.read())) throw laterVersion()
    this.#mending.takeOutEnded(session)
    throw loggedOut()
  }

  #usable(tokens: TokenSet, need: TokenNeed): AccessToken | undefined {
    return usableToken(tokens, need, this.#context.known.now(tokens.grantId), this.#context.leewayMs)
  }

  /** One refresh of a grant at a time; those who need the same share it, those who need another token take turns. */
  async #refreshed(session: SessionAdapter, need: TokenNeed): Promise<AccessToken> {
    for (;;) {
      const tokens = this.#tokensOrThrow(session)
      const held = this.#context.copies.read(session.read()) ?? tokens
      const usable = this.#usable(tokens, need)
      if (usable) return usable
      const key = needKey(needAtRefresh(tokens, need))
      const flight = this.#context.flights.of(tokens.grantId)
      if (!flight) {
        const kept = this.#keptThoughRefused(tokens, need, key)
        if (kept) return kept
        const { accessToken, fresh } = await this.#fly(session, tokens, need, key)
        this.#requireIn(held)
        // Whoever refreshed in another process may have died before it wrote to the session.
        if (!fresh) this.#mending.heal(session, this.#tokensOrThrow(session))
        return accessToken
      }
      if (flight.key !== key) {
        await flight.outcome.catch(giveUpIfRetryable)
        continue
      }
      // What the authorization server has just answered will do, even if it is the very token that an API refused.
      const outcome = await flight.outcome.catch(goOnIfLoggedOut)
      this.#requireIn(held)
      if (outcome?.fresh && serves(outcome.accessToken, need)) return outcome.accessToken
    }
  }

  /**
   * A session shares in the outcome of a refresh only if it is in the grant still; one without a proof must show what the
   * grant is known by now to have.
   */
  #requireIn(held: TokenSet): void {
    const { copies, known } = this.#context
    const isOfGrant = copies.isProof(held) || known.proves(held)
    if (!isOfGrant || known.endOf(held)) throw loggedOut()
  }

  /** The very token that an API refuses, when tokens that were valid have been replaced too often: the next is refused as well. */
  #keptThoughRefused(
    tokens: TokenSet,
    { rejected, ...need }: TokenNeed,
    key: string,
  ): AccessToken | undefined {
    if (rejected === undefined) return undefined
    const usable = this.#usable(tokens, need)
    if (usable?.token !== rejected) return undefined
    return this.#context.flights.mayReplace(tokens.grantId, key) ? undefined : usable
  }

  async #fly(
    session: SessionAdapter,
    tokens: TokenSet,
    need: TokenNeed,
    key: string,
  ): Promise<RefreshOutcome> {
    const { emit, flights, known, server } = this.#context
    const { grantId } = tokens
    if (tokens.refreshToken === undefined && !tokens.isElsewhere) {
      throw nothingToRefreshWith(tokens, need, known.now(grantId))
    }
    const refresh = new Refresh(this.#context, session, tokens, need)
    const { outcome } = flights.start({ grantId, key, server }, refresh)
    this.#background.start(`refresh ${grantId}`, outcome)
    try {
      return await outcome
    } catch (error) {
      const type = isNeedRefusal(error as TokenError) ? 'need_refused' : 'refresh_failed'
      emit({ type, grantId, error: error as TokenError })
      throw error
    }
  }
}

/** Whoever waits for another token's refresh does not try at once what has just failed for a reason that passes. */
function giveUpIfRetryable(error: TokenError): void {
  if (error.retryable) throw error
}

/** The session that has made a refresh may have been logged out, and others of the same grant not. */
function goOnIfLoggedOut(error: TokenError): undefined {
  if (error.code !== 'ERR_NO_TOKENS') throw error
}

function tooSlow(): TokenError {
  return new TokenError(
    'ERR_TOKEN_ENDPOINT_UNAVAILABLE',
    'There was no fresh access token within timeoutMs. The refresh goes on; the next request will find its result.',
  )
}
