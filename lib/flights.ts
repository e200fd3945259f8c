import { LRUCache } from 'lru-cache'
import {
  isNeedRefusal,
  mayBeAboutNeed,
  oneMoreReplacement,
  type Replacements,
  type Rest,
  restAfter,
  restingError,
} from './backoff.js'
import { type Clock, systemClock } from './clock.js'
import type { TokenError } from './errors.js'
import type { RefreshOutcome, Revocation } from './refresh.js'
import { needKey } from './token-set.js'

/** A refresh under way. */
export interface Flight {
  /** Names the access token that it is about. */
  readonly key: string
  readonly outcome: Promise<RefreshOutcome>
  /** What became of its tokens, once it has ended, if the grant was logged out meanwhile. */
  readonly revocation: () => Revocation | undefined
}

/** A refresh that can be started. */
export interface Startable {
  run(): Promise<RefreshOutcome>
  readonly revocation: Revocation | undefined
}

/** What a refresh is about. */
export interface RefreshSubject {
  readonly grantId: string
  /** Names the access token. */
  readonly key: string
  /** The authorization server: what it says to one grant may hold for another. */
  readonly server: object
}

const MAX_RESTS = 10_000
/** The access token of a refresh that names nothing. */
const PLAIN = needKey({})

/**
 * The refreshes that a process has under way, one at a time for each grant, and how long what has failed rests before it
 * is tried again.
 */
export class Flights {
  readonly #clock: Clock
  readonly #flights = new Map<string, Flight>()
  /** By grant; where the failure may be about one need, by grant and need. */
  readonly #rests = new LRUCache<string, Rest>({ max: MAX_RESTS })
  /** When a refresh succeeded last, on the monotonic clock. */
  readonly #succeededAt = new WeakMap<object, number>()
  readonly #replacements = new LRUCache<string, Replacements>({ max: MAX_RESTS })

  constructor(clock: Clock) {
    this.#clock = clock
  }

  of(grantId: string): Flight | undefined {
    return this.#flights.get(grantId)
  }

  /**
   * Starts the refresh of a grant that has none under way.
   *
   * @throws the `TokenError` of the refresh before, with `retryAfterMs`, while the grant or the need rests
   */
  start(subject: RefreshSubject, refresh: Startable): Flight {
    this.#refuseWhileResting(subject)
    const { grantId, key } = subject
    const outcome = this.#landing(subject, refresh.run())
    const flight = { key, outcome, revocation: () => refresh.revocation }
    this.#flights.set(grantId, flight)
    return flight
  }

  /**
   * Whether a token that an API refuses, though it is valid, may be replaced by a refresh now. Three are at once; from the
   * fourth within a minute on the wait doubles, from 1 to 60 s.
   */
  mayReplace(grantId: string, key: string): boolean {
    const replacements = oneMoreReplacement(
      this.#replacements.get(needOf(grantId, key)),
      this.#clock.monotonic(),
    )
    if (replacements) this.#replacements.set(needOf(grantId, key), replacements)
    return replacements !== undefined
  }

  async #landing(subject: RefreshSubject, outcome: Promise<RefreshOutcome>): Promise<RefreshOutcome> {
    const { grantId, key, server } = subject
    try {
      const refreshed = await outcome
      if (refreshed.fresh) this.#succeededAt.set(server, this.#clock.monotonic())
      this.#rests.delete(grantId)
      this.#rests.delete(needOf(grantId, key))
      return refreshed
    } catch (error) {
      this.#rest(subject, error as TokenError)
      throw error
    } finally {
      this.#flights.delete(grantId)
    }
  }

  #rest({ grantId, key, server }: RefreshSubject, error: TokenError): void {
    const isOfNeed = isNeedRefusal(error) || (key !== PLAIN && mayBeAboutNeed(error))
    const name = isOfNeed ? needOf(grantId, key) : grantId
    const now = this.#clock.monotonic()
    const rest = restAfter(error, this.#rests.get(name), now, this.#succeededAt.get(server))
    if (rest) this.#rests.set(name, rest)
  }

  #refuseWhileResting({ grantId, key, server }: RefreshSubject): void {
    const now = this.#clock.monotonic()
    for (const name of [grantId, needOf(grantId, key)]) {
      const rest = this.#rests.get(name)
      if (!rest || rest.until <= now) continue
      if (rest.endsWithOutage && (this.#succeededAt.get(server) ?? Number.NEGATIVE_INFINITY) > rest.from)
        continue
      throw restingError(rest, now)
    }
  }
}

function needOf(grantId: string, key: string): string {
  return `${grantId} ${key}`
}

/** The refreshes of this process, whoever asks for them: two middlewares over one session share theirs. */
export const flightsInThisProcess = new Flights(systemClock)
