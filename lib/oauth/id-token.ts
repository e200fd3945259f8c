import { decodeJwt, decodeProtectedHeader, type JWTPayload } from 'jose'
import { TokenError } from '../errors.js'

/**
 * Checks that an ID token which a refresh brought is about the same user as the one before it (OpenID Connect Core
 * §12.2): equal `iss` and `sub`, and the client in `aud`. Without one before it, `iss` must be the issuer, if known.
 * The signature is not checked; the token came straight from the token endpoint over TLS (§3.1.3.7).
 *
 * An encrypted one (JWE, RFC 7516) is for the app alone to read: it is taken unchecked, and the one that follows it is
 * checked as if there were none before.
 *
 * @throws `ERR_INVALID_TOKEN_RESPONSE` when it is not, or cannot be read.
 */
export function checkRefreshedIdToken(
  previous: string | undefined,
  next: string,
  clientId: string,
  issuer?: string,
): void {
  const claims = claimsOf(next)
  if (!claims && isEncrypted(next)) return
  if (!claims) throw refused('could not be read as a JWT')
  const before = previous === undefined ? undefined : claimsOf(previous)
  if (before && claims.iss !== before.iss) throw refused('has another issuer (iss) than the one before')
  if (before && claims.sub !== before.sub) throw refused('is about another user (sub) than the one before')
  if (!before && issuer !== undefined && claims.iss !== issuer) throw refused('has another issuer (iss)')
  if (![claims.aud].flat().includes(clientId)) throw refused('is not meant for this client (aud)')
}

function claimsOf(idToken: string): JWTPayload | undefined {
  try {
    return decodeJwt(idToken)
  } catch {
    return undefined
  }
}

/** Whether a text is a JWE in compact form: five parts, the first of which names how the fourth is encrypted. */
function isEncrypted(idToken: string): boolean {
  if (idToken.split('.').length !== 5) return false
  try {
    return typeof decodeProtectedHeader(idToken).enc === 'string'
  } catch {
    return false
  }
}

function refused(why: string): TokenError {
  return new TokenError(
    'ERR_INVALID_TOKEN_RESPONSE',
    `The ID token that the refresh brought ${why}. It was refused, and the user has to log in again once the access token expires.`,
  )
}
