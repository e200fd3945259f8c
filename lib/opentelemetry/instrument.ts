import { type MeterProvider, metrics, type TracerProvider, trace } from '@opentelemetry/api'
import { flag, unchecked } from '../options/option-kinds.js'
import { checkOptions, type OptionTable } from '../options/option-table.js'
import {
  enterRefreshes,
  events,
  type OutboundCallMessage,
  outboundCalls,
  type RefreshOver,
  refreshes,
} from '../tokens/diagnostics.js'
import type { TokenEvent } from '../tokens/events.js'
import { SCOPE } from './attributes.js'
import { RefreshSpans } from './refresh-spans.js'
import { TokenMetrics } from './token-metrics.js'

/** The options of `instrument()`. */
export interface InstrumentOptions {
  /** Makes the spans. Default: the provider that is registered with the API. */
  tracerProvider?: TracerProvider
  /** Makes the metrics. Default: the provider that is registered with the API. */
  meterProvider?: MeterProvider
  /** Whether metrics have the name of the tenant. Each tenant adds time series. Default: `false`. Spans always have it. */
  tenants?: boolean
}

const OPTIONS = {
  tracerProvider: unchecked,
  meterProvider: unchecked,
  tenants: flag(),
} satisfies OptionTable<InstrumentOptions>

const USAGE = {
  of: 'instrument()',
  takes: 'instrument() takes an object, or nothing: instrument({ tenants: true })',
}

/**
 * Makes spans and metrics of all middlewares of the process, with the OpenTelemetry API. Call it after the SDK has been started.
 * It subscribes to the diagnostics channels of the library. No span and no metric holds a token.
 *
 * Returns a function that stops it.
 *
 * @throws `ConfigurationError` when an option is wrong
 *
 * @example
 * const stop = instrument()
 */
export function instrument(options: InstrumentOptions = {}): () => void {
  const { meterProvider = metrics, tracerProvider = trace, tenants } = checkOptions(options, OPTIONS, USAGE)
  const spans = new RefreshSpans(tracerProvider.getTracer(SCOPE))
  const measured = new TokenMetrics(meterProvider.getMeter(SCOPE), tenants)
  const onEvent = (message: unknown) => {
    spans.note(message as TokenEvent)
    measured.note(message as TokenEvent)
  }
  const onCall = (message: unknown) => measured.noteCall(message as OutboundCallMessage)
  const onRefreshEnd = (message: unknown) => {
    const refresh = spans.end(message as RefreshOver)
    if (refresh) measured.noteRefresh(refresh)
  }
  events.subscribe(onEvent)
  outboundCalls.subscribe(onCall)
  const stopSpans = enterRefreshes((refresh, run) => spans.run(refresh, run))
  refreshes.asyncEnd.subscribe(onRefreshEnd)
  return function stop() {
    events.unsubscribe(onEvent)
    outboundCalls.unsubscribe(onCall)
    stopSpans()
    refreshes.asyncEnd.unsubscribe(onRefreshEnd)
  }
}
