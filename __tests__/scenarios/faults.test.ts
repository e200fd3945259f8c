import { Agent } from 'node:http'
import type { LookupFunction } from 'node:net'
import { afterAll, afterEach, beforeAll, describe, expect, it } from '@jest/globals'
import { decodeJwt, EncryptJWT, UnsecuredJWT } from 'jose'
import { memoryGrantStore } from '../../lib/grants/memory-grant-store.js'
import { clientSecretBasic } from '../../lib/index.js'
import type { TokenSet } from '../../lib/tokens/token-set.js'
import {
  type AuthorizationServer,
  clients,
  startAuthorizationServer,
} from '../helpers/authorization-server.js'
import type { Browser } from '../helpers/browser.js'
import { type FaultServer, startTokenEndpoint } from '../helpers/fault-server.js'
import type { Fault } from '../helpers/faults.js'
import { eventually } from '../helpers/fleet-expectations.js'
import { createGate } from '../helpers/gate.js'
import { type Site, type SiteOptions, sharedSessions, startSite } from '../helpers/site.js'
import { json, wireServer } from '../helpers/wire-server.js'

const HOUR_MS = 3_600_000
/** Long enough for the leeway of a minute, short enough for the token to be valid. */
const INSIDE_LEEWAY_MS = HOUR_MS - 30_000
/** After its first failure a grant rests for a second at most. */
const LONGEST_FIRST_REST_MS = 1_000

let server: AuthorizationServer
const closers: (() => Promise<unknown>)[] = []

beforeAll(async () => {
  server = await startAuthorizationServer()
})
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close()
})
afterAll(() => server.close())

async function siteOf(options?: SiteOptions): Promise<Site> {
  const site = await startSite(server, options)
  closers.push(site.close)
  return site
}

/** A site, and a browser whose session has tokens and something of the app's. */
async function loggedIn(options?: SiteOptions): Promise<{ site: Site; browser: Browser; token: string }> {
  const site = await siteOf(options)
  site.handle('/cart', (request) => Object.assign(request.session, { cart: ['book'] }))
  const browser = site.browser()
  await site.login(browser)
  await browser.get('/cart')
  return { site, browser, token: (await browser.get('/token')).json.token }
}

/** Everything in the stored session but the cookie, whose expiry every request moves. */
async function sessionData(site: Site, browser: Browser): Promise<object> {
  const { cookie: _, ...data } = (await site.stored(browser)) ?? {}
  return data
}

/** Asks for a token so many times at once; resolves when every call is under way. */
async function askTogether(site: Site, browser: Browser, queries: readonly string[]) {
  const gate = createGate()
  site.handle('/together', async (request) => {
    await gate.pass()
    return request.tokens.getAccessToken(request.query as Record<string, string>)
  })
  const asked = queries.map((query) => browser.get(`/together?${query}`))
  await gate.reachedBy(queries.length)
  gate.release()
  return { asked }
}

async function tokensOf(site: Site, browser: Browser): Promise<TokenSet> {
  return (await site.storedTokens(browser))!
}

const LOGIN = {
  access_token: 'first-access-token',
  token_type: 'Bearer',
  expires_in: 3600,
  refresh_token: 'first-refresh-token',
  scope: 'orders.read',
}

/** A site in front of a scripted token endpoint, with a browser logged in. */
async function scripted(
  answers: (index: number) => Fault | Promise<Fault>,
  options: SiteOptions & { login?: object } = {},
): Promise<{ site: Site; browser: Browser; endpoint: FaultServer; refreshes(): FaultServer['requests'] }> {
  let refreshes = 0
  const endpoint = await startTokenEndpoint(({ path }) =>
    path === '/token' ? answers(refreshes++) : { status: 200 },
  )
  closers.push(endpoint.close)
  const site = await startSite({ ...endpoint, clients, login: server.login }, options)
  closers.push(site.close)
  const browser = site.browser()
  const answer = await browser.post('/login', { ...LOGIN, ...options.login })
  expect(answer.status).toBe(200)
  return {
    site,
    browser,
    endpoint,
    refreshes: () => endpoint.requests.filter(({ path }) => path === '/token'),
  }
}

const answer = (body: object): Fault => ({ status: 200, body: { token_type: 'Bearer', ...body } })

