import { setTimeout as delay } from 'node:timers/promises'
import { inspect } from 'node:util'
import { afterAll, afterEach, describe, expect, it, jest } from '@jest/globals'
import cookieSession from 'cookie-session'
import express, { type Express, type Request, type RequestHandler } from 'express'
import { getIronSession } from 'iron-session'
import { GrantRegistry } from '../../lib/grants/grant-registry.js'
import {
  clientSecretBasic,
  memoryGrantStore,
  type SessionTokensOptions,
  type TokenEvent,
} from '../../lib/index.js'
import { composeMiddleware } from '../../lib/middleware/composition.js'
import { middlewareOf } from '../../lib/middleware/express.js'
import { startApp } from '../helpers/app.js'
import { startAuthorizationServer } from '../helpers/authorization-server.js'
import { type Browser, browser } from '../helpers/browser.js'
import { type TestClock, testClock } from '../helpers/clock.js'
import { keepingEvents } from '../helpers/events.js'
import { eventually } from '../helpers/fleet-expectations.js'
import { createGate, type Gate } from '../helpers/gate.js'
import { newsHub } from '../helpers/news-hub.js'

const HOUR_MS = 3_600_000
const encryptionKeys = ['UUa2j3oVjRk0c8Zs9CLtEz3uJgQmA7rS7T1a0YbKx5c=']
const password = 'a password of iron-session with more than 32 characters'

const layers: [name: string, cookie: string, middleware: () => RequestHandler][] = [
  ['cookie-session', 'session', () => cookieSession({ keys: ['key'] })],
  [
    'iron-session',
    'iron',
    () => async (request, response, next) => {
      const options = { password, cookieName: 'iron', cookieOptions: { secure: false } }
      Object.assign(request, { session: await getIronSession(request, response, options) })
      next()
    },
  ],
]

const server = await startAuthorizationServer()
const running: { close(): Promise<void> }[] = []
afterEach(async () => {
  await Promise.all(running.splice(0).map((it) => it.close()))
  expect(server.reuses()).toBe(0)
})
afterAll(() => server.close())

interface CookieSite {
  readonly url: string
  readonly app: Express
  readonly clock: TestClock
  readonly events: TokenEvent[]
  /** What the app's error handler got. */
  readonly errors: unknown[]
}

async function start(layer: RequestHandler, tokens: Partial<SessionTokensOptions> = {}): Promise<CookieSite> {
  const errors: unknown[] = []
  const clock = testClock()
  const events: TokenEvent[] = []
  const { clientId, clientSecret } = server.clients.client_secret_basic
  const { tokenEndpoint, revocationEndpoint } = server
  const mounted = composeMiddleware(
    {
      ...{ tokenEndpoint, revocationEndpoint, clientId, encryptionKeys },
      clientAuthentication: clientSecretBasic(clientSecret),
      onEvent: keepingEvents(events),
      ...tokens,
    } as SessionTokensOptions,
    { clock, registry: new GrantRegistry(clock), grants: memoryGrantStore() },
  )
  const middleware = middlewareOf(mounted)
  const app = express()
  app.set('env', 'test')
  app.use(layer, middleware, express.json({ limit: '1mb' }))
  const answering =
    (work: (request: Request) => unknown): RequestHandler =>
    async (request, response) => {
      response.json((await work(request)) ?? null)
    }
  app.get(
    '/token',
    answering(({ tokens, query }) => tokens.getAccessToken(query)),
  )
  app.get(
    '/plain',
    answering(() => undefined),
  )
  app.post(
    '/login',
    answering(({ tokens, body }) => tokens.set(body)),
  )
  app.post(
    '/logout',
    answering(({ tokens }) => tokens.revoke()),
  )
  app.get('/streamed', async ({ tokens }, response) => {
    response.write('begun ')
    const outcome = await tokens.getAccessToken().then(
      () => 'token',
      (error) => error.code,
    )
    response.end(outcome)
  })
  app.use(((error, _request, response, _next) => {
    errors.push(error)
    response.status(error.status ?? 500).json({ code: error.code, message: error.message })
  }) as express.ErrorRequestHandler)
  const { url, close } = await startApp(() => app)
  running.push({ close }, { close: () => middleware.close() })
  return { url, app, clock, events, errors }
}

async function loggedIn({ url }: CookieSite): Promise<Browser> {
  const tab = browser(url)
  expect((await tab.post('/login', await server.login('alice'))).status).toBe(200)
  return tab
}

