import { TokenError } from '../../errors/token-error.js'
import { ownProperties } from '../../options/own-properties.js'
import type { FailedRefresh, RefreshResponse } from '../authorization-server.js'

/**
 * Checks that the token of a response is bound to the key of the request (RFC 9449 §5), and writes its type as `DPoP`. A token of
 * another type is refused, since a thief could use it. A new refresh token in the same response is kept all the same.
 *
 * @param acceptsBearer Whether a bearer token is accepted as such.
 */
export function boundResponse(
  response: RefreshResponse | FailedRefresh,
  acceptsBearer: boolean,
  describe: () => string,
): RefreshResponse | FailedRefresh {
  if ('error' in response) return response
  const { idToken, refreshToken, tokenType = 'Bearer' } = response
  if (isDpopType(tokenType)) return ownProperties({ ...response, tokenType: 'DPoP' })
  if (acceptsBearer && tokenType.toLowerCase() === 'bearer') return response
  const error = new TokenError(
    'ERR_INVALID_TOKEN_RESPONSE',
    `${describe()} issued a token that is not bound to the key of the proof. Switch DPoP on for this client at the ` +
      "authorization server (dpop_bound_access_tokens), or accept bearer tokens: dpop: { bearer: 'accept' }.",
  )
  if (refreshToken === undefined) throw error
  return ownProperties({ error, refreshToken, ...(idToken !== undefined && { idToken }) })
}

/** Whether a token type names DPoP. Servers differ in its case (RFC 6749 §5.1). */
export function isDpopType(tokenType: string | undefined): boolean {
  return tokenType?.toLowerCase() === 'dpop'
}
