import type { Clock } from './clock.js'
import { within } from './deadline.js'
import { TokenError } from './errors.js'
import type { TokenEventListener } from './events.js'
import { remembering, sharesToken } from './grant-proof.js'
import type { GrantRecord, GrantState, GrantStore } from './grants/grant-store.js'
import type { KnownGrants } from './grants/known-grants.js'
import { Lease } from './grants/lease.js'
import { ownProperties } from './own-properties.js'
import { grantStoreFailed, loggedOut } from './refusals.js'
import type { Refused, Restoration } from './restoration.js'
import type { Retentions } from './retention.js'
import {
  crossingIsOver,
  GRANT_STORE_TIMEOUT_MS,
  type SessionWrites,
  sessionStoreFailed,
} from './session-writes.js'
import type { SessionAdapter } from './sessions/session-adapter.js'
import type { SessionCopies } from './sessions/session-copy.js'
import {
  type AccessToken,
  newest,
  secretsOf,
  type TokenNeed,
  type TokenSet,
  usableToken,
  withShare,
} from './token-set.js'

/** Where the tokens of a grant are, and who is told. */
export interface LeasedTokensContext {
  readonly grants: GrantStore
  readonly known: KnownGrants
  readonly copies: SessionCopies
  readonly writes: SessionWrites
  readonly retentions: Retentions
  readonly clock: Clock
  readonly emit: TokenEventListener
  readonly restoration: Restoration
  /** Whether the grant store keeps what the session cannot, for other processes as well. */
  readonly keepsForOthers?: boolean
  /** Whether a refresh goes on without the grant store when that fails. */
  readonly onGrantStoreError?: 'fail' | 'local'
  readonly leewayMs: number
  readonly refreshTimeoutMs: number
}

const UNREADABLE =
  'Another process has stored newer tokens that this one cannot read. Give all processes the same encryptionKeys, clientId ' +
  'and issuer; a new key is first added at the end of the list everywhere, then moved to its front.'

/** How long a commit holds up the write to the session. The lease holds for longer. */
const COMMIT_PATIENCE_MS = 1_000

/**
 * The tokens of a grant in the hands of one refresh: the newest of all places under the lease, and newer ones kept in all
 * places.
 */
export class LeasedTokens {
  readonly #context: LeasedTokensContext
  readonly #session: SessionAdapter
  readonly #need: TokenNeed
  readonly #lease: Lease
  /** Which of the grant's sessions asks. */
  readonly #share: string | undefined
  #tokens: TokenSet
  /** The grant store has failed, and `onGrantStoreError` says that this does not matter. */
  #goesWithout = false
  /** Every token that has been in play, newer and older: none of them may show in an error. */
  readonly #secrets: string[]

  constructor(context: LeasedTokensContext, session: SessionAdapter, tokens: TokenSet, need: TokenNeed) {
    this.#context = context
    this.#session = session
    this.#tokens = tokens
    this.#share = context.copies.read(session.read())?.share
    this.#secrets = secretsOf(tokens)
    this.#need = need
    this.#lease = new Lease(context.grants, tokens.grantId)
  }

  /** The newest tokens that have been found, or kept. */
  get newest(): TokenSet {
    return this.#tokens
  }

  /** A token that serves the need, if there is one by now. */
  get usable(): AccessToken | undefined {
    const { known, leewayMs } = this.#context
    return usableToken(this.#tokens, this.#need, known.now(this.#tokens.grantId), leewayMs)
  }

  /**
   * Waits for the lease. Resolves with a token instead when another process committed one that serves the need. With
   * `onGrantStoreError: 'local'` it goes without where the grant store fails.
   */
  async takeLease(): Promise<AccessToken | undefined> {
    const { clock, refreshTimeoutMs } = this.#context
    const deadline = clock.monotonic() + 2 * refreshTimeoutMs
    for (;;) {
      const waitMs = Math.max(0, deadline - clock.monotonic())
      const asked = this.#askGrantStore(
        this.#lease.take(this.#tokens.revision, waitMs, this.#idleMs),
        waitMs + GRANT_STORE_TIMEOUT_MS,
      )
      const answer = await this.#orWithout(asked)
      this.#goesWithout = !answer
      if (!answer) return undefined
      await this.#adopt(answer)
      this.#refuseUnreadable(answer)
      const usable = this.usable
      if (usable || answer.granted) return usable
      if (clock.monotonic() >= deadline) {
        throw new TokenError(
          'ERR_TOKEN_ENDPOINT_UNAVAILABLE',
          'Another process has been refreshing this grant for too long. Try again later.',
        )
      }
    }
  }

