import type { IncomingMessage, ServerResponse } from 'node:http'
import type { AxiosInstance } from 'axios'
import { ConfigurationError, isLoggedOutError } from '../errors/token-error.js'
import type { AdoptingSession } from '../manager/adopting-session.js'
import type { AcquireParameters } from '../oauth/authorization-server.js'
import { type IdTokenClaims, idTokenClaims } from '../oauth/id-token/id-token.js'
import { handedOverTokens } from '../oauth/token-endpoint/handed-over-tokens.js'
import { fieldValue, hasField, ownValue } from '../options/own-properties.js'
import { axiosOver, type SessionAxiosConfig } from '../outbound/axios/axios.js'
import { fetchOver, type SessionFetchConfig } from '../outbound/fetch/fetch.js'
import type { SessionAdapter } from '../sessions/session-adapter.js'
import type { ClientCertificate } from '../tokens/client-certificate.js'
import type { DpopKey } from '../tokens/dpop-key.js'
import { ReturnedToken } from '../tokens/returned-token.js'
import type { TokenNeed } from '../tokens/token-need.js'
import { completedNeed, NO_NEED, normalizeNeed, tokenSelectorOf } from '../tokens/token-need.js'
import { secretsOf } from '../tokens/token-set.js'
import type { OutboundTokens, TokenToSend, UserPolicy, ValidAccessToken } from '../tokens/token-source.js'
import { backchannelResponse } from './backchannel-logout.js'
import { ClientSource, type ClientTokenSource } from './client-token-source.js'
import type { MiddlewareContext } from './composition.js'
import { fieldsToKeep, type LoginOptions } from './login-options.js'
import { checkLogoutUrlOptions, type LogoutUrlOptions } from './logout-url-options.js'
import { checkOfflineReferenceOptions, type OfflineReferenceOptions } from './offline-options.js'
import {
  appProof,
  boundTokens,
  type DpopProofRequest,
  requireDpop,
  type SetOptions,
  withoutKey,
  withProofs,
} from './request-dpop.js'
import { signalOf } from './request-signal.js'
import type { GuardResponse } from './require-tokens.js'
import type { SessionTokens } from './session-tokens.js'

/** Returns the key that the tokens of a request are bound to. It is no property of them, so that no log and no template shows it. */
export let dpopKeyOf: (tokens: RequestTokens) => DpopKey | undefined

/** The tokens of one request's session. */
export class RequestTokens implements SessionTokens, OutboundTokens {
  static {
    dpopKeyOf = (tokens) => tokens.#dpopKey
  }

  readonly #context: MiddlewareContext
  readonly #session: SessionAdapter
  /** The same session, if the option `adopt` is given. */
  readonly #adopting: AdoptingSession | undefined
  /** The scope, resource and audience that the route's guard names. */
  #routeNeed: TokenNeed | undefined
  /** The scope, resource and audience that a guard names for the client's own token. */
  #clientNeed: TokenNeed | undefined
  /** Selects the token that the route's calls carry. */
  #user: UserPolicy = 'required'
  /** Whether the route refreshes tokens. */
  #refreshes = true

  readonly #request: IncomingMessage
  readonly #response: ServerResponse
  #signal: { readonly grantId: string | undefined; readonly signal: AbortSignal } | undefined

  /** @param carrier the framework's request or context, which the option `adopt` gets */
  constructor(
    context: MiddlewareContext,
    session: SessionAdapter,
    carrier: unknown,
    request: IncomingMessage,
    response: ServerResponse,
  ) {
    this.#context = context
    this.#adopting = context.adoption?.of(session, carrier)
    this.#session = this.#adopting ?? session
    this.#request = request
    this.#response = response
  }

