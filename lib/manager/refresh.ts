import { RELOAD_TIMEOUT_MS } from '../concurrency/time-constants.js'
import { StepUpError, type TokenError } from '../errors/token-error.js'
import type { Grant, RefreshOutcome, Revocation } from '../grants/grant.js'
import type { FailedRefresh, RefreshResponse } from '../oauth/authorization-server.js'
import { isUnsent } from '../oauth/http.js'
import { ownProperties } from '../options/own-properties.js'
import type { SessionAdapter } from '../sessions/session-adapter.js'
import { type AccessToken, needAtRefresh, serves, usableToken } from '../tokens/access-token.js'
import { canRefresh, isLoginOver } from '../tokens/login-lifetime.js'
import { NO_NEED, type TokenNeed, tokenSelectorOf } from '../tokens/token-need.js'
import { firstTokenSet, mergeTokens, type TokenResponse } from '../tokens/token-response.js'
import {
  deadTokenSet,
  isDead,
  type TokenSet,
  withoutRefreshToken,
  withRefreshToken,
} from '../tokens/token-set.js'
import { LeasedGrant, type LeasedGrantContext, type RefreshParts } from './leased-grant.js'
import {
  cannotRefreshError,
  LeaseLapsedError,
  loginOverError,
  loginRequiredError,
  needRefusedError,
  noTokensError,
} from './manager-errors.js'
import { NewestTokens } from './newest-tokens.js'
import { checkIdToken } from './refreshed-id-token.js'
import { revokeLateTokens } from './revocation.js'
import type { BreakerChange } from './server-health.js'
import { TokenExchange } from './token-exchange.js'

/**
 * One refresh of one grant: it leases the grant, reads again, and decides under the lease.
 *
 * A refresh belongs to no request. All callers may have gone when it ends.
 */
export class Refresh {
  readonly #context: LeasedGrantContext
  readonly #grant: Grant
  readonly #session: SessionAdapter
  readonly #need: TokenNeed
  readonly #newest: NewestTokens
  /** The grant under its lease. */
  readonly leased: LeasedGrant
  readonly #exchange: TokenExchange | undefined
  #isPresented = false
  /** The revision of the tokens that this refresh got from the authorization server. */
  keptRevision: number | undefined
  /** The result of the revocation, if the grant was logged out during this refresh. */
  revocation: Revocation | undefined

