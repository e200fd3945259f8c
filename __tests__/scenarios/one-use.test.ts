import { afterEach, beforeEach, describe, expect, it } from '@jest/globals'
import type { Request } from 'express'
import { decodeJwt } from 'jose'
import { memoryGrantStore } from '../../lib/grants/memory-grant-store.js'
import { clientSecretBasic, type SessionTokens } from '../../lib/index.js'
import { composeMiddleware } from '../../lib/middleware/composition.js'
import { middlewareOf } from '../../lib/middleware/express.js'
import { expressVersions } from '../helpers/app.js'
import { type AuthorizationServer, startAuthorizationServer } from '../helpers/authorization-server.js'
import type { Browser, BrowserAnswer } from '../helpers/browser.js'
import { testClock } from '../helpers/clock.js'
import { createGate } from '../helpers/gate.js'
import {
  ownProcess,
  recordingGrants,
  type Site,
  type SiteOptions,
  sharedSessions,
  startSite,
} from '../helpers/site.js'
import { readSession, sessionIdOf } from '../helpers/stores.js'

const HOUR_MS = 3_600_000

let server: AuthorizationServer
let sites: Site[]

beforeEach(async () => {
  server = await startAuthorizationServer()
  sites = []
})
afterEach(async () => {
  for (const site of sites) await site.close()
  await server.close()
})

async function siteWith(options: SiteOptions = {}): Promise<Site> {
  const site = await startSite(server, options)
  sites.push(site)
  return site
}

/** Asks so many times at once. */
function atOnce(times: number, ask: () => Promise<BrowserAnswer>): Promise<BrowserAnswer[]> {
  return Promise.all(Array.from({ length: times }, ask))
}

/** The one token that all answers hold. */
function theToken(answers: readonly BrowserAnswer[]): string {
  expect(answers.map(({ status }) => status)).toEqual(answers.map(() => 200))
  const tokens = new Set<string>(answers.map(({ json }) => json.token))
  expect(tokens.size).toBe(1)
  return [...tokens][0]!
}

/** Every refresh token was used once, and the one that the session holds now is good. */
async function expectHealthy(site: Site, browser: Browser, refreshes: number): Promise<void> {
  expect(server.refreshes()).toBe(refreshes)
  expect(server.tokenRequests).toHaveLength(refreshes)
  expect(server.presentedAgain()).toEqual([])
  expect(server.endedGrants).toEqual([])
  expect(await server.isActive((await site.storedTokens(browser))?.refreshToken ?? 'none')).toBe(true)
}

describe.each(expressVersions)('fifty at once, on %s', (_, express) => {
  it('S10 50 parallel requests, one session, expired access token: 1 refresh, 50 responses', async () => {
    const site = await siteWith({ express })
    const browser = site.browser()
    await site.login(browser)
    site.clock.advance(HOUR_MS)
    const token = theToken(await atOnce(50, () => browser.get('/token')))
    expect(await server.isActive(token)).toBe(true)
    await expectHealthy(site, browser, 1)
  })

  it('S10 50 requests that have all loaded the session before the first one requests a token: 1 refresh', async () => {
    const grants = recordingGrants()
    const site = await siteWith({ express, surroundings: { grants } })
    const loaded = createGate()
    site.handle('/loaded', async ({ tokens }) => {
      await loaded.pass()
      return tokens.getAccessToken()
    })
    const browser = site.browser()
    await site.login(browser)
    grants.forget()
    site.clock.advance(HOUR_MS)
    const asking = atOnce(50, () => browser.get('/loaded'))
    await loaded.reachedBy(50)
    loaded.release()
    const token = theToken(await asking)
    expect(grants.calls).toEqual(['lease', 'commit'])
    // Nobody has asked since, so nobody has brought the stored session up to date but the refresh.
    await expectHealthy(site, browser, 1)
    expect(await site.storedTokens(browser)).toMatchObject({ revision: 2, accessTokens: [{ token }] })
  })

  it('S10 requests before, during and after the refresh, with resave and a store that is slow: 1 refresh', async () => {
    const site = await siteWith({ express, session: { resave: true, rolling: true } })
    const browser = site.browser()
    await site.login(browser)
    site.clock.advance(HOUR_MS)
    const atServer = server.hold()
    const before = atOnce(20, () => browser.get('/token'))
    await atServer.reached
    const storing = site.store.holdAnswer('set')
    const during = atOnce(20, () => browser.get('/token'))
    atServer.release()
    await storing.reached
    const storingStill = atOnce(10, () => browser.get('/token'))
    storing.release()
    const answers = [...(await before), ...(await during), ...(await storingStill)]
    answers.push(...(await atOnce(10, () => browser.get('/token'))))
    theToken(answers)
    await expectHealthy(site, browser, 1)
  })
})

