import { randomBytes } from 'node:crypto'
import { withTimeout } from '../concurrency/with-timeout.js'
import { TokenError } from '../errors/token-error.js'
import { asksForPage, json, type LoginRequest, type Reply, redirect, tokensOf } from './login-request.js'
import type { LoginParts } from './parts.js'

/** How long a logout waits for the provider. It goes on without the user. */
const PATIENCE_MS = 3_000

/**
 * Handles `POST /logout`: first the user is logged out here, then the refresh token is revoked (RFC 7009), and then the browser is
 * sent to the provider's logout (OpenID Connect RP-Initiated Logout). If the provider is down, the user is logged out here.
 *
 * A page that asks by fetch() gets the URL of the provider's logout. It is without the ID token, which is not for scripts.
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

/** Resolves with the URL of the provider's logout; the start page of the app if there is none, or it is not known. */
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
  return withTimeout(PATIENCE_MS, work, () => new Error('The provider does not respond in time.'))
}

/** Whether the tokens may still be in a store of the app. Failures of the provider do not keep the user logged in here. */
function isOfStores(failure: unknown): boolean {
  return (
    failure instanceof TokenError &&
    (failure.code === 'ERR_SESSION_STORE' || failure.code === 'ERR_GRANT_STORE')
  )
}