describe('S40 the authorization server cannot be reached or is out of order', () => {
  /** A server that cannot be found, until it can. */
  function nameService() {
    let found = true
    const lookup: LookupFunction = (_host, options, callback) => {
      if (!found) callback(Object.assign(new Error('getaddrinfo ENOTFOUND'), { code: 'ENOTFOUND' }), '')
      else if (options.all) callback(null, [{ address: '127.0.0.1', family: 4 }])
      else callback(null, '127.0.0.1', 4)
    }
    return {
      lookup,
      breakDown: () => {
        found = false
      },
      repair: () => {
        found = true
      },
    }
  }

  interface Outage {
    readonly options?: SiteOptions
    begin(): unknown
    end(): unknown
  }

  const answering = (fault: Fault, options?: SiteOptions) => (): Outage => ({
    ...(options && { options }),
    // One call with a valid access token, one with an expired one.
    begin: () => server.failNext(fault, 2),
    end: () => {},
  })
  // Long enough for a refresh on a busy machine.
  const impatient = { tokens: { refreshTimeoutMs: 1_000 } }

  const outages: [name: string, outage: () => Outage][] = [
    ['connection refused', () => ({ begin: () => server.down(), end: () => server.up() })],
    [
      'DNS failure',
      () => {
        const names = nameService()
        const tokenEndpoint = server.tokenEndpoint.replace('127.0.0.1', 'localhost')
        const httpAgent = new Agent({ lookup: names.lookup })
        const options = { tokens: { tokenEndpoint, http: { httpAgent } } }
        return { options, begin: names.breakDown, end: names.repair }
      },
    ],
    ['connection reset', answering('reset')],
    ['connection closed without a response', answering('hangup')],
    ['connection reset in the middle of the response', answering('cut-connection')],
    ['no response in time', answering('silence', impatient)],
    ['a response that never ends', answering('stall', impatient)],
    ['500', answering(500)],
    ['503', answering({ status: 503, body: 'Service Unavailable' })],
    ['503 that looks like invalid_grant', answering({ status: 503, body: { error: 'invalid_grant' } })],
    ['429', answering({ status: 429, body: 'Too Many Requests' })],
    ['408', answering({ status: 408 })],
    ['an HTML 502', answering('html-502')],
    ['cut-off JSON', answering('cut-off')],
  ]

  it.each(outages)(
    'S40 %s: a valid token is served, else 503; afterwards all requests succeed',
    async (_, outageOf) => {
      const outage = outageOf()
      const { site, browser, token } = await loggedIn(outage.options)
      const session = await sessionData(site, browser)
      const reusesBefore = server.reuses()
      await outage.begin()

      site.clock.advance(INSIDE_LEEWAY_MS)
      const valid = await browser.get('/token')
      expect([valid.status, valid.json?.token]).toEqual([200, token])
      expect(await sessionData(site, browser)).toEqual(session)
      // The caller may have its token before the refresh has failed.
      await eventually(async () =>
        expect(site.events).toEqual([
          expect.objectContaining({
            type: 'refresh_failed',
            error: expect.objectContaining({ code: 'ERR_TOKEN_ENDPOINT_UNAVAILABLE' }),
          }),
        ]),
      )

      site.clock.advance(30_000)
      const expired = await browser.get('/token')
      expect([expired.status, expired.json.code]).toEqual([503, 'ERR_TOKEN_ENDPOINT_UNAVAILABLE'])
      expect(site.errors).toEqual([expect.objectContaining({ retryable: true, status: 503 })])
      expect(await sessionData(site, browser)).toEqual(session)

      await outage.end()
      site.clock.advance(LONGEST_FIRST_REST_MS)
      const well = await browser.get('/token')
      expect(well.status).toBe(200)
      expect(well.json.token).not.toBe(token)
      const { refreshToken, revision } = await tokensOf(site, browser)
      expect(revision).toBe(2)
      expect(await server.isActive(refreshToken!)).toBe(true)
      expect(server.reuses()).toBe(reusesBefore)
      expect(await sessionData(site, browser)).toMatchObject({ cart: ['book'] })
    },
  )
})

