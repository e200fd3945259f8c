import { withTimeout } from '../concurrency/with-timeout.js'
import { TokenError } from '../errors/token-error.js'
import type { IdTokenSignature } from '../oauth/authorization-server.js'
import {
  checkRefreshedIdToken,
  futureIdToken,
  refusedAtRefresh,
  subjectOf,
} from '../oauth/id-token/id-token.js'

import { ownProperties } from '../options/own-properties.js'
import type { TokenResponse } from '../tokens/token-response.js'
import type { TokenSet } from '../tokens/token-set.js'
import type { ManagerContext } from './manager-context.js'

/** How long new tokens wait for the issuer's keys, in milliseconds. The next refresh has the keys. */
const KEYS_PATIENCE_MS = 2_000

/**
 * Checks the ID token that came with a refresh (OpenID Connect Core §12.2).
 *
 * An ID token that cannot be checked now, and contradicts nothing, is left out, and the earlier one stays: the issuer's keys
 * cannot be had or are for other algorithms, it is not signed, or it is from the future. The other tokens of the response are
 * kept, since the issuer's keys sign ID tokens only.
 *
 * @returns the response, without an ID token that could not be checked
 * @throws `TokenError` if the ID token is of another user or forged: then no token of the response may be kept
 */
export async function checkIdToken(
  context: ManagerContext,
  held: TokenSet,
  idToken: string,
  response: TokenResponse,
): Promise<TokenResponse> {
  const { clock, emit } = context
  const { grantId, idToken: before, subject } = held
  checkRefreshedIdToken(held, idToken, context)
  const signature = await signatureOf(context, idToken)
  if (signature.verdict === 'bad') throw refusedAtRefresh(signature.why)
  const error = signature.verdict === 'unknown' ? signature.error : futureIdToken(idToken, clock.now())
  if (error) {
    emit({ type: 'id_token_left_out', grantId, error })
    const { idToken: _, sessionExpiresAt: __, ...others } = response
    return others
  }
  const known = subjectOf(idToken) === undefined ? (subjectOf(before) ?? subject) : undefined
  return ownProperties({ ...response, ...(known !== undefined && { subject: known }) })
}

/** Checks the signature of an ID token. No store has the new tokens yet, so they do not wait for long for the issuer's keys. */
function signatureOf({ server }: ManagerContext, idToken: string): Promise<IdTokenSignature> {
  const unknown = (error: TokenError): IdTokenSignature => ({ verdict: 'unknown', error })
  return withTimeout(KEYS_PATIENCE_MS, server.signatureOf(idToken), keysTooSlow).catch(unknown)
}

const keysTooSlow = () =>
  new TokenError(
    'ERR_TOKEN_ENDPOINT_UNAVAILABLE',
    "The issuer's keys did not arrive in time. The next refresh will have them.",
  )
