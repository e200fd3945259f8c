import type { Fault } from '../helpers/faults.js'
import { type Random, randomFrom } from './random.js'

/** A request for a token. */
export interface PlannedTokenRequest {
  readonly process: number
  readonly delayMs: number
  /** How long the handler waits before it asks for the token. */
  readonly handlerMs: number
  /** The API has refused the token that the browser got last. */
  readonly rejects: boolean
  /** A job asks, which has a reference to the login in place of the session. */
  readonly isJob: boolean
  /** The token is one that is got in exchange for the session's own. */
  readonly exchanges?: boolean
  /** When the browser's tab is closed. */
  readonly abortAfterMs?: number
}

/** A request that writes to the session. */
export interface PlannedWrite {
  readonly process: number
  /** From reading the session to saving it. */
  readonly handlerMs: number
  readonly asksForToken: boolean
}

/** The last one is by an operator, who ends all logins of the user. */
export type LogoutKind = 'revoke' | 'clear' | 'destroy' | 'end'

export interface PlannedLogout {
  readonly process: number
  readonly delayMs: number
  readonly kind: LogoutKind
}

/** The requests of a browser that are sent in parallel. */
export interface Step {
  readonly thinkMs: number
  readonly tokens: readonly PlannedTokenRequest[]
  readonly write?: PlannedWrite
  readonly logout?: PlannedLogout
}

export interface SessionPlan {
  readonly steps: readonly Step[]
  /** The process of each login. */
  loginProcess(login: number): number
}

/** The moment of a refresh at which a fault is injected. */
export type RefreshMoment = 'asked' | 'processed' | 'answered'

/** A fault for the presentation of a refresh token. */
export type RefreshFault =
  | { readonly kind: 'slow'; readonly beforeMs: number; readonly afterMs: number }
  /** The authorization server does not process it. */
  | { readonly kind: 'refused'; readonly fault: Fault }
  /** The authorization server processes the request, and the response does not arrive. */
  | { readonly kind: 'response lost'; readonly fault: Fault }
  | { readonly kind: 'killed' | 'paused'; readonly moment: RefreshMoment; readonly forMs: number }
  | { readonly kind: 'Redis restarted'; readonly moment: RefreshMoment; readonly forMs: number }

/** A fault that happens at any time. */
export interface OutsideFault {
  readonly kind:
    | 'kill'
    | 'pause'
    | 'restart Redis'
    | 'Redis goes back'
    | 'Redis stays away'
    | 'freeze Redis'
    | 'authorization server down'
  readonly process: number
  readonly forMs: number
}

export interface Plan {
  session(index: number): SessionPlan
  /** The fault of a refresh, by the number of its session's refreshes, and whether a logout may happen at the same time. */
  refreshFault(session: number, presentation: number, besideLogout: boolean): RefreshFault | undefined
  /** The fault of a token exchange, by the number of its session's exchanges. */
  exchangeFault(session: number, exchange: number): RefreshFault | undefined
  revocationFault(session: number, revocation: number): Fault | undefined
  /** An endless series of faults, each some time after the previous one. */
  outsideFaults(): Iterable<{ readonly afterMs: number; readonly fault: OutsideFault }>
}

export interface PlanOptions {
  readonly seed: string
  readonly processes: number
  /** The number of steps of a session. Default: 6 to 12. */
  readonly steps?: readonly [from: number, to: number]
  /** How many times more often than every 3 seconds outside faults happen. Default: 1. */
  readonly pace?: number
  /** Whether a part of the token requests needs a token exchange. Default: `false`. */
  readonly exchange?: boolean
}

/** The lifetime of an access token in seconds: long enough to be used, short enough for many refreshes. */
export const ACCESS_TOKEN_TTL = 2

/** How many of the requests need a token exchange. */
const EXCHANGE_PART = 0.25

/** Longer than a lease holds. */
export const LONG_PAUSE_MS = 6_000

/** Makes the plan of a run from the seed. Only the timing of the processes is not planned. */
export function plan({ seed, processes, steps = [6, 12], pace = 1, exchange = false }: PlanOptions): Plan {
  const random = randomFrom(seed)
  return {
    session(index) {
      const draw = random.fork(`session ${index}`)
      const planned = sessionPlan(draw, processes, steps)
      return exchange ? withExchanges(planned, draw.fork('exchange')) : planned
    },
    refreshFault(session, presentation, besideLogout) {
      const draw = random.fork(`refresh ${session} ${presentation}`)
      return besideLogout && draw.fork('logout').chance(0.6) ? slowResponse(draw) : refreshFault(draw)
    },
    exchangeFault: (session, count) => refreshFault(random.fork(`exchange ${session} ${count}`)),
    revocationFault(session, revocation) {
      const draw = random.fork(`revocation ${session} ${revocation}`)
      return draw.chance(0.08) ? draw.pick<Fault>([503, 'reset', 'reset-after']) : undefined
    },
    outsideFaults: () => outsideFaults(random.fork('outside'), processes, pace),
  }
}

