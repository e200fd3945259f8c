import { abortedError, raceAbort } from '../concurrency/abortable.js'
import type { Clock } from '../concurrency/clock.js'
import { ConfigurationError, type TokenError } from '../errors/token-error.js'
import { ownProperties } from '../options/own-properties.js'
import type { DpopKey } from '../tokens/dpop-key.js'
import type { AuthorizationServer, IdTokenSignature, RefreshResponse } from './authorization-server.js'
import type {
  ClientAuthentication,
  ClientAuthenticationRequest,
} from './client-authentication/client-authentication.js'
import { clientCredentials } from './client-authentication/client-credentials.js'
import { usesCertificate } from './client-authentication/tls-client.js'
import type { Dpop } from './dpop/dpop.js'
import { endpointUrl } from './endpoint-url.js'
import { type HttpOptions, httpClient, type SendHttp, secretsOfHeaders } from './http.js'
import { isEncrypted } from './id-token/encrypted.js'
import { unreadableIdToken } from './id-token/id-token.js'
import { issuerKeys } from './id-token/issuer-keys.js'
import { issuerUrl, type Metadata, metadataOf } from './metadata.js'
import { checkIssuer, namesSentFirst, parametersToSend } from './token-endpoint/acquire-parameters.js'
import type { IsGrantEnded } from './token-endpoint/is-grant-ended.js'
import { parametersOfRefresh, type RefreshParametersOption } from './token-endpoint/refresh-parameters.js'
import { type FormRequest, requestRevocation, requestTokens } from './token-endpoint/token-endpoint.js'
import {
  type ExchangeOptions,
  FIRST_OF_EXCHANGE,
  flawOfIssued,
  parametersOfExchange,
} from './token-endpoint/token-exchange.js'

/** The authorization server, its endpoints, and the client's authentication. */
export interface HttpAuthorizationServerOptions {
  /**
   * The issuer identifier, e.g. `https://idp.example.com`. The endpoints are taken from its metadata (RFC 8414, OpenID
   * Connect Discovery), fetched when first needed, except those in the other options. See `keptMetadata()`.
   */
  readonly issuer?: string
  /** The token endpoint. Default: the metadata's. */
  readonly tokenEndpoint?: string
  /** The endpoint for refreshes, for a server that has a separate one. Default: the token endpoint. */
  readonly refreshEndpoint?: string
  /** The revocation endpoint (RFC 7009). Default: the metadata's. */
  readonly revocationEndpoint?: string
  /** The URL of the issuer's public keys (RFC 7517 §5). Default: the metadata's. */
  readonly jwksUri?: string
  /** The client id, as registered. */
  readonly clientId: string
  /** How the client authenticates, e.g. `clientSecretBasic(secret)`. */
  readonly clientAuthentication: ClientAuthentication
  /** The agents, the proxy and further headers. */
  readonly http?: HttpOptions
  /** How long a connection may take, TLS included, in milliseconds. Default: 3,000. */
  readonly connectTimeoutMs?: number
  /** Further parameters of every refresh. */
  readonly refreshParameters?: RefreshParametersOption
  /** Decides whether a refused refresh ends the grant. */
  readonly isGrantEnded?: IsGrantEnded
  /** The exchanges of tokens, by name. */
  readonly exchanges?: Readonly<Record<string, ExchangeOptions>>
  readonly clock: Clock
  /** Is called when a function that returns a secret of the client has failed. */
  readonly onSecretFailed?: ClientAuthenticationRequest['onSecretFailed']
  /** Makes the proofs of requests for tokens that are bound to keys. */
  readonly dpop?: Dpop | undefined
}

const CERTIFICATE_TIMEOUT_MS = 10_000
const REFRESH_PARAMETERS = ['grant_type', 'refresh_token']
const REVOCATION_PARAMETERS = ['token', 'token_type_hint']

/**
 * Makes an authorization server that is used over HTTP. Sends nothing until a method is called. `sessionTokens()` checks
 * which options are needed.
 *
 * @throws `ConfigurationError` for a URL to which secrets must not be sent, such as one without https.
 *
 * @example
 * const server = httpAuthorizationServer({
 *   issuer: 'https://idp.example.com',
 *   clientId: 'web',
 *   clientAuthentication: clientSecretBasic(secret),
 *   clock: systemClock,
 * })
 */
