import {
  ConfigurationError,
  isLoggedOutError,
  SHARED_GRANT_STORES,
  type TokenError,
} from '../errors/token-error.js'
import { ownProperties } from '../options/own-properties.js'
import type { OfflineReference } from '../sessions/codec/offline-reference.js'
import { OfflineSession } from '../sessions/offline-session.js'
import type { SessionAdapter, SessionHome } from '../sessions/session-adapter.js'
import type { GrantSession } from '../sessions/session-grants.js'
import type { SessionLayer } from '../sessions/session-layer.js'
import { isDead, type TokenSet, withShare } from '../tokens/token-set.js'
import type { LeasedGrantContext } from './leased-grant.js'
import {
  endedReferenceError,
  forgottenReferenceError,
  LostReferenceError,
  noTokensError,
  unreadableTokensError,
} from './manager-errors.js'
import type { SessionViews } from './session-views.js'

/**
 * References to grants, for code that has no session. A reference leads to the grant of the session that it was made in, so that
 * all refreshes of the grant go through one algorithm, and the end of the session's share ends the reference.
 */
export class OfflineReferences {
  readonly #context: LeasedGrantContext
  readonly #views: SessionViews
  /** Returns where the session of a grant is stored, by its id. Set by the session layer. */
  homeOf: NonNullable<SessionLayer<object>['homeOf']> = () => undefined

  constructor(context: LeasedGrantContext, views: SessionViews) {
    this.#context = context
    this.#views = views
  }

  /**
   * Makes a reference to the grant of a session, and has the grant store keep the grant for at least `ttlMs`, and for as long as the
   * session could come back. A reference may refresh when the session has only old tokens, so the record must outlive the session.
   */
  async make(session: SessionAdapter, ttlMs: number): Promise<string> {
    const { clock, references, retentions } = this.#context
    const held = this.#views.requireTokens(session)
    this.#requirePlace(session)
    const { grantId, proof, share } = held
    const keepMs = Math.max(ttlMs, retentions.ofEnd(session.maxAgeMs).ttlMs)
    const reference: OfflineReference = ownProperties({
      grantId,
      ...(proof !== undefined && { proof }),
      ...(share !== undefined && { share }),
      keepMs,
      keptUntil: clock.now() + keepMs,
    })
    const text = references.write(reference)
    if (text === undefined) throw sealingRequiredError()
    const { home } = session
    await this.#keep(new OfflineSession(reference, () => home), session, held)
    return text
  }

  /**
   * Opens a reference: returns an {@link OfflineSession}, which takes the place of a session; `undefined` if the text cannot be
   * used here. No I/O.
   */
  open(text: string): OfflineSession | undefined {
    const reference = this.#context.references.read(text)
    return reference && new OfflineSession(reference, (of) => this.#findHome(of))
  }

  /** Returns where the session of a reference is stored, once this process has learned the record of its grant. */
  #findHome(of: GrantSession): SessionHome | undefined {
    const known = this.#context.registry.tokensOf(of.grantId)?.jobSession
    return known && known.share === of.share ? this.homeOf(known.sid, of) : undefined
  }

  /** Throws for a session in a cookie if there is no shared grant store: no place could keep the new tokens. */
  #requirePlace({ home }: SessionAdapter): void {
    const { codec, shared } = this.#context
    if (!shared.isShared && !codec.writesReferences && home === undefined) throw sharedStoreRequiredError()
  }

  /** Commits the tokens once more, so that the grant store keeps them for as long as the reference says. */
  async #keep(offline: OfflineSession, session: SessionAdapter, held: TokenSet): Promise<void> {
    const { clock, restoration, retentions, sessionWriter, shared } = this.#context
    const retention = retentions.ofReference(offline.maxAgeMs)
    const { share } = held
    const sid = session.home?.sid
    let tokens = held.isReference ? await this.#recordOf(held) : held
    for (;;) {
      const askedAt = clock.monotonic()
      const again = ownProperties({
        ...withShare(tokens, undefined),
        revision: tokens.revision + 1,
        ...(sid !== undefined && {
          jobSession: ownProperties({ sid, ...(share !== undefined && { share }) }),
        }),
      })
      const state = await shared.commit(again, retention, true).catch((cause) => this.#failed(held, cause))
      if (state.ended) throw noTokensError()
      if (state.isOurs) {
        const ofSession = withShare(again, held.share)
        restoration.noteTokens(ofSession, offline, { record: false, copy: offline.isReadOnly })
        await sessionWriter.store(session, ofSession, askedAt)
        return
      }
      if (!state.tokens) throw unreadableTokensError('ERR_GRANT_STORE')
      tokens = state.tokens
    }
  }

  async #recordOf(held: TokenSet): Promise<TokenSet> {
    const { shared } = this.#context
    const { ended, tokens } = await shared.read(held).catch((cause) => this.#failed(held, cause))
    if (ended) throw noTokensError()
    if (!tokens) throw forgottenReferenceError(shared.isShared)
    return tokens
  }

  #failed({ grantId }: TokenSet, cause: unknown): never {
    // A store may put anything into its message, even the tokens of other sessions.
    const details = { causeMessage: false }
    throw this.#context.shared.failed(
      grantId,
      'The grant store failed to keep the tokens of a reference',
      cause,
      details,
    )
  }

  /** Returns the error of a reference in place of the error of a session without tokens: it says why the grant has ended. */
  explained({ keptUntil, reference }: OfflineSession, error: unknown): unknown {
    const { clock, registry, shared } = this.#context
    const isForgotten = error instanceof LostReferenceError && clock.now() >= keptUntil
    if (isForgotten) return forgottenReferenceError(shared.isShared)
    if (!isLoggedOutError(error)) return error
    const ended = registry.endOf(reference)
    if (ended) return endedReferenceError(ended)
    const tokens = registry.tokensOf(reference.grantId)
    if (tokens) return isDead(tokens) ? endedReferenceError('invalid_grant', error as TokenError) : error
    const isLost = shared.isShared && clock.now() < keptUntil
    return isLost ? new LostReferenceError() : forgottenReferenceError(shared.isShared)
  }
}

function sharedStoreRequiredError(): ConfigurationError {
  return new ConfigurationError(
    'offlineReference() needs a grant store that processes share: the session has no store in which tokens that a job refreshes ' +
      `could be kept. Give \`grants\`: ${SHARED_GRANT_STORES}.`,
  )
}

function sealingRequiredError(): ConfigurationError {
  return new ConfigurationError(
    'offlineReference() needs `encryptionKeys` for tokens that came by `adopt`, or from an earlier version: their reference ' +
      'would show a token otherwise.',
  )
}
