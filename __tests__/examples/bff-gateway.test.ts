import { subscribe, unsubscribe } from 'node:diagnostics_channel'
import type { IncomingMessage } from 'node:http'
import { afterAll, afterEach, beforeAll, describe, expect, it, jest } from '@jest/globals'
import { type Started, start } from '../../examples/bff-gateway/start.js'
import { fingerprint, isRefresh } from '../../examples/demo/timeline.js'
import { type Browser, browser } from '../helpers/browser.js'
import { rawRequest } from '../helpers/raw-request.js'

/** What a browser says that shows a page; `fetch` always says that it does not. */
const FOR_A_PAGE = { 'sec-fetch-mode': 'navigate' }
const STARTS = 'http.server.request.start'

let site: Started
/** The newest tokens that the authorization server has issued. */
let issued: { access_token: string; refresh_token: string }
/** What the servers of this process were asked. */
let asked: IncomingMessage[] = []
let isDown = false
const note = (message: unknown) => void asked.push((message as { request: IncomingMessage }).request)

beforeAll(async () => {
  site = await start({
    port: 0,
    accessTokenSeconds: 60,
    newsEveryMs: 20,
    freshLoginSeconds: 10,
    door: (authorizationServer) => (req, res) => {
      if (isDown) res.writeHead(503, { 'Retry-After': '7' }).end()
      else authorizationServer(req, res)
    },
  })
  site.provider.on('grant.success', ({ body }) => {
    issued = body as typeof issued
  })
  subscribe(STARTS, note)
})
afterEach(() => {
  asked = []
  isDown = false
  jest.restoreAllMocks()
})
afterAll(async () => {
  unsubscribe(STARTS, note)
  await site.close()
})

describe('the routes of the gateway', () => {
  it('S72 have three policies: no token, the user’s, and one for another API and a narrower scope', async () => {
    const visitor = await loggedIn()
    const answers = ['/api/catalogue', '/api/orders', '/api/invoices'].map((path) => visitor.get(path))
    const [catalogue, orders, invoices] = (await Promise.all(answers)).map(({ json }) => json.token)
    expect(catalogue).toBeNull()
    expect(orders).toMatchObject({ audience: site.shopApi, scope: 'orders.read orders.write' })
    expect(invoices).toMatchObject({ audience: site.billingApi, scope: 'billing.read' })
    // One refresh token for both: the login brought the one token, a refresh the other.
    expect(site.timeline.rows.filter(isRefresh)).toHaveLength(1)
    expect(invoices.fingerprint).toBe(fingerprint(issued.access_token))
  })

  it('S73 pass on with the token, and without the cookies and what the page says to the gateway alone', async () => {
    const visitor = await loggedIn()
    const { access_token } = issued
    asked = []
    const answer = await visitor.post('/api/orders', { item: 'Milk jug' })
    expect([answer.status, answer.json.ordered]).toEqual([201, 'Milk jug'])
    const [order, ...others] = askedOf(site.shopApi)
    expect(others).toEqual([])
    expect([order?.method, order?.url]).toEqual(['POST', '/orders'])
    expect(order?.headers.authorization).toBe(`Bearer ${access_token}`)
    expect(order?.headers).not.toHaveProperty('cookie')
    expect(JSON.stringify([...answer.headers, answer.text])).not.toContain(access_token.slice(-40))
  })

  it('S74 send a page without a session to the login, and refuse everything else without asking an API', async () => {
    for (const path of ['/orders', '/billing?sort=due']) {
      const { status, headers } = await rawRequest(site.url, path, FOR_A_PAGE)
      expect([status, headers.location]).toEqual([302, `/login?returnTo=${encodeURIComponent(path)}`])
    }
    for (const path of ['/api/orders', '/api/orders/news', '/api/invoices']) {
      const { status, headers, json } = await browser(site.url).get(path)
      expect([status, headers.get('content-type')]).toEqual([401, 'application/problem+json'])
      expect(json).toMatchObject({ status: 401, title: 'Unauthorized' })
    }
    expect([...askedOf(site.shopApi), ...askedOf(site.billingApi)]).toEqual([])
  })

  it('ask for a login of the last seconds where the API does, and pass on what it wants', async () => {
    const visitor = await loggedIn()
    const now = Date.now
    jest.spyOn(Date, 'now').mockImplementation(() => now() + 15_000)
    const cancel = () => rawRequest(site.url, '/api/orders/1001', headersFrom(visitor), 'DELETE')
    const refused = await cancel()
    expect([refused.status, JSON.parse(refused.text)]).toMatchObject([
      401,
      { error: 'insufficient_user_authentication', max_age: 10 },
    ])
    expect((await visitor.get('/api/orders')).status).toBe(200)

    const { headers } = await visitor.get('/login?max_age=10&returnTo=/orders')
    expect(new URL(headers.get('location')!).searchParams.get('max_age')).toBe('10')
    await finish(visitor, (await visitor.visit('/login?max_age=10&returnTo=/orders')).url)
    expect(JSON.parse((await cancel()).text)).toMatchObject({ cancelled: '1001' })
  })

  it('take an order into the list', async () => {
    const visitor = await loggedIn()
    const ids = async () => (await visitor.get('/api/orders')).json.orders.map(({ id }: { id: number }) => id)
    const before = await ids()
    await visitor.post('/api/orders')
    const [added, ...others] = (await ids()).filter((id: number) => !before.includes(id))
    expect(others).toEqual([])
    await rawRequest(site.url, `/api/orders/${added}`, headersFrom(visitor), 'DELETE')
    expect(await ids()).toEqual(before)
  })

  it('show the catalogue to everybody', async () => {
    const { json } = await browser(site.url).get('/api/catalogue')
    expect(json).toMatchObject({ items: [{ item: 'Espresso machine' }, {}, {}], token: null })
  })
})

