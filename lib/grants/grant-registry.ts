import { LRUCache } from 'lru-cache'
import { type Clock, systemClock } from '../concurrency/clock.js'
import type { EndReason } from '../tokens/events.js'
import type { GrantIdentity } from '../tokens/grant-proof.js'
import { isDead, type TokenSet } from '../tokens/token-set.js'
import { EndListeners } from './end-listeners.js'
import { ExpiringMap } from './expiring-map.js'
import { type EndedShares, Grant } from './grant.js'
import type { GrantEnd } from './grant-store.js'

export interface GrantRegistryOptions {
  /** Default: 10,000. Tokens of a forgotten grant are read from the session when it is saved. */
  readonly maxGrants?: number
}

/**
 * How many ends are remembered. Usually their times to live keep the number below this. An end that is forgotten here too early
 * is still in the grant store.
 */
const MAX_ENDED = 1_000_000
const MAX_ASKED = 10_000
/** How long an end from the grant store is remembered. The grant store does not say how long the session lives. */
const END_TTL_MS = 30 * 24 * 60 * 60 * 1000

/** Called with the id of a grant. */
export type GrantListener = (grantId: string) => void

/** All grants that this process knows, and the ends of grants. No method does I/O. */
export class GrantRegistry {
  readonly #clock: Clock
  readonly #grants: LRUCache<string, Grant>
  /** Grants with a refresh in flight. They are not forgotten. */
  readonly #inFlight = new Map<string, Grant>()
  readonly #ended: ExpiringMap<GrantEnd>
  /** The ends of shares, for grants that have not ended as a whole. */
  readonly #endedShares: ExpiringMap<EndedShares>
  /** The grants that the grant store was asked about. */
  readonly #asked = new LRUCache<string, true>({ max: MAX_ASKED })
  readonly #onChange = new Set<GrantListener>()
  readonly #onEnded = new Set<GrantListener>()
  readonly #endListeners = new EndListeners()

  constructor(clock: Clock, { maxGrants = 10_000 }: GrantRegistryOptions = {}) {
    this.#clock = clock
    this.#grants = new LRUCache({ max: maxGrants })
    const now = clock.monotonic.bind(clock)
    this.#ended = new ExpiringMap(MAX_ENDED, undefined, now)
    this.#endedShares = new ExpiringMap(MAX_ENDED, undefined, now)
  }

