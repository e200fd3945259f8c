import type { BackgroundTasks } from '../concurrency/background-tasks.js'
import { withTimeout } from '../concurrency/with-timeout.js'
import { TokenError } from '../errors/token-error.js'
import type { Grant, RefreshInFlight } from '../grants/grant.js'
import { ownProperties } from '../options/own-properties.js'
import type { SessionAdapter } from '../sessions/session-adapter.js'
import {
  type AccessToken,
  isDueAhead,
  keyOf,
  needAtRefresh,
  needKey,
  serves,
  unexpiredToken,
  usableToken,
} from '../tokens/access-token.js'
import type { RefreshReason } from '../tokens/events.js'
import type { GrantIdentity } from '../tokens/grant-proof.js'
import { canRefresh, isLoginOver } from '../tokens/login-lifetime.js'
import type { TokenNeed } from '../tokens/token-need.js'
import { newest, type TokenSet, withShare } from '../tokens/token-set.js'
import type { IgnoredCopies } from './ignored-copies.js'
import type { LeasedGrantContext } from './leased-grant.js'
import { cannotRefreshError, loginOverError, noTokensError, notRefreshedError } from './manager-errors.js'
import { RefreshesInFlight } from './refreshes-in-flight.js'
import { ReportedOnce } from './reported-once.js'
import { SessionRepair } from './session-repair.js'

export interface AccessTokensContext extends LeasedGrantContext {
  readonly ignoredCopies: IgnoredCopies
  /** Called when a grant may have expired: its login is over, or its tokens cannot be refreshed. */
  readonly onExpired: (tokens: TokenSet, now: number) => void
}

/** What this process knows of a session's grant at one moment. */
interface View {
  /** The tokens in the session. */
  readonly held: TokenSet
  /** The newest tokens. */
  readonly tokens: TokenSet
  /** Absent if this process does not know the grant yet. */
  readonly grant: Grant | undefined
  /** The time that decides whether a token has expired. */
  readonly now: number
}

const NO_MARGIN = { ms: 0, part: 0 }
/** A token that expires sooner than this, in milliseconds, is not handed out instead of a refreshed one. */
const LAST_MOMENT_MS = 100

/** Returns access tokens to callers: a valid one at once, otherwise one of a refresh. */
export class AccessTokens {
  readonly #context: AccessTokensContext
  readonly #refreshes: RefreshesInFlight
  readonly #repair: SessionRepair
  /** The ends of logins that the grant store was asked about. */
  readonly #over = new ReportedOnce()

  constructor(context: AccessTokensContext, background: BackgroundTasks) {
    this.#context = context
    this.#refreshes = new RefreshesInFlight(context, background)
    this.#repair = new SessionRepair(context, background)
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
    const { held, tokens } = this.#view(session)
    return withShare(tokens, held.share)
  }

  /** Names the share of a session in its grant; `undefined` if the user is not logged in. No I/O. */
  identityOf(session: SessionAdapter): GrantIdentity | undefined {
    const held = this.#held(session)
    return held && this.tokensOf(session) && held
  }

