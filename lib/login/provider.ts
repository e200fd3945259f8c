import * as oidc from 'openid-client'
import { ConfigurationError, type TokenError } from '../errors/token-error.js'
import { warnOnce } from '../errors/warn-once.js'
import type { ClientCredentials } from '../oauth/client-authentication/client-authentication.js'
import { usesCertificate } from '../oauth/client-authentication/tls-client.js'
import { dpopKeyPair, thumbprintOf } from '../oauth/dpop/keys.js'
import { secretsOfHeaders } from '../oauth/http.js'
import { type KeptMetadata, keptMetadata } from '../oauth/metadata.js'
import { secretsOfRequest } from '../oauth/token-endpoint/token-endpoint.js'
import { ownProperties, ownValue } from '../options/own-properties.js'
import type { DpopKey } from '../tokens/dpop-key.js'
import type { CheckedLoginOptions } from './check-options.js'
import { LoginError } from './login-error.js'
import { loginErrorOf } from './provider-errors.js'
import { providerFetch } from './provider-fetch.js'
import type { Transaction } from './transaction.js'

/** The claims of an ID token that openid-client has checked. */
export type LoginClaims = oidc.IDToken
/** A token response that openid-client has checked. */
export type LoginTokens = oidc.TokenEndpointResponse

/** A login that has succeeded at the authorization server. */
export interface CompletedLogin {
  readonly tokens: LoginTokens
  /** The claims of the ID token, and of userinfo if the option asks for it. */
  readonly claims: LoginClaims
}

/** How many secrets of client authentications are remembered. Each request may have new ones. */
const MAX_SECRETS = 200

/** The authorization server, as a client of openid-client. */
export class Provider {
  readonly #options: CheckedLoginOptions
  readonly #redirectUri: string
  readonly #configuration: KeptMetadata<oidc.Configuration>
  /** The secrets that the client authentication has added to the latest requests. No error may show them. */
  readonly #secrets = new Set<string>()

