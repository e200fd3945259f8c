import { QUICK_TIMEOUT_MS } from '../concurrency/time-constants.js'
import type { TokenError } from '../errors/token-error.js'
import type { GrantEnd } from '../grants/grant-store.js'
import { ownProperties } from '../options/own-properties.js'
import type { EndedSession, SessionAdapter } from '../sessions/session-adapter.js'
import { type GrantIdentity, wholeGrant } from '../tokens/grant-proof.js'
import { joinedTokens, newest, type TokenSet } from '../tokens/token-set.js'
import type { Ending, GrantEnds, GrantEndsContext } from './end-grant.js'

export interface SharesContext extends GrantEndsContext {
  readonly ends: GrantEnds
}

/** A grant that a session has joined. */
export interface Joined {
  readonly tokens: TokenSet
  /** The grant store failed. */
  readonly failure?: TokenError
}

/** How many sessions of one grant are counted. */
const MAX_SHARES = 1_000

/**
 * The sessions of grants. Sessions whose logins handed over the same refresh token are in one grant, and each has a share of it.
 * The grant's record lists the shares. The end of a share has a record of its own in the grant store, so the old copies of that
 * session are not accepted while the grant goes on. The end of the last share is the end of the grant.
 *
 * A share is ended before it leaves the list. So if the process dies in between, the session is logged out, and the grant has no
 * session any more.
 */
export class Shares {
  readonly #context: SharesContext

  constructor(context: SharesContext) {
    this.#context = context
  }

  /**
   * Puts a session into a grant; `first` are the tokens of its login. Resolves with `undefined` if the grant has ended: then the
   * login starts another grant. Resolves with `'unreadable'` if this process cannot read the record: then the session gets a new
   * grant of its own.
   */
  async join(session: SessionAdapter, first: TokenSet): Promise<Joined | 'unreadable' | undefined> {
    const { registry, retentions, shared } = this.#context
    const { grantId } = first
    const retention = retentions.ofGrant(session)
    let held = registry.tokensOf(grantId)
    for (;;) {
      if (held && held.refreshToken === undefined) return undefined
      const tokens = held ? joinedTokens(held, first) : first
      try {
        const state = await shared.commit(tokens, retention, held !== undefined)
        if (state.ended) return undefined
        if (state.isOurs) return { tokens }
        held = state.tokens
      } catch (cause) {
        registry.learn(tokens)
        // A store may put anything into its message, even the tokens of other sessions.
        const details = { causeMessage: false }
        return {
          tokens,
          failure: shared.failed(grantId, 'The grant store failed to store a login', cause, details),
        }
      }
      if (!held) return 'unreadable'
    }
  }

  /**
   * Ends a session's share of a grant: in this process at once, then in the grant store. With the last share the grant ends.
   * Never rejects.
   *
   * @param seen the newest tokens of the grant that the caller has seen
   */
  async leave(
    session: EndedSession,
    of: GrantIdentity,
    reason: GrantEnd,
    seen: TokenSet | undefined,
  ): Promise<Ending> {
    const { ends, registry, retentions } = this.#context
    const { grantId, share } = of
    const endGrant = () => ends.end(wholeGrant(grantId), reason, seen, session)
    if (share === undefined) return endGrant()
    const endedBefore = registry.endOf(of) !== undefined
    registry.end(of, reason, retentions.ofEnd(session.maxAgeMs).ttlMs)
    const tokens = await this.#newestOf(seen, grantId)
    if (!tokens || sharesBeside(share, tokens).length === 0) return endGrant()
    const ending = await ends.end(of, reason, seen, session)
    const isLast = !(await this.#removeShare(session, tokens, share))
    if (isLast) return endGrant()
    if (!endedBefore) ends.emitEnd(of, reason)
    return { ...ending, mayRace: ends.mayBeSaved(session) }
  }

  /** Resolves with the newest token set of a grant, of this process and the grant store. */
  async #newestOf(seen: TokenSet | undefined, grantId: string): Promise<TokenSet | undefined> {
    const { codec, registry, shared } = this.#context
    const known = registry.tokensOf(grantId)
    const of = known ?? seen
    const state = await shared.peek(wholeGrant(grantId), QUICK_TIMEOUT_MS).catch(() => undefined)
    if (state?.ended || !of) return undefined
    // Only the record lists all sessions of the grant.
    return codec.readRecord(of, state?.record?.tokens) ?? known
  }

  /** Removes a share from the list of its grant. Resolves with whether other shares are left. Never rejects. */
  async #removeShare(session: EndedSession, tokens: TokenSet, share: string): Promise<boolean> {
    const { registry, retentions, shared } = this.#context
    const { home, maxAgeMs } = session
    const retention = retentions.ofGrant({ isCookieBased: home === undefined, maxAgeMs })
    let held = newest(tokens, registry.tokensOf(tokens.grantId))
    for (;;) {
      const shares = sharesBeside(share, held)
      if (shares.length === 0) return false
      const without = ownProperties({ ...held, shares, revision: held.revision + 1 })
      const state = await shared.commit(without, retention, true).catch(() => undefined)
      if (!state || state.isOurs || !state.record) {
        registry.learn(without)
        return true
      }
      if (!state.tokens?.shares?.includes(share)) return true
      held = state.tokens
    }
  }
}

function sharesBeside(share: string, { shares = [] }: TokenSet): string[] {
  return shares.filter((other) => other !== share).slice(-MAX_SHARES)
}
