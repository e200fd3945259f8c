import type { TokenError } from '../errors/token-error.js'
import type { RefreshInFlight } from '../grants/grant.js'
import { ownProperties } from '../options/own-properties.js'
import type { EndedSession, SessionAdapter } from '../sessions/session-adapter.js'
import { raceWindowOver } from '../sessions/store/write-race.js'
import { wholeGrant } from '../tokens/grant-proof.js'
import { newest, secretsOf, type TokenSet } from '../tokens/token-set.js'
import type { Shares, SharesContext } from './grant-shares.js'
import type { LeasedGrantContext } from './leased-grant.js'
import { laterVersionError } from './manager-errors.js'
import { revokeAfterEnd } from './revocation.js'
import { sessionStoreError } from './session-writer.js'

export interface LogoutContext extends LeasedGrantContext, SharesContext {
  readonly shares: Shares
}

/** The result of a logout: the tokens that the session held, and the first failure. */
interface Cleared {
  /** Returns the newest tokens. Reads the record of the grant, so it is called only for a revocation. */
  readonly tokens?: () => TokenSet
  /** Whether another process may be refreshing the grant. That process revokes the tokens that it gets. */
  readonly isLeased?: boolean
  readonly failure?: TokenError
}

/** Which sessions a logout ends: this session, which leaves its grant, or all sessions of the grant. */
type Scope = 'session' | 'grant'

/** Ends the grant of a session in every store that could bring it back. */
export class Logout {
  readonly #context: LogoutContext

  constructor(context: LogoutContext) {
    this.#context = context
  }

  /** Logs out in the app: the session holds no tokens any more, and no tokens come back. */
  async clear(session: SessionAdapter): Promise<void> {
    const { failure } = await this.#clear(session, 'session')
    if (failure) throw failure
  }

  /**
   * Logs out in the app and at the authorization server (RFC 7009). The user is logged out in the app even if the server fails.
   *
   * If a refresh of the grant is in flight, that refresh revokes the newest token when it ends. A spent refresh token would be
   * read as reuse.
   */
  async revoke(session: SessionAdapter): Promise<void> {
    const refreshing = this.#refreshOf(session)
    const { tokens, isLeased, failure } = await this.#clear(session, 'grant')
    await revokeAfterEnd(this.#context, refreshing, isLeased, tokens)
    if (failure) throw failure
  }

  #refreshOf(session: SessionAdapter): RefreshInFlight | undefined {
    const { codec, registry } = this.#context
    try {
      const held = codec.read(session.read() ?? session.lastKnown)
      return held && registry.peek(held.grantId)?.inFlight
    } catch {
      // The session cannot be read. The logout reports this.
      return undefined
    }
  }

  async #clear(session: SessionAdapter, scope: Scope): Promise<Cleared> {
    let copy: unknown
    let readError: unknown
    try {
      copy = session.read()
    } catch (error) {
      // For example, `adopt` fails since the app has already logged out by itself.
      readError = error
    }
    // The app may have discarded the session already.
    const cleared = await this.#clearCopy(session, copy ?? session.lastKnown, scope)
    const failed = readError !== undefined && { failure: sessionStoreError(readError, []) }
    return ownProperties({ ...cleared, ...failed })
  }

  /** Logs out in the session and in the grant store. Tries both before it reports the first failure. */
  async #clearCopy(session: SessionAdapter, copy: unknown, scope: Scope): Promise<Cleared> {
    const { codec, ends, registry, sessionWriter, shares } = this.#context
    const held = codec.read(copy)
    if (!held && codec.isOfLaterVersion(copy)) return { failure: laterVersionError() }
    if (!held) return this.#clearWithoutTokens(session)
    const { grantId } = held
    // Read once, and before the end: then the copy is no longer held opened.
    const { home, maxAgeMs } = session
    const tokens = newest(held, registry.tokensOf(grantId))
    let hasEnded = false
    const ended =
      scope === 'session'
        ? shares.leave({ home, maxAgeMs }, held, 'logged_out', tokens)
        : ends.end(wholeGrant(grantId), 'logged_out', tokens, { home, maxAgeMs })
    const ending = ended.finally(() => (hasEnded = true))
    let isClearedAfterEnd = false
    let stored = tokens
    const clears = (copy: unknown): boolean => {
      isClearedAfterEnd = hasEnded
      const found = codec.read(copy)
      stored = newest(stored, found)
      return this.#isRemovable(copy, found)
    }
    const clearError = await failureOf(session.clear(clears))
    const { record, mayRace, failure } = ownProperties(await ending)
    if (mayRace) await raceWindowOver()
    // Another request may have saved its session, with the copy, before the grant store knew of the logout.
    const clearsAgain = mayRace || !isClearedAfterEnd
    const removeError = clearsAgain ? await failureOf(sessionWriter.remove(session, held)) : undefined
    const failed = clearError ?? removeError
    if (failed) this.#removeLater(grantId, { home, maxAgeMs }, failure !== undefined)
    return {
      tokens: () => newest(stored, codec.readRecord(held, record?.tokens)),
      ...(record?.isLeased && { isLeased: true }),
      ...(failure && { failure }),
      ...(failed && {
        failure: sessionStoreError(failed.error, [...secretsOf(held), ...secretsOf(tokens)]),
      }),
    }
  }

  /** Notes that the copy of an ended grant is still stored, so that it is removed later. */
  #removeLater(grantId: string, { home, maxAgeMs }: EndedSession, record: boolean): void {
    const { restoration, retentions } = this.#context
    restoration.noteEnd(wholeGrant(grantId), home, { record, copy: true }, retentions.ofEnd(maxAgeMs))
  }

  async #clearWithoutTokens(session: SessionAdapter): Promise<Cleared> {
    const { codec } = this.#context
    const failed = await failureOf(session.clear((copy) => this.#isRemovable(copy, codec.read(copy))))
    return failed ? { failure: sessionStoreError(failed.error, []) } : {}
  }

  /** Whether a stored copy may be removed: its grant has ended, or no version of this library can read it. */
  #isRemovable(copy: unknown, tokens: TokenSet | undefined): boolean {
    const { codec, registry } = this.#context
    if (tokens !== undefined) return registry.endOf(tokens) !== undefined
    return copy !== undefined && !codec.isOfLaterVersion(copy)
  }
}

/** Resolves with the error of a promise, if it rejects. */
async function failureOf(promise: Promise<unknown>): Promise<{ error: unknown } | undefined> {
  try {
    await promise
    return undefined
  } catch (error) {
    return { error }
  }
}
