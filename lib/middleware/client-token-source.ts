import type { AxiosInstance } from 'axios'
import { ConfigurationError } from '../errors/token-error.js'
import { axiosOver, type SessionAxiosConfig } from '../outbound/axios/axios.js'
import { fetchOver, type SessionFetchConfig } from '../outbound/fetch/fetch.js'
import type { ClientCertificate } from '../tokens/client-certificate.js'
import { ReturnedToken } from '../tokens/returned-token.js'
import { completedNeed, type TokenNeed } from '../tokens/token-need.js'
import type { OutboundTokens, TokenSource, TokenToSend, ValidAccessToken } from '../tokens/token-source.js'
import type { MiddlewareContext } from './composition.js'
import { appProof, type DpopProofRequest, withProofs } from './request-dpop.js'
import { Tenants } from './tenants.js'

/**
 * The client's own access tokens (client credentials, RFC 6749 §4.4), for calls that an app makes in its own name. They are kept
 * in the memory of this process: one for each scope, resource and audience.
 */
export interface ClientTokenSource extends TokenSource {
  /**
   * Resolves with a valid access token of the client, and requests it first if there is none. All callers share one request. A token
   * that is valid costs no I/O. A token in use is renewed ahead of its expiry.
   *
   * @throws `TokenError` with `ERR_CLIENT_REJECTED`, `ERR_TOKEN_ENDPOINT` (the server refuses the scope, the resource or the grant
   * type), `ERR_TOKEN_ENDPOINT_UNAVAILABLE` (try again later), `ERR_INVALID_TOKEN_RESPONSE`
   *
   * @example
   * const { token } = await tokens.client.getAccessToken({ scope: 'reports.write' })
   */
  getAccessToken(need?: TokenNeed): Promise<ValidAccessToken>
  /** Makes the proof of one request for an HTTP client of your own, with the option `dpop`, as on a request. */
  dpopProof(request: DpopProofRequest): Promise<string>
  /** Makes an axios instance whose calls carry the client's own token, by the rules of `req.tokens.axios()`. */
  axios(config: SessionAxiosConfig): AxiosInstance
  /** Makes a function that is called like `fetch()`, and whose calls carry the client's own token. */
  fetch(config: SessionFetchConfig): typeof fetch
}

/** The tokens of a client. */
export class ClientSource implements ClientTokenSource, OutboundTokens {
  readonly #contextOf: () => MiddlewareContext
  /** The need that the guard of the route names. */
  readonly #routeNeed: TokenNeed | undefined

  constructor(contextOf: () => MiddlewareContext, routeNeed?: TokenNeed) {
    this.#contextOf = contextOf
    this.#routeNeed = routeNeed
  }

  async getAccessToken(need: TokenNeed = {}): Promise<ValidAccessToken> {
    const context = this.#contextOf()
    const token = await context.manager.client.get(completedNeed(need, this.#routeNeed))
    return new ReturnedToken(token, context.authorizationScheme)
  }

  axios(config: SessionAxiosConfig): AxiosInstance {
    return axiosOver(() => this, config)
  }

  fetch(config: SessionFetchConfig): typeof fetch {
    return fetchOver(() => this, config)
  }

  async dpopProof(request: DpopProofRequest): Promise<string> {
    const context = this.#contextOf()
    return appProof(
      context,
      () => context.manager.client.dpopKey(),
      request,
      () => this.getAccessToken(),
    )
  }

  async tokenToSend(need: TokenNeed): Promise<TokenToSend> {
    const token = await this.getAccessToken(need)
    const context = this.#contextOf()
    if (token.tokenType !== 'DPoP') return token
    return withProofs(context, await context.manager.client.dpopKey(), token)
  }

  clientCertificate(): Promise<ClientCertificate> {
    return this.#contextOf().server.clientCertificate()
  }

  secrets(): readonly string[] {
    return this.#contextOf().manager.client.secrets()
  }
}

/** Returns the `client` of a middleware. */
export function clientOf(parts: MiddlewareContext | Tenants<never>): ClientTokenSource {
  return new ClientSource(() => {
    if (parts instanceof Tenants) throw tenantsHaveNoClientError()
    return parts
  })
}

function tenantsHaveNoClientError(): ConfigurationError {
  return new ConfigurationError(
    'With tenants each tenant has a client of its own. Use req.tokens.client, which is that of the tenant of the request.',
  )
}