/** Another browser with the cookies of this moment. */
function copyOf(tab: Browser, { url }: CookieSite, cookie: string): Browser {
  const visitor = browser(url)
  for (const name of [cookie, `${cookie}.sig`]) {
    const value = tab.cookie(name)
    if (value !== undefined) visitor.setCookie(name, value)
  }
  return visitor
}

describe.each(layers)('%s', (_, cookie, layer) => {
  it('S2 an expired token is refreshed once, and the cookie brings the new tokens', async () => {
    const site = await start(layer())
    const tab = await loggedIn(site)
    const before = tab.cookie(cookie)
    const refreshes = server.refreshes()
    site.clock.advance(HOUR_MS)
    const first = await tab.get('/token')
    expect(first.status).toBe(200)
    expect(tab.cookie(cookie)).not.toBe(before)
    expect((await tab.get('/token')).json.token).toBe(first.json.token)
    expect(server.refreshes() - refreshes).toBe(1)
  })

  it('S1 S5 a valid token, and a request that uses no token, set no cookie', async () => {
    const site = await start(layer())
    const tab = await loggedIn(site)
    for (const path of ['/token', '/plain']) {
      expect((await tab.get(path)).headers.get('set-cookie')).toBeNull()
    }
  })

  it('S10 50 parallel requests: 1 refresh, and every response brings the new tokens', async () => {
    const site = await start(layer())
    const tab = await loggedIn(site)
    const refreshes = server.refreshes()
    site.clock.advance(HOUR_MS)
    const visitors = Array.from({ length: 50 }, () => copyOf(tab, site, cookie))
    const answers = await Promise.all(visitors.map((visitor) => visitor.get('/token')))
    expect(new Set(answers.map(({ json }) => json.token)).size).toBe(1)
    expect(answers.every(({ headers }) => headers.get('set-cookie') !== null)).toBe(true)
    expect(server.refreshes() - refreshes).toBe(1)
  })

  it('S12 S13 a request with the cookie from two refreshes ago gets the newest tokens, and its cookie is repaired', async () => {
    const site = await start(layer())
    const tab = await loggedIn(site)
    const old = copyOf(tab, site, cookie)
    for (let n = 0; n < 2; n++) {
      site.clock.advance(HOUR_MS)
      await tab.get('/token')
    }
    const refreshes = server.refreshes()
    expect((await old.get('/token')).json.token).toBe((await tab.get('/token')).json.token)
    expect(server.refreshes()).toBe(refreshes)
    const newest = await copyOf(old, site, cookie).get('/token')
    expect(newest.headers.get('set-cookie')).toBeNull()
  })

  it('S27 a refresh that could not be sent back is rejected before the refresh token is spent', async () => {
    const site = await start(layer())
    const tab = await loggedIn(site)
    const refreshes = server.refreshes()
    site.clock.advance(HOUR_MS)
    expect((await tab.get('/streamed')).text).toBe('begun ERR_HEADERS_SENT')
    expect(server.refreshes()).toBe(refreshes)
    expect((await tab.get('/token')).status).toBe(200)
  })

  it('S27 with a shared grant store it is made, and the next request has its result', async () => {
    const memory = memoryGrantStore()
    const methods = ['lease', 'renew', 'commit', 'release', 'read', 'end'] as const
    const grants = Object.fromEntries(methods.map((method) => [method, memory[method].bind(memory)]))
    const site = await start(layer(), { grants: grants as never })
    const tab = await loggedIn(site)
    const refreshes = server.refreshes()
    site.clock.advance(HOUR_MS)
    expect((await tab.get('/streamed')).text).toBe('begun token')
    expect((await tab.get('/token')).status).toBe(200)
    expect(server.refreshes() - refreshes).toBe(1)
  })

  it('S27 what a failing grant store refused after the response is stored there later, and that is all', async () => {
    const { calls, forget, store } = newsHub().connect()
    const site = await start(layer(), { grants: store })
    const tab = await loggedIn(site)
    site.clock.advance(HOUR_MS)
    const away = jest.spyOn(store, 'commit').mockRejectedValue(new Error('down'))
    expect((await tab.get('/streamed')).text).toBe('begun token')
    away.mockRestore()
    await eventually(async () => expect(site.events.at(-1)?.type).toBe('tokens_stored_again'))
    forget()
    // From now on only the last commit is read again, every two seconds.
    await delay(1_800)
    expect(calls).not.toContain('read')
    expect((await tab.get('/token')).status).toBe(200)
  })

  it('S35 S36 after a logout the old cookie is of no use', async () => {
    const site = await start(layer())
    const tab = await loggedIn(site)
    const old = copyOf(tab, site, cookie)
    expect((await tab.post('/logout', {})).status).toBe(200)
    expect((await tab.get('/token')).status).toBe(401)
    expect((await old.get('/token')).status).toBe(401)
  })

  it('mounted twice with one sessionKey, for two clients: the second says so', async () => {
    const first = composeMiddleware({
      ...{ issuer: server.issuer, clientId: 'another', encryptionKeys, property: 'other' },
      clientAuthentication: clientSecretBasic('secret'),
    })
    const both = express.Router().use(layer(), middlewareOf(first))
    const site = await start(both)
    const { json } = await browser(site.url).get('/token')
    expect(json.code).toBe('ERR_CONFIGURATION')
    expect(json.message).toMatch(/under the same session key, `tokens`.*another `sessionKey`/)
  })

  it('a login that does not fit into a cookie is rejected, and no cookie is sent', async () => {
    const site = await start(layer())
    const tab = browser(site.url)
    const answer = await tab.post('/login', {
      ...(await server.login('alice')),
      id_token: `x.${'y'.repeat(5_000)}.z`,
    })
    expect(answer.json.code).toBe('ERR_SESSION_TOO_LARGE')
    expect(answer.json.message).toMatch(/\d{4,} bytes.*keep: 'store' .*grants: redisGrantStore\(client\)/s)
    expect((await tab.get('/token')).status).toBe(401)
  })

  it("keep: 'store' makes it fit", async () => {
    const site = await start(layer(), { keep: 'store', grants: memoryGrantStore() })
    const tab = browser(site.url)
    const login = { ...(await server.login('alice')), id_token: `x.${'y'.repeat(5_000)}.z` }
    expect((await tab.post('/login', login)).status).toBe(200)
    site.clock.advance(HOUR_MS)
    expect((await tab.get('/token')).status).toBe(200)
    expect(tab.cookie(cookie)!.length).toBeLessThan(1_500)
  })
})

