import express, { type ErrorRequestHandler, type Express, type Request, type RequestHandler } from 'express'
import session, { type SessionOptions } from 'express-session'
import {
  clientSecretBasic,
  requireTokens,
  type SessionTokensOptions,
  sessionTokens,
  TokenError,
} from 'session-token-manager'
import { login } from 'session-token-manager/login'
import { fingerprint } from './timeline.js'

declare module 'express-session' {
  interface SessionData {
    user?: string
    /** Whose rows of the time line the page gets. */
    login?: string
    /** The orders that were placed in this session. */
    placed?: number[]
  }
}

export interface BffOptions {
  /** Where browsers reach this app. */
  readonly url: string
  readonly issuer: string
  readonly clientId: string
  readonly clientSecret: string
  readonly sessionSecret: string
  readonly sessionKey: string
  /** The base URL of the API. */
  readonly api: string
}

/** The stores. By default they are in memory, which is enough for a single process. */
export interface BffStores {
  readonly session?: Pick<SessionOptions, 'store'>
  readonly tokens?: Pick<SessionTokensOptions, 'grants' | 'http'>
}

export const SCOPE = 'openid offline_access orders.read orders.write'

/** A backend for a frontend: the browser has a session cookie, the session has the tokens, and the API gets them. */
export function bff(
  options: BffOptions,
  stores: BffStores = {},
): { readonly app: Express; close(): Promise<void> } {
  const { clientId, clientSecret, issuer } = options
  const app = express()

  app.use(
    session({
      name: 'demo.sid',
      secret: options.sessionSecret,
      resave: false,
      saveUninitialized: false,
      cookie: { httpOnly: true, sameSite: 'lax', secure: 'auto' },
      ...stores.session,
    }),
  )
  const clientAuthentication = clientSecretBasic(clientSecret)
  const client = { issuer, clientId, clientAuthentication, encryptionKeys: [options.sessionKey] }
  const tokens = sessionTokens({ ...client, ...stores.tokens })
  app.use(tokens)
  app.use(
    login({
      ...client,
      baseUrl: options.url,
      // A refresh token needs the user's consent (OpenID Connect Core §11).
      authorization: { scope: SCOPE, prompt: 'consent' },
      routes: { logout: false, session: false },
      onLogin(tokens, claims, req) {
        req.session.user = claims.sub
        req.session.login = fingerprint(tokens.refresh_token ?? '')
      },
    }),
  )

  app.post('/logout', fromOwnPage, async (req, res) => {
    // The user is logged out here even when the authorization server cannot be reached.
    const revoked = await req.tokens.revoke().then(
      () => true,
      () => false,
    )
    await destroyed(req)
    res.clearCookie('demo.sid').json({ revoked })
  })

  app.use('/api', (_req, res, next) => {
    res.set('Cache-Control', 'no-store')
    next()
  })

  app.get('/api/session', async (req, res) => {
    if (!req.tokens.hasTokens()) return void res.json({})
    // The response is about a valid token: an expired one is refreshed first.
    const { expiresAt } = await req.tokens.getAccessToken()
    const { user, placed } = req.session
    res.json({ user, placed, expiresInMs: expiresAt - Date.now() })
  })

  app.get('/api/orders', requireTokens(), async (req, res) => {
    const api = req.tokens.axios({ baseURL: options.api })
    res.json((await api.get('/orders')).data)
  })

  app.post('/api/orders', fromOwnPage, requireTokens(), async (req, res) => {
    const api = req.tokens.axios({ baseURL: options.api })
    const { data } = await api.post('/orders')
    req.session.placed = [...(req.session.placed ?? []), data.id]
    res.status(201).json(data)
  })

  app.use(problem)

  return { app, close: () => tokens.close() }
}

/**
 * Lets a request pass if a page of this origin sent it. A page of another origin can make the browser send the cookie, also
 * from another port of this site. But it cannot set a custom header unless this site allows it (CORS).
 */
export const fromOwnPage: RequestHandler = (req, res, next) => {
  if (req.get('X-Requested-With') === 'fetch') next()
  else res.status(403).json({ title: 'Forbidden', status: 403 })
}

export const problem: ErrorRequestHandler = (error, _req, res, next) => {
  if (res.headersSent) return next(error)
  const status = error instanceof TokenError ? error.status : 502
  console.error(`${error.code ?? error.name}: ${error.message}`)
  res.status(status).json({ title: error.code ?? 'Bad gateway', status })
}

export function destroyed(req: Request): Promise<void> {
  return new Promise((resolve, reject) => {
    req.session.destroy((error) => (error ? reject(error) : resolve()))
  })
}
