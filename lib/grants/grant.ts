import type { Clock } from '../concurrency/clock.js'
import { RECENT_REFRESH_MS } from '../concurrency/time-constants.js'
import { type TokenError, withoutLiveStack } from '../errors/token-error.js'
import type { AccessToken } from '../tokens/access-token.js'
import { digestOf, isShareOf, sharesToken } from '../tokens/grant-proof.js'
import { isDead, newest, type TokenSet, withShare } from '../tokens/token-set.js'
import type { GrantEnd } from './grant-store.js'
import { RefreshBackoff } from './refresh-backoff.js'

/** The result of a refresh. */
export interface RefreshOutcome {
  readonly accessToken: AccessToken
  /** Whether this refresh got the token from the authorization server. If not, another process was faster. */
  readonly fresh: boolean
}

/** The result of the revocation of a grant that was logged out during its refresh. */
export type Revocation = 'revoked' | TokenError

/** A refresh that is in flight. */
export interface RefreshInFlight {
  /** Names the access token that it gets, see `needKey()`. */
  readonly key: string
  /** Resolves with `undefined` if no caller waits for the refresh and another process holds the lease. */
  readonly outcome: Promise<RefreshOutcome | undefined>
  /** On the monotonic clock, in milliseconds. */
  readonly startedAt: number
  /** How many callers have waited for it. */
  waiting: number
  /** After the end of the refresh: the result of the revocation, if the grant was logged out during the refresh. */
  readonly revocation: () => Revocation | undefined
}

/** Why the shares of sessions have ended, by share. */
export type EndedShares = ReadonlyMap<string, GrantEnd>

/** A refresh token that the authorization server rejected. */
interface Rejection {
  readonly digest: string
  readonly error: TokenError
}

/** All that this process knows of one grant. No method does I/O. */
export class Grant {
  readonly id: string
  readonly backoff = new RefreshBackoff()
  /** The refresh of this grant in this process. There is one at a time. */
  inFlight: RefreshInFlight | undefined
  /** The newest revision whose refresh token has expired by the clock of this host, as a refresh has found under the lease. */
  expiredRevision: number | undefined
  readonly #clock: Clock
  /** Why the grant has ended. Only the constructor and `end()` set it. */
  ended: GrantEnd | undefined
  #endedShares: EndedShares | undefined
  /** The newest token set that this process knows. Only `learn()` and `end()` change it. */
  tokens: TokenSet | undefined
  /** Whether the newest token set is that of a grant that the authorization server has ended. Only `learn()` and `end()` change it. */
  isDead = false
  /** Whether another process got the newest token set. */
  isFromAnotherProcess = false
  /** Between 0 and 1: how long a refresh ahead of expiry is delayed, see `isDueAhead()`. Another one for each token set. */
  jitter = Math.random()
  /** When this process learned of the tokens, on both clocks. */
  #learnedAt = { now: 0, monotonic: 0 }
  /** When this process last learned of a refresh by another process, on the monotonic clock. It may have newer tokens by now. */
  #refreshedElsewhereAt = Number.NEGATIVE_INFINITY
  #rejection: Rejection | undefined
  /** The digest of a refresh token that was sent and may have been spent. */
  #presented: string | undefined
  /** The share that was last found to be one of this grant. */
  #knownShare: string | undefined

  constructor(id: string, clock: Clock, ended?: GrantEnd, endedShares?: EndedShares) {
    this.id = id
    this.#clock = clock
    this.ended = ended
    this.#endedShares = endedShares
  }

  /** Returns why a session's share of the grant has ended, or the grant as a whole. */
  endOf(share: string | undefined): GrantEnd | undefined {
    if (this.ended || share === undefined) return this.ended
    return this.#endedShares?.get(share) ?? (this.#isForeign(share) ? 'logged_out' : undefined)
  }

  /** Whether this grant never gave out a share, as far as this process knows: the session with the share was edited. */
  #isForeign(share: string): boolean {
    const shareKey = this.tokens?.shareKey
    if (shareKey === undefined || share === this.#knownShare) return false
    if (!isShareOf(shareKey, share)) return true
    this.#knownShare = share
    return false
  }

  /** Replaces the map of the shares that have ended. */
  setEndedShares(ended: EndedShares): void {
    this.#endedShares = ended
  }

  /** Keeps a token set if the grant has not ended and the set is newer than the known one, see `newest()`. Returns whether it does. */
  learn(tokens: TokenSet, isFromAnotherProcess: boolean): boolean {
    if (this.ended || (this.tokens && newest(this.tokens, tokens) === this.tokens)) return false
    this.tokens = withShare(tokens, undefined)
    this.isDead = isDead(tokens)
    this.isFromAnotherProcess = isFromAnotherProcess
    this.jitter = Math.random()
    this.#learnedAt = { now: this.#clock.now(), monotonic: this.#clock.monotonic() }
    if (isFromAnotherProcess) this.#refreshedElsewhereAt = this.#learnedAt.monotonic
    return true
  }

  /** Ends the grant, and forgets its tokens. Returns whether the grant can be forgotten, since it holds no presented token. */
  end(reason: GrantEnd): boolean {
    this.ended ??= reason
    this.tokens = undefined
    this.isDead = false
    this.#rejection = undefined
    return this.#presented === undefined
  }

  /** Whether this process has learned within the last `RECENT_REFRESH_MS` that another process has refreshed the grant. */
  get wasRefreshedElsewhere(): boolean {
    return this.#clock.monotonic() - this.#refreshedElsewhereAt < RECENT_REFRESH_MS
  }

  /**
   * Returns the time that decides whether a token has expired, in milliseconds since the epoch. It goes on from the moment when
   * the tokens were learned, even if the machine's clock is set back.
   */
  now(): number {
    const now = this.#clock.now()
    if (!this.tokens) return now
    return Math.max(now, this.#learnedAt.now + this.#clock.monotonic() - this.#learnedAt.monotonic)
  }

  /**
   * Whether a token set without a proof of its own is of this grant, as far as this process knows: it holds a token that the
   * grant has or had, or the key of its record.
   */
  proves(tokens: TokenSet): boolean {
    const known = this.tokens
    if (!known || known === tokens) return true
    return tokens.isReference ? tokens.proof === known.proof : sharesToken(tokens, known)
  }

  /**
   * Notes that a refresh token is about to be sent. It may be spent from now on. Returns whether it may have been spent before: it
   * was sent, and there was no response.
   */
  present(refreshToken: string): boolean {
    const digest = digestOf(refreshToken)
    const mayBeSpent = this.#presented === digest
    this.#presented = digest
    return mayBeSpent
  }

  /** Notes that it is known whether the refresh token that was sent last is spent. */
  forgetPresented(): void {
    this.#presented = undefined
  }

  /** Whether a refresh token was sent and may have been spent, so that it must not be sent to be revoked. */
  mayBeSpent(refreshToken: string): boolean {
    return this.#presented !== undefined && this.#presented === digestOf(refreshToken)
  }

  /** Notes that the authorization server rejected a refresh token for good. */
  reject(refreshToken: string, error: TokenError): void {
    this.#rejection = { digest: digestOf(refreshToken), error: withoutLiveStack(error) }
  }

  /** Returns the error by which the authorization server rejected a refresh token. */
  rejectionOf(refreshToken: string): TokenError | undefined {
    const rejection = this.#rejection
    return rejection && rejection.digest === digestOf(refreshToken) ? rejection.error : undefined
  }
}