  constructor(context: LeasedGrantContext, parts: RefreshParts) {
    this.#context = context
    this.#grant = parts.grant
    this.#session = parts.session
    this.#need = parts.need
    this.#newest = new NewestTokens(context, parts)
    this.leased = new LeasedGrant(context, parts, this.#newest)
    const { exchange } = parts.need
    if (exchange !== undefined) {
      this.#exchange = new TokenExchange(exchange, context, parts.grant)
    }
  }

  async run(): Promise<RefreshOutcome> {
    try {
      for (;;) {
        // Brings the newest tokens of the grant store and the session.
        const committed = await this.leased.acquire()
        if (committed) return { accessToken: committed, fresh: false }
        const exchanged = await this.#exchange?.run(this.#newest.tokens, (own) => this.#send(own, this.#need))
        const outcome = exchanged ? await this.#keepExchanged(exchanged) : await this.#refreshed()
        // A server may narrow the scope of the login. Then the next refresh requests the need by its name.
        if (outcome && serves(outcome.accessToken, this.#need)) return outcome
      }
    } catch (error) {
      await this.#revokeIfLoggedOut()
      const exchanged = this.#exchangedWithoutStore(error as TokenError)
      if (exchanged) return { accessToken: exchanged, fresh: true }
      throw error
    } finally {
      this.leased.release()
    }
  }

  /**
   * Presents the newest refresh token, and keeps the tokens of the response. After a rejection, resolves with a token of another
   * process that serves the need, or with `undefined` if a newer refresh token is to be presented.
   */
  async #refreshed(): Promise<RefreshOutcome | undefined> {
    const refreshToken = await this.#refreshToken()
    const need = this.#exchange ? NO_NEED : needAtRefresh(this.#newest.tokens, this.#need)
    const response = await this.#present(refreshToken, need).catch((error) =>
      this.#rejected(refreshToken, need, error),
    )
    if (response) return { accessToken: await this.#keep(response, need), fresh: true }
    const { usable } = this.leased
    return usable && { accessToken: usable, fresh: false }
  }

  /**
   * Keeps the access token of an exchange. If this process was suspended or blocked, another process may have refreshed the grant.
   * Then resolves with `undefined`. The lease is taken again, and if there is a newer token, the exchange starts again with it.
   */
  async #keepExchanged(response: RefreshResponse): Promise<RefreshOutcome | undefined> {
    if (!this.leased.isSurelyHeld) return undefined
    this.#exchange?.takeUnkept()
    return { accessToken: await this.#keep(response, this.#need, true), fresh: true }
  }

  /**
   * Returns the access token of an exchange during which the grant store failed. The callers get it, and it is kept nowhere, since
   * another process may have newer tokens.
   */
  #exchangedWithoutStore(error: TokenError): AccessToken | undefined {
    const { emit } = this.#context
    const response = this.#exchange?.takeUnkept()
    const isServed = error.code === 'ERR_GRANT_STORE' && !this.#grant.ended
    if (!response || response.dpopKey !== undefined || !isServed) return undefined
    emit({ type: 'grant_store_failed', grantId: this.#grant.id, error })
    return this.#merged(response, this.#need).accessTokens[0]
  }

  /**
   * Resolves with the newest refresh token, if it may be presented. Otherwise throws. If the authorization server has refused it, stores
   * in all places that the grant is dead. Its expiry is stored nowhere, since the clock of this host may be wrong.
   */
  async #refreshToken(): Promise<string> {
    const { clock, codec, maxLoginAgeMs, shared } = this.#context
    const newest = this.#newest.tokens
    const { refreshToken } = newest
    const now = this.#grant.now()
    if (isLoginOver(newest, now, maxLoginAgeMs)) throw loginOverError()
    if (refreshToken === undefined) throw cannotRefreshError(newest, this.#need, now)
    if (!canRefresh(newest, clock.now())) {
      this.#grant.expiredRevision = newest.revision
      throw cannotRefreshError(newest, this.#need, now)
    }
    // When it was rejected, the stores could not be asked for a newer one. They have been asked now, under the lease.
    const rejection = this.#grant.rejectionOf(refreshToken)
    if (rejection) {
      await this.#die(rejection)
      return this.#refreshToken()
    }
    // New tokens that could not be sent back in the session cookie would be lost for other processes.
    if (this.#session.isCookieBased && !shared.isShared && !codec.writesReferences)
      this.#session.checkStorable()
    return refreshToken
  }

  /**
   * Presents the refresh token. Throws if the response has no access token, and keeps the refresh token that it may have all the
   * same.
   */
  async #present(refreshToken: string, need: TokenNeed): Promise<RefreshResponse> {
    const grant = this.#grant
    const mayBeSpent = grant.present(refreshToken)
    this.#isPresented = true
    const response = await this.#send(refreshToken, need).catch((error: TokenError) => {
      if (!mayBeSpent && isUnspentAfter(error)) grant.forgetPresented()
      throw error
    })
    grant.forgetPresented()
    if (!('error' in response)) return response
    if (response.refreshToken !== refreshToken) await this.#keepRefreshToken(response)
    throw response.error
  }

  /** Keeps the new refresh token of a response whose other tokens cannot be used: the old refresh token is spent. */
  async #keepRefreshToken({ error: _, ...response }: FailedRefresh): Promise<void> {
    await this.#withCheckedIdToken(response)
    await this.#store(withRefreshToken(this.#newest.tokens, response))
  }

  /** Sends a token request: a refresh, or the exchange that the need names. */
  async #send(
    token: string,
    { exchange: name, minValidityMs: _, rejected: __, ...selector }: TokenNeed,
  ): Promise<RefreshResponse | FailedRefresh> {
    const { client, dpop, emit, health, refreshTimeoutMs, server, timeoutMs } = this.#context
    const newest = this.#newest.tokens
    // The tokens of a grant that has no key yet, for example since it is older than the option, are bound to a new one.
    const newKey = dpop && !newest.dpopKey ? await dpop.newKey() : undefined
    const dpopKey = newKey ?? newest.dpopKey
    const onChange = (change: BreakerChange) =>
      emit({ ...change, grantId: this.#grant.id, of: 'authorization_server' })
    // The server is not silent while the `actor` of an exchange is waited for.
    const silentAfterMs = name === undefined ? timeoutMs : timeoutMs + RELOAD_TIMEOUT_MS
    const watching = { silentAfterMs, abortAfterMs: refreshTimeoutMs, onChange }
    const response = await health.watch(this.#grant.id, watching, (signal) => {
      const own = { secrets: () => this.#newest.secrets(), signal, ...(dpopKey && { dpopKey }) }
      if (name !== undefined)
        return server.exchange(token, ownProperties({ ...own, name, clientToken: () => client.get(NO_NEED) }))
      const beforeSending = () => this.leased.ensureHeld()
      return server.refresh(token, ownProperties({ ...own, beforeSending, ...selector }))
    })
    return newKey ? ownProperties({ ...response, dpopKey: newKey }) : response
  }

  /**
   * Handles a failed refresh. Returns if another refresh token is the newest by now; otherwise throws the error for the callers.
   */
  async #rejected(refreshToken: string, need: TokenNeed, error: TokenError): Promise<undefined> {
    // Nothing was sent. The lease is taken again.
    if (error instanceof LeaseLapsedError) return undefined
    const isOfNeed = tokenSelectorOf(need) !== undefined
    if (error instanceof StepUpError && !isOfNeed) throw loginRequiredError(error)
    if (error.code !== 'ERR_REAUTHENTICATION_REQUIRED') throw error
    if (!isOfNeed) this.#grant.reject(refreshToken, error)
    if (await this.leased.findNewer(refreshToken)) return undefined
    if (!isOfNeed) return this.#die(error)
    // The rejection may be about the need or about the grant. A refresh without a need under the same lease decides.
    const response = await this.#present(refreshToken, NO_NEED).catch((plainError) =>
      this.#rejectedWithoutNeed(refreshToken, plainError),
    )
    if (!response) return undefined
    await this.#keep(response, NO_NEED)
    throw needRefusedError(need, error)
  }

