import { afterAll, afterEach, beforeAll, describe, expect, it, jest } from '@jest/globals'
import { type AuthorizationServer, startAuthorizationServer } from '../helpers/authorization-server.js'
import type { Browser } from '../helpers/browser.js'
import { type KoaSite, startKoaSite } from '../helpers/koa-site.js'
import { type Claims, LOGOUT_EVENT, startTestIssuer, type TestIssuer } from '../helpers/logout-tokens.js'
import { newsHub } from '../helpers/news-hub.js'
import { sharedSessions, startSite } from '../helpers/site.js'

const now = () => Math.floor(Date.now() / 1000)

let server: AuthorizationServer
let issuer: TestIssuer
const open: { close(): Promise<unknown> }[] = []

type Options = NonNullable<Parameters<typeof startSite>[1]>

/** A site that takes logout tokens at `/backchannel-logout`. */
async function expressSite(options: Options = {}) {
  const site = await startSite(server, withIssuer(options))
  open.push(site)
  site.app.post('/backchannel-logout', site.middleware.backchannelLogout())
  return site
}

async function koaSite() {
  let backchannelLogout: ReturnType<KoaSite['middleware']['backchannelLogout']>
  const site = await startKoaSite(server, {
    ...(withIssuer({}) as object),
    before: (ctx, next) => (ctx.path === '/backchannel-logout' ? backchannelLogout(ctx) : next()),
  })
  open.push(site)
  backchannelLogout = site.middleware.backchannelLogout()
  return site
}

function withIssuer({ tokens, ...options }: Options): Options {
  return { ...options, tokens: { issuer: issuer.issuer, tokenEndpoint: undefined as never, ...tokens } }
}

interface AnySite {
  readonly url: string
  browser(): Browser
}

async function loggedIn(site: AnySite, sub: string, claims: Claims = {}): Promise<Browser> {
  const browser = site.browser()
  expect((await browser.post('/login', await issuer.login(sub, claims))).status).toBe(200)
  return browser
}

async function send({ url }: AnySite, token: string | undefined) {
  const response = await fetch(`${url}/backchannel-logout`, {
    method: 'POST',
    body: new URLSearchParams(token === undefined ? {} : { logout_token: token }),
  })
  expect(response.headers.get('cache-control')).toBe('no-store')
  const text = await response.text()
  return { status: response.status, json: text === '' ? undefined : JSON.parse(text) }
}

const statuses = (browsers: readonly Browser[]) =>
  Promise.all(browsers.map(async (browser) => (await browser.get('/token')).status))

