import { debuglog } from 'node:util'
import type { TokenError } from '../errors/token-error.js'
import { events } from './diagnostics.js'
import type { TokenEvent, TokenEventFacts, TokenEventListener } from './events.js'

/** Emits an event with these facts. */
export type EmitEvent = (facts: TokenEventFacts) => void

export interface EmitterOptions {
  readonly onEvent: TokenEventListener | undefined
  /** The time, in milliseconds since the epoch. */
  readonly now: () => number
  readonly tenant?: string | undefined
}

const debug = debuglog('session-token-manager')

/**
 * Returns the function that emits the events of one middleware: to its listener, to the diagnostics channel, and to stderr with
 * `NODE_DEBUG=session-token-manager`. An event is made only if one of them listens.
 */
export function emitterOf({ onEvent, now, tenant }: EmitterOptions): EmitEvent {
  return (facts) => {
    if (!onEvent && !events.hasSubscribers && !debug.enabled) return
    const event = new EmittedEvent(facts, now(), tenant) as unknown as TokenEvent
    if (debug.enabled) debug('%j', event)
    if (events.hasSubscribers) events.publish(event)
    if (onEvent) call(onEvent, event)
  }
}

/** Calls a listener. Its failure, now or later, changes nothing in the library. */
function call(listener: TokenEventListener, event: TokenEvent): void {
  new Promise((resolve) => resolve(listener(event))).catch(() => {
    // The app must handle the failures of its listener.
  })
}

/** The fields of events that are durations. */
const DURATIONS = ['durationMs', 'leaseWaitMs'] as const

class EmittedEvent {
  declare readonly at: number
  declare readonly tenant?: string
  declare readonly error?: TokenError

  constructor(facts: TokenEventFacts, at: number, tenant: string | undefined) {
    Object.assign(this, facts)
    for (const name of DURATIONS) {
      const ms: unknown = Object.hasOwn(facts, name) && facts[name as keyof typeof facts]
      if (typeof ms === 'number') Object.assign(this, { [name]: Math.round(ms) })
    }
    Object.assign(this, { at: Math.round(at) }, tenant !== undefined && { tenant })
  }

  toJSON(): object {
    const { error, ...rest } = this
    return error ? { ...rest, error: loggedError(error) } : rest
  }
}

/** Returns the parts of an error that belong into a log. */
function loggedError({
  code,
  message,
  status,
  responseStatus,
  retryAfterMs,
  error,
  errorDescription,
  details,
  cause,
}: TokenError): object {
  const { code: causeCode } = (cause ?? {}) as { code?: unknown }
  const ofServer = { responseStatus, retryAfterMs, error, errorDescription, details }
  return { code, message, status, ...ofServer, causeCode }
}