describe('a request that a page of another origin has sent', () => {
  it.each([
    ['of another site', { 'Sec-Fetch-Site': 'cross-site', Origin: 'https://evil.example' }],
    ['of another port', { 'Sec-Fetch-Site': 'same-site', Origin: 'http://localhost:1' }],
    ['as an old browser says', { Origin: 'https://evil.example' }],
    ['without an origin', { Origin: 'null' }],
  ])('%s is refused if it may change something', async (_, headers) => {
    const visitor = await loggedIn()
    asked = []
    for (const path of ['/api/orders', '/api/logout']) {
      const { status, headers: answered, json } = await visitor.post(path, undefined, { headers })
      expect([status, answered.get('content-type')]).toEqual([403, 'application/problem+json'])
      expect(json).toMatchObject({ status: 403, error: 'cross_origin_request' })
    }
    expect([...askedOf(site.shopApi), ...askedOf(site.billingApi)]).toEqual([])
    expect((await visitor.get('/api/session')).json).toEqual({ user: 'demo user' })
  })

  it('passes when it is the page that has sent it', async () => {
    const visitor = await loggedIn()
    const headers = { 'Sec-Fetch-Site': 'same-origin', Origin: site.url }
    expect((await visitor.post('/api/orders', undefined, { headers })).status).toBe(201)
  })
})

