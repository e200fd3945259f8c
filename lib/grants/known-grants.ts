import { LRUCache } from 'lru-cache'
import { type Clock, systemClock } from '../clock.js'
import { keptError, type TokenError } from '../errors.js'
import { digestOf, identityOf, partsOf, sharesToken } from '../grant-proof.js'
import { isDead, type TokenSet, withShare } from '../token-set.js'
import type { GrantEnd } from './grant-store.js'
import { Remembered } from './remembered.js'

interface Known {
  readonly tokens: TokenSet
  /** Whether another process has got the tokens. */
  readonly elsewhere: boolean
  /** When this process learned of the tokens, on both clocks. */
  readonly learnedAt: { readonly now: number; readonly monotonic: number }
}

export interface KnownGrantsOptions {
  /** Default: 10,000. What is forgotten is looked up in the session store when a session is saved. */
  readonly maxGrants?: number
}

/** Ends are bounded by time first. One that is forgotten here before its time is in the grant store still. */
const MAX_ENDED = 1_000_000
const MAX_REFUSED = 10_000
const MAX_HEARD = 10_000
const MAX_PRESENTED = 10_000
/** For how long an end is remembered that this process has heard of: it is not said how long the session lives. */
const END_TTL_MS = 30 * 24 * 60 * 60 * 1000

/** What this process knows of grants without asking anybody: newer tokens than a request's session may hold, and ends. */
export class KnownGrants {
  readonly #clock: Clock
  readonly #known: LRUCache<string, Known>
  readonly #ended: Remembered<GrantEnd>
  /** The grants that the grant store was asked for, and had nothing to say of. */
  readonly #heard = new LRUCache<string, true>({ max: MAX_HEARD })
  /** Digests of the refresh tokens that were presented, as long as nothing says that they were not spent. */
  readonly #presented = new LRUCache<string, string>({ max: MAX_PRESENTED })
  readonly #refused = new LRUCache<string, { readonly digest: string; readonly error: TokenError }>({
    max: MAX_REFUSED,
  })
  readonly #listeners = new Set<(grantId: string) => void>()

  constructor(clock: Clock, { maxGrants = 10_000 }: KnownGrantsOptions = {}) {
    this.#clock = clock
    this.#known = new LRUCache({ max: maxGrants })
    this.#ended = new Remembered(() => clock.monotonic(), MAX_ENDED)
  }

  get(grantId: string): TokenSet | undefined {
    return this.#known.get(grantId)?.tokens
  }

  /** The same, for upkeep: it does not count as a use. */
  peek(grantId: string): TokenSet | undefined {
    return this.#known.peek(grantId)?.tokens
  }

  /** Keeps a token set if it is newer than the one known. `elsewhere` says that another process has got it. */
  learn(tokens: TokenSet, elsewhere = false): void {
    const known = this.#known.get(tokens.grantId)
    if (this.#ended.has(tokens.grantId) || (known && known.tokens.revision >= tokens.revision)) return
    this.#known.set(tokens.grantId, {
      tokens: withShare(tokens, undefined),
      elsewhere,
      learnedAt: { now: this.#clock.now(), monotonic: this.#clock.monotonic() },
    })
    if (isDead(tokens)) this.#tellOver(tokens.grantId)
  }

  /**
   * Whether a token set that came without a proof of its own is of the grant that it names, as far as this process knows: it
   * holds a token that the grant has or had, or the key that its record was opened with.
   */
  proves(tokens: TokenSet): boolean {
    const known = this.#known.peek(tokens.grantId)
    if (!known || known.tokens === tokens) return true
    if (tokens.isElsewhere) return tokens.proof === known.tokens.proof
    return sharesToken(tokens, known.tokens)
  }

  /** Whether the newest token set was heard of from another process less than so many milliseconds ago. */
  heardWithin(ms: number, grantId: string): boolean {
    const known = this.#known.get(grantId)
    return known?.elsewhere === true && this.#clock.monotonic() - known.learnedAt.monotonic < ms
  }

  /**
   * The time by which the grant's tokens are judged, in milliseconds since the epoch. It does not go back behind the
   * moment when the tokens were learned plus the time that has passed since, whatever happens to the machine's clock.
   */
  now(grantId: string): number {
    const learnedAt = this.#known.get(grantId)?.learnedAt
    const now = this.#clock.now()
    return learnedAt ? Math.max(now, learnedAt.now + this.#clock.monotonic() - learnedAt.monotonic) : now
  }

  /** @param ttlMs for how long the session of the grant could come back, in milliseconds. Default: 30 days */
  end(grantId: string, why: GrantEnd, ttlMs = END_TTL_MS): void {
    this.#known.delete(grantId)
    this.#refused.delete(grantId)
    this.#ended.set(grantId, this.#ended.get(grantId) ?? why, ttlMs)
    this.#tellOver(partsOf(grantId).grantId)
  }

  /**
   * Calls back whenever tokens of a grant are of no use any more, since the grant or one of its sessions has ended: they are
   * to leave the memory. Returns a function that ends the calls.
   */
  onOver(listener: (grantId: string) => void): () => void {
    this.#listeners.add(listener)
    return () => void this.#listeners.delete(listener)
  }

  #tellOver(grantId: string): void {
    for (const listener of this.#listeners) listener(grantId)
  }

  /** Whether a token set holds tokens that are of no use any more: its grant has ended, or its session has left it. */
  holdsEndedTokens(tokens: TokenSet): boolean {
    if (isDead(tokens)) return false
    const known = this.#known.peek(tokens.grantId)
    return this.endOf(tokens) !== undefined || (known !== undefined && isDead(known.tokens))
  }

  /** Whether this process has heard of the grant from a login, a refresh or the grant store. */
  hasHeardOf(grantId: string): boolean {
    return this.#known.has(grantId) || this.#heard.has(grantId) || this.#ended.has(grantId)
  }

  /** The grant store has said what it knows of the grant. */
  hear(grantId: string): void {
    this.#heard.set(grantId, true)
  }

  ended(grantId: string): GrantEnd | undefined {
    return this.#ended.get(grantId)
  }

  /** Why a session's share of a grant has ended, or the grant as a whole. */
  endOf(tokens: Pick<TokenSet, 'grantId' | 'share'>): GrantEnd | undefined {
    const ended = this.ended(tokens.grantId)
    return ended ?? (tokens.share === undefined ? undefined : this.ended(identityOf(tokens)))
  }

  /** A refresh token is about to be presented: from now on it may be spent. */
  present(grantId: string, refreshToken: string): void {
    this.#presented.set(grantId, digestOf(refreshToken))
  }

  /** The authorization server has not spent the refresh token that was presented last. */
  keepUnspent(grantId: string): void {
    this.#presented.delete(grantId)
  }

  /** Whether a refresh token was presented, and it is not known that it can be presented again. */
  mayBeSpent(grantId: string, refreshToken: string): boolean {
    return this.#presented.get(grantId) === digestOf(refreshToken)
  }

  /** The authorization server takes a refresh token no more. */
  refuse(grantId: string, refreshToken: string, error: TokenError): void {
    this.#refused.set(grantId, { digest: digestOf(refreshToken), error: keptError(error) })
  }

  /** With what the authorization server has refused a refresh token. */
  refusalOf(grantId: string, refreshToken: string): TokenError | undefined {
    const refused = this.#refused.get(grantId)
    return refused && refused.digest === digestOf(refreshToken) ? refused.error : undefined
  }
}

/** What this process knows, whoever asks: two middlewares of one app, mounted for the same sessions, know the same. */
export const knownInThisProcess = new KnownGrants(systemClock)
