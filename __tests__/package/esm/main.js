import assert from 'node:assert/strict'
import { once } from 'node:events'
import express from 'express'
import session from 'express-session'
import { clientSecretBasic, sessionTokens } from 'session-token-manager'

const app = express()
const server = app.listen(0, '127.0.0.1')
await once(server, 'listening')
const url = `http://127.0.0.1:${server.address().port}`

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
  }),
)
app.get('/', async (req, res) => {
  await req.tokens.set({
    access_token: 'stale',
    token_type: 'Bearer',
    refresh_token: 'once',
    expires_in: 3600,
  })
  const { token } = await req.tokens.getAccessToken({ rejected: 'stale' })
  res.json({ token, inSession: req.session.tokens !== undefined })
})

// This needs @opentelemetry/api alone, and the SDK of the app.
const { instrument } = await import('session-token-manager/opentelemetry')
instrument()()

// The proxy needs nothing that this project has not installed.
assert.equal(typeof (await import('session-token-manager/proxy')).bearerProxy, 'function')

const answer = await fetch(url)
assert.deepEqual(await answer.json(), { token: 'fresh', inSession: true })
server.close()
server.closeAllConnections()
