// Login with passport and passport-oauth2; their tokens are handed over and kept valid from then on.
//
//   npm run build && npx tsx examples/passport.ts
//
// It starts its own authorization server. To use another one, see stage.ts.
import express from 'express'
import session from 'express-session'
import { decodeJwt } from 'jose'
import passport from 'passport'
import { Strategy, type VerifyCallback } from 'passport-oauth2'
import { clientSecretPost, requireTokens, sessionTokens } from 'session-token-manager'
import { endpointsOf, START_PAGE, stage } from './stage.js'

declare global {
  namespace Express {
    interface User {
      id?: string | undefined
    }
    interface AuthInfo {
      tokens?: object
    }
  }
}

// passport-oauth2 sends the client's secret in the body.
const { issuer, clientId, clientSecret, scope, api, url, sessionSecret, sessionKey, serve } = await stage({
  clientAuthentication: 'client_secret_post',
})
const { authorizationEndpoint, tokenEndpoint } = await endpointsOf(issuer)

const strategy = new Strategy(
  {
    authorizationURL: authorizationEndpoint,
    tokenURL: tokenEndpoint,
    clientID: clientId,
    clientSecret,
    callbackURL: `${url}/callback`,
    scope,
    state: true,
    pkce: true,
  },
  // `answer` is the token response, from which passport-oauth2 has removed the refresh token. The tokens are passed on in
  // `req.authInfo`, which lasts for this request, and not with the user, since the user is stored in the session.
  (
    _accessToken: string,
    refreshToken: string,
    answer: { id_token: string },
    _profile: unknown,
    done: VerifyCallback,
  ) =>
    done(
      null,
      { id: decodeJwt(answer.id_token).sub },
      { tokens: { ...answer, refresh_token: refreshToken } },
    ),
)
strategy.authorizationParams = () => ({ prompt: 'consent' })
passport.use(strategy)
passport.serializeUser((user, done) => done(null, user))
passport.deserializeUser((user: Express.User, done) => done(null, user))

const app = express()
app.use(
  session({ secret: sessionSecret, resave: false, saveUninitialized: false, cookie: { sameSite: 'lax' } }),
)
app.use(passport.session())
const clientAuthentication = clientSecretPost(clientSecret)
app.use(sessionTokens({ issuer, clientId, clientAuthentication, encryptionKeys: [sessionKey] }))

app.get('/', (_req, res) => res.send(START_PAGE))
app.get('/login', passport.authenticate('oauth2'))

// passport has regenerated the session before it calls this handler, so the new session gets the tokens. Tokens set in the
// verify callback above would have been lost with the old session.
app.get('/callback', passport.authenticate('oauth2', { failureRedirect: '/' }), async (req, res) => {
  await req.tokens.set(req.authInfo?.tokens)
  res.redirect('/orders')
})

app.get('/orders', requireTokens({ loginPath: '/login' }), async (req, res) => {
  const { data } = await req.tokens.axios({ baseURL: api }).get('/orders')
  res.json({ user: req.user?.id, orders: data })
})

// First log out the tokens, while the session has them; then passport removes the user and regenerates the session.
app.post('/logout', async (req, res, next) => {
  await req.tokens.revoke().catch(console.error) // logged out here in any case
  req.logout((error) => (error ? next(error) : res.redirect('/')))
})

serve(app)
