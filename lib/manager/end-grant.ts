import { QUICK_TIMEOUT_MS } from '../concurrency/time-constants.js'
import type { TokenError } from '../errors/token-error.js'
import type { EndedGrant, GrantEnd } from '../grants/grant-store.js'
import { grantStoreError } from '../grants/grant-store-error.js'
import type { EndedSession } from '../sessions/session-adapter.js'
import { type GrantIdentity, sharesToken, wholeGrant } from '../tokens/grant-proof.js'
import { newest, secretsOf, type TokenSet } from '../tokens/token-set.js'
import type { ManagerContext } from './manager-context.js'
import type { Restoration } from './restoration/restoration.js'

export interface GrantEndsContext
  extends Pick<ManagerContext, 'codec' | 'emit' | 'registry' | 'retentions' | 'shared'> {
  readonly restoration: Restoration
}

/** The result of the end of a grant. */
export interface Ending {
  /** The record that the grant store had. */
  readonly record?: EndedGrant
  /** Whether another process may be about to write the session: the app's save there, or the tokens of a refresh. */
  readonly mayRace: boolean
  /** The grant store failed, so other processes may not know of the end. */
  readonly failure?: TokenError
}

/**
 * Ends grants, in this process and in the grant store. These places keep the tokens of an ended grant out:
 *
 * - this process: `GrantRegistry.learn()` refuses them. `SessionViews` ignores the copy of a session, and
 *   `SessionRepair.removeEnded()` removes it
 * - the grant store: a commit keeps nothing after the end. Other processes learn it by the news and the recent ends (grants/news.ts).
 *   If the store failed to store the end, or has lost it, restoration/ stores it again
 * - a refresh in flight: `LeasedGrant.keep()` stores no tokens of it, and `Refresh` revokes them (revocation.ts). After `replaced`
 *   they are not revoked, see `GrantEnd`
 * - old copies in stored sessions: session-writer.ts, logout.ts, and sessions/store for saves by the app
 * - new grants: `Login.#join()` puts no session into an ended grant, and adoption.ts adopts none of its tokens
 *
 * These parts end grants: logout.ts, login.ts and adoption.ts for a session, grant-shares.ts for one session of several,
 * ends-of-users.ts without a session, and in sessions/store stored-tokens.ts (the app removes the tokens from its session) and
 * session-destruction.ts (the app destroys a session or clears its store).
 * A definitive refusal does not come here: `Refresh` stores a token set without tokens.
 */
export class GrantEnds {
  readonly #context: GrantEndsContext

  constructor(context: GrantEndsContext) {
    this.#context = context
  }

  /**
   * Ends a grant, or the share of one session: in this process at once, then in the grant store. Never rejects. A failure is an
   * event, and the end is stored later.
   *
   * @param seen the newest tokens of the grant that the caller has seen
   * @param session where the caller has seen them
   */
  async end(
    of: GrantIdentity,
    reason: GrantEnd,
    seen: TokenSet | undefined,
    session: EndedSession,
  ): Promise<Ending> {
    const { codec, registry, restoration, retentions, shared } = this.#context
    const { grantId } = of
    const retention = retentions.ofEnd(session.maxAgeMs)
    const isProven = seen === undefined || this.#isProven(seen)
    if (isProven !== true && !(await isProven)) return { mayRace: false }
    const known = of.share === undefined ? registry.tokensOf(grantId) : undefined
    const tokens = seen ? newest(seen, known) : known
    const endedBefore = registry.endOf(of) !== undefined
    const isRecent = registry.wasRefreshedElsewhere(grantId)
    registry.end(of, reason, retention.ttlMs)
    if (!endedBefore) this.emitEnd(of, reason)
    try {
      const record = await shared.end(of, reason, retention)
      restoration.noteEnd(of, session.home, { record: false, copy: false }, retention)
      const isNewer = (record?.revision ?? 0) > (tokens?.revision ?? 0)
      const isBeingRefreshed = !codec.writesReferences && record !== undefined && (isNewer || isRecent)
      const mayRace = !endedBefore && (this.mayBeSaved(session) || isBeingRefreshed)
      return { ...(record && { record }), mayRace }
    } catch (cause) {
      const failure = this.#failed(grantId, cause, tokens)
      restoration.noteEnd(of, session.home, { record: true, copy: false }, retention)
      return { mayRace: !endedBefore && !codec.writesReferences, failure }
    }
  }

  /** Emits that this process has ended a grant, or the share of one session. */
  emitEnd({ grantId, share }: GrantIdentity, reason: GrantEnd): void {
    const scope = share === undefined ? 'grant' : 'session'
    this.#context.emit({ type: 'ended', grantId, reason, scope, isLocal: true })
  }

  /** Whether another process may have read the session with its copy, and be about to write it back. */
  mayBeSaved({ home }: EndedSession): boolean {
    return this.#context.shared.isShared && home !== undefined
  }

  #failed(grantId: string, cause: unknown, tokens: TokenSet | undefined): TokenError {
    const message =
      'The grant store failed to store the end of a grant, so other processes may go on using its tokens'
    const error = grantStoreError(message, { cause, secrets: tokens ? secretsOf(tokens) : [] })
    this.#context.emit({ type: 'grant_store_failed', grantId, error })
    return error
  }

  /** Whether tokens without a proof of their own are of the grant that they name, so that they may end it. */
  #isProven(seen: TokenSet): boolean | Promise<boolean> {
    const { codec, registry } = this.#context
    return (
      codec.isProof(seen) || registry.tokensOf(seen.grantId) !== undefined || this.#isProvenByRecord(seen)
    )
  }

  async #isProvenByRecord(seen: TokenSet): Promise<boolean> {
    const { codec, shared } = this.#context
    // If the store fails, the logout goes on and fails there.
    const state = await shared.peek(wholeGrant(seen.grantId), QUICK_TIMEOUT_MS).catch(() => undefined)
    if (!state?.record) return true
    const found = codec.readRecord(seen, state.record.tokens)
    return found !== undefined && (codec.writesReferences || sharesToken(seen, found))
  }
}
