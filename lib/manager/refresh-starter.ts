import type { BackgroundTasks } from '../concurrency/background-tasks.js'
import { AHEAD_RETRY_MS } from '../concurrency/time-constants.js'
import type { TokenError } from '../errors/token-error.js'
import type { RefreshInFlight, RefreshOutcome } from '../grants/grant.js'
import { isNeedRefusal } from '../grants/refresh-backoff.js'
import { traceRefresh } from '../tokens/diagnostics.js'
import type { LeasedGrantContext, RefreshParts } from './leased-grant.js'
import { LostReferenceError } from './manager-errors.js'
import { Refresh } from './refresh.js'
import { tellRetryAfter } from './retry-after.js'

/** A refresh that is to be started. */
export interface RefreshOrder extends RefreshParts {
  /** Names the access token that it is to bring, see `needKey()`. */
  readonly key: string
}

/** Starts refreshes as background tasks, one at a time for each grant of this process, and pauses after failures. */
export class RefreshStarter {
  readonly #context: LeasedGrantContext
  readonly #background: BackgroundTasks

  constructor(context: LeasedGrantContext, background: BackgroundTasks) {
    this.#context = context
    this.#background = background
  }

  /**
   * Starts the refresh of a grant, which must have no refresh in flight. A failed refresh is an event, unless no request was sent
   * because the authorization server is failing.
   *
   * @throws the `TokenError` of the last refresh during a pause of the grant or the need, or that of a server or a grant store
   * that fails; with `retryAfterMs`
   */
  start(order: RefreshOrder): RefreshInFlight {
    const now = this.#context.clock.monotonic()
    this.#throwDuringPause(order, now)
    return this.#start(order, now)
  }

  /** Starts a refresh ahead of expiry, for which no caller waits. Does nothing during a pause, or if there is no room for it. */
  startAhead(order: RefreshOrder): void {
    const { clock, health } = this.#context
    if (order.grant.inFlight || !health.hasRoom) return
    const now = clock.monotonic()
    if (order.grant.backoff.isPausedAhead(now)) return
    try {
      this.#throwDuringPause(order, now)
    } catch {
      return
    }
    this.#start(order, now).outcome.catch(() => {})
  }

  #throwDuringPause({ grant, key, tokens }: RefreshOrder, now: number): void {
    const { health, onGrantStoreError, shared } = this.#context
    grant.backoff.noteLogins(tokens.logins)
    grant.backoff.throwDuringPause(key, now, health.lastSuccessAt)
    health.throwWhileFailing(grant.id)
    if (onGrantStoreError !== 'local') shared.throwWhileFailing(grant.id)
  }

  #start(order: RefreshOrder, startedAt: number): RefreshInFlight {
    const { grant, key } = order
    const { registry } = this.#context
    const refresh = new Refresh(this.#context, order)
    registry.pin(grant)
    const outcome = this.#run(order, refresh)
    const revocation = () => refresh.revocation
    const inFlight: RefreshInFlight = { key, outcome, startedAt, waiting: 0, revocation }
    grant.inFlight = inFlight
    this.#background.run(`refresh ${grant.id}`, outcome)
    return inFlight
  }

  async #run(order: RefreshOrder, refresh: Refresh): Promise<RefreshOutcome | undefined> {
    const { health, registry, tenant } = this.#context
    const { grant, reason } = order
    const trace = { grantId: grant.id, reason, ...(tenant !== undefined && { tenant }) }
    try {
      return await health.run(grant.id, () => traceRefresh(trace, () => this.#runNow(order, refresh)))
    } finally {
      grant.inFlight = undefined
      registry.unpin(grant)
    }
  }

  async #runNow({ grant, key, reason }: RefreshOrder, refresh: Refresh): Promise<RefreshOutcome | undefined> {
    const { clock, emit, health } = this.#context
    const startedAt = clock.monotonic()
    const facts = () => ({
      grantId: grant.id,
      reason,
      waiting: grant.inFlight?.waiting ?? 0,
      leaseWaitMs: refresh.leased.waitedMs,
      durationMs: clock.monotonic() - startedAt,
    })
    const emitRefreshed = () => {
      const { keptRevision: revision } = refresh
      if (revision !== undefined) emit({ type: 'refreshed', ...facts(), revision })
    }
    try {
      const outcome = await refresh.run()
      emitRefreshed()
      grant.backoff.succeeded(key)
      return outcome
    } catch (error) {
      // The tokens of a refresh may have been kept before it failed.
      emitRefreshed()
      // Another process refreshes ahead. Its tokens are in the stores soon.
      if (refresh.leased.isLeasedElsewhere) {
        grant.backoff.pauseAhead(clock.monotonic() + AHEAD_RETRY_MS)
        return undefined
      }
      const failure = error as TokenError
      tellRetryAfter(this.#context, grant.id, failure)
      if (!(failure instanceof LostReferenceError))
        grant.backoff.failed(key, failure, clock.monotonic(), health.lastSuccessAt)
      emit({ type: isNeedRefusal(failure) ? 'need_refused' : 'refresh_failed', ...facts(), error: failure })
      throw failure
    }
  }
}
