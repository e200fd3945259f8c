import { once } from 'node:events'
import { type IncomingMessage, request as sendRequest } from 'node:http'
import { text } from 'node:stream/consumers'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from '@jest/globals'
import type { ErrorRequestHandler, RequestHandler } from 'express'
import { decodeJwt } from 'jose'
import { ConfigurationError, type RequireTokensOptions, requireTokens } from '../../lib/index.js'
import { expressVersions } from '../helpers/app.js'
import { type AuthorizationServer, startAuthorizationServer } from '../helpers/authorization-server.js'
import type { Browser } from '../helpers/browser.js'
import { type Site, startSite } from '../helpers/site.js'
import { json, wireServer } from '../helpers/wire-server.js'

const HOUR_MS = 3_600_000
const PAGE = { accept: 'text/html,application/xhtml+xml,*/*;q=0.8', 'sec-fetch-mode': 'navigate' }
const OLD_PAGE = { accept: 'text/html,*/*' }
const FETCH = { accept: '*/*', 'sec-fetch-mode': 'cors' }

let server: AuthorizationServer
beforeAll(async () => {
  server = await startAuthorizationServer()
})
afterAll(() => server.close())

describe.each(expressVersions)('requireTokens(options), %s', (_, express) => {
  let site: Site
  let browser: Browser

  beforeEach(async () => {
    site = await startSite(server, { express })
    browser = site.browser()
  })
  afterEach(() => site.close())

  /** Handles a path behind a guard; the handler answers with the token it finds without asking for anything. */
  function guard(path: string, options?: RequireTokensOptions): { ran: () => number } {
    let ran = 0
    const handler: RequestHandler = (request, response, next) => {
      ran += 1
      request.tokens.getAccessToken().then((token) => response.json(token), next)
    }
    site.app.use(path, requireTokens(options), handler)
    site.app.use(((error, _request, response, next) => {
      if (response.headersSent) next(error)
      else response.status(error.status).json({ code: error.code, message: error.message })
    }) as ErrorRequestHandler)
    return { ran: () => ran }
  }

  /** Asks with exactly these headers (`fetch` adds some of its own) and for exactly this target. */
  async function ask(target: string, headers: Record<string, string> = {}, method = 'GET') {
    const { hostname, port } = new URL(site.url)
    const cookie = browser.cookie('connect.sid')
    const cookies = cookie === undefined ? {} : { cookie: `connect.sid=${cookie}` }
    const request = sendRequest({ hostname, port, path: target, method, headers: { ...headers, ...cookies } })
    const [answer] = (await once(request.end(), 'response')) as [IncomingMessage]
    const body = await text(answer)
    return { status: answer.statusCode, headers: answer.headers, text: body, json: () => JSON.parse(body) }
  }

  describe('with tokens', () => {
    it('the handler runs with a fresh token', async () => {
      guard('/orders')
      await site.login(browser)
      const first = await browser.get('/orders')
      expect(first.status).toBe(200)
      site.clock.advance(HOUR_MS)
      const second = await browser.get('/orders')
      expect(second.status).toBe(200)
      expect(second.json.token).not.toBe(first.json.token)
    })

    it('S72 each route has the token that it asks for, in the handler and in axios', async () => {
      const [orders, files] = ['https://orders.example', 'https://files.example']
      const api = await wireServer((request, response) => json(response, request.headers.authorization))
      guard('/orders', { resource: orders, scope: 'orders.read' })
      guard('/files', { resource: files })
      guard('/scope', { scope: 'orders.write' })
      guard('/any')
      site.app.get(
        '/api',
        requireTokens({ resource: orders, scope: 'orders.read' }),
        (request, response, next) => {
          const call = request.tokens.axios({ baseURL: api.url }).get('/')
          call.then(({ data }) => response.json(data), next)
        },
      )
      await site.login(browser, 'user', { resource: [orders, files] })
      const before = server.refreshes()
      const tokens = [
        await browser.get('/orders'),
        await browser.get('/files'),
        await browser.get('/any'),
      ].map(({ json }) => json)
      expect(tokens.slice(0, 2).map(({ token }) => decodeJwt(token))).toMatchObject([
        { aud: orders, scope: 'orders.read' },
        { aud: files },
      ])
      expect(new Set(tokens.map(({ token }) => token)).size).toBe(3)
      expect((await browser.get('/scope')).json.token).toBe(tokens[2].token)
      expect((await browser.get('/api')).json).toBe(`Bearer ${tokens[0].token}`)
      // Asked for again, they are at hand.
      expect((await browser.get('/orders')).json).toEqual(tokens[0])
      expect((await browser.get('/files')).json).toEqual(tokens[1])
      expect(server.refreshes() - before).toBe(2)
      expect(site.store.count('get')).toBeGreaterThan(0)
      await api.close()
    })

    it('S72 what the handler asks for itself goes before what the route asks for', async () => {
      const resource = 'https://orders.example'
      site.app.get('/own', requireTokens({ resource }), (request, response, next) => {
        const asked = [
          request.tokens.getAccessToken(),
          request.tokens.getAccessToken({ scope: 'orders.read' }),
        ]
        Promise.all(asked).then((tokens) => response.json(tokens), next)
      })
      await site.login(browser, 'user', { resource })
      const [ofRoute, own] = (await browser.get('/own')).json
      expect(decodeJwt(ofRoute.token).aud).toBe(resource)
      expect(own.token).not.toBe(ofRoute.token)
    })

    it('minValidityMs: a token that lives shorter is refreshed', async () => {
      guard('/long', { minValidityMs: HOUR_MS / 2 })
      await site.login(browser)
      const first = (await browser.get('/long')).json.token
      site.clock.advance(HOUR_MS * 0.45)
      expect((await browser.get('/long')).json.token).toBe(first)
      site.clock.advance(HOUR_MS * 0.1)
      expect((await browser.get('/long')).json.token).not.toBe(first)
    })
  })

  describe('S74 without tokens', () => {
    it.each<[string, Record<string, string>]>([
      ['a page of a browser', PAGE],
      ['a page of an old browser', OLD_PAGE],
    ])('%s is sent to the login, with its return path', async (_, headers) => {
      const { ran } = guard('/orders', { loginPath: '/sign-in' })
      const answer = await ask('/orders/7?open=1&page=a%20b', headers)
      expect(answer.status).toBe(302)
      expect(answer.headers.location).toBe('/sign-in?returnTo=%2Forders%2F7%3Fopen%3D1%26page%3Da%2520b')
      expect(answer.headers['cache-control']).toBe('no-store')
      expect(ran()).toBe(0)
    })

    it.each<[string, Record<string, string>, string, RequireTokensOptions]>([
      ['a call of a script', FETCH, 'GET', { loginPath: '/sign-in' }],
      ['a call of a script for HTML', { ...FETCH, accept: 'text/html' }, 'GET', { loginPath: '/sign-in' }],
      ['a call of an old script', { accept: 'application/json, */*' }, 'GET', { loginPath: '/sign-in' }],
      ['a call of a program', {}, 'GET', { loginPath: '/sign-in' }],
      ['a form that is posted', PAGE, 'POST', { loginPath: '/sign-in' }],
      ['a page, without loginPath', PAGE, 'GET', {}],
    ])('%s gets 401 and a problem body', async (_, headers, method, options) => {
      const { ran } = guard('/orders', options)
      const answer = await ask('/orders', headers, method)
      expect(answer.status).toBe(401)
      expect(answer.headers['content-type']).toBe('application/problem+json')
      expect(answer.headers['cache-control']).toBe('no-store')
      expect(answer.headers.location).toBeUndefined()
      expect(answer.json()).toEqual({
        type: 'about:blank',
        title: 'Unauthorized',
        status: 401,
        detail: 'Log in first.',
      })
      expect(ran()).toBe(0)
    })

    it('a user whose grant is dead is sent to the login too', async () => {
      const { ran } = guard('/orders', { loginPath: '/sign-in' })
      await site.login(browser)
      site.clock.advance(HOUR_MS)
      server.failNext('invalid_grant')
      expect((await ask('/orders', PAGE)).headers.location).toBe('/sign-in?returnTo=%2Forders')
      expect((await ask('/orders', FETCH)).status).toBe(401)
      expect(ran()).toBe(0)
    })

    it('another parameter, and a login elsewhere that has parameters of its own', async () => {
      guard('/orders', { loginPath: 'https://login.example/?client=web', returnToParameter: 'next' })
      const { headers } = await ask('/orders', PAGE)
      expect(headers.location).toBe('https://login.example/?client=web&next=%2Forders')
    })

    it('the return path is that of the whole app, not of a router', async () => {
      const router = express.Router()
      router.get('/orders', requireTokens({ loginPath: '/sign-in' }))
      site.app.use('/shop', router)
      const { headers } = await ask('/shop/orders', PAGE)
      expect(headers.location).toBe('/sign-in?returnTo=%2Fshop%2Forders')
    })

    it.each([
      '//evil.example/x',
      '///evil.example/x',
      '/\\evil.example/x',
      '/\\/evil.example/x',
      'http://evil.example/x',
      'https://evil.example/x',
      'HTTPS://evil.example/x',
      '/.//evil.example/x',
      '/%5Cevil.example/x',
      '/%2Fevil.example/x',
      '/%0D%0ALocation:%20https://evil.example/',
      '/x?returnTo=https://evil.example/',
    ])('a request target of %s sends nobody to another host', async (target) => {
      guard('/', { loginPath: '/sign-in' })
      const answer = await ask(target, PAGE)
      expect(answer.status).toBe(302)
      const location = new URL(answer.headers.location!, site.url)
      expect([location.origin, location.pathname]).toEqual([site.url, '/sign-in'])
      expect([...location.searchParams.keys()]).toEqual(['returnTo'])
      const returnTo = new URL(location.searchParams.get('returnTo')!, site.url)
      expect(returnTo.origin).toBe(site.url)
    })
  })

  describe('other failures', () => {
    it('503 goes to the error handler, and the user stays logged in', async () => {
      const { ran } = guard('/orders', { loginPath: '/sign-in' })
      await site.login(browser)
      site.clock.advance(HOUR_MS)
      server.failNext(503)
      const answer = await ask('/orders', PAGE)
      expect([answer.status, answer.json().code]).toEqual([503, 'ERR_TOKEN_ENDPOINT_UNAVAILABLE'])
      expect(ran()).toBe(0)
      site.clock.advance(7_000)
      expect((await ask('/orders', PAGE)).status).toBe(200)
    })

    it('a failure of the handler is the app’s own', async () => {
      site.app.get('/broken', requireTokens({ loginPath: '/sign-in' }), () => {
        throw Object.assign(new Error('broken'), { status: 401 })
      })
      await site.login(browser)
      const answer = await ask('/broken', PAGE)
      expect([answer.status, answer.headers.location]).toEqual([401, undefined])
      expect(answer.text).toContain('broken')
    })

    it.each([
      ['of the default name', {}, 'tokens', { property: 'oauth' }],
      ['of another name', { property: 'other' }, 'other', {}],
    ])('no sessionTokens() %s in front: ERR_CONFIGURATION', async (_, options, property, tokens) => {
      await site.close()
      site = await startSite(server, { express, tokens })
      browser = site.browser()
      guard('/orders', { loginPath: '/sign-in', ...options })
      const answer = await ask('/orders', PAGE)
      expect([answer.status, answer.json().code]).toEqual([500, 'ERR_CONFIGURATION'])
      expect(answer.json().message).toBe(
        `req.${property} is missing. Mount sessionTokens() before requireTokens().`,
      )
    })
  })

  it('property: guards with the tokens of that name', async () => {
    await site.close()
    site = await startSite(server, { express, tokens: { property: 'oauth', sessionKey: 'oauth' } })
    site.app.get('/orders', requireTokens({ property: 'oauth' }), (_request, response) => {
      response.end('orders')
    })
    site.handle('/login', (request) =>
      (request as unknown as { oauth: typeof request.tokens }).oauth.set(request.body),
    )
    browser = site.browser()
    expect((await browser.get('/orders')).status).toBe(401)
    await site.login(browser)
    expect((await browser.get('/orders')).text).toBe('orders')
  })
})

