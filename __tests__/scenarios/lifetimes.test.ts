import { describe, expect, it, jest } from '@jest/globals'
import { SignJWT } from 'jose'
import type { AnySessionTokensOptions } from '../../lib/middleware/options.js'
import type { Browser } from '../helpers/browser.js'
import { newsHub } from '../helpers/news-hub.js'
import { someTurnsOfTheLoop } from '../helpers/next-commit.js'
import { recordingGrants, type Site, sharedSessions } from '../helpers/site.js'
import { HOUR_MS, testSites } from '../helpers/test-sites.js'

const { server, start, held } = await testSites()

const MINUTE_MS = 60_000
const signKey = new TextEncoder().encode('a key of 32 bytes that no server has')

/** Logs in with a token response that names further lifetimes. The ID token is not checked, since `set()` takes it as it is. */
async function loggedIn(site: Site, more: object = {}): Promise<Browser> {
  const tab = site.browser()
  const response = { ...(await server.login('alice')), ...more }
  expect((await tab.post('/login', response)).status).toBe(200)
  return tab
}

function idTokenUntil(ms: number): Promise<string> {
  const seconds = Math.floor(ms / 1000)
  return new SignJWT({ session_expiry: seconds })
    .setProtectedHeader({ alg: 'HS256' })
    .setSubject('alice')
    .sign(signKey)
}

const hasTokens = async (tab: Browser) => (await tab.get('/has')).json

function serveHas(site: Site): void {
  site.handle('/has', ({ tokens }) => ({ has: tokens.hasTokens() }))
  site.handle('/expiring', async ({ tokens }, response) => {
    const refused = await tokens.getAccessToken().then(
      () => undefined,
      (error) => error,
    )
    response.json({ code: refused?.code ?? null, reason: refused?.reason ?? null })
  })
}

async function startOne(tokens: Partial<AnySessionTokensOptions> = {}): Promise<Site> {
  const site = await start({ tokens })
  serveHas(site)
  return site
}

const expired = { code: 'ERR_REAUTHENTICATION_REQUIRED', reason: 'expired' }
const endings = (site: Site) => site.events.filter(({ type }) => type === 'ended')

/** The login is over: nothing is served, the server is not asked, and the event says so once. */
async function expectOver(site: Site, tab: Browser): Promise<void> {
  const requests = server.tokenRequests.length
  for (let n = 0; n < 3; n++) {
    expect((await tab.get('/expiring')).json).toEqual(expired)
    expect(await hasTokens(tab)).toEqual({ has: false })
  }
  expect((await tab.get('/token')).status).toBe(401)
  expect(server.tokenRequests.length).toBe(requests)
  expect(endings(site)).toEqual([
    expect.objectContaining({ reason: 'expired', scope: 'grant', isLocal: true }),
  ])
}

