import { MAX_RETRY_AFTER_MS } from '../concurrency/circuit-breaker.js'
import {
  ConfigurationError,
  StepUpError,
  TokenError,
  type TokenErrorDetails,
  withoutLiveStack,
} from '../errors/token-error.js'
import { needKey } from '../tokens/access-token.js'

/** A pause after a failed refresh. During the pause callers get the error again and the server is not asked. */
export interface Backoff {
  readonly error: TokenError
  /** How many refreshes failed in a row. */
  readonly failures: number
  /** When the pause begins and ends, on the monotonic clock in milliseconds. */
  readonly from: number
  readonly until: number
  /**
   * Whether the server could not be reached. Then a successful refresh of another grant shows that the server is back, and ends
   * the pause once.
   */
  readonly endsWithOutage: boolean
}

interface Bounds {
  readonly firstMs: number
  readonly maxMs: number
}

/** The pauses when the server could not be reached, or was too busy. A user waits for at most 10 s after the server is back. */
const UNAVAILABLE: Bounds = { firstMs: 1_000, maxMs: 10_000 }
/** The pauses when the server refused the client or the request, which lasts until an operator changes something. */
const REFUSED: Bounds = { firstMs: 1_000, maxMs: 60_000 }
/** The pauses when the server refused one need of a grant, which lasts until the user has logged in again or agreed. */
const NEED_REFUSED: Bounds = { firstMs: 60_000, maxMs: 900_000 }

const BOUNDS: Partial<Record<TokenError['code'], Bounds>> = {
  ERR_TOKEN_ENDPOINT_UNAVAILABLE: UNAVAILABLE,
  // A proxy between this process and the server may send such a response.
  ERR_INVALID_TOKEN_RESPONSE: UNAVAILABLE,
  ERR_CLIENT_REJECTED: REFUSED,
  ERR_TOKEN_ENDPOINT: REFUSED,
  ERR_CONFIGURATION: REFUSED,
  ERR_STEP_UP_REQUIRED: NEED_REFUSED,
  ERR_INSUFFICIENT_SCOPE: NEED_REFUSED,
}

/** By which part a pause may be shorter than its full length, so that many grants do not retry at the same moment. */
const JITTER = 1 / 4

/**
 * Returns the pause after a failed refresh, or `undefined` if the failure needs no pause, such as a failure of the grant store.
 *
 * A `Retry-After` of the server decides how long the pause is. A server that is back may be asked earlier.
 *
 * @param before the pause after the previous refresh
 * @param now the monotonic clock, in milliseconds
 * @param succeededAt when the server last refreshed another grant, on the monotonic clock
 */
export function backoffAfter(
  error: TokenError,
  before: Backoff | undefined,
  now: number,
  succeededAt = Number.NEGATIVE_INFINITY,
): Backoff | undefined {
  const bounds = isNeedRefusal(error) ? NEED_REFUSED : BOUNDS[error.code]
  if (!bounds) return undefined
  // After a time without failures that is longer than the longest pause, the shortest pause comes first again.
  const failures = before && now - before.until <= bounds.maxMs ? before.failures + 1 : 1
  const fullMs = Math.min(bounds.firstMs * 2 ** (failures - 1), bounds.maxMs)
  const askedMs = Math.min(error.retryAfterMs ?? 0, MAX_RETRY_AFTER_MS)
  const ms = askedMs || fullMs * (1 - JITTER * Math.random())
  // If the grant fails again while other grants succeed, the failure is not an outage of the server.
  const isOfGrant = failures > 1 && before !== undefined && succeededAt > before.from
  const endsWithOutage = error.code === 'ERR_TOKEN_ENDPOINT_UNAVAILABLE' && isOutage(error) && !isOfGrant
  return { error: withoutLiveStack(error), failures, from: now, until: now + ms, endsWithOutage }
}

/** Whether the server refused one need of a grant, while the grant itself is good. */
export function isNeedRefusal(error: TokenError): boolean {
  const { cause, code, error: oauthError } = error
  return (
    code === 'ERR_STEP_UP_REQUIRED' ||
    (code === 'ERR_INSUFFICIENT_SCOPE' && oauthError !== undefined) ||
    (code === 'ERR_REAUTHENTICATION_REQUIRED' && cause instanceof StepUpError)
  )
}

/**
 * Whether the failure of a refresh that names a scope, a resource or an audience may be about these only. A server that
 * cannot be reached, or refuses the client, does so for every need of the grant.
 */
export function mayBeAboutNeed({ code, error }: TokenError): boolean {
  if (code === 'ERR_CLIENT_REJECTED') return error === 'unauthorized_client'
  return code !== 'ERR_TOKEN_ENDPOINT_UNAVAILABLE'
}

/** Whether a failure is about the server. A 429 or an OAuth error is about this client or this user only. */
function isOutage({ error, responseStatus }: TokenError): boolean {
  return error === undefined && responseStatus !== 429
}

/** Returns the error of a pause, with the time that is left. */
function backoffError({ error, until }: Backoff, now: number): TokenError {
  const { cause, code, details: forOperator, error: oauthError, errorDescription, responseStatus } = error
  if (error instanceof StepUpError || error instanceof ConfigurationError) return error
  const details: TokenErrorDetails = {
    retryAfterMs: Math.ceil(until - now),
    ...(cause !== undefined && { cause }),
    ...(oauthError !== undefined && { error: oauthError }),
    ...(errorDescription !== undefined && { errorDescription }),
    ...(responseStatus !== undefined && { responseStatus }),
    ...(forOperator !== undefined && { details: forOperator }),
  }
  return new TokenError(code, error.message, details)
}

