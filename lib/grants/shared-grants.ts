import { randomUUID } from 'node:crypto'
import { CircuitBreaker } from '../concurrency/circuit-breaker.js'
import type { Clock } from '../concurrency/clock.js'
import { GRANT_STORE_TIMEOUT_MS, QUICK_TIMEOUT_MS } from '../concurrency/time-constants.js'
import { withTimeout } from '../concurrency/with-timeout.js'
import { OwnError, TokenError, type TokenErrorDetails } from '../errors/token-error.js'
import { ownProperties } from '../options/own-properties.js'
import type { EmitEvent } from '../tokens/event-emitter.js'
import { type GrantIdentity, identityOf, wholeGrant } from '../tokens/grant-proof.js'
import { isDead, type TokenSet } from '../tokens/token-set.js'
import type { GrantRegistry } from './grant-registry.js'
import type { EndedGrant, GrantEnd, GrantRecord, GrantState, GrantStore, Retention } from './grant-store.js'
import { failureOf, grantStoreError } from './grant-store-error.js'
import { HEARD_END_TTL_MS, News } from './news.js'

/** Names the grant whose record is read, and holds the proof that opens the record. */
export type GrantKey = Pick<TokenSet, 'grantId' | 'proof' | 'share'>

/** Turns token sets into the texts that a grant store keeps, and back. */
export interface RecordCodec {
  record(tokens: TokenSet): string
  /** Returns `undefined` for a text that this process cannot read, or that is not of the grant. */
  readRecord(of: GrantKey, record: string | undefined): TokenSet | undefined
}

/** Names the labels by which the grant store finds the grant of a token set. */
export interface RecordLabels {
  ofTokens(tokens: TokenSet): readonly string[]
}

export interface SharedGrantsContext {
  readonly store: GrantStore
  /** Whether the option `grants` is given and is not a grant store in memory, so that other processes may use the store, too. */
  readonly isShared: boolean
  readonly registry: GrantRegistry
  readonly codec: RecordCodec
  readonly clock: Clock
  readonly emit: EmitEvent
  /** Names the client and its authorization server. */
  readonly audience: string
  readonly labels: RecordLabels
}

/** The state of a grant in the grant store, with the token set of its record if this process can read it. */
export interface SharedState extends GrantState {
  readonly tokens?: TokenSet
}

/** The facts of the end of a grant in another process. */
const LEARNED = { scope: 'grant', isLocal: false } as const

/** The one client of the grant store: it speaks token sets, bounds each wait, maps errors, and learns from each response. */
export class SharedGrants {
  /** Whether other processes may use the grant store, too, see {@link SharedGrantsContext}. */
  readonly isShared: boolean
  readonly store: GrantStore
  readonly news: News
  /** Called with each state of a grant in a response of the grant store. */
  onState: (grantId: string, state: GrantState) => void = () => {}
  readonly #context: SharedGrantsContext
  /** Open while the grant store fails: then no caller waits for it. */
  readonly #breaker = new CircuitBreaker(1)
  #openedAt = 0

  constructor(context: SharedGrantsContext) {
    this.#context = context
    this.isShared = context.isShared
    this.store = context.store
    this.news = new News(context)
    this.news.onEnd = (of, reason) => this.#hearEnd(of, reason)
    this.news.onChange = (grantId) => this.#hearChange(grantId)
  }

  /** Reads the newest state of a grant, and learns from it. */
  async read(of: GrantKey, timeoutMs = GRANT_STORE_TIMEOUT_MS): Promise<SharedState> {
    const { registry, store } = this.#context
    const state = ownProperties(await withTimeout(timeoutMs, store.read(of.grantId), noResponse))
    const tokens = this.learn(of, state)
    if (isOfSeveral(of.share, tokens ?? registry.tokensOf(of.grantId))) await this.learnOfShare(of, timeoutMs)
    registry.noteAsked(of.grantId)
    return ownProperties({ ...state, ...(tokens && { tokens }) })
  }

