import { inspect } from 'node:util'
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals'
import { context, SpanStatusCode, trace } from '@opentelemetry/api'
import { AsyncLocalStorageContextManager } from '@opentelemetry/context-async-hooks'
import {
  AggregationTemporality,
  InMemoryMetricExporter,
  MeterProvider,
  PeriodicExportingMetricReader,
} from '@opentelemetry/sdk-metrics'
import { BasicTracerProvider, InMemorySpanExporter, SimpleSpanProcessor } from '@opentelemetry/sdk-trace-base'
import { TokenError } from '../../lib/errors/token-error.js'
import { type InstrumentOptions, instrument } from '../../lib/opentelemetry.js'
import { traceRefresh } from '../../lib/tokens/diagnostics.js'
import { emitterOf } from '../../lib/tokens/event-emitter.js'
import { startAuthorizationServer } from '../helpers/authorization-server.js'
import { startSite } from '../helpers/site.js'
import { json, wireServer } from '../helpers/wire-server.js'

const spans = new InMemorySpanExporter()
const tracerProvider = new BasicTracerProvider({ spanProcessors: [new SimpleSpanProcessor(spans)] })
const HOUR_MS = 3_600_000
const outcome = { accessToken: { token: 'secret' }, fresh: true }
const unavailable = new TokenError('ERR_TOKEN_ENDPOINT_UNAVAILABLE', 'It is down.', {
  cause: Object.assign(new Error('refused'), { code: 'ECONNREFUSED' }),
})
const emit = emitterOf({ onEvent: undefined, now: () => 7, tenant: 'acme' })

let stop = () => {}
let exporter: InMemoryMetricExporter
let reader: PeriodicExportingMetricReader

function start(options: InstrumentOptions = {}): void {
  exporter = new InMemoryMetricExporter(AggregationTemporality.CUMULATIVE)
  reader = new PeriodicExportingMetricReader({ exporter, exportIntervalMillis: 3_600_000 })
  const meterProvider = new MeterProvider({ readers: [reader] })
  stop = instrument({ tracerProvider, meterProvider, ...options })
}

/** The values of a metric, with their attributes. Of a histogram, the count and the sum. */
async function metric(name: string) {
  await reader.forceFlush()
  const scopes = exporter.getMetrics().at(-1)?.scopeMetrics ?? []
  const found = scopes.flatMap(({ metrics }) => metrics).find(({ descriptor }) => descriptor.name === name)
  return {
    unit: found?.descriptor.unit,
    points: (found?.dataPoints ?? []).map(({ attributes, value }) => ({
      ...attributes,
      value: typeof value === 'object' ? { count: value.count, sum: 'sum' in value ? value.sum : 0 } : value,
    })),
  }
}

beforeEach(() => {
  context.setGlobalContextManager(new AsyncLocalStorageContextManager().enable())
  spans.reset()
})
afterEach(() => {
  stop()
  context.disable()
})

