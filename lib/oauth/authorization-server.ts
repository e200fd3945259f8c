import type { Clock } from '../clock.js'
import { ConfigurationError, type TokenError } from '../errors.js'
import { ownProperties } from '../own-properties.js'
import type { TokenAnswer } from '../token-set.js'
import type { ClientAuthentication } from './client-authentication.js'
import { endpointUrl } from './endpoint-url.js'
import type { FormParameters } from './form.js'
import type { IsGrantEnded } from './grant-ended-option.js'
import { type AcquireParameters, checkIssuer, ownParameters, parametersToSend } from './grant-request.js'
import { type HttpOptions, httpClient, secretsOfHeaders } from './http.js'
import { type IdTokenSignature, issuerKeys } from './issuer-keys.js'
import { issuerUrl, type Metadata, metadataOf } from './metadata.js'
import { parametersOfRefresh, type RefreshParametersOption } from './refresh-parameters.js'
import { type FormRequest, requestRevocation, requestTokens } from './token-endpoint.js'
import { untilAborted } from './until-aborted.js'

export type { AcquireParameters }

/** A token endpoint's answer to a refresh: it always has an access token. */
export type RefreshAnswer = TokenAnswer & { readonly accessToken: string }

/** What the token manager asks of an authorization server. `lib/oauth/` speaks it over HTTP. */
export interface AuthorizationServer {
  /**
   * Refreshes (RFC 6749 §6), once: nothing is sent again when it fails.
   *
   * Rejects with a `TokenError`. `ERR_REAUTHENTICATION_REQUIRED`: the refresh token is dead (`invalid_grant`, or what the
   * server says in its place). A `StepUpError`: what was asked for is not issued without the user. `ERR_INSUFFICIENT_SCOPE`:
   * the scope, resource or audience that was named is refused. `ERR_TOKEN_ENDPOINT_UNAVAILABLE`: try again later. A response
   * of no use may have brought a new refresh token all the same, see `refreshTokenBeside()`.
   */
  refresh(
    refreshToken: string,
    request: {
      readonly scope?: string
      readonly resource?: string
      /** Sent along as `audience`, which servers without RFC 8707 know. */
      readonly audience?: string
      /** The other tokens of the session: no error shows them. */
      readonly secrets?: readonly string[]
      readonly signal: AbortSignal
    },
  ): Promise<RefreshAnswer>
  /**
   * Exchanges a code, a password or an assertion for tokens (RFC 6749 §4.1.3, §4.3, §4.5; RFC 7523 §2.1), once. An `iss`
   * among the parameters must be the issuer (RFC 9207 §2.4), else nothing is sent. Neither `iss` nor `nonce` is sent.
   */
  acquire(parameters: AcquireParameters, signal: AbortSignal): Promise<RefreshAnswer>
  /** Revokes a token (RFC 7009); one that is gone already counts as revoked. Rejects with a `TokenError`. */
  revoke(token: string, tokenTypeHint: 'refresh_token' | 'access_token', signal: AbortSignal): Promise<void>
  /**
   * Looks at the signature of an ID token that came from the token endpoint, with the issuer's keys. Where none are
   * known it is good: it came over TLS (OpenID Connect Core §3.1.3.7, number 6). Never rejects.
   */
  signatureOf(idToken: string): Promise<IdTokenSignature>
}

/** Who the authorization server is, where its endpoints are, and how the client authenticates. */
export interface AuthorizationServerOptions {
  /**
   * The issuer identifier, e.g. `https://idp.example.com`. The endpoints are taken from its metadata (RFC 8414, OpenID
   * Connect Discovery), fetched when first needed, except those given here.
   */
  readonly issuer?: string
  /** The token endpoint. Default: the metadata's. */
  readonly tokenEndpoint?: string
  /** Where refreshes go, for providers with a refresh URL of its own. Default: the token endpoint. */
  readonly refreshEndpoint?: string
  /** The revocation endpoint (RFC 7009). Default: the metadata's. */
  readonly revocationEndpoint?: string
  /** Where the issuer's public keys are (RFC 7517 §5). Default: the metadata's. */
  readonly jwksUri?: string
  /** The client id, as registered. */
  readonly clientId: string
  /** How the client authenticates, e.g. `clientSecretBasic(secret)`. */
  readonly clientAuthentication: ClientAuthentication
  /** Agents, a proxy, further headers. */
  readonly http?: HttpOptions
  /** What is sent with every refresh besides. */
  readonly refreshParameters?: RefreshParametersOption
  /** Says whether a refused refresh ends the grant. */
  readonly isGrantEnded?: IsGrantEnded
  readonly clock: Clock
}

type Endpoint = 'token' | 'refresh' | 'revocation'

