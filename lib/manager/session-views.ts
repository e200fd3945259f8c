import type { Grant } from '../grants/grant.js'
import type { SessionAdapter } from '../sessions/session-adapter.js'
import type { GrantIdentity } from '../tokens/grant-proof.js'
import { isLoginOver } from '../tokens/login-lifetime.js'
import { newest, type TokenSet, withShare, withSharesOf } from '../tokens/token-set.js'
import type { IgnoredCopies } from './ignored-copies.js'
import type { ManagerContext } from './manager-context.js'
import { endUnknownError, loginOverError, noTokensError } from './manager-errors.js'
import { ReportedOnce } from './reported-once.js'
import type { SessionRepair } from './session-repair.js'

/** The knowledge of this process about a session's grant at one moment. */
export interface SessionView {
  /** The tokens in the session. */
  readonly held: TokenSet
  /** The newest tokens. */
  readonly tokens: TokenSet
  /** `undefined` if this process does not know the grant yet. */
  readonly grant: Grant | undefined
  /** The time that decides whether a token has expired. */
  readonly now: number
}

export interface SessionViewsContext
  extends Pick<ManagerContext, 'clock' | 'codec' | 'maxLoginAgeMs' | 'registry' | 'shared'> {
  readonly ignoredCopies: IgnoredCopies
  readonly repair: SessionRepair
  /** Called when a grant may have expired: its login is over, or its tokens cannot be refreshed. */
  readonly onExpired: (tokens: TokenSet, now: number) => void
}

/** Finds out what this process knows of the grants of sessions. It asks the grant store where this process may have missed an end. */
export class SessionViews {
  readonly #context: SessionViewsContext
  /** The ends of logins that the grant store was asked about. */
  readonly #over = new ReportedOnce()

  constructor(context: SessionViewsContext) {
    this.#context = context
  }

  /** Returns the newest tokens of a session that this process knows; `undefined` if the user is not logged in. No I/O. */
  tokensOf(session: SessionAdapter): TokenSet | undefined {
    const held = this.#held(session)
    if (!held) return undefined
    const { registry } = this.#context
    const grant = registry.grantIfKnown(held.grantId)
    if (!grant) return registry.endOf(held) ? undefined : held
    return grant.endOf(held.share) ? undefined : newest(held, grant.tokens)
  }

  /**
   * Returns the newest tokens of a session that this process knows, with the session's share of the grant. No I/O.
   *
   * @throws `ERR_NO_TOKENS` if the user is not logged in
   */
  requireTokens(session: SessionAdapter): TokenSet {
    const { held, tokens } = this.of(session)
    return withShare(tokens, held.share)
  }

  /**
   * Names the share of a session in its grant, which may have ended since the session was read; `undefined` if the session holds no
   * tokens. No I/O.
   */
  identityOf(session: SessionAdapter): GrantIdentity | undefined {
    return this.#held(session)
  }