  /** Returns the grant of an id. An unknown grant is created. */
  grant(grantId: string): Grant {
    const known = this.grantIfKnown(grantId)
    if (known) return known
    const grant = new Grant(grantId, this.#clock, this.#ended.get(grantId), this.#endedShares.get(grantId))
    this.#grants.set(grantId, grant)
    return grant
  }

  /** Returns a known grant. */
  grantIfKnown(grantId: string): Grant | undefined {
    return this.#inFlight.get(grantId) ?? this.#grants.get(grantId)
  }

  /** Returns a known grant. The look-up does not count as a use. */
  peek(grantId: string): Grant | undefined {
    return this.#inFlight.get(grantId) ?? this.#grants.peek(grantId)
  }

  /** Returns the newest token set of a grant that this process knows. */
  tokensOf(grantId: string): TokenSet | undefined {
    return this.grantIfKnown(grantId)?.tokens
  }

  /**
   * Returns the newest token set of a session's grant that this process knows; `'ended'` if the session's share of the grant has
   * ended, or the grant as a whole.
   */
  newestOf(of: GrantIdentity): TokenSet | 'ended' | undefined {
    const grant = this.grantIfKnown(of.grantId)
    const ended = grant ? grant.endOf(of.share) : this.endOf(of)
    return ended ? 'ended' : grant?.tokens
  }

  /** Whether another process has refreshed a grant a moment ago, see {@link Grant.wasRefreshedElsewhere}. */
  wasRefreshedElsewhere(grantId: string): boolean {
    return this.peek(grantId)?.wasRefreshedElsewhere ?? false
  }

  /** Returns the time by which a grant's tokens are judged, in milliseconds since the epoch, see {@link Grant.now}. */
  now(grantId: string): number {
    return this.peek(grantId)?.now() ?? this.#clock.now()
  }

  /** Keeps a token set if its grant has not ended and it is newer than the known one. Returns whether it was kept. */
  learn(tokens: TokenSet, isFromAnotherProcess = false): boolean {
    const { grantId } = tokens
    const grant = this.grant(grantId)
    if (!grant.learn(tokens, isFromAnotherProcess)) return false
    this.#notify(grantId, grant.isDead)
    return true
  }

  /** Whether a token set without a proof of its own is of the grant that it names, see {@link Grant.proves}. */
  proves(tokens: TokenSet): boolean {
    return this.peek(tokens.grantId)?.proves(tokens) ?? true
  }

  /** Keeps a grant in memory for as long as its refresh is in flight. */
  pin(grant: Grant): void {
    this.#inFlight.set(grant.id, grant)
  }

  unpin(grant: Grant): void {
    this.#inFlight.delete(grant.id)
    this.#grants.set(grant.id, grant)
  }

  /**
   * Ends a grant, or the share of one session.
   *
   * @param ttlMs how long the session could come back, in milliseconds. Default: 30 days
   */
  end(of: GrantIdentity, reason: GrantEnd, ttlMs = END_TTL_MS): void {
    const { grantId, share } = of
    const grant = this.peek(grantId)
    if (share === undefined) {
      this.#ended.set(grantId, this.#ended.get(grantId) ?? reason, ttlMs)
      this.#endedShares.delete(grantId)
      if (grant?.end(reason)) this.#grants.delete(grantId)
    } else {
      const earlier = this.#endedShares.get(grantId)
      const ended = new Map(earlier).set(share, earlier?.get(share) ?? reason)
      this.#endedShares.set(grantId, ended, ttlMs)
      grant?.setEndedShares(ended)
    }
    this.#notify(grantId, true)
  }

  /** Returns why a grant has ended. */
  ended(grantId: string): GrantEnd | undefined {
    const grant = this.peek(grantId)
    return grant ? grant.ended : this.#ended.get(grantId)
  }

  /** Returns why a session's share of a grant has ended, or the grant as a whole. */
  endOf(of: GrantIdentity): GrantEnd | undefined {
    const { grantId, share } = of
    const grant = this.peek(grantId)
    if (grant) return grant.endOf(share)
    const ended = this.#ended.get(grantId)
    return ended ?? (share === undefined ? undefined : this.#endedShares.get(grantId)?.get(share))
  }

  /**
   * Calls the listener when newer tokens of a grant are learned, and when the grant or the share of a session has ended. Returns a
   * function that stops the calls.
   */
  onChange(listener: GrantListener): () => void {
    this.#onChange.add(listener)
    return () => void this.#onChange.delete(listener)
  }

  /** Calls the listener when a grant or the share of a session has ended. Returns a function that stops the calls. */
  onEnded(listener: GrantListener): () => void {
    this.#onEnded.add(listener)
    return () => void this.#onEnded.delete(listener)
  }

  #notify(grantId: string, isEnded: boolean): void {
    for (const listener of this.#onChange) listener(grantId)
    if (!isEnded) return
    for (const listener of this.#onEnded) listener(grantId)
    this.#endListeners.notify(grantId)
  }

  /**
   * Calls the listener once, with the reason, when a session's share of a grant ends, or the grant as a whole. If it has ended
   * already, calls the listener before this method returns. Returns a function that removes the listener.
   */
  onEnd(of: GrantIdentity, listener: (reason: EndReason) => void): () => void {
    const stop = this.#endListeners.add(of, () => {
      const reason = this.endOf(of) ?? (this.peek(of.grantId)?.isDead ? 'invalid_grant' : undefined)
      if (!reason) return
      stop()
      listener(reason)
    })
    this.#endListeners.notify(of.grantId)
    return stop
  }

  /** Whether a token set holds tokens that are not needed any more: its grant has ended, or its session has left the grant. */
  holdsEndedTokens(tokens: TokenSet): boolean {
    const { grantId, share } = tokens
    const grant = this.peek(grantId)
    const hasEnded = grant
      ? grant.endOf(share) !== undefined || grant.isDead
      : this.endOf(tokens) !== undefined
    return hasEnded && !isDead(tokens)
  }

  /** Whether this process has learned of the grant from a login, a refresh or the grant store. */
  hasLearnedOf(grantId: string): boolean {
    return this.tokensOf(grantId) !== undefined || this.#asked.has(grantId) || this.#ended.has(grantId)
  }

  /** Notes that the grant store was asked about a grant and responded. */
  noteAsked(grantId: string): void {
    this.#asked.set(grantId, true)
  }
}

/** The grants that this process knows. All middlewares share them, so two middlewares over one session have the same state. */
export const processGrants = new GrantRegistry(systemClock)
