import { createHash, randomBytes } from 'node:crypto'
import express, { type ErrorRequestHandler, type Express, type Request, type RequestHandler } from 'express'
import session, { type SessionOptions } from 'express-session'
import {
  clientSecretBasic,
  requireTokens,
  type SessionTokensOptions,
  sessionTokens,
  TokenError,
} from 'session-token-manager'

declare module 'express-session' {
  interface SessionData {
    /** A login under way: what its answer must fit. */
    login?: { state: string; nonce: string; codeVerifier: string }
    user?: string
    /** The orders that were placed in this session. */
    placed?: number[]
  }
}

export interface BffOptions {
  /** Where browsers reach this app. */
  readonly url: string
  readonly issuer: string
  readonly authorizationEndpoint: string
  readonly clientId: string
  readonly clientSecret: string
  readonly sessionSecret: string
  readonly sessionKey: string
  /** The base URL of the API behind. */
  readonly api: string
}

/** Where it keeps things. By default in this process's memory, which is all that a single process needs. */
export interface BffStores {
  readonly session?: Pick<SessionOptions, 'store'>
  readonly tokens?: Pick<SessionTokensOptions, 'grants' | 'http'>
}

const SCOPE = 'openid offline_access orders.read orders.write'

/** A backend for a frontend: the browser has a session cookie, the session has the tokens, and the API gets them. */
export function bff(
  options: BffOptions,
  stores: BffStores = {},
): { readonly app: Express; close(): Promise<void> } {
  const { clientId, clientSecret, issuer } = options
  const redirectUri = `${options.url}/callback`
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
  const encryptionKeys = [options.sessionKey]
  const tokens = sessionTokens({ issuer, clientId, clientAuthentication, encryptionKeys, ...stores.tokens })
  app.use(tokens)

  app.get('/login', (req, res) => {
    const [state, nonce, codeVerifier] = [random(), random(), random()]
    req.session.login = { state, nonce, codeVerifier }
    const parameters = new URLSearchParams({
      response_type: 'code',
      client_id: clientId,
      redirect_uri: redirectUri,
      scope: SCOPE,
      // A refresh token takes the user's consent (OpenID Connect Core §11).
      prompt: 'consent',
      state,
      nonce,
      code_challenge: createHash('sha256').update(codeVerifier).digest('base64url'),
      code_challenge_method: 'S256',
    })
    res.redirect(`${options.authorizationEndpoint}?${parameters}`)
  })

  app.get('/callback', async (req, res) => {
    const { login } = req.session
    const { code, state, iss } = req.query
    if (!login || state !== login.state || typeof iss !== 'string' || typeof code !== 'string') {
      res
        .status(400)
        .send('This login was not started here, or was not finished. <a href="/login">Log in</a>')
      return
    }
    // Whoever knew the session's id before the login has no part in it afterwards.
    await regenerated(req)
    await req.tokens.acquire({
      grant_type: 'authorization_code',
      code,
      redirect_uri: redirectUri,
      code_verifier: login.codeVerifier,
      // The ID token must have the one, and the issuer must be the other.
      nonce: login.nonce,
      iss,
    })
    req.session.user = String(req.tokens.idTokenClaims?.sub)
    res.redirect('/')
  })

  app.post('/logout', fromOwnPage, async (req, res) => {
    // Here the user is logged out even when the authorization server cannot be told.
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
    // What it tells is of a valid token: one that has expired is refreshed for it.
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
 * Lets a request pass that a page of our own sent. A page of another origin can send a cookie along, even another
 * port's that counts as the same site, but no header of its own unless we allow it (CORS).
 */
const fromOwnPage: RequestHandler = (req, res, next) => {
  if (req.get('X-Requested-With') === 'fetch') next()
  else res.status(403).json({ title: 'Forbidden', status: 403 })
}

const problem: ErrorRequestHandler = (error, _req, res, next) => {
  if (res.headersSent) return next(error)
  const status = error instanceof TokenError ? error.status : 502
  console.error(`${error.code ?? error.name}: ${error.message}`)
  res.status(status).json({ title: error.code ?? 'Bad gateway', status })
}

function random(): string {
  return randomBytes(32).toString('base64url')
}

function regenerated(req: Request): Promise<void> {
  return new Promise((resolve, reject) => {
    req.session.regenerate((error) => (error ? reject(error) : resolve()))
  })
}

function destroyed(req: Request): Promise<void> {
  return new Promise((resolve, reject) => {
    req.session.destroy((error) => (error ? reject(error) : resolve()))
  })
}
