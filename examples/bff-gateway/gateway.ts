import express, { type Express } from 'express'
import session from 'express-session'
import {
  clientSecretBasic,
  refuseCrossOrigin,
  requireTokens,
  sessionAxios,
  sessionTokens,
} from 'session-token-manager'
import { type LoginError, login } from 'session-token-manager/login'
import { bearerProxy } from 'session-token-manager/proxy'
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

const SCOPE = 'openid offline_access orders.read orders.write billing.read'

/** How recent a login an API requires, in seconds (RFC 9470). The page has it from a problem body. */
function maxAgeOf(value: unknown): number | undefined {
  return typeof value === 'string' && /^\d{1,9}$/.test(value) ? Number(value) : undefined
}

/** The page to show when a login does not succeed. One that was finished elsewhere, or is over, leads to the current state. */
function pageOfFailure(error: LoginError): string {
  if (error.reason === 'unknown' || error.reason === 'used') return '/'
  console.error(error.message)
  return '/?login=failed'
}

/** A backend for a frontend: the page in the browser has a session cookie, the session has the tokens, the APIs get them. */
export function gateway(options: GatewayOptions): { app: Express; close(): Promise<void> } {
  const { url, issuer, clientId, clientSecret, shopApi, billingApi } = options
  const clientAuthentication = clientSecretBasic(clientSecret)
  const client = { issuer, clientId, clientAuthentication, encryptionKeys: [options.sessionKey] }
  const tokens = sessionTokens({ ...client, ambient: true })
  const cookie = sessionCookie(url)
  const billing = sessionAxios({ baseURL: billingApi })

  const app = express()
  app.disable('x-powered-by')
  // TLS ends at the load balancer, which sends X-Forwarded-Proto. Without this line no Secure cookie would be set.
  app.set('trust proxy', url.startsWith('https:') ? 1 : false)
  app.use(securityHeaders(url))
  app.use('/assets', page.assets)
  // Refuses requests that another site's page sends with the user's cookie. The proxies refuse them by themselves.
  app.use(refuseCrossOrigin())
  // With several processes: a `store` that they share, and `grants: redisGrantStore(client)` above.
  app.use(session({ ...cookie, secret: options.sessionSecret, resave: false, saveUninitialized: false }))
  app.use(tokens)

  app.use('/api', notStored)
  // Before the logout: the browser forgets the cookie.
  app.post('/api/logout', (_req, res, next) => {
    res.clearCookie(cookie.name, cookie.cookie)
    next()
  })
  app.use(
    login({
      ...client,
      baseUrl: url,
      authorization: (req) => ({
        scope: SCOPE,
        // Consent to both APIs (RFC 8707). The access token of the login is for the first.
        resource: [shopApi, billingApi],
        // A refresh token needs the user's consent (OpenID Connect Core §11).
        prompt: 'consent',
        max_age: maxAgeOf(req.query.max_age),
      }),
      routes: { logout: '/api/logout', session: false },
      // The browser has one cookie, that of the session.
      transactions: 'session',
      onFailure: pageOfFailure,
    }),
  )
  app.get('/api/session', (req, res) => {
    res.json({ user: req.tokens.hasTokens() ? req.tokens.idTokenClaims?.sub : null })
  })

  // No token: the API does not learn which user is logged in.
  app.use('/api/catalogue', requireTokens({ user: 'none' }), bearerProxy({ target: `${shopApi}/catalogue` }))

  // The user's token for the API of the login. Server-sent events are forwarded as well, until the login ends.
  app.use('/api/orders', requireTokens(), bearerProxy({ target: `${shopApi}/orders` }))

  // Another API: a separate token, only for this API and only for reading, from the same refresh token.
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