describe('S82 back-channel logout', () => {
  beforeAll(async () => {
    server = await startAuthorizationServer()
    issuer = await startTestIssuer(server.clients.client_secret_basic.clientId)
  })
  afterEach(() => Promise.all(open.splice(0).map((each) => each.close())))
  afterAll(() => Promise.all([server?.close(), issuer?.server.down()]))

  describe.each<[string, () => Promise<AnySite & { readonly events: readonly unknown[] }>]>([
    ['Express', () => expressSite()],
    ['Koa', koaSite],
  ])('on %s', (_, start) => {
    it('S82 a logout token ends all logins of its user, and no other', async () => {
      const site = await start()
      const [first, second, bob] = [
        await loggedIn(site, 'alice'),
        await loggedIn(site, 'alice'),
        await loggedIn(site, 'bob'),
      ]
      expect(await send(site, await issuer.logoutToken({ sub: 'alice' }))).toEqual({ status: 200 })
      expect(await statuses([first, second, bob])).toEqual([401, 401, 200])
      expect(site.events).toContainEqual(
        expect.objectContaining({ type: 'ended', reason: 'backchannel_logout', isLocal: true }),
      )
    })

    it('S82 a logout token with a sid ends that login alone', async () => {
      const site = await start()
      const [one, two] = [
        await loggedIn(site, 'alice', { sid: '1' }),
        await loggedIn(site, 'alice', { sid: '2' }),
      ]
      const token = await issuer.logoutToken({ sub: 'alice', sid: '1' })
      expect((await send(site, token)).status).toBe(200)
      expect(await statuses([one, two])).toEqual([401, 200])
    })

    it('S82 a request without a token gets 400', async () => {
      const site = await start()
      expect(await send(site, undefined)).toMatchObject({ status: 400, json: { error: 'invalid_request' } })
    })
  })

  const wrong: [string, (claims: Claims) => Promise<string>][] = [
    ['AlgNone', (claims) => issuer.logoutTokenWith('none', claims)],
    ['WrongAlg', (claims) => issuer.logoutTokenWith('HS256', claims)],
    ['a key of another issuer', (claims) => issuer.logoutTokenWith('other key', claims)],
    ['NoEvent', (claims) => issuer.logoutToken({ ...claims, events: undefined })],
    ['WrongEvent', (claims) => issuer.logoutToken({ ...claims, events: { 'http://other.example': {} } })],
    [
      'an event that is no object',
      (claims) => issuer.logoutToken({ ...claims, events: { [LOGOUT_EVENT]: true } }),
    ],
    ['WithNonce', (claims) => issuer.logoutToken({ ...claims, nonce: 'nonce' })],
    ['WrongAud', (claims) => issuer.logoutToken({ ...claims, aud: 'another client' })],
    ['WrongIssuer', (claims) => issuer.logoutToken({ ...claims, iss: 'https://other.example' })],
    ['no exp', (claims) => issuer.logoutToken({ ...claims, exp: undefined })],
    ['an exp in the past', (claims) => issuer.logoutToken({ ...claims, exp: now() - 61 })],
    ['an iat in the future', (claims) => issuer.logoutToken({ ...claims, iat: now() + 120 })],
    ['no iat', (claims) => issuer.logoutToken({ ...claims, iat: undefined })],
    ['no jti', (claims) => issuer.logoutToken({ ...claims, jti: undefined })],
    ['neither sub nor sid', (claims) => issuer.logoutToken({ ...claims, sub: undefined })],
    ['a sub that is no text', (claims) => issuer.logoutToken({ ...claims, sub: 1, sid: '1' })],
    ['the type of an access token', (claims) => issuer.logoutToken(claims, { typ: 'at+jwt' })],
    ['the ID token of the user', async () => (await issuer.login('alice')).id_token],
    ['a text that is no JWT', async () => 'nonsense'],
  ]

  it.each(wrong)('S82 is refused, and ends nothing: %s', async (_, make) => {
    const site = await expressSite()
    const alice = await loggedIn(site, 'alice', { sid: '1' })
    const { status, json } = await send(site, await make({ sub: 'alice' }))
    expect({ status, error: json.error }).toEqual({ status: 400, error: 'invalid_request' })
    expect(await statuses([alice])).toEqual([200])
  })

  it('S82 is accepted with the type JWT, without a type, and with several audiences', async () => {
    const site = await expressSite()
    const { clientId } = server.clients.client_secret_basic
    for (const [claims, typ] of [
      [{}, 'JWT'],
      [{}, undefined],
      [{ aud: ['another', clientId] }, 'logout+jwt'],
    ] as const) {
      const alice = await loggedIn(site, 'alice')
      expect((await send(site, await issuer.logoutToken({ sub: 'alice', ...claims }, { typ }))).status).toBe(
        200,
      )
      expect(await statuses([alice])).toEqual([401])
    }
  })

  it('S82 the same token is accepted once, over processes', async () => {
    const hub = newsHub()
    const sessions = sharedSessions()
    const start = () => expressSite({ store: sessions(), tokens: { grants: hub.connect().store } })
    const [one, two] = [await start(), await start()]
    const token = await issuer.logoutToken({ sub: 'alice' })
    const responses = await Promise.all([send(one, token), send(two, token), send(one, token)])
    expect(responses.map(({ status }) => status).sort()).toEqual([200, 400, 400])
    expect((await send(two, token)).json.error_description).toContain('has been used before')
  })

  it('S82 a login that is newer than the token stays, also with the same sid', async () => {
    const site = await expressSite()
    const before = await loggedIn(site, 'alice', { iat: now() - 20, sid: '1' })
    const after = await loggedIn(site, 'alice', { iat: now() - 5, sid: '1' })
    const token = await issuer.logoutToken({ sub: 'alice', sid: '1', iat: now() - 10 })
    expect((await send(site, token)).status).toBe(200)
    expect(await statuses([before, after])).toEqual([401, 200])
  })

  it('S82 a login without a sid in its ID token is found by its user', async () => {
    const site = await expressSite()
    const alice = await loggedIn(site, 'alice')
    expect((await send(site, await issuer.logoutToken({ sub: 'alice', sid: '1' }))).status).toBe(200)
    expect(await statuses([alice])).toEqual([401])
  })

  describe.each(['session', 'store'] as const)('by a process that knows no grant, with keep: %s', (keep) => {
    async function startBoth() {
      const hub = newsHub()
      const sessions = sharedSessions()
      const [web, other] = await Promise.all(
        [0, 1].map(() => expressSite({ store: sessions(), tokens: { keep, grants: hub.connect().store } })),
      )
      return { web: web!, other: other! }
    }

    it('S82 a logout token with a user and a sid ends that login alone', async () => {
      const { web, other } = await startBoth()
      const one = await loggedIn(web, 'alice', { sid: '1' })
      const two = await loggedIn(web, 'alice', { sid: '2' })
      const none = await loggedIn(web, 'alice')
      expect((await send(other, await issuer.logoutToken({ sub: 'alice', sid: '1' }))).status).toBe(200)
      expect(await statuses([one, two, none])).toEqual([401, 200, 401])
    })
  })

  it.each(['grantsWith', 'read'] as const)(
    'S82 ends nothing and may be sent again if the grant store failed: %s()',
    async (method) => {
      const hub = newsHub()
      const sessions = sharedSessions()
      const { store } = hub.connect()
      const web = await expressSite({ store: sessions(), tokens: { grants: hub.connect().store } })
      const other = await expressSite({ store: sessions(), tokens: { grants: store } })
      const one = await loggedIn(web, 'alice', { sid: '1' })
      const two = await loggedIn(web, 'alice', { sid: '2' })
      const token = await issuer.logoutToken({ sub: 'alice', sid: '1' })
      const away = jest.spyOn(store, method).mockRejectedValue(new Error('no connection'))
      expect(await send(other, token)).toMatchObject({ status: 400, json: { error: 'server_error' } })
      away.mockRestore()
      expect(await statuses([one, two])).toEqual([200, 200])
      expect((await send(other, token)).status).toBe(200)
      expect(await statuses([one, two])).toEqual([401, 200])
    },
  )

  it('S82 reads the form that a body parser has read', async () => {
    const { urlencoded } = await import('express')
    const site = await expressSite({ before: urlencoded({ extended: false }) })
    const alice = await loggedIn(site, 'alice')
    expect((await send(site, await issuer.logoutToken({ sub: 'alice' }))).status).toBe(200)
    expect(await statuses([alice])).toEqual([401])
  })

  it('S82 needs an issuer', async () => {
    const site = await startSite(server)
    open.push(site)
    expect(() => site.middleware.backchannelLogout()).toThrow(
      expect.objectContaining({ code: 'ERR_CONFIGURATION' }),
    )
  })

  it('S82 oidc-provider logs its user out', async () => {
    const site = await startSite(server, {
      tokens: { issuer: server.issuer, tokenEndpoint: undefined as never },
    })
    open.push(site)
    site.app.post('/backchannel-logout', site.middleware.backchannelLogout())
    const [alice, bob] = [site.browser(), site.browser()]
    await site.login(alice, 'alice')
    await site.login(bob, 'bob')
    const client = (await server.provider.Client.find(server.clients.client_secret_basic.clientId))!
    Object.assign(client, { backchannelLogoutUri: `${site.url}/backchannel-logout` })
    await (client.backchannelLogout as (sub: string, sid: string) => Promise<void>).call(
      client,
      'alice',
      'any',
    )
    expect(await statuses([alice, bob])).toEqual([401, 200])
  })
})

