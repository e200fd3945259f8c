import { randomBytes } from 'node:crypto'
import { withTimeout } from '../concurrency/with-timeout.js'
import { TokenError } from '../errors/token-error.js'
import { asksForPage, json, type LoginRequest, type Reply, redirect, tokensOf } from './login-request.js'
import type { LoginParts } from './parts.js'

/** How long the user waits for the authorization server at a logout, in milliseconds. The revocation goes on after that. */
const PATIENCE_MS = 3_000

/**
 * Handles `POST /logout`: first the user is logged out here, then the refresh token is revoked (RFC 7009), and then the browser
 * is sent to the logout of the authorization server (OpenID Connect RP-Initiated Logout). If that server is down, the user is
 * logged out of the app even then.
 *
 * A page that sends the request by fetch() gets the URL of the authorization server's logout. The URL has no ID token, since
 * scripts must not see it.
 */
export async function logout(parts: LoginParts, request: LoginRequest): Promise<Reply> {
  const { idTokenHint, property } = parts.options
  const tokens = tokensOf(request, property)
  const isPage = asksForPage(request)
  const hint = idTokenHint && isPage ? tokens.idToken : undefined
  const failure = await within(tokens.revoke()).then(undefined, (error: unknown) => error)
  await parts.sessionOf(request).end()
  if (isOfStores(failure)) throw failure
  const url = await providersLogout(parts, hint)
  return isPage ? redirect(url) : json(200, { logoutUrl: url })
}

/**
 * Resolves with the URL of the authorization server's logout; with the URL of `afterLogout` if the server has no logout, or if
 * its metadata cannot be fetched.
 */
async function providersLogout({ options, provider }: LoginParts, hint: string | undefined): Promise<string> {
  const { afterLogout, baseUrl } = options
  const after = new URL(baseUrl).origin + afterLogout
  const parameters = {
    post_logout_redirect_uri: after,
    state: randomBytes(16).toString('base64url'),
    ...(hint !== undefined && { id_token_hint: hint }),
  }
  const url = await within(provider.endSessionUrl(parameters)).catch(() => undefined)
  return url?.href ?? after
}

function within<T>(work: Promise<T>): Promise<T> {
  return withTimeout(PATIENCE_MS, work, () => new Error('The authorization server does not respond in time.'))
}

/**
 * Whether a failure means that a store of the app may still hold the tokens. Failures of the authorization server do not keep the
 * user logged in here.
 */
function isOfStores(failure: unknown): boolean {
  return (
    failure instanceof TokenError &&
    (failure.code === 'ERR_SESSION_STORE' || failure.code === 'ERR_GRANT_STORE')
  )
}
