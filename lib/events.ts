import type { TokenError } from './errors.js'

/**
 * What the library tells an `onEvent` listener. No event holds a token; `grantId` is a name that tells the grants in
 * a log apart: a SHA-256 digest, for adopted tokens `adopted-` and a digest. It gives access to nothing.
 */
export type TokenEvent =
  /** A refresh succeeded. `durationMs` is the time from taking the lease until the tokens were stored. */
  | {
      readonly type: 'refreshed'
      readonly grantId: string
      readonly revision: number
      readonly durationMs: number
    }
  /** A refresh failed. The session still holds what it held, unless the error says that the grant is dead. */
  | { readonly type: 'refresh_failed'; readonly grantId: string; readonly error: TokenError }
  /**
   * The authorization server refused a token for one need: a scope, a resource, an audience, or one that asks for the user
   * (`interaction_required`). The other tokens of the grant are as good as before. The server is not asked for this need
   * again for a minute at first, and for up to 15 minutes.
   */
  | { readonly type: 'need_refused'; readonly grantId: string; readonly error: TokenError }
  /** A refresh brought an ID token that nobody could check here and now. It was left out; the one before it is kept. */
  | { readonly type: 'id_token_left_out'; readonly grantId: string; readonly error: TokenError }
  /** The session store would not take refreshed tokens. They are kept in the grant store; the next request tries again. */
  | { readonly type: 'session_write_failed'; readonly grantId: string; readonly error: TokenError }
  /** The grant store could not be told of new tokens or of an end. */
  | { readonly type: 'grant_store_failed'; readonly grantId: string; readonly error: TokenError }
  /**
   * No store that outlives this process has taken refreshed tokens: neither the session store nor a shared grant store. Told
   * once for each grant. The process tries again for as long as it lives, and tells `tokens_stored_again`.
   */
  | { readonly type: 'tokens_unsaved'; readonly grantId: string; readonly error: TokenError }
  /**
   * Tokens are stored again: after `'refused'`, that is after `tokens_unsaved`; or after the grant store had `'lost'` what
   * it had acknowledged.
   */
  | {
      readonly type: 'tokens_stored_again'
      readonly grantId: string
      readonly revision: number
      readonly after: 'refused' | 'lost'
    }
  /** Tokens arrived for a grant that had ended meanwhile, and were revoked at the authorization server. */
  | { readonly type: 'late_tokens_revoked'; readonly grantId: string }
  /**
   * A grant store in memory had no room left, so it forgot a grant before its session was over: an older copy of that session
   * is of no use any more. With `ended`, it forgot that the grant had ended: an old copy of that session might be taken for
   * a login again. Give `memoryGrantStore()` a larger `maxGrants`, or use a grant store in Redis.
   */
  | { readonly type: 'grant_evicted'; readonly grantId: string; readonly ended: boolean }
  /** Tokens that should have been revoked could not be. */
  | { readonly type: 'revocation_failed'; readonly grantId: string; readonly error: TokenError }

export type TokenEventListener = (event: TokenEvent) => void

/** Calls a listener such that its failure, now or later, does no harm: an event is news, not a step. */
export function emitterOf(listener: TokenEventListener | undefined): TokenEventListener {
  if (!listener) return () => {}
  return (event) => {
    new Promise((resolve) => resolve(listener(event))).catch(() => {
      // The listener's own affair.
    })
  }
}