describe('S41 Retry-After', () => {
  const inSeconds = () => '7'
  const asDate = (site: Site) => new Date(site.clock.now() + 7_000).toUTCString()

  it.each([
    ['429', 'in seconds', 429, inSeconds],
    ['429', 'as a date', 429, asDate],
    ['503', 'in seconds', 503, inSeconds],
    ['503', 'as a date', 503, asDate],
  ] as const)('S41 %s with Retry-After %s: no refresh before it', async (_, __, status, at) => {
    const { site, browser } = await loggedIn()
    const other = site.browser()
    await site.login(other, 'other')
    site.clock.advance(HOUR_MS)
    const before = server.tokenRequests.length
    const calls = () => server.tokenRequests.length - before
    server.failNext({ status, headers: { 'retry-after': at(site) } })

    const first = await browser.get('/token')
    expect(first.status).toBe(503)
    expect(first.json.retryAfterMs).toBeGreaterThan(5_000)
    expect(first.json.retryAfterMs).toBeLessThanOrEqual(7_000)
    expect(calls()).toBe(1)

    site.clock.advance(4_000)
    const polls = await Promise.all(Array.from({ length: 10 }, () => browser.get('/token?scope=openid')))
    for (const poll of polls) {
      expect([poll.status, poll.json.code]).toEqual([503, 'ERR_TOKEN_ENDPOINT_UNAVAILABLE'])
      expect(poll.json.retryAfterMs).toBeGreaterThan(0)
      expect(poll.json.retryAfterMs).toBeLessThanOrEqual(3_000)
    }
    expect(calls()).toBe(1)
    // A 429 is about the client or its user, a 503 is about the server.
    const isOfServer = status === 503
    expect((await other.get('/token')).status).toBe(isOfServer ? 503 : 200)
    expect(calls()).toBe(isOfServer ? 1 : 2)

    site.clock.advance(3_000)
    expect((await browser.get('/token')).status).toBe(200)
    expect((await other.get('/token')).status).toBe(200)
    expect(calls()).toBe(3)
  })

  it('S41 a token that is still valid is served during the pause, without a call', async () => {
    const { site, browser, token } = await loggedIn()
    site.clock.advance(INSIDE_LEEWAY_MS)
    const before = server.tokenRequests.length
    server.failNext(503)
    for (let call = 0; call < 5; call++) expect((await browser.get('/token')).json.token).toBe(token)
    expect(server.tokenRequests.length - before).toBe(1)
  })
})

describe('S42 invalid_grant', () => {
  /** Tokens that another process has obtained for the session's grant, newer than the session's by one. */
  async function newerThan(tokens: TokenSet, site: Site, valid: boolean): Promise<TokenSet> {
    const login = await server.login('user')
    const now = site.clock.now()
    const [accessToken] = tokens.accessTokens
    return {
      ...tokens,
      revision: tokens.revision + 1,
      refreshToken: login.refresh_token,
      accessTokens: [
        {
          ...accessToken!,
          token: login.access_token,
          obtainedAt: valid ? now : now - HOUR_MS,
          expiresAt: valid ? now + HOUR_MS : now,
        },
      ],
    }
  }

  const places: [
    string,
    (
      site: Site,
      browser: Browser,
      grants: ReturnType<typeof memoryGrantStore>,
    ) => (newer: TokenSet) => Promise<unknown>,
  ][] = [
    [
      'grant store',
      (_site, _browser, grants) => (newer) =>
        grants.commit(newer.grantId, 'another process', {
          revision: newer.revision,
          tokens: JSON.stringify(newer),
        }),
    ],
    [
      'session store',
      (site, browser) => async (newer) => {
        const sid = site.store.calls.find(({ method }) => method === 'set')!.sid
        const session = { ...(await site.stored(browser)), tokens: JSON.stringify(newer) }
        await new Promise((resolve) => site.store.store.set(sid, session as never, resolve))
      },
    ],
  ]

  describe.each(places)('and the %s has newer tokens', (_, placeOf) => {
    it('S42 they are adopted, without another call', async () => {
      const grants = memoryGrantStore()
      const { site, browser } = await loggedIn({ surroundings: { grants } })
      site.clock.advance(HOUR_MS)
      const before = server.tokenRequests.length
      const newer = await newerThan(await tokensOf(site, browser), site, true)
      server.failNext('invalid_grant')
      const held = server.hold()
      const asked = browser.get('/token')
      await held.reached
      await placeOf(site, browser, grants)(newer)
      held.release()

      const answered = await asked
      expect([answered.status, answered.json.token]).toEqual([200, newer.accessTokens[0]!.token])
      expect(server.tokenRequests.length - before).toBe(1)
      expect((await browser.get('/token')).json.token).toBe(newer.accessTokens[0]!.token)
    })

    it('S42 if their access token has expired too, they are refreshed', async () => {
      const grants = memoryGrantStore()
      const { site, browser } = await loggedIn({ surroundings: { grants } })
      site.clock.advance(HOUR_MS)
      const before = server.tokenRequests.length
      const newer = await newerThan(await tokensOf(site, browser), site, false)
      server.failNext('invalid_grant')
      const held = server.hold()
      const asked = browser.get('/token')
      await held.reached
      await placeOf(site, browser, grants)(newer)
      held.release()

      expect((await asked).status).toBe(200)
      expect(server.tokenRequests.slice(before).map(({ refreshToken }) => refreshToken)).toEqual([
        expect.not.stringMatching(newer.refreshToken!),
        newer.refreshToken,
      ])
      const { refreshToken, revision } = await tokensOf(site, browser)
      expect(revision).toBe(newer.revision + 1)
      expect(await server.isActive(refreshToken!)).toBe(true)
    })
  })

  async function revokeAtServer(token: string): Promise<void> {
    const { clientId, clientSecret } = clients.client_secret_basic
    const encoded = [clientId, clientSecret].map((part) =>
      new URLSearchParams({ '': part }).toString().slice(1),
    )
    const answered = await fetch(server.revocationEndpoint, {
      method: 'POST',
      headers: { authorization: `Basic ${Buffer.from(encoded.join(':')).toString('base64')}` },
      body: new URLSearchParams({ token }),
    })
    expect(answered.status).toBe(200)
  }

  it('S42 otherwise the user must log in, and a polling page causes no more calls, even after a restart', async () => {
    const open = sharedSessions()
    const { site, browser } = await loggedIn({ store: open() })
    await revokeAtServer((await tokensOf(site, browser)).refreshToken!)
    site.clock.advance(HOUR_MS)
    const before = server.tokenRequests.length
    const expectPollsRefused = async (page: Browser) => {
      for (let poll = 0; poll < 10; poll++) {
        const [one, other] = await Promise.all([page.get('/token'), page.get('/token?scope=orders.read')])
        expect([one.status, one.json.code]).toEqual([401, 'ERR_REAUTHENTICATION_REQUIRED'])
        expect([other.status, other.json.code]).toEqual([401, 'ERR_REAUTHENTICATION_REQUIRED'])
      }
    }
    await expectPollsRefused(browser)
    expect(server.tokenRequests.length - before).toBe(1)
    expect(await sessionData(site, browser)).toMatchObject({ cart: ['book'] })
    const { refreshToken, accessTokens } = await tokensOf(site, browser)
    expect([refreshToken, accessTokens]).toEqual([undefined, []])

    const restarted = await siteOf({ store: open() })
    await expectPollsRefused(restarted.browser(browser))
    expect(server.tokenRequests.length - before).toBe(1)

    await site.login(browser)
    expect((await browser.get('/token')).status).toBe(200)
  })
})

