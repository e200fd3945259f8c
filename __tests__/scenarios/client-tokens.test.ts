import { afterEach, describe, expect, it } from '@jest/globals'
import { ConfigurationError, requireTokens, sessionTokens, type TokenEvent } from '../../lib/index.js'
import { bearerProxy } from '../../lib/proxy.js'
import {
  type AuthorizationServer,
  clients,
  startAuthorizationServer,
} from '../helpers/authorization-server.js'
import { stillClock, type TestClock, testClock } from '../helpers/clock.js'
import { type FaultServer, startTokenEndpoint } from '../helpers/fault-server.js'
import type { Fault } from '../helpers/faults.js'
import { type Site, type SiteOptions, startSite } from '../helpers/site.js'
import { startExchangingServer } from '../helpers/token-exchange.js'
import { json, type WireServer, wireServer } from '../helpers/wire-server.js'

const HOUR_MS = 3_600_000

const closers: (() => Promise<unknown>)[] = []
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close()
})

async function start(options: SiteOptions = {}): Promise<{ server: AuthorizationServer; site: Site }> {
  const server = await startAuthorizationServer({ grantTypes: ['client_credentials'] })
  closers.push(server.close)
  const site = await startSite(server, options)
  closers.push(site.close)
  return { server, site }
}

const ownRequests = ({ tokenRequests }: AuthorizationServer) =>
  tokenRequests.filter(({ grantType }) => grantType === 'client_credentials')

/** An API that responds with the token that it got. */
async function startApi(): Promise<WireServer> {
  const api = await wireServer((request, response) => json(response, request.headers.authorization ?? null))
  closers.push(api.close)
  return api
}

