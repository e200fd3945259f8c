import express from 'express'
import session from 'express-session'
import { clientSecretBasic, requireTokens, sessionTokens, tokenErrors } from 'session-token-manager'
import { login } from 'session-token-manager/login'

const { ISSUER, CLIENT_ID, CLIENT_SECRET, API, SESSION_SECRET, SESSION_KEY } = process.env
const { SCOPE = 'openid offline_access', PORT = '3000' } = process.env
const client = {
  issuer: ISSUER,
  clientId: CLIENT_ID,
  clientAuthentication: clientSecretBasic(CLIENT_SECRET),
  encryptionKeys: [SESSION_KEY], // seals the tokens; made with: openssl rand -base64 32
}
const authorization = { scope: SCOPE, prompt: 'consent' } // what brings a refresh token

const app = express()
app.use(session({ secret: SESSION_SECRET, resave: false, saveUninitialized: false }))
app.use(sessionTokens(client)) // req.tokens
app.use(login({ ...client, baseUrl: `http://localhost:${PORT}`, authorization })) // /login, /callback, /logout

app.get('/', requireTokens({ loginPath: '/login' }), async (req, res) => {
  const api = req.tokens.axios({ baseURL: API }) // carries a token that is valid
  res.json((await api.get('/orders')).data)
})

app.use(tokenErrors())
app.listen(Number(PORT), () => console.log(`Open http://localhost:${PORT}`))
