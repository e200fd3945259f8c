import { compactVerify, createRemoteJWKSet, customFetch, decodeProtectedHeader, errors } from 'jose'
import type { Clock } from '../../concurrency/clock.js'
import { TokenError } from '../../errors/token-error.js'
import { ownProperties } from '../../options/own-properties.js'
import type { IdTokenSignature } from '../authorization-server.js'
import { safeUrl } from '../endpoint-url.js'
import type { SendHttp } from '../http.js'
import { isUnavailable, unavailableError } from '../token-endpoint/error-response.js'
import { isEncrypted } from './encrypted.js'

/** How an issuer's keys are fetched. */
export interface IssuerKeysSource {
  readonly send: SendHttp
  readonly clock: Clock
  /** Strings that no error may show: the headers of each request. */
  readonly secrets: readonly string[]
}

/** Algorithms that sign with a private key, so that the public key identifies the signer (RFC 7518 §3.1, RFC 8037). */
const ALGORITHMS = [
  ...['RS256', 'RS384', 'RS512', 'PS256', 'PS384', 'PS512'],
  ...['ES256', 'ES384', 'ES512', 'EdDSA', 'Ed25519'],
]
const MALFORMED: IdTokenSignature = { verdict: 'bad', why: 'is not a well-formed JWS' }
const FETCH_TIMEOUT_MS = 5_000
/** The time after a failed fetch during which no other is made, so that no refresh waits for a fetch that fails again. */
const RETRY_MS = 5_000
/** The time after a fetch during which a missing key is not fetched again. Authorization servers change their keys. */
const COOLDOWN_MS = 5_000

/**
 * Checks signatures with the keys at a `jwks_uri` (RFC 7517 §5), fetched when first needed and kept for ten minutes. The
 * returned function never rejects.
 *
 * jose's remote key set chooses the key, caches the keys and shares a fetch among concurrent callers. It fetches through this
 * library's HTTP client, so that agents, proxy, headers and the limit of a body are those of every other request.
 */
export function issuerKeys(
  jwksUri: string,
  source: IssuerKeysSource,
): (idToken: string) => Promise<IdTokenSignature> {
  const keys = createRemoteJWKSet(new URL(jwksUri), {
    timeoutDuration: FETCH_TIMEOUT_MS,
    cooldownDuration: COOLDOWN_MS,
    [customFetch]: fetchOver(source),
  })

  async function verify(idToken: string): Promise<void> {
    const { coolingDown, fresh } = keys
    try {
      await verifyWith(keys, idToken)
    } catch (error) {
      if (!fresh || !isBadSignature(error)) throw error
      // The server may have replaced a key by another one with the same name.
      if (coolingDown) throw justFetched(safeUrl(jwksUri, source.secrets))
      await keys.reload()
      await verifyWith(keys, idToken)
    }
  }

  return async function signatureOf(idToken) {
    const verdict = verdictByHeader(idToken)
    if (verdict) return verdict
    try {
      await verify(idToken)
      return { verdict: 'good' }
    } catch (error) {
      if (isBadSignature(error)) return { verdict: 'bad', why: 'is not signed by its issuer' }
      if (error instanceof errors.JWSInvalid) return MALFORMED
      return unknown(
        error instanceof TokenError ? error : uncheckable(safeUrl(jwksUri, source.secrets), error),
      )
    }
  }
}

type Keys = ReturnType<typeof createRemoteJWKSet>

async function verifyWith(keys: Keys, idToken: string): Promise<void> {
  try {
    await compactVerify(idToken, keys, { algorithms: ALGORITHMS })
  } catch (error) {
    if (!(error instanceof errors.JWKSMultipleMatchingKeys)) throw error
    await verifyWithOneOf(error, idToken)
  }
}

/** Tries every key: without a `kid` in its header, any of them may have signed the ID token. */
async function verifyWithOneOf(candidates: errors.JWKSMultipleMatchingKeys, idToken: string): Promise<void> {
  for await (const key of candidates) {
    try {
      await compactVerify(idToken, key, { algorithms: ALGORITHMS })
      return
    } catch (error) {
      if (!isBadSignature(error)) throw error
    }
  }
  throw new errors.JWSSignatureVerificationFailed()
}