describe('S43 the authorization server rejects the client', () => {
  it.each<[string, Fault]>([
    ['invalid_client, 401 with WWW-Authenticate', 'invalid_client'],
    ['401 with only WWW-Authenticate', { status: 401, headers: { 'www-authenticate': 'Basic realm="as"' } }],
    ['invalid_client, 400', 'invalid_client-400'],
    ['unauthorized_client', 'unauthorized_client'],
  ])('S43 %s: 500, and users stay logged in', async (_, fault) => {
    const { site, browser, token } = await loggedIn()
    const session = await sessionData(site, browser)
    server.failNext(fault, 2)

    site.clock.advance(INSIDE_LEEWAY_MS)
    expect((await browser.get('/token')).json.token).toBe(token)
    site.clock.advance(30_000)
    const refused = await browser.get('/token')
    expect([refused.status, refused.json.code]).toEqual([500, 'ERR_CLIENT_REJECTED'])
    expect(site.errors).toEqual([expect.objectContaining({ retryable: false })])
    expect(await sessionData(site, browser)).toEqual(session)

    site.clock.advance(2 * LONGEST_FIRST_REST_MS)
    expect((await browser.get('/token')).status).toBe(200)
    expect(await server.isActive((await tokensOf(site, browser)).refreshToken!)).toBe(true)
  })

  it('S43 by the server itself, for a secret that is wrong', async () => {
    const wrong = clientSecretBasic('not the secret')
    const { site, browser } = await loggedIn({ tokens: { clientAuthentication: wrong } })
    const session = await sessionData(site, browser)
    site.clock.advance(HOUR_MS)
    const refused = await browser.get('/token')
    expect([refused.status, refused.json.code]).toEqual([500, 'ERR_CLIENT_REJECTED'])
    expect(await sessionData(site, browser)).toEqual(session)
  })
})

