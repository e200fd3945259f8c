import type { AxiosInstance } from 'axios'
import { ConfigurationError, SHARED_GRANT_STORES } from '../errors/token-error.js'
import { unusableReferenceError } from '../manager/manager-errors.js'
import { ownValue } from '../options/own-properties.js'
import { axiosOver, type SessionAxiosConfig } from '../outbound/axios/axios.js'
import { fetchOver, type SessionFetchConfig } from '../outbound/fetch/fetch.js'
import type { OfflineSession } from '../sessions/offline-session.js'
import type { SessionLayer } from '../sessions/session-layer.js'
import type { ClientCertificate } from '../tokens/client-certificate.js'
import { ReturnedToken } from '../tokens/returned-token.js'
import { normalizeNeed, type TokenNeed } from '../tokens/token-need.js'
import { secretsOf } from '../tokens/token-set.js'
import type { OutboundTokens, TokenSource, TokenToSend, ValidAccessToken } from '../tokens/token-source.js'
import { composeMiddleware, type MiddlewareContext } from './composition.js'
import { type EndedLogins, endOf, type LoginEndReason } from './end-grants.js'
import type { SessionTokensOptions } from './options.js'
import { appProof, type DpopProofRequest, withProofs } from './request-dpop.js'
import { Tenants } from './tenants.js'

/**
 * The tokens of a user for code without a request, such as jobs, queues and agents: the result of `tokens.offline(reference)`.
 * They are the tokens of the session in which the reference was made: requests and jobs share one refresh, over all processes.
 */
export interface OfflineTokens extends TokenSource {
  /**
   * Resolves with a valid access token, and refreshes it first if it has expired, as on a request.
   *
   * @throws `TokenError` as on a request. `ERR_REAUTHENTICATION_REQUIRED`: the user must log in again; `reason` says why the grant
   * has ended, if it has. `ERR_NO_TOKENS`: the reference was changed, or is for another client or session key.
   * `ERR_GRANT_STORE`: try again later
   *
   * @example
   * const { token } = await user.getAccessToken({ scope: 'orders.read' })
   */
  getAccessToken(need?: TokenNeed): Promise<ValidAccessToken>
  /**
   * Whether the grant has not ended and can be refreshed, as far as this process knows. No I/O. For a grant that this process has
   * not used yet, the result is `true`.
   */
  hasTokens(): boolean
  /** The id of the grant, as events have it; `undefined` if the reference cannot be used. It may be logged. No I/O. */
  readonly grantId: string | undefined
  /** Logs the user out, in the session too, and revokes the tokens at the authorization server (RFC 7009). */
  revoke(): Promise<void>
  /** Logs the user out, in the session too, and sends nothing to the authorization server. */
  clear(): Promise<void>
  /** Makes the proof of one request for an HTTP client of your own, as on a request. */
  dpopProof(request: DpopProofRequest): Promise<string>
  /** Makes an axios instance whose calls carry a valid access token, as on a request. */
  axios(config: SessionAxiosConfig): AxiosInstance
  /** Makes a function that is called like `fetch()`, and whose calls carry a valid access token, as on a request. */
  fetch(config: SessionFetchConfig): typeof fetch
}

/** The tokens of users for a process without requests: the result of `offlineTokens()`. */
export interface OfflineTokensFactory {
  /**
   * Returns an object that gets valid access tokens by a reference from `req.tokens.offlineReference()`. No I/O: a reference that
   * cannot be used fails when a token is first requested.
   *
   * @throws `ConfigurationError` for a value that is no string
   */
  offline(reference: string): OfflineTokens
  /** Ends logins here, in all processes, and at the authorization server, see the `end()` of `sessionTokens()`. */
  end(whom: EndedLogins, reason?: LoginEndReason): Promise<number>
  /** Resolves when every refresh under way has ended and its result is stored. Call it before the process ends. */
  close(): Promise<void>
}

/** The tokens of the grant that a reference leads to. */
class GrantTokens implements OfflineTokens, OutboundTokens {
  readonly #context: MiddlewareContext
  readonly #reference: string
  #opened: OfflineSession | undefined

  constructor(context: MiddlewareContext, reference: string) {
    this.#context = context
    this.#reference = reference
  }

