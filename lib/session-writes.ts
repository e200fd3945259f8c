import { setTimeout as delay } from 'node:timers/promises'
import type { Clock } from './clock.js'
import { replaceOlder, takeOutCopies } from './copy-writes.js'
import { BUSY_MS, CROSSING_MS, PROMPT_MS } from './crossing.js'
import { within } from './deadline.js'
import { TokenError } from './errors.js'
import type { TokenEventListener } from './events.js'
import { identityOf, sharesToken } from './grant-proof.js'
import type { EndedGrant, GrantEnd, GrantStore } from './grants/grant-store.js'
import type { KnownGrants } from './grants/known-grants.js'
import { grantStoreFailed } from './refusals.js'
import type { Restoration } from './restoration.js'
import type { Retentions } from './retention.js'
import type { EndedSession, SessionHome } from './sessions/session-adapter.js'
import type { GrantKey, SessionCopies } from './sessions/session-copy.js'
import { newest, secretsOf, type TokenSet } from './token-set.js'

export interface SessionWritesContext {
  readonly grants: GrantStore
  /** Whether the grant store keeps what the session cannot, for other processes as well. */
  readonly keepsForOthers?: boolean
  readonly known: KnownGrants
  readonly copies: SessionCopies
  readonly retentions: Retentions
  readonly clock: Clock
  readonly emit: TokenEventListener
  readonly restoration: Restoration
}

/** How a grant was ended. */
export interface Ending {
  /** What the grant store had of it. */
  readonly record?: EndedGrant
  /** It was refreshed without our knowing, or just now: another process may be about to write the result to the session. */
  readonly crossed: boolean
  /** The grant store could not be told. */
  readonly failure?: TokenError
}

/** How long an operation of the grant store may take, beyond the time it is asked to wait. */
export const GRANT_STORE_TIMEOUT_MS = 5_000
/** How long the save of a session is held up by a question to the grant store. */
export const QUESTION_TIMEOUT_MS = 1_000
/** After a question without an answer the next ones get PROMPT_MS, for so long or until one is answered. */
const SILENCE_MS = 5_000

/**
 * The library's own writes to sessions, and what keeps them right when another process writes at the same moment (see
 * crossing.ts). In a single process nothing crosses, and none of it costs anything.
 */
export class SessionWrites {
  readonly #context: SessionWritesContext
  /** Until when nobody waits for the grant store for long, on the monotonic clock, since it did not answer. */
  #silentUntil = Number.NEGATIVE_INFINITY

  constructor(context: SessionWritesContext) {
    this.#context = context
  }

