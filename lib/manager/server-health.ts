import { LRUCache } from 'lru-cache'
import { BoundedQueue } from '../concurrency/bounded-queue.js'
import { type BreakerFailure, CircuitBreaker } from '../concurrency/circuit-breaker.js'
import type { Clock } from '../concurrency/clock.js'
import { patientTimer } from '../concurrency/patient-timer.js'
import { TokenError } from '../errors/token-error.js'
import type { GrantRegistry } from '../grants/grant-registry.js'

/** The least number of grants whose refreshes must fail before this counts as an outage of the server. */
const LEAST_GRANTS = 3

export interface WatchOptions {
  /** After this time without a response the request counts as failed, though it goes on, in milliseconds. */
  readonly silentAfterMs: number
  /** After this time the request is aborted, in milliseconds. */
  readonly abortAfterMs: number
  /** Called when the breaker has opened or closed. */
  readonly onChange: (change: BreakerChange) => void
}

/** The facts of a breaker that has opened, because of an error, or has closed after some time. */
export type BreakerChange =
  | { readonly type: 'breaker_opened'; readonly error: TokenError }
  | { readonly type: 'breaker_closed'; readonly durationMs: number }

interface Sent {
  readonly grantId: string
  readonly startedAt: number
  readonly abort: () => void
  isSilent: boolean
}

/**
 * Watches the health of one authorization server for this process. Bounds the number of refreshes at a time, and stops them while
 * the server fails: see {@link CircuitBreaker}.
 */
export class ServerHealth {
  /** When the server last refreshed a token for this process, on the monotonic clock. */
  lastSuccessAt = Number.NEGATIVE_INFINITY
  readonly #queue: BoundedQueue
  readonly #clock: Clock
  readonly #breaker = new CircuitBreaker(LEAST_GRANTS)
  readonly #sent = new Set<Sent>()
  #openedAt = 0

  constructor(clock: Clock, maxConcurrent: number) {
    this.#clock = clock
    this.#queue = new BoundedQueue(maxConcurrent)
  }

  /** Whether the server fails, so that callers get no refresh. */
  get isFailing(): boolean {
    return this.#breaker.isOpen
  }

  /** Whether a refresh would start at once. */
  get hasRoom(): boolean {
    return this.isFailing || this.#queue.hasRoom
  }

  /**
   * Runs a refresh when there is room for it. While the server fails, no refresh waits, since requests without a response may
   * take all the room: one refresh is the probe, and all other refreshes reject at once.
   */
  async run<T>(grantId: string, refresh: () => Promise<T>): Promise<T> {
    await this.#queue.enter(this.isFailing)
    try {
      // The server may have failed while this refresh was in the queue.
      this.start(grantId)
      return await refresh()
    } finally {
      this.ended(grantId)
      this.#queue.leave()
    }
  }