describe('S44 the authorization server returns an invalid response', () => {
  it.each<Fault & string>([
    'garbage',
    'no-access-token',
    'null',
    'array',
    'huge',
    'redirect',
    'empty',
    'html-200',
    'empty-400',
    'empty-401',
  ])('S44 %s: 502, and the session is untouched', async (fault) => {
    const { site, browser, token } = await loggedIn()
    const session = await sessionData(site, browser)
    server.failNext(fault, 2)

    site.clock.advance(INSIDE_LEEWAY_MS)
    expect((await browser.get('/token')).json.token).toBe(token)
    site.clock.advance(30_000)
    const failed = await browser.get('/token')
    expect([failed.status, failed.json.code]).toEqual([502, 'ERR_INVALID_TOKEN_RESPONSE'])
    expect(await sessionData(site, browser)).toEqual(session)
    expect(server.elsewhere).toEqual([])

    site.clock.advance(LONGEST_FIRST_REST_MS)
    const well = await browser.get('/token')
    expect([well.status, well.json.token === token]).toEqual([200, false])
  })
})

describe('S44 only the refresh token of a response is usable', () => {
  it.each<[string, object]>([
    ['no access token', { access_token: undefined }],
    ['an access token that is odd', { access_token: { value: 'access' } }],
    ['an access token that no header may hold', { access_token: 'access\n' }],
  ])('S44 %s: 502, and the next request presents the new refresh token', async (_, odd) => {
    const { site, browser, refreshes } = await scripted((index) =>
      answer({ access_token: `access ${index}`, refresh_token: `refresh ${index}`, ...(index === 0 && odd) }),
    )
    site.clock.advance(INSIDE_LEEWAY_MS)
    expect((await browser.get('/token')).json.token).toBe(LOGIN.access_token)
    expect(site.events).toMatchObject([
      { type: 'refresh_failed', error: { code: 'ERR_INVALID_TOKEN_RESPONSE', status: 502 } },
    ])
    expect(await tokensOf(site, browser)).toMatchObject({
      refreshToken: 'refresh 0',
      accessTokens: [{ token: LOGIN.access_token }],
    })
    site.clock.advance(30_000)
    expect((await browser.get('/token')).json.token).toBe('access 1')
    expect(refreshes().map(({ parameters }) => parameters.get('refresh_token'))).toEqual([
      LOGIN.refresh_token,
      'refresh 0',
    ])
  })

  it('S44 an error in it: the refresh token is still that of the login', async () => {
    const { site, browser } = await scripted(() =>
      answer({ error: 'invalid_scope', refresh_token: 'echoed' }),
    )
    site.clock.advance(HOUR_MS)
    expect((await browser.get('/token')).status).toBe(502)
    expect((await tokensOf(site, browser)).refreshToken).toBe(LOGIN.refresh_token)
  })
})

describe('S45 the patience of a caller ends', () => {
  it('S45 at timeoutMs; the result is kept and the next request has it', async () => {
    const { site, browser, token } = await loggedIn({ tokens: { timeoutMs: 30 } })
    site.clock.advance(HOUR_MS)
    const before = server.refreshes()
    const held = server.holdAnswer()
    const tooLate = await browser.get('/token')
    expect([tooLate.status, tooLate.json.code]).toEqual([503, 'ERR_TOKEN_ENDPOINT_UNAVAILABLE'])
    expect(site.errors).toEqual([expect.objectContaining({ retryable: true })])
    await held.reached
    held.release()
    await site.mounted.manager.close()

    const { revision, accessTokens } = await tokensOf(site, browser)
    expect(revision).toBe(2)
    const next = await browser.get('/token')
    expect([next.status, next.json.token]).toEqual([200, accessTokens[0]!.token])
    expect(next.json.token).not.toBe(token)
    expect(server.refreshes() - before).toBe(1)
  })

  it('S45 and the access token is still valid: it is served', async () => {
    const { site, browser, token } = await loggedIn({ tokens: { timeoutMs: 30 } })
    site.clock.advance(INSIDE_LEEWAY_MS)
    const held = server.hold()
    expect((await browser.get('/token')).json.token).toBe(token)
    held.release()
    await site.mounted.manager.close()
    expect((await browser.get('/token')).json.token).not.toBe(token)
  })
})

