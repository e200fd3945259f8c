import { TokenError } from '../errors/token-error.js'
import type { SessionHome } from '../sessions/session-adapter.js'
import { isFast } from '../sessions/store/write-race.js'
import type { GrantIdentity } from '../tokens/grant-proof.js'
import { secretsOf, type TokenSet, withShare } from '../tokens/token-set.js'
import type { ManagerContext } from './manager-context.js'

export type SessionWriterContext = Pick<ManagerContext, 'clock' | 'codec' | 'emit' | 'registry' | 'shared'>

/** Whether a write has replaced an older copy, or has found no older copy of the session's grant. */
export type Written = 'replaced' | 'kept'

/**
 * Writes token sets into stored sessions, and keeps them right when another process writes at the same moment (see
 * write-race.ts). With one process there is no write race and no extra cost.
 */
export class SessionWriter {
  readonly #context: SessionWriterContext

  constructor(context: SessionWriterContext) {
    this.#context = context
  }

  /**
   * Writes a token set into the session's storage if it is newer than the stored one. Tries once more after a failure. Resolves
   * with `false` after the second failure, which is an event and does no harm: the next request finds the tokens in this
   * process or in the grant store.
   *
   * If the grant has ended meanwhile, the tokens are removed again. If this process has learned of newer tokens meanwhile, they are
   * written as well; `'replaced'` holds for the first write, even if this second one fails.
   *
   * @param aliveAt when the grant store last confirmed that the grant has not ended, on the monotonic clock
   */
  async store(
    session: SessionHome & { readonly lastKnown?: unknown },
    tokens: TokenSet,
    aliveAt = Number.NEGATIVE_INFINITY,
    secrets = () => secretsOf(tokens),
  ): Promise<Written | false> {
    const { clock, codec, emit, registry, shared } = this.#context
    if (codec.writesReferences && !this.#isDue(session.lastKnown)) return 'kept'
    const { grantId, revision, share } = tokens
    const replace = () => this.replaceOlder(session, tokens)
    try {
      const written = await replace().catch(replace)
      if (!written) return 'kept'
      if (!isFast(clock.monotonic() - aliveAt)) await shared.readQuickly(tokens, true)
      const newest = registry.newestOf(tokens)
      if (newest === 'ended') await this.remove(session, tokens)
      // The write may have been slow.
      else if (newest && newest.revision > revision) await this.store(session, withShare(newest, share))
      return 'replaced'
    } catch (error) {
      const failure = sessionStoreError(error, secrets())
      // The response with the session cookie has been sent. The shared grant store has the tokens.
      const isExpected = failure.code === 'ERR_HEADERS_SENT' && shared.isShared
      if (!isExpected) emit({ type: 'session_write_failed', grantId, error: failure })
      return false
    }
  }

  /** Whether a reference must be written: a stored reference leads to the newest tokens by itself; a copy does not. */
  #isDue(copy: unknown): boolean {
    const { codec } = this.#context
    const held = codec.read(copy)
    return held !== undefined && (!held.isReference || codec.isToBeSealed(copy))
  }

  /** Replaces an older copy of the same session in its storage. Resolves with whether there was one. */
  replaceOlder(home: SessionHome, tokens: TokenSet): Promise<boolean> {
    const { codec, registry } = this.#context
    const { grantId, revision, share } = tokens
    return home.replace(codec.write(tokens), (copy) => {
      const stored = codec.read(copy)
      if (stored?.grantId !== grantId || stored.share !== share || registry.endOf(tokens)) return false
      return stored.revision < revision
    })
  }

  /** Removes the copies of a session's share of a grant from its storage; without a share, all copies of the grant. */
  async remove(home: SessionHome, { grantId, share }: GrantIdentity): Promise<void> {
    const { codec } = this.#context
    await home.replace(undefined, (copy) => {
      const stored = codec.read(copy)
      return stored?.grantId === grantId && (share === undefined || stored.share === share)
    })
  }

  /**
   * Resolves with whether a token set that was just stored must be looked at again: another process has refreshed or ended its
   * grant, or may be about to store its new tokens, or the grant store did not respond. Never rejects.
   */
  async isOutdated(held: TokenSet): Promise<boolean> {
    const { registry, shared } = this.#context
    if (registry.endOf(held)) return false
    const { grantId } = held
    const isRecent = registry.wasRefreshedElsewhere(grantId)
    const before = Math.max(held.revision, registry.tokensOf(grantId)?.revision ?? 0)
    const hasResponded = await shared.readQuickly(held)
    const isNewer = (registry.tokensOf(grantId)?.revision ?? 0) > before
    return isRecent || isNewer || registry.endOf(held) !== undefined || !hasResponded
  }
}

export function sessionStoreError(cause: unknown, secrets: readonly string[]): TokenError {
  if (cause instanceof TokenError) return cause
  // Stores put whole sessions into their messages: the tokens of every middleware, and session ids.
  return new TokenError('ERR_SESSION_STORE', 'The session store failed. Check it, then try again.', {
    cause,
    causeMessage: false,
    secrets,
  })
}
