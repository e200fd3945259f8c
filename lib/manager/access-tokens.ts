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
import { canRefresh } from '../tokens/login-lifetime.js'
import { NO_NEED, type TokenNeed } from '../tokens/token-need.js'
import { newest, type TokenSet } from '../tokens/token-set.js'
import type { LeasedGrantContext } from './leased-grant.js'
import { cannotRefreshError, LostReferenceError, noTokensError, notRefreshedError } from './manager-errors.js'
import { RefreshStarter } from './refresh-starter.js'
import type { SessionRepair } from './session-repair.js'
import type { SessionView, SessionViews } from './session-views.js'
import { requireExchange } from './token-exchange.js'

export interface AccessTokensContext extends LeasedGrantContext {
  readonly views: SessionViews
  readonly repair: SessionRepair
  /** Called when a grant may have expired: its login is over, or its tokens cannot be refreshed. */
  readonly onExpired: (tokens: TokenSet, now: number) => void
}

const NO_MARGIN = { ms: 0, part: 0 }
/** A token that expires sooner than this, in milliseconds, is not handed out instead of a refreshed one. */
const LAST_MOMENT_MS = 100

/** Returns access tokens to callers: a valid one at once, otherwise one of a refresh. */
export class AccessTokens {
  readonly #context: AccessTokensContext
  readonly #starter: RefreshStarter
  readonly #repair: SessionRepair
  readonly #views: SessionViews

  constructor(context: AccessTokensContext, background: BackgroundTasks) {
    this.#context = context
    this.#starter = new RefreshStarter(context, background)
    this.#repair = context.repair
    this.#views = context.views
  }

