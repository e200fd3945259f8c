import { randomBytes } from 'node:crypto'
import type { RequestListener } from 'node:http'
import express from 'express'
import session, { type SessionOptions } from 'express-session'
import type { ClientMetadata } from 'oidc-provider'
import {
  clientSecretBasic,
  requireTokens,
  type SessionTokensOptions,
  sessionTokens,
} from '../../lib/index.js'
import { type LoginError, type LoginOptions, login, stepUp } from '../../lib/login.js'
import {
  type AuthorizationServer,
  type AuthorizationServerOptions,
  startAuthorizationServer,
} from './authorization-server.js'
import { type Browser, type BrowserAnswer, browser } from './browser.js'
import { type HttpServer, serve } from './http-server.js'

/** The client of the sites. */
export const LOGIN_CLIENT = { clientId: 'login-app', clientSecret: 'a secret of the login & its tests' }
export const LOGIN_KEY = randomBytes(32).toString('base64')
export const SCOPE = 'openid offline_access orders.read'

/** What a browser sends when the user opens a page. fetch() sets the mode by itself, so the site puts this one in its place. */
export const NAVIGATION = { headers: { accept: 'text/html', 'x-mode': 'navigate' } }

/** Takes the mode of {@link NAVIGATION} for that of the browser. */
export function withMode(listener: RequestListener): RequestListener {
  return (request, response) => {
    const { 'x-mode': mode } = request.headers
    if (typeof mode === 'string') request.headers['sec-fetch-mode'] = mode
    listener(request, response)
  }
}

export interface LoginSiteOptions {
  readonly login?: Partial<LoginOptions<never>>
  readonly provider?: AuthorizationServerOptions
  readonly tokens?: Partial<SessionTokensOptions>
  readonly session?: Partial<SessionOptions>
  readonly express?: typeof express
  /** What is registered of the client besides. */
  readonly client?: Partial<ClientMetadata>
  /** The host by which browsers reach the app. Default: that of the provider, `127.0.0.1`. */
  readonly host?: string
  /** The path under which the app is. */
  readonly base?: string
  /** Further routes, between `login()` and `stepUp()`. */
  readonly routes?: (app: express.Express) => void
  /** Builds an app of another kind. */
  readonly app?: (settings: AppSettings) => RequestListener
}

/** What an app of another kind is built with. */
export interface AppSettings {
  readonly tokens: SessionTokensOptions
  readonly login: LoginOptions<never>
  readonly url: string
}

/** An Express app with `login()`, and its provider. */
export interface LoginSite {
  readonly url: string
  readonly provider: AuthorizationServer
  /** The logins that did not succeed. */
  readonly failures: LoginError[]
  /** The errors that reached the app's error handler. */
  readonly errors: unknown[]
  readonly store: session.MemoryStore
  browser(): Browser
  /** Opens a page as a user does, and follows the redirects. */
  open(visitor: Browser, path: string): Promise<BrowserAnswer>
  /** Opens a page, and does not follow its redirect. */
  step(visitor: Browser, path: string): Promise<BrowserAnswer>
  /** Begins a login. Returns the URL of the callback to which the provider sends the browser. */
  begin(visitor: Browser, path?: string): Promise<string>
  /** A browser whose user has logged in. */
  loggedIn(path?: string): Promise<Browser>
  close(): Promise<void>
}

/** Starts a site. `GET /orders` is guarded and responds with the user, `GET /` with whether a user is logged in. */
export async function startLoginSite(options: LoginSiteOptions = {}): Promise<LoginSite> {
  const { base = '' } = options
  const reachedBy = (address: string) => address.replace('127.0.0.1', options.host ?? '127.0.0.1')
  const failures: LoginError[] = []
  const errors: unknown[] = []
  const store = new session.MemoryStore()
  let provider!: AuthorizationServer
  let closeTokens = async () => {}
  const server: HttpServer = await serve(async (address) => {
    const url = reachedBy(address)
    provider = await startAuthorizationServer({
      ...options.provider,
      clients: [{ ...registration(url, base), ...options.client }, ...(options.provider?.clients ?? [])],
    })
    const client = {
      issuer: provider.issuer,
      clientId: LOGIN_CLIENT.clientId,
      clientAuthentication: clientSecretBasic(LOGIN_CLIENT.clientSecret),
      encryptionKeys: [LOGIN_KEY],
    }
    const tokens = { ...client, ...options.tokens } as SessionTokensOptions
    const given = {
      ...client,
      baseUrl: url + base,
      authorization: { scope: SCOPE, prompt: 'consent' },
      onFailure: (error: LoginError) => void failures.push(error),
      ...options.login,
    } as LoginOptions<never>
    if (options.app) return withMode(options.app({ tokens, login: given, url }))

    const app = (options.express ?? express)()
    app.set('env', 'test')
    app.use(
      session({
        secret: 'test',
        resave: false,
        saveUninitialized: false,
        store,
        cookie: { sameSite: 'lax' },
        ...options.session,
      }),
    )
    const attached = sessionTokens(tokens)
    closeTokens = () => attached.close()
    app.use(attached)
    const auth = login(given)
    app.use(auth)
    app.get(`${base}/`, (request, response) => void response.json({ loggedIn: request.tokens.hasTokens() }))
    app.get(`${base}/orders`, requireTokens({ loginPath: `${base}/login` }), (request, response) => {
      response.json({ user: request.tokens.idTokenClaims?.sub, query: request.query })
    })
    options.routes?.(app)
    app.use(stepUp(auth))
    app.use(((error, _request, response, next) => {
      errors.push(error)
      if (response.headersSent) return next(error)
      response.status(error.status ?? 500).json({ code: error.code, message: error.message })
    }) as express.ErrorRequestHandler)
    return withMode(app)
  })
  const url = reachedBy(server.url)
  const step: LoginSite['step'] = (visitor, path) => visitor.get(path, NAVIGATION)
  const open: LoginSite['open'] = (visitor, path) => visitor.visit(path, NAVIGATION)
  const begin: LoginSite['begin'] = async (visitor, path = `${base}/login?returnTo=${base}/orders`) => {
    let page = await step(visitor, path)
    for (let hops = 0; hops < 10; hops++) {
      const location = page.headers.get('location')
      if (!location) throw new Error(`The login ended at ${page.url}: ${page.status} ${page.text}`)
      const next = new URL(location, page.url)
      if (next.origin === url && next.pathname === `${base}/callback`) return next.href
      page = await step(visitor, next.href)
    }
    throw new Error('The login has no end.')
  }

  return {
    url,
    provider,
    failures,
    errors,
    store,
    browser: () => browser(url),
    open,
    step,
    begin,
    async loggedIn(path) {
      const visitor = browser(url)
      await step(visitor, await begin(visitor, path))
      return visitor
    },
    async close() {
      await server.down()
      await closeTokens()
      await provider.close()
    },
  }
}

function registration(url: string, base: string) {
  return {
    client_id: LOGIN_CLIENT.clientId,
    client_secret: LOGIN_CLIENT.clientSecret,
    redirect_uris: [`${url}${base}/callback`],
    post_logout_redirect_uris: [`${url}/`],
    application_type: 'native' as const,
    grant_types: ['authorization_code', 'refresh_token'],
    response_types: ['code' as const],
    scope: 'openid offline_access orders.read orders.write',
  }
}