  async #rejectedWithoutNeed(refreshToken: string, error: TokenError): Promise<undefined> {
    if (error instanceof LeaseLapsedError) return undefined
    if (error.code !== 'ERR_REAUTHENTICATION_REQUIRED') throw error
    this.#grant.reject(refreshToken, error)
    return this.#die(error)
  }

  /**
   * Stores that the grant is dead, since the authorization server has refused its newest refresh token for good. Throws the
   * refusal; returns if another process has committed newer tokens in the meantime.
   */
  async #die(rejection: TokenError): Promise<undefined> {
    const { grantId } = this.#newest.tokens
    await this.#store(deadTokenSet(this.#newest.tokens))
    if (!isDead(this.#newest.tokens)) return undefined
    this.#context.emit({ type: 'ended', grantId, reason: 'invalid_grant', scope: 'grant', isLocal: true })
    if (this.#context.shared.isShared) this.#context.shared.news.tellChange(grantId)
    throw rejection
  }

  /** Keeps the tokens of a response, or the access token of an exchange. Resolves with the access token. */
  async #keep(response: RefreshResponse, need: TokenNeed, isExchange = false): Promise<AccessToken> {
    const { accessToken } = response
    const received = { ...(await this.#withCheckedIdToken(response)), accessToken }
    await this.#store(this.#merged(received, need), isExchange)
    const { accessTokens, revision } = this.#newest.tokens
    const token = this.#newerToken(revision) ?? accessTokens[0]
    // The grant has died in another process during an exchange.
    if (!token) throw cannotRefreshError(this.#newest.tokens, this.#need, this.#grant.now())
    this.keptRevision = revision
    return token
  }

  #merged(response: RefreshResponse, need: TokenNeed): TokenSet {
    const { clock, defaultLifetimeMs } = this.#context
    return mergeTokens(this.#newest.tokens, response, need, clock.now(), defaultLifetimeMs)
  }

  /**
   * Resolves with a response whose ID token is of the same user, or which has none, see {@link checkIdToken}. Revokes the tokens of
   * any other response.
   */
  async #withCheckedIdToken(response: TokenResponse): Promise<TokenResponse> {
    if (response.idToken === undefined) return response
    return checkIdToken(this.#context, this.#newest.tokens, response.idToken, response).catch((error) =>
      this.#discard(response, error),
    )
  }

  /**
   * Returns the token of another process that has refreshed again while this process stored its tokens. This can happen if this
   * process was suspended or blocked.
   */
  #newerToken(revision: number): AccessToken | undefined {
    const { tokens } = this.#grant
    if (!tokens || tokens.revision <= revision) return undefined
    return usableToken(tokens, this.#need, this.#grant.now(), this.#context.leeway)
  }

  /** Revokes the tokens of a response, which may be another user's. The presented refresh token is spent nevertheless. */
  async #discard(response: TokenResponse, error: TokenError): Promise<never> {
    const newest = this.#newest.tokens
    await this.#revoke(firstTokenSet(newest.grantId, response, 0, 0))
    await this.#store(withoutRefreshToken(newest))
    throw error
  }

  /** Stores tokens in all stores. Throws if the grant has ended in the meantime: an ended grant stays ended. */
  async #store(tokens: TokenSet, isExchange = false): Promise<void> {
    await this.leased.keep(tokens, isExchange)
    const { ended } = this.#grant
    if (ended && ended !== 'replaced') await this.#revoke(this.#newest.tokens)
    if (ended) throw noTokensError()
  }

  /** Revokes the newest tokens after a logout: the logout leaves this to the lease holder, which may be the last to have them. */
  async #revokeIfLoggedOut(): Promise<void> {
    const { shared } = this.#context
    const newest = this.#newest.tokens
    if (!this.leased.isHolder || this.revocation) return
    if (this.#isPresented && shared.isShared) await shared.readQuickly(newest)
    const { ended } = this.#grant
    if (ended && ended !== 'replaced') await this.#revoke(newest)
  }

  async #revoke(tokens: TokenSet): Promise<void> {
    this.revocation = await revokeLateTokens(this.#context, tokens)
  }
}

/** Whether a failed refresh cannot have spent the refresh token: the server refused the request, or did not receive it. */
function isUnspentAfter(failure: TokenError): boolean {
  const { code, error, responseStatus } = failure
  if (code === 'ERR_INVALID_TOKEN_RESPONSE') return false
  if (code !== 'ERR_TOKEN_ENDPOINT_UNAVAILABLE') return true
  return error !== undefined || responseStatus === 429 || isUnsent(failure)
}