  /**
   * Writes a token set into the session's storage if it is newer than what is there; once more if that fails. Resolves
   * with `false` on a failure for good, which is told and does no harm: the next request finds the tokens in this process
   * or in the grant store.
   *
   * `aliveAt` says when the grant store was heard last of the grant, on the monotonic clock.
   */
  async store(
    session: SessionHome & { readonly seen?: unknown },
    tokens: TokenSet,
    aliveAt = Number.NEGATIVE_INFINITY,
    secrets: readonly string[] = secretsOf(tokens),
  ): Promise<boolean> {
    const { clock, copies, emit, known } = this.#context
    const held = copies.read(session.seen)
    // A reference leads to the newest tokens by itself; a copy from before a change of `keep` becomes one.
    const isDue = held && (!held.isElsewhere || copies.isToBeSealed(session.seen))
    if (copies.isReference && !isDue) return true
    const { grantId } = tokens
    const replace = () => replaceOlder(this.#context, session, tokens)
    try {
      const written = await replace().catch(replace)
      if (written && clock.monotonic() - aliveAt > PROMPT_MS) await this.ask(tokens, true)
      if (written && known.endOf(tokens)) await this.takeOut(session, [identityOf(tokens)])
      return true
    } catch (error) {
      emit({ type: 'session_write_failed', grantId, error: sessionStoreFailed(error, secrets) })
      return false
    }
  }

  /** Takes copies out of the session's storage that are of a grant or of a session, named by its id or its identity. */
  takeOut(session: SessionHome, names: readonly string[]): Promise<void> {
    return takeOutCopies(this.#context, session, names)
  }

  /**
   * Whether another process has refreshed or ended the grant of a copy that was just stored, or may be about to store what
   * it got, or whether nobody can say so: then what is stored must be looked at again. Never rejects.
   */
  async isOutdated(copy: unknown): Promise<boolean> {
    const { copies, known } = this.#context
    const held = copies.read(copy)
    if (!held || known.endOf(held)) return false
    const heardJustNow = known.heardWithin(BUSY_MS, held.grantId)
    const before = Math.max(held.revision, known.get(held.grantId)?.revision ?? 0)
    const isAnswered = await this.ask(held)
    const isNews = known.endOf(held) !== undefined || (known.get(held.grantId)?.revision ?? 0) > before
    return heardJustNow || isNews || !isAnswered
  }

  /**
   * Learns what the grant store knows of a grant. Resolves with whether it has answered soon; one that has just failed to
   * is given less time, unless somebody insists. Never rejects.
   */
  async ask(of: GrantKey, insists = false): Promise<boolean> {
    const { clock } = this.#context
    const isSilent = !insists && clock.monotonic() < this.#silentUntil
    try {
      await within(isSilent ? PROMPT_MS : QUESTION_TIMEOUT_MS, this.#learn(of), noAnswer)
      this.#silentUntil = Number.NEGATIVE_INFINITY
      return true
    } catch {
      // Whoever needs a refresh will be told.
      this.#silentUntil = clock.monotonic() + SILENCE_MS
      return false
    }
  }

  async #learn(of: GrantKey): Promise<void> {
    const { copies, grants, known, restoration } = this.#context
    const { grantId } = of
    const state = await grants.read(grantId)
    if (state.ended) known.end(grantId, state.ended)
    const tokens = copies.readRecord(of, state.record?.tokens)
    if (tokens) known.learn(tokens, true)
    await this.learnOfShare(of, tokens ?? known.get(grantId))
    known.hear(grantId)
    restoration.noteState(grantId, state)
  }

  /** Learns whether a session's share has ended, where the grant is in other sessions, too, or was. */
  async learnOfShare(of: GrantKey, { shares }: Pick<TokenSet, 'shares'> = {}): Promise<void> {
    const { grants, known } = this.#context
    if (of.share === undefined || shares === undefined) return
    if (shares.length === 1 && shares[0] === of.share) return
    const identity = identityOf(of)
    const { ended } = await grants.read(identity)
    if (ended) known.end(identity, ended)
  }

  /** The error of a grant store that could not be told of a login, which is told as an event, too. */
  untold(grantId: string, cause: unknown): TokenError {
    // A store may put anything into its message, the tokens of others as well.
    const details = { cause, causeMessage: false }
    const error = grantStoreFailed('The grant store could not be told of a login', details)
    this.#context.emit({ type: 'grant_store_failed', grantId, error })
    return error
  }

  /**
   * Ends a grant in this process at once, and in the grant store. `seen` is the newest of it that the caller has seen,
   * `session` where it was. Never rejects; a failure is told as an event, and the grant store is told later.
   */
  async end(
    grantId: string,
    why: GrantEnd,
    seen: TokenSet | undefined,
    session: EndedSession,
  ): Promise<Ending> {
    const { copies, emit, grants, keepsForOthers, known, restoration, retentions } = this.#context
    const retention = retentions.ofEnd(session.maxAgeMs)
    const isProven = seen === undefined || this.#isProven(seen)
    if (isProven !== true && !(await isProven)) return { crossed: false }
    const tokens = seen ? newest(seen, known.get(grantId)) : known.get(grantId)
    const endedBefore = known.ended(grantId) !== undefined
    const heardJustNow = known.heardWithin(BUSY_MS, grantId)
    known.end(grantId, why, retention.ttlMs)
    try {
      const record = await within(GRANT_STORE_TIMEOUT_MS, grants.end(grantId, why, retention), noAnswer)
      restoration.noteEnd(grantId, session.home, { record: false, copy: false }, retention)
      const unheard = (record?.revision ?? 0) > (tokens?.revision ?? 0)
      // A shared store that has no record has forgotten it, or was told before: by an answer that got lost.
      const isLost = record === undefined && keepsForOthers
      const crossed = !endedBefore && !copies.isReference && (isLost || (record && (unheard || heardJustNow)))
      return { ...(record && { record }), crossed: crossed === true }
    } catch (cause) {
      const failure = grantStoreFailed(
        'The grant store could not be told that a grant has ended, so other processes may not know',
        { cause, secrets: tokens ? secretsOf(tokens) : [] },
      )
      emit({ type: 'grant_store_failed', grantId, error: failure })
      restoration.noteEnd(grantId, session.home, { record: true, copy: false }, retention)
      return { crossed: !endedBefore && !copies.isReference, failure }
    }
  }

  /** Whether tokens that came without a proof of their own are of the grant that they name, so that they may end it. */
  #isProven(seen: TokenSet): boolean | Promise<boolean> {
    const { copies, known } = this.#context
    if (copies.isProof(seen) || known.get(seen.grantId)) return true
    return this.#isProvenByRecord(seen)
  }

  async #isProvenByRecord(seen: TokenSet): Promise<boolean> {
    const { copies, grants } = this.#context
    // Where it cannot be told the logout goes on, and fails at the grant store.
    const { record } = await within(QUESTION_TIMEOUT_MS, grants.read(seen.grantId), noAnswer).catch(() => ({
      record: undefined,
    }))
    if (!record) return true
    const found = copies.readRecord(seen, record.tokens)
    return found !== undefined && (copies.isReference || sharesToken(seen, found))
  }
}

/** Resolves when a process that was about to write to a session has done so. */
export async function crossingIsOver(): Promise<void> {
  await delay(CROSSING_MS)
}

export function sessionStoreFailed(cause: unknown, secrets: readonly string[]): TokenError {
  if (cause instanceof TokenError) return cause
  // Stores put whole sessions into their messages: the tokens of every mount, and session ids.
  return new TokenError('ERR_SESSION_STORE', 'The session store failed. Check it, then try again.', {
    cause,
    causeMessage: false,
    secrets,
  })
}

const noAnswer = () => new Error('The grant store did not answer in time.')
