import { betterAuth } from 'better-auth'
import { memoryAdapter } from 'better-auth/adapters/memory'
import { fromNodeHeaders, toNodeHandler } from 'better-auth/node'
import { genericOAuth } from 'better-auth/plugins'
import express from 'express'
import { CLIENT_ID, CLIENT_SECRET } from '../authorization-server.ts'
import { RESPONSE } from '../contenders/work.ts'

const PROVIDER = 'bench'

/** Sessions and accounts are in its memory adapter, the fastest there is; a database would add its own time. */
export function build({ issuer }) {
  const auth = betterAuth({
    baseURL: 'http://127.0.0.1',
    secret: 'a secret of thirty-two characters',
    database: memoryAdapter({ user: [], session: [], account: [], verification: [] }),
    rateLimit: { enabled: false },
    logger: { disabled: true },
    advanced: { useSecureCookies: false },
    plugins: [
      genericOAuth({
        config: [
          {
            providerId: PROVIDER,
            discoveryUrl: `${issuer}/.well-known/openid-configuration`,
            clientId: CLIENT_ID,
            clientSecret: CLIENT_SECRET,
            scopes: ['openid', 'offline_access'],
          },
        ],
      }),
    ],
  })
  const accountIds = new Map()
  const app = express()
  app.all('/api/auth/{*path}', toNodeHandler(auth))
  app.get('/login', async (_request, response) => {
    const started = await auth.api.signInSocial({
      body: { provider: PROVIDER, callbackURL: '/' },
      asResponse: true,
    })
    response.setHeader('set-cookie', started.headers.getSetCookie())
    response.redirect((await started.json()).url)
  })
  app.get('/', async (request, response) => {
    const headers = fromNodeHeaders(request.headers)
    const cookie = headers.get('cookie')
    // An app would keep it with the user.
    if (!accountIds.has(cookie)) accountIds.set(cookie, (await auth.api.listUserAccounts({ headers }))[0].id)
    await auth.api.getAccessToken({ body: { accountId: accountIds.get(cookie) }, headers })
    response.json(RESPONSE)
  })
  app.use((_error, _request, response, _next) => {
    response.status(502).end()
  })
  return app
}