describe('S46 the response is lost after the refresh token was spent', () => {
  it.each<[Fault & string, SiteOptions]>([
    ['reset-after', {}],
    ['silence-after', { tokens: { refreshTimeoutMs: 1_000 } }],
  ])('S46 %s: the refresh token is not sent again within the same calls', async (fault, options) => {
    const { site, browser } = await loggedIn(options)
    const session = await sessionData(site, browser)
    const reusesBefore = server.reuses()
    site.clock.advance(HOUR_MS)
    const before = server.tokenRequests.length
    server.failNext(fault)
    const held = server.holdAnswer()
    const { asked } = await askTogether(site, browser, Array(10).fill(''))
    await held.reached
    held.release()
    for (const { status, json } of await Promise.all(asked)) {
      expect([status, json.code]).toEqual([503, 'ERR_TOKEN_ENDPOINT_UNAVAILABLE'])
    }
    expect(server.tokenRequests.length - before).toBe(1)
    expect(await sessionData(site, browser)).toEqual(session)

    // The next call can do no other than to try it: nobody knows whether it was used up.
    site.clock.advance(LONGEST_FIRST_REST_MS)
    const next = await browser.get('/token')
    expect([next.status, next.json.code]).toEqual([401, 'ERR_REAUTHENTICATION_REQUIRED'])
    expect(server.tokenRequests.length - before).toBe(2)
    expect(server.reuses() - reusesBefore).toBe(1)
  })

  it('S46 with a server that accepts the refresh token again, the user stays logged in', async () => {
    const { site, browser, refreshes } = await scripted((index) =>
      index === 0 ? 'reset-after' : answer({ access_token: 'second', refresh_token: 'second-refresh-token' }),
    )
    site.clock.advance(HOUR_MS)
    expect((await browser.get('/token')).status).toBe(503)
    expect(refreshes()).toHaveLength(1)
    site.clock.advance(LONGEST_FIRST_REST_MS)
    expect((await browser.get('/token')).json.token).toBe('second')
    expect(refreshes().map(({ parameters }) => parameters.get('refresh_token'))).toEqual([
      LOGIN.refresh_token,
      LOGIN.refresh_token,
    ])
    expect((await tokensOf(site, browser)).refreshToken).toBe('second-refresh-token')
  })
})

describe('S48 a property that a response omits', () => {
  it('S48 is kept: refresh token, ID token, scope; the new ones are stored in one write', async () => {
    const { clientId } = clients.client_secret_basic
    const idToken = (at: number) =>
      new UnsecuredJWT({ iss: 'https://idp.example', sub: 'user', aud: clientId, iat: at }).encode()
    const everything = {
      access_token: 'third-access-token',
      expires_in: 3600,
      refresh_token: 'third-refresh-token',
      id_token: idToken(3),
      scope: 'orders.write',
    }
    const { site, browser, refreshes } = await scripted(
      (index) => (index === 0 ? answer({ access_token: 'second-access-token' }) : answer(everything)),
      { login: { id_token: idToken(1) } },
    )
    site.clock.advance(HOUR_MS)
    expect((await browser.get('/token')).json).toMatchObject({
      token: 'second-access-token',
      scope: 'orders.read',
    })
    expect(await tokensOf(site, browser)).toMatchObject({
      revision: 2,
      refreshToken: LOGIN.refresh_token,
      idToken: idToken(1),
      accessTokens: [{ token: 'second-access-token', scope: 'orders.read' }],
    })

    site.clock.advance(HOUR_MS)
    site.store.forget()
    expect((await browser.get('/token')).json).toMatchObject({
      token: 'third-access-token',
      scope: 'orders.write',
    })
    expect(site.store.count('set')).toBe(1)
    expect(await tokensOf(site, browser)).toMatchObject({
      revision: 3,
      refreshToken: 'third-refresh-token',
      idToken: idToken(3),
      accessTokens: [{ token: 'third-access-token', scope: 'orders.write' }],
    })
    expect(refreshes().map(({ parameters }) => parameters.get('refresh_token'))).toEqual([
      LOGIN.refresh_token,
      LOGIN.refresh_token,
    ])
  })
})