describe('a login', () => {
  it('has a code with PKCE, state and nonce, and gives the session another id', async () => {
    const visitor = browser(site.url)
    const { headers } = await visitor.get('/login')
    const { searchParams } = new URL(headers.get('location')!)
    expect(Object.fromEntries(searchParams)).toMatchObject({
      response_type: 'code',
      code_challenge_method: 'S256',
      code_challenge: expect.stringMatching(/^[\w-]{43}$/),
      state: expect.stringMatching(/^[\w-]{43}$/),
      nonce: expect.stringMatching(/^[\w-]{43}$/),
    })
    expect(searchParams.getAll('resource')).toEqual([site.shopApi, site.billingApi])
    const before = visitor.clone()
    await finish(visitor, (await visitor.visit('/login')).url)
    expect(visitor.cookie('gateway')).not.toBe(before.cookie('gateway'))
    expect((await visitor.get('/api/session')).json).toEqual({ user: 'demo user' })
    expect((await before.get('/api/session')).json).toEqual({ user: null })
  })

  it('that was begun in another browser is not finished here', async () => {
    const attacker = browser(site.url)
    const callback = await callbackOf(attacker, (await attacker.visit('/login')).url)
    const victim = browser(site.url)
    await victim.visit('/login')
    const before = site.timeline.rows.length
    expect((await victim.get(callback)).headers.get('location')).toBe('/')
    expect((await victim.get('/api/session')).json).toEqual({ user: null })
    expect(site.timeline.rows).toHaveLength(before)
  })

  it('may be begun in two tabs', async () => {
    const visitor = browser(site.url)
    const first = await visitor.visit('/login?returnTo=/orders')
    const second = await visitor.visit('/login?returnTo=/billing')
    const answers = [await callbackOf(visitor, first.url), await callbackOf(visitor, second.url)]
    expect((await visitor.get(answers[0]!)).headers.get('location')).toBe('/orders')
    // The session is another one by now, and it has the other tab's login.
    expect((await visitor.get(answers[1]!)).headers.get('location')).toBe('/billing')
    expect((await visitor.get('/api/session')).json).toEqual({ user: 'demo user' })
  })

  it('that the user breaks off leads to the page, which says so', async () => {
    const log = jest.spyOn(console, 'error').mockImplementation(() => {})
    const visitor = browser(site.url)
    const { headers } = await visitor.get('/login')
    const state = new URL(headers.get('location')!).searchParams.get('state')!
    const iss = encodeURIComponent(site.provider.issuer)
    const denied = await visitor.get(`/callback?error=access_denied&state=${state}&iss=${iss}`)
    expect(denied.headers.get('location')).toBe('/?login=failed')
    expect(log).toHaveBeenCalledTimes(1)
  })

  it.each([
    ['/orders', '/orders'],
    ['/billing?sort=due#top', '/billing?sort=due#top'],
    ['//evil.example', '/'],
    ['/\\evil.example', '/'],
    ['/\t/evil.example', '/'],
    ['/\n\\evil.example', '/'],
    ['/.//evil.example', '/'],
    ['https://evil.example', '/'],
    ['https:evil.example', '/'],
    ['javascript:alert(1)', '/'],
    ['\u0000//evil.example', '/'],
  ])('with returnTo=%j leads back to %s', async (returnTo, destination) => {
    const visitor = browser(site.url)
    const login = await visitor.visit(`/login?returnTo=${encodeURIComponent(returnTo)}`)
    const { headers } = await visitor.get(await callbackOf(visitor, login.url))
    expect(headers.get('location')).toBe(destination)
  })
})

describe('a logout', () => {
  it('ends the session, its streams and the refresh token, and says where to log out as well', async () => {
    const visitor = await loggedIn()
    const otherTab = visitor.clone()
    const headers = { cookie: `gateway=${otherTab.cookie('gateway')}` }
    // It resolves when the response has begun.
    const stream = await fetch(`${site.url}/api/orders/news`, { headers })
    expect(stream.status).toBe(200)
    const broken = expect(stream.text()).rejects.toThrow('terminated')
    const { refresh_token } = issued

    const { status, json } = await visitor.post('/api/logout')
    await broken
    expect(status).toBe(200)
    expect(visitor.cookie('gateway')).toBeUndefined()
    expect((await otherTab.get('/api/orders')).status).toBe(401)
    expect((await otherTab.get('/api/session')).json).toEqual({ user: null })
    expect(await site.provider.RefreshToken.find(refresh_token)).toBeUndefined()
    const { origin, searchParams } = new URL(json.logoutUrl)
    expect(origin).toBe(site.provider.issuer)
    // No `id_token_hint`: no token goes to the browser, not even in a link.
    expect(Object.fromEntries(searchParams)).toEqual({
      client_id: 'gateway',
      post_logout_redirect_uri: `${site.url}/`,
      state: expect.stringMatching(/^[\w-]{22}$/),
    })
  })

  it('of somebody who is not logged in does nothing', async () => {
    expect((await browser(site.url).post('/api/logout')).status).toBe(200)
  })
})

