import { SingleFlight } from '../concurrency/single-flight.js'
import { GRANT_STORE_TIMEOUT_MS } from '../concurrency/time-constants.js'
import { ConfigurationError, TokenError } from '../errors/token-error.js'
import { grantStoreError } from '../grants/grant-store-error.js'
import type { SharedState } from '../grants/shared-grants.js'
import { differentSubjects, issuedAt } from '../oauth/id-token/id-token.js'
import { adoptedTokens } from '../oauth/token-endpoint/handed-over-tokens.js'
import { ownProperties } from '../options/own-properties.js'
import type { SessionAdapter } from '../sessions/session-adapter.js'
import { ADOPTED, adoptedGrantId, wholeGrant } from '../tokens/grant-proof.js'
import { firstTokenSet } from '../tokens/token-response.js'
import { newest, secretsOf, type TokenSet } from '../tokens/token-set.js'
import { type Adopter, AdoptingSession } from './adopting-session.js'
import type { GrantEnds } from './end-grant.js'
import type { IgnoredCopies } from './ignored-copies.js'
import type { ManagerContext } from './manager-context.js'
import { type SessionWriter, sessionStoreError } from './session-writer.js'

export interface AdoptionContext extends ManagerContext {
  /** The app's function. Returns the tokens that the app has for a request, if any. */
  readonly adopt: (request: unknown) => unknown
  readonly ends: GrantEnds
  readonly ignoredCopies: IgnoredCopies
  readonly sessionWriter: SessionWriter
}

/**
 * Adopts tokens that the app held before it used this library, or that its login library keeps.
 *
 * The id of an adopted grant is made from the refresh token that the app handed over. So every process that finds this refresh
 * token finds the same grant and the same lease. It learns that the grant was refreshed or has ended, even if the app hands over
 * the old token again. Another refresh token is another login.
 *
 * The session is not saved as a whole. The tokens are added to the stored session, as after a refresh.
 */
export class Adoption implements Adopter {
  readonly #context: AdoptionContext
  /** The adoptions in flight, by grant id. Each resolves with whether the session holds the grant afterwards. */
  readonly #inFlight = new SingleFlight<string, boolean>()

  constructor(context: AdoptionContext) {
    this.#context = context
  }

  /** Returns a request's session in which the app's tokens are found if it holds no tokens of this library. */
  of(session: SessionAdapter, request: unknown): AdoptingSession {
    return new AdoptingSession(this, session, request)
  }

  /** Returns the app's tokens for a request as the first tokens of a grant. `known` are the tokens of the last call. */
  handedOver(request: unknown, known: TokenSet | undefined): TokenSet | undefined {
    const { audience, clock, defaultLifetimeMs } = this.#context
    const now = clock.now()
    const given = this.#asConfigurationError(() => adoptedTokens(this.#context.adopt(request), now))
    if (!given) return undefined
    const tokens = firstTokenSet(ADOPTED, given, now, defaultLifetimeMs)
    if (known && known.proof === identifyingToken(tokens)) return known
    const proof = identifyingToken(tokens) ?? ''
    const loginIssuedAt = issuedAt(tokens.idToken)
    const grantId = adoptedGrantId(audience, proof)
    return ownProperties({ ...tokens, grantId, proof, ...(loginIssuedAt !== undefined && { loginIssuedAt }) })
  }

  /** Returns the tokens in a session copy, unless their grant has ended. */
  live(copy: unknown): TokenSet | undefined {
    const tokens = this.#context.codec.read(copy)
    if (!tokens) this.#context.ignoredCopies.note(copy)
    return tokens && !this.#context.registry.ended(tokens.grantId) ? tokens : undefined
  }

  isOfLaterVersion(copy: unknown): boolean {
    return this.#context.codec.isOfLaterVersion(copy)
  }

  copyOf(tokens: TokenSet): unknown {
    return this.#context.codec.write(tokens)
  }

  /** Adopts tokens into a session. Concurrent calls share one adoption. Resolves with whether the session holds them now. */
  adopt(session: SessionAdapter, tokens: TokenSet): Promise<boolean> {
    return this.#inFlight.do(tokens.grantId, () => this.#adopt(session, tokens))
  }

  /** Ends the grant of the tokens that the app has for a request, if it has any. */
  async endAdopted(session: SessionAdapter, request: unknown): Promise<void> {
    const { ends, registry } = this.#context
    let tokens: TokenSet | undefined
    try {
      tokens = this.handedOver(request, undefined)
    } catch {
      // Tokens that cannot be read cannot be adopted, so there is nothing to end.
    }
    if (!tokens || registry.ended(tokens.grantId)) return
    await ends.end(wholeGrant(tokens.grantId), 'logged_out', tokens, session)
  }