export function httpAuthorizationServer(options: HttpAuthorizationServerOptions): AuthorizationServer {
  const { issuer, clientId, clientAuthentication, clock, isGrantEnded, refreshParameters } = options
  const given = checkedEndpoints(options)
  const whenFailed = options.onSecretFailed && { onSecretFailed: options.onSecretFailed }
  const isOverTls = usesCertificate(clientAuthentication)
  const sendRequest = httpClient(options.http, options.connectTimeoutMs)
  const secrets = secretsOfHeaders(options.http?.headers)
  const metadata =
    issuer === undefined
      ? undefined
      : metadataOf(issuer, { send: sendRequest, now: () => clock.now(), secrets })
  let keys: { readonly uri: string; readonly verify: ReturnType<typeof issuerKeys> } | undefined

  const send: SendHttp = async (request) => {
    const response = await sendRequest(request)
    metadata?.noteStatus(response.status)
    return response
  }

  async function fetchedMetadata(signal: AbortSignal): Promise<Metadata | undefined> {
    const found = metadata?.get()
    if (!(found instanceof Promise)) return found
    return raceAbort(found, signal, () => abortedError(signal, "The authorization server's metadata"))
  }

  /** Completes a form with the endpoint and the client. */
  async function formRequest(form: FormParts, signal: AbortSignal): Promise<FormRequest> {
    const needsMetadata = !given.token || (form.endpoint === 'revocation' && !given.revocation)
    const fetched = needsMetadata ? await fetchedMetadata(signal) : undefined
    const found = fetched && isOverTls ? { ...fetched, ...fetched.mtlsAliases } : fetched
    // There is a token endpoint or an issuer: `sessionTokens()` checks that.
    const tokenEndpoint = given.token ?? found!.tokenEndpoint
    const client = {
      clientId,
      ...(issuer !== undefined && { issuer }),
      tokenEndpoint,
      endpoint:
        form.endpoint === 'revocation'
          ? (given.revocation ?? found?.revocationEndpoint ?? noRevocationEndpoint())
          : (form.endpoint === 'refresh' && given.refresh) || tokenEndpoint,
      now: clock.now(),
      ...whenFailed,
    }
    const defaults = { added: [], beforeSending: undefined, secrets: () => secrets }
    return ownProperties({ ...defaults, ...form, client, clientAuthentication, signal })
  }

  /** Returns the function that checks signatures; `undefined` if the issuer's keys are not known. */
  async function issuersKeys(): Promise<ReturnType<typeof issuerKeys> | undefined> {
    const uri = given.jwks ?? (await metadata?.get())?.jwksUri
    if (uri === undefined) return undefined
    if (keys?.uri !== uri) keys = { uri, verify: issuerKeys(uri, { send, clock, secrets }) }
    return keys.verify
  }

  async function signatureOf(token: string, withoutKeys: IdTokenSignature): Promise<IdTokenSignature> {
    try {
      const verify = await issuersKeys()
      return verify ? await verify(token) : withoutKeys
    } catch (error) {
      return { verdict: 'unknown', error: error as TokenError }
    }
  }

  /** The part of a form that proves the possession of a key, if there is one. */
  const provenBy = (key: DpopKey | undefined): Partial<FormParts> | undefined =>
    key && options.dpop && { dpop: options.dpop.forServer(key), acceptsBearer: options.dpop.acceptsBearer }

  return {
    async refresh(refreshToken, { signal, beforeSending, dpopKey, secrets: ofSession = () => [], ...need }) {
      const parameters = refreshParameters ? parametersOfRefresh(refreshParameters, need) : need
      const form: FormParts = {
        endpoint: given.refresh === undefined ? 'token' : 'refresh',
        parameters: { ...parameters, grant_type: 'refresh_token', refresh_token: refreshToken },
        first: REFRESH_PARAMETERS,
        ...(refreshParameters && { added: namesBeside(parameters, need) }),
        secrets: () => [...secrets, ...ofSession()],
        beforeSending,
        ...provenBy(dpopKey),
      }
      const namesNeed = Object.values(need).some((it) => it !== undefined)
      return requestTokens(send, await formRequest(form, signal), { namesNeed, isGrantEnded })
    },
    async exchange(subjectToken, { dpopKey, clientToken, name, secrets: ofSession, signal }) {
      const exchange = options.exchanges![name]!
      const form: FormParts = {
        endpoint: 'token',
        parameters: await parametersOfExchange(name, exchange, subjectToken, clientToken, signal),
        first: FIRST_OF_EXCHANGE,
        flawOf: (fields) => flawOfIssued(fields, exchange.requestedTokenType),
        secrets: () => [...secrets, ...ofSession()],
        ...provenBy(dpopKey),
      }
      // A refusal is judged like that of a refresh for a need.
      const facts = { namesNeed: true, isGrantEnded: undefined }
      const response = await requestTokens(send, await formRequest(form, signal), facts)
      if ('error' in response) throw response.error
      return accessTokenOnly(response, exchange.scope)
    },
    async clientCredentials({ scope, resource, audience }, signal, dpopKey) {
      const parameters = { grant_type: 'client_credentials', scope, resource, audience }
      const first = ['grant_type']
      const form: FormParts = { endpoint: 'token', parameters, first, ...provenBy(dpopKey) }
      const response = await requestTokens(send, await formRequest(form, signal))
      if ('error' in response) throw response.error
      return accessTokenOnly(response, scope)
    },
    async acquire(parameters, signal, dpopKey) {
      const first = namesSentFirst(parameters)
      const { sent, iss } = parametersToSend(parameters)
      if (iss !== undefined) checkIssuer(iss, issuer)
      const form: FormParts = { endpoint: 'token', parameters: sent, first, ...provenBy(dpopKey) }
      const response = await requestTokens(send, await formRequest(form, signal))
      if ('error' in response) throw response.error
      return response
    },
    async clientCertificate() {
      if (!isOverTls) throw noCertificate()
      const endpoint = given.token ?? issuer!
      const signal = AbortSignal.timeout(CERTIFICATE_TIMEOUT_MS)
      const client = { clientId, tokenEndpoint: endpoint, endpoint, now: clock.now(), ...whenFailed }
      return (await clientCredentials(clientAuthentication, client, () => secrets, signal)).certificate!
    },
    async revoke(token, tokenTypeHint, signal, dpopKey) {
      const parameters = { token, token_type_hint: tokenTypeHint }
      const first = REVOCATION_PARAMETERS
      const form: FormParts = { endpoint: 'revocation', parameters, first, ...provenBy(dpopKey) }
      await requestRevocation(send, await formRequest(form, signal))
    },
    async signatureOf(idToken) {
      const unreadable = unreadableIdToken(idToken)
      if (unreadable) return { verdict: 'unknown', error: unreadable }
      return signatureOf(idToken, { verdict: 'good' })
    },
    async signatureOfLogoutToken(token) {
      if (isEncrypted(token)) return { verdict: 'bad', why: 'is encrypted' }
      return signatureOf(token, { verdict: 'unknown', error: noKeys() })
    },
    async endSessionEndpoint(signal) {
      const found = await fetchedMetadata(signal)
      return found?.endSessionEndpoint ?? noEndSessionEndpoint()
    },
  }
}

