import type { TokenError } from '../errors/token-error.js'

/** Why a grant, or one session's share of it, has ended. */
export type EndReason =
  /** The user has logged out, or the app has removed the tokens or destroyed the session. */
  | 'logged_out'
  /** The same user has logged in again in this session. */
  | 'replaced'
  /** The authorization server has refused the newest refresh token for good. */
  | 'invalid_grant'
  /** The authorization server has logged the user out through its back channel. */
  | 'backchannel_logout'
  /** All tokens have expired and cannot be refreshed, or the login is over: `session_expiry` of the ID token, `maxLoginAgeMs`. */
  | 'expired'

/**
 * Why a session counts as logged out although it holds a value under the session key. The members say what is wrong with the
 * value.
 */
export type IgnoredReason =
  /** The value is sealed with a key that this process does not have, or for another client, issuer or session key. */
  | 'unknown_key'
  /** The value is not sealed, and this process has `encryptionKeys`. */
  | 'not_sealed'
  /** The value is sealed, and this process has no `encryptionKeys`. */
  | 'sealed'
  /** The value belongs to another `clientId`, `issuer` or `tokenEndpoint`. */
  | 'other_client'
  /** The value is a reference of `keep: 'store'`, and this process has no `grants`. */
  | 'other_keep'
  /** The value is no copy of this library, or it was changed. */
  | 'malformed'
  /** A later version of this library has written the value. It is not changed. */
  | 'other_version'

/** Why an access token was refreshed, or requested for the first time. */
export type RefreshReason =
  /** The token had expired, or was about to expire. */
  | 'expired'
  /** The token was still valid: the refresh ran in the background. */
  | 'ahead'
  /** An API had rejected the token. */
  | 'rejected'
  /** There was no token yet for this scope, resource or audience. */
  | 'need'

/** The part that a breaker protects: requests to this part stop after several failures in a row. */
export type BreakerOf = 'authorization_server' | 'grant_store'

/** Names a function that has failed, by its result: a secret, key or certificate of the client, or the `encryptionKeys`. */
export type SecretOf = 'client_authentication' | 'encryption_keys'

