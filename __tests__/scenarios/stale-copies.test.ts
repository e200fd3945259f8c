import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from '@jest/globals'
import type { SessionData } from 'express-session'
import { GrantRegistry } from '../../lib/grants/grant-registry.js'
import { type AuthorizationServer, startAuthorizationServer } from '../helpers/authorization-server.js'
import type { Browser } from '../helpers/browser.js'
import { type TestClock, testClock } from '../helpers/clock.js'
import { startTokenEndpoint } from '../helpers/fault-server.js'
import { type Site, type SiteOptions, sharedSessions, startSite } from '../helpers/site.js'
import { readSession, sessionIdOf } from '../helpers/stores.js'

const HOUR_MS = 3_600_000

let server: AuthorizationServer
let clock: TestClock
let openStore: ReturnType<typeof sharedSessions>
const running: { close(): Promise<void> }[] = []

beforeAll(async () => {
  server = await startAuthorizationServer()
})
beforeEach(() => {
  clock = testClock()
  openStore = sharedSessions()
})
afterEach(() => Promise.all(running.splice(0).map((it) => it.close())))
afterAll(() => server.close())

/** A process of its own over the sessions that all of them share. */
async function startProcess(options: SiteOptions = {}): Promise<Site> {
  const site = await startSite(server, { clock, store: openStore(), ...options })
  running.push(site)
  return site
}

const sidOf = (browser: Browser) => sessionIdOf(browser.cookie('connect.sid'))

/** A process without this library, or of another host, stores a whole session. */
function overwrite(sid: string, session: SessionData): Promise<void> {
  return new Promise((resolve) => openStore().set(sid, session, () => resolve()))
}

describe('a stale copy in the session store', () => {
  it('is repaired by the next request, also in the process that refreshed it before, and the repair outlives a restart', async () => {
    const site = await startProcess()
    const browser = site.browser()
    await site.login(browser)
    const old = await readSession(openStore(), sidOf(browser))
    clock.advance(HOUR_MS)
    await browser.get('/token')
    await overwrite(sidOf(browser), old!)

    expect((await browser.get('/token')).status).toBe(200)
    expect((await site.storedTokens(browser))?.revision).toBe(2)

    const restarted = await startProcess()
    clock.advance(HOUR_MS)
    expect((await restarted.browser(browser).get('/token')).status).toBe(200)
    expect(server.reuses()).toBe(0)
  })

  it('is looked after once for each request', async () => {
    const site = await startProcess()
    const browser = site.browser()
    await site.login(browser)
    const slow = site.slow('/slow', async ({ tokens }) => {
      for (let n = 0; n < 5; n++) await tokens.getAccessToken()
    })
    const asking = browser.get('/slow')
    await slow.reached
    clock.advance(HOUR_MS)
    await browser.get('/token')
    site.store.forget()
    slow.release()
    await asking
    // The read that looked after the session, and express-session's touch.
    expect(site.store.calls.map(({ method }) => method)).toEqual(['get', 'touch'])
  })
})

describe('a session saved by a process that knows nothing of its grant', () => {
  it('keeps the newer stored copy, and the data of the app', async () => {
    const first = await startProcess()
    const browser = first.browser()
    await first.login(browser)
    const second = await startProcess()
    const slow = second.slow('/slow', ({ session }) => Object.assign(session, { views: 1 }))
    const writing = second.browser(browser).get('/slow')
    await slow.reached
    clock.advance(HOUR_MS)
    await browser.get('/token')
    slow.release()
    await writing
    expect(await first.stored(browser)).toMatchObject({ views: 1 })
    expect((await first.storedTokens(browser))?.revision).toBe(2)
  })

  it('keeps it, too, after so many other refreshes that this grant was forgotten', async () => {
    const registry = new GrantRegistry(clock, { maxGrants: 2 })
    const site = await startProcess({ surroundings: { registry }, session: { resave: true } })
    const browser = site.browser()
    await site.login(browser)
    const slow = site.slow('/slow', () => null)
    const reading = browser.get('/slow')
    await slow.reached
    clock.advance(HOUR_MS)
    await browser.get('/token')
    for (let n = 0; n < 3; n++) await site.login(site.browser())
    slow.release()
    await reading
    expect((await site.storedTokens(browser))?.revision).toBe(2)
  })
})

describe('an authorization server that returns the same access token each time', () => {
  it('S18 gets one request for twenty callers that report that token as rejected', async () => {
    let refreshes = 0
    const endpoint = await startTokenEndpoint(() => ({
      status: 200,
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ access_token: 'same', expires_in: 3600, refresh_token: `rt-${++refreshes}` }),
    }))
    running.push(endpoint)
    const site = await startProcess({ tokens: { tokenEndpoint: endpoint.tokenEndpoint } })
    const browser = site.browser()
    await browser.post('/login', { access_token: 'same', expires_in: 3600, refresh_token: 'rt-0' })
    const refused = site.slow('/refused', ({ tokens }) => tokens.getAccessToken({ rejected: 'same' }))
    const asking = Array.from({ length: 20 }, () => browser.get('/refused'))
    await refused.reachedBy(20)
    refused.release()
    const answers = await Promise.all(asking)
    expect(answers.map(({ json }) => json.token)).toEqual(Array(20).fill('same'))
    expect(refreshes).toBe(1)
  })
})