describe('the expiry of the refresh token', () => {
  it.each(['refresh_expires_in', 'refresh_token_expires_in', 'refreshExpiresIn', 'refreshTokenExpiresIn'])(
    'S86 %s: after it nothing is refreshed, and the user is sent to the login once',
    async (name) => {
      const site = await startOne()
      const tab = await loggedIn(site, { expires_in: 600, [name]: 1800 })
      site.clock.advance(29 * MINUTE_MS)
      expect(await hasTokens(tab)).toEqual({ has: true })
      site.clock.advance(2 * MINUTE_MS)
      expect(await hasTokens(tab)).toEqual({ has: false })
      await expectOver(site, tab)
      // The next login is another grant, which goes on.
      await site.login(tab)
      site.clock.advance(HOUR_MS)
      expect((await tab.get('/token')).status).toBe(200)
      expect(await hasTokens(tab)).toEqual({ has: true })
    },
  )

  it('S86 the server is not asked when the request itself finds the expiry', async () => {
    const site = await startOne()
    const tab = await loggedIn(site, { expires_in: 600, refresh_expires_in: 1800 })
    site.clock.advance(31 * MINUTE_MS)
    await expectOver(site, tab)
  })

  it('S86 a host whose clock is ahead logs no user out for good', async () => {
    const grants = recordingGrants()
    const open = sharedSessions()
    const [right, ahead] = await Promise.all([0, 1].map(() => start({ store: open(), tokens: { grants } })))
    const tab = await loggedIn(right!, { expires_in: 600, refresh_expires_in: 1800 })
    ahead!.clock.jump(3 * HOUR_MS)
    grants.forget()
    for (let n = 0; n < 2; n++) expect((await ahead!.browser(tab).get('/token')).status).toBe(401)
    expect(grants.calls).toEqual(['lease', 'release'])
    ahead!.clock.jump(-3 * HOUR_MS)
    for (const site of [ahead!, right!]) {
      site.clock.advance(11 * MINUTE_MS)
      expect((await site.browser(tab).get('/token')).status).toBe(200)
    }
  })

  it('S86 a valid access token is served although the refresh token has expired', async () => {
    const site = await startOne()
    const tab = await loggedIn(site, { expires_in: 3600, refresh_expires_in: 60 })
    site.clock.advance(2 * MINUTE_MS)
    expect((await tab.get('/token')).status).toBe(200)
    expect(await hasTokens(tab)).toEqual({ has: true })
  })

  it.each<[string, object]>([
    ['0 does not expire', { refresh_expires_in: 0 }],
    ["'0' does not expire", { refresh_token_expires_in: '0' }],
    ['nothing is known without the field', {}],
    ['a negative number does not count', { refresh_expires_in: -1 }],
  ])('S86 %s', async (_, more) => {
    const site = await startOne()
    const tab = await loggedIn(site, more)
    site.clock.advance(1000 * HOUR_MS)
    expect(await hasTokens(tab)).toEqual({ has: true })
    expect((await tab.get('/token')).status).toBe(200)
  })

  it('S86 a new refresh token without the field clears it', async () => {
    const site = await startOne()
    const tab = await loggedIn(site, { expires_in: 600, refresh_expires_in: 1800 })
    site.clock.advance(20 * MINUTE_MS)
    expect((await tab.get('/token')).status).toBe(200)
    expect((await site.storedTokens(tab))?.refreshExpiresAt).toBeUndefined()
    site.clock.advance(2 * HOUR_MS)
    expect((await tab.get('/token')).status).toBe(200)
  })

  it('S86 an old session copy is no reason: another process may have refreshed', async () => {
    const grants = recordingGrants()
    const open = sharedSessions()
    const [web, worker] = await Promise.all([0, 1].map(() => start({ store: open(), tokens: { grants } })))
    web!.handle('/reference', async ({ tokens }) => ({ reference: await tokens.offlineReference() }))
    const tab = await loggedIn(web!, { expires_in: 600, refresh_expires_in: 1800 })
    const { reference } = (await tab.get('/reference')).json
    worker!.clock.advance(20 * MINUTE_MS)
    const { token } = await worker!.middleware.offline(reference).getAccessToken()
    web!.clock.advance(40 * MINUTE_MS)
    expect((await tab.get('/token')).json.token).toBe(token)
    expect(endings(web!)).toEqual([])
  })
})

describe('session_expiry of the ID token', () => {
  it('S86 nothing is served or refreshed past it, although all tokens are valid', async () => {
    const site = await startOne()
    const tab = await loggedIn(site, { id_token: await idTokenUntil(site.clock.now() + 30 * MINUTE_MS) })
    site.clock.advance(29 * MINUTE_MS)
    expect((await tab.get('/token')).status).toBe(200)
    site.clock.advance(MINUTE_MS)
    await expectOver(site, tab)
    await site.login(tab)
    expect((await tab.get('/token')).status).toBe(200)
  })

  it('S86 a refresh that is answered past it gives no token', async () => {
    const site = await startOne()
    const tab = await loggedIn(site, {
      expires_in: 600,
      id_token: await idTokenUntil(site.clock.now() + 30 * MINUTE_MS),
    })
    site.clock.advance(20 * MINUTE_MS)
    const answer = server.holdAnswer()
    const asked = tab.get('/expiring')
    await answer.reached
    site.clock.advance(20 * MINUTE_MS)
    answer.release()
    expect((await asked).json).toEqual(expired)
  })

  it('S86 an offline reference ends with it', async () => {
    const grants = recordingGrants()
    const [web, worker] = await Promise.all([0, 1].map(() => start({ tokens: { grants } })))
    web!.handle('/reference', async ({ tokens }) => ({ reference: await tokens.offlineReference() }))
    const idToken = await idTokenUntil(web!.clock.now() + 30 * MINUTE_MS)
    const { reference } = (await (await loggedIn(web!, { id_token: idToken })).get('/reference')).json
    const user = worker!.middleware.offline(reference)
    await user.getAccessToken()
    worker!.clock.advance(31 * MINUTE_MS)
    await expect(user.getAccessToken()).rejects.toMatchObject(expired)
    expect(user.hasTokens()).toBe(false)
  })
})