describe("S104 the client's own token", () => {
  it('S104 50 callers share one request, and later callers get the same token', async () => {
    const { server, site } = await start()
    const { client } = site.middleware
    const tokens = await Promise.all(Array.from({ length: 50 }, () => client.getAccessToken()))
    expect(new Set(tokens.map(({ token }) => token)).size).toBe(1)
    expect(tokens[0]).toMatchObject({ tokenType: 'Bearer', expiresAt: expect.any(Number) })
    expect(await client.getAccessToken()).toEqual(tokens[0])
    expect(ownRequests(server)).toHaveLength(1)
    expect(site.events).toEqual([])
  })

  it('S104 each scope and resource has a token of its own, with its parameters on the wire', async () => {
    const { server, site } = await start()
    const { client } = site.middleware
    const needs = [{}, { scope: 'orders.read' }, { scope: 'orders.read', resource: 'https://api.example/a' }]
    const tokens = []
    for (const need of [...needs, ...needs]) tokens.push((await client.getAccessToken(need)).token)
    expect(new Set(tokens).size).toBe(3)
    expect(ownRequests(server).map(({ parameters }) => Object.fromEntries(parameters))).toEqual(
      needs.map((need) => ({ grant_type: 'client_credentials', ...need })),
    )
  })

  it('S104 is renewed ahead of its expiry, beside the callers', async () => {
    const { server, site } = await start({ tokens: { refreshAheadMs: 600_000, leewayMs: 0 } })
    const { client } = site.middleware
    const first = await client.getAccessToken()
    site.clock.advance(HOUR_MS - 60_000)
    const gate = server.hold()
    expect(await Promise.all([client.getAccessToken(), client.getAccessToken()])).toEqual([first, first])
    await gate.reached
    gate.release()
    await site.middleware.close()
    expect((await client.getAccessToken()).token).not.toBe(first.token)
    expect(ownRequests(server)).toHaveLength(2)
  })

  it('S104 is requested again when it has expired, or stays valid for too short a time', async () => {
    const { server, site } = await start()
    const { client } = site.middleware
    const first = await client.getAccessToken()
    site.clock.advance(HOUR_MS / 2)
    const second = await client.getAccessToken({ minValidityMs: 3_000_000 })
    expect(second.token).not.toBe(first.token)
    site.clock.advance(2 * HOUR_MS)
    expect((await client.getAccessToken()).token).not.toBe(second.token)
    expect(ownRequests(server)).toHaveLength(3)
  })

  it('S104 an API that rejects it gets another one, once', async () => {
    const { server, site } = await start()
    const api = await wireServer((_, response) =>
      json(response, {}, 401, { 'www-authenticate': 'Bearer error="invalid_token"' }),
    )
    closers.push(api.close)
    const call = site.middleware.client.fetch({ baseURL: api.url })
    expect((await call('/')).status).toBe(401)
    expect(api.requests).toHaveLength(2)
    expect(ownRequests(server)).toHaveLength(2)
    expect(new Set(api.requests.map(({ headers }) => headers.authorization)).size).toBe(2)
  })

  it('S104 an API that rejects each of them does not make one request a call', async () => {
    const { server, site } = await start()
    const { client } = site.middleware
    for (let call = 0; call < 20; call++) {
      const { token } = await client.getAccessToken()
      await client.getAccessToken({ rejected: token })
    }
    expect(ownRequests(server).length).toBeLessThan(6)
  })

  it('S104 an API rejects the token of 20 callers: all of them get the same new one', async () => {
    const { server, site } = await start()
    const { client } = site.middleware
    const { token } = await client.getAccessToken()
    const next = await Promise.all(
      Array.from({ length: 20 }, () => client.getAccessToken({ rejected: token })),
    )
    expect(new Set(next.map(({ token }) => token)).size).toBe(1)
    expect(next[0]!.token).not.toBe(token)
    expect(ownRequests(server)).toHaveLength(2)
  })

  it('S104 is in no session, and needs none', async () => {
    const { site } = await start()
    const browser = site.browser()
    await site.login(browser)
    site.handle('/own', async (request) => (await request.tokens.client.getAccessToken()).token)
    const own = (await browser.get('/own')).json
    expect(JSON.stringify(await site.stored(browser))).not.toContain(own)
    expect((await site.browser().get('/own')).json).toBe(own)
  })

  it("S104 requireTokens({ user: 'client' }): calls carry it, and the user's token is not touched", async () => {
    const { server, site } = await start()
    const api = await startApi()
    const browser = site.browser()
    await site.login(browser)
    const user = (await browser.get('/token')).json.token
    site.app.get(
      '/report',
      requireTokens({ user: 'client', scope: 'orders.read' }),
      async (request, response) => {
        const { data } = await request.tokens.axios({ baseURL: api.url }).get('/')
        const { data: other } = await request.tokens.client.axios({ baseURL: api.url }).get('/')
        response.json([data, other, (await request.tokens.getAccessToken()).token])
      },
    )
    site.app.get(
      '/proxied',
      requireTokens({ user: 'client', scope: 'orders.read' }),
      bearerProxy({ target: api.url }),
    )
    const [carried, direct, ofUser] = (await browser.get('/report')).json
    expect(carried).toBe(direct)
    expect(carried).toMatch(/^Bearer /)
    expect(carried).not.toBe(`Bearer ${user}`)
    expect(ofUser).toBe(user)
    expect((await browser.get('/proxied')).json).toBe(carried)
    expect(ownRequests(server).map(({ scope }) => scope)).toEqual(['orders.read'])
    // No user is needed.
    expect((await site.browser().get('/proxied')).json).toBe(carried)
  })

  it("S104 is never sent where the user's was asked for", async () => {
    const { site } = await start()
    const api = await startApi()
    await site.middleware.client.getAccessToken()
    site.app.get('/user', requireTokens(), bearerProxy({ target: api.url }))
    site.app.get('/optional', requireTokens({ user: 'optional' }), bearerProxy({ target: api.url }))
    site.app.get(
      '/after',
      requireTokens({ user: 'client' }),
      requireTokens(),
      bearerProxy({ target: api.url }),
    )
    expect((await site.browser().get('/user')).status).toBe(401)
    expect((await site.browser().get('/after')).status).toBe(401)
    expect((await site.browser().get('/optional')).json).toBe(null)
    expect(api.requests.map(({ headers }) => headers.authorization)).toEqual([undefined])
  })

  it('S103 S104 is the actor of an exchange', async () => {
    const server = await startExchangingServer({ grantTypes: ['client_credentials'] })
    closers.push(server.close)
    const exchanges = { billing: { audience: 'billing', actor: 'client' as const } }
    const site = await startSite(server, { tokens: { exchanges } })
    closers.push(site.close)
    const browser = site.browser()
    await site.login(browser)
    expect((await browser.get('/token?exchange=billing')).status).toBe(200)
    const { token } = await site.middleware.client.getAccessToken()
    expect(server.exchanges()[0]?.get('actor_token')).toBe(token)
    expect(ownRequests(server)).toHaveLength(1)
  })

  it.each<[string, object, RegExp]>([
    [
      'a loginPath',
      { user: 'client', loginPath: '/login' },
      /user: 'client' needs no user, so `loginPath` has no meaning/,
    ],
    [
      'an exchange',
      { user: 'client', exchange: 'billing' },
      /user: 'client' needs no user, so `exchange` has no meaning/,
    ],
    ['a misspelt user', { user: 'clients' }, /'required', 'optional', 'none' or 'client'/],
  ])('S104 a guard with %s says what to change', (_, options, message) => {
    expect(() => requireTokens(options as never)).toThrow(message)
  })

  it('S104 an exchange, and tenants, are a ConfigurationError', async () => {
    const { site } = await start()
    const exchanged = site.middleware.client.getAccessToken({ exchange: 'billing' })
    await expect(exchanged).rejects.toThrow(/An exchange is made with the token of a user/)
    const tenants = sessionTokens({ tenant: () => 'acme', options: () => ({}) as never })
    await expect(tenants.client.getAccessToken()).rejects.toThrow(ConfigurationError)
    await expect(tenants.client.getAccessToken()).rejects.toThrow(/Use req\.tokens\.client/)
  })
})

