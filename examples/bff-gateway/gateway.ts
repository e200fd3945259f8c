import express, { type Express } from 'express'
import session from 'express-session'
import {
  clientSecretBasic,
  refuseCrossOrigin,
  requireTokens,
  sessionAxios,
  sessionTokens,
} from 'session-token-manager'
import { bearerProxy } from 'session-token-manager/proxy'
import { liveAnswers } from './live-answers.js'
import { login } from './login.js'
import { notStored, page, securityHeaders } from './page.js'
import { problem } from './problem.js'
import { sessionCookie } from './session-cookie.js'

export interface GatewayOptions {
  /** Where browsers reach the gateway, e.g. `https://app.example.com`. */
  readonly url: string
  readonly issuer: string
  readonly clientId: string
  readonly clientSecret: string
  /** Signs the session cookie. */
  readonly sessionSecret: string
  /** Seals the tokens in the session. */
  readonly sessionKey: string
  /** The shop's API: a public catalogue, and the user's orders. Tokens of a login are for this one. */
  readonly shopApi: string
  /** The billing API. Its URL is the `resource` (RFC 8707) that its tokens are for. */
  readonly billingApi: string
}

/** A backend for a frontend: the page in the browser has a session cookie, the session has the tokens, the APIs get them. */
export async function gateway(options: GatewayOptions): Promise<{ app: Express; close(): Promise<void> }> {
  const { url, issuer, clientId, clientSecret, shopApi, billingApi } = options
  const clientAuthentication = clientSecretBasic(clientSecret)
  const tokens = sessionTokens({
    issuer,
    clientId,
    clientAuthentication,
    encryptionKeys: [options.sessionKey],
    ambient: true,
  })
  const cookie = sessionCookie(url)
  const live = liveAnswers()
  const billing = sessionAxios({ baseURL: billingApi })

  const app = express()
  app.disable('x-powered-by')
  // TLS ends at the load balancer in front, which says so in X-Forwarded-Proto. Without, no Secure cookie would be set.
  app.set('trust proxy', url.startsWith('https:') ? 1 : false)
  app.use(securityHeaders(url))
  app.use('/assets', page.assets)
  // What another site's page sends with the user's cookie changes nothing here. The proxies refuse it by themselves.
  app.use(refuseCrossOrigin())
  // With several processes: a `store` that they share, and `grants: redisGrantStore(client)` above.
  app.use(session({ ...cookie, secret: options.sessionSecret, resave: false, saveUninitialized: false }))
  app.use(tokens)

  app.use('/api', notStored)
  app.use(
    await login({ url, issuer, clientId, clientSecret, resources: [shopApi, billingApi], cookie, live }),
  )

  // Nobody's token: whoever is logged in, the API does not learn of it.
  app.use('/api/catalogue', requireTokens({ user: 'none' }), bearerProxy({ target: `${shopApi}/catalogue` }))

  // The user's token, as the login brought it. Server-sent events are among what is passed on.
  app.use('/api/orders', requireTokens(), live.track, bearerProxy({ target: `${shopApi}/orders` }))

  // Another API: a token of its own, for it alone and for reading alone, out of the same refresh token.
  app.get(
    '/api/invoices',
    requireTokens({ scope: 'billing.read', resource: billingApi }),
    async (_req, res) => void res.json((await billing.get('/invoices')).data),
  )

  app.get('/', page.html)
  app.get(['/orders', '/billing'], requireTokens({ loginPath: '/login' }), page.html)
  app.use(problem)

  return { app, close: () => tokens.close() }
}