describe('a later session_expiry that another process knows', () => {
  /** A job whose process knows only the first time, which is over. The web has a later one. */
  async function startBoth() {
    const hub = newsHub()
    const [ofWeb, ofWorker] = [hub.connect(), hub.connect()]
    const [web, worker] = await Promise.all(
      [ofWeb, ofWorker].map(({ store }) => start({ tokens: { grants: store } })),
    )
    web!.handle('/reference', async ({ tokens }) => ({ reference: await tokens.offlineReference() }))
    const response = await server.login('alice')
    const tab = web!.browser()
    const logIn = async (minutes: number) => {
      const id_token = await idTokenUntil(web!.clock.now() + minutes * MINUTE_MS)
      expect(
        (await tab.post('/login', { ...response, access_token: `of ${minutes}`, id_token })).status,
      ).toBe(200)
    }
    await logIn(30)
    const { reference } = (await tab.get('/reference')).json
    const user = worker!.middleware.offline(reference)
    await user.getAccessToken()
    await logIn(600)
    worker!.clock.advance(31 * MINUTE_MS)
    return { user, ofWorker, worker: worker! }
  }

  it('S86 is found by all callers of one moment', async () => {
    const { user } = await startBoth()
    const tokens = await Promise.all([1, 2, 3].map(() => user.getAccessToken()))
    expect(new Set(tokens.map(({ token }) => token)).size).toBe(1)
  })

  it('S86 while the grant store fails, the user need not log in again', async () => {
    const { ofWorker, user, worker } = await startBoth()
    const read = jest.spyOn(ofWorker.store, 'read').mockRejectedValue(new Error('down'))
    await expect(user.getAccessToken()).rejects.toMatchObject({ code: 'ERR_GRANT_STORE' })
    expect(endings(worker)).toEqual([])
    read.mockRestore()
    await user.getAccessToken()
  })
})

describe('maxLoginAgeMs', () => {
  it('S86 nothing is served or refreshed past it, however often the tokens were refreshed', async () => {
    const site = await startOne({ maxLoginAgeMs: 8 * HOUR_MS })
    const tab = await loggedIn(site)
    for (let hour = 1; hour < 8; hour++) {
      site.clock.advance(HOUR_MS)
      expect((await tab.get('/token')).status).toBe(200)
    }
    site.clock.advance(HOUR_MS)
    await expectOver(site, tab)
    await site.login(tab)
    expect((await tab.get('/token')).status).toBe(200)
  })

  it('S86 ends during the wait for another need: the token that an API rejected is not returned', async () => {
    const site = await startOne({ maxLoginAgeMs: 2 * HOUR_MS })
    const tab = await loggedIn(site)
    site.clock.advance(2 * HOUR_MS - 300)
    let { token } = (await tab.get('/token')).json
    const another = async () => (await tab.get(`/token?rejected=${token}`)).json.token
    for (let n = 0; n < 3; n++) token = await another()
    // A fourth one in a row is not requested.
    expect(await another()).toBe(token)
    const gate = held(server.holdAnswer())
    const ofAnotherNeed = tab.get('/token?scope=orders.read&resource=https%3A%2F%2Fapi.example')
    await gate.reached
    const waiting = tab.get(`/token?rejected=${token}`)
    await someTurnsOfTheLoop()
    site.clock.advance(500)
    gate.release()
    expect([(await ofAnotherNeed).status, (await waiting).status]).toEqual([401, 401])
  })

  it('S86 holds for logins from before the option, and in another process', async () => {
    const open = sharedSessions()
    const before = await start({ store: open() })
    const tab = await loggedIn(before)
    const site = await start({ store: open(), tokens: { maxLoginAgeMs: 2 * HOUR_MS } })
    serveHas(site)
    const visitor = site.visitorOf(tab)
    site.clock.advance(HOUR_MS)
    expect((await visitor.get('/token')).status).toBe(200)
    site.clock.advance(HOUR_MS)
    await expectOver(site, visitor)
  })

  it('S86 tokens of an earlier version count from the time when they were obtained', async () => {
    const site = await startOne({ maxLoginAgeMs: 2 * HOUR_MS })
    const tab = await loggedIn(site)
    site.handle('/forget', ({ session }) => {
      const { loggedInAt: _, ...tokens } = JSON.parse(session.tokens!)
      session.tokens = JSON.stringify(tokens)
    })
    await tab.post('/forget', {})
    const fresh = await start({ store: site.store.store, tokens: { maxLoginAgeMs: 2 * HOUR_MS } })
    const visitor = fresh.visitorOf(tab)
    fresh.clock.advance(1.5 * HOUR_MS)
    expect((await visitor.get('/token')).status).toBe(200)
    fresh.clock.advance(HOUR_MS)
    expect((await visitor.get('/token')).status).toBe(401)
  })

  it.each([0, -1, Number.NaN, 4_000 * 24 * HOUR_MS, '8h'])(
    '%s is no maxLoginAgeMs',
    async (maxLoginAgeMs) => {
      await expect(start({ tokens: { maxLoginAgeMs: maxLoginAgeMs as number } })).rejects.toThrow(
        /maxLoginAgeMs/,
      )
    },
  )
})
