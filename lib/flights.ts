import { LRUCache } from 'lru-cache'
import { type Clock, systemClock } from './clock.js'
import { TokenError } from './errors.js'
import type { RefreshOutcome } from './refresh.js'

/** A refresh under way. */
export interface Flight {
  /** Names the access token that it is about. */
  readonly key: string
  readonly outcome: Promise<RefreshOutcome>
}

const MAX_PAUSES = 10_000

/**
 * The refreshes that a process has under way, one at a time for each grant, and the pauses between them that
 * authorization servers have asked for.
 */
export class Flights {
  readonly #clock: Clock
  readonly #flights = new Map<string, Flight>()
  /** When a grant may be refreshed again, on the monotonic clock. */
  readonly #pauses = new LRUCache<string, number>({ max: MAX_PAUSES })

  constructor(clock: Clock) {
    this.#clock = clock
  }

  of(grantId: string): Flight | undefined {
    return this.#flights.get(grantId)
  }

  /**
   * Starts the refresh of a grant that has none under way.
   *
   * @throws `TokenError` with `ERR_TOKEN_ENDPOINT_UNAVAILABLE` while a pause lasts
   */
  start(grantId: string, key: string, refresh: () => Promise<RefreshOutcome>): Flight {
    this.#refuseWhilePaused(grantId)
    const flight = { key, outcome: this.#landing(grantId, refresh()) }
    this.#flights.set(grantId, flight)
    return flight
  }

  async #landing(grantId: string, outcome: Promise<RefreshOutcome>): Promise<RefreshOutcome> {
    try {
      return await outcome
    } catch (error) {
      const { retryAfterMs } = error as TokenError
      if (retryAfterMs !== undefined) this.#pauses.set(grantId, this.#clock.monotonic() + retryAfterMs)
      throw error
    } finally {
      this.#flights.delete(grantId)
    }
  }

  #refuseWhilePaused(grantId: string): void {
    const until = this.#pauses.get(grantId) ?? Number.NEGATIVE_INFINITY
    const retryAfterMs = until - this.#clock.monotonic()
    if (retryAfterMs > 0) {
      throw new TokenError(
        'ERR_TOKEN_ENDPOINT_UNAVAILABLE',
        'The authorization server asked for a pause (Retry-After). Try again after retryAfterMs.',
        { retryAfterMs },
      )
    }
    this.#pauses.delete(grantId)
  }
}

/** The refreshes of this process, whoever asks for them: two middlewares over one session share theirs. */
export const flightsInThisProcess = new Flights(systemClock)