/** Who asks late: in which process, and where the newest tokens are to be found. */
interface Latecomer {
  name: string
  otherProcess: boolean
  sharedGrants: boolean
}

const latecomers: Latecomer[] = [
  { name: 'of the same process', otherProcess: false, sharedGrants: true },
  { name: 'of another process on the same grant store', otherProcess: true, sharedGrants: true },
  { name: 'of another process on the same session store alone', otherProcess: true, sharedGrants: false },
]

/** A browser whose access token has expired, the site that refreshes it, and the site of the latecomer. */
async function lateSites({ otherProcess, sharedGrants }: Latecomer) {
  const clock = testClock()
  const openSessions = sharedSessions()
  const sessions = openSessions()
  const grants = recordingGrants()
  const site = await siteWith({ clock, store: openSessions(), surroundings: { grants } })
  const otherSite = () =>
    siteWith({ clock, store: openSessions(), ...(sharedGrants && { surroundings: { grants } }) })
  const late = otherProcess ? await otherSite() : site
  const gate = createGate()
  late.handle('/late', async ({ query, tokens }) => {
    await gate.pass()
    return tokens.getAccessToken(query)
  })
  const browser = site.browser()
  const login = await server.login('user')
  await browser.post('/login', login)
  const sid = sessionIdOf(browser.cookie('connect.sid'))
  const oldSession = await readSession(sessions, sid)
  clock.advance(HOUR_MS)
  return {
    site,
    late,
    lateBrowser: late.browser(browser),
    browser,
    clock,
    gate,
    grants,
    login,
    /** Puts the session back as it was at the login, as whoever knows nothing of us would. */
    writeOldSession: () => new Promise<void>((resolve) => sessions.set(sid, oldSession!, () => resolve())),
  }
}

describe('the near miss', () => {
  const delays = [0, 1, 40, 1000]

  it.each(latecomers.flatMap((latecomer) => delays.map((delayMs) => ({ ...latecomer, delayMs }))))(
    'S12 a request $name, loaded before the refresh, requests a token $delayMs ms after it: no further refresh',
    async ({ delayMs, ...latecomer }) => {
      const { site, browser, lateBrowser, clock, gate, grants } = await lateSites(latecomer)
      const late = atOnce(5, () => lateBrowser.get('/late'))
      await gate.reachedBy(5)
      const token = theToken([await browser.get('/token')])
      clock.advance(delayMs)
      const refreshed = grants.calls.length
      gate.release()
      expect(theToken(await late)).toBe(token)
      // Within a process there is nobody to ask.
      if (!latecomer.otherProcess) expect(grants.calls).toHaveLength(refreshed)
      expect(theToken(await atOnce(5, () => lateBrowser.get('/token')))).toBe(token)
      await expectHealthy(site, browser, 1)
    },
  )

  const withGrants = latecomers.filter(({ sharedGrants }) => sharedGrants)
  it.each(withGrants.flatMap((latecomer) => delays.map((delayMs) => ({ ...latecomer, delayMs }))))(
    'S12 a slow request writes the old session back $delayMs ms after the refresh, and requests $name load it: no further refresh',
    async ({ delayMs, ...latecomer }) => {
      const { site, late, browser, lateBrowser, clock, writeOldSession } = await lateSites(latecomer)
      const token = theToken([await browser.get('/token')])
      clock.advance(delayMs)
      await writeOldSession()
      expect(theToken(await atOnce(5, () => lateBrowser.get('/token')))).toBe(token)
      expect(theToken(await atOnce(5, () => browser.get('/token')))).toBe(token)

      clock.advance(HOUR_MS)
      const next = theToken(await atOnce(5, () => lateBrowser.get('/token')))
      expect(next).not.toBe(token)
      expect(theToken([await browser.get('/token')])).toBe(next)
      expect(late.errors).toEqual([])
      await expectHealthy(site, browser, 2)
    },
  )

  it.each(delays)(
    'S12 a token that a request got before the refresh is rejected %d ms after it: no further refresh',
    async (delayMs) => {
      const site = await siteWith()
      const browser = site.browser()
      const login = await server.login('user')
      await browser.post('/login', login)
      const rejected = `/token?rejected=${login.access_token}`
      const token = theToken([await browser.get(rejected)])
      expect(token).not.toBe(login.access_token)
      site.clock.advance(delayMs)
      expect(theToken(await atOnce(5, () => browser.get(rejected)))).toBe(token)
      await expectHealthy(site, browser, 1)
    },
  )
})

