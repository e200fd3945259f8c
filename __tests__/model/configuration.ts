import { atRest, type Budget, type State, started, type TokenSet } from './protocol-state.js'

/** What the protocol does not keep out. Whatever a configuration does not allow is a violation. */
export type Limit =
  /** I1, its sole exception: a crash or a broken connection took the answer along. */
  | 'the outcome of a use is lost'
  /** I1: others take over, and cannot know whether the refresh token has been used. */
  | 'a process stands still for longer than its lease holds'
  /** I1: the grant store cannot be reached, and the session store is so slow that the lease is over before the write. */
  | 'the lease runs out while a commit fails'
  /** I1, I2: both stores fail, one after the other. */
  | 'tokens that no store takes are known to one process only'
  /** I1, I2. */
  | 'tokens that the session does not hold are lost with the grant store'
  /** I4. */
  | 'a grant store that loses everything forgets a logout'
  /** I1: it does no harm any more. */
  | 'a refresh token comes again for a grant that is over'
  /** I4: if a commit failed, that may be the newest refresh token. */
  | 'a logout does not revoke tokens that only the session holds'
  /** I4: another process wrote it back, and crashed; or its tokens were known to the one that cleared it. */
  | 'a session that is being written while it is cleared has its tokens back'

/** Mistakes that the algorithm does not make. */
export type Flaw =
  | 'no lease'
  | 'the session is not read again'
  | 'a waiter presents the token that it had before it waited'
  | 'a commit overwrites whatever is there'
  | 'the lease is not renewed'
  | 'only the holder of the lease may commit'
  | 'any process may release the lease'
  | 'a crashed holder keeps the lease'
  | 'the session is overwritten whatever its revision'
  | 'the session is written even if it holds no tokens'
  | 'invalid_grant is believed at once'
  | 'no process asks after a slow write'
  | 'a logout clears the session once'
  | 'a logout leaves no tombstone'
  | 'a logout revokes the tokens that it knows itself'
  | 'late tokens are not revoked'

export interface Configuration {
  readonly processes: number
  readonly left: Partial<Budget>
  /**
   * Whether a session's copy is compared and replaced in one step. No session store can do it for several processes:
   * they write back whole sessions that they have read before. Within a process it is one step anyway.
   */
  readonly sessions: 'compare and set' | 'read, then write'
  /** Whether the app saves the session of each request at its end. */
  readonly saves?: true
  /** What the authorization server does when a refresh token comes a second time. */
  readonly reuse?: 'ends the grant' | 'is refused'
  readonly allows?: readonly Limit[]
  readonly flaw?: Flaw
}

const nothing: Budget = {
  requests: 0,
  logouts: 0,
  expiries: 0,
  crashes: 0,
  breaks: 0,
  stalls: 0,
  outages: 0,
  losses: 0,
  sessionFailures: 0,
}

const login: TokenSet = { revision: 1, token: 1 }
const current: TokenSet = { revision: 3, token: 3 }

/** Process A has just served a login; its access token has expired. The grant store has not heard of the grant. */
export function afterLogin({ processes, left }: Configuration): State {
  return {
    server: { newest: 1, presented: 0, ended: false },
    grant: {},
    afloat: undefined,
    session: login,
    processes: Array.from({ length: processes }, (_, i) =>
      i === 0 ? { ...started, known: login } : started,
    ),
    expired: 1,
    left: { ...nothing, ...left },
    history: {
      lost: 0,
      cutOff: 0,
      misused: 0,
      misusedLate: 0,
      stored: 1,
      stranded: 0,
      loggedOut: false,
      storeLost: false,
    },
  }
}

/**
 * Process A has refreshed twice since process B got a request, which holds the first tokens still. The grant store
 * remembers the newest tokens, or it has forgotten them.
 */
export function withStaleCopy(configuration: Configuration, grant: State['grant']): State {
  const state = afterLogin(configuration)
  return {
    ...state,
    server: { newest: 3, presented: 0b110, ended: false },
    grant,
    session: current,
    processes: [
      { ...started, known: current },
      { ...started, known: login, request: { ...atRest, at: 'arrived', copy: login } },
      ...state.processes.slice(2),
    ],
    expired: 3,
    history: { ...state.history, stored: 3 },
  }
}

export const remembered: State['grant'] = { record: current }
export const forgotten: State['grant'] = {}

/** Process B has had the lease, and stood still with the first refresh token in hand while A refreshed twice. */
export function afterStandstill(configuration: Configuration): State {
  const state = withStaleCopy(configuration, remembered)
  const request = { ...atRest, at: 'presenting', copy: login, tokens: login } as const
  const stoodStill = { ...started, known: login, request: { ...request, holdsLease: true, lostLease: true } }
  return { ...state, processes: state.processes.with(1, stoodStill) }
}