it('S62 cookie-session without an encryption key is rejected at first use', async () => {
  const site = await start(cookieSession({ keys: ['key'] }), { encryptionKeys: undefined } as never)
  const tab = browser(site.url)
  expect((await tab.get('/plain')).status).toBe(200)
  const answer = await tab.post('/login', await server.login('alice'))
  expect([answer.status, answer.json.code]).toEqual([500, 'ERR_CONFIGURATION'])
  expect(answer.json.message).toContain('encryptionKeys')
})

it('S61 no token can be read in a cookie', async () => {
  const site = await start(cookieSession({ keys: ['key'] }))
  const tab = browser(site.url)
  const login = (await server.login('alice')) as { access_token: string; refresh_token: string }
  await tab.post('/login', login)
  const session = Buffer.from(tab.cookie('session')!, 'base64').toString()
  for (const text of [
    session,
    ...session.split('.').map((part) => Buffer.from(part, 'base64url').toString('latin1')),
  ]) {
    expect(text).not.toContain(login.access_token)
    expect(text).not.toContain(login.refresh_token)
  }
})

it('without a session, the error names the session layers that may be used', async () => {
  const site = await start((_request, _response, next) => next())
  const { status, json } = await browser(site.url).get('/token')
  expect([status, json.code]).toEqual([500, 'ERR_CONFIGURATION'])
  for (const layer of ['express-session', 'cookie-session', 'iron-session', 'the option `session`']) {
    expect(json.message).toContain(layer)
  }
})

