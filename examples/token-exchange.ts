// A token for one API, with fewer rights than the user's own, in exchange for it (token exchange, RFC 8693).
//
//   npm run build && npx tsx examples/token-exchange.ts
//
// It starts its own authorization server and API. To use others, see stage.ts.
import express from 'express'
import session from 'express-session'
import { clientSecretBasic, requireTokens, sessionTokens } from 'session-token-manager'
import { login } from 'session-token-manager/login'
import { START_PAGE, stage } from './stage.js'

const { issuer, clientId, clientSecret, scope, api, url, sessionSecret, sessionKey, serve } = await stage()
const clientAuthentication = clientSecretBasic(clientSecret)
const client = { issuer, clientId, clientAuthentication, encryptionKeys: [sessionKey] }
const exchanges = { orders: { resource: api, scope: 'orders.read' } }

const app = express()
app.use(session({ secret: sessionSecret, resave: false, saveUninitialized: false }))
app.use(sessionTokens({ ...client, exchanges }))
app.use(login({ ...client, baseUrl: url, authorization: { scope, prompt: 'consent' } }))

app.get('/', (_req, res) => res.send(START_PAGE))

app.get('/orders', requireTokens({ exchange: 'orders', loginPath: '/login' }), async (req, res) => {
  const { data } = await req.tokens.axios({ baseURL: api }).get('/orders') // with the token for orders
  res.json({ user: req.tokens.idTokenClaims?.sub, orders: data })
})

serve(app)
