/** How many failures in a row open a breaker. */
const FAILURES = 3
/** How long an open breaker waits before its next probe, in milliseconds. */
const PROBE_EVERY_MS = 1_000
/** How long a probe may be silent before another one goes out, in milliseconds. */
const PROBE_SILENT_MS = 3_000
/** If {@link FAILURES} callers get a `Retry-After` within this time, in milliseconds, all callers wait. */
const ASKED_WITHIN_MS = 10_000
/** The longest pause that a `Retry-After` gets, in milliseconds. */
export const MAX_RETRY_AFTER_MS = 300_000

/** The further facts of a failure. */
export interface BreakerFailure {
  /** How long the service asked its callers to wait, in milliseconds. */
  readonly retryAfterMs?: number | undefined
  /** Whether the service asked all callers to wait. Otherwise it asked this caller alone. */
  readonly isOfService?: boolean
}

interface Closed {
  readonly name: 'closed'
  /** How many failures there were since the last success, and of which callers. */
  readonly failures: number
  readonly callers: ReadonlySet<string>
  /** The callers that the service asked to wait, each with the time when it asked. */
  readonly asked: ReadonlyMap<string, number>
}

interface Open {
  readonly name: 'open'
  readonly openedAt: number
  /** The time before which no probe is sent. */
  readonly until: number
  /** Whether the service asked for the pause. Then a success of an earlier request does not end the pause. */
  readonly isAsked: boolean
  /** The probe that is on its way. */
  readonly probe: { readonly caller: string; readonly startedAt: number } | undefined
  /** The caller of the last probe that failed: the next one has another caller, if there is one. */
  readonly failed: string | undefined
}

/** The state of a {@link CircuitBreaker}. All times are on the monotonic clock, in milliseconds. */
type BreakerState = Closed | Open

const CLOSED: Closed = { name: 'closed', failures: 0, callers: new Set(), asked: new Map() }

/** Returns how long a caller must wait before it may ask the service, in milliseconds; 0 if it may ask now. */
function waitOf(state: BreakerState, caller: string, now: number): number {
  if (state.name === 'closed') return 0
  const { failed, probe, until } = state
  const probeUntil = probe ? probe.startedAt + PROBE_SILENT_MS : 0
  const turn = failed === caller ? until + PROBE_EVERY_MS : until
  return Math.max(0, probeUntil - now, turn - now)
}

/** Returns the state after a caller has begun to ask the service. While the breaker is open, that is a probe. */
function started(state: BreakerState, caller: string, now: number): BreakerState {
  return state.name === 'closed' ? state : { ...state, probe: { caller, startedAt: now } }
}

/** Returns the state after a caller has ended without a response of the service, for example since it had no need to ask. */
function ended(state: BreakerState, caller: string): BreakerState {
  if (state.name === 'closed' || state.probe?.caller !== caller) return state
  return { ...state, probe: undefined }
}

/** Returns the state after the service has served a caller, which asked at `startedAt`. */
function succeeded(state: BreakerState, startedAt: number): BreakerState {
  if (state.name === 'closed') return state.asked.size === 0 ? CLOSED : { ...CLOSED, asked: state.asked }
  return state.isAsked && startedAt < state.openedAt ? state : CLOSED
}

/** Returns the state after the service has failed a caller. */
function failed(
  state: BreakerState,
  caller: string,
  now: number,
  least: number,
  { retryAfterMs = 0, isOfService = false }: BreakerFailure = {},
): BreakerState {
  const askedMs = Math.min(retryAfterMs, MAX_RETRY_AFTER_MS)
  if (state.name === 'open') {
    const isProbe = state.probe?.caller === caller
    const asksAll = isOfService && askedMs > 0
    const pauses = [state.until, isProbe ? now + PROBE_EVERY_MS : 0, asksAll ? now + askedMs : 0]
    return {
      ...state,
      until: Math.max(...pauses),
      isAsked: state.isAsked || asksAll,
      ...(isProbe && { probe: undefined, failed: caller }),
    }
  }
  const open = (pauseMs: number, isAsked: boolean): Open => ({
    name: 'open',
    openedAt: now,
    until: now + pauseMs,
    isAsked,
    probe: undefined,
    failed: undefined,
  })
  const asked = new Map([...state.asked].filter(([, at]) => now - at < ASKED_WITHIN_MS))
  if (askedMs > 0) asked.set(caller, now)
  if (askedMs > 0 && (isOfService || asked.size >= FAILURES)) return open(askedMs, true)
  const failures = state.failures + 1
  const callers = new Set(state.callers).add(caller)
  if (failures >= FAILURES && callers.size >= least) return open(PROBE_EVERY_MS, false)
  // The number of callers is bounded by the failures that open the breaker, but for one caller that fails alone.
  return { name: 'closed', failures, callers, asked }
}

/**
 * Stops calls to a service that fails. After three failures in a row the breaker is open: callers are refused at once, and one
 * probe at a time asks the service, about once a second. The first success closes the breaker.
 */
export class CircuitBreaker {
  isOpen = false
  /** Whether there were no failures since the last success. */
  isWell = true
  readonly #least: number
  #state: BreakerState = CLOSED

  /**
   * @param least the number of callers that must have failed before the breaker opens, so that the fault of one caller does not
   * stop all callers
   */
  constructor(least: number) {
    this.#least = least
  }

  /** Returns how long a caller must wait before it may ask, in milliseconds; 0 if it may ask now. */
  waitMs(caller: string, now: number): number {
    return waitOf(this.#state, caller, now)
  }

  started(caller: string, now: number): void {
    this.#set(started(this.#state, caller, now))
  }

  ended(caller: string): void {
    this.#set(ended(this.#state, caller))
  }

  succeeded(startedAt: number): void {
    this.#set(succeeded(this.#state, startedAt))
  }

  failed(caller: string, now: number, failure?: BreakerFailure): void {
    this.#set(failed(this.#state, caller, now, this.#least, failure))
  }

  #set(state: BreakerState): void {
    this.#state = state
    this.isOpen = state.name === 'open'
    this.isWell = state === CLOSED
  }
}
