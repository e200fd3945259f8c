// The app of the README, in TypeScript. It runs without changes, and without a build:
//
//   export ISSUER=https://idp.example.com CLIENT_ID=web CLIENT_SECRET=… API=https://api.example.com
//   export SESSION_SECRET=$(openssl rand -base64 32) SESSION_KEY=$(openssl rand -base64 32)
//   npx tsx --tsconfig __tests__/tsconfig.json examples/quick-start.ts
//
// ISSUER may also be an authorization server on this machine, such as http://localhost:8080/realms/demo.
// The client's redirect URI at the authorization server is http://localhost:3000/callback. Then open http://localhost:3000/orders.
import express from 'express'
import session from 'express-session'
import { clientSecretBasic, requireTokens, sessionTokens, tokenErrors } from 'session-token-manager'
import { login } from 'session-token-manager/login'

const { ISSUER: issuer = '', CLIENT_ID: clientId = '', CLIENT_SECRET, API = '', PORT = '3000' } = process.env
const { SESSION_SECRET = '', SESSION_KEY, SCOPE = 'openid offline_access' } = process.env
const client = {
  issuer,
  clientId,
  clientAuthentication: clientSecretBasic(CLIENT_SECRET),
  encryptionKeys: [SESSION_KEY],
}

const app = express()
app.use(session({ secret: SESSION_SECRET, resave: false, saveUninitialized: false }))
app.use(sessionTokens(client))
const authorization = { scope: SCOPE, prompt: 'consent' } // what brings a refresh token
app.use(login({ ...client, baseUrl: `http://localhost:${PORT}`, authorization }))

app.get('/orders', requireTokens({ loginPath: '/login' }), async (req, res) => {
  const api = req.tokens.axios({ baseURL: API })
  res.json((await api.get('/orders')).data)
})

app.use(tokenErrors())
app.listen(Number(PORT), '127.0.0.1', () => console.log(`Open http://localhost:${PORT}/orders`))
