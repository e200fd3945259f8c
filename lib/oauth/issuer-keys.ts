import { compactVerify, createRemoteJWKSet, customFetch, decodeProtectedHeader, errors } from 'jose'
import type { Clock } from '../clock.js'
import { TokenError } from '../errors.js'
import { ownProperties } from '../own-properties.js'
import { isEncrypted } from './encrypted.js'
import { shownUrl } from './endpoint-url.js'
import { isUnavailable, unavailableError } from './error-response.js'
import type { SendHttp } from './http.js'

/**
 * What is known of an ID token's signature: it is the issuer's, or there is no need to look at it; it is not; or nobody
 * can say here and now, for the reason given.
 */
export type IdTokenSignature =
  | { readonly verdict: 'good' }
  | { readonly verdict: 'bad'; readonly why: string }
  | { readonly verdict: 'unknown'; readonly error: TokenError }

/** How an issuer's keys are fetched. */
export interface IssuerKeysSource {
  readonly send: SendHttp
  readonly clock: Clock
  /** Strings that no error may show: what each request is sent with. */
  readonly secrets: readonly string[]
}

/** Signatures that are made with a private key, so that the public one says whose they are (RFC 7518 §3.1, RFC 8037). */
const ALGORITHMS = [
  ...['RS256', 'RS384', 'RS512', 'PS256', 'PS384', 'PS512'],
  ...['ES256', 'ES384', 'ES512', 'EdDSA', 'Ed25519'],
]
const MALFORMED: IdTokenSignature = { verdict: 'bad', why: 'is not a well-formed JWS' }
/** How long a fetch of the keys may take. */
const FETCH_TIMEOUT_MS = 5_000
/** After a fetch without success the next one comes this much later, so that no refresh waits for what has just failed. */
const RETRY_MS = 5_000
/** A key that is not there is looked for again after so long: authorization servers change their keys. */
const COOLDOWN_MS = 5_000

/**
 * Checks signatures with the keys at a `jwks_uri` (RFC 7517 §5), fetched when first needed and kept for ten minutes.
 *
 * This is jose's remote key set, for its choice among keys, its cache, and its one fetch for all who wait. It fetches
 * through this library's own HTTP client, so that agents, proxy, headers and the limits on answers are those of every
 * other request. Never rejects.
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
  const place = `The issuer's keys at ${shownUrl(jwksUri, source.secrets)}`

  async function verify(idToken: string): Promise<void> {
    const mayBeOld = keys.fresh && !keys.coolingDown
    try {
      await verifyWith(keys, idToken)
    } catch (error) {
      if (!mayBeOld || !isBadSignature(error)) throw error
      // A server may put another key in the place of one, under the same name.
      await keys.reload()
      await verifyWith(keys, idToken)
    }
  }

  return async function signatureOf(idToken) {
    const flaw = flawOfHeader(idToken)
    if (flaw) return flaw
    try {
      await verify(idToken)
      return { verdict: 'good' }
    } catch (error) {
      if (isBadSignature(error)) return { verdict: 'bad', why: 'is not signed by its issuer' }
      if (error instanceof errors.JWSInvalid) return MALFORMED
      return unknown(error instanceof TokenError ? error : unchecked(place, error))
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

/** Without a `kid` in its header an ID token may be signed with any of them. */
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

/** What can be said without a key. */
function flawOfHeader(idToken: string): IdTokenSignature | undefined {
  if (isEncrypted(idToken)) return { verdict: 'good' }
  const header = headerOf(idToken)
  if (!header) return MALFORMED
  const { alg } = header
  if (alg === 'none') return unknown(unsigned())
  if (typeof alg === 'string' && ALGORITHMS.includes(alg)) return undefined
  return unknown(
    new TokenError(
      'ERR_INVALID_TOKEN_RESPONSE',
      'The ID token is signed with an algorithm that no published key is for, such as HS256 with the client secret. ' +
        'Register the client for RS256 or ES256 (id_token_signed_response_alg), or name the endpoints instead of issuer.',
    ),
  )
}

/**
 * At a refresh TLS stands for the signature (OpenID Connect Core §3.1.3.7, number 6), as it does for the other tokens: such
 * an ID token is left out, and the rest is kept. At a login it would say who the user is, and `none` is only for clients
 * that have asked for it (§2).
 */
function unsigned(): TokenError {
  return new TokenError(
    'ERR_INVALID_TOKEN_RESPONSE',
    'The ID token is not signed (alg none), though its issuer has keys. Register the client for signed ID tokens, or name ' +
      'the endpoints instead of issuer.',
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

function unchecked(place: string, error: unknown): TokenError {
  const noKey = error instanceof errors.JWKSNoMatchingKey
  const flaw = noKey ? 'have none that the ID token is signed with' : 'are of no use'
  return new TokenError(
    'ERR_INVALID_TOKEN_RESPONSE',
    `${place} ${flaw}. Check what the authorization server publishes there.`,
  )
}

/** What jose fetches with. A failure is remembered for a moment. */
function fetchOver({ send, clock, secrets }: IssuerKeysSource) {
  let failed: { readonly error: unknown; readonly at: number } | undefined

  async function fetched(url: string, signal: AbortSignal): Promise<Response> {
    const what = `The issuer's keys at ${shownUrl(url, secrets)}`
    const headers = { Accept: 'application/json, application/jwk-set+json' }
    const answer = await send({ what, method: 'GET', url, headers, secrets, signal })
    if (isUnavailable(answer)) throw unavailableError(answer, { what, now: clock.now() })
    const { status, body } = answer
    if (status === 200 && 'text' in body) return new Response(body.text)
    const flaw = 'flaw' in body ? `whose body ${body.flaw}` : 'which is not 200'
    throw new TokenError(
      'ERR_INVALID_TOKEN_RESPONSE',
      `${what} were answered with ${status}, ${flaw}. Check the jwks_uri.`,
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
