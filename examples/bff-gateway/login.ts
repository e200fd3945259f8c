import express, { type ErrorRequestHandler, type Request, type Router } from 'express'
import * as oidc from 'openid-client'
import { returnPath } from 'session-token-manager'
import type { LiveAnswers } from './live-answers.js'
import type { SessionCookie } from './session-cookie.js'

declare module 'express-session' {
  interface SessionData {
    /** The logins under way, by their `state`: every tab may have begun one. */
    logins?: Record<string, { checks: oidc.AuthorizationCodeGrantChecks; returnTo: string }>
  }
}

export interface LoginOptions {
  /** Where browsers reach the gateway. */
  readonly url: string
  readonly issuer: string
  readonly clientId: string
  readonly clientSecret: string
  /** The APIs that the user is asked to open to the gateway (RFC 8707). The first is what the login's own token is for. */
  readonly resources: readonly string[]
  readonly cookie: SessionCookie
  readonly live: LiveAnswers
}

const SCOPE = 'openid offline_access orders.read orders.write billing.read'
/** How many logins a session may have under way. */
const LOGINS = 5

/** `/login`, `/callback`, and for the page `GET /api/session` and `POST /api/logout`. */
export async function login(options: LoginOptions): Promise<Router> {
  const { url, issuer, clientId, clientSecret, cookie, live } = options
  const authentication = oidc.ClientSecretBasic(clientSecret)
  const provider = await oidc.discovery(new URL(issuer), clientId, undefined, authentication, {
    // For an authorization server on the loopback interface.
    execute: issuer.startsWith('http:') ? [oidc.allowInsecureRequests] : [],
  })
  const router = express.Router()

  router.get('/login', async (req, res) => {
    const [state, nonce, codeVerifier] = [
      oidc.randomState(),
      oidc.randomNonce(),
      oidc.randomPKCECodeVerifier(),
    ]
    const others = Object.entries(req.session.logins ?? {}).slice(1 - LOGINS)
    // Anybody can make a link to this page: only to a page of this site does it lead back.
    const returnTo = returnPath(req.query.returnTo)
    const maxAge = maxAgeOf(req.query.max_age)
    const checks = {
      expectedState: state,
      expectedNonce: nonce,
      pkceCodeVerifier: codeVerifier,
      ...(maxAge !== undefined && { maxAge }),
    }
    req.session.logins = Object.fromEntries([...others, [state, { checks, returnTo }]])
    const parameters = new URLSearchParams({
      redirect_uri: `${url}/callback`,
      scope: SCOPE,
      // A refresh token takes the user's consent (OpenID Connect Core §11).
      prompt: 'consent',
      state,
      nonce,
      code_challenge: await oidc.calculatePKCECodeChallenge(codeVerifier),
      code_challenge_method: 'S256',
      ...(maxAge !== undefined && { max_age: String(maxAge) }),
    })
    for (const resource of options.resources) parameters.append('resource', resource)
    res.redirect(oidc.buildAuthorizationUrl(provider, parameters).href)
  })

  router.get('/callback', async (req, res) => {
    const login = new Map(Object.entries(req.session.logins ?? {})).get(String(req.query.state))
    // Begun elsewhere, or finished in another tab: the page shows what there is.
    if (!login) return res.redirect('/')
    const answer = await oidc.authorizationCodeGrant(provider, new URL(req.originalUrl, url), login.checks)
    // Whoever knew the session's id before the login has no part in it afterwards.
    await regenerated(req)
    await req.tokens.set(answer)
    res.redirect(login.returnTo)
  })

  router.use('/callback', ((error, _req, res, _next) => {
    console.error(`The login failed: ${error.code ?? error.name}: ${error.message}`)
    res.redirect('/?login=failed')
  }) satisfies ErrorRequestHandler)

  router.get('/api/session', (req, res) => {
    res.json({ user: req.tokens.hasTokens() ? req.tokens.idTokenClaims?.sub : null })
  })

  router.post('/api/logout', async (req, res) => {
    // The user is logged out here even when the authorization server cannot be told.
    await req.tokens.revoke().catch((error) => console.error(`${error.code}: ${error.message}`))
    live.end(req.sessionID)
    await destroyed(req)
    res.clearCookie(cookie.name, cookie.cookie)
    // Without `id_token_hint`: the browser is sent there, and no token is for its eyes.
    const end = oidc.buildEndSessionUrl(provider, { post_logout_redirect_uri: `${url}/` })
    res.json({ logOutThereToo: end.href })
  })

  return router
}

/** How recent the login must be that an API has asked for, in seconds (RFC 9470): what is in its problem body. */
function maxAgeOf(value: unknown): number | undefined {
  return typeof value === 'string' && /^\d{1,9}$/.test(value) ? Number(value) : undefined
}

function regenerated(req: Request): Promise<void> {
  return new Promise((resolve, reject) =>
    req.session.regenerate((error) => (error ? reject(error) : resolve())),
  )
}

function destroyed(req: Request): Promise<void> {
  return new Promise((resolve, reject) => req.session.destroy((error) => (error ? reject(error) : resolve())))
}