  /** Resolves when no adoption is in flight. */
  async close(): Promise<void> {
    await this.#inFlight.drain()
  }

  #asConfigurationError<T>(handOver: () => T): T {
    try {
      return handOver()
    } catch (cause) {
      if (cause instanceof TokenError) throw cause
      throw new ConfigurationError(
        '`adopt` failed. It must return tokens, or undefined if there are none: adopt: (request) => request.session?.oauth.',
        // The messages of other errors may quote the session.
        { cause, causeMessage: cause instanceof TypeError },
      )
    }
  }

  async #adopt(session: SessionAdapter, handedOver: TokenSet): Promise<boolean> {
    const { clock, emit, registry } = this.#context
    const { grantId } = handedOver
    const startedAt = clock.monotonic()
    const known = registry.tokensOf(grantId)
    // A grant store that has lost the grant must not get tokens back that a refresh has replaced.
    const tokens = newest(handedOver, known)
    const state = await this.#commit(session, tokens, known !== undefined)
    if (registry.ended(grantId)) return false
    const found = newest(tokens, state?.tokens)
    registry.learn(found, found !== handedOver)
    const isStored = await this.#store(session, newest(found, registry.tokensOf(grantId)))
    const isFirst = isStored && !known && found === handedOver
    if (isFirst) emit({ type: 'adopted', grantId, durationMs: clock.monotonic() - startedAt })
    return isStored
  }

  /** Commits the tokens to the grant store. Resolves with its state, which may be newer, or an end. */
  async #commit(
    session: SessionAdapter,
    tokens: TokenSet,
    isStoredAgain: boolean,
  ): Promise<SharedState | undefined> {
    const { emit, onGrantStoreError, retentions, shared } = this.#context
    const { grantId } = tokens
    try {
      return await shared.commit(tokens, retentions.ofGrant(session), isStoredAgain, GRANT_STORE_TIMEOUT_MS)
    } catch (cause) {
      const error = grantStoreError('The grant store failed, so tokens could not be adopted', {
        cause,
        secrets: secretsOf(tokens),
      })
      if (onGrantStoreError !== 'local') throw error
      emit({ type: 'grant_store_failed', grantId, error })
      return undefined
    }
  }

  /** Writes the tokens to the stored session, unless it holds the tokens of another login. Earlier adopted tokens are replaced. */
  async #store(session: SessionAdapter, tokens: TokenSet): Promise<boolean> {
    const { codec, registry, sessionWriter, shared } = this.#context
    const { grantId, revision } = tokens
    const previous = this.live(session.read())
    let isOfAnotherLogin = false
    const replaces = (copy: unknown): boolean => {
      const stored = this.live(copy)
      if (registry.ended(grantId) || codec.isOfLaterVersion(copy)) return false
      if (stored?.grantId === grantId) registry.learn(stored, true)
      if (!stored || stored.grantId === grantId) return !stored || stored.revision < revision
      isOfAnotherLogin = stored.grantId !== previous?.grantId
      return !isOfAnotherLogin
    }
    try {
      session.checkStorable()
    } catch {
      // The next request adopts the tokens again, and finds the newest ones in the grant store.
      return true
    }
    try {
      await session.replace(codec.write(tokens), replaces)
      // A logout at the same time ended the grant and did not find this copy in the session.
      await shared.readQuickly(tokens)
      if (registry.ended(grantId)) await sessionWriter.remove(session, wholeGrant(grantId))
    } catch (error) {
      throw sessionStoreError(error, secretsOf(tokens))
    }
    if (isOfAnotherLogin || registry.ended(grantId)) return false
    if (previous && previous.grantId !== grantId) await this.#endPrevious(session, previous, tokens)
    return true
  }

  /** Ends the grant that the session adopted earlier: the app has a new login now. */
  async #endPrevious(session: SessionAdapter, previous: TokenSet, tokens: TokenSet): Promise<void> {
    const seen = newest(previous, this.#context.registry.tokensOf(previous.grantId))
    const reason = differentSubjects(seen.idToken, tokens.idToken) ? 'logged_out' : 'replaced'
    await this.#context.ends.end(wholeGrant(previous.grantId), reason, seen, session)
  }
}

/** Returns the token that the id of an adopted grant is made from. */
function identifyingToken({ refreshToken, accessTokens }: TokenSet): string | undefined {
  return refreshToken ?? accessTokens[0]?.token
}
