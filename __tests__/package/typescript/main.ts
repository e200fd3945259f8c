import assert from 'node:assert/strict'
import { once } from 'node:events'
import type { AddressInfo } from 'node:net'
import express from 'express'
import session from 'express-session'
import { clientSecretBasic, requireTokens, sessionTokens, type ValidAccessToken } from 'session-token-manager'
import { bearerProxy, upgradesThrough } from 'session-token-manager/proxy'

const app = express()
const server = app.listen(0, '127.0.0.1')
await once(server, 'listening')
const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`

app.post('/token', (_req, res) => {
  res.json({ access_token: 'fresh', token_type: 'Bearer', expires_in: 3600 })
})
app.use(session({ secret: 'for this check alone', resave: false, saveUninitialized: false }))
app.use(
  sessionTokens({
    tokenEndpoint: `${url}/token`,
    clientId: 'web',
    clientAuthentication: clientSecretBasic('for this check alone'),
    encryptionKeys: false,
    // What an app is given is a request as Express types it.
    adopt: (req) => (req.hostname === 'nobody.example' ? req.query.tokens : req.session.tokens && undefined),
  }),
)
app.get('/', async (req, res) => {
  await req.tokens.set({
    access_token: 'stale',
    token_type: 'Bearer',
    refresh_token: 'once',
    expires_in: 3600,
  })
  const { token }: ValidAccessToken = await req.tokens.getAccessToken({ rejected: 'stale' })
  res.json({ token, inSession: req.session.tokens !== undefined })
})

app.get('/guarded', requireTokens({ scope: 'orders.read' }), (req, res) => {
  res.json(req.tokens.hasTokens())
})

app.get('/api/orders', (req, res) => {
  res.json(req.headers.authorization ?? null)
})
app.use('/proxied', requireTokens({ user: 'optional' }), bearerProxy({ target: `${url}/api` }))
server.on('upgrade', upgradesThrough(app))

const answer = await fetch(url)
assert.deepEqual(await answer.json(), { token: 'fresh', inSession: true })
const cookie = answer.headers.get('set-cookie') ?? ''
const proxied = await fetch(`${url}/proxied/orders`, { headers: { cookie } })
assert.equal(await proxied.json(), 'Bearer fresh')
server.close()
server.closeAllConnections()