describe('a grant that the authorization server has ended', () => {
  it('ends the session at the next refresh', async () => {
    const visitor = await loggedIn()
    await (await site.provider.RefreshToken.find(issued.refresh_token))?.destroy()
    for (const path of ['/api/invoices', '/api/orders']) {
      expect((await visitor.get(path)).status).toBe(401)
    }
    expect((await visitor.get('/api/session')).json).toEqual({ user: null })
  })
})

describe('an authorization server that is down', () => {
  it('keeps nobody from what needs no refresh, and logs nobody out', async () => {
    const log = jest.spyOn(console, 'error').mockImplementation(() => {})
    const visitor = await loggedIn()
    isDown = true
    const { status, headers, json } = await visitor.get('/api/invoices')
    expect([status, json.title, headers.get('retry-after')]).toEqual([503, 'Try again in a moment', '7'])
    expect(log).toHaveBeenCalledTimes(1)
    expect((await visitor.get('/api/orders')).status).toBe(200)
    isDown = false
    expect((await visitor.get('/api/session')).json).toEqual({ user: 'demo user' })
  })
})

describe('the session cookie', () => {
  it('is HttpOnly and SameSite on the loopback interface', async () => {
    const { headers } = await rawRequest(site.url, '/login')
    expect(headers['set-cookie']).toEqual([
      expect.stringMatching(/^gateway=.*; Path=\/; HttpOnly; SameSite=Lax$/),
    ])
  })

  it('is __Host- and Secure besides where the gateway is reached over https, and set over nothing else', async () => {
    const secure = await start({
      port: 0,
      url: 'https://app.example',
      accessTokenSeconds: 60,
      newsEveryMs: 20,
      freshLoginSeconds: 10,
    })
    try {
      const over = (protocol: string) =>
        rawRequest(secure.origin, '/login', { 'x-forwarded-proto': protocol })
      const { headers } = await over('https')
      const flags = /^__Host-gateway=.*; Path=\/; HttpOnly; Secure; SameSite=Lax$/
      expect(headers['set-cookie']).toEqual([expect.stringMatching(flags)])
      expect(headers['strict-transport-security']).toBe('max-age=31536000')
      const { searchParams } = new URL(headers.location!)
      expect(searchParams.get('redirect_uri')).toBe('https://app.example/callback')
      expect((await over('http')).headers['set-cookie']).toBeUndefined()
    } finally {
      await secure.close()
    }
  })

  it('is not set for those who only look', async () => {
    const { headers, status } = await rawRequest(site.url, '/')
    expect([status, headers['set-cookie']]).toEqual([200, undefined])
    expect(headers['content-security-policy']).toMatch(
      /^default-src 'none'; script-src 'self'; style-src 'self';/,
    )
  })
})

async function loggedIn(): Promise<Browser> {
  const visitor = browser(site.url)
  await finish(visitor, (await visitor.visit('/login')).url)
  asked = []
  return visitor
}

/** Presses the button of the login page. Answers with where the authorization server then sends the browser. */
async function callbackOf(visitor: Browser, loginPage: string): Promise<string> {
  const pressed = await visitor.post(loginPage)
  const resumed = await visitor.get(pressed.headers.get('location') ?? '')
  return resumed.headers.get('location') ?? ''
}

async function finish(visitor: Browser, loginPage: string): Promise<void> {
  await visitor.get(await callbackOf(visitor, loginPage))
}

/** What the page sends along. */
function headersFrom(visitor: Browser): Record<string, string> {
  return { cookie: `gateway=${visitor.cookie('gateway')}` }
}

function askedOf(api: string): IncomingMessage[] {
  return asked.filter(({ headers }) => headers.host === new URL(api).host)
}
