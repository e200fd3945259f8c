// Logs users in at an Oracle Cloud identity domain (or IDCS) and calls its API on their behalf.
//
//   export ORACLE_DOMAIN_URL=https://idcs-….identity.oraclecloud.com CLIENT_ID=… CLIENT_SECRET=… SESSION_SECRET=…
//   export SESSION_KEY=$(openssl rand -base64 32)
//   npx tsx examples/oracle-identity-domain.ts
//
// In the identity domain: a confidential application with the grant types "Authorization code" and "Refresh token" and
// the redirect URL http://localhost:3000/callback. Without the grant type "Refresh token" there is no refresh token.
import { createHash, randomBytes } from 'node:crypto'
import express, { type Request } from 'express'
import session from 'express-session'
import { clientSecretBasic, requireTokens, sessionTokens } from 'session-token-manager'

declare module 'express-session' {
  interface SessionData {
    pendingLogin?: { state: string; verifier: string }
  }
}

const { PORT = '3000' } = process.env
const url = process.env.APP_URL ?? `http://localhost:${PORT}`
const domain = required('ORACLE_DOMAIN_URL')
const clientId = required('CLIENT_ID')
const app = express()

app.use(
  session({
    secret: required('SESSION_SECRET'),
    resave: false,
    saveUninitialized: false,
    cookie: { httpOnly: true, sameSite: 'lax', secure: 'auto' },
  }),
)

app.use(
  sessionTokens({
    // Not `issuer`: the metadata of an identity domain name another issuer (https://identity.oraclecloud.com/) than the
    // URL they are found at, and metadata of another issuer must not be used (RFC 8414 §3.3).
    tokenEndpoint: new URL('/oauth2/v1/token', domain).href,
    clientId,
    // A confidential client with HTTP Basic. Other ways:
    //   with assertions that it signs:      privateKeyJwt(process.env.PRIVATE_KEY, { kid: '…', audience: 'https://identity.oraclecloud.com/' })
    //   with an assertion from elsewhere:   clientAssertion(() => readFile('/run/secrets/assertion', 'utf8'))
    //   as a public client:                 publicClient()
    clientAuthentication: clientSecretBasic(required('CLIENT_SECRET')),
    encryptionKeys: [required('SESSION_KEY')],
  }),
)

app.get('/login', (req, res) => {
  const login = { state: random(), verifier: random() }
  req.session.pendingLogin = login
  const authorization = new URL('/oauth2/v1/authorize', domain)
  authorization.search = new URLSearchParams({
    response_type: 'code',
    client_id: clientId,
    redirect_uri: `${url}/callback`,
    // All permissions of the application, and a refresh token.
    scope: 'urn:opc:idm:__myscopes__ offline_access',
    state: login.state,
    code_challenge: createHash('sha256').update(login.verifier).digest('base64url'),
    code_challenge_method: 'S256',
  }).toString()
  res.redirect(authorization.href)
})

app.get('/callback', async (req, res) => {
  const { pendingLogin: login } = req.session
  const { code, state } = req.query
  if (!login || state !== login.state || typeof code !== 'string') {
    res.status(400).send('This login was not started here, or was not finished. <a href="/login">Log in</a>')
    return
  }
  await regenerated(req)
  await req.tokens.acquire({
    grant_type: 'authorization_code',
    code,
    redirect_uri: `${url}/callback`,
    code_verifier: login.verifier,
  })
  res.redirect('/')
})

// The user's own profile, with an access token that is valid whenever this is called.
app.get('/', requireTokens({ loginPath: '/login' }), async (req, res) => {
  const api = req.tokens.axios({ baseURL: domain })
  res.json((await api.get('/admin/v1/Me')).data)
})

// Logs out of this app. To use `revoke()` instead of `clear()`, also set the option `revocationEndpoint`.
app.post('/logout', async (req, res) => {
  await req.tokens.clear()
  res.redirect('/')
})

/** Makes no request yet: the first request to the identity domain is made at the first login. */
export const server = app.listen(Number(PORT), '127.0.0.1', (error) => {
  if (error) throw error
  console.log(`Listening on ${url}`)
})

function required(name: string): string {
  const value = process.env[name]
  if (!value) throw new Error(`The environment variable ${name} is missing. See the top of this file.`)
  return value
}

function random(): string {
  return randomBytes(32).toString('base64url')
}

function regenerated(req: Request): Promise<void> {
  return new Promise((resolve, reject) => {
    req.session.regenerate((error) => (error ? reject(error) : resolve()))
  })
}