function isBadSignature(error: unknown): boolean {
  return error instanceof errors.JWSSignatureVerificationFailed
}

/** Judges an ID token by its header, as far as no key is needed. */
function verdictByHeader(idToken: string): IdTokenSignature | undefined {
  if (isEncrypted(idToken)) return { verdict: 'good' }
  const header = headerOf(idToken)
  if (!header) return MALFORMED
  const { alg } = header
  if (alg === 'none') return unknown(unsigned())
  if (typeof alg === 'string' && ALGORITHMS.includes(alg)) return undefined
  return unknown(
    new TokenError(
      'ERR_INVALID_TOKEN_RESPONSE',
      'The ID token is signed with an algorithm without a public key, such as HS256 with the client secret. Register the ' +
        'client for RS256 or ES256 (id_token_signed_response_alg), or configure the endpoints instead of issuer.',
    ),
  )
}

/**
 * Makes the error for an ID token without a signature. A refresh leaves it out and keeps the other tokens, which came over
 * TLS, too (OpenID Connect Core §3.1.3.7, number 6). A login refuses it: `none` is for clients that have registered it (§2).
 */
function unsigned(): TokenError {
  return new TokenError(
    'ERR_INVALID_TOKEN_RESPONSE',
    'The ID token is not signed (alg none), though its issuer has keys. Register the client for signed ID tokens, or ' +
      'configure the endpoints instead of issuer.',
  )
}

function headerOf(idToken: string): { readonly alg?: unknown } | undefined {
  try {
    return ownProperties(decodeProtectedHeader(idToken))
  } catch {
    return undefined
  }
}

function unknown(error: TokenError): IdTokenSignature {
  return { verdict: 'unknown', error }
}

function uncheckable(url: string, error: unknown): TokenError {
  const noKey = error instanceof errors.JWKSNoMatchingKey
  const flaw = noKey ? 'do not include the key that signed the ID token' : 'cannot be used'
  return new TokenError(
    'ERR_INVALID_TOKEN_RESPONSE',
    `The issuer's keys ${flaw}. Check what the authorization server publishes at its jwks_uri.`,
    { details: url },
  )
}

function justFetched(url: string): TokenError {
  return new TokenError(
    'ERR_TOKEN_ENDPOINT_UNAVAILABLE',
    "The signature does not match the issuer's keys, which were fetched a moment ago. The issuer may have replaced a key since. Try " +
      'again later.',
    { details: url },
  )
}

/** Makes the function with which jose fetches the keys. It repeats a failure for {@link RETRY_MS}. */
function fetchOver({ send, clock, secrets }: IssuerKeysSource) {
  let failed: { readonly error: unknown; readonly at: number } | undefined

  async function fetched(url: string, signal: AbortSignal): Promise<Response> {
    const describe = () => "The issuer's keys"
    const where = () => safeUrl(url, secrets)
    const headers = { Accept: 'application/json, application/jwk-set+json' }
    const request = { describe, where, method: 'GET', url, headers, secrets: () => secrets, signal } as const
    const response = await send(request)
    if (isUnavailable(response)) throw unavailableError(response, { describe, where, now: clock.now() })
    const { status, body } = response
    if (status === 200 && 'text' in body) return new Response(body.text)
    const flaw = 'flaw' in body ? `whose body ${body.flaw}` : 'which is not 200'
    throw new TokenError(
      'ERR_INVALID_TOKEN_RESPONSE',
      `${describe()}: the response has status ${status}, ${flaw}. Check the jwks_uri.`,
      { details: where() },
    )
  }

  return async function fetchKeys(url: string, { signal }: { signal: AbortSignal }): Promise<Response> {
    if (failed && clock.monotonic() - failed.at < RETRY_MS) throw failed.error
    try {
      const response = await fetched(url, signal)
      failed = undefined
      return response
    } catch (error) {
      failed = { error, at: clock.monotonic() }
      throw error
    }
  }
}
