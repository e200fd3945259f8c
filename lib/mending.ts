import type { Background } from './background.js'
import type { Clock } from './clock.js'
import { within } from './deadline.js'
import type { Flights } from './flights.js'
import { identityOf } from './grant-proof.js'
import { crossingIsOver, type SessionWrites } from './session-writes.js'
import type { SessionAdapter } from './sessions/session-adapter.js'
import type { SessionCopies } from './sessions/session-copy.js'
import { type TokenSet, withShare } from './token-set.js'

export interface MendingContext {
  readonly clock: Clock
  readonly copies: SessionCopies
  readonly flights: Flights
  readonly writes: SessionWrites
  /** Whether the grant store keeps what the session cannot, for other processes as well. */
  readonly keepsForOthers?: boolean
  /** For how long a caller waits for a token, in milliseconds. */
  readonly timeoutMs: number
}

/** Brings sessions up to date that hold something else than they should, whatever the reason. */
export class Mending {
  readonly #context: MendingContext
  readonly #background: Background
  /** Up to which revision a request has seen to the session in the store. */
  readonly #healed = new WeakMap<SessionAdapter, number>()

  constructor(context: MendingContext, background: Background) {
    this.#context = context
    this.#background = background
  }

  /**
   * Sees to it that a session whose copy is stale is up to date in its store: an earlier write may have failed, or
   * another process may have saved an old session over it. Once for each request, and not during a refresh, which stores
   * what comes of it itself.
   */
  heal(session: SessionAdapter, tokens: TokenSet): void {
    if (session.isInAnswer) return
    const held = this.#stale(session, tokens)
    if (!held || this.#context.flights.of(tokens.grantId)) return
    if ((this.#healed.get(session) ?? 0) >= tokens.revision) return
    const name = `heal ${identityOf(held)}`
    if (this.#background.has(name)) return
    const { keepsForOthers, writes } = this.#context
    // Another process may be about to do it.
    const turn = keepsForOthers ? crossingIsOver() : Promise.resolve()
    const stored = turn.then(() => writes.store(session, withShare(tokens, held.share)))
    this.#background.start(
      name,
      stored.then((done) => void (done && this.#healed.set(session, tokens.revision))),
    )
  }

  /** Puts the newest tokens into a session that goes with the answer, if there is time left for it. */
  async bringAlong(session: SessionAdapter, tokens: TokenSet): Promise<void> {
    const { clock, timeoutMs, writes } = this.#context
    const held = session.isInAnswer && this.#stale(session, tokens)
    if (!held) return
    try {
      session.checkStorable()
    } catch {
      // The next request with this cookie is given what this process or the grant store knows.
      return
    }
    const stored = writes.store(session, withShare(tokens, held.share), clock.monotonic())
    // An app's own session layer may hang. The caller has its token, and a later request mends.
    await within(timeoutMs, stored, tooLate).catch(() => {})
  }

  /** A process that has brought back the copy of an ended grant may have died before it could mend that. */
  takeOutEnded(session: SessionAdapter): void {
    const { copies, keepsForOthers, writes } = this.#context
    const held = copies.read(session.read())
    if (held === undefined || !keepsForOthers) return
    const name = `take out ${identityOf(held)}`
    if (!this.#background.has(name)) this.#background.start(name, writes.takeOut(session, [identityOf(held)]))
  }

  /** What a session holds, if that is older than the tokens. */
  #stale(session: SessionAdapter, tokens: TokenSet): TokenSet | undefined {
    const { copies } = this.#context
    const copy = session.read()
    const held = copies.read(copy)
    const isStale = held !== undefined && held.revision < tokens.revision
    const leadsThere = copies.isReference && held?.isElsewhere && !copies.isToBeSealed(copy)
    return isStale && !leadsThere ? held : undefined
  }
}

const tooLate = () => new Error('The session did not take the tokens in time.')
