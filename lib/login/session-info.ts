import { json, type LoginRequest, type Reply, tokensOf } from './login-request.js'
import type { LoginParts } from './parts.js'
import { claimsOfUser } from './userinfo.js'

/**
 * Handles `GET /session`, by which a page learns who is logged in. It refreshes no token, and does not make the session last
 * longer, so that a page may ask again and again.
 */
export async function sessionInfo(parts: LoginParts, request: LoginRequest): Promise<Reply> {
  const { options, paths } = parts
  const tokens = tokensOf(request, options.property)
  const session = parts.sessionOf(request)
  session.keepExpiry()
  const user = tokens.hasTokens() && (await claimsOfUser(parts, request))
  // The user may have logged out while userinfo was fetched.
  if (!tokens.hasTokens()) return json(options.visitorStatus, null)
  const expiresAt = session.expiresAt()
  return json(200, {
    user,
    secondsLeft: expiresAt === undefined ? null : Math.max(0, Math.floor((expiresAt - Date.now()) / 1000)),
    logoutUrl: paths.logout === false ? null : paths.logout,
  })
}
