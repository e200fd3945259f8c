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

  it.each(uses)('no session middleware in front: %s says so at first use', async (_, use) => {
    const before = server.tokenRequests.length
    const page = await visit((app) => {
      app.use(tokens())
      app.get(
        '/',
        handling(({ tokens }) => use(tokens)),
      )
      app.get(
        '/other',
        handling(() => 'fine'),
      )
    })
    const answer = await page.get('/')
    expect([answer.status, answer.json.code, answer.json.name]).toEqual([
      500,
      'ERR_CONFIGURATION',
      'ConfigurationError',
    ])
    expect(answer.json.message).toMatch(cure)
    expect((await page.get('/other')).json).toBe('fine')
    expect(server.tokenRequests).toHaveLength(before)
  })

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

  it('no session middleware in front: requireTokens() says so rather than sending users to the login', async () => {
    const page = await visit((app) => {
      app.use(tokens())
      app.get('/', requireTokens({ loginPath: '/login' }))
    })
    const answer = await page.get('/', { headers: { accept: 'text/html' } })
    expect([answer.status, answer.json.code]).toEqual([500, 'ERR_CONFIGURATION'])
    expect(answer.json.message).toMatch(cure)
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

  it('login, token, logout', async () => {
    const page = await visit((app) => {
      app.use(sessions(), tokens(), express.json())
      app.post(
        '/login',
        handling(({ tokens, body }) => tokens.set(body)),
      )
      app.get(
        '/token',
        handling(({ tokens }) => tokens.getAccessToken()),
      )
      app.get(
        '/state',
        handling(({ tokens }) => [tokens.hasTokens(), tokens.idToken ?? null]),
      )
      app.post(
        '/logout',
        handling(({ tokens }) => tokens.revoke()),
      )
    })
    expect((await page.get('/state')).json).toEqual([false, null])
    const login = await server.login('user')
    expect((await page.post('/login', login)).status).toBe(200)
    expect((await page.get('/token')).json).toMatchObject({ token: login.access_token, tokenType: 'Bearer' })
    expect((await page.get('/state')).json).toEqual([true, login.id_token])
    expect((await page.post('/logout')).status).toBe(200)
    expect((await page.get('/state')).json).toEqual([false, null])
    const refused = await page.get('/token')
    expect([refused.status, refused.json.code]).toEqual([401, 'ERR_NO_TOKENS'])
    expect(await server.isActive(login.refresh_token)).toBe(false)
  })

  it('S5 a request that asks for nothing: no session is made, and the session is not read', async () => {
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

  it('mounted twice, for two authorization servers: neither sees the tokens of the other', async () => {
    const page = await visit((app) => {
      app.use(sessions(), express.json())
      app.use(tokens())
      app.use(tokens({ property: 'other', sessionKey: 'other', clientId: 'another' }))
      const of = (request: Request, name: string) => request[name as 'tokens']
      app.post(
        '/login/:name',
        handling((request) => of(request, String(request.params.name)).set(request.body)),
      )
      app.get(
        '/token/:name',
        handling((request) => of(request, String(request.params.name)).getAccessToken()),
      )
    })
    await page.post('/login/tokens', { access_token: 'one', expires_in: 3600 })
    expect((await page.get('/token/tokens')).json.token).toBe('one')
    expect((await page.get('/token/other')).json.code).toBe('ERR_NO_TOKENS')
    await page.post('/login/other', { access_token: 'two', expires_in: 3600 })
    expect((await page.get('/token/tokens')).json.token).toBe('one')
    expect((await page.get('/token/other')).json.token).toBe('two')
  })

  describe('mounted twice, for two authorization servers but with one sessionKey', () => {
    const cure = /under the same session key, `tokens`.*another `sessionKey`/

    it('says so at the first request that reaches both', async () => {
      const page = await visit((app) => {
        app.use(sessions(), tokens(), tokens({ property: 'other', clientId: 'another' }))
        app.get(
          '/',
          handling(() => 'fine'),
        )
      })
      const answer = await page.get('/')
      expect([answer.status, answer.json.code]).toEqual([500, 'ERR_CONFIGURATION'])
      expect(answer.json.message).toMatch(cure)
    })

    it('says so at each request to the second of two paths', async () => {
      const page = await visit((app) => {
        app.use(sessions())
        for (const name of ['one', 'two'])
          app.get(
            `/${name}`,
            tokens({ clientId: name }),
            handling(({ tokens }) => tokens.hasTokens()),
          )
      })
      const statuses = []
      for (const path of ['/one', '/two', '/one', '/two']) statuses.push((await page.get(path)).status)
      expect(statuses).toEqual([200, 500, 200, 500])
    })

    it('but over two session stores is fine', async () => {
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

    it('and the first one closed: the second takes over', async () => {
      const first = tokens({ clientId: 'one' })
      const page = await visit((app) => {
        app.use(sessions())
        app.get(
          '/one',
          first,
          handling(({ tokens }) => tokens.hasTokens()),
        )
        app.get(
          '/two',
          tokens({ clientId: 'two' }),
          handling(({ tokens }) => tokens.hasTokens()),
        )
      })
      await page.get('/one')
      await first.close()
      expect((await page.get('/two')).status).toBe(200)
    })
  })

  it('mounted on a path: other paths have no tokens', async () => {
    const page = await visit((app) => {
      app.use(sessions())
      app.use('/api', tokens())
      app.get(
        ['/', '/api'],
        handling(({ tokens }) => tokens !== undefined),
      )
    })
    expect((await page.get('/')).json).toBe(false)
    expect((await page.get('/api')).json).toBe(true)
  })

  it('tells each request its own user', async () => {
    const page = await visit((app) => {
      app.use(sessions(), tokens(), express.json())
      app.post(
        '/login',
        handling(({ tokens, body }) => tokens.set(body)),
      )
      app.get(
        '/token',
        handling(({ tokens }) => tokens.getAccessToken()),
      )
    })
    const other = page.clone()
    await page.post('/login', { access_token: 'mine', expires_in: 3600 })
    await other.post('/login', { access_token: 'theirs', expires_in: 3600 })
    const answers = await Promise.all([page.get('/token'), other.get('/token'), page.get('/token')])
    expect(answers.map(({ json }) => json.token)).toEqual(['mine', 'theirs', 'mine'])
  })
})