  #held(session: SessionAdapter): TokenSet | undefined {
    const { codec, ignoredCopies } = this.#context
    const copy = session.read()
    const held = codec.read(copy)
    if (!held) ignoredCopies.note(copy)
    return held
  }

  /** @throws `ERR_NO_TOKENS` if the user is not logged in */
  #view(session: SessionAdapter): View {
    const { clock, registry } = this.#context
    const held = this.#held(session)
    if (!held) return this.#throwNoTokens(session)
    const grant = registry.grantIfKnown(held.grantId)
    if (grant ? grant.endOf(held.share) : registry.endOf(held)) return this.#throwNoTokens(session)
    return { held, grant, tokens: newest(held, grant?.tokens), now: grant ? grant.now() : clock.now() }
  }

  #throwNoTokens(session: SessionAdapter): never {
    const error = this.#context.ignoredCopies.errorOf(session.read())
    if (error) throw error
    this.#repair.removeEnded(session)
    throw noTokensError()
  }

  /** Resolves with an access token that serves the need. No I/O if the token at hand is valid. */
  async get(session: SessionAdapter, need: TokenNeed): Promise<AccessToken> {
    const { news } = this.#context.shared
    if (!news.isCurrent) await news.catchUp()
    if (session.isCookieBased) await this.#learnOfGrant(session)
    let view = this.#view(session)
    if (!view.grant && this.#mayHaveEnded(view)) {
      await this.#learnOfGrant(session)
      view = this.#view(session)
    }
    // A request with a valid token waits for no promise more.
    if (this.#isOver(view)) view = await this.#renewed(session, view)
    const { held, now, tokens } = view
    // Also before a refresh, which may wait for the lease: other requests find no newer tokens in the session until then.
    if (tokens !== held) this.#repair.repair(session, tokens)
    const usable = usableToken(tokens, need, now, this.#context.leeway)
    if (usable) this.#refreshAhead(session, view, need, usable)
    const token = usable ?? (await this.#refreshedOrUnexpired(session, view, need))
    if (session.isCookieBased) await this.#repair.writeToResponse(session, this.tokensOf(session) ?? tokens)
    return token
  }

  /** Whether a grant that this process does not know may have ended before this process could hear of it. */
  #mayHaveEnded({ now, tokens }: View): boolean {
    const { registry, shared } = this.#context
    const isOld = tokens.accessTokens.some(
      ({ expiresAt, obtainedAt }) => now < expiresAt && !shared.news.knowsEndsSince(obtainedAt),
    )
    return isOld && !registry.hasLearnedOf(tokens.grantId)
  }

  /**
   * Resolves with an access token that is valid, and never refreshes. If this process knows none, the grant store is asked: another
   * process may have refreshed.
   *
   * @throws `ERR_REAUTHENTICATION_REQUIRED` if there is none
   */
  async getWithoutRefresh(session: SessionAdapter, need: TokenNeed): Promise<AccessToken> {
    let view = await this.#liveView(session)
    let token = validToken(view, need)
    if (!token) {
      await this.#context.shared.readQuickly(view.held)
      view = await this.#liveView(session)
      token = validToken(view, need)
    }
    const { held, tokens } = view
    if (tokens !== held) this.#repair.repair(session, tokens)
    if (session.isCookieBased) await this.#repair.writeToResponse(session, tokens)
    return token ?? raise(notRefreshedError())
  }

  /**
   * Returns what this process knows of a session's grant, whose login is not over.
   *
   * @throws `ERR_NO_TOKENS` if the user is not logged in, `ERR_REAUTHENTICATION_REQUIRED` if the login is over
   */
  async #liveView(session: SessionAdapter): Promise<View> {
    const { news } = this.#context.shared
    if (!news.isCurrent) await news.catchUp()
    if (session.isCookieBased) await this.#learnOfGrant(session)
    let view = this.#view(session)
    if (!view.grant && this.#mayHaveEnded(view)) {
      await this.#learnOfGrant(session)
      view = this.#view(session)
    }
    return this.#isOver(view) ? this.#renewed(session, view) : view
  }

  #isOver({ now, tokens }: View): boolean {
    return isLoginOver(tokens, now, this.#context.maxLoginAgeMs)
  }

  /** Another process may have got a later end of the login. The grant store is asked once for each end that is known. */
  async #renewed(session: SessionAdapter, { held, tokens }: View): Promise<View> {
    const { onExpired, shared } = this.#context
    if (shared.isShared && this.#over.isFirst(`${tokens.grantId} ${tokens.revision}`)) {
      await shared.readQuickly(held)
    }
    const view = this.#view(session)
    if (!this.#isOver(view)) return view
    onExpired(view.tokens, view.now)
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

  /** Starts a refresh beside the request if the token expires soon, so that no later request waits for it. */
  #refreshAhead(session: SessionAdapter, view: View, need: TokenNeed, token: AccessToken): void {
    const { ahead, leeway, registry, shared } = this.#context
    const { now, tokens } = view
    if (now < token.expiresAt - ahead.ms) return
    const grant = view.grant ?? registry.grant(tokens.grantId)
    if (!isDueAhead(token, now, ahead, leeway, grant.jitter)) return
    if (!canRefresh(tokens, now) && !mayExchange(view, need)) return
    // The response is sent by the time of the result, so a cookie would not get it.
    if (!session.canStoreLater && !shared.isShared) return
    const { minValidityMs: _, rejected: __, ...plainNeed } = need
    const atRefresh = needAtRefresh(tokens, ownProperties(plainNeed))
    const order = { grant, session, tokens, share: view.held.share, need: atRefresh, key: needKey(atRefresh) }
    this.#refreshes.startAhead({ ...order, reason: 'ahead' })
  }

  async #refreshedOrUnexpired(session: SessionAdapter, view: View, need: TokenNeed): Promise<AccessToken> {
    const patienceMs = this.#patienceFor(view, need)
    try {
      const token = await withTimeout(patienceMs, this.#refreshed(session, view, need), tooSlowError)
      this.#requireLogin(session)
      return token
    } catch (error) {
      const tokens = this.#requireLogin(session)
      if (!tokens) throw error
      // Tokens that were found in the grant store belong into the session, even after a failed refresh.
      this.#repair.repair(session, tokens)
      const now = this.#context.registry.now(tokens.grantId)
      const unexpired = unexpiredToken(tokens, need, now)
      if (unexpired) return unexpired
      this.#context.onExpired(tokens, now)
      throw error
    }
  }

  /** Throws if the login has ended in the meantime. Returns the newest tokens, unless the grant has ended. */
  #requireLogin(session: SessionAdapter): TokenSet | undefined {
    const { maxLoginAgeMs, onExpired, registry } = this.#context
    const tokens = this.tokensOf(session)
    if (!tokens) return undefined
    const now = registry.now(tokens.grantId)
    if (!isLoginOver(tokens, now, maxLoginAgeMs)) return tokens
    onExpired(tokens, now)
    throw loginOverError()
  }

  /**
   * Returns how long a caller waits for a refresh, in milliseconds: less while its token is still valid, unless it asks for a
   * token that stays valid for longer. The time counts from the start of the refresh, which goes on in any case.
   */
  #patienceFor({ grant, now, tokens }: View, need: TokenNeed): number {
    const { clock, patienceMs, timeoutMs } = this.#context
    if (need.rejected !== undefined || need.minValidityMs !== undefined) return timeoutMs
    const unexpired = unexpiredToken(tokens, need, now)
    if (!unexpired) return timeoutMs
    const leftMs = unexpired.expiresAt - now - LAST_MOMENT_MS
    if (leftMs < 0) return timeoutMs
    const waitedMs = grant?.inFlight ? clock.monotonic() - grant.inFlight.startedAt : 0
    return Math.max(0, Math.min(timeoutMs, patienceMs - waitedMs, leftMs))
  }

  /** Refreshes: one refresh of a grant at a time. Callers with the same need share it; callers with another need wait for it. */
  async #refreshed(session: SessionAdapter, first: View, need: TokenNeed): Promise<AccessToken> {
    const { health, leeway, registry } = this.#context
    for (let view = first; ; view = this.#view(session)) {
      const { held, now, tokens } = view
      const usable = view !== first && usableToken(tokens, need, now, leeway)
      if (usable) return usable
      const key = needKey(needAtRefresh(tokens, need))
      const grant = view.grant ?? registry.grant(tokens.grantId)
      const { inFlight } = grant
      if (!inFlight) return this.#started(session, { ...view, grant }, need, key)
      // The response of a silent request will hardly come while the server fails.
      if (health.isSilent(grant.id)) health.throwWhileFailing(grant.id)
      if (inFlight.key !== key) {
        await waitFor(inFlight).catch(throwIfRetryable)
        continue
      }
      // A fresh token serves even if it is the very token that an API rejected.
      const outcome = await waitFor(inFlight).catch(throwUnlessLoggedOut)
      this.#requireMember(held)
      if (outcome?.fresh && serves(outcome.accessToken, need)) return outcome.accessToken
    }
  }

  async #started(
    session: SessionAdapter,
    view: View & { readonly grant: Grant },
    need: TokenNeed,
    key: string,
  ): Promise<AccessToken> {
    const { grant, held, now, tokens } = view
    const rejected = this.#rejectedTooOften(view, need, key)
    if (rejected) return rejected
    if (tokens.refreshToken === undefined && !tokens.isReference && !mayExchange(view, need)) {
      this.#context.onExpired(tokens, now)
      throw cannotRefreshError(tokens, need, now)
    }
    const order = { grant, session, tokens, share: held.share, need, key }
    const outcome = await waitFor(this.#refreshes.start({ ...order, reason: reasonOf(tokens, need, key) }))
    this.#requireMember(held)
    // Only a refresh ahead of expiry ends without an outcome.
    const { accessToken, fresh } = outcome!
    // The process that refreshed may have died before it wrote to the session.
    if (!fresh) this.#repair.repair(session, newest(tokens, grant.tokens))
    return accessToken
  }

  /**
   * Throws unless a session is still in the grant whose refresh it shares. A session without a proof must hold a token that the
   * grant has or had.
   */
  #requireMember(held: TokenSet): void {
    const { codec, registry } = this.#context
    const isMember = codec.isProof(held) || registry.proves(held)
    if (!isMember || registry.endOf(held)) throw noTokensError()
  }

  /** Returns the token that an API rejected, if valid tokens were replaced too often: the API would reject the next one as well. */
  #rejectedTooOften(
    { grant, now, tokens }: View & { readonly grant: Grant },
    { rejected, ...need }: TokenNeed,
    key: string,
  ): AccessToken | undefined {
    if (rejected === undefined) return undefined
    const { clock, leeway } = this.#context
    const usable = usableToken(tokens, ownProperties(need), now, leeway)
    if (usable?.token !== rejected) return undefined
    return grant.backoff.mayReplace(key, clock.monotonic()) ? undefined : usable
  }
}