describe('older by two rotations', () => {
  it.each(latecomers)('S13 a request $name that holds the grandparent gets the newest', async (latecomer) => {
    const { site, browser, lateBrowser, clock, gate } = await lateSites(latecomer)
    const late = atOnce(5, () => lateBrowser.get('/late'))
    await gate.reachedBy(5)
    const parent = theToken([await browser.get('/token')])
    clock.advance(HOUR_MS)
    const newest = theToken([await browser.get('/token')])
    expect(newest).not.toBe(parent)
    gate.release()
    expect(theToken(await late)).toBe(newest)
    await expectHealthy(site, browser, 2)
  })

  it.each(latecomers.filter(({ sharedGrants }) => sharedGrants))(
    'S13 a request $name finds the grandparent in the store, and the newest is served and refreshed',
    async (latecomer) => {
      const { site, browser, lateBrowser, clock, writeOldSession } = await lateSites(latecomer)
      await browser.get('/token')
      clock.advance(HOUR_MS)
      const newest = theToken([await browser.get('/token')])
      await writeOldSession()
      expect(theToken(await atOnce(5, () => lateBrowser.get('/token')))).toBe(newest)
      await writeOldSession()
      clock.advance(HOUR_MS)
      expect(theToken(await atOnce(5, () => lateBrowser.get('/token')))).not.toBe(newest)
      await expectHealthy(site, browser, 3)
    },
  )

  it.each(latecomers)(
    'S13 a request $name whose token before the previous one is rejected gets the newest',
    async (latecomer) => {
      const { site, browser, lateBrowser, clock, gate, login } = await lateSites(latecomer)
      const late = atOnce(5, () => lateBrowser.get(`/late?rejected=${login.access_token}`))
      await gate.reachedBy(5)
      await browser.get('/token')
      clock.advance(HOUR_MS)
      const newest = theToken([await browser.get('/token')])
      gate.release()
      expect(theToken(await late)).toBe(newest)
      await expectHealthy(site, browser, 2)
    },
  )
})

describe('two users at once', () => {
  it('S14 two refreshes, and neither affects the other', async () => {
    const site = await siteWith()
    site.handle('/me', async ({ tokens }) => {
      const { token } = await tokens.getAccessToken()
      return { token, sub: decodeJwt(tokens.idToken!).sub }
    })
    const accounts = ['alice', 'bob']
    const logins = await Promise.all(accounts.map((account) => server.login(account)))
    const browsers = accounts.map(() => site.browser())
    await Promise.all(browsers.map((browser, index) => browser.post('/login', logins[index])))
    site.clock.advance(HOUR_MS)

    const atServer = server.hold()
    const asking = browsers.map((browser) => atOnce(10, () => browser.get('/me')))
    // Neither waits for the other.
    await atServer.reachedBy(2)
    atServer.release()
    const answers = await Promise.all(asking)

    for (const [index, account] of accounts.entries()) {
      const token = theToken(answers[index]!)
      expect(answers[index]!.map(({ json }) => json.sub)).toEqual(Array(10).fill(account))
      expect((await server.provider.AccessToken.find(token))?.accountId).toBe(account)
      const refreshToken = (await site.storedTokens(browsers[index]!))?.refreshToken ?? 'none'
      expect((await server.provider.RefreshToken.find(refreshToken))?.accountId).toBe(account)
      await expectHealthy(site, browsers[index]!, 2)
    }
    const presented = server.tokenRequests.map(({ refreshToken }) => refreshToken)
    expect(presented.sort()).toEqual(logins.map(({ refresh_token }) => refresh_token).sort())
  })
})