describe('S48 an odd property in a response', () => {
  /** A server that takes each refresh token once, and ends the grant when one comes again. */
  async function rotating(odd: object, login: object = {}) {
    const rotated = await scripted(
      (index) => {
        const sent = rotated.refreshes().map(({ parameters }) => parameters.get('refresh_token'))
        if (new Set(sent).size < sent.length) return 'invalid_grant'
        return answer({ access_token: `access ${index}`, refresh_token: `refresh ${index}`, ...odd })
      },
      { login },
    )
    return rotated
  }

  it.each<[string, object]>([
    ['a scope in an array', { scope: ['orders.read'] }],
    ['a scope in an object', { scope: { 'orders.read': true } }],
    ['a token_type that is a number', { token_type: 5 }],
    ['an id_token that is an object', { id_token: { sub: 'user' } }],
  ])('S48 %s: no token is lost', async (_, odd) => {
    const { site, browser, refreshes } = await rotating(odd)
    for (let call = 0; call < 3; call++) {
      site.clock.advance(HOUR_MS)
      expect((await browser.get('/token')).json.token).toBe(`access ${call}`)
    }
    expect(refreshes()).toHaveLength(3)
  })

  it('S49 an ID token that is encrypted for the app is kept, unchecked', async () => {
    const encrypt = (sub: string) =>
      new EncryptJWT({ sub }).setProtectedHeader({ alg: 'dir', enc: 'A256GCM' }).encrypt(new Uint8Array(32))
    const idToken = await encrypt('user')
    const { site, browser } = await rotating({ id_token: idToken }, { id_token: await encrypt('user') })
    for (let call = 0; call < 2; call++) {
      site.clock.advance(HOUR_MS)
      expect((await browser.get('/token')).json.token).toBe(`access ${call}`)
    }
    expect((await tokensOf(site, browser)).idToken).toBe(idToken)
  })
})

describe('S49 the refreshed ID token is about another user', () => {
  const { clientId } = clients.client_secret_basic
  const claims = { iss: 'https://idp.example', sub: 'user', aud: clientId }
  const encoded = (other: object) => new UnsecuredJWT({ ...claims, ...other }).encode()

  it.each([
    ['another sub', encoded({ sub: 'another user' })],
    ['another issuer', encoded({ iss: 'https://evil.example' })],
    ['another audience', encoded({ aud: 'another client' })],
  ])('S49 %s: rejected, reported, and the used refresh token is not presented again', async (_, idToken) => {
    const foreign = { access_token: 'foreign', refresh_token: 'foreign-refresh-token', id_token: idToken }
    const { site, browser, endpoint, refreshes } = await scripted(() => answer(foreign), {
      login: { id_token: encoded({}) },
    })
    site.clock.advance(INSIDE_LEEWAY_MS)
    for (let call = 0; call < 3; call++) {
      expect((await browser.get('/token')).json.token).toBe(LOGIN.access_token)
    }
    expect(refreshes()).toHaveLength(1)
    expect(site.events.slice(0, 2)).toEqual([
      expect.objectContaining({ type: 'late_tokens_revoked' }),
      expect.objectContaining({
        type: 'refresh_failed',
        error: expect.objectContaining({ code: 'ERR_INVALID_TOKEN_RESPONSE' }),
      }),
    ])
    expect(
      endpoint.requests
        .filter(({ path }) => path === '/revoke')
        .map(({ parameters }) => parameters.get('token')),
    ).toEqual(['foreign-refresh-token'])
    const kept = await tokensOf(site, browser)
    expect([kept.refreshToken, kept.idToken]).toEqual([undefined, encoded({})])
    expect(JSON.stringify(await site.stored(browser))).not.toContain('foreign')

    site.clock.advance(30_000)
    for (let call = 0; call < 3; call++) {
      const over = await browser.get('/token')
      expect([over.status, over.json.code]).toEqual([401, 'ERR_REAUTHENTICATION_REQUIRED'])
    }
    expect(refreshes()).toHaveLength(1)
  })

  it('S49 about the same user: accepted', async () => {
    const { site, browser } = await loggedIn()
    const before = (await tokensOf(site, browser)).idToken!
    site.clock.advance(HOUR_MS)
    expect((await browser.get('/token')).status).toBe(200)
    const after = (await tokensOf(site, browser)).idToken!
    expect(after).not.toBe(before)
    expect(decodeJwt(after).sub).toBe(decodeJwt(before).sub)
  })
})