describe('S95 the spans of instrument()', () => {
  it('S95 a refresh that succeeds: one span, below the span of its caller and above those of its requests', async () => {
    start()
    const tracer = tracerProvider.getTracer('app')
    await tracer.startActiveSpan('GET /orders', async (request) => {
      const refreshed = await traceRefresh({ grantId: 'g', reason: 'expired', tenant: 'acme' }, async () => {
        await null
        tracer.startSpan('POST /token').end()
        const waits = { reason: 'expired', durationMs: 5, waiting: 3, leaseWaitMs: 250 } as const
        emit({ type: 'refreshed', grantId: 'g', revision: 2, ...waits })
        return outcome
      })
      expect(refreshed).toBe(outcome)
      expect(trace.getActiveSpan()).toBe(request)
      request.end()
    })
    const [token, refresh, request] = spans.getFinishedSpans()
    expect(refresh).toMatchObject({
      name: 'session_token_manager.refresh',
      status: { code: SpanStatusCode.UNSET },
      attributes: {
        'session_token_manager.grant.id': 'g',
        'session_token_manager.reason': 'expired',
        'session_token_manager.tenant': 'acme',
        'session_token_manager.outcome': 'refreshed',
        'session_token_manager.waiting': 3,
        'session_token_manager.lease.wait': 0.25,
      },
    })
    expect(refresh!.events.map(({ name }) => name)).toEqual(['session_token_manager.refreshed'])
    expect(refresh!.parentSpanContext?.spanId).toBe(request!.spanContext().spanId)
    expect(token!.parentSpanContext?.spanId).toBe(refresh!.spanContext().spanId)
    expect(inspect(spans.getFinishedSpans(), { depth: 9 })).not.toContain('secret')
  })

  it.each([
    ['by another process', async () => ({ ...outcome, fresh: false }), 'shared', SpanStatusCode.UNSET],
    ['that fails', () => Promise.reject(unavailable), 'failed', SpanStatusCode.ERROR],
  ])('S95 a refresh %s', async (_, run, expected, code) => {
    start()
    await traceRefresh({ grantId: 'g' }, run).catch(() => {})
    const [span] = spans.getFinishedSpans()
    expect(span).toMatchObject({
      attributes: { 'session_token_manager.outcome': expected },
      status: { code },
    })
    if (code === SpanStatusCode.ERROR) expect(span!.attributes['error.type']).toBe('ECONNREFUSED')
  })

  it('S95 a refresh of a real site: one span for fifty requests, with its events', async () => {
    start()
    const server = await startAuthorizationServer()
    const site = await startSite(server)
    const browser = site.browser()
    await site.login(browser)
    site.clock.advance(HOUR_MS)
    const gate = server.hold()
    const responses = Promise.all(Array.from({ length: 50 }, () => browser.get('/token')))
    await gate.reached
    gate.release()
    for (const { status } of await responses) expect(status).toBe(200)
    site.clock.advance(HOUR_MS)
    server.failNext(500)
    expect((await browser.get('/token')).status).toBe(503)
    await Promise.all([site.close(), server.close()])
    const finished = spans.getFinishedSpans()
    expect(finished).toMatchObject([
      {
        attributes: {
          'session_token_manager.outcome': 'refreshed',
          'session_token_manager.reason': 'expired',
          'session_token_manager.waiting': expect.any(Number),
          'session_token_manager.lease.wait': expect.any(Number),
        },
        events: [{ name: 'session_token_manager.refreshed' }],
      },
      {
        attributes: { 'session_token_manager.outcome': 'failed' },
        events: [{ name: 'session_token_manager.refresh_failed' }],
      },
    ])
    expect((await metric('session_token_manager.refresh.duration')).points).toHaveLength(2)
    expect((await metric('session_token_manager.refresh.waiting')).points).toHaveLength(1)
  })

  it('S95 an event outside of a refresh is in the span of its request', () => {
    start()
    tracerProvider.getTracer('app').startActiveSpan('GET /orders', (span) => {
      emit({ type: 'session_ignored', reason: 'unknown_key' })
      span.end()
    })
    emit({ type: 'session_ignored', reason: 'unknown_key' })
    const [request] = spans.getFinishedSpans()
    expect(request!.events).toMatchObject([
      {
        name: 'session_token_manager.session_ignored',
        attributes: { 'session_token_manager.reason': 'unknown_key' },
      },
    ])
  })

  it('S95 none after stop()', async () => {
    start()
    stop()
    expect(await traceRefresh({ grantId: 'g' }, async () => outcome)).toBe(outcome)
    expect(spans.getFinishedSpans()).toEqual([])
  })
})