  /** Whether the token request of a grant has had no response for too long. */
  isSilent(grantId: string): boolean {
    for (const sent of this.#sent) if (sent.isSilent && sent.grantId === grantId) return true
    return false
  }

  /** Throws the error of a failing server, with `retryAfterMs`, unless the refresh of a grant may start. */
  throwWhileFailing(grantId: string): void {
    if (!this.isFailing) return
    const retryAfterMs = this.#breaker.waitMs(grantId, this.#clock.monotonic())
    if (retryAfterMs > 0) throw failingError(retryAfterMs)
  }

  /** Notes that a refresh starts. Throws while the server fails; one refresh at a time may go on as a probe. */
  start(grantId: string): void {
    if (!this.isFailing) return
    this.throwWhileFailing(grantId)
    this.#breaker.started(grantId, this.#clock.monotonic())
  }

  /** Notes that a refresh has ended, with or without a token request. */
  ended(grantId: string): void {
    if (this.isFailing) this.#breaker.ended(grantId)
  }

  /** Sends no request to the server for as long as it has asked another process to wait. */
  pause(error: TokenError): BreakerChange | undefined {
    return this.#failed('', error, { retryAfterMs: error.retryAfterMs, isOfService: true })
  }

  /**
   * Sends a token request, and watches it. A failure counts for the breaker, whether the request rejects with it or the response holds
   * it.
   *
   * @param send gets the signal that is aborted when the response takes too long
   */
  async watch<T extends object>(
    grantId: string,
    { silentAfterMs, abortAfterMs, onChange }: WatchOptions,
    send: (signal: AbortSignal) => Promise<T>,
  ): Promise<T> {
    const controller = new AbortController()
    const abort = () => controller.abort(new DOMException('The response took too long.', 'TimeoutError'))
    const sent: Sent = { grantId, startedAt: this.#clock.monotonic(), abort, isSilent: false }
    this.#sent.add(sent)
    const tell = (change: BreakerChange | undefined) => change && onChange(change)
    const stopLife = patientTimer(abortAfterMs, abort)
    const stopSilence = patientTimer(silentAfterMs, () => {
      sent.isSilent = true
      // The server has responded to a later request, so this response will not come.
      if (this.lastSuccessAt > sent.startedAt) abort()
      tell(this.#failed(grantId, silentError(silentAfterMs)))
    })
    const ended = (error?: TokenError) => {
      stopLife()
      stopSilence()
      this.#sent.delete(sent)
      tell(error ? this.#failedWith(sent, error) : this.#succeeded(sent))
    }
    try {
      const response = await send(controller.signal)
      ended((response as { readonly error?: TokenError }).error)
      return response
    } catch (error) {
      ended(error as TokenError)
      throw error
    }
  }

  #failedWith(sent: Sent, error: TokenError): BreakerChange | undefined {
    if (!isOutage(error)) return isResponse(error) ? this.#responded(sent) : undefined
    const { responseStatus, retryAfterMs } = error
    // The request was counted as failed when it had no response for too long.
    if (sent.isSilent && responseStatus === undefined) return undefined
    return this.#failed(sent.grantId, error, { retryAfterMs, isOfService: responseStatus !== 429 })
  }

  #succeeded(sent: Sent): BreakerChange | undefined {
    this.lastSuccessAt = this.#clock.monotonic()
    for (const other of this.#sent) if (other.isSilent) other.abort()
    return this.#responded(sent)
  }

  #responded({ startedAt }: Sent): BreakerChange | undefined {
    if (this.#breaker.isWell) return undefined
    const wasOpen = this.isFailing
    this.#breaker.succeeded(startedAt)
    if (!wasOpen || this.isFailing) return undefined
    return { type: 'breaker_closed', durationMs: this.#clock.monotonic() - this.#openedAt }
  }

  #failed(grantId: string, error: TokenError, failure?: BreakerFailure): BreakerChange | undefined {
    const wasOpen = this.isFailing
    const now = this.#clock.monotonic()
    this.#breaker.failed(grantId, now, failure)
    if (wasOpen || !this.isFailing) return undefined
    this.#openedAt = now
    // The refreshes in the queue find that the server fails.
    this.#queue.release()
    return { type: 'breaker_opened', error }
  }
}

/** Whether an error says that the server does not work: no response in time, no connection, 5xx or 429. */
function isOutage({ code, error, responseStatus = 503 }: TokenError): boolean {
  if (code !== 'ERR_TOKEN_ENDPOINT_UNAVAILABLE' || error !== undefined) return false
  return responseStatus >= 500 || responseStatus === 429
}

/** Whether an error is a definite response of the server, which works. */
function isResponse({ code, error }: TokenError): boolean {
  return error !== undefined || code === 'ERR_REAUTHENTICATION_REQUIRED' || code === 'ERR_CLIENT_REJECTED'
}

function silentError(ms: number): TokenError {
  return new TokenError(
    'ERR_TOKEN_ENDPOINT_UNAVAILABLE',
    `The authorization server did not respond within ${ms} ms. The request goes on.`,
  )
}

function failingError(retryAfterMs: number): TokenError {
  return new TokenError(
    'ERR_TOKEN_ENDPOINT_UNAVAILABLE',
    'The authorization server has failed several times in a row, so it was not asked. It is asked again about once a second. ' +
      'The events refresh_failed before breaker_opened say why.',
    { retryAfterMs: Math.ceil(retryAfterMs) },
  )
}

/** How many servers are remembered. Names of tenants may be part of their URLs, and a request may name any tenant. */
const MAX_SERVERS = 10_000

const healths = new WeakMap<GrantRegistry, LRUCache<string, ServerHealth>>()

/** Returns the health of a server. All middlewares of a process share it. */
export function serverHealth(
  registry: GrantRegistry,
  server: string,
  clock: Clock,
  maxConcurrent: number,
): ServerHealth {
  const ofProcess = healths.get(registry) ?? new LRUCache<string, ServerHealth>({ max: MAX_SERVERS })
  healths.set(registry, ofProcess)
  const health = ofProcess.get(server) ?? new ServerHealth(clock, maxConcurrent)
  ofProcess.set(server, health)
  return health
}
