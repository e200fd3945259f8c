import { ConfigurationError, StepUpError, TokenError } from '../errors/token-error.js'
import { hasField, ownProperties, ownValue } from '../options/own-properties.js'
import type { ClientCertificate } from '../tokens/client-certificate.js'
import { outboundCalls } from '../tokens/diagnostics.js'
import type { TokenNeed } from '../tokens/token-need.js'
import type { DpopProofs, OutboundTokens, TokenToSend } from '../tokens/token-source.js'
import { type AuthorizationScheme, readChallenge } from './challenge.js'
import type { Secrets } from './cleaning.js'
import type { Replay } from './outbound-options.js'
import { publishing } from './published-call.js'

const IDEMPOTENT: readonly string[] = ['GET', 'HEAD', 'OPTIONS', 'TRACE', 'PUT', 'DELETE']

/** Whether a method may be sent again. The methods that RFC 9110 §9.2.2 calls idempotent are. */
export function mayReplay(replay: Replay, method: string): boolean {
  return replay === 'always' || (replay === 'idempotent' && IDEMPOTENT.includes(method.toUpperCase()))
}

/** The token of the requests of a call, and the headers and the certificate that go with it. */
export interface Authorization {
  readonly token: string
  readonly scheme: AuthorizationScheme
  /** The value of the `Authorization` header. */
  readonly header: string
  /** Makes the `DPoP` header of each request, if the token is bound to a key: see `sendProven()`. */
  readonly dpop?: DpopProofs
  /** The client certificate of the connections that carry the token, if the app asks for one. */
  readonly certificate?: ClientCertificate
}

/** The outcome of sending a request once. */
export interface Attempt<Response> {
  /** The status of the response; 0 without a response. */
  readonly status: number
  /** The `WWW-Authenticate` header of the response. */
  readonly challenge: string | null | undefined
  /** Whether the server that responded was sent the token. */
  readonly sawToken: boolean
  /** Returns the response for the caller, or throws the caller's error. */
  result(): Response
  /** Frees the connection of a response that will not be read. */
  discard(): void
}

/** A request that is sent with a token of the session. */
export interface AuthorizedCall<Response> {
  readonly method: string
  readonly url: string
  readonly tokens: OutboundTokens
  readonly need: TokenNeed
  /** `false` when the body cannot be sent twice, or the option `replay` excludes the request. */
  readonly mayReplay: boolean
  /** Whether the connection has the client certificate. */
  readonly clientCertificate: boolean
  /**
   * Sends the request, with an authorization unless the policy of the route sends none.
   *
   * @param secrets the tokens that no error of the request may show: those of the session, and those that were sent
   */
  send(authorization: Authorization | undefined, secrets: Secrets): Promise<Attempt<Response>>
  /** Waits for a token, but no longer than the caller does. Default: waits until the token is there. */
  wait?<T>(work: Promise<T>): Promise<T>
}

/**
 * Sends a request with a valid access token. When the API rejects the token, the token manager gets a new token, and the request
 * is sent once more with it. A request that may not be replayed returns the API's response; the next request uses the new token.
 */
export function sendAuthorized<Response>(call: AuthorizedCall<Response>): Promise<Response> {
  return outboundCalls.hasSubscribers ? publishing(call, sendWithToken) : sendWithToken(call)
}

async function sendWithToken<Response>(call: AuthorizedCall<Response>): Promise<Response> {
  const authorization = await authorizationFor(call, call.need)
  const sent = [authorization]
  const secrets = () => [...sent.flatMap(secretsIn), ...call.tokens.secrets()]
  const first = await call.send(authorization, secrets)
  if (!authorization || challengeOf(first, authorization, secrets) !== 'invalid_token') return first.result()
  const next = await anotherAuthorization(call, first, authorization.token)
  if (next?.token === authorization.token || !call.mayReplay) return first.result()

  first.discard()
  sent.push(next)
  const second = await call.send(next, secrets)
  challengeOf(second, next ?? authorization, secrets)
  return second.result()
}

/** Returns the parts of an authorization that no error may show. */
function secretsIn(authorization: Authorization | undefined): readonly string[] {
  return authorization ? [authorization.token, ...(authorization.dpop?.made ?? [])] : []
}

/**
 * Reads the challenge of a response.
 *
 * @throws `StepUpError` when the API asks for another login; the response is discarded then
 */
function challengeOf<Response>(
  { status, challenge, sawToken, discard }: Attempt<Response>,
  { scheme }: Authorization,
  secrets: Secrets,
): 'accepted' | 'invalid_token' {
  if (!sawToken) return 'accepted'
  const result = readChallenge(status, challenge ?? '', secrets, scheme)
  if (!(result instanceof StepUpError)) return result
  discard()
  throw result
}

/**
 * Resolves with another authorization after a response that rejected the token. If there is none, rejects, and discards that
 * response.
 */
async function anotherAuthorization<Response>(
  call: AuthorizedCall<Response>,
  first: Attempt<Response>,
  rejected: string,
): Promise<Authorization | undefined> {
  try {
    return await authorizationFor(call, ownProperties({ ...call.need, rejected }))
  } catch (error) {
    // A request that is not replayed returns the API's response; the token manager knows that the token was rejected.
    if (!call.mayReplay && error instanceof TokenError) return undefined
    first.discard()
    throw error
  }
}

async function authorizationFor<Response>(
  call: AuthorizedCall<Response>,
  need: TokenNeed,
): Promise<Authorization | undefined> {
  const work = call.tokens.tokenToSend(need)
  const accessToken = await (hasField(call, 'wait') ? call.wait!(work) : work)
  if (!accessToken) return undefined
  const authorization = authorizationOf(accessToken)
  if (!call.clientCertificate) return authorization
  const certificate = await call.tokens.clientCertificate?.()
  if (!certificate) throw noCertificate()
  return ownProperties({ ...authorization, certificate })
}

function noCertificate(): ConfigurationError {
  return new ConfigurationError(
    '`clientCertificate` needs tokens of a client with a certificate. These tokens have none: leave `clientCertificate` out.',
  )
}

function authorizationOf(accessToken: TokenToSend): Authorization {
  const { token, tokenType } = accessToken
  const dpop = ownValue(accessToken, 'dpop') as TokenToSend['dpop']
  if (dpop) return ownProperties({ token, scheme: 'DPoP', header: `DPoP ${token}`, dpop })
  if (tokenType.toLowerCase() === 'bearer') {
    return ownProperties({ token, scheme: 'Bearer', header: `Bearer ${token}` })
  }
  throw new TokenError(
    'ERR_INVALID_TOKEN_RESPONSE',
    'The access token is not a bearer token, and no other can be sent. Use getAccessToken() and send it yourself.',
  )
}