describe('two resources at once on one refresh token', () => {
  const A = 'https://api-a.example'
  const B = 'https://api-b.example'

  it.each([
    [
      'in separate requests',
      (browser: Browser) => (resource: string) => browser.get(`/token?resource=${resource}`),
    ],
    [
      'each with a different need',
      (browser: Browser) => (resource: string) =>
        browser.get(`/token?resource=${resource}&scope=orders.read`),
    ],
  ])(
    'S15 %s: each gets its own access token, the refreshes run one at a time, the last refresh token is kept',
    async (_, asking) => {
      const site = await siteWith()
      const browser = site.browser()
      const login = await server.login('user', { resource: [A, B] })
      await browser.post('/login', login)
      const ask = asking(browser)
      const [forA, forB] = await Promise.all([atOnce(10, () => ask(A)), atOnce(10, () => ask(B))])
      const tokens = [theToken(forA), theToken(forB)]
      expect(tokens.map((token) => decodeJwt(token).aud)).toEqual([A, B])
      expect(server.tokenRequests.map(({ resource }) => resource).sort()).toEqual([A, B])
      expect(server.tokenRequests[0]!.refreshToken).toBe(login.refresh_token)
      await expectHealthy(site, browser, 2)

      // Side by side from now on.
      expect(theToken([...(await atOnce(3, () => ask(A)))])).toBe(tokens[0])
      expect(theToken([...(await atOnce(3, () => ask(B)))])).toBe(tokens[1])
      expect(theToken([await browser.get('/token')])).toBe(login.access_token)
      await expectHealthy(site, browser, 2)
    },
  )

  it('S15 in one request, with the token of the login expired too: three refreshes in turn', async () => {
    const site = await siteWith()
    site.handle('/all', async ({ tokens }) => {
      const needs = [{ resource: A }, { resource: B }, {}, { resource: B }, { resource: A }, {}]
      return Promise.all(needs.map((need) => tokens.getAccessToken(need)))
    })
    const browser = site.browser()
    await browser.post('/login', await server.login('user', { resource: [A, B] }))
    site.clock.advance(HOUR_MS)
    const { json } = await browser.get('/all')
    const [a, b, login, ...again] = json.map(({ token }: { token: string }) => token)
    expect([decodeJwt(a).aud, decodeJwt(b).aud]).toEqual([A, B])
    expect(login).not.toContain('.')
    expect(again).toEqual([b, a, login])
    await expectHealthy(site, browser, 3)
  })

  it('S15 in two processes: the refreshes run one at a time over both', async () => {
    const openSessions = sharedSessions()
    const grants = recordingGrants()
    const clock = testClock()
    const start = () => siteWith({ clock, store: openSessions(), surroundings: { grants } })
    const [site, other] = [await start(), await start()]
    const browser = site.browser()
    await browser.post('/login', await server.login('user', { resource: [A, B] }))
    const otherBrowser = other.browser(browser)
    const [forA, forB] = await Promise.all([
      atOnce(10, () => browser.get(`/token?resource=${A}`)),
      atOnce(10, () => otherBrowser.get(`/token?resource=${B}`)),
    ])
    expect([theToken(forA), theToken(forB)].map((token) => decodeJwt(token).aud)).toEqual([A, B])
    await expectHealthy(site, browser, 2)
    expect(theToken([await browser.get(`/token?resource=${B}`)])).toBe(theToken(forB))
    expect(theToken([await otherBrowser.get(`/token?resource=${A}`)])).toBe(theToken(forA))
    await expectHealthy(site, browser, 2)
  })
})