function sessionPlan(random: Random, processes: number, [from, to]: readonly [number, number]): SessionPlan {
  const count = random.int(from, to)
  const login = random.fork('login')
  return {
    steps: Array.from({ length: count }, () => step(random, processes)),
    loginProcess: (index) => login.fork(index).int(0, processes - 1),
  }
}

/** Lets a part of the requests of a session need an exchange. What else is planned stays as it is. */
function withExchanges(planned: SessionPlan, random: Random): SessionPlan {
  const steps = planned.steps.map((step) => ({
    ...step,
    tokens: step.tokens.map((request) => ({ ...request, exchanges: random.chance(EXCHANGE_PART) })),
  }))
  return { ...planned, steps }
}

function step(random: Random, processes: number): Step {
  const process = () => random.int(0, processes - 1)
  const thinkMs = random.weighted([
    [3, random.int(0, 200)],
    [5, random.int(200, 1_500)],
    [2, random.int(1_500, 3_000)],
  ])
  const requests = random.weighted([
    [4, random.int(1, 2)],
    [4, random.int(2, 5)],
    [1, random.int(6, 10)],
  ])
  const tokens = Array.from({ length: requests }, () => tokenRequest(random, process()))
  const write = random.chance(0.35) && {
    process: process(),
    handlerMs: random.weighted([
      [2, 0],
      [3, random.int(1, 50)],
      [2, random.int(50, 1_200)],
    ]),
    asksForToken: random.chance(0.5),
  }
  const logout = random.chance(0.08) && {
    process: process(),
    delayMs: random.int(0, 120),
    kind: random.pick<LogoutKind>(['revoke', 'revoke', 'clear', 'destroy', 'end', 'end']),
  }
  if (logout) tokens.push({ process: process(), delayMs: 0, handlerMs: 0, rejects: true, isJob: false })
  return { thinkMs, tokens, ...(write && { write }), ...(logout && { logout }) }
}

function tokenRequest(random: Random, process: number): PlannedTokenRequest {
  const delayMs = random.chance(0.6) ? random.int(0, 5) : random.int(0, 150)
  const handlerMs = random.chance(0.8) ? 0 : random.int(1, 600)
  const rejects = random.chance(0.15)
  const abort = random.chance(0.04) && { abortAfterMs: random.int(1, 300) }
  return { process, delayMs, handlerMs, rejects, isJob: random.chance(0.2), ...abort }
}

/** The authorization server has processed the request, and a logout happens before the response arrives. */
function slowResponse(random: Random): RefreshFault {
  return { kind: 'slow', beforeMs: 0, afterMs: random.int(50, 900) }
}

function refreshFault(random: Random): RefreshFault | undefined {
  const moment = random.pick<RefreshMoment>(['asked', 'processed', 'answered'])
  return random.weighted<() => RefreshFault | undefined>([
    [70, () => undefined],
    [12, () => ({ kind: 'slow', beforeMs: random.int(0, 400), afterMs: random.int(0, 400) })],
    [2, () => ({ kind: 'slow', beforeMs: random.int(0, 1_500), afterMs: random.int(0, 1_500) })],
    [0.3, () => ({ kind: 'slow', beforeMs: random.int(0, 6_500), afterMs: 1_000 })],
    [5, () => ({ kind: 'refused', fault: random.pick<Fault>([500, 503, 429, 'html-502', 'garbage']) })],
    [
      3,
      () => ({ kind: 'refused', fault: random.pick<Fault>(['reset', 'hangup', 'cut-connection', 'empty']) }),
    ],
    [0.2, () => ({ kind: 'refused', fault: 'silence' })],
    [0.6, () => ({ kind: 'response lost', fault: 'reset-after' })],
    [0.1, () => ({ kind: 'response lost', fault: 'silence-after' })],
    [1.6, () => ({ kind: 'killed', moment, forMs: random.int(0, 2_000) })],
    [0.8, () => ({ kind: 'paused', moment, forMs: random.int(100, 1_500) })],
    [0.4, () => ({ kind: 'paused', moment, forMs: LONG_PAUSE_MS + random.int(0, 2_000) })],
    [0.4, () => ({ kind: 'Redis restarted', moment, forMs: random.int(0, 1_500) })],
  ])()
}

function* outsideFaults(random: Random, processes: number, pace: number) {
  for (;;) {
    const afterMs = random.int(1_500, 4_500) / pace
    const process = random.int(0, processes - 1)
    const fault = random.weighted<OutsideFault>([
      [4, { kind: 'kill', process, forMs: random.int(0, 2_000) }],
      [1, { kind: 'pause', process, forMs: random.int(100, 1_500) }],
      [1, { kind: 'pause', process, forMs: LONG_PAUSE_MS + random.int(0, 3_000) }],
      [1, { kind: 'restart Redis', process, forMs: random.int(0, 3_000) }],
      [1, { kind: 'Redis goes back', process, forMs: random.int(100, 2_000) }],
      [0.2, { kind: 'Redis stays away', process, forMs: random.int(55_000, 65_000) }],
      [1, { kind: 'freeze Redis', process, forMs: random.int(100, 2_800) }],
      [0.5, { kind: 'authorization server down', process, forMs: random.int(100, 2_000) }],
    ])
    yield { afterMs, fault }
  }
}