describe('a session layer of the app', () => {
  const sessions = new Map<string, string>()
  const own = (request: Request) => {
    const user = request.get('x-user') ?? 'nobody'
    return {
      read: () => sessions.get(user),
      write: (text: string) => void sessions.set(user, text),
      clear: () => void sessions.delete(user),
    }
  }
  const plain: RequestHandler = (_request, _response, next) => next()

  it.each([
    ['at once', own],
    ['by and by', async (request: Request) => own(request)],
  ])('keeps the tokens, found %s', async (_, session) => {
    const site = await start(plain, { session } as never)
    const tab = await loggedIn(site)
    const refreshes = server.refreshes()
    site.clock.advance(HOUR_MS)
    const [first, second] = await Promise.all([tab.get('/token'), tab.get('/token')])
    expect(first.json.token).toBe(second.json.token)
    expect(server.refreshes() - refreshes).toBe(1)
    expect(sessions.size).toBe(1)
    await tab.post('/logout', {})
    expect(sessions.size).toBe(0)
    expect((await tab.get('/token')).status).toBe(401)
  })

  it.each([
    ['that is a text', () => 'session', 'read()'],
    ['without all its methods', () => ({ read: () => undefined, write() {} }), 'clear()'],
  ])('%s: the error names the cure', async (_, session, missing) => {
    const site = await start(plain, { session } as never)
    const answer = await browser(site.url).get('/token')
    expect([answer.status, answer.json.code]).toEqual([500, 'ERR_CONFIGURATION'])
    expect(answer.json.message).toContain(
      `has no method ${missing}. The option must return { read, write, clear }`,
    )
  })

  it.each([undefined, null])(
    'without a session (%p): no user is logged in, and a login fails',
    async (none) => {
      const site = await start(plain, { session: async () => none } as never)
      const tab = browser(site.url)
      expect((await tab.get('/token')).json.code).toBe('ERR_NO_TOKENS')
      const answer = await tab.post('/login', await server.login('user'))
      expect([answer.status, answer.json.code]).toEqual([500, 'ERR_CONFIGURATION'])
      expect(answer.json.message).toContain('There is no session to put the tokens in')
      expect((await tab.post('/logout', {})).status).toBe(200)
    },
  )

  it('is found by whatever can be waited for', async () => {
    const thenable = (request: Request) => ({
      // biome-ignore lint/suspicious/noThenProperty: what database clients answer with
      then: (resolve: (session: unknown) => void) => resolve(own(request)),
    })
    const site = await start(plain, { session: thenable } as never)
    const tab = await loggedIn(site)
    expect((await tab.get('/token')).status).toBe(200)
    await tab.post('/logout', {})
  })

  it.each([
    ['a promise', async () => undefined],
    ['a promise that rejects', () => Promise.reject(new Error('no database'))],
    ['a value that is not a string', () => Buffer.from('text')],
  ])(
    'whose read() returns %s: the error names the cure, and the user does not count as logged out',
    async (_, read) => {
      const session = () => ({ read, write: () => {}, clear: () => {} })
      const site = await start(plain, { session } as never)
      const answer = await browser(site.url).get('/token')
      expect([answer.status, answer.json.code]).toEqual([500, 'ERR_CONFIGURATION'])
      expect(answer.json.message).toContain('session: async (request) =>')
    },
  )

  it.each([null, ''])('whose read() returns %j has no tokens', async (nothing) => {
    const session = () => ({ read: () => nothing, write: () => {}, clear: () => {} })
    const site = await start(plain, { session } as never)
    expect((await browser(site.url).get('/token')).json.code).toBe('ERR_NO_TOKENS')
  })

  it('whose read() throws: the error does not show the message', async () => {
    const read = () => {
      throw new Error('row: secret-token')
    }
    const site = await start(plain, { session: () => ({ read, write: () => {}, clear: () => {} }) } as never)
    const answer = await browser(site.url).get('/token')
    expect([answer.status, answer.json.code]).toEqual([503, 'ERR_SESSION_STORE'])
    expect(site.errors.map((error) => inspect(error, { depth: 20 })).join()).not.toContain('secret-token')
  })

  it.each([
    ['whose read() fails at a logout', { read: () => Promise.reject(new Error('no database')) }],
    ['whose clear() fails once at a logout', {}],
  ])('I4 %s: the error is reported if necessary, and no copy is left', async (_, failing) => {
    let clears = 0
    let fails = false
    const session = (request: Request) => ({
      ...own(request),
      ...(fails && {
        ...failing,
        clear: async () => {
          if (++clears === 1) throw new Error('no database')
          own(request).clear()
        },
      }),
    })
    const site = await start(plain, { session } as never)
    const tab = await loggedIn(site)
    fails = true
    await tab.post('/logout', {})
    expect(sessions.size).toBe(0)
    fails = false
    expect((await tab.get('/token')).status).toBe(401)
  })

  it('I5 whose write() hangs delays no caller for longer than timeoutMs, and the tokens are kept', async () => {
    let gate: Gate | undefined
    const session = (request: Request) => ({
      ...own(request),
      write: (text: string) => gate?.pass() ?? own(request).write(text),
    })
    const site = await start(plain, { session, timeoutMs: 1_000 } as never)
    const tab = await loggedIn(site)
    const refreshes = server.refreshes()
    site.clock.advance(HOUR_MS)
    gate = createGate()
    const first = await tab.get('/token')
    const second = await tab.get('/token')
    gate.release()
    expect([first.status, second.json.token]).toEqual([200, first.json.token])
    expect(server.refreshes() - refreshes).toBe(1)
    await tab.post('/logout', {})
  })

  it('whose search fails fails the request', async () => {
    const site = await start(plain, { session: () => Promise.reject(new Error('no database')) } as never)
    expect((await browser(site.url).get('/plain')).status).toBe(500)
  })
})