describe("S104 the client's own token, and a server that fails", () => {
  interface Scripted {
    readonly site: Site
    readonly endpoint: FaultServer
    readonly clock: TestClock
  }

  async function scripted(
    respond: (index: number) => Fault | Promise<Fault>,
    clock = stillClock(),
  ): Promise<Scripted> {
    const endpoint = await startTokenEndpoint((_, index) => respond(index))
    closers.push(endpoint.close)
    const server = { ...endpoint, clients, login: () => Promise.reject(new Error('not here')) }
    const site = await startSite(server, { clock, tokens: { timeoutMs: 2_000, patienceMs: 100 } })
    closers.push(site.close)
    return { site, endpoint, clock }
  }

  const success = (index: number): Fault => ({
    status: 200,
    body: { access_token: `own${index}`, token_type: 'Bearer', expires_in: 3600 },
  })
  const failures = ({ events }: Site) => (events as readonly TokenEvent[]).map(({ type }) => type)

  it.each<[Fault, string]>([
    [500, 'ERR_TOKEN_ENDPOINT_UNAVAILABLE'],
    ['reset', 'ERR_TOKEN_ENDPOINT_UNAVAILABLE'],
    ['invalid_client', 'ERR_CLIENT_REJECTED'],
    ['unauthorized_client', 'ERR_CLIENT_REJECTED'],
    ['invalid_scope', 'ERR_TOKEN_ENDPOINT'],
    ['invalid_grant', 'ERR_TOKEN_ENDPOINT'],
  ])(
    'S104 %s: %s, asked once, then again after a pause; no user is sent to the login',
    async (fault, code) => {
      const { site, endpoint, clock } = await scripted((index) => (index === 0 ? fault : success(index)))
      const { client } = site.middleware
      for (let call = 0; call < 5; call++)
        await expect(client.getAccessToken()).rejects.toMatchObject({ code })
      expect(endpoint.requests).toHaveLength(1)
      expect(failures(site)).toEqual(['client_token_failed'])
      clock.advance(60_000)
      expect((await client.getAccessToken()).token).toBe('own1')
    },
  )

  it('S104 a token that is still valid is served while the server fails', async () => {
    const { site, clock } = await scripted((index) => (index === 0 ? success(0) : 503))
    const { client } = site.middleware
    await client.getAccessToken()
    clock.advance(HOUR_MS - 5_000)
    expect((await client.getAccessToken()).token).toBe('own0')
  })

  it('S104 a rejected token that could not be replaced is not handed out instead', async () => {
    const { site, clock } = await scripted((index) => (index === 1 || index > 5 ? success(index) : 503))
    const { client } = site.middleware
    clock.advance(60_000)
    await expect(client.getAccessToken()).rejects.toMatchObject({ retryable: true })
    clock.advance(60_000)
    const { token } = await client.getAccessToken()
    for (let call = 0; call < 4; call++) {
      clock.advance(60_000)
      await expect(client.getAccessToken({ rejected: token })).rejects.toMatchObject({ retryable: true })
      await expect(client.getAccessToken({ rejected: token })).rejects.toMatchObject({ retryable: true })
    }
    clock.advance(60_000)
    expect((await client.getAccessToken({ rejected: token })).token).toBe('own6')
  })

  it('S104 failures of three needs open the breaker, which is that of the refreshes as well', async () => {
    const { site, endpoint } = await scripted(() => 'reset')
    const { client } = site.middleware
    for (const scope of ['a', 'b', 'c', 'd', 'e'])
      await expect(client.getAccessToken({ scope })).rejects.toMatchObject({ retryable: true })
    expect(failures(site)).toContain('breaker_opened')
    expect(endpoint.requests).toHaveLength(3)
  })

  it('S104 a server that is silent: a caller waits for timeoutMs, and the request goes on', async () => {
    let respond = (_: Fault) => {}
    const response = new Promise<Fault>((resolve) => {
      respond = resolve
    })
    const { site, endpoint } = await scripted(() => response, testClock())
    const { client } = site.middleware
    await expect(client.getAccessToken()).rejects.toMatchObject({ code: 'ERR_TOKEN_ENDPOINT_UNAVAILABLE' })
    respond(success(7))
    await site.middleware.close()
    expect((await client.getAccessToken()).token).toBe('own7')
    expect(endpoint.requests).toHaveLength(1)
  })

  it('S60 S104 no error and no event shows the token or the secret', async () => {
    const { site } = await scripted((index) =>
      index === 0 ? success(0) : { status: 400, body: { error: 'own0' } },
    )
    const { client } = site.middleware
    const { token } = await client.getAccessToken()
    const error = await client.getAccessToken({ scope: 'a' }).catch((error: unknown) => error)
    const shown = JSON.stringify([site.events, error, String(error)])
    expect(shown).not.toContain(clients.client_secret_basic.clientSecret)
    expect(token).toBe('own0')
  })
})
