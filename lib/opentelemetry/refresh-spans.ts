import { context, type Span, SpanStatusCode, type Tracer, trace } from '@opentelemetry/api'
import type { RefreshOver, RefreshTrace } from '../tokens/diagnostics.js'
import type { TokenEvent } from '../tokens/events.js'
import { ATTRIBUTE, errorType, known } from './attributes.js'

/**
 * A refresh that is over. `refreshed`: this process has refreshed. `shared`: another process was faster, and this process has the
 * result.
 */
export interface EndedRefresh {
  readonly outcome: 'refreshed' | 'shared' | 'failed'
  readonly durationMs: number
  readonly message: RefreshOver
}

/** Makes a span of each refresh, and adds events to it, or else to the span of the request that is being served. */
export class RefreshSpans {
  readonly #tracer: Tracer
  readonly #running = new WeakMap<RefreshTrace, { readonly span: Span; readonly startedAt: number }>()
  readonly #ofGrants = new Map<string, Span>()

  constructor(tracer: Tracer) {
    this.#tracer = tracer
  }

  /** Runs a refresh in its span, so that the spans of its requests are below it. */
  run<T>(message: RefreshTrace, refresh: () => Promise<T>): Promise<T> {
    const { grantId, reason, tenant } = message
    const attributes = known({
      [ATTRIBUTE.grantId]: grantId,
      [ATTRIBUTE.reason]: reason,
      [ATTRIBUTE.tenant]: tenant,
    })
    const span = this.#tracer.startSpan('session_token_manager.refresh', { attributes })
    this.#running.set(message, { span, startedAt: performance.now() })
    this.#ofGrants.set(grantId, span)
    return context.with(trace.setSpan(context.active(), span), refresh)
  }

  /** Ends the span of a refresh. Returns `undefined` for a refresh that began before `instrument()`. */
  end(message: RefreshOver): EndedRefresh | undefined {
    const { error, grantId, result } = message
    const running = this.#running.get(message)
    if (!running) return undefined
    const { span, startedAt } = running
    const outcome = result ? (result.fresh ? 'refreshed' : 'shared') : 'failed'
    span.setAttribute(ATTRIBUTE.outcome, outcome)
    if (error) {
      span.setAttribute('error.type', errorType(error))
      span.setStatus({ code: SpanStatusCode.ERROR, message: error.message })
    }
    span.end()
    if (this.#ofGrants.get(grantId) === span) this.#ofGrants.delete(grantId)
    return { outcome, durationMs: performance.now() - startedAt, message }
  }

  note(event: TokenEvent): void {
    const { grantId, type } = event
    const refreshing = grantId === undefined ? undefined : this.#ofGrants.get(grantId)
    const span = refreshing ?? trace.getActiveSpan()
    if (!span) return
    const error = 'error' in event ? event.error : undefined
    span.addEvent(
      `session_token_manager.${type}`,
      known({
        [ATTRIBUTE.grantId]: grantId,
        [ATTRIBUTE.reason]: 'reason' in event ? event.reason : undefined,
        'error.type': error && errorType(error),
        'error.message': error?.message,
      }),
    )
    if (refreshing && 'waiting' in event) refreshing.setAttribute(ATTRIBUTE.waiting, event.waiting!)
    if (refreshing && 'leaseWaitMs' in event) {
      refreshing.setAttribute(ATTRIBUTE.leaseWait, event.leaseWaitMs! / 1_000)
    }
  }
}
