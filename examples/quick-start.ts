// The ten lines of the README, with openid-client for the login. Runs as it stands:
//
//   export ISSUER=https://idp.example.com CLIENT_ID=web CLIENT_SECRET=… SESSION_SECRET=… API=https://api.example.com
//   export SESSION_KEY=$(openssl rand -base64 32)
//   npx tsx examples/quick-start.ts
//
// The client's redirect URI at the authorization server is http://localhost:3000/callback.
import express from 'express'
import session from 'express-session'
import * as oidc from 'openid-client'
import { clientSecretBasic, requireTokens, sessionTokens } from 'session-token-manager'

declare module 'express-session' {
  interface SessionData {
    login?: { state: string; nonce: string; codeVerifier: string }
  }
}

const { ISSUER, CLIENT_ID, CLIENT_SECRET, SESSION_SECRET, SESSION_KEY, API, PORT = '3000' } = process.env
if (!ISSUER || !CLIENT_ID || !CLIENT_SECRET || !SESSION_SECRET || !API) {
  throw new Error('Set ISSUER, CLIENT_ID, CLIENT_SECRET, SESSION_SECRET and API.')
}
const url = `http://localhost:${PORT}`
const provider = await oidc.discovery(
  new URL(ISSUER),
  CLIENT_ID,
  undefined,
  oidc.ClientSecretBasic(CLIENT_SECRET),
)

const app = express()
app.use(
  session({
    secret: SESSION_SECRET,
    resave: false,
    saveUninitialized: false,
    cookie: { sameSite: 'lax', secure: 'auto' },
  }),
)
app.use(
  sessionTokens({
    issuer: ISSUER,
    clientId: CLIENT_ID,
    clientAuthentication: clientSecretBasic(CLIENT_SECRET),
    encryptionKeys: [SESSION_KEY],
  }),
)

app.get('/', (_req, res) => {
  res.send(
    '<a href="/orders">Orders</a> <form method="post" action="/logout"><button>Log out</button></form>',
  )
})

app.get('/login', async (req, res) => {
  const login = {
    state: oidc.randomState(),
    nonce: oidc.randomNonce(),
    codeVerifier: oidc.randomPKCECodeVerifier(),
  }
  req.session.login = login
  const authorization = oidc.buildAuthorizationUrl(provider, {
    redirect_uri: `${url}/callback`,
    scope: 'openid offline_access',
    prompt: 'consent',
    state: login.state,
    nonce: login.nonce,
    code_challenge: await oidc.calculatePKCECodeChallenge(login.codeVerifier),
    code_challenge_method: 'S256',
  })
  res.redirect(authorization.href)
})

// At login: hand over what the token endpoint answered …
app.get('/callback', async (req, res) => {
  const { login } = req.session
  if (!login) return res.redirect('/login')
  const tokenResponse = await oidc.authorizationCodeGrant(provider, new URL(req.originalUrl, url), {
    expectedState: login.state,
    expectedNonce: login.nonce,
    pkceCodeVerifier: login.codeVerifier,
  })
  await new Promise<void>((resolve, reject) => {
    req.session.regenerate((error) => (error ? reject(error) : resolve()))
  })
  await req.tokens.set(tokenResponse)
  res.redirect('/orders')
})

// … and from then on, ask for a token wherever you call an API. It is valid.
app.get('/orders', requireTokens({ loginPath: '/login' }), async (req, res) => {
  const api = req.tokens.axios({ baseURL: API })
  res.json((await api.get('/orders')).data)
})

app.post('/logout', async (req, res) => {
  await req.tokens.revoke().catch(console.error) // logged out here in any case
  res.redirect('/')
})

app.listen(Number(PORT), '127.0.0.1', () => console.log(`Listening on ${url}`))
