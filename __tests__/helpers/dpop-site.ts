import { randomBytes } from 'node:crypto'
import type { AuthorizationServer, LoginRequest } from './authorization-server.js'
import type { Browser } from './browser.js'
import { browser as browserOf } from './browser.js'
import { type Site, type SiteOptions, startSite } from './site.js'

/** The key that the sessions of these tests are sealed with. */
export const SEALING_KEY = randomBytes(32).toString('base64url')

/**
 * Starts a site whose tokens are bound to keys. `/begin` responds with the thumbprint for the authorization request, `/callback`
 * takes the posted code.
 */
export async function startDpopSite(server: AuthorizationServer, options: SiteOptions = {}): Promise<Site> {
  const site = await startSite(server, {
    ...options,
    tokens: { dpop: true, encryptionKeys: [SEALING_KEY], ...options.tokens },
  })
  site.handle('/begin', (request) => request.tokens.dpopThumbprint())
  site.handle('/callback', (request) => request.tokens.acquire(request.body))
  return site
}

/** Logs a user in by a code that is bound to the session's key (RFC 9449 §10). Resolves with the thumbprint of the key. */
export async function dpopLogin(
  server: AuthorizationServer,
  browser: Browser,
  account = 'user',
  request: LoginRequest = {},
): Promise<string> {
  const dpopJkt = (await browser.get('/begin')).json as string
  const response = await browser.post('/callback', await server.authorize(account, { ...request, dpopJkt }))
  if (response.status !== 200) throw new Error(`login failed: ${response.status} ${response.text}`)
  return dpopJkt
}

/** Calls the userinfo endpoint of an authorization server, which is an API that checks proofs (RFC 9449 §7). */
export function callUserinfo(server: AuthorizationServer, headers: Record<string, string>) {
  return browserOf(server.issuer).get('/me', { headers })
}