  /**
   * Reads the newest state of a grant, and learns from it, if the grant store responds soon. Resolves with whether it did. Never
   * rejects.
   *
   * @param isUrgent whether the store is asked even while it fails
   */
  async readQuickly(of: GrantKey, isUrgent = false): Promise<boolean> {
    const read = () => withTimeout(QUICK_TIMEOUT_MS, this.read(of), noResponse)
    try {
      await (isUrgent ? read() : this.guarded(of.grantId, read))
      return true
    } catch {
      // A caller that needs a refresh gets the error.
      return false
    }
  }

  /** Whether the grant store has failed several times in a row, and has not responded since. */
  get isFailing(): boolean {
    return this.#breaker.isOpen
  }

  /** Throws `ERR_GRANT_STORE`, with `retryAfterMs`, while the grant store fails: it is asked again about once a second. */
  throwWhileFailing(grantId: string): void {
    if (!this.isFailing) return
    const retryAfterMs = Math.ceil(this.#breaker.waitMs(grantId, this.#context.clock.monotonic()))
    if (retryAfterMs === 0) return
    throw new TokenError(
      'ERR_GRANT_STORE',
      'The grant store has failed several times in a row, so it was not asked. It is asked again about once a second. The ' +
        'events grant_store_failed and refresh_failed before breaker_opened say why.',
      { retryAfterMs },
    )
  }

  /** Runs an operation of the grant store, unless the store fails. */
  async guarded<T>(grantId: string, operation: () => Promise<T>): Promise<T> {
    const { clock, emit } = this.#context
    this.throwWhileFailing(grantId)
    const breaker = this.#breaker
    if (this.isShared) this.news.listen()
    const startedAt = clock.monotonic()
    if (breaker.isOpen) breaker.started(grantId, startedAt)
    try {
      const result = await operation()
      const wasOpen = breaker.isOpen
      if (!breaker.isWell) breaker.succeeded(startedAt)
      if (wasOpen && !breaker.isOpen) {
        const durationMs = clock.monotonic() - this.#openedAt
        emit({ type: 'breaker_closed', grantId, of: 'grant_store', durationMs })
      }
      return result
    } catch (error) {
      const wasOpen = breaker.isOpen
      const now = clock.monotonic()
      breaker.failed(grantId, now)
      if (!wasOpen && breaker.isOpen) {
        this.#openedAt = now
        emit({ type: 'breaker_opened', grantId, of: 'grant_store', error: asTokenError(error) })
      }
      throw error
    }
  }

  /** Reads the newest state of a grant, or the end of a share, without learning from it. */
  async peek(of: GrantIdentity, timeoutMs = GRANT_STORE_TIMEOUT_MS): Promise<GrantState> {
    return ownProperties(await withTimeout(timeoutMs, this.#context.store.read(identityOf(of)), noResponse))
  }

  /** Returns a token set as the grant store keeps it. */
  recordOf(tokens: TokenSet): GrantRecord {
    const { codec } = this.#context
    const labels = this.#context.labels.ofTokens(tokens)
    const { revision } = tokens
    return ownProperties({ revision, tokens: codec.record(tokens), ...(labels.length > 0 && { labels }) })
  }

  /**
   * Commits a token set, and learns from the response. `isOurs` is true if the store holds this very set afterwards.
   *
   * @param isStoredAgain whether the grant store may have had the grant before, see `GrantRecord`
   */
  async commit(
    tokens: TokenSet,
    retention: Retention | undefined,
    isStoredAgain: boolean,
    timeoutMs = QUICK_TIMEOUT_MS,
  ): Promise<SharedState & { readonly isOurs: boolean }> {
    const { codec, registry, store } = this.#context
    const { grantId } = tokens
    const first = this.recordOf(tokens)
    const record = isStoredAgain ? ownProperties({ ...first, isStoredAgain }) : first
    const committing = store.commit(grantId, randomUUID(), record, retention)
    const state = ownProperties(await withTimeout(timeoutMs, committing, noResponse))
    if (state.ended) this.learnEnd(wholeGrant(grantId), state.ended)
    const isOurs = !state.ended && (!state.record || state.record.tokens === record.tokens)
    if (isOurs) registry.learn(tokens)
    const held = isOurs ? tokens : codec.readRecord(tokens, state.record?.tokens)
    return ownProperties({ ...state, isOurs, ...(held && { tokens: held }) })
  }

  /** Ends a grant, or the share of one session, and tells the other processes. Resolves with the record that the store had. */
  async end(
    of: GrantIdentity,
    reason: GrantEnd,
    retention: Retention | undefined,
    timeoutMs = GRANT_STORE_TIMEOUT_MS,
  ): Promise<EndedGrant | undefined> {
    const ending = this.#context.store.end(identityOf(of), reason, retention)
    if (this.isShared) this.news.tellEnd(of, reason)
    const ended = await withTimeout(timeoutMs, ending, noResponse)
    return ended && ownProperties(ended)
  }

  /** Learns from a state that the grant store has shown. Returns the token set in its record, if this process can read it. */
  learn(of: GrantKey, state: GrantState): TokenSet | undefined {
    const { grantId } = of
    if (state.ended) this.learnEnd(wholeGrant(grantId), state.ended)
    const tokens = this.#context.codec.readRecord(of, state.record?.tokens)
    if (tokens) this.learnTokens(tokens)
    this.onState(grantId, state)
    return tokens
  }

  /** Learns whether a session's share of a grant has ended, see {@link isOfSeveral}. */
  async learnOfShare(of: GrantKey, timeoutMs = GRANT_STORE_TIMEOUT_MS): Promise<void> {
    const { ended } = await this.peek(of, timeoutMs)
    if (ended) this.learnEnd(of, ended)
  }

  /**
   * Learns tokens that another process has stored. Emits `ended` if they are of a grant that the authorization server has ended.
   */
  learnTokens(tokens: TokenSet): void {
    const { emit, registry } = this.#context
    const { grantId } = tokens
    const isNew = registry.learn(tokens, true)
    if (isNew && isDead(tokens)) emit({ type: 'ended', grantId, reason: 'invalid_grant', ...LEARNED })
  }

  /** Learns that another process has ended a grant, or the share of one session. */
  learnEnd(of: GrantIdentity, reason: GrantEnd): void {
    const { emit, registry } = this.#context
    const { grantId, share } = of
    const isKnown = registry.endOf(of) !== undefined
    registry.end(of, reason)
    if (isKnown) return
    emit({ type: 'ended', grantId, reason, ...LEARNED, ...(share !== undefined && { scope: 'session' }) })
  }

  /** Learns of an end from the news. Emits it only if this process has used the grant. */
  #hearEnd(of: GrantIdentity, reason: GrantEnd): void {
    const { registry } = this.#context
    if (registry.peek(of.grantId)) this.learnEnd(of, reason)
    else registry.end(of, reason, HEARD_END_TTL_MS)
  }

  #hearChange(grantId: string): void {
    const tokens = this.#context.registry.peek(grantId)?.tokens
    if (tokens) void this.readQuickly(tokens)
  }

  /** Emits that the grant store failed. Returns the error. */
  failed(grantId: string, what: string, cause: unknown, details: TokenErrorDetails = {}): TokenError {
    const error = grantStoreError(what, { cause, ...details })
    this.#context.emit({ type: 'grant_store_failed', grantId, error })
    return error
  }

  /**
   * Waits for an operation of the grant store. Rejects with a `TokenError` after a failure, and when there is no response in
   * time.
   */
  async ask<T>(operation: Promise<T>, timeoutMs: number, secrets: () => readonly string[]): Promise<T> {
    try {
      return await withTimeout(timeoutMs, operation, noResponse)
    } catch (cause) {
      throw grantStoreError(failureOf(cause), { cause, secrets: secrets() })
    }
  }
}

/** Whether a session shares its grant with other sessions, or did. Then its share may have ended while the grant goes on. */
export function isOfSeveral(share: string | undefined, tokens: TokenSet | undefined): boolean {
  const shares = tokens?.shares
  if (share === undefined || shares === undefined) return false
  return shares.length !== 1 || shares[0] !== share
}

const noResponse = () => new OwnError('The grant store did not respond in time.')

function asTokenError(error: unknown): TokenError {
  return error instanceof TokenError ? error : grantStoreError('The grant store failed', { cause: error })
}