/** Whether a need names an exchange, and the session's own access token can be exchanged without a refresh. */
function mayExchange({ now, tokens }: View, { exchange }: TokenNeed): boolean {
  return exchange !== undefined && unexpiredToken(tokens, {}, now) !== undefined
}

/** A token that is valid to its last moment. Without another one it is the token that an API rejected, so that the caller gets its response. */
function validToken({ now, tokens }: View, need: TokenNeed): AccessToken | undefined {
  const { rejected, ...any } = need
  const token = usableToken(tokens, need, now, NO_MARGIN)
  return (
    token ?? (rejected === undefined ? undefined : usableToken(tokens, ownProperties(any), now, NO_MARGIN))
  )
}

function raise(error: TokenError): never {
  throw error
}

/** Waits for a refresh, as one of its callers. */
function waitFor(refresh: RefreshInFlight): RefreshInFlight['outcome'] {
  refresh.waiting++
  return refresh.outcome
}

function reasonOf({ accessTokens }: TokenSet, need: TokenNeed, key: string): RefreshReason {
  if (need.rejected !== undefined) return 'rejected'
  return accessTokens.length === 0 || accessTokens.some((token) => keyOf(token) === key) ? 'expired' : 'need'
}

/** A caller that waited for the refresh of another need does not start its own after a failure that may pass. */
function throwIfRetryable(error: TokenError): void {
  if (error.retryable) throw error
}

/** The session that started a refresh may have been logged out, while other sessions of the grant go on. */
function throwUnlessLoggedOut(error: TokenError): undefined {
  if (error.code !== 'ERR_NO_TOKENS') throw error
}

function tooSlowError(): TokenError {
  return new TokenError(
    'ERR_TOKEN_ENDPOINT_UNAVAILABLE',
    'There was no fresh access token within timeoutMs. The refresh goes on, and the next request finds its result. If this ' +
      'happens often, raise timeoutMs or check the response times of the authorization server.',
  )
}