  constructor(options: CheckedLoginOptions, redirectUri: string) {
    this.#options = options
    this.#redirectUri = redirectUri
    this.#configuration = keptMetadata(
      () => this.#discover(),
      () => Date.now(),
    )
  }

  /** Resolves with the metadata, see {@link keptMetadata}. */
  async configuration(): Promise<oidc.Configuration> {
    return this.#configuration.get()
  }

  async #discover(): Promise<oidc.Configuration> {
    const { clientAuthentication, clientId, configure, http, issuer, timeoutMs, verifySignature } =
      this.#options
    const execute = issuer.startsWith('http:') ? [oidc.allowInsecureRequests] : []
    const isOverTls = usesCertificate(clientAuthentication)
    const client = isOverTls ? { use_mtls_endpoint_aliases: true } : undefined
    const certificate = async () =>
      isOverTls ? (await credentialsFor(this.#options)).certificate : undefined
    const authenticate = authenticationOf(this.#options, (credentials) => this.#noteSecrets(credentials))
    const configuration = await oidc.discovery(new URL(issuer), clientId, client, authenticate, {
      timeout: timeoutMs / 1000,
      execute: [...execute, ...(verifySignature ? [oidc.enableNonRepudiationChecks] : [])],
      [oidc.customFetch]: this.#noting(providerFetch(http, timeoutMs, certificate)),
    })
    configure?.(configuration)
    return configuration
  }

  #noting(send: oidc.CustomFetch): oidc.CustomFetch {
    return async (url, options) => {
      const response = await send(url, options)
      this.#configuration.noteStatus(response.status)
      return response
    }
  }

  /**
   * Makes the URL to which the user is sent. The request is signed if there is a key (RFC 9101), and pushed if the server offers
   * that (RFC 9126).
   */
  authorizationUrl(parameters: URLSearchParams, transaction: Transaction): Promise<URL> {
    return this.#step(transaction.returnTo, [transaction.codeVerifier], async () => {
      const configuration = await this.configuration()
      const request = await this.#requestOf(parameters, transaction)
      const { requestObjectKey: key } = this.#options
      if (!this.#pushes(configuration)) {
        return key
          ? await oidc.buildAuthorizationUrlWithJAR(configuration, request, key)
          : oidc.buildAuthorizationUrl(configuration, request)
      }
      const signed = key && (await oidc.buildAuthorizationUrlWithJAR(configuration, request, key))
      return await oidc.buildAuthorizationUrlWithPAR(configuration, signed?.searchParams ?? request)
    })
  }

  /** Runs a step of a login. No error of the step shows a secret of the client, or one of `secrets`. */
  async #step<T>(
    returnTo: string | undefined,
    secrets: readonly string[],
    run: () => Promise<T>,
  ): Promise<T> {
    try {
      return await run()
    } catch (error) {
      const ofHeaders = secretsOfHeaders(this.#options.http?.headers)
      throw loginErrorOf(error, returnTo, [...secrets, ...this.#secrets, ...ofHeaders])
    }
  }

  #noteSecrets(credentials: ClientCredentials): void {
    for (const secret of secretsOfRequest(Object.entries(credentials.parameters ?? {}), credentials)) {
      // The latest one is the last to be forgotten.
      this.#secrets.delete(secret)
      this.#secrets.add(secret)
    }
    while (this.#secrets.size > MAX_SECRETS) this.#secrets.delete(this.#secrets.values().next().value!)
  }

  async #requestOf(parameters: URLSearchParams, transaction: Transaction): Promise<URLSearchParams> {
    const { state, nonce, codeVerifier, dpopKey } = ownProperties(transaction)
    const request = new URLSearchParams(parameters)
    request.set('redirect_uri', this.#redirectUri)
    request.set('state', state)
    request.set('nonce', nonce)
    request.set('code_challenge', await oidc.calculatePKCECodeChallenge(codeVerifier))
    request.set('code_challenge_method', 'S256')
    if (dpopKey) request.set('dpop_jkt', await thumbprintOf(dpopKey))
    if (this.#options.responseMode === 'form_post') request.set('response_mode', 'form_post')
    return request
  }

  #pushes(configuration: oidc.Configuration): boolean {
    const metadata = configuration.serverMetadata()
    const { pushedRequests, requestObjectKey } = this.#options
    if (ownValue(metadata, 'require_signed_request_object') === true && !requestObjectKey) {
      throw new ConfigurationError(
        'The authorization server requires signed requests. Give login() the key to sign them with: requestObjectKey.',
      )
    }
    const isOffered = ownValue(metadata, 'pushed_authorization_request_endpoint') !== undefined
    const isRequired = ownValue(metadata, 'require_pushed_authorization_requests') === true
    return isOffered && (pushedRequests || isRequired)
  }

  /**
   * Checks the parameters of a callback, exchanges the code, and checks the ID token: state, `iss` (RFC 9207), nonce, PKCE,
   * `max_age` and `acr_values`.
   */
  complete(parameters: URLSearchParams, transaction: Transaction): Promise<CompletedLogin> {
    const { acrValues, codeVerifier, dpopKey, maxAge, nonce, returnTo, state } = ownProperties(transaction)
    const secrets = [codeVerifier, ...parameters.getAll('code')]
    return this.#step(returnTo, secrets, async () => {
      const configuration = await this.configuration()
      const url = new URL(this.#redirectUri)
      url.search = String(parameters)
      const checks = {
        expectedState: state,
        expectedNonce: nonce,
        pkceCodeVerifier: codeVerifier,
        ...(maxAge !== undefined && { maxAge }),
      }
      const proving = await proofsOf(configuration, dpopKey)
      const tokens = await oidc.authorizationCodeGrant(configuration, url, checks, undefined, proving)
      secrets.push(tokens.access_token, tokens.refresh_token ?? '', tokens.id_token ?? '')
      const claims = tokens.claims()!
      try {
        checkAcr(ownValue(claims, 'acr'), acrValues, returnTo)
        if (!this.#options.userinfo) return { tokens, claims }
        const bound = tokens.token_type === 'dpop' ? proving : undefined
        const userinfo = await oidc.fetchUserInfo(configuration, tokens.access_token, claims.sub, bound)
        return { tokens, claims: { ...userinfo, ...claims } }
      } catch (error) {
        this.discard(tokens)
        throw error
      }
    })
  }

  /** Fetches the claims of userinfo again. */
  userinfo(accessToken: string, sub: string, dpopKey?: DpopKey): Promise<oidc.UserInfoResponse> {
    return this.#step(undefined, [accessToken], async () => {
      const configuration = await this.configuration()
      const proving = await proofsOf(configuration, dpopKey)
      return await oidc.fetchUserInfo(configuration, accessToken, sub, proving)
    })
  }

  /** Revokes tokens that no session gets (RFC 7009). Without success they stay valid until they expire. */
  discard(tokens: LoginTokens): void {
    const token = tokens.refresh_token ?? tokens.access_token
    void this.configuration()
      .then((configuration) => oidc.tokenRevocation(configuration, token))
      .catch(() => {})
  }

  /** Makes the URL of the logout at the authorization server. Resolves with `undefined` if the server has no logout. */
  async endSessionUrl(parameters: Record<string, string>): Promise<URL | undefined> {
    const configuration = await this.configuration()
    if (ownValue(configuration.serverMetadata(), 'end_session_endpoint') === undefined) return undefined
    return oidc.buildEndSessionUrl(configuration, parameters)
  }
}

