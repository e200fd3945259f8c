import express, { type Express, type Request, type RequestHandler } from 'express'
import session from 'express-session'
import * as oidc from 'openid-client'
import { type BffOptions, type BffStores, destroyed, fromOwnPage, problem, SCOPE } from './bff.js'
import { fingerprint } from './timeline.js'

declare module 'express-session' {
  interface SessionData {
    checks?: oidc.AuthorizationCodeGrantChecks
    held?: { readonly accessToken: string; readonly refreshToken: string; readonly expiresAt: number }
  }
}

/**
 * The same app without session-token-manager, as many apps are: a request that finds the access token expired refreshes
 * it. Do not copy it. Of 50 requests at once each sends the same refresh token, and the authorization server ends the login.
 */
export async function without(
  options: BffOptions,
  { session: store }: Pick<BffStores, 'session'> = {},
): Promise<Express> {
  const { issuer, clientId, clientSecret, api } = options
  const url = `${options.url}/without`
  const provider = await oidc.discovery(
    new URL(issuer),
    clientId,
    undefined,
    oidc.ClientSecretBasic(clientSecret),
    { execute: [oidc.allowInsecureRequests] }, // The authorization server is on this machine.
  )
  const app = express()
  app.use(
    session({
      name: 'demo-without.sid',
      secret: options.sessionSecret,
      resave: false,
      saveUninitialized: false,
      cookie: { httpOnly: true, sameSite: 'lax', secure: 'auto' },
      ...store,
    }),
  )

  app.get('/login', async (req, res) => {
    const [state, verifier] = [oidc.randomState(), oidc.randomPKCECodeVerifier()]
    req.session.checks = { expectedState: state, pkceCodeVerifier: verifier }
    const authorization = oidc.buildAuthorizationUrl(provider, {
      redirect_uri: `${url}/callback`,
      scope: SCOPE,
      prompt: 'consent',
      state,
      code_challenge: await oidc.calculatePKCECodeChallenge(verifier),
      code_challenge_method: 'S256',
    })
    res.redirect(authorization.href)
  })

  app.get('/callback', async (req, res) => {
    const { checks } = req.session
    if (!checks) return res.redirect(`${url}/login`)
    const response = await oidc.authorizationCodeGrant(provider, new URL(req.originalUrl, url), checks)
    await regenerated(req)
    hold(req, response)
    req.session.user = response.claims()?.sub ?? ''
    req.session.login = fingerprint(response.refresh_token ?? '')
    res.redirect(`${url}/`)
  })

  app.post('/logout', fromOwnPage, async (req, res) => {
    const { refreshToken = '' } = req.session.held ?? {}
    const revoked = await oidc.tokenRevocation(provider, refreshToken).then(
      () => true,
      () => false,
    )
    await destroyed(req)
    res.json({ revoked })
  })

  app.get('/api/session', (req, res) => {
    const { held, user } = req.session
    res.json(held ? { user, expiresInMs: held.expiresAt - Date.now() } : {})
  })

  app.get('/api/orders', refreshed, async (req, res) => {
    const headers = { Authorization: `Bearer ${req.session.held?.accessToken}` }
    const response = await fetch(`${api}/orders`, { headers })
    res.status(response.status).json(await response.json())
  })

  app.use(problem)
  return app

  /** Refreshes an expired access token. If the refresh fails, the user has to log in again. */
  async function refreshed(...[req, res, next]: Parameters<RequestHandler>): Promise<void> {
    const { held } = req.session
    if (!held) return void res.sendStatus(401)
    if (Date.now() < held.expiresAt) return next()
    try {
      hold(req, await oidc.refreshTokenGrant(provider, held.refreshToken))
    } catch {
      await destroyed(req)
      return void res.sendStatus(401)
    }
    next()
  }
}

function hold(req: Request, tokens: oidc.TokenEndpointResponse): void {
  const { access_token: accessToken, refresh_token: refreshToken = '', expires_in = 0 } = tokens
  req.session.held = { accessToken, refreshToken, expiresAt: Date.now() + expires_in * 1000 }
}

function regenerated(req: Request): Promise<void> {
  return new Promise((resolve, reject) =>
    req.session.regenerate((error) => (error ? reject(error) : resolve())),
  )
}