/**
 * Speaks to an authorization server over HTTP. Sends nothing until it is asked to. Which options are needed is checked
 * by `sessionTokens()`.
 *
 * @throws `ConfigurationError` when a URL is none that secrets may be sent to, such as one without https.
 *
 * @example
 * const server = authorizationServer({
 *   issuer: 'https://idp.example.com',
 *   clientId: 'web',
 *   clientAuthentication: clientSecretBasic(secret),
 *   clock: systemClock,
 * })
 */
export function authorizationServer(options: AuthorizationServerOptions): AuthorizationServer {
  const { issuer, clientId, clientAuthentication, clock, isGrantEnded, refreshParameters } = options
  const explicit = checkedEndpoints(options)
  const send = httpClient(options.http)
  const secrets = secretsOfHeaders(options.http?.headers)
  const metadata =
    issuer === undefined ? undefined : metadataOf(issuer, { send, now: () => clock.now(), secrets })

  let keys: ReturnType<typeof issuerKeys> | undefined

  async function found<T>(known: T | undefined, of: (metadata: Metadata) => T, signal: AbortSignal) {
    if (known !== undefined || !metadata) return known
    return of(await untilAborted(metadata(), signal, "The authorization server's metadata"))
  }

  async function endpointOf(kind: Endpoint, signal: AbortSignal): Promise<string> {
    if (kind === 'revocation') {
      return (await found(explicit.revocation, (it) => it.revocationEndpoint, signal)) ?? noRevocation()
    }
    const known = kind === 'refresh' ? explicit.refresh : undefined
    return known ?? tokenEndpoint(signal)
  }

  // There is the one or the other: `sessionTokens()` checks that.
  async function tokenEndpoint(signal: AbortSignal): Promise<string> {
    return (await found(explicit.token, (it) => it.tokenEndpoint, signal)) as string
  }

  async function formRequest(
    kind: Endpoint,
    parameters: FormParameters,
    own: readonly string[],
    signal: AbortSignal,
    added: readonly string[] = [],
  ): Promise<FormRequest> {
    const endpoint = await endpointOf(kind, signal)
    const client = {
      clientId,
      ...(issuer !== undefined && { issuer }),
      tokenEndpoint: await tokenEndpoint(signal),
      endpoint,
      now: clock.now(),
    }
    const name = kind === 'refresh' && explicit.refresh === undefined ? 'token' : kind
    const what = `The ${name} endpoint`
    return { what, parameters, own, added, client, clientAuthentication, secrets, signal }
  }

  async function signatureOf(idToken: string): Promise<IdTokenSignature> {
    // The metadata has been fetched by then: the token endpoint was taken from it.
    const jwksUri = explicit.jwks ?? (await metadata?.())?.jwksUri
    if (jwksUri === undefined) return { verdict: 'good' }
    keys ??= issuerKeys(jwksUri, { send, clock, secrets })
    return keys(idToken)
  }

  return {
    async refresh(refreshToken, { signal, secrets: tokens = [], ...need }) {
      const further = parametersOfRefresh(refreshParameters, ownProperties(need))
      const parameters = { ...further, grant_type: 'refresh_token', refresh_token: refreshToken }
      const own = ['grant_type', 'refresh_token']
      const added = Object.keys(further).filter((name) => !Object.hasOwn(need, name))
      const form = await formRequest('refresh', parameters, own, signal, added)
      const request = { ...form, secrets: [...form.secrets, ...tokens] }
      const namesNeed = Object.values(need).some((it) => it !== undefined)
      return requestTokens(send, request, { namesNeed, ...(isGrantEnded && { isGrantEnded }) })
    },
    async acquire(parameters, signal) {
      const own = ownParameters(parameters)
      const { sent, iss } = parametersToSend(parameters)
      if (iss !== undefined) checkIssuer(iss, issuer)
      return requestTokens(send, await formRequest('token', sent, own, signal))
    },
    async revoke(token, tokenTypeHint, signal) {
      const parameters = { token, token_type_hint: tokenTypeHint }
      await requestRevocation(
        send,
        await formRequest('revocation', parameters, Object.keys(parameters), signal),
      )
    },
    async signatureOf(idToken) {
      try {
        return await signatureOf(idToken)
      } catch (error) {
        return { verdict: 'unknown', error: error as TokenError }
      }
    },
  }
}

/** The endpoints that were given. The issuer is checked with them: its metadata is fetched there. */
function checkedEndpoints(options: AuthorizationServerOptions) {
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

function noRevocation(): never {
  throw new ConfigurationError(
    'No revocation endpoint is known, so the authorization server was told nothing. Give the option ' +
      'revocationEndpoint, or use clear(), which logs out here alone.',
  )
}