  async getAccessToken(need?: TokenNeed): Promise<ValidAccessToken> {
    const complete = need === undefined ? (this.#routeNeed ?? NO_NEED) : completedNeed(need, this.#routeNeed)
    if (this.#adopting) await this.#adopting.adopt()
    const { accessTokens } = this.#context.manager
    const token = this.#refreshes
      ? accessTokens.get(this.#session, complete)
      : accessTokens.getWithoutRefresh(this.#session, complete)
    const valid = token instanceof Promise ? await token : token
    return new ReturnedToken(valid, this.#context.authorizationScheme)
  }

  async offlineReference(options: OfflineReferenceOptions = {}): Promise<string> {
    const { ttlMs } = checkOfflineReferenceOptions(options)
    await this.#adopting?.adopt()
    return this.#context.manager.offline.make(this.#session, ttlMs)
  }

  async set(tokenResponse: unknown, options: SetOptions = {}): Promise<void> {
    const { clock, dpop, manager } = this.#context
    const dpopKey = ownValue(options, 'dpopKey') as SetOptions['dpopKey']
    const fields = fieldsToKeep(dpopKey === undefined ? options : withoutKey(options))
    const tokens = handedOverTokens(tokenResponse, clock.now())
    const isPlain = !dpop && dpopKey === undefined
    await manager.set(this.#session, isPlain ? tokens : await boundTokens(tokens, dpopKey, dpop), fields)
  }

  async acquire(parameters: AcquireParameters, options: LoginOptions = {}): Promise<void> {
    await this.#context.manager.acquire(this.#session, parameters, fieldsToKeep(options))
  }

  async dpopThumbprint(): Promise<string> {
    requireDpop(this.#context.dpop, 'dpopThumbprint()')
    return this.#context.manager.dpopThumbprint(this.#session)
  }

  async dpopProof(request: DpopProofRequest): Promise<string> {
    return appProof(
      this.#context,
      () => this.#dpopKey,
      request,
      () => this.getAccessToken(),
    )
  }

  get #dpopKey(): DpopKey | undefined {
    return this.#context.manager.tokensOf(this.#session)?.dpopKey
  }

  hasTokens(): boolean {
    return this.#context.manager.hasTokens(this.#session)
  }

  get grantId(): string | undefined {
    return this.#context.manager.tokensOf(this.#session)?.grantId
  }

  get idToken(): string | undefined {
    return this.#context.manager.tokensOf(this.#session)?.idToken
  }

  get idTokenClaims(): IdTokenClaims | undefined {
    const { idToken } = this
    return idToken === undefined ? undefined : idTokenClaims(idToken)
  }

  get signal(): AbortSignal {
    const { grantId } = this
    if (this.#signal && (grantId === undefined || this.#signal.grantId === grantId))
      return this.#signal.signal
    const signal = signalOf(this.#context.manager, this.#session, this.#request, this.#response)
    // A login later in the request has another signal.
    if (grantId !== undefined) this.#signal = { grantId, signal }
    return signal
  }

  onEnd(listener: () => void): (() => void) | undefined {
    return this.#context.manager.onEnd(this.#session, listener)
  }

  async logoutUrl(options: LogoutUrlOptions = {}): Promise<string> {
    return this.#context.manager.logoutUrl(this.#session, checkLogoutUrlOptions(options))
  }

  async revoke(): Promise<void> {
    await this.#context.manager.revoke(this.#session)
  }

  async clear(): Promise<void> {
    await this.#context.manager.clear(this.#session)
  }

  axios(config: SessionAxiosConfig): AxiosInstance {
    return axiosOver(() => this, config)
  }

  fetch(config: SessionFetchConfig): typeof fetch {
    return fetchOver(() => this, config)
  }

  async tokenToSend(need: TokenNeed): Promise<TokenToSend | undefined> {
    if (this.#user === 'none') return undefined
    if (this.#user === 'client') return this.client.tokenToSend(need)
    try {
      const token = await this.getAccessToken(need)
      return token.tokenType === 'DPoP' ? withProofs(this.#context, this.#dpopKey, token) : token
    } catch (error) {
      if (this.#user === 'optional' && isLoggedOutError(error)) return undefined
      throw error
    }
  }

  clientCertificate(): Promise<ClientCertificate> {
    return this.#context.server.clientCertificate()
  }

  get client(): ClientTokenSource & OutboundTokens {
    return new ClientSource(() => this.#context, this.#clientNeed)
  }

  secrets(): readonly string[] {
    if (this.#user === 'client') return this.client.secrets()
    try {
      const tokens = this.#context.manager.tokensOf(this.#session)
      return tokens ? secretsOf(tokens) : []
    } catch {
      // The app may have thrown the session away by now.
      return []
    }
  }

  /**
   * Makes `need`, `user` and `refreshes` the default for the rest of the request, and gets a valid token unless `user` is `'none'`.
   * `requireTokens()` calls it.
   */
  async enterRoute(need: TokenNeed, user: UserPolicy, refreshes: boolean): Promise<void> {
    this.#user = user
    this.#refreshes = refreshes
    await this.tokenToSend(need)
    const selector = tokenSelectorOf(normalizeNeed(need))
    if (user === 'client') this.#clientNeed = selector ?? this.#clientNeed
    else this.#routeNeed = selector ?? this.#routeNeed
  }

  /** Handles a request of the authorization server to log users out. `login()` calls it. */
  backchannelLogout(message: IncomingMessage, parsedBody: unknown): Promise<GuardResponse> {
    return backchannelResponse(this.#context, message, parsedBody)
  }

  /** Resolves with whether no other process has used the `state` of a login before. `login()` calls it. */
  isFirstUse(state: string, ttlMs: number): Promise<boolean> {
    return this.#context.manager.isFirstUse(state, ttlMs)
  }

  /** Makes the key of a login, with the option `dpop`. `login()` calls it. */
  async newDpopKey(): Promise<DpopKey | undefined> {
    return this.#context.dpop?.newKey()
  }

  isOf(context: MiddlewareContext): boolean {
    return this.#context === context
  }
}

/**
 * Throws for a request that already has a property of this name: Node's, the framework's or the app's, or the tokens of
 * another `sessionTokens()`. Calls would carry the token of the wrong authorization server if those were replaced.
 */
export function requireFreeProperty(carrier: object, carrierName: string, context: MiddlewareContext): void {
  const { property } = context
  const earlier = fieldValue(carrier, property)
  if (earlier instanceof RequestTokens && earlier.isOf(context)) return
  if (earlier instanceof RequestTokens) {
    throw new ConfigurationError(
      `${carrierName}.${property} has the tokens of another sessionTokens() already. Mount it once for a request, or give the ` +
        'second one another `property` and another `sessionKey`.',
    )
  }
  if (!hasField(carrier, property)) return
  throw new ConfigurationError(
    `\`property\` must not be '${property}': ${carrierName}.${property} is in use already. Choose another, e.g. 'tokens'.`,
  )
}