  /**
   * Returns an access token that serves the need. Returns a promise only if the token at hand is not valid, or has to be written
   * to the response: a request with a valid token waits for nothing.
   *
   * @throws `ConfigurationError` if there is no exchange of this name, `ERR_NO_TOKENS` if the user is not logged in. A returned
   * promise rejects with `ERR_NO_TOKENS`, `ERR_REAUTHENTICATION_REQUIRED`, or the error of the refresh.
   */
  get(session: SessionAdapter, need: TokenNeed): AccessToken | Promise<AccessToken> {
    if (need.exchange !== undefined) requireExchange(need.exchange, this.#context.exchanges)
    const view = this.#views.live(session)
    if (view instanceof Promise) return view.then((view) => this.#from(session, view, need))
    return this.#from(session, view, need)
  }

  #from(session: SessionAdapter, view: SessionView, need: TokenNeed): AccessToken | Promise<AccessToken> {
    const { held, now, tokens } = view
    // Also before a refresh, which may wait for the lease: other requests find no newer tokens in the session until then.
    if (tokens !== held) this.#repair.repair(session, tokens)
    const usable = usableToken(tokens, need, now, this.#context.leeway)
    if (usable) this.#refreshAhead(session, view, need, usable)
    const token = usable ?? this.#refreshedOrUnexpired(session, view, need)
    return session.isCookieBased ? this.#written(session, token, tokens) : token
  }

  async #written(
    session: SessionAdapter,
    token: AccessToken | Promise<AccessToken>,
    known: TokenSet,
  ): Promise<AccessToken> {
    const result = await token
    await this.#repair.writeToResponse(session, this.#views.tokensOf(session) ?? known)
    return result
  }

  /**
   * Resolves with an access token that is valid, and never refreshes. If this process knows no valid token, the grant store is
   * asked: another process may have refreshed. A token that an API rejected is returned if there is no other.
   *
   * @throws `ERR_NO_TOKENS` if the user is not logged in, `ERR_REAUTHENTICATION_REQUIRED` if no token is valid
   */
  async getWithoutRefresh(session: SessionAdapter, need: TokenNeed): Promise<AccessToken> {
    if (need.exchange !== undefined) requireExchange(need.exchange, this.#context.exchanges)
    let view = await this.#views.live(session)
    let token = validToken(view, need)
    if (!token) {
      await this.#context.shared.readQuickly(view.held)
      view = await this.#views.live(session)
      token = validToken(view, need)
    }
    const { held, tokens } = view
    if (tokens !== held) this.#repair.repair(session, tokens)
    if (session.isCookieBased) await this.#repair.writeToResponse(session, tokens)
    if (!token) throw notRefreshedError()
    return token
  }

  /** Starts a refresh in the background if the token expires soon, so that no later request waits for it. */
  #refreshAhead(session: SessionAdapter, view: SessionView, need: TokenNeed, token: AccessToken): void {
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
    this.#starter.startAhead({ ...order, reason: 'ahead' })
  }

  async #refreshedOrUnexpired(
    session: SessionAdapter,
    view: SessionView,
    need: TokenNeed,
  ): Promise<AccessToken> {
    const patienceMs = this.#patienceFor(view, need)
    try {
      return await withTimeout(patienceMs, this.#refreshed(session, view, need), tooSlowError)
    } catch (error) {
      const tokens = this.#views.tokensOfLiveLogin(session)
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

  /**
   * Returns how long a caller waits for a refresh, in milliseconds: less while its token is still valid, unless it asks for a
   * token that stays valid for longer. The time counts from the start of the refresh, which goes on in any case.
   */
  #patienceFor({ grant, now, tokens }: SessionView, need: TokenNeed): number {
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
  async #refreshed(session: SessionAdapter, first: SessionView, need: TokenNeed): Promise<AccessToken> {
    const { health, leeway, registry } = this.#context
    for (let view = first; ; view = this.#views.of(session)) {
      const { held, now, tokens } = view
      const grant = view.grant ?? registry.grant(tokens.grantId)
      const usable = view !== first && usableToken(tokens, need, now, leeway)
      if (usable) return this.#checked(usable, held, grant)
      const key = needKey(needAtRefresh(tokens, need))
      const { inFlight } = grant
      if (!inFlight) return this.#started(session, { ...view, grant }, need, key)
      // The response of a silent request will hardly come while the server fails.
      if (health.isSilent(grant.id)) health.throwWhileFailing(grant.id)
      if (inFlight.key !== key) {
        await waitFor(inFlight).catch(throwIfRetryable)
        continue
      }
      // A fresh token serves even if it is the very token that an API rejected.
      const outcome = await waitFor(inFlight).catch((error) => throwUnlessOfStarter(error, tokens))
      if (!outcome) continue
      const accessToken = this.#checked(outcome.accessToken, held, grant)
      if (outcome.fresh && serves(accessToken, need)) return accessToken
    }
  }

  async #started(
    session: SessionAdapter,
    view: SessionView & { readonly grant: Grant },
    need: TokenNeed,
    key: string,
  ): Promise<AccessToken> {
    const { grant, held, now, tokens } = view
    const { clock } = this.#context
    const rejected = this.#validButRejected(view, need)
    // If valid tokens were replaced too often, the API would reject the next one as well.
    if (rejected && !grant.backoff.mayReplace(key, clock.monotonic()))
      return this.#checked(rejected, held, grant)
    const hasExpired = grant.expiredRevision === tokens.revision && !canRefresh(tokens, clock.now())
    const hasNone = tokens.refreshToken === undefined && !tokens.isReference
    if ((hasNone || hasExpired) && !mayExchange(view, need)) {
      this.#context.onExpired(tokens, now)
      throw cannotRefreshError(tokens, need, now)
    }
    const order = { grant, session, tokens, share: held.share, need, key }
    const outcome = await waitFor(this.#starter.start({ ...order, reason: reasonOf(tokens, need, key) }))
    if (rejected) grant.backoff.replaced(key, clock.monotonic())
    // Only a refresh ahead of expiry ends without an outcome.
    const { accessToken, fresh } = outcome!
    this.#checked(accessToken, held, grant)
    // The process that refreshed may have died before it wrote to the session.
    if (!fresh) this.#repair.repair(session, newest(tokens, grant.tokens))
    return accessToken
  }

  /**
   * Returns a token that a refresh has brought. Throws unless the session is still in the grant and the login goes on. A session
   * without a proof must hold a token that the grant has or had.
   */
  #checked(token: AccessToken, held: TokenSet, grant: Grant): AccessToken {
    const isMember = this.#context.codec.isProof(held) || grant.proves(held)
    if (!isMember || grant.endOf(held.share)) throw noTokensError()
    this.#views.throwIfOver(grant)
    return token
  }

  /** Returns the token that an API rejected, if it is valid and would serve the need. */
  #validButRejected({ now, tokens }: SessionView, { rejected, ...need }: TokenNeed): AccessToken | undefined {
    if (rejected === undefined) return undefined
    const usable = usableToken(tokens, ownProperties(need), now, this.#context.leeway)
    return usable?.token === rejected ? usable : undefined
  }
}

/** Whether a need names an exchange, and the session's own access token can be exchanged without a refresh. */
function mayExchange({ now, tokens }: SessionView, { exchange }: TokenNeed): boolean {
  return exchange !== undefined && unexpiredToken(tokens, NO_NEED, now) !== undefined
}

/**
 * Returns a token that is valid to its last moment. If there is no other token, returns the token that an API rejected: then the
 * caller gets the API's response.
 */
function validToken({ now, tokens }: SessionView, need: TokenNeed): AccessToken | undefined {
  const { rejected, ...any } = need
  const token = usableToken(tokens, need, now, NO_MARGIN)
  return (
    token ?? (rejected === undefined ? undefined : usableToken(tokens, ownProperties(any), now, NO_MARGIN))
  )
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

/**
 * Throws the failure of the refresh of another need if a later attempt may succeed: then the caller that waited does not start
 * its own refresh.
 */
function throwIfRetryable(error: TokenError): void {
  if (error.retryable && !(error instanceof LostReferenceError)) throw error
}

/**
 * Throws the error of a refresh, unless the error concerns only the session that started the refresh: that session was logged
 * out, while other sessions of the grant go on; or it was a reference whose tokens the grant store has lost, while this session
 * has a copy.
 */
function throwUnlessOfStarter(error: TokenError, { refreshToken }: TokenSet): undefined {
  const isOfReference = error instanceof LostReferenceError && refreshToken !== undefined
  if (error.code !== 'ERR_NO_TOKENS' && !isOfReference) throw error
}

function tooSlowError(): TokenError {
  return new TokenError(
    'ERR_TOKEN_ENDPOINT_UNAVAILABLE',
    'There was no fresh access token within timeoutMs. The refresh goes on, and the next request finds its result. If this ' +
      'happens often, raise timeoutMs or check the response times of the authorization server.',
  )
}
