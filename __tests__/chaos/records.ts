/** A process of the site, from its start to its end. */
export interface Incarnation {
  /** Which of the site's processes, and for the how many-th time it runs. */
  readonly name: string
  readonly slot: number
  killedAt?: number
  readonly pauses: Pause[]
  /** What its library told; known when the run is over. */
  events: readonly LibraryEvent[]
}

export interface Pause {
  readonly from: number
  to?: number
}

export interface LibraryEvent {
  readonly at: number
  readonly type: string
  readonly grantId: string
  readonly revision?: number
  readonly code?: string
  readonly message?: string
  /** Until when a process stood still. */
  readonly to?: number
  /** The newest that a process found in the session store, or knows of by the grant store. */
  readonly refreshToken?: string
}

/** What the authorization server issued in one answer. */
export interface Issue {
  /** 1 for the login's, then counted in the order of issue. */
  readonly serial: number
  readonly refreshToken: string
  readonly accessToken: string
  readonly at: number
  /** The presentation that it answers; absent for a login's. */
  readonly answers?: Presentation
}

/** One time that a refresh token came to the authorization server. */
export interface Presentation {
  readonly at: number
  /** When its process sent it off: from then on there was nothing that the library could still decide. */
  readonly sentAt: number
  readonly serial: number
  readonly by: Incarnation
  /** What went wrong by plan. */
  fault?: string
  /** What the authorization server itself said to it; absent while it has not seen it. */
  verdict?: 'succeeded' | 'invalid_grant' | 'other'
  judgedAt?: number
  /** When an answer had been handed over to the connection. */
  answeredAt?: number
  status?: number
  /** When the connection broke before the answer was handed over. */
  lostAt?: number
}

export interface RevocationRecord {
  readonly at: number
  readonly serial: number
  readonly by: Incarnation
  /** Whether the authorization server has processed it. */
  processed: boolean
}

/** An older token than one that had come when the request for it began. */
export interface OlderToken {
  readonly by: Incarnation
  readonly began: number
  readonly at: number
  readonly serial: number
  readonly newest: number
}

export interface LogoutRecord {
  readonly kind: string
  readonly began: number
  /** When the browser was told. */
  ended?: number
  /** Tries that were not answered with success, because the process was killed, or a store or the server failed. */
  readonly failures: string[]
}

/** A login, and everything that became of it. */
export interface Grant {
  readonly session: number
  /** 1 for the session's first login. */
  readonly login: number
  /** The library's own name of it. */
  libraryId?: string
  /** When the browser was told that it is logged in. */
  loggedInAt?: number
  readonly issues: Issue[]
  readonly presentations: Presentation[]
  readonly revocations: RevocationRecord[]
  readonly olderTokens: OlderToken[]
  /** Somebody is about to log out. */
  ending?: boolean
  logout?: LogoutRecord
  /** When a request was told that nobody is logged in, though nobody had logged out. */
  lost?: { readonly at: number; readonly what: string }
  /** A further login in the session has taken its place. */
  replacedAt?: number
}

/** From when on a Redis had forgotten everything, and until when it could not be reached. */
export interface RedisRestart {
  readonly downAt: number
  upAt?: number
}

export interface Violation {
  readonly invariant: 'I1' | 'I2' | 'I3' | 'I4' | 'I6' | 'unexpected answer'
  readonly at: number
  readonly session: number
  readonly what: string
}

/** The time, in milliseconds since the epoch and with fractions; all processes of a machine agree on it. */
export function now(): number {
  return performance.timeOrigin + performance.now()
}
