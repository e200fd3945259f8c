// Koa 3 with koa-session: sessions in a store, or in cookies, where the tokens are encrypted. The login needs no
// login library: it uses `ctx.tokens.acquire()`.
//
//   npm run build && npx tsx examples/koa.ts
//   npm run build && SESSIONS=cookies npx tsx examples/koa.ts
//
// It starts its own authorization server. To use another one, see stage.ts.
import { createHash, randomBytes } from 'node:crypto'
import Koa, { type Context } from 'koa'
import session from 'koa-session'
import { clientSecretBasic } from 'session-token-manager'
import { requireTokens, sessionTokens } from 'session-token-manager/koa'
import { endpointsOf, START_PAGE, stage } from './stage.js'

const { issuer, clientId, clientSecret, scope, api, url, sessionSecret, sessionKey, serve } = await stage()
const { authorizationEndpoint } = await endpointsOf(issuer)
const inCookies = process.env.SESSIONS === 'cookies'

const sessions = new Map<string, unknown>() // use koa-redis or another store that survives a restart
const store = {
  get: async (key: string) => sessions.get(key),
  set: async (key: string, data: unknown) => void sessions.set(key, data),
  destroy: async (key: string) => void sessions.delete(key),
}

const app = new Koa()
app.keys = [sessionSecret]
app.use(session({ sameSite: 'lax', ...(!inCookies && { store }) }, app))
app.use(
  sessionTokens({
    issuer,
    clientId,
    clientAuthentication: clientSecretBasic(clientSecret),
    encryptionKeys: [sessionKey],
  }),
)

const loggedIn = requireTokens({ loginPath: '/login' })

const routes: Record<string, (ctx: Context) => unknown> = {
  'GET /': (ctx) => {
    ctx.body = START_PAGE
  },

  'GET /login': (ctx) => {
    const login = { state: random(), nonce: random(), verifier: random() }
    ctx.session.login = login
    const parameters = new URLSearchParams({
      response_type: 'code',
      client_id: clientId,
      redirect_uri: `${url}/callback`,
      scope,
      prompt: 'consent',
      state: login.state,
      nonce: login.nonce,
      code_challenge: createHash('sha256').update(login.verifier).digest('base64url'),
      code_challenge_method: 'S256',
    })
    ctx.redirect(`${authorizationEndpoint}?${parameters}`)
  },

  'GET /callback': async (ctx) => {
    const { login } = ctx.session
    const { code, state, iss } = ctx.query
    if (!login || state !== login.state || typeof code !== 'string') return ctx.throw(400, 'No such login.')
    delete ctx.session.login
    await ctx.session.regenerate() // a new id; koa-session keeps the data
    await ctx.tokens.acquire({
      grant_type: 'authorization_code',
      code,
      redirect_uri: `${url}/callback`,
      code_verifier: login.verifier,
      nonce: login.nonce, // the ID token must have it
      ...(iss !== undefined && { iss: String(iss) }), // and this must be the issuer (RFC 9207)
    })
    ctx.redirect('/orders')
  },

  'GET /orders': (ctx) =>
    loggedIn(ctx, async () => {
      const { data } = await ctx.tokens.axios({ baseURL: api }).get('/orders')
      ctx.body = { user: ctx.tokens.idTokenClaims?.sub, orders: data }
    }),

  'POST /logout': async (ctx) => {
    await ctx.tokens.revoke().catch(console.error) // logged out here in any case
    ctx.session = null
    ctx.redirect('/')
  },
}

app.use((ctx, next) => routes[`${ctx.method} ${ctx.path}`]?.(ctx) ?? next())
serve(app.callback())

function random(): string {
  return randomBytes(32).toString('base64url')
}
