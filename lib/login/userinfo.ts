import { createHash } from 'node:crypto'
import { dpopKeyOf } from '../middleware/request-tokens.js'
import { keptIn, picked } from './kept-in-session.js'
import { type LoginRequest, tokensOf } from './login-request.js'
import type { LoginParts } from './parts.js'

/** Names an ID token without showing it. */
export function hashOf(idToken: string | undefined): string {
  return createHash('sha256')
    .update(idToken ?? '')
    .digest('base64url')
    .slice(0, 16)
}

/**
 * Resolves with the claims of the user that the page may see: those of the ID token, and with the option `userinfo` those of
 * userinfo. When a refresh has brought a new ID token, userinfo is fetched again.
 */
export async function claimsOfUser(
  parts: LoginParts,
  request: LoginRequest,
): Promise<Record<string, unknown>> {
  const { property, sessionClaims, sessionKey, userinfo } = parts.options
  const tokens = tokensOf(request, property)
  const session = parts.sessionOf(request)
  const kept = keptIn(session, sessionKey)
  const { idToken, idTokenClaims } = tokens
  // The app may have put another user into the session since the login.
  const isOthers = idTokenClaims !== undefined && idTokenClaims.sub !== kept.sub
  const ofLogin = isOthers ? undefined : kept.user
  const known = { ...picked(idTokenClaims, sessionClaims), ...(userinfo && ofLogin) }
  if (!userinfo) return { ...ofLogin, ...known }
  if (idToken === undefined || idTokenClaims === undefined || kept.userinfoOf === hashOf(idToken))
    return known
  try {
    // A token that has expired is not refreshed for this.
    await tokens.enterRoute({}, 'required', false)
    const { token, tokenType } = await tokens.getAccessToken()
    const key = tokenType === 'DPoP' ? dpopKeyOf(tokens) : undefined
    const sub = idTokenClaims.sub!
    const fetched = await parts.provider.userinfo(token, sub, key)
    const user = picked({ ...fetched, ...idTokenClaims }, sessionClaims)
    // After a logout meanwhile, this would store the deleted session again.
    if (tokens.hasTokens()) await session.put(sessionKey, { ...kept, sub, user, userinfoOf: hashOf(idToken) })
    return user
  } catch {
    // The claims of the last time are shown, and the next request fetches again.
    return known
  }
}