describe('S50 long and unusual tokens, client ids and secrets', () => {
  const ODD = 'a+b&c=d%e/f"g h'
  const ODD_ENCODED = 'a%2Bb%26c%3Dd%25e%2Ff%22g+h'

  it.each([
    ['a refresh token of + & = % / " and spaces', ODD, ODD_ENCODED],
    ['a refresh token of 8 KB', 'r'.repeat(8_192), 'r'.repeat(8_192)],
  ])('S50 %s: exact bytes on the wire, again and again', async (_, refreshToken, onTheWire) => {
    const { site, browser, refreshes } = await scripted(
      (index) => answer({ access_token: `access ${index}`, refresh_token: `${refreshToken}${index}` }),
      { login: { refresh_token: refreshToken } },
    )
    for (let call = 0; call < 2; call++) {
      site.clock.advance(HOUR_MS)
      expect((await browser.get('/token')).json.token).toBe(`access ${call}`)
    }
    expect(refreshes().map(({ body }) => body)).toEqual([
      `grant_type=refresh_token&refresh_token=${onTheWire}`,
      `grant_type=refresh_token&refresh_token=${onTheWire}0`,
    ])
    expect((await tokensOf(site, browser)).refreshToken).toBe(`${refreshToken}1`)
  })

  it('S50 an access token of 8 KB reaches the API', async () => {
    const long = 'a'.repeat(8_192)
    const api = await wireServer((_request, response) => json(response, {}))
    closers.push(api.close)
    const { site, browser } = await scripted(() => answer({ access_token: long }))
    site.handle('/api', async (request) => (await request.tokens.axios({ baseURL: api.url }).get('/')).data)
    site.clock.advance(HOUR_MS)
    expect((await browser.get('/api')).status).toBe(200)
    expect(api.requests[0]?.headers.authorization).toBe(`Bearer ${long}`)
    expect((await tokensOf(site, browser)).accessTokens[0]?.token).toBe(long)
  })

  const clientId = 'id:+%/ ä'
  const secret = 'secret:+%/ ä'

  it.each([
    ['form-encoded (RFC 6749 §2.3.1)', clientId, {}, 'id%3A%2B%25%2F+%C3%A4:secret%3A%2B%25%2F+%C3%A4'],
    ['as they are, for servers that do not decode', 'id+%/ ä', { formEncode: false }, 'id+%/ ä:secret:+%/ ä'],
  ])('S50 client ids and secrets of : + %% / space ä are sent %s', async (_, id, encoding, credentials) => {
    const { site, browser, refreshes } = await scripted(() => answer({ access_token: 'second' }), {
      tokens: { clientId: id, clientAuthentication: clientSecretBasic(secret, encoding) },
    })
    site.clock.advance(HOUR_MS)
    expect((await browser.get('/token')).json.token).toBe('second')
    expect(refreshes().map(({ headers }) => headers.authorization)).toEqual([
      `Basic ${Buffer.from(credentials).toString('base64')}`,
    ])
  })
})

describe('S51 middleware.close()', () => {
  it('S51 waits for refreshes in flight and until their results are stored', async () => {
    const grants = memoryGrantStore()
    const { site, browser } = await loggedIn({ surroundings: { grants } })
    const other = site.browser()
    await site.login(other, 'other')
    site.clock.advance(HOUR_MS)
    const atServer = server.holdAnswer()
    const leaving = new AbortController()
    const gone = browser.get('/token', { signal: leaving.signal }).catch(() => 'gone')
    const waiting = other.get('/token')
    await atServer.reachedBy(2)
    leaving.abort()
    expect(await gone).toBe('gone')

    let closed = false
    const closing = site.middleware.close().then(() => {
      closed = true
    })
    const atStore = site.store.hold('set')
    atServer.release()
    await atStore.reachedBy(2)
    expect(closed).toBe(false)
    atStore.release()
    await closing

    for (const visitor of [browser, other]) {
      const { revision, refreshToken, grantId } = await tokensOf(site, visitor)
      expect(revision).toBe(2)
      expect(await server.isActive(refreshToken!)).toBe(true)
      expect((await grants.read(grantId)).record?.revision).toBe(2)
    }
    expect((await waiting).status).toBe(200)
  })

  it('S51 waits for refreshes that wait for their turn', async () => {
    const resources = ['https://a.example', 'https://b.example', 'https://c.example']
    const site = await siteOf()
    const browser = site.browser()
    await site.login(browser, 'user', { resource: resources })
    site.clock.advance(HOUR_MS)
    const before = server.refreshes()
    const held = server.hold()
    const { asked } = await askTogether(
      site,
      browser,
      resources.map((resource) => `resource=${resource}`),
    )
    await held.reached
    const closing = site.middleware.close()
    held.release()
    await closing
    expect(server.refreshes() - before).toBe(3)
    expect((await tokensOf(site, browser)).revision).toBe(4)
    for (const { status } of await Promise.all(asked)) expect(status).toBe(200)
  })

  it('S51 resolves at once if no refresh is in flight, and again', async () => {
    const { site } = await loggedIn()
    await site.middleware.close()
    await site.middleware.close()
  })
})
