import { beforeEach, describe, expect, it } from '@jest/globals'
import { decodeJwt } from 'jose'
import type { RequireTokensOptions, SessionTokensOptions } from '../../lib/index.js'
import type { Browser } from '../helpers/browser.js'
import { type TestClock, testClock } from '../helpers/clock.js'
import { rawRequest } from '../helpers/raw-request.js'
import { ownProcess } from '../helpers/site.js'
import { json, wireServer } from '../helpers/wire-server.js'
import type { FrameworkApp, FrameworkDriver, FrameworkHandler } from './framework-driver.js'
import { frameworkApps } from './framework-tests.js'

const HOUR_MS = 3_600_000
const PAGE = { accept: 'text/html,application/xhtml+xml,*/*;q=0.8', 'sec-fetch-mode': 'navigate' }
const OLD_PAGE = { accept: 'text/html,*/*' }
const FETCH = { accept: '*/*', 'sec-fetch-mode': 'cors' }

/** What `requireTokens()` does in every framework. */
export function describeRequireTokens(driver: FrameworkDriver): void {
  describe(`requireTokens(options), ${driver.name}`, () => {
    const apps = frameworkApps(driver)
    let clock: TestClock
    let app: FrameworkApp
    let ran: number

    function start(options: Partial<SessionTokensOptions> = {}): void {
      clock = testClock()
      app = apps.app()
      ran = 0
      app.sessions()
      app.tokens(apps.options(options), { surroundings: ownProcess(clock) })
      app.handle('/login', (visit) => visit.tokensOf(options.property ?? 'tokens').set(visit.body))
    }
    beforeEach(() => start())

    /** A path behind a guard, whose handler answers with the token it finds without asking for anything. */
    function guard(path: string, options?: RequireTokensOptions, handler?: FrameworkHandler): void {
      app.guard(path, options)
      app.handle(path, (visit) => {
        ran += 1
        return handler ? handler(visit) : visit.tokens.getAccessToken()
      })
    }

    async function login(browser: Browser, ...request: Parameters<typeof apps.server.login>) {
      expect((await browser.post('/login', await apps.server.login(...request))).status).toBe(200)
    }

    /** Asks with exactly these headers, besides the session's cookies, and for exactly this target. */
    function ask(
      browser: Browser & { readonly url: string },
      target: string,
      headers: Record<string, string> = {},
      method?: string,
    ) {
      const cookie = driver.cookies.map((name) => `${name}=${browser.cookie(name) ?? ''}`).join('; ')
      return rawRequest(browser.url, target, { ...headers, cookie }, method)
    }

    describe('with tokens', () => {
      it('the handler runs with a fresh token', async () => {
        guard('/orders')
        const browser = await app.listen()
        await login(browser, 'user')
        const first = await browser.get('/orders')
        expect(first.status).toBe(200)
        clock.advance(HOUR_MS)
        const second = await browser.get('/orders')
        expect(second.status).toBe(200)
        expect(second.json.token).not.toBe(first.json.token)
        expect(ran).toBe(2)
      })

      it('S72 each route has the token that it asks for, in the handler and in axios', async () => {
        const [orders, files] = ['https://orders.example', 'https://files.example']
        const api = await wireServer((request, response) => json(response, request.headers.authorization))
        apps.closing(api.close)
        guard('/orders', { resource: orders, scope: 'orders.read' })
        guard('/files', { resource: files })
        guard('/scope', { scope: 'orders.write' })
        guard('/any')
        guard('/api', { resource: orders, scope: 'orders.read' }, async ({ tokens }) => {
          return (await tokens.axios({ baseURL: api.url }).get('/')).data
        })
        const browser = await app.listen()
        await login(browser, 'user', { resource: [orders, files] })
        const before = apps.server.refreshes()
        const tokens = []
        for (const path of ['/orders', '/files', '/any']) tokens.push((await browser.get(path)).json)
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
        expect(apps.server.refreshes() - before).toBe(2)
      })

      it('S72 what the handler asks for itself goes before what the route asks for', async () => {
        const resource = 'https://orders.example'
        guard('/own', { resource }, ({ tokens }) =>
          Promise.all([tokens.getAccessToken(), tokens.getAccessToken({ scope: 'orders.read' })]),
        )
        const browser = await app.listen()
        await login(browser, 'user', { resource })
        const [ofRoute, own] = (await browser.get('/own')).json
        expect(decodeJwt(ofRoute.token).aud).toBe(resource)
        expect(own.token).not.toBe(ofRoute.token)
      })

      it('S72 a guard that asks for nothing leaves what the one before it asked for', async () => {
        const resource = 'https://orders.example'
        guard('/orders', { resource })
        guard('/orders/open')
        const browser = await app.listen()
        await login(browser, 'user', { resource })
        expect(decodeJwt((await browser.get('/orders/open')).json.token).aud).toBe(resource)
      })

      it('S72 S15 audience goes to the token endpoint as it is, and its token is kept beside the others', async () => {
        const sent: (string | null)[] = []
        const endpoint = await wireServer((request, response) => {
          const form = new URLSearchParams(request.body)
          sent.push(form.get('audience'))
          const refreshToken = `${form.get('refresh_token')}+`
          json(response, {
            access_token: `for ${form.get('audience')}`,
            expires_in: 3600,
            refresh_token: refreshToken,
          })
        })
        apps.closing(endpoint.close)
        start({ issuer: undefined as never, tokenEndpoint: `${endpoint.url}/token` })
        guard('/billing', { audience: 'billing' })
        guard('/stock', { audience: 'stock' })
        guard('/any')
        const browser = await app.listen()
        await browser.post('/login', { access_token: 'login', expires_in: 3600, refresh_token: 'r' })
        const shown: unknown[] = []
        for (const path of ['/billing', '/stock', '/billing', '/any']) {
          shown.push((await browser.get(path)).json.token)
        }
        expect(shown).toEqual(['for billing', 'for stock', 'for billing', 'login'])
        expect(sent).toEqual(['billing', 'stock'])
      })

      it('minValidityMs: a token that lives shorter is refreshed', async () => {
        guard('/long', { minValidityMs: HOUR_MS / 2 })
        const browser = await app.listen()
        await login(browser, 'user')
        const first = (await browser.get('/long')).json.token
        clock.advance(HOUR_MS * 0.45)
        expect((await browser.get('/long')).json.token).toBe(first)
        clock.advance(HOUR_MS * 0.1)
        expect((await browser.get('/long')).json.token).not.toBe(first)
      })
    })

    describe('S74 without tokens', () => {
      it.each<[string, Record<string, string>]>([
        ['a page of a browser', PAGE],
        ['a page of an old browser', OLD_PAGE],
      ])('%s is sent to the login, with its return path', async (_, headers) => {
        guard('/orders', { loginPath: '/sign-in' })
        const answer = await ask(await app.listen(), '/orders/7?open=1&page=a%20b', headers)
        expect(answer.status).toBe(302)
        expect(answer.headers.location).toBe('/sign-in?returnTo=%2Forders%2F7%3Fopen%3D1%26page%3Da%2520b')
        expect(answer.headers['cache-control']).toBe('no-store')
        expect(answer.text).toBe('')
        expect(ran).toBe(0)
      })

      it.each<[string, Record<string, string>, string, RequireTokensOptions]>([
        ['a call of a script', FETCH, 'GET', { loginPath: '/sign-in' }],
        ['a call of a script for HTML', { ...FETCH, accept: 'text/html' }, 'GET', { loginPath: '/sign-in' }],
        ['a call of an old script', { accept: 'application/json, */*' }, 'GET', { loginPath: '/sign-in' }],
        ['a call of a program', {}, 'GET', { loginPath: '/sign-in' }],
        ['a form that is posted', PAGE, 'POST', { loginPath: '/sign-in' }],
        ['a page, without loginPath', PAGE, 'GET', {}],
      ])('%s gets 401 and a problem body', async (_, headers, method, options) => {
        guard('/orders', options)
        const answer = await ask(await app.listen(), '/orders', headers, method)
        expect(answer.status).toBe(401)
        expect(answer.headers['content-type']).toBe('application/problem+json')
        expect(answer.headers['cache-control']).toBe('no-store')
        expect(answer.headers.location).toBeUndefined()
        expect(JSON.parse(answer.text)).toEqual({
          type: 'about:blank',
          title: 'Unauthorized',
          status: 401,
          detail: 'Log in first.',
          code: 'ERR_NO_TOKENS',
        })
        expect(ran).toBe(0)
        expect(app.errors).toEqual([])
      })

      it('a user whose grant is dead is sent to the login too', async () => {
        guard('/orders', { loginPath: '/sign-in' })
        const browser = await app.listen()
        await login(browser, 'user')
        clock.advance(HOUR_MS)
        apps.server.failNext('invalid_grant')
        expect((await ask(browser, '/orders', PAGE)).headers.location).toBe('/sign-in?returnTo=%2Forders')
        expect((await ask(browser, '/orders', FETCH)).status).toBe(401)
        expect(ran).toBe(0)
      })

      it('another parameter, and a login elsewhere that has parameters of its own', async () => {
        guard('/orders', { loginPath: 'https://login.example/?client=web', returnToParameter: 'next' })
        const { headers } = await ask(await app.listen(), '/orders', PAGE)
        expect(headers.location).toBe('https://login.example/?client=web&next=%2Forders')
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
        const browser = await app.listen()
        const answer = await ask(browser, target, PAGE)
        expect(answer.status).toBe(302)
        const location = new URL(answer.headers.location!, browser.url)
        expect([location.origin, location.pathname]).toEqual([browser.url, '/sign-in'])
        expect([...location.searchParams.keys()]).toEqual(['returnTo'])
        const returnTo = new URL(location.searchParams.get('returnTo')!, browser.url)
        expect(returnTo.origin).toBe(browser.url)
      })
    })

    describe('S74 a guard in front of the login itself', () => {
      it.each<[string, string]>([
        ['/sign-in', '/sign-in'],
        ['/sign-in', '/sign-in?returnTo=%2Forders'],
        ['/sign-in?client=web', '/sign-in?client=web&returnTo=%2Forders'],
        ['/#/sign-in', '/'],
      ])('%s, asked for as %s: ERR_CONFIGURATION', async (loginPath, target) => {
        guard('/', { loginPath })
        const browser = await app.listen()
        for (const headers of [PAGE, FETCH]) expect((await ask(browser, target, headers)).status).toBe(500)
        const message = `requireTokens() guards its own loginPath '${loginPath}'. Mount the login before it.`
        const error = expect.objectContaining({ code: 'ERR_CONFIGURATION', message })
        expect(app.errors).toEqual([error, error])
      })

      it.each<[string, string]>([
        ['/sign-in', '/sign-in/more'],
        ['/sign-in?client=web', '/sign-in'],
        ['/?login', '/'],
        ['https://login.example/sign-in', '/sign-in'],
      ])('%s is elsewhere than %s', async (loginPath, target) => {
        guard('/', { loginPath })
        const answer = await ask(await app.listen(), target, PAGE)
        expect(answer.status).toBe(302)
        expect(answer.headers.location).toContain(loginPath)
      })

      it('below a mounted router the whole path counts', async () => {
        guard('/admin', { loginPath: '/sign-in' })
        expect((await ask(await app.listen(), '/admin/sign-in', PAGE)).status).toBe(302)
      })
    })

    describe('S72 user: whose token the calls of a route carry', () => {
      /** Answers with what an API saw of the route's call. */
      async function route(path: string, options: RequireTokensOptions): Promise<void> {
        const api = await wireServer((request, response) =>
          json(response, request.headers.authorization ?? ''),
        )
        apps.closing(api.close)
        guard(path, options, async ({ tokens }) => (await tokens.axios({ baseURL: api.url }).get('/')).data)
      }

      it('optional: the user’s, or none if nobody is logged in', async () => {
        await route('/news', { user: 'optional' })
        const browser = await app.listen()
        const anonymous = await browser.get('/news')
        expect([anonymous.status, anonymous.json]).toEqual([200, ''])
        await login(browser, 'user')
        expect((await browser.get('/news')).json).toMatch(/^Bearer ./)
      })

      it('optional: none when the grant is dead, and the page is not sent to the login', async () => {
        await route('/news', { user: 'optional', loginPath: '/sign-in' })
        const browser = await app.listen()
        await login(browser, 'user')
        clock.advance(HOUR_MS)
        apps.server.failNext('invalid_grant')
        const answer = await ask(browser, '/news', PAGE)
        expect([answer.status, answer.text]).toEqual([200, '""'])
      })

      it('optional: a user whose token is not to be had now is not taken for nobody', async () => {
        await route('/news', { user: 'optional' })
        const browser = await app.listen()
        await login(browser, 'user')
        clock.advance(HOUR_MS)
        apps.server.failNext(503)
        expect((await browser.get('/news')).status).toBe(503)
        expect(ran).toBe(0)
      })

      it('optional: the scope and the resource are the route’s, as with required', async () => {
        const resource = 'https://orders.example'
        await route('/news', { user: 'optional', resource })
        const browser = await app.listen()
        await login(browser, 'user', { resource })
        expect(decodeJwt((await browser.get('/news')).json.slice('Bearer '.length)).aud).toBe(resource)
      })

      it('none: no token, whoever is logged in, and nothing is refreshed', async () => {
        await route('/public', { user: 'none' })
        const browser = await app.listen()
        expect((await browser.get('/public')).json).toBe('')
        await login(browser, 'user')
        clock.advance(HOUR_MS)
        const before = apps.server.refreshes()
        expect((await browser.get('/public')).json).toBe('')
        expect(apps.server.refreshes()).toBe(before)
      })

      it('none, then required further down the path: the last guard counts', async () => {
        guard('/public', { user: 'none' })
        await route('/public/orders', { user: 'required' })
        const browser = await app.listen()
        expect((await browser.get('/public/orders')).status).toBe(401)
        await login(browser, 'user')
        expect((await browser.get('/public/orders')).json).toMatch(/^Bearer ./)
      })
    })

    describe('with a token for something else, and without a refresh token', () => {
      const token = { access_token: 'login', expires_in: 3600 }
      const because = (what: string) =>
        expect.objectContaining({
          code: 'ERR_INSUFFICIENT_SCOPE',
          message: expect.stringContaining('and offline access at login'),
          details: expect.stringContaining(what),
        })

      it.each<[string, object, RequireTokensOptions, string]>([
        ['no scope', token, { scope: 'orders.read' }, "scope 'orders.read'; the token response had no scope"],
        ['another scope', { ...token, scope: 'openid' }, { scope: 'orders.read' }, "its scope is 'openid'"],
        ['a resource', token, { resource: 'https://a.example' }, "resource 'https://a.example';"],
      ])('%s: nobody is sent to the login again', async (_, answer, need, what) => {
        guard('/orders', { ...need, loginPath: '/sign-in' })
        const browser = await app.listen()
        await browser.post('/login', answer)
        for (const headers of [PAGE, FETCH]) expect((await ask(browser, '/orders', headers)).status).toBe(403)
        expect(app.errors).toEqual([because(what), because(what)])
        expect(ran).toBe(0)
        clock.advance(HOUR_MS)
        expect((await ask(browser, '/orders', PAGE)).status).toBe(302)
      })

      it('a token that an API has refused has not expired, and the message does not say so', async () => {
        app.handle('/refused', ({ tokens }) => tokens.getAccessToken({ rejected: 'login' }))
        const browser = await app.listen()
        await browser.post('/login', token)
        expect((await browser.get('/refused')).status).toBe(401)
        expect(app.errors).toEqual([
          expect.objectContaining({
            code: 'ERR_REAUTHENTICATION_REQUIRED',
            message: expect.stringContaining('The API rejected the access token'),
          }),
        ])
      })

      it('the scope that set() was told is as good as the server’s', async () => {
        guard('/orders', { scope: 'orders.read', loginPath: '/sign-in' })
        const browser = await app.listen()
        await browser.post('/login', { ...token, scope: 'openid orders.read' })
        expect((await browser.get('/orders')).json.token).toBe('login')
      })
    })

    describe('other failures', () => {
      it('503 goes to the framework, and the user stays logged in', async () => {
        guard('/orders', { loginPath: '/sign-in' })
        const browser = await app.listen()
        await login(browser, 'user')
        clock.advance(HOUR_MS)
        apps.server.failNext(503)
        const answer = await browser.get('/orders')
        expect(answer.status).toBe(503)
        expect(app.errors).toEqual([expect.objectContaining({ code: 'ERR_TOKEN_ENDPOINT_UNAVAILABLE' })])
        expect(ran).toBe(0)
        clock.advance(7_000)
        expect((await browser.get('/orders')).status).toBe(200)
      })

      it('a failure of the handler is the app’s own', async () => {
        const broken = Object.assign(new Error('broken'), { status: 401 })
        guard('/broken', { loginPath: '/sign-in' }, () => {
          throw broken
        })
        const browser = await app.listen()
        await login(browser, 'user')
        const answer = await browser.get('/broken')
        expect([answer.status, answer.headers.get('location')]).toEqual([401, null])
        expect(app.errors).toEqual([broken])
      })

      it.each([
        ['of the default name', {}, 'tokens', { property: 'oauth' }],
        ['of another name', { property: 'other' }, 'other', {}],
      ])('no sessionTokens() %s in front: ERR_CONFIGURATION', async (_, options, property, tokens) => {
        start(tokens)
        guard('/orders', { loginPath: '/sign-in', ...options })
        expect((await ask(await app.listen(), '/orders', PAGE)).status).toBe(500)
        expect(app.errors).toEqual([
          expect.objectContaining({
            code: 'ERR_CONFIGURATION',
            message: expect.stringMatching(
              new RegExp(
                `^${driver.carrier}.${property} is missing. Mount .* before .* requireTokens\\(\\{ property \\}\\)`,
              ),
            ),
          }),
        ])
      })
    })

    it('property: guards with the tokens of that name', async () => {
      start({ property: 'oauth', sessionKey: 'oauth' })
      guard('/orders', { property: 'oauth' }, () => 'orders')
      const browser = await app.listen()
      expect((await browser.get('/orders')).status).toBe(401)
      await login(browser, 'user')
      expect((await browser.get('/orders')).json).toBe('orders')
    })
  })
}
