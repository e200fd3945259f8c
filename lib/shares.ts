import { randomUUID } from 'node:crypto'
import { within } from './deadline.js'
import type { TokenError } from './errors.js'
import { partsOf } from './grant-proof.js'
import type { GrantEnd, GrantState, Retention } from './grants/grant-store.js'
import { ownProperties } from './own-properties.js'
import {
  type Ending,
  QUESTION_TIMEOUT_MS,
  type SessionWrites,
  type SessionWritesContext,
} from './session-writes.js'
import type { EndedSession, SessionAdapter } from './sessions/session-adapter.js'
import { joinedTokens, newest, type TokenSet } from './token-set.js'

export interface SharesContext extends SessionWritesContext {
  readonly writes: SessionWrites
}

/** A grant that a session is in now. */
export interface Joined {
  readonly tokens: TokenSet
  /** The grant store could not be told. */
  readonly failure?: TokenError
}

/** How many sessions of one grant are counted. */
const MAX_SHARES = 1_000

/**
 * The sessions of grants. Where logins hand over the same refresh token, their sessions are in one grant, each with a share of
 * its own. The grant's record lists the shares. A share that ends is an end of its own in the grant store, under its identity,
 * so that the session's old copies stay out while the grant goes on. The end of the last share is the end of the grant.
 *
 * A share is ended before it is taken off the list. So a process that dies in between has logged the session out, and leaves
 * no more than a grant without a session.
 */
export class Shares {
  readonly #context: SharesContext

  constructor(context: SharesContext) {
    this.#context = context
  }

  /**
   * Puts a session into a grant, with the first tokens of a login if the grant is new. Resolves with `undefined` where the grant
   * is over, so that the login begins another one, and with `'unreadable'` where another one must not be shared.
   */
  async join(session: SessionAdapter, first: TokenSet): Promise<Joined | 'unreadable' | undefined> {
    const { copies, known, retentions } = this.#context
    let held = known.get(first.grantId)
    for (;;) {
      if (held && held.refreshToken === undefined) return undefined
      const tokens = held ? joinedTokens(held, first) : first
      const record = copies.record(tokens)
      let state: GrantState
      try {
        state = await this.#commit(retentions.ofGrant(session), tokens, record)
      } catch (cause) {
        known.learn(tokens)
        return { tokens, failure: this.#context.writes.untold(tokens.grantId, cause) }
      }
      if (state.ended) {
        known.end(first.grantId, state.ended)
        return undefined
      }
      if (!state.record || state.record.tokens === record) {
        known.learn(tokens)
        return { tokens }
      }
      held = copies.readRecord(first, state.record.tokens)
      if (!held) return 'unreadable'
    }
  }

  /**
   * Ends the share of a session: in this process at once, then in the grant store. With the last share the grant ends. Never
   * rejects. `identity` is what {@link identityOf} makes of a copy of the session, `seen` the newest of it that was seen.
   */
  async leave(
    session: EndedSession,
    identity: string,
    why: GrantEnd,
    seen: TokenSet | undefined,
  ): Promise<Ending> {
    const { known, retentions, writes } = this.#context
    const { grantId, share } = partsOf(identity)
    if (share === undefined) return writes.end(grantId, why, seen, session)
    known.end(identity, why, retentions.ofEnd(session.maxAgeMs).ttlMs)
    const tokens = await this.#newestOf(seen, grantId)
    const others = tokens && othersThan(share, tokens)
    if (!others || others.length === 0) return writes.end(grantId, why, seen, session)
    const ending = await writes.end(identity, why, seen, session)
    const isLast = !(await this.#takeOff(session, tokens, share))
    if (isLast) return writes.end(grantId, why, seen, session)
    // Another process may have read the session before its share ended, and be about to write it.
    return { ...ending, crossed: this.#context.keepsForOthers === true && !this.#context.copies.isReference }
  }

  /** The newest that is known of a grant, here and in the grant store. */
  async #newestOf(seen: TokenSet | undefined, grantId: string): Promise<TokenSet | undefined> {
    const { copies, grants, known } = this.#context
    const here = known.get(grantId)
    const of = here ?? seen
    const state = await within(QUESTION_TIMEOUT_MS, grants.read(grantId), noAnswer).catch(
      (): GrantState => ({}),
    )
    if (state.ended || !of) return undefined
    // Only a record says for sure which sessions there are.
    return copies.readRecord(of, state.record?.tokens) ?? here
  }

  /** Takes a share off the list. Resolves with whether there is any other one. Never rejects. */
  async #takeOff(session: EndedSession, tokens: TokenSet, share: string): Promise<boolean> {
    const { copies, known, retentions } = this.#context
    const retention = retentions.ofGrant({
      isInAnswer: session.home === undefined,
      maxAgeMs: session.maxAgeMs,
    })
    let held = newest(tokens, known.get(tokens.grantId))
    for (;;) {
      const shares = othersThan(share, held)
      if (shares.length === 0) return false
      const without = ownProperties({ ...held, shares, revision: held.revision + 1 })
      const record = copies.record(without)
      const state = await this.#commit(retention, without, record).catch(() => undefined)
      if (!state?.record || state.record.tokens === record) {
        known.learn(without)
        return true
      }
      const found = copies.readRecord(held, state.record.tokens)
      if (!found?.shares?.includes(share)) return true
      held = found
    }
  }

  #commit(
    retention: Retention | undefined,
    { grantId, revision }: TokenSet,
    tokens: string,
  ): Promise<GrantState> {
    const committed = this.#context.grants.commit(grantId, randomUUID(), { revision, tokens }, retention)
    return within(QUESTION_TIMEOUT_MS, committed, noAnswer)
  }
}

function othersThan(share: string, { shares = [] }: TokenSet): string[] {
  return shares.filter((other) => other !== share).slice(-MAX_SHARES)
}

const noAnswer = () => new Error('The grant store did not answer in time.')