  /** How long ago the grant was refreshed last, as far as its tokens say. */
  get #idleMs(): number | undefined {
    const { accessTokens, grantId } = this.#tokens
    if (accessTokens.length === 0) return undefined
    const obtainedAt = Math.max(...accessTokens.map((token) => token.obtainedAt))
    return Math.max(0, this.#context.known.now(grantId) - obtainedAt)
  }

  /** Newer tokens that cannot be read are not the same as none: the refresh token at hand has been spent. */
  #refuseUnreadable({ record }: GrantState): void {
    if (!record) return
    const isNewer = record.revision > this.#tokens.revision
    if (!isNewer && !this.#context.copies.isOfLaterVersion(record.tokens)) return
    throw new TokenError('ERR_GRANT_STORE', UNREADABLE)
  }

  /** Whether this refresh has the lease, or goes without the grant store, and has not committed since. */
  get isHolder(): boolean {
    return this.#goesWithout || this.#lease.isHeld
  }

  /** Whether no other process can have the lease. Asked right before a refresh token is spent. */
  async hasLease(): Promise<boolean> {
    if (this.#goesWithout) return true
    if (!this.#lease.isHeld) return false
    return !this.#lease.isDoubtful || this.#askGrantStore(this.#lease.renew(), GRANT_STORE_TIMEOUT_MS)
  }

  /** Looks at what is stored, now that nobody else can refresh. */
  async readAgain(): Promise<AccessToken | undefined> {
    await this.#rereadSession()
    return this.usable
  }

  /** After `invalid_grant`: whether there is a newer refresh token than the one that was refused. */
  async findNewer(refused: string): Promise<boolean> {
    const { grants, known } = this.#context
    const { grantId } = this.#tokens
    const state = await this.#orWithout(this.#askGrantStore(grants.read(grantId), GRANT_STORE_TIMEOUT_MS))
    if (state) await this.#adopt(state)
    this.#tokens = newest(this.#tokens, known.get(this.#tokens.grantId))
    await this.#rereadSession()
    return this.#tokens.refreshToken !== undefined && this.#tokens.refreshToken !== refused
  }

  /**
   * Keeps a new token set: in this process at once, then in the grant store, then in the session; unless the grant has ended,
   * which is known afterwards. Never rejects.
   */
  async keep(tokens: TokenSet): Promise<void> {
    const { known, writes } = this.#context
    const { grantId } = tokens
    this.#tokens = this.#ahead(remembering(tokens, this.#tokens))
    this.#secrets.push(...secretsOf(tokens))
    known.learn(this.#tokens)
    if (known.ended(grantId)) return
    const committed = this.#commit()
    // Without an answer the lease ends before long, and by then the session must have what others will look for there.
    const aliveAt = await within(COMMIT_PATIENCE_MS, committed, noAnswer).catch(() => undefined)
    const isStored =
      !known.ended(grantId) && (await writes.store(this.#session, this.#ofSession, aliveAt, this.#secrets))
    const isCommitted = (await committed) !== undefined
    if (!known.ended(grantId)) this.#note({ record: !isCommitted, copy: !isStored })
    // Without an answer to the commit nobody has said whether the grant has ended meanwhile.
    if (!isCommitted && !known.ended(grantId)) await writes.ask(this.#ofSession, true)
  }

  #note(refused: Refused): void {
    // Some session layers of the app's own can be written to after the request; one that cannot says so.
    const later = refused.copy && refused.record ? this.#session : undefined
    this.#context.restoration.noteTokens(this.#ofSession, this.#session, refused, this.#session.home ?? later)
  }

  /** Gives the lease back. Nobody waits for it: where the grant store cannot be reached the lease ends by itself. */
  release(): void {
    this.#lease.release().catch(() => {})
  }

  /** Commits to the grant store. Resolves with when it was asked, if it answered that the grant is alive. Never rejects. */
  async #commit(): Promise<number | undefined> {
    const { clock, copies, emit, known } = this.#context
    const { grantId, revision } = this.#tokens
    const askedAt = clock.monotonic()
    try {
      const record = { revision, tokens: copies.record(this.#tokens) }
      const state = await this.#askGrantStore(
        this.#lease.commit(record, this.#context.retentions.ofGrant(this.#session)),
        GRANT_STORE_TIMEOUT_MS,
      )
      if (state.ended) known.end(grantId, state.ended)
      else if (this.#isBehind(state.record, record)) return await this.#commit()
      else return askedAt
    } catch (error) {
      emit({ type: 'grant_store_failed', grantId, error: error as TokenError })
    }
    return undefined
  }

  /**
   * Where the lease was lost another process may have committed what it got for the same refresh token, or for the next. What
   * came last is the newest, so it is given a revision of its own.
   */
  #isBehind(held: GrantRecord | undefined, ours: GrantRecord): boolean {
    if (!held || held.revision < ours.revision || held.tokens === ours.tokens) return false
    if (this.#tokens.refreshToken === undefined) return false
    const { copies, known } = this.#context
    const shares = copies.readRecord(this.#tokens, held.tokens)?.shares
    this.#tokens = ownProperties({
      ...this.#tokens,
      ...(shares && { shares }),
      revision: held.revision + 1,
    })
    known.learn(this.#tokens)
    return true
  }

  /** The new tokens, ahead of what this process has learned meanwhile: that another session is in the grant, say. */
  #ahead(tokens: TokenSet): TokenSet {
    const known = this.#context.known.get(tokens.grantId)
    if (!known || known.revision < tokens.revision || known.refreshToken === tokens.refreshToken)
      return tokens
    const { shares, revision } = known
    return ownProperties({ ...tokens, ...(shares && { shares }), revision: revision + 1 })
  }

  /** The newest tokens as the session that asks is to hold them. */
  get #ofSession(): TokenSet {
    return withShare(this.#tokens, this.#share)
  }

  async #rereadSession(): Promise<void> {
    const { copies, known } = this.#context
    let copy: unknown
    try {
      copy = await this.#session.reread()
    } catch (error) {
      throw sessionStoreFailed(error, this.#secrets)
    }
    if (known.ended(this.#tokens.grantId)) throw loggedOut()
    const found = copies.read(copy)
    if (!found && typeof copy === 'string') throw new TokenError('ERR_SESSION_STORE', UNREADABLE)
    this.#take(found)
  }

  async #adopt(state: GrantState): Promise<void> {
    const { copies, known, restoration } = this.#context
    if (state.ended) known.end(this.#tokens.grantId, state.ended)
    if (state.ended || known.ended(this.#tokens.grantId)) throw loggedOut()
    const found = copies.readRecord(this.#tokens, state.record?.tokens)
    if (found && !(await this.#isOfGrant(found))) throw loggedOut()
    this.#take(found)
    restoration.noteState(this.#tokens.grantId, state, this.#session.home)
    const { shares } = found ?? this.#tokens
    await this.#askGrantStore(
      this.#context.writes.learnOfShare(this.#ofSession, { ...(shares && { shares }) }),
      GRANT_STORE_TIMEOUT_MS,
    )
    if (known.endOf(this.#ofSession)) throw loggedOut()
  }

  /**
   * Whether the session's tokens show that they are of the grant whose record was found. Those without a proof do so by a
   * token; where another process has just refreshed, by one that the session is about to have.
   */
  async #isOfGrant(found: TokenSet): Promise<boolean> {
    const { copies, known } = this.#context
    const isProven = () => copies.isProof(this.#tokens) || sharesToken(this.#tokens, found)
    if (isProven()) return true
    const { grantId } = this.#tokens
    this.#tokens = newest(this.#tokens, known.get(grantId))
    for (const wait of [undefined, crossingIsOver]) {
      await wait?.()
      if (isProven()) return true
      const reread = copies.read(await this.#session.reread().catch(() => undefined))
      this.#tokens = newest(this.#tokens, reread)
    }
    return isProven()
  }

  #take(found: TokenSet | undefined): void {
    const newer = newest(this.#tokens, found)
    // The copy in a session does not say which other sessions there are.
    const { shares = newer.shares } = found ?? {}
    const tokens = newer.shares === shares ? newer : ownProperties({ ...newer, ...(shares && { shares }) })
    if (tokens !== this.#tokens) this.#context.known.learn(tokens, true)
    this.#secrets.push(...secretsOf(tokens))
    this.#tokens = tokens
  }

  /** The grant store's answer; `undefined` where it failed and this process goes on by itself. */
  async #orWithout<T>(answer: Promise<T>): Promise<T | undefined> {
    const { emit, onGrantStoreError } = this.#context
    try {
      return await answer
    } catch (error) {
      if (onGrantStoreError !== 'local') throw error
      emit({ type: 'grant_store_failed', grantId: this.#tokens.grantId, error: error as TokenError })
      return undefined
    }
  }

  async #askGrantStore<T>(operation: Promise<T>, timeoutMs: number): Promise<T> {
    try {
      return await within(timeoutMs, operation, noAnswer)
    } catch (error) {
      throw grantStoreFailed('The grant store cannot be reached', { cause: error, secrets: this.#secrets })
    }
  }
}

const noAnswer = () => new Error('The grant store did not answer in time.')