describe('S95 the metrics of instrument()', () => {
  it('S95 refreshes by outcome and reason, in seconds', async () => {
    start()
    await traceRefresh({ grantId: 'g', reason: 'ahead' }, async () => outcome)
    await traceRefresh({ grantId: 'g', reason: 'expired' }, () => Promise.reject(unavailable)).catch(() => {})
    const { points, unit } = await metric('session_token_manager.refresh.duration')
    expect(unit).toBe('s')
    expect(points).toEqual([
      {
        ...{ 'session_token_manager.outcome': 'refreshed', 'session_token_manager.reason': 'ahead' },
        value: { count: 1, sum: expect.any(Number) },
      },
      {
        ...{ 'session_token_manager.outcome': 'failed', 'session_token_manager.reason': 'expired' },
        ...{ 'error.type': 'ECONNREFUSED', value: { count: 1, sum: expect.any(Number) } },
      },
    ])
    for (const { value } of points) expect((value as { sum: number }).sum).toBeLessThan(5)
  })

  it('S95 waits for the lease and callers that waited', async () => {
    start()
    const waits = { waiting: 50, leaseWaitMs: 1_500, reason: 'expired' } as const
    emit({ type: 'refreshed', grantId: 'g', revision: 2, durationMs: 5, ...waits })
    const reason = { 'session_token_manager.reason': 'expired' }
    expect(await metric('session_token_manager.lease.wait.duration')).toEqual({
      unit: 's',
      points: [{ ...reason, value: { count: 1, sum: 1.5 } }],
    })
    expect(await metric('session_token_manager.refresh.waiting')).toEqual({
      unit: '{caller}',
      points: [{ ...reason, value: { count: 1, sum: 50 } }],
    })
  })

  it('S95 ends by reason, once for all processes; ignored sessions, logins, grant store errors and events', async () => {
    start()
    const end = { type: 'ended', grantId: 'g', reason: 'invalid_grant', scope: 'grant' } as const
    emit({ ...end, isLocal: true })
    emit({ ...end, isLocal: false })
    emit({ type: 'session_ignored', reason: 'sealed' })
    emit({ type: 'logged_in', grantId: 'g', durationMs: 5 })
    emit({ type: 'grant_store_failed', grantId: 'g', error: new TokenError('ERR_GRANT_STORE', 'It failed.') })
    const points = async (name: string) => (await metric(`session_token_manager.${name}`)).points
    expect(await points('ends')).toEqual([{ 'session_token_manager.reason': 'invalid_grant', value: 1 }])
    expect(await points('sessions.ignored')).toEqual([{ 'session_token_manager.reason': 'sealed', value: 1 }])
    expect(await points('logins')).toEqual([{ 'session_token_manager.login.type': 'logged_in', value: 1 }])
    expect(await points('grant_store.errors')).toEqual([{ 'error.type': 'ERR_GRANT_STORE', value: 1 }])
    expect(await points('events')).toContainEqual({ 'session_token_manager.event.type': 'ended', value: 2 })
  })

  it('S95 open breakers', async () => {
    start()
    const of = 'authorization_server'
    emit({ type: 'breaker_opened', grantId: 'g', of, error: unavailable })
    const open = async () => (await metric('session_token_manager.breakers.open')).points
    expect(await open()).toEqual([{ 'session_token_manager.breaker.of': of, value: 1 }])
    emit({ type: 'breaker_closed', grantId: 'g', of, durationMs: 30_000 })
    expect(await open()).toEqual([{ 'session_token_manager.breaker.of': of, value: 0 }])
  })

  it('S95 the tenant, if it is asked for', async () => {
    start({ tenants: true })
    emit({ type: 'logged_in', grantId: 'g', durationMs: 5 })
    expect((await metric('session_token_manager.logins')).points).toMatchObject([
      { 'session_token_manager.tenant': 'acme' },
    ])
  })

  it('S95 calls to APIs by origin and outcome, of a real site, whose events are counted too', async () => {
    start()
    const api = await wireServer((_request, response) => json(response, {}, 503))
    const server = await startAuthorizationServer()
    const site = await startSite(server)
    site.handle('/orders', async ({ tokens }) => (await tokens.fetch({ baseURL: api.url })('/')).status)
    const browser = site.browser()
    await site.login(browser)
    expect((await browser.get('/orders')).json).toBe(503)
    await Promise.all([site.close(), api.close(), server.close()])
    const { points } = await metric('session_token_manager.outbound.duration')
    expect(points).toEqual([
      {
        ...{ 'http.request.method': 'GET', 'http.response.status_code': 503 },
        ...{ 'server.address': '127.0.0.1', 'server.port': Number(new URL(api.url).port) },
        ...{ 'session_token_manager.outcome': 'response', value: { count: 1, sum: expect.any(Number) } },
      },
    ])
    expect((await metric('session_token_manager.logins')).points).toHaveLength(1)
  })

  it('S95 none after stop()', async () => {
    start()
    stop()
    emit({ type: 'logged_in', grantId: 'g', durationMs: 5 })
    expect((await metric('session_token_manager.logins')).points).toEqual([])
  })
})

it.each([[null], [{ tracer: 1 }], [{ tenants: 'yes' }]])('instrument(%j) is refused', (options) => {
  expect(() => instrument(options as never)).toThrow(/instrument\(\)|tenants/)
})
