import { COMMIT_PATIENCE_MS, GRANT_STORE_TIMEOUT_MS } from '../concurrency/time-constants.js'
import { withTimeout } from '../concurrency/with-timeout.js'
import { OwnError, type TokenError } from '../errors/token-error.js'
import type { Grant } from '../grants/grant.js'
import type { GrantRecord, GrantState } from '../grants/grant-store.js'
import { Lease } from '../grants/lease.js'
import { ownProperties } from '../options/own-properties.js'
import type { SessionAdapter } from '../sessions/session-adapter.js'
import { type AccessToken, usableToken } from '../tokens/access-token.js'
import type { RefreshReason } from '../tokens/events.js'
import { wholeGrant, withEarlierTokens } from '../tokens/grant-proof.js'
import type { TokenNeed } from '../tokens/token-need.js'
import { type TokenSet, withAccessTokenOf, withSharesOf } from '../tokens/token-set.js'
import type { ClientTokens } from './client-tokens.js'
import { LeaseLapsedError, leasedForTooLongError } from './manager-errors.js'
import type { NewestTokens, NewestTokensContext, SessionOfGrant } from './newest-tokens.js'
import type { Missing } from './restoration/restoration-entries.js'
import type { SessionWriter } from './session-writer.js'

/** What one refresh gets: the session and its grant, the access token that the caller needs, and why it is refreshed. */
export interface RefreshParts extends SessionOfGrant {
  readonly need: TokenNeed
  readonly reason: RefreshReason
}

export interface LeasedGrantContext extends NewestTokensContext {
  /** The client's own tokens. */
  readonly client: ClientTokens
  readonly sessionWriter: SessionWriter
}

/** A grant that one refresh leases. The new tokens are kept in this process, in the grant store and in the session. */
export class LeasedGrant {
  readonly #context: LeasedGrantContext
  readonly #grant: Grant
  readonly #session: SessionAdapter
  readonly #need: TokenNeed
  /** Whether no caller waits for this refresh. */
  readonly #isAhead: boolean
  readonly #lease: Lease
  readonly #newest: NewestTokens
  /** How long this refresh has waited for the lease, in milliseconds. */
  waitedMs = 0
  /** Whether another process holds the lease, and this refresh has ended, since no caller waits for it. */
  isLeasedElsewhere = false
  /** Whether the refresh goes on without the grant store: the store failed, and `onGrantStoreError` is `'local'`. */
  #isWithoutStore = false
  /** Whether only the first access token is new, by an exchange. */
  #isOfExchange = false

  constructor(context: LeasedGrantContext, parts: RefreshParts, newest: NewestTokens) {
    this.#context = context
    this.#grant = parts.grant
    this.#session = parts.session
    this.#need = parts.need
    this.#isAhead = parts.reason === 'ahead'
    this.#lease = new Lease(context.shared.store, parts.grant.id)
    this.#newest = newest
  }