  #held(session: SessionAdapter): TokenSet | undefined {
    const { codec, ignoredCopies } = this.#context
    const copy = session.read()
    const held = codec.read(copy)
    if (!held) ignoredCopies.note(copy)
    return held
  }

  /**
   * Returns what this process knows of a session's grant. No I/O.
   *
   * @throws `ERR_NO_TOKENS` if the user is not logged in
   */
  of(session: SessionAdapter): SessionView {
    const { clock, registry } = this.#context
    const held = this.#held(session)
    if (!held) return this.#throwNoTokens(session)
    const grant = registry.grantIfKnown(held.grantId)
    if (grant ? grant.endOf(held.share) : registry.endOf(held)) return this.#throwNoTokens(session)
    const tokens = newest(held, grant?.tokens)
    if (grant?.tokens && held.revision > grant.tokens.revision) this.#learn(session, held, grant.tokens)
    return { held, grant, tokens, now: grant ? grant.now() : clock.now() }
  }

  /**
   * Learns tokens that another process has stored in a session. Then jobs get these tokens from this process, and so does a grant
   * store that has lost them.
   */
  #learn(session: SessionAdapter, held: TokenSet, known: TokenSet): void {
    const { codec, registry } = this.#context
    if (session.isCookieBased || held.isReference || !codec.isProof(held)) return
    registry.learn(withSharesOf(held, known), true)
  }

  #throwNoTokens(session: SessionAdapter): never {
    const error = this.#context.ignoredCopies.errorOf(session.read())
    if (error) throw error
    this.#context.repair.removeEnded(session)
    throw noTokensError()
  }

  /**
   * Returns what this process knows of a session's grant, whose login is not over. Returns a promise only if the grant store has
   * to be asked first.
   *
   * @throws `ERR_NO_TOKENS` if the user is not logged in, `ERR_REAUTHENTICATION_REQUIRED` if the login is over
   */
  live(session: SessionAdapter): SessionView | Promise<SessionView> {
    if (session.isCookieBased || !this.#context.shared.news.isCurrent) return this.#learned(session)
    const view = this.of(session)
    const isKnown = view.grant !== undefined || !this.#mayHaveEnded(view)
    return isKnown && !this.#isOver(view) ? view : this.#learned(session)
  }

  async #learned(session: SessionAdapter): Promise<SessionView> {
    const { news } = this.#context.shared
    if (!news.isCurrent) await news.catchUp()
    if (session.isCookieBased) await this.#learnOfGrant(session)
    let view = this.of(session)
    if (!view.grant && this.#mayHaveEnded(view)) {
      await this.#learnOfGrant(session)
      view = this.of(session)
    }
    return this.#isOver(view) ? this.#renewed(session, view) : view
  }

  /** Throws `ERR_REAUTHENTICATION_REQUIRED` if the login of a grant is over, by the newest tokens. */
  throwIfOver(grant: Grant): void {
    const { tokens } = grant
    if (!tokens) return
    const now = grant.now()
    if (this.#isOver({ now, tokens })) this.#throwOver(tokens, now)
  }

  /**
   * Returns the newest tokens of a session that this process knows; `undefined` if the grant has ended. No I/O.
   *
   * @throws `ERR_REAUTHENTICATION_REQUIRED` if the login is over
   */
  tokensOfLiveLogin(session: SessionAdapter): TokenSet | undefined {
    const tokens = this.tokensOf(session)
    if (!tokens) return undefined
    const now = this.#context.registry.now(tokens.grantId)
    if (this.#isOver({ now, tokens })) this.#throwOver(tokens, now)
    return tokens
  }

  #isOver({ now, tokens }: Pick<SessionView, 'now' | 'tokens'>): boolean {
    return isLoginOver(tokens, now, this.#context.maxLoginAgeMs)
  }

  /**
   * Resolves with the view of a session whose login is over, as far as this process knows. Another process may know a later end
   * of the login, so the grant store is asked: once for each revision of the tokens.
   *
   * @throws `ERR_GRANT_STORE` without a response: the login may not be over
   */
  async #renewed(session: SessionAdapter, { held, tokens }: SessionView): Promise<SessionView> {
    const { shared } = this.#context
    const name = `${tokens.grantId} ${tokens.revision}`
    const isKnown = !shared.isShared || this.#over.has(name) || (await shared.readQuickly(held))
    const view = this.of(session)
    if (!this.#isOver(view)) return view
    if (!isKnown) throw endUnknownError()
    this.#over.isFirst(name)
    return this.#throwOver(view.tokens, view.now)
  }

  #throwOver(tokens: TokenSet, now: number): never {
    this.#context.onExpired(tokens, now)
    throw loginOverError()
  }

  /**
   * Asks the grant store once about a grant that this process does not know. A session in the browser may come back after a
   * logout in another process.
   */
  async #learnOfGrant(session: SessionAdapter): Promise<void> {
    const { codec, registry, shared } = this.#context
    const held = codec.read(session.read())
    if (held && !held.isReference && !registry.hasLearnedOf(held.grantId)) await shared.readQuickly(held)
  }

  /** Whether a grant that this process does not know may have ended before this process could hear of it. */
  #mayHaveEnded({ now, tokens }: SessionView): boolean {
    const { registry, shared } = this.#context
    const isOld = tokens.accessTokens.some(
      ({ expiresAt, obtainedAt }) => now < expiresAt && !shared.news.knowsEndsSince(obtainedAt),
    )
    return isOld && !registry.hasLearnedOf(tokens.grantId)
  }
}
