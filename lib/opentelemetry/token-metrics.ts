import type { Attributes, Counter, Histogram, Meter, UpDownCounter } from '@opentelemetry/api'
import type { OutboundCallMessage } from '../tokens/diagnostics.js'
import type { TokenEvent } from '../tokens/events.js'
import { ATTRIBUTE, errorType, known } from './attributes.js'
import type { EndedRefresh } from './refresh-spans.js'

/** The boundaries that the semantic conventions advise for durations of requests, in seconds. */
const DURATION_BUCKETS = [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 30]
const CALLER_BUCKETS = [0, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000]

/** Measures refreshes, events and calls to APIs. */
export class TokenMetrics {
  readonly #tenants: boolean
  readonly #refreshes: Histogram
  readonly #leaseWaits: Histogram
  readonly #waiting: Histogram
  readonly #calls: Histogram
  readonly #events: Counter
  readonly #logins: Counter
  readonly #ends: Counter
  readonly #ignored: Counter
  readonly #grantStoreErrors: Counter
  readonly #openBreakers: UpDownCounter

  /** @param tenants whether the metrics have the name of the tenant */
  constructor(meter: Meter, tenants: boolean) {
    const seconds = (name: string, description: string) =>
      meter.createHistogram(`session_token_manager.${name}`, {
        description,
        unit: 's',
        advice: { explicitBucketBoundaries: DURATION_BUCKETS },
      })
    const counter = (name: string, unit: string, description: string) =>
      meter.createCounter(`session_token_manager.${name}`, { description, unit })
    this.#tenants = tenants
    this.#refreshes = seconds('refresh.duration', 'Duration of refreshes, by outcome and reason.')
    this.#leaseWaits = seconds('lease.wait.duration', 'How long refreshes waited for the lease.')
    this.#calls = seconds('outbound.duration', 'Duration of calls to APIs, by origin and outcome.')
    this.#waiting = meter.createHistogram('session_token_manager.refresh.waiting', {
      description: 'How many callers waited for a refresh.',
      unit: '{caller}',
      advice: { explicitBucketBoundaries: CALLER_BUCKETS },
    })
    this.#events = counter('events', '{event}', 'Events, by type.')
    this.#logins = counter('logins', '{login}', 'Logins, and adoptions of tokens of the app.')
    this.#ends = counter('ends', '{grant}', 'Grants that have ended in this process, by reason.')
    this.#ignored = counter(
      'sessions.ignored',
      '{session}',
      'Sessions that this process cannot use, by reason.',
    )
    this.#grantStoreErrors = counter(
      'grant_store.errors',
      '{error}',
      'Failures of the grant store, by cause.',
    )
    this.#openBreakers = meter.createUpDownCounter('session_token_manager.breakers.open', {
      description: 'Breakers that are open: requests to this part are held back.',
      unit: '{breaker}',
    })
  }

  note(event: TokenEvent): void {
    const of = (attributes: Record<string, string | undefined> = {}) => this.#with(event.tenant, attributes)
    this.#events.add(1, of({ [ATTRIBUTE.eventType]: event.type }))
    switch (event.type) {
      case 'logged_in':
      case 'adopted':
        this.#logins.add(1, of({ [ATTRIBUTE.loginType]: event.type }))
        break
      case 'ended':
        // A process that only learns of an end would count it a second time.
        if (event.isLocal) this.#ends.add(1, of({ [ATTRIBUTE.reason]: event.reason }))
        break
      case 'session_ignored':
        this.#ignored.add(1, of({ [ATTRIBUTE.reason]: event.reason }))
        break
      case 'grant_store_failed':
        this.#grantStoreErrors.add(1, of({ 'error.type': errorType(event.error) }))
        break
      case 'breaker_opened':
        this.#openBreakers.add(1, of({ [ATTRIBUTE.breakerOf]: event.of }))
        break
      case 'breaker_closed':
        this.#openBreakers.add(-1, of({ [ATTRIBUTE.breakerOf]: event.of }))
        break
      case 'refreshed':
      case 'refresh_failed':
      case 'need_refused':
        this.#noteWaits(event, of({ [ATTRIBUTE.reason]: event.reason }))
    }
  }

  #noteWaits(
    { leaseWaitMs, waiting }: { readonly leaseWaitMs?: number; readonly waiting?: number },
    attributes: Attributes,
  ): void {
    if (leaseWaitMs !== undefined) this.#leaseWaits.record(leaseWaitMs / 1_000, attributes)
    if (waiting !== undefined) this.#waiting.record(waiting, attributes)
  }

  noteRefresh({ durationMs, message, outcome }: EndedRefresh): void {
    const { error, reason, tenant } = message
    const attributes = {
      [ATTRIBUTE.outcome]: outcome,
      [ATTRIBUTE.reason]: reason,
      'error.type': error && errorType(error),
    }
    this.#refreshes.record(durationMs / 1_000, this.#with(tenant, attributes))
  }

  noteCall({ durationMs, method, origin, outcome, status }: OutboundCallMessage): void {
    const { hostname, port, protocol } = new URL(origin)
    const attributes = known({
      'http.request.method': method,
      'http.response.status_code': status,
      'server.address': hostname,
      'server.port': Number(port) || (protocol === 'https:' ? 443 : 80),
      [ATTRIBUTE.outcome]: outcome,
    })
    this.#calls.record(durationMs / 1_000, attributes)
  }

  #with(tenant: string | undefined, attributes: Record<string, string | undefined>): Attributes {
    return known({ ...attributes, [ATTRIBUTE.tenant]: this.#tenants ? tenant : undefined })
  }
}
