import type { TokenSet } from '../tokens/token-set.js'
import type { ManagerContext } from './manager-context.js'

/** The parameters of a logout at the authorization server that the app may give. */
export interface LogoutParameters {
  /** The URL to which the browser is sent after the logout. It must be registered at the authorization server. */
  readonly postLogoutRedirectUri?: string | undefined
  /** A text that comes back with the browser, as the parameter `state`. */
  readonly state?: string | undefined
}

/**
 * Resolves with the URL to which the browser is sent to log out at the authorization server, with the ID token as the hint (OpenID
 * Connect RP-Initiated Logout 1.0 §2).
 *
 * @param tokens the tokens of the session; absent if the user is not logged in
 * @throws `ConfigurationError` if the metadata names no endpoint
 */
export async function logoutUrl(
  context: Pick<ManagerContext, 'clientId' | 'refreshTimeoutMs' | 'server' | 'shared'>,
  tokens: TokenSet | undefined,
  { postLogoutRedirectUri, state }: LogoutParameters,
): Promise<string> {
  const { clientId, refreshTimeoutMs, server } = context
  const url = new URL(await server.endSessionEndpoint(AbortSignal.timeout(refreshTimeoutMs)))
  const parameters = {
    id_token_hint: await hintOf(context, tokens),
    client_id: clientId,
    post_logout_redirect_uri: postLogoutRedirectUri,
    state,
  }
  for (const [name, value] of Object.entries(parameters)) {
    if (value !== undefined) url.searchParams.set(name, value)
  }
  return url.href
}

/**
 * Resolves with the newest ID token. With `keep: 'store'` only the grant store may have it; if the store fails, there is no hint.
 */
async function hintOf(
  { shared }: Pick<ManagerContext, 'shared'>,
  tokens: TokenSet | undefined,
): Promise<string | undefined> {
  if (!tokens?.isReference) return tokens?.idToken
  const state = await shared.read(tokens).catch(() => undefined)
  return state?.tokens?.idToken
}
