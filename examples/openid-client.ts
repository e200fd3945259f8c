// Login with openid-client 6 (authorization code with PKCE, state and nonce); its tokens are handed over and kept valid
// from then on. After the login the browser returns to the requested page.
//
//   npm run build && npx tsx examples/openid-client.ts
//
// It starts its own authorization server. To use another one, see stage.ts.
import express from 'express'
import session from 'express-session'
import * as oidc from 'openid-client'
import { clientSecretBasic, requireTokens, returnPath, sessionTokens } from 'session-token-manager'
import { START_PAGE, stage } from './stage.js'

declare module 'express-session' {
  interface SessionData {
    pending?: { checks: oidc.AuthorizationCodeGrantChecks; returnTo: string }
  }
}

const { issuer, clientId, clientSecret, scope, api, url, sessionSecret, sessionKey, serve } = await stage()
const provider = await oidc.discovery(
  new URL(issuer),
  clientId,
  undefined,
  oidc.ClientSecretBasic(clientSecret),
  // For the authorization server that this example starts.
  { execute: issuer.startsWith('http:') ? [oidc.allowInsecureRequests] : [] },
)

const app = express()
app.use(
  session({ secret: sessionSecret, resave: false, saveUninitialized: false, cookie: { sameSite: 'lax' } }),
)
const clientAuthentication = clientSecretBasic(clientSecret)
app.use(sessionTokens({ issuer, clientId, clientAuthentication, encryptionKeys: [sessionKey] }))

app.get('/', (_req, res) => res.send(START_PAGE))

app.get('/login', async (req, res) => {
  const [state, nonce, verifier] = [oidc.randomState(), oidc.randomNonce(), oidc.randomPKCECodeVerifier()]
  req.session.pending = {
    checks: { expectedState: state, expectedNonce: nonce, pkceCodeVerifier: verifier },
    returnTo: returnPath(req.query.returnTo),
  }
  const authorization = oidc.buildAuthorizationUrl(provider, {
    redirect_uri: `${url}/callback`,
    scope,
    prompt: 'consent',
    state,
    nonce,
    code_challenge: await oidc.calculatePKCECodeChallenge(verifier),
    code_challenge_method: 'S256',
  })
  res.redirect(authorization.href)
})

app.get('/callback', async (req, res) => {
  const { pending } = req.session
  if (!pending) return res.redirect('/login')
  const answer = await oidc.authorizationCodeGrant(provider, new URL(req.originalUrl, url), pending.checks)
  await req.tokens.set(answer, { regenerate: true }) // another session id, and nothing else of the old session
  res.redirect(pending.returnTo)
})

app.get('/orders', requireTokens({ loginPath: '/login' }), async (req, res) => {
  const { data } = await req.tokens.axios({ baseURL: api }).get('/orders')
  res.json({ user: req.tokens.idTokenClaims?.sub, orders: data })
})

app.post('/logout', async (req, res) => {
  await req.tokens.revoke().catch(console.error) // logged out here in any case
  req.session.destroy(() => res.redirect('/'))
})

serve(app)
