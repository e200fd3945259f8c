import { afterAll, afterEach, beforeAll, describe, expect, it } from '@jest/globals'
import { type AuthorizationServer, startAuthorizationServer } from '../helpers/authorization-server.js'
import type { ProxyFramework, ProxySite, ProxySiteOptions } from '../helpers/proxy-site.js'
import { rawRequest } from '../helpers/raw-request.js'
import { json, type WireHandler, type WireServer, wireServer } from '../helpers/wire-server.js'

const HOUR_MS = 3_600_000
const INVALID_TOKEN = { 'www-authenticate': 'Bearer realm="api", error="invalid_token"' }

/** What `bearerProxy()` does in every framework. */
export function describeProxy(framework: ProxyFramework): void {
  describe(`bearerProxy(options), ${framework.name}`, () => {
    let server: AuthorizationServer
    const closers: { close(): Promise<unknown> }[] = []
    beforeAll(async () => {
      server = await startAuthorizationServer()
    })
    afterEach(async () => {
      for (const each of closers.splice(0).reverse()) await each.close()
    })
    afterAll(() => server.close())

    function closing<T extends { close(): Promise<unknown> }>(it: T): T {
      closers.push(it)
      return it
    }
    async function api(handler: WireHandler = (_, response) => json(response, 'fine')): Promise<WireServer> {
      return closing(await wireServer(handler))
    }
    async function site(options: ProxySiteOptions): Promise<ProxySite> {
      return closing(await framework.start(server, options))
    }
    /** An API that refuses every token but the newest. */
    function choosy(refusal = INVALID_TOKEN): Promise<WireServer> {
      const refused = new Set<string>()
      return api(({ headers: { authorization = '' }, body }, response) => {
        if (refused.size === 0 || refused.has(authorization)) {
          refused.add(authorization)
          json(response, 'no', 401, refusal)
        } else json(response, { body })
      })
    }

    it('S73 the API sees the fresh token, the browser never does, and cookies do not reach the API', async () => {
      const orders = await api((_, response) =>
        json(response, ['an order'], 200, { 'set-cookie': 'api=1; Path=/', 'x-total': '1' }),
      )
      const gateway = await site({ proxy: { target: `${orders.url}/orders` } })
      const tab = await gateway.loggedIn()
      await tab.get('/api/1?fields=id')
      gateway.clock.advance(HOUR_MS)
      const answer = await tab.get('/api/2', { headers: { authorization: 'Basic eDp5' } })

      expect(answer).toMatchObject({ status: 200, json: ['an order'] })
      expect(answer.headers.get('x-total')).toBe('1')
      const [first, second] = orders.requests
      expect([first?.path, second?.path]).toEqual(['/orders/1?fields=id', '/orders/2'])
      expect(second?.headers.authorization).toMatch(/^Bearer \S+$/)
      expect(second?.headers.authorization).not.toBe(first?.headers.authorization)
      expect(second?.headers.host).toBe(new URL(orders.url).host)
      expect(second?.headers).not.toHaveProperty('cookie')
      const token = second?.headers.authorization?.slice('Bearer '.length) ?? ''
      expect(JSON.stringify([...answer.headers]) + answer.text).not.toContain(token)
      expect(answer.headers.getSetCookie().join()).not.toContain('api=1')
    })

    describe('S74 without tokens', () => {
      it.each([
        ['with a guard', {}],
        ['without a guard', null],
      ])('%s: 401 and a problem body, and nothing is sent to the API', async (_, guard) => {
        const orders = await api()
        const gateway = await site({ guard, proxy: { target: orders.url } })
        const answer = await gateway.browser().get('/api/1')
        expect(answer.status).toBe(401)
        expect(answer.headers.get('content-type')).toBe('application/problem+json')
        expect(answer.json).toEqual({
          type: 'about:blank',
          title: 'Unauthorized',
          status: 401,
          detail: 'Log in first.',
        })
        expect(orders.requests).toEqual([])
        expect(gateway.errors).toEqual([])
      })

      it.each(['optional', 'none'] as const)('user: %j lets the request go without one', async (user) => {
        const orders = await api()
        const gateway = await site({ guard: { user }, proxy: { target: orders.url } })
        const headers = { authorization: 'Bearer of-the-browser' }
        expect((await gateway.browser().get('/api/1', { headers })).status).toBe(200)
        expect(orders.requests[0]?.headers).not.toHaveProperty('authorization')
      })

      it("user: 'none' sends no token of a user who has logged in", async () => {
        const orders = await api()
        const gateway = await site({ guard: { user: 'none' }, proxy: { target: orders.url } })
        await (await gateway.loggedIn()).get('/api/1')
        expect(orders.requests[0]?.headers).not.toHaveProperty('authorization')
      })
    })

    it('a failure of the tokens is the error handler’s', async () => {
      const orders = await api()
      const gateway = await site({ guard: null, proxy: { target: orders.url } })
      const tab = await gateway.loggedIn()
      gateway.clock.advance(HOUR_MS)
      server.failNext(503)
      expect((await tab.get('/api/1')).status).toBe(503)
      expect(gateway.errors).toMatchObject([{ code: 'ERR_TOKEN_ENDPOINT_UNAVAILABLE' }])
      expect(orders.requests).toEqual([])
    })

    describe('S70 when the API refuses the token', () => {
      it.each([
        ['a GET', undefined],
        ['a POST', { order: 1 }],
      ])('%s: one refresh, one replay, and the answer', async (_, body) => {
        const orders = await choosy()
        const gateway = await site({ proxy: { target: orders.url } })
        const tab = await gateway.loggedIn()
        const before = server.refreshes()
        const answer = body ? await tab.post('/api/1', body) : await tab.get('/api/1')
        expect(answer).toMatchObject({ status: 200, json: { body: body ? JSON.stringify(body) : '' } })
        expect(orders.requests).toHaveLength(2)
        expect(server.refreshes() - before).toBe(1)
      })

      it('again: its answer goes out, without the challenge', async () => {
        const orders = await api((_, response) => json(response, 'no', 401, INVALID_TOKEN))
        const gateway = await site({ proxy: { target: orders.url } })
        const answer = await (await gateway.loggedIn()).get('/api/1')
        expect(answer).toMatchObject({ status: 401, json: 'no' })
        expect(answer.headers.has('www-authenticate')).toBe(false)
        expect(orders.requests).toHaveLength(2)
      })

      it('a body that was not kept: its answer goes out, and the next request has a new token', async () => {
        const orders = await choosy()
        const gateway = await site({ proxy: { target: orders.url, maxReplayBytes: 8 } })
        const tab = await gateway.loggedIn()
        expect(await tab.post('/api/1', 'more than 8 bytes')).toMatchObject({ status: 401, json: 'no' })
        expect(orders.requests).toHaveLength(1)
        expect((await tab.post('/api/1', 'more than 8 bytes')).status).toBe(200)
        expect(orders.requests).toHaveLength(2)
      })

      it("replay: 'idempotent' sends no POST again", async () => {
        const orders = await choosy()
        const gateway = await site({ proxy: { target: orders.url, replay: 'idempotent' } })
        const tab = await gateway.loggedIn()
        expect((await tab.post('/api/1', 'short')).status).toBe(401)
        expect((await tab.post('/api/1', 'short')).status).toBe(200)
        expect(orders.requests).toHaveLength(2)
      })
    })

    it('asks the page for a step-up when the API asks for a stronger login', async () => {
      const challenge = 'Bearer error="insufficient_user_authentication", acr_values="mfa", max_age="60"'
      const orders = await api((_, response) => json(response, 'no', 401, { 'www-authenticate': challenge }))
      const gateway = await site({ proxy: { target: orders.url } })
      const answer = await (await gateway.loggedIn()).get('/api/1')
      expect(answer.status).toBe(401)
      expect(answer.headers.get('content-type')).toBe('application/problem+json')
      expect(answer.json).toMatchObject({
        error: 'insufficient_user_authentication',
        acr_values: 'mfa',
        max_age: 60,
      })
      expect(orders.requests).toHaveLength(1)
    })

    it.each([
      [403, 'Bearer error="insufficient_scope", scope="orders.write"'],
      [401, 'Bearer error="invalid_request"'],
    ])('passes %i %s on, and refreshes nothing', async (status, challenge) => {
      const orders = await api((_, response) =>
        json(response, 'no', status, { 'www-authenticate': challenge }),
      )
      const gateway = await site({ proxy: { target: orders.url } })
      const tab = await gateway.loggedIn()
      const before = server.refreshes()
      const answer = await tab.get('/api/1')
      expect(answer).toMatchObject({ status, json: 'no' })
      expect(answer.headers.get('www-authenticate')).toBe(status === 403 ? challenge : null)
      expect(server.refreshes()).toBe(before)
    })

    it('502 and a problem body when the API is down', async () => {
      const orders = await api()
      const gateway = await site({ proxy: { target: orders.url } })
      const tab = await gateway.loggedIn()
      await orders.close()
      closers.splice(closers.indexOf(orders), 1)
      const answer = await tab.get('/api/1')
      expect(answer.json).toEqual({
        type: 'about:blank',
        title: 'Bad Gateway',
        status: 502,
        detail: 'The API could not be reached.',
      })
      expect(answer.status).toBe(502)
      expect(gateway.errors).toEqual([])
    })

    it('withholds what is between two, and what is between the browser and this site', async () => {
      const orders = await api((_, response) => json(response, 'fine'))
      const gateway = await site({
        guard: { user: 'none' },
        proxy: { target: orders.url, withhold: ['X-Mine'] },
      })
      const ofOneHop = {
        connection: 'keep-alive, x-named',
        'keep-alive': 'timeout=5',
        te: 'trailers',
        'x-named': '1',
      }
      const proxies = { 'proxy-authorization': 'Basic eDp5', 'proxy-connection': 'keep-alive' }
      const ofTheSite = {
        cookie: 'a=1',
        origin: 'https://a.example',
        'x-csrf-token': '1',
        'x-xsrf-token': '1',
      }
      const told = {
        'x-mine': '1',
        'x-forwarded-for': '1.2.3.4',
        forwarded: 'for=1.2.3.4',
        accept: 'text/plain',
      }
      await rawRequest(gateway.url, '/api/1', { ...ofOneHop, ...proxies, ...ofTheSite, ...told })
      const { connection: _, ...headers } = orders.requests[0]?.headers ?? {}
      expect(headers).toEqual({ host: new URL(orders.url).host, accept: 'text/plain' })
    })
  })
}
