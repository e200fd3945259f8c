import { afterAll, afterEach, beforeAll, describe, expect, it } from '@jest/globals'
import type { ErrorRequestHandler, Express, Request, RequestHandler } from 'express'
import session from 'express-session'
import {
  clientSecretBasic,
  requireTokens,
  type SessionTokensOptions,
  sessionTokens,
} from '../../lib/index.js'
import { expressVersions, startApp } from '../helpers/app.js'
import { type AuthorizationServer, startAuthorizationServer } from '../helpers/authorization-server.js'
import { type Browser, browser } from '../helpers/browser.js'
import { rawRequest } from '../helpers/raw-request.js'

let server: AuthorizationServer
const closers: (() => Promise<unknown>)[] = []

beforeAll(async () => {
  server = await startAuthorizationServer()
})
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close()
})
afterAll(() => server.close())

type Tokens = Request['tokens']

describe.each(expressVersions)('sessionTokens(options), %s', (_, express) => {
  /** An app of exactly this middleware, whose errors are answered as JSON. */
  async function visit(build: (app: Express) => void): Promise<Browser> {
    const app = express()
    build(app)
    app.use(((error, _request, response, _next) => {
      response
        .status(error.status ?? 500)
        .json({ code: error.code, message: error.message, name: error.name })
    }) as ErrorRequestHandler)
    const running = await startApp(() => app)
    closers.push(running.close)
    return browser(running.url)
  }

  const sessions = () => session({ secret: 'test', resave: false, saveUninitialized: false })

  function tokens(options: Partial<SessionTokensOptions> = {}) {
    const { clientId, clientSecret } = server.clients.client_secret_basic
    const middleware = sessionTokens({
      tokenEndpoint: server.tokenEndpoint,
      revocationEndpoint: server.revocationEndpoint,
      clientId,
      clientAuthentication: clientSecretBasic(clientSecret),
      encryptionKeys: false,
      ...options,
    } as SessionTokensOptions)
    closers.push(middleware.close)
    return middleware
  }

  /** Answers with what comes of the work; errors go to the error handler. */
  function handling(work: (request: Request) => unknown): RequestHandler {
    return (request, response, next) => {
      new Promise((resolve) => resolve(work(request))).then((result) => response.json(result ?? null), next)
    }
  }

  const uses: [string, (tokens: Tokens) => unknown][] = [
    ['getAccessToken()', (tokens) => tokens.getAccessToken()],
    ['set()', (tokens) => tokens.set({ access_token: 'at', expires_in: 60 })],
    ['acquire()', (tokens) => tokens.acquire({ grant_type: 'authorization_code', code: 'code' })],
    ['hasTokens()', (tokens) => tokens.hasTokens()],
    ['idToken', (tokens) => tokens.idToken],
    ['clear()', (tokens) => tokens.clear()],
    ['revoke()', (tokens) => tokens.revoke()],
    ['axios()', (tokens) => tokens.axios({ baseURL: server.issuer }).get('/')],
  ]
  const cure = /Mount express-session before sessionTokens\(\): app\.use\(session\(/

  it.each(uses)('mounted before the session middleware: %s says so at first use', async (_, use) => {
    const page = await visit((app) => {
      app.use(tokens())
      app.use(sessions())
      app.get(
        '/',
        handling(({ tokens }) => use(tokens)),
      )
    })
    const answer = await page.get('/')
    expect([answer.status, answer.json.code]).toEqual([500, 'ERR_CONFIGURATION'])
    expect(answer.json.message).toMatch(cure)
    expect(answer.headers.get('set-cookie')).toBe(null)
  })

  it('may be mounted for the app and for a router of it', async () => {
    const middleware = tokens()
    const page = await visit((app) => {
      app.use(sessions(), middleware)
      app.use(
        '/below',
        middleware,
        handling(({ tokens }) => tokens.hasTokens()),
      )
    })
    expect((await page.get('/below')).json).toBe(false)
  })

  it('a session that was destroyed earlier in the request cannot be logged in', async () => {
    const page = await visit((app) => {
      app.use(sessions(), tokens())
      app.get(
        '/',
        handling(async ({ session, tokens }) => {
          await new Promise((resolve) => session.destroy(resolve))
          await tokens.set({ access_token: 'at', expires_in: 60 })
        }),
      )
    })
    const answer = await page.get('/')
    expect([answer.status, answer.json.code]).toEqual([500, 'ERR_CONFIGURATION'])
    expect(answer.json.message).toContain('destroyed earlier in this request')
  })

  it('S5 a request that uses no token: no session is created, and the session is not read', async () => {
    let read = 0
    const page = await visit((app) => {
      app.use(sessions())
      app.use((request, _response, next) => {
        const { session } = request
        const watched = new Proxy(session, {
          get(target, name, receiver) {
            if (name === 'tokens') read += 1
            return Reflect.get(target, name, receiver)
          },
        })
        Object.defineProperty(request, 'session', { value: watched, configurable: true, writable: true })
        next()
      })
      app.use(tokens())
      app.get(
        '/',
        handling(() => 'fine'),
      )
    })
    const answer = await page.get('/')
    expect([answer.json, answer.headers.get('set-cookie')]).toEqual(['fine', null])
    expect(read).toBeLessThanOrEqual(1)
  })

  it('mounted twice, for two authorization servers with one sessionKey, over two session stores: accepted', async () => {
    const page = await visit((app) => {
      for (const name of ['one', 'two'])
        app.get(
          `/${name}`,
          session({
            name,
            secret: 'test',
            resave: false,
            saveUninitialized: false,
            store: new session.MemoryStore(),
          }),
          tokens({ clientId: name }),
          handling(({ tokens }) => tokens.hasTokens()),
        )
    })
    expect([(await page.get('/one')).json, (await page.get('/two')).json]).toEqual([false, false])
  })

  it('requireTokens(): the return path is that of the whole app, not of a router', async () => {
    const app = express()
    const router = express.Router()
    router.get('/orders', requireTokens({ loginPath: '/sign-in' }))
    app.use(sessions(), tokens())
    app.use('/shop', router)
    const running = await startApp(() => app)
    closers.push(running.close)
    const { headers } = await rawRequest(running.url, '/shop/orders', { 'sec-fetch-mode': 'navigate' })
    expect(headers.location).toBe('/sign-in?returnTo=%2Fshop%2Forders')
  })
})
