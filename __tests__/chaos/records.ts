/** A process of the site, from its start to its end. */
export interface Incarnation {
  /** The process of the site, and the number of its starts. */
  readonly name: string
  readonly slot: number
  killedAt?: number
  readonly pauses: Pause[]
  /** The events of its library; read at the end of the run. */
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
  /** When a stall ended. */
  readonly to?: number
  /** The refresh token that a process found in the session store or the grant store, or has committed or kept. */
  readonly refreshToken?: string
}

/** The tokens that the authorization server issued in one response. */
export interface Issue {
  /** 1 for the tokens of the login, then in the order of issue. */
  readonly serial: number
  readonly refreshToken: string
  readonly accessToken: string
  readonly at: number
  /** The presentation that it answers; absent for a login. */
  readonly answers?: Presentation
}

/** A token request on its way to the authorization server and back. */
export interface Processing {
  readonly at: number
  /** When its process sent it: after that the library could not change anything. */
  readonly sentAt: number
  readonly by: Incarnation
  /** A job began it. */
  readonly isJob?: boolean
  /** The planned fault. */
  fault?: string
  /** When the authorization server had processed it. */
  judgedAt?: number
  /** When a response was written to the connection. */
  answeredAt?: number
  status?: number
  /** When the connection broke before the response was written. */
  lostAt?: number
}

/** One time that a refresh token came to the authorization server. */
export interface Presentation extends Processing {
  readonly serial: number
  /** The authorization server's own result; absent until it has processed the request. `other`: it has not looked at the token. */
  outcome?: 'succeeded' | 'invalid_grant' | 'other'
}

/** One time that an access token came to the authorization server to be exchanged for another one. */
export interface Exchange extends Processing {
  /** 1 for the first exchange of the login. */
  readonly number: number
  /** The serial number of the tokens whose access token it was. */
  readonly serial: number
  /** The authorization server's own result; absent until it has processed the request. `other`: it has not looked at the token. */
  outcome?: 'succeeded' | 'refused' | 'other'
}

export interface RevocationRecord {
  readonly at: number
  readonly serial: number
  readonly by: Incarnation
  /** Whether the authorization server has processed it. */
  processed: boolean
}

/** A token that is older than one which had arrived before its request began. */
export interface OlderToken {
  readonly by: Incarnation
  readonly began: number
  readonly at: number
  readonly serial: number
  readonly newest: number
  /** A job does not look into the session store. */
  readonly isJob: boolean
}

/** How long the end of a login may take to reach a process that the end does not go through, in milliseconds. */
export const END_WITHIN_MS = 1_000

/** A token that a process served after the end of a login, where the end may take a second to reach the process. */
export interface ServedAfterEnd {
  readonly by: Incarnation
  readonly at: number
}

export interface LogoutRecord {
  readonly kind: string
  readonly began: number
  /** When the browser got the response. */
  ended?: number
  /** Failed attempts: the process was killed, or a store or the server failed. */
  readonly failures: string[]
}

/** A login and its whole history. */
export interface Grant {
  readonly session: number
  /** 1 for the session's first login. */
  readonly login: number
  /** The user, as the ID token names it. */
  readonly sub: string
  /** The thumbprint of the key that its tokens are bound to, if they are. */
  readonly jkt?: string
  /** The grant id of the library. */
  libraryId?: string
  /** When the browser got the response to the login. */
  loggedInAt?: number
  readonly issues: Issue[]
  readonly presentations: Presentation[]
  readonly exchanges: Exchange[]
  readonly revocations: RevocationRecord[]
  readonly olderTokens: OlderToken[]
  readonly servedAfterEnd: ServedAfterEnd[]
  /** A logout is about to begin. */
  ending?: boolean
  logout?: LogoutRecord
  /** The first 401 response without a logout before it. */
  lost?: { readonly at: number; readonly what: string }
  /** When another login in the session replaced it. */
  replacedAt?: number
}

/** A restart of Redis: from when on its data were lost, and until when it could not be reached. */
export interface RedisRestart {
  readonly downAt: number
  upAt?: number
}

export interface Violation {
  readonly invariant: 'I1' | 'I2' | 'I3' | 'I4' | 'I6' | 'I10' | 'unexpected response'
  readonly at: number
  readonly session: number
  readonly what: string
}

/** The time, in milliseconds since the epoch and with fractions; all processes of a machine agree on it. */
export function now(): number {
  return performance.timeOrigin + performance.now()
}
