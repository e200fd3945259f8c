import express from 'express'
import session from 'express-session'
import { publicClient, requireTokens, sessionTokens, tokenErrors } from 'session-token-manager'

/** Makes the app. A test gives its authorization server, and a middleware in place of the login. */
export function createApp({ issuer, login }) {
  const app = express()
  app.use(session({ secret: 'for this test alone', resave: false, saveUninitialized: false }))
  app.use(
    sessionTokens({ issuer, clientId: 'web', clientAuthentication: publicClient(), encryptionKeys: false }),
  )
  if (login) app.use(login)
  app.get('/orders', requireTokens(), async (req, res) => {
    const { token } = await req.tokens.getAccessToken()
    res.json({ token })
  })
  app.use(tokenErrors())
  return app
}