describe('two middlewares over one session, each with a grant store of its own', () => {
  const other = (request: Request) => (request as unknown as { other: SessionTokens }).other

  /** A site with a further middleware, in front of the usual one. */
  async function startTwoMounted(): Promise<Site> {
    const clock = testClock()
    const surroundings = ownProcess(clock)
    const { clientId, clientSecret } = server.clients.client_secret_basic
    const second = composeMiddleware(
      {
        tokenEndpoint: server.tokenEndpoint,
        clientId,
        clientAuthentication: clientSecretBasic(clientSecret),
        encryptionKeys: false,
        property: 'other',
        grants: memoryGrantStore({ maxGrants: 100 }),
      },
      surroundings,
    )
    const site = await siteWith({
      clock,
      surroundings,
      tokens: { grants: memoryGrantStore({ maxGrants: 100 }) },
      before: middlewareOf(second) as never,
    })
    site.handle('/other', (request) => other(request).getAccessToken(request.query as object))
    return site
  }

  it('S10 both ask at once: 1 refresh', async () => {
    const site = await startTwoMounted()
    const browser = site.browser()
    await site.login(browser)
    site.clock.advance(HOUR_MS)
    const answers = await Promise.all(
      ['/token', '/other', '/token', '/other'].map((path) => browser.get(path)),
    )
    theToken(answers)
    await expectHealthy(site, browser, 1)
  })

  it('S15 they request two resources: their refreshes run one at a time', async () => {
    const site = await startTwoMounted()
    const browser = site.browser()
    const [A, B] = ['https://a.example', 'https://b.example']
    await site.login(browser, 'user', { resource: [A, B] })
    const answers = await Promise.all([
      browser.get(`/token?resource=${A}`),
      browser.get(`/other?resource=${B}`),
    ])
    expect(answers.map(({ status }) => status)).toEqual([200, 200])
    await expectHealthy(site, browser, 2)
  })

  it('a pause that the server requested from one applies to both', async () => {
    const site = await startTwoMounted()
    const browser = site.browser()
    await site.login(browser)
    site.clock.advance(HOUR_MS)
    server.failNext({ status: 429, headers: { 'retry-after': '30' } })
    expect((await browser.get('/token')).status).toBe(503)
    expect((await browser.get('/other')).json.retryAfterMs).toBeGreaterThan(0)
    expect(server.tokenRequests).toHaveLength(1)
  })
})

describe('a rejected access token', () => {
  it('S18 20 callers report the same one, before, during and after the refresh: 1 refresh', async () => {
    const site = await siteWith()
    const browser = site.browser()
    const login = await server.login('user')
    await browser.post('/login', login)
    const rejected = `/token?rejected=${login.access_token}`
    const atServer = server.hold()
    const before = atOnce(5, () => browser.get(rejected))
    await atServer.reached
    const answering = server.holdAnswer()
    atServer.release()
    await answering.reached
    const during = atOnce(5, () => browser.get(rejected))
    answering.release()
    const answers = [...(await before), ...(await during)]
    answers.push(...(await atOnce(5, () => browser.get(rejected))))
    site.clock.advance(1000)
    for (let n = 0; n < 5; n++) answers.push(await browser.get(rejected))

    const token = theToken(answers)
    expect(answers).toHaveLength(20)
    expect(token).not.toBe(login.access_token)
    expect(theToken([await browser.get('/token')])).toBe(token)
    await expectHealthy(site, browser, 1)
  })

  it.each(latecomers)('S18 20 callers, half of them $name: 1 refresh', async (latecomer) => {
    const { site, browser, lateBrowser, gate, login } = await lateSites(latecomer)
    const late = atOnce(10, () => lateBrowser.get(`/late?rejected=${login.access_token}`))
    await gate.reachedBy(10)
    const early = await atOnce(10, () => browser.get(`/token?rejected=${login.access_token}`))
    gate.release()
    theToken([...early, ...(await late)])
    await expectHealthy(site, browser, 1)
  })

  it('S18 the token is another one already: it is served', async () => {
    const site = await siteWith()
    const browser = site.browser()
    const login = await server.login('user')
    await browser.post('/login', login)
    const answers = await atOnce(20, () => browser.get('/token?rejected=something-else'))
    expect(theToken(answers)).toBe(login.access_token)
    await expectHealthy(site, browser, 0)
  })
})
