// An app that already logs its users in, and has the tokens in its sessions: here passport has put them there with the
// user. The library adopts them, and the login does not change. Each new part has a comment.
//
//   npm run build && npx tsx examples/adopt.ts
//
// It starts its own authorization server. To use another one, see stage.ts.
import express from 'express'
import session from 'express-session'
import passport from 'passport'
import { Strategy, type VerifyCallback } from 'passport-oauth2'
import { clientSecretPost, requireTokens, sessionTokens } from 'session-token-manager'
import { endpointsOf, START_PAGE, stage } from './stage.js'

declare global {
  namespace Express {
    interface User {
      oauth?: { accessToken: string; refreshToken: string }
    }
  }
}

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
  },
  (accessToken: string, refreshToken: string, _profile: unknown, done: VerifyCallback) =>
    done(null, { oauth: { accessToken, refreshToken } }),
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

// New: says where the tokens are. The first request that needs a token adopts them; passport's copy stays as it was.
// passport-oauth2 provides no expiry. The `exp` of an access token that is a JWT is used; any other is refreshed at once.
app.use(
  sessionTokens({
    issuer,
    clientId,
    clientAuthentication: clientSecretPost(clientSecret),
    encryptionKeys: [sessionKey],
    adopt: (request) => request.user?.oauth,
  }),
)

app.get('/', (_req, res) => res.send(START_PAGE))
app.get('/login', passport.authenticate('oauth2'))
app.get('/callback', passport.authenticate('oauth2', { successRedirect: '/orders', failureRedirect: '/' }))

// New: requireTokens() in place of a check that there is a user, and req.tokens.axios() in place of user.oauth.accessToken.
app.get('/orders', requireTokens({ loginPath: '/login' }), async (req, res) => {
  const { data } = await req.tokens.axios({ baseURL: api }).get('/orders')
  res.json({ orders: data })
})

app.post('/logout', async (req, res, next) => {
  // New, and required: passport removes only its own copy of the tokens. After this the tokens are not adopted again,
  // even if a slow request brings passport's user back.
  await req.tokens.revoke().catch(console.error)
  req.logout((error) => (error ? next(error) : res.redirect('/')))
})

serve(app)