/** The facts of an event, as the place where it happens knows them. */
export type TokenEventFacts =
  /**
   * Emitted when a login has put tokens into a session. `durationMs` is the time from the call of `set()` or `acquire()` until
   * the session was stored.
   */
  | { readonly type: 'logged_in'; readonly grantId: string; readonly durationMs: number }
  /** Emitted when a session has taken over tokens of the app, by the option `adopt`. */
  | { readonly type: 'adopted'; readonly grantId: string; readonly durationMs: number }
  /**
   * Emitted when a refresh has succeeded. `durationMs` is the time from taking the lease until the tokens were stored. An
   * operator need not act; a growing duration is a sign of a slow authorization server or store. `waiting` is how many callers
   * waited for it, `leaseWaitMs` how long it waited for the lease.
   */
  | {
      readonly type: 'refreshed'
      readonly grantId: string
      readonly revision: number
      readonly durationMs: number
      readonly reason: RefreshReason
      readonly waiting: number
      readonly leaseWaitMs: number
    }
  /**
   * Emitted when a refresh has failed. If `error.status` is 401, the user must log in again. Otherwise the session keeps its
   * tokens, and `error.message` says what to check.
   */
  | {
      readonly type: 'refresh_failed'
      readonly grantId: string
      readonly error: TokenError
      readonly durationMs: number
      readonly reason: RefreshReason
      readonly waiting: number
      readonly leaseWaitMs: number
    }
  /**
   * Emitted when the authorization server has refused a token for one need: a scope, a resource, an audience, or a need that
   * requires the user (`interaction_required`). The other tokens of the grant stay valid. The need is requested again after a
   * minute at first, and after up to 15 minutes later. Allow the client this scope or resource, or request it at the login.
   */
  | {
      readonly type: 'need_refused'
      readonly grantId: string
      readonly error: TokenError
      readonly durationMs: number
      readonly reason: RefreshReason
      readonly waiting: number
      readonly leaseWaitMs: number
    }
  /**
   * Emitted when a request for the client's own token (client credentials) has failed. It is requested again after a pause.
   * `error.message` says what to check.
   */
  | {
      readonly type: 'client_token_failed'
      readonly error: TokenError
      readonly durationMs: number
      readonly grantId?: string
    }
  /**
   * Emitted once for each process when a grant has ended, or with `scope: 'session'` the share of one session while other
   * sessions of the grant go on. With `isLocal: false` it ended in another process, and this process has learned of it.
   */
  | {
      readonly type: 'ended'
      readonly grantId: string
      readonly reason: EndReason
      readonly scope: 'grant' | 'session'
      readonly isLocal: boolean
    }
  /**
   * Emitted once for each session copy that this process cannot use: the user counts as logged out. With `other_version` the
   * request fails with `ERR_SESSION_STORE` instead. `grantId` is the id that the copy names, where it can be read. It is not
   * proven.
   */
  | { readonly type: 'session_ignored'; readonly grantId?: string; readonly reason: IgnoredReason }
  /**
   * Emitted when a stale session copy was brought up to date: an earlier write had failed, or a slow request or another process
   * had saved an old session. An operator need not act unless it happens often.
   */
  | { readonly type: 'session_repaired'; readonly grantId: string; readonly revision: number }
  /**
   * Emitted when a refresh has brought an ID token that could not be checked. It was left out, and the earlier ID token is
   * kept, as are the other new tokens. `error.message` says what to check: the issuer's keys, the clocks, or how the client
   * is registered.
   */
  | { readonly type: 'id_token_left_out'; readonly grantId: string; readonly error: TokenError }
  /**
   * Emitted when the session store has failed to store refreshed tokens. The grant store keeps them, and the next request
   * writes them again. Check the session store.
   */
  | { readonly type: 'session_write_failed'; readonly grantId: string; readonly error: TokenError }
  /** Emitted when the grant store has failed to store a login, new tokens or an end. `error.message` says what to check. */
  | { readonly type: 'grant_store_failed'; readonly grantId: string; readonly error: TokenError }
  /**
   * Emitted once for each grant when no store that outlives this process has stored refreshed tokens: neither the session
   * store nor a shared grant store. The process tries again for as long as it runs, so do not stop it before
   * `tokens_stored_again`: the users of these grants would have to log in again.
   */
  | { readonly type: 'tokens_unsaved'; readonly grantId: string; readonly error: TokenError }
  /**
   * Emitted when a store has the tokens of a grant again. `after: 'refused'`: the stores had refused the tokens before
   * (`tokens_unsaved`). This grant no longer keeps you from stopping the process. `after: 'lost'`: the grant store had
   * acknowledged the tokens, and lost them. Check its replication and failover.
   */
  | {
      readonly type: 'tokens_stored_again'
      readonly grantId: string
      readonly revision: number
      readonly after: 'refused' | 'lost'
    }
  /**
   * Emitted when tokens that no session may hold have been revoked at the authorization server: they arrived after the logout,
   * or belong to another user. An operator need not act after a logout. Tokens of another user, in a `refresh_failed` event
   * beside this one, are a fault of the authorization server.
   */
  | { readonly type: 'late_tokens_revoked'; readonly grantId: string }
  /**
   * Emitted when a full grant store in memory has forgotten a grant before its session expired: older copies of that session
   * are of no use any more. With `ended`, the store has forgotten that the grant had ended, so that an old copy of that
   * session may count as logged in again. Give `memoryGrantStore()` a larger `maxGrants`, or use a grant store in Redis.
   */
  | { readonly type: 'grant_evicted'; readonly grantId: string; readonly ended: boolean }
  /**
   * Emitted when tokens that no session may hold could not be revoked. They stay valid at the authorization server until they
   * expire. Revoke the grant there, and check the revocation endpoint.
   */
  | { readonly type: 'revocation_failed'; readonly grantId: string; readonly error: TokenError }
  /**
   * Emitted when the authorization server or the grant store has failed several times in a row, or has asked this process to
   * wait. Until `breaker_closed` this server or store gets about one request a second. Callers with a valid token get it, and all
   * others get 503 with `retryAfterMs` at once. `grantId` and `error` are those of the last failure; without a `grantId` another
   * process has told this one that the server asked to wait.
   */
  | {
      readonly type: 'breaker_opened'
      readonly grantId?: string
      readonly of: BreakerOf
      readonly error: TokenError
    }
  /** Emitted when the authorization server or the grant store works again, after `durationMs`. */
  | {
      readonly type: 'breaker_closed'
      readonly grantId?: string
      readonly of: BreakerOf
      readonly durationMs: number
    }

  /**
   * Emitted when a server has refused a proof of possession (`dpop`), and its clock differs from the clock of this machine. `offMs`
   * is the difference to the header `Date` of the response; it is positive if this machine's clock is ahead. A server that
   * sends nonces accepts the next proof in spite of the difference. A server that sends no nonces refuses every proof.
   * Synchronize the clock of this machine, or tell the server's operator.
   */
  | {
      readonly type: 'clock_off'
      readonly grantId?: string
      readonly origin: string
      readonly offMs: number
    }
  /**
   * Emitted when a function that returns a secret has failed, or has returned no valid secret. With `hasLast` the last valid
   * secret is still used. Otherwise there is no secret yet, and requests that need one fail with 503; the users stay logged in.
   * The function is called again within a minute. Check the function and the vault; `error.message` names the function.
   */
  | {
      readonly type: 'secret_failed'
      readonly grantId?: string
      readonly of: SecretOf
      readonly hasLast: boolean
      readonly error: TokenError
    }

/** The properties of every event. */
export interface EventContext {
  /** When the event happened, in milliseconds since the epoch. */
  readonly at: number
  /** The name of the tenant, where `sessionTokens()` is used with tenants. */
  readonly tenant?: string
  /** Returns the event for a log: the error as its code, message and statuses, without a stack. */
  toJSON(): object
}

/**
 * An event for the option `onEvent`. No event holds a token. The `grantId` distinguishes one login from another in a log and
 * gives access to nothing: it is a SHA-256 digest, for adopted tokens `adopted-` and a digest. `req.tokens.grantId` has it,
 * too. Durations are whole milliseconds.
 */
export type TokenEvent = TokenEventFacts & EventContext

/** Receives the events. An error or a rejection of the listener is ignored. */
export type TokenEventListener = (event: TokenEvent) => void
