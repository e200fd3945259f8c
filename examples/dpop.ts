// Tokens that are bound to a key (DPoP, RFC 9449): a stolen token is of no use. The login is written by hand, and the key is made
// before it; every call to the API carries a proof by itself.
//
//   npm run build && npx tsx examples/dpop.ts
//
// It starts its own authorization server and API. To use others, see stage.ts.
import { createHash, randomBytes } from 'node:crypto'
import express, { type Request } from 'express'
import session from 'express-session'
import { clientSecretBasic, requireTokens, returnPath, sessionTokens } from 'session-token-manager'
import { endpointsOf, START_PAGE, stage } from './stage.js'

declare module 'express-session' {
  interface SessionData {
    begun?: { state: string; nonce: string; verifier: string; returnTo: string }
  }
}

const { issuer, clientId, clientSecret, scope, api, url, sessionSecret, sessionKey, serve } = await stage()
const { authorizationEndpoint } = await endpointsOf(issuer)
const clientAuthentication = clientSecretBasic(clientSecret)

const app = express()
app.use(
  session({ secret: sessionSecret, resave: false, saveUninitialized: false, cookie: { sameSite: 'lax' } }),
)
app.use(sessionTokens({ issuer, clientId, clientAuthentication, encryptionKeys: [sessionKey], dpop: true }))

app.get('/', (_req, res) => res.send(START_PAGE))

app.get('/login', async (req, res) => {
  const [state = '', nonce = '', verifier = ''] = [random(), random(), random()]
  req.session.begun = { state, nonce, verifier, returnTo: returnPath(req.query.returnTo) }
  const parameters = new URLSearchParams({
    client_id: clientId,
    response_type: 'code',
    redirect_uri: `${url}/callback`,
    scope,
    prompt: 'consent',
    state,
    nonce,
    code_challenge: createHash('sha256').update(verifier).digest('base64url'),
    code_challenge_method: 'S256',
    dpop_jkt: await req.tokens.dpopThumbprint(), // the code is of use with this key alone
  })
  res.redirect(`${authorizationEndpoint}?${parameters}`)
})

app.get('/callback', async (req, res) => {
  const { begun } = req.session
  const { code, iss, state } = req.query as Record<string, string>
  if (!begun || !code || state !== begun.state) return res.redirect('/login')
  await regenerated(req)
  await req.tokens.acquire({
    grant_type: 'authorization_code',
    code,
    redirect_uri: `${url}/callback`,
    code_verifier: begun.verifier,
    nonce: begun.nonce,
    ...(iss !== undefined && { iss }),
  })
  res.redirect(begun.returnTo)
})

app.get('/orders', requireTokens({ loginPath: '/login' }), async (req, res) => {
  const response = await req.tokens.fetch({ baseURL: api })('/orders')
  res.status(response.status).json({ user: req.tokens.idTokenClaims?.sub, orders: await response.json() })
})

app.post('/logout', async (req, res) => {
  await req.tokens.revoke().catch(console.error) // logged out here in any case
  await regenerated(req)
  res.redirect('/')
})

serve(app)

function random(): string {
  return randomBytes(32).toString('base64url')
}

/** Regenerates the session id and empties the session, so that an id from before the login is useless. */
function regenerated(req: Request): Promise<void> {
  return new Promise((resolve, reject) =>
    req.session.regenerate((error) => (error ? reject(error) : resolve())),
  )
}