/** Makes openid-client send the proofs that the client holds a key (RFC 9449), with the nonces that the server requires. */
async function proofsOf(
  configuration: oidc.Configuration,
  dpopKey: DpopKey | undefined,
): Promise<oidc.DPoPOptions | undefined> {
  return dpopKey && { DPoP: oidc.getDPoPHandle(configuration, await dpopKeyPair(dpopKey)) }
}

/** Makes a client authentication for openid-client out of one of this library. */
function authenticationOf(
  options: CheckedLoginOptions,
  onCredentials: (credentials: ClientCredentials) => void,
): oidc.ClientAuth {
  const authentication = async (
    server: oidc.ServerMetadata,
    _client: unknown,
    body: URLSearchParams,
    headers: Headers,
  ): Promise<void> => {
    const tokenEndpoint = server.token_endpoint ?? options.issuer
    const endpoint = body.has('grant_type')
      ? tokenEndpoint
      : body.has('token')
        ? (server.revocation_endpoint ?? tokenEndpoint)
        : (server.pushed_authorization_request_endpoint ?? tokenEndpoint)
    const credentials = await credentialsFor(options, tokenEndpoint, endpoint)
    onCredentials(credentials)
    for (const [name, value] of Object.entries(credentials.headers ?? {})) headers.set(name, value)
    for (const [name, value] of Object.entries(credentials.parameters ?? {})) body.set(name, value)
  }
  return authentication
}

/** Calls the client authentication for the headers and parameters of a request. */
async function credentialsFor(
  { clientAuthentication, clientId, issuer }: CheckedLoginOptions,
  tokenEndpoint = issuer,
  endpoint = tokenEndpoint,
): Promise<ClientCredentials> {
  const onSecretFailed = warnOfSecret
  return ownProperties(
    await clientAuthentication({
      clientId,
      issuer,
      tokenEndpoint,
      endpoint,
      now: Date.now(),
      onSecretFailed,
    }),
  )
}

/** Warns of a secret that failed: `login()` has no events. */
function warnOfSecret({ message }: TokenError): void {
  warnOnce('SESSION_TOKENS_SECRET', `login(): ${message}`)
}

/** Checks that the user logged in by one of the accepted ways (OpenID Connect Core §3.1.2.1, RFC 9470 §5). */
function checkAcr(acr: unknown, acrValues: string | undefined, returnTo: string): void {
  if (acrValues === undefined || (typeof acr === 'string' && acrValues.split(' ').includes(acr))) return
  throw new LoginError('unmet', { returnTo })
}
