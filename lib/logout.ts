import { within } from './deadline.js'
import { TokenError } from './errors.js'
import type { Flight, Flights } from './flights.js'
import { identityOf } from './grant-proof.js'
import type { AuthorizationServer } from './oauth/authorization-server.js'
import type { Revocation } from './refresh.js'
import { laterVersion } from './refusals.js'
import { revokeTokens } from './revocation.js'
import {
  crossingIsOver,
  type SessionWrites,
  type SessionWritesContext,
  sessionStoreFailed,
} from './session-writes.js'
import type { SessionAdapter } from './sessions/session-adapter.js'
import type { Shares } from './shares.js'
import { newest, secretsOf, type TokenSet } from './token-set.js'

export interface LogoutContext extends SessionWritesContext {
  readonly server: AuthorizationServer
  readonly writes: SessionWrites
  readonly shares: Shares
  readonly flights: Flights
  readonly refreshTimeoutMs: number
  /** For how long a caller waits, in milliseconds. */
  readonly timeoutMs: number
}

/** What a session held before it was logged out, and what failed on the way. */
interface Cleared {
  readonly tokens?: TokenSet
  /** Another process may be refreshing: it revokes what it gets. */
  readonly isLeased?: boolean
  readonly failure?: TokenError
}

/** Whether a session leaves its grant, or the grant ends for all of its sessions. */
type Where = 'here' | 'everywhere'

/** Ends the grant of a session in every place that could bring it back. */
export class Logout {
  readonly #context: LogoutContext

  constructor(context: LogoutContext) {
    this.#context = context
  }

  /** Logs out here: the session holds no tokens any more, and none come back. */
  async here(session: SessionAdapter): Promise<void> {
    const { failure } = await this.#clear(session, 'here')
    if (failure) throw failure
  }

  /**
   * Logs out here and at the authorization server (RFC 7009). Here it holds even if the server cannot be told.
   *
   * The refresh token may be on its way to the server just now. Then the refresh under way revokes the newest one when it
   * ends: a spent one would be taken for reuse.
   */
  async everywhere(session: SessionAdapter): Promise<void> {
    const refreshing = this.#refreshOf(session)
    const { tokens, isLeased, failure } = await this.#clear(session, 'everywhere')
    const revocation = refreshing && (await this.#endOf(refreshing))
    if (revocation instanceof TokenError) throw revocation
    if (tokens && !revocation && !isLeased) await revokeTokens(this.#context, tokens)
    if (failure) throw failure
  }

  #refreshOf(session: SessionAdapter): Flight | undefined {
    const { copies, flights } = this.#context
    try {
      const held = copies.read(session.read() ?? session.seen)
      return held && flights.of(held.grantId)
    } catch {
      // The session cannot be read, which the logout reports.
      return undefined
    }
  }

  /** Waits until a refresh has ended, for as long as a caller waits. */
  async #endOf({ outcome, revocation }: Flight): Promise<Revocation | undefined> {
    const ended = outcome.then(ignore, ignore)
    await within(this.#context.timeoutMs, ended, stillRefreshing)
    return revocation()
  }

  async #clear(session: SessionAdapter, where: Where): Promise<Cleared> {
    let copy: unknown
    let unread: unknown
    try {
      copy = session.read()
    } catch (error) {
      // An `adopt` that fails, say, since the app has logged out by itself already.
      unread = error
    }
    // The app may have parted with the session already.
    const cleared = await this.#clearOf(session, copy ?? session.seen, where)
    return unread === undefined ? cleared : { ...cleared, failure: sessionStoreFailed(unread, []) }
  }

  /** Tries every place before it reports the first failure. */
  async #clearOf(session: SessionAdapter, copy: unknown, where: Where): Promise<Cleared> {
    const { copies, known, shares, writes } = this.#context
    const held = copies.read(copy)
    if (copies.isOfLaterVersion(copy)) return { failure: laterVersion() }
    if (!held) return this.#clearWithoutTokens(session)
    const { grantId } = held
    const tokens = newest(held, known.get(grantId))
    let over = false
    const identity = identityOf(held)
    const ended =
      where === 'here'
        ? shares.leave(session, identity, 'logged_out', tokens)
        : writes.end(grantId, 'logged_out', tokens, session)
    const ending = ended.finally(() => (over = true))
    let told = false
    let stored = tokens
    const ends = (copy: unknown): boolean => {
      told = over
      stored = newest(stored, copies.read(copy))
      return this.#isNobodys(copy)
    }
    const cleared = await settled(session.clear(ends))
    const { record, crossed, failure } = await ending
    if (crossed) await crossingIsOver()
    // Whoever saved the session before the grant store was told has put the copy back without a doubt.
    const clearedAgain = crossed || !told ? await settled(writes.takeOut(session, [identity])) : undefined
    const failed = cleared ?? clearedAgain
    if (failed) this.#takeOutLater(grantId, session, failure !== undefined)
    return {
      tokens: newest(stored, copies.readRecord(held, record?.tokens)),
      ...(record?.isLeased && { isLeased: true }),
      ...(failure && { failure }),
      ...(failed && {
        failure: sessionStoreFailed(failed.error, [...secretsOf(held), ...secretsOf(tokens)]),
      }),
    }
  }

  /** The copy of an ended grant is still stored. */
  #takeOutLater(grantId: string, { home, maxAgeMs }: SessionAdapter, record: boolean): void {
    const { restoration, retentions } = this.#context
    restoration.noteEnd(grantId, home, { record, copy: true }, retentions.ofEnd(maxAgeMs))
  }

  async #clearWithoutTokens(session: SessionAdapter): Promise<Cleared> {
    const failed = await settled(session.clear((copy) => this.#isNobodys(copy)))
    return failed ? { failure: sessionStoreFailed(failed.error, []) } : {}
  }

  /** Whether a stored copy is of a grant that has ended, or no copy of ours at all. */
  #isNobodys(copy: unknown): boolean {
    const { copies, known } = this.#context
    const tokens = copies.read(copy)
    if (tokens !== undefined) return known.endOf(tokens) !== undefined
    return copy !== undefined && !copies.isOfLaterVersion(copy)
  }
}

function ignore(): void {}

function stillRefreshing(): TokenError {
  return new TokenError(
    'ERR_TOKEN_ENDPOINT_UNAVAILABLE',
    'The user is logged out here. A refresh is still under way at the authorization server; when it ends, the library revokes ' +
      'the tokens, and the event late_tokens_revoked or revocation_failed tells.',
  )
}

/** The failure of a promise, if it fails. */
async function settled(promise: Promise<unknown>): Promise<{ error: unknown } | undefined> {
  try {
    await promise
    return undefined
  } catch (error) {
    return { error }
  }
}
