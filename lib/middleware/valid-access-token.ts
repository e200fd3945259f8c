import type { AccessToken } from '../tokens/access-token.js'
import { ReturnedToken } from '../tokens/returned-token.js'
import type { ValidAccessToken } from '../tokens/token-source.js'
import type { MiddlewareContext } from './composition.js'

/** Returns an access token as callers get it. */
export function validAccessToken(
  { authorizationScheme }: Pick<MiddlewareContext, 'authorizationScheme'>,
  accessToken: AccessToken,
): ValidAccessToken {
  return new ReturnedToken(accessToken, authorizationScheme)
}