/** The part of a form that depends on the kind of request. */
type FormParts = Pick<FormRequest, 'endpoint' | 'parameters' | 'first'> &
  Partial<Pick<FormRequest, 'acceptsBearer' | 'added' | 'beforeSending' | 'dpop' | 'flawOf' | 'secrets'>>

/** Returns a response without a refresh token and an ID token. A scope that it omits is the requested one (RFC 6749 §5.1). */
function accessTokenOnly(response: RefreshResponse, requestedScope: string | undefined): RefreshResponse {
  // The lifetimes beside them are not those of a login either.
  const {
    refreshToken: _,
    refreshLifetimeMs: __,
    idToken: ___,
    sessionExpiresAt: ____,
    scope = requestedScope,
    ...rest
  } = response
  return ownProperties({ ...rest, ...(scope !== undefined && { scope }) })
}

function namesBeside(parameters: object, need: object): string[] {
  return Object.keys(parameters).filter((name) => !Object.hasOwn(need, name))
}

/** Checks the endpoints in the options, and the issuer, whose URL leads to the metadata. Returns the endpoints that are given. */
function checkedEndpoints(options: HttpAuthorizationServerOptions) {
  const { issuer, tokenEndpoint, refreshEndpoint, revocationEndpoint, jwksUri } = options
  if (issuer !== undefined) issuerUrl(issuer)
  const checked = (url: string | undefined, option: string) =>
    url === undefined ? url : endpointUrl(url, option)
  return {
    token: checked(tokenEndpoint, 'tokenEndpoint'),
    refresh: checked(refreshEndpoint, 'refreshEndpoint'),
    revocation: checked(revocationEndpoint, 'revocationEndpoint'),
    jwks: checked(jwksUri, 'jwksUri'),
  }
}

function noCertificate(): ConfigurationError {
  return new ConfigurationError(
    '`clientCertificate` sends the certificate of the client, but the client authenticates without one. Use clientAuthentication: ' +
      'tlsClientAuth({ cert, key }) or selfSignedTlsClientAuth({ cert, key }), or leave `clientCertificate` out.',
  )
}

function noRevocationEndpoint(): never {
  throw new ConfigurationError(
    'The revocation endpoint is not known, so nothing was sent to the authorization server. Give the option ' +
      'revocationEndpoint, or use clear(), which logs out in this app alone.',
  )
}

function noEndSessionEndpoint(): never {
  throw new ConfigurationError(
    "The issuer's metadata names no end_session_endpoint, so the user cannot be logged out at the authorization server by a URL. " +
      'Use revoke(), which logs out here and revokes the tokens. If only the endpoints are configured, give the option issuer.',
  )
}

function noKeys(): ConfigurationError {
  return new ConfigurationError(
    "The issuer's keys are not known, so logout tokens cannot be checked. Give the option jwksUri.",
  )
}