describe('requireTokens(options)', () => {
  it.each<[string, object, string]>([
    ['scopes', { scopes: 'a' }, 'requireTokens() has no option `scopes`. Did you mean `scope`?'],
    ['ressource', { ressource: 'a' }, 'Did you mean `resource`?'],
    ['loginUrl', { loginpath: '/login' }, 'Did you mean `loginPath`?'],
    ['returnTo', { returnToParam: 'x' }, 'Did you mean `returnToParameter`?'],
    ['rejected', { rejected: 'token' }, 'requireTokens() has no option `rejected`'],
  ])('refuses the unknown option %s and names the cure', (_, options, message) => {
    expect(() => requireTokens(options)).toThrow(ConfigurationError)
    expect(() => requireTokens(options)).toThrow(message)
  })

  it.each([
    '',
    'login',
    '//evil.example',
    '/\\evil.example',
    'http://login.example',
    'javascript:x',
    'https://',
    'https:///login',
    'https:\\\\login.example',
    'https://?client=web',
    'https://login example/',
    5,
    null,
    ['/login'],
  ])('refuses the loginPath %p', (loginPath) => {
    const message = "`loginPath` must be a path such as '/login', or an absolute https URL."
    expect(() => requireTokens({ loginPath: loginPath as string })).toThrow(ConfigurationError)
    expect(() => requireTokens({ loginPath: loginPath as string })).toThrow(message)
  })

  it.each([null, 'orders.read', 5, true, () => {}])('refuses %p instead of an object', (options) => {
    const message = "requireTokens() takes an object: requireTokens({ loginPath: '/login' })."
    expect(() => requireTokens(options as object)).toThrow(new ConfigurationError(message))
    expect(() => requireTokens(options as object)).toThrow(ConfigurationError)
  })

  const notTexts = ['', null, 5, ['a'], {}]

  describe.each(['scope', 'resource', 'returnToParameter'])('%s', (name) => {
    it.each([...notTexts, ' '])('refuses %p', (value) => {
      const make = () => requireTokens({ [name]: value })
      expect(make).toThrow(ConfigurationError)
      expect(make).toThrow(`\`${name}\` must be a string that is not empty, e.g. ${name}: '`)
    })
  })

  it.each(notTexts)('refuses the property %p', (property) => {
    const make = () => requireTokens({ property: property as string })
    expect(make).toThrow(ConfigurationError)
    expect(make).toThrow("`property` must be a name, e.g. property: 'tokens'.")
  })

  it('refuses a property that no sessionTokens() can have', () => {
    expect(() => requireTokens({ property: 'session' })).toThrow("`property` must not be 'session'")
  })

  it.each([NaN, -1, Infinity, '60000', null, 1n])('refuses the minValidityMs %p', (minValidityMs) => {
    const make = () => requireTokens({ minValidityMs: minValidityMs as number })
    expect(make).toThrow(ConfigurationError)
    expect(make).toThrow(
      '`minValidityMs` must be a number of milliseconds from 0, e.g. minValidityMs: 60000.',
    )
  })

  it.each([
    undefined,
    {},
    { minValidityMs: 0 },
    { scope: undefined, loginPath: undefined, property: undefined },
    { scope: 'a b', resource: 'https://api.example.com', returnToParameter: 'next', property: 'oauth' },
  ] as (RequireTokensOptions | undefined)[])('takes %j', (options) => {
    expect(requireTokens(options)).toHaveLength(3)
  })

  it.each(['/', '/login', '/login?x=1', 'https://login.example/'])('takes the loginPath %p', (loginPath) => {
    expect(requireTokens({ loginPath })).toHaveLength(3)
  })
})