/** How many tokens that an API rejected were replaced in a short time, and when the last of them was replaced. */
export interface Replacements {
  readonly count: number
  /** On the monotonic clock, in milliseconds. */
  readonly lastAt: number
}

/** How many rejected tokens are replaced without a wait. Each further replacement within a minute has to wait. */
const AT_ONCE = 3
const MINUTE_MS = 60_000

/**
 * Returns the replacements after one more, or `undefined` if the next one comes too soon. An API that rejects every token, such
 * as one that expects another audience, would otherwise make the refresh token rotate at each call.
 */
export function nextReplacement(before: Replacements | undefined, now: number): Replacements | undefined {
  if (!before) return { count: 1, lastAt: now }
  const waitMs = before.count < AT_ONCE ? 0 : Math.min(1_000 * 2 ** (before.count - AT_ONCE), MINUTE_MS)
  const sinceMs = now - before.lastAt
  if (sinceMs < waitMs) return undefined
  const startsAnew = sinceMs > Math.max(MINUTE_MS, 2 * waitMs)
  return { count: startsAnew ? 1 : before.count + 1, lastAt: now }
}

/** The key of the access token of a refresh that names no need. */
const PLAIN = needKey({})
/** How many needs of one grant have a pause or a count of their own. */
const MAX_NEEDS = 50

/** The pauses of one grant after failed refreshes: one for the grant, and one for each need that was refused separately. */
export class RefreshBackoff {
  #pauses: Map<string, Backoff> | undefined
  #replacements: Map<string, Replacements> | undefined
  #aheadPausedUntil = Number.NEGATIVE_INFINITY
  #logins = 0

  /**
   * Ends all pauses if the user has logged in again since: the login may have met a requirement for which the server refused a
   * need.
   *
   * @param logins how many logins the newest tokens of the grant count, see `TokenSet`
   */
  noteLogins(logins = 0): void {
    if (logins <= this.#logins) return
    this.#logins = logins
    this.#pauses = undefined
  }

  /**
   * Throws the error of the last refresh, with `retryAfterMs`, during the pause of the grant or of the need.
   *
   * @param key names the access token, see `needKey()`
   * @param now the monotonic clock, in milliseconds; `succeededAt` likewise, when the server last refreshed another grant
   */
  throwDuringPause(key: string, now: number, succeededAt = Number.NEGATIVE_INFINITY): void {
    for (const pause of [this.#pauses?.get(GRANT), this.#pauses?.get(key)]) {
      if (!pause || pause.until <= now) continue
      if (pause.endsWithOutage && succeededAt > pause.from) continue
      throw backoffError(pause, now)
    }
  }

  /** Notes a failed refresh. */
  failed(key: string, error: TokenError, now: number, succeededAt?: number): void {
    const isOfNeed = isNeedRefusal(error) || (key !== PLAIN && mayBeAboutNeed(error))
    const name = isOfNeed ? key : GRANT
    const pause = backoffAfter(error, this.#pauses?.get(name), now, succeededAt)
    if (pause) this.#pauses = withEntry(this.#pauses, name, pause)
  }

  /** Pauses the grant for the `retryAfterMs` of an error that another process got. */
  pause(error: TokenError, now: number): void {
    const before = this.#pauses?.get(GRANT)
    const pause = backoffAfter(error, undefined, now)
    if (!pause || (before && before.until >= pause.until)) return
    this.#pauses = withEntry(this.#pauses, GRANT, { ...pause, endsWithOutage: false })
  }

  /** Notes a successful refresh. */
  succeeded(key: string): void {
    this.#pauses?.delete(GRANT)
    this.#pauses?.delete(key)
  }

  /** Stops refreshes ahead of expiry until a time on the monotonic clock, in milliseconds. */
  pauseAhead(until: number): void {
    this.#aheadPausedUntil = until
  }

  isPausedAhead(now: number): boolean {
    return now < this.#aheadPausedUntil
  }

  /**
   * Returns whether a valid token that an API rejected may be replaced by a refresh now. The first three are replaced without a
   * wait. If they follow each other within a minute, each further token has to wait: 1 s, then 2 s, and so on, up to 60 s.
   */
  mayReplace(key: string, now: number): boolean {
    return nextReplacement(this.#replacements?.get(key), now) !== undefined
  }

  /** Notes that a valid token which an API rejected was replaced. */
  replaced(key: string, now: number): void {
    const replacements = nextReplacement(this.#replacements?.get(key), now)
    if (replacements) this.#replacements = withEntry(this.#replacements, key, replacements)
  }
}

/** The name of the grant's own pause. No `needKey()` is empty. */
const GRANT = ''

function withEntry<V>(entries: Map<string, V> | undefined, key: string, value: V): Map<string, V> {
  const map = entries ?? new Map<string, V>()
  map.delete(key)
  map.set(key, value)
  if (map.size > MAX_NEEDS) map.delete(map.keys().next().value!)
  return map
}
