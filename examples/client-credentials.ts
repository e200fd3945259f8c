// The client's own token (client credentials, RFC 6749 §4.4), for what an app does without a user: no session, no login.
//
//   npm run build && npx tsx examples/client-credentials.ts
//
// It starts its own authorization server and API. To use others, see stage.ts.
import express from 'express'
import { clientSecretBasic, sessionTokens } from 'session-token-manager'
import { stage } from './stage.js'

const { issuer, clientId, clientSecret, api, sessionKey, serve } = await stage()
const tokens = sessionTokens({
  issuer,
  clientId,
  clientAuthentication: clientSecretBasic(clientSecret),
  encryptionKeys: [sessionKey],
})
const orders = tokens.client.axios({ baseURL: api, need: { scope: 'orders.read' } })

const app = express()
app.get('/orders', async (_req, res) => {
  const { data } = await orders.get('/orders') // all requests share one token, which is renewed ahead of its expiry
  res.json({ orders: data })
})

serve(app)
