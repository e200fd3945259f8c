/** Metrics for Prometheus, as docs/operating.md shows them. */
import { subscribe, unsubscribe } from 'node:diagnostics_channel'
import { Counter, Gauge, Histogram, register } from 'prom-client'
import type { OutboundCallMessage, TokenEvent } from 'session-token-manager'

const events = new Counter({
  name: 'session_tokens_events_total',
  help: 'Events of session-token-manager.',
  labelNames: ['type', 'reason', 'code'],
})
const refreshes = new Histogram({
  name: 'session_tokens_refresh_duration_seconds',
  help: 'Duration of successful refreshes.',
  labelNames: ['reason'],
})
const breakers = new Gauge({
  name: 'session_tokens_breaker_open',
  help: '1 while requests are held back.',
  labelNames: ['of'],
})
const calls = new Histogram({
  name: 'session_tokens_outbound_duration_seconds',
  help: 'Duration of calls to APIs.',
  labelNames: ['origin', 'outcome'],
})

// A counter that begins with 1 shows no increase, so the rare events begin with 0.
for (const reason of ['unknown_key', 'not_sealed', 'sealed', 'other_client', 'other_keep', 'malformed']) {
  events.inc({ type: 'session_ignored', reason, code: '' }, 0)
}
for (const type of ['tokens_unsaved', 'grant_store_failed']) {
  events.inc({ type, reason: '', code: 'ERR_GRANT_STORE' }, 0)
}
events.inc({ type: 'refresh_failed', reason: '', code: 'ERR_CLIENT_REJECTED' }, 0)
events.inc({ type: 'grant_evicted', reason: '', code: '' }, 0)

function onEvent(message: unknown): void {
  const event = message as TokenEvent
  // Another process has counted this end.
  if (event.type === 'ended' && !event.isLocal) return
  events.inc({
    type: event.type,
    reason: event.type === 'ended' || event.type === 'session_ignored' ? event.reason : '',
    code: ('error' in event && event.error?.code) || '',
  })
  if (event.type === 'refreshed') refreshes.observe({ reason: event.reason ?? '' }, event.durationMs / 1_000)
  if (event.type === 'breaker_opened') breakers.set({ of: event.of }, 1)
  if (event.type === 'breaker_closed') breakers.set({ of: event.of }, 0)
}

function onCall(message: unknown): void {
  const { durationMs, origin, outcome } = message as OutboundCallMessage
  calls.observe({ origin, outcome }, durationMs / 1_000)
}

subscribe('session-token-manager:event', onEvent)
subscribe('session-token-manager:outbound', onCall)

/** Ends the counting. */
export function stopCounting(): void {
  unsubscribe('session-token-manager:event', onEvent)
  unsubscribe('session-token-manager:outbound', onCall)
}

/** For `app.get('/metrics', metrics)`. */
export async function metrics(
  _req: unknown,
  res: { type(type: string): { send(text: string): unknown } },
): Promise<void> {
  res.type(register.contentType).send(await register.metrics())
}