  /** The reference, opened for use in place of a session; `undefined` if it cannot be used. */
  get #session(): OfflineSession | undefined {
    this.#opened ??= this.#context.manager.offline.open(this.#reference)
    return this.#opened
  }

  async getAccessToken(need: TokenNeed = {}): Promise<ValidAccessToken> {
    const { manager } = this.#context
    const session = await this.#usable()
    const complete = normalizeNeed(need)
    try {
      const token = await manager.accessTokens.get(session, complete)
      return new ReturnedToken(token, this.#context.authorizationScheme)
    } catch (error) {
      throw manager.offline.explained(session, error)
    }
  }

  hasTokens(): boolean {
    if (this.#session) return this.#context.manager.hasTokens(this.#session)
    // Without keys this process cannot open the reference yet.
    return this.#context.keys?.isEmpty ?? false
  }

  get grantId(): string | undefined {
    return this.#session?.reference.grantId
  }

  async revoke(): Promise<void> {
    await this.#context.manager.revoke(await this.#usable())
  }

  async clear(): Promise<void> {
    await this.#context.manager.clear(await this.#usable())
  }

  axios(config: SessionAxiosConfig): AxiosInstance {
    return axiosOver(() => this, config)
  }

  fetch(config: SessionFetchConfig): typeof fetch {
    return fetchOver(() => this, config)
  }

  async dpopProof(request: DpopProofRequest): Promise<string> {
    const session = await this.#usable()
    const keyOf = () => this.#context.manager.tokensOf(session)?.dpopKey
    return appProof(this.#context, keyOf, request, () => this.getAccessToken())
  }

  async tokenToSend(need: TokenNeed): Promise<TokenToSend> {
    const token = await this.getAccessToken(need)
    if (token.tokenType !== 'DPoP') return token
    const { manager } = this.#context
    return withProofs(this.#context, manager.tokensOf(await this.#usable())?.dpopKey, token)
  }

  clientCertificate(): Promise<ClientCertificate> {
    return this.#context.server.clientCertificate()
  }

  secrets(): readonly string[] {
    const tokens = this.#session && this.#context.manager.tokensOf(this.#session)
    return tokens ? secretsOf(tokens) : []
  }

  async #usable(): Promise<OfflineSession> {
    await this.#context.keys?.prepare()
    if (!this.#session) throw unusableReferenceError()
    return this.#session
  }
}

/** Returns the `offline()` of a middleware. */
export function offlineOf(parts: MiddlewareContext | Tenants<never>): (reference: string) => OfflineTokens {
  return (reference) => {
    if (parts instanceof Tenants) throw tenantsHaveNoOffline()
    return offlineTokensOf(parts, reference)
  }
}

function offlineTokensOf(context: MiddlewareContext, reference: string): OfflineTokens {
  if (typeof reference === 'string') return new GrantTokens(context, reference)
  throw new ConfigurationError(
    'offline() takes the string that req.tokens.offlineReference() resolves with. Await that call, and store its result.',
  )
}

/**
 * Makes the tokens of users available to a process without requests, such as a worker of a queue. It takes the options of the
 * `sessionTokens()` of the app: the same client, issuer, `sessionKey`, `encryptionKeys`, `keep` and `grants`. It needs no Express.
 *
 * @throws `ConfigurationError` when an option is wrong, or `grants` is missing
 *
 * @example
 * const { offline, close } = offlineTokens({ issuer, clientId, clientAuthentication, encryptionKeys, grants })
 * const api = offline(job.data.reference).axios({ baseURL: 'https://api.example.com' })
 */
export function offlineTokens(options: SessionTokensOptions): OfflineTokensFactory {
  const context = composeMiddleware(options, undefined, noSessions)
  if (ownValue(options, 'grants') === undefined) throw grantsRequiredError()
  return {
    offline: (reference) => offlineTokensOf(context, reference),
    end: endOf(context),
    close: () => context.close(),
  }
}

/** Returns the session layer of a process without requests. Its `of()` is never called. */
function noSessions(): SessionLayer<object> {
  return {
    of() {
      throw new Error('offlineTokens() serves no requests.')
    },
    close() {},
  }
}

function grantsRequiredError(): ConfigurationError {
  return new ConfigurationError(
    `offlineTokens() needs the grant store that the processes of the app share: grants: ${SHARED_GRANT_STORES}. ` +
      'Without one a reference works only in the process that made it, by the offline() of its sessionTokens().',
  )
}

/**
 * Returns the error for a call of `offline()` on a `sessionTokens()` with tenants. There the app calls
 * `offlineTokens()` for each tenant instead.
 */
function tenantsHaveNoOffline(): ConfigurationError {
  return new ConfigurationError(
    'With tenants, make the tokens of each tenant with offlineTokens(), its options and its sessionKey, which is `tokens:` and the ' +
      "name of the tenant unless its options name one: offlineTokens({ sessionKey: 'tokens:' + tenant, …options }).",
  )
}