  /** Returns a token that serves the need, if there is one by now. */
  get usable(): AccessToken | undefined {
    const { ahead, leeway } = this.#context
    return usableToken(this.#newest.tokens, this.#need, this.#grant.now(), this.#isAhead ? ahead : leeway)
  }

  /** Whether this refresh holds the lease and has not committed since, or goes on without the grant store. */
  get isHolder(): boolean {
    return this.#isWithoutStore || this.#lease.isHeld
  }

  /**
   * Resolves when this refresh surely holds the lease, with the newest tokens of the grant store and the session at hand. Resolves
   * with a token instead if another process committed one that serves the need.
   */
  async acquire(): Promise<AccessToken | undefined> {
    while (!this.isSurelyHeld) {
      const committed = await this.#takeLease()
      if (committed) return committed
      const usable = (await this.#newest.reread()) ? this.usable : undefined
      if (usable) return usable
    }
    return undefined
  }

  /** Whether no other process can have had the lease since it was taken. */
  get isSurelyHeld(): boolean {
    return this.#isWithoutStore || this.#lease.isSure
  }

  /**
   * Throws `ERR_GRANT_STORE` if another process can have the lease by now. Called right before a refresh token is sent: this
   * process may have been suspended or blocked since it took the lease.
   */
  ensureHeld(): void {
    if (!this.isSurelyHeld) throw new LeaseLapsedError()
  }

  async #takeLease(): Promise<AccessToken | undefined> {
    const { clock, refreshTimeoutMs } = this.#context
    let askedAt = clock.monotonic()
    const deadline = askedAt + (this.#isAhead ? 0 : 2 * refreshTimeoutMs)
    for (;;) {
      const state = await this.#orWithoutStore(this.#askForLease(Math.max(0, deadline - askedAt)))
      const now = clock.monotonic()
      this.waitedMs += now - askedAt
      askedAt = now
      this.#isWithoutStore = !state
      if (!state) return undefined
      const found = await this.#newest.learnState(state)
      if (!found) this.#newest.requireReadable(state)
      const { usable } = this
      if (usable || state.granted) return usable
      if (now < deadline) continue
      this.isLeasedElsewhere = this.#isAhead
      throw leasedForTooLongError()
    }
  }

  #askForLease(patienceMs: number): Promise<GrantState & { readonly granted: boolean }> {
    const { shared } = this.#context
    // A probe of a failing store must end soon: until then, all other callers are refused.
    const waitMs = shared.isFailing ? 0 : patienceMs
    const asking = () => this.#lease.take(this.#newest.tokens.revision, waitMs, this.#newest.idleMs)
    return shared.guarded(this.#grant.id, () => this.#ask(asking(), waitMs + GRANT_STORE_TIMEOUT_MS))
  }

  /** Looks for a newer refresh token after `invalid_grant`. Resolves with whether there is one. */
  async findNewer(rejected: string): Promise<boolean> {
    const { shared } = this.#context
    const reading = this.#ask(shared.peek(wholeGrant(this.#grant.id)), GRANT_STORE_TIMEOUT_MS)
    const state = await this.#orWithoutStore(reading)
    if (state) await this.#newest.learnState(state)
    this.#newest.learnFromProcess()
    await this.#newest.reread()
    const { refreshToken } = this.#newest.tokens
    return refreshToken !== undefined && refreshToken !== rejected
  }

  /**
   * Keeps a new token set: first in this process, without a wait, then in the grant store, then in the session. If the grant has
   * ended, the token set is not kept, and afterwards this process knows of the end. Never rejects.
   *
   * @param isOfExchange whether only the first access token is new
   */
  async keep(tokens: TokenSet, isOfExchange = false): Promise<void> {
    const { sessionWriter, shared } = this.#context
    const newest = this.#newest
    const grant = this.#grant
    this.#isOfExchange = isOfExchange
    const isOfEarlierVersion = tokens.proof === undefined
    const kept = isOfEarlierVersion ? withEarlierTokens(tokens, newest.tokens) : tokens
    newest.keep(this.#aheadOfKnown(kept))
    if (grant.ended) return
    const committed = this.#commit()
    // Without a response the lease ends before long. By then the session must have the tokens that other processes look for.
    const aliveAt = await withTimeout(COMMIT_PATIENCE_MS, committed, noResponse).catch(() => undefined)
    const written =
      !grant.ended &&
      !this.#session.isReadOnly &&
      (await sessionWriter.store(this.#session, newest.ofSession, aliveAt, () => newest.secrets()))
    const isCommitted = (await committed) !== undefined
    if (!grant.ended) this.#noteMissing({ record: !isCommitted, copy: !written })
    // Without a response to the commit, this process does not know whether the grant has ended in the meantime.
    if (!isCommitted && !grant.ended) await shared.readQuickly(newest.ofSession, true)
  }

  #noteMissing(missing: Missing): void {
    const session = this.#session
    // Some custom session layers can be written to after the request.
    const mayLater = session.canStoreLater && !session.isReadOnly
    const later = missing.copy && missing.record && mayLater ? session : undefined
    this.#context.restoration.noteTokens(this.#newest.ofSession, session, missing, later)
  }

  /** Releases the lease. No caller waits for this: if the grant store cannot be reached, the lease runs out. */
  release(): void {
    this.#lease.release().catch(() => {})
  }

  /** Resolves with the time of the request, if the grant store responded that the grant has not ended. Never rejects. */
  async #commit(): Promise<number | undefined> {
    const { clock, emit, retentions, shared } = this.#context
    const { id: grantId } = this.#grant
    try {
      for (;;) {
        const askedAt = clock.monotonic()
        const record = shared.recordOf(this.#newest.tokens)
        const committing = this.#lease.commit(record, retentions.ofGrant(this.#session))
        const state = await this.#ask(committing, GRANT_STORE_TIMEOUT_MS)
        if (state.ended) {
          shared.learnEnd(wholeGrant(grantId), state.ended)
          return undefined
        }
        if (!this.#rebase(record, state.record)) return askedAt
      }
    } catch (error) {
      emit({ type: 'grant_store_failed', grantId, error: error as TokenError })
      return undefined
    }
  }

  /**
   * Puts the newest tokens on top of a record that another process has committed since the lease was lost. They came last, so they
   * get a higher revision. Returns whether they must be committed again. The tokens of a grant that cannot be refreshed any more
   * never replace newer ones: then this refresh goes on with those of the record.
   */
  #rebase(ours: GrantRecord, held: GrantRecord | undefined): boolean {
    if (!held || held.revision < ours.revision || held.tokens === ours.tokens) return false
    const newest = this.#newest.tokens
    const theirs = this.#context.codec.readRecord(newest, held.tokens)
    // After an exchange the refresh token beside the new access token has been spent, also if the record cannot be read here.
    if (newest.refreshToken === undefined || (this.#isOfExchange && !theirs)) {
      if (theirs) this.#newest.keep(theirs)
      return false
    }
    this.#newest.keep(ownProperties({ ...this.#onTopOf(theirs, newest), revision: held.revision + 1 }))
    return true
  }

  /**
   * Adds new tokens to the newer tokens of another process. After an exchange only the access token is new: the refresh token
   * beside it may have been spent since.
   */
  #onTopOf(theirs: TokenSet | undefined, tokens: TokenSet): TokenSet {
    return this.#isOfExchange && theirs ? withAccessTokenOf(theirs, tokens) : withSharesOf(tokens, theirs)
  }

  /**
   * Gives new tokens a higher revision than the newest that this process knows, which may have grown: another session may have
   * joined the grant. The tokens of a grant that cannot be refreshed any more never replace newer ones.
   */
  #aheadOfKnown(tokens: TokenSet): TokenSet {
    const known = this.#grant.tokens
    if (!known || known.revision < tokens.revision) return tokens
    if (tokens.refreshToken === undefined && !this.#isOfExchange) return tokens
    return ownProperties({ ...this.#onTopOf(known, tokens), revision: known.revision + 1 })
  }

  /** Waits for a response of the grant store. Resolves with `undefined` if the store fails and the refresh goes on without it. */
  async #orWithoutStore<T>(response: Promise<T>): Promise<T | undefined> {
    const { emit, onGrantStoreError } = this.#context
    try {
      return await response
    } catch (error) {
      if (onGrantStoreError !== 'local') throw error
      emit({ type: 'grant_store_failed', grantId: this.#grant.id, error: error as TokenError })
      return undefined
    }
  }

  #ask<T>(operation: Promise<T>, timeoutMs: number): Promise<T> {
    return this.#context.shared.ask(operation, timeoutMs, () => this.#newest.secrets())
  }
}

const noResponse = () => new OwnError('The grant store did not respond in time.')