describe('S88 logoutUrl() of req.tokens', () => {
  beforeAll(async () => {
    server = await startAuthorizationServer()
    issuer = await startTestIssuer(server.clients.client_secret_basic.clientId)
  })
  afterEach(() => Promise.all(open.splice(0).map((each) => each.close())))
  afterAll(() => Promise.all([server?.close(), issuer?.server.down()]))

  it('S88 has the ID token as the hint, the client, the redirect URI and the state, and goes with revoke()', async () => {
    const site = await expressSite()
    const tokens = await issuer.login('alice')
    const browser = site.browser()
    await browser.post('/login', tokens)
    const postLogoutRedirectUri = 'https://app.example.com/?a=1'
    site.handle('/url', async (request) => {
      const url = await request.tokens.logoutUrl({ postLogoutRedirectUri, state: 'a & b' })
      await request.tokens.revoke()
      return url
    })
    const url = new URL((await browser.get('/url')).json)
    expect(url.origin + url.pathname).toBe(`${issuer.issuer}/logout`)
    expect(Object.fromEntries(url.searchParams)).toEqual({
      ui: '1',
      id_token_hint: tokens.id_token,
      client_id: server.clients.client_secret_basic.clientId,
      post_logout_redirect_uri: postLogoutRedirectUri,
      state: 'a & b',
    })
    expect((await browser.get('/token')).status).toBe(401)
  })

  it('S88 has the hint with keep: store in a process that has just started, and none without a login', async () => {
    const hub = newsHub()
    const sessions = sharedSessions()
    const start = () =>
      expressSite({ store: sessions(), tokens: { keep: 'store', grants: hub.connect().store } })
    const one = await start()
    const tokens = await issuer.login('alice')
    const browser = one.browser()
    await browser.post('/login', tokens)
    const two = await start()
    two.handle('/url', (request) => request.tokens.logoutUrl())
    const hintOf = async (tab: Browser) =>
      new URL((await two.browser(tab).get('/url')).json).searchParams.get('id_token_hint')
    expect(await hintOf(browser)).toBe(tokens.id_token)
    expect(await hintOf(two.browser())).toBe(null)
  })

  it('S88 says what is missing: no endpoint, or a wrong option', async () => {
    const site = await startSite(server)
    open.push(site)
    site.handle('/url', ({ tokens, query }) => tokens.logoutUrl(query))
    expect((await site.browser().get('/url')).json).toMatchObject({
      code: 'ERR_CONFIGURATION',
      message: expect.stringContaining('end_session_endpoint'),
    })
    for (const query of ['postLogoutRedirectUri=/home', 'redirectUri=x', 'state=']) {
      expect((await site.browser().get(`/url?${query}`)).json.code).toBe('ERR_CONFIGURATION')
    }
  })
})
