import { afterAll, afterEach, beforeAll, describe, expect, it } from '@jest/globals'
import type { Store } from 'express-session'
import type { TokenEvent } from '../../lib/index.js'
import { type AuthorizationServer, startAuthorizationServer } from '../helpers/authorization-server.js'
import type { Browser } from '../helpers/browser.js'
import { testClock } from '../helpers/clock.js'
import { eventually } from '../helpers/fleet-expectations.js'
import { type HubConnection, newsHub } from '../helpers/news-hub.js'
import { type Site, sharedSessions, startSite } from '../helpers/site.js'
import { sessionIdOf } from '../helpers/stores.js'

const HOUR_MS = 3_600_000

let server: AuthorizationServer
const open: Site[] = []

/** Processes of one app over one grant store and the same sessions. */
function processes() {
  const hub = newsHub()
  const sessions = sharedSessions()
  /** The sessions, past all processes. */
  const storage = sessions()
  const start = async (options: Parameters<typeof startSite>[1] = {}) => {
    const grants = hub.connect()
    const site = await startSite(server, {
      store: sessions(),
      ...options,
      tokens: { grants: grants.store, ...options.tokens },
    })
    open.push(site)
    return { site, grants }
  }
  return Object.assign(start, hub, { storage })
}

interface Process {
  readonly site: Site
  readonly grants: HubConnection
}

const statusAt = async (site: Site, browser: Browser) => (await site.browser(browser).get('/token')).status

/** A user who is logged in at a process. A stale copy of the session, as a slow request saves it, comes back with `putBack()`. */
async function loggedIn({ site }: Process, storage: Store) {
  const browser = site.browser()
  await site.login(browser)
  const stored = (await site.stored(browser)) as never
  const id = sessionIdOf(browser.cookie('connect.sid'))
  return { browser, putBack: () => void storage.set(id, stored) }
}

const ended = (events: readonly TokenEvent[]) => events.filter(({ type }) => type === 'ended')

describe('S80 an end in one process', () => {
  beforeAll(async () => {
    server = await startAuthorizationServer()
  })
  afterEach(() => Promise.all(open.splice(0).map((site) => site.close())))
  afterAll(() => server?.close())

  it('S80 is known in every other process, without an operation of the grant store', async () => {
    const start = processes()
    const [one, two] = [await start(), await start()]
    const { browser, putBack } = await loggedIn(one, start.storage)
    two.site.clock.advance(HOUR_MS)
    expect(await statusAt(two.site, browser)).toBe(200)
    two.grants.forget()
    await browser.post('/logout')
    await eventually(async () => expect(ended(two.site.events)).toHaveLength(1))
    expect(ended(two.site.events)[0]).toMatchObject({ reason: 'logged_out', isLocal: false })
    putBack()
    expect(await statusAt(two.site, browser)).toBe(401)
    expect(two.grants.calls.filter((call) => call !== 'recentEnds')).toEqual([])
  })

  it('S80 is known in a process that has not used the grant, which reports no event', async () => {
    const start = processes()
    const [one, two] = [await start(), await start()]
    const { browser, putBack } = await loggedIn(one, start.storage)
    expect(await statusAt(two.site, browser)).toBe(200)
    two.grants.forget()
    await browser.post('/logout')
    putBack()
    await eventually(async () => expect(await statusAt(two.site, browser)).toBe(401))
    expect(two.grants.calls).toEqual([])
    expect(ended(two.site.events)).toEqual([])
  })

  it('S80 is known in a process that starts, by one operation before it serves', async () => {
    const start = processes()
    const one = await start()
    const [gone, alive] = [await loggedIn(one, start.storage), await loggedIn(one, start.storage)]
    await gone.browser.post('/logout')
    gone.putBack()
    const two = await start()
    expect(await statusAt(two.site, gone.browser)).toBe(401)
    expect(two.grants.calls).toEqual(['recentEnds'])
    expect(await statusAt(two.site, alive.browser)).toBe(200)
    expect(await statusAt(two.site, alive.browser)).toBe(200)
    expect(two.grants.calls).toEqual(['recentEnds'])
  })

  it('S80 is known to a process that was cut off from the news, before it serves again', async () => {
    const start = processes()
    const [one, two] = [await start(), await start()]
    const { browser, putBack } = await loggedIn(one, start.storage)
    expect(await statusAt(two.site, browser)).toBe(200)
    two.grants.cutOff()
    await browser.post('/logout')
    putBack()
    // Nothing has told it so far.
    expect(await statusAt(two.site, browser)).toBe(200)
    two.grants.reconnect()
    expect(await statusAt(two.site, browser)).toBe(401)
  })

  it('S80 is known to a process that was cut off, at the latest at its next refresh', async () => {
    const start = processes()
    const [one, two] = [await start(), await start()]
    const { browser, putBack } = await loggedIn(one, start.storage)
    expect(await statusAt(two.site, browser)).toBe(200)
    two.grants.cutOff()
    await browser.post('/logout')
    putBack()
    two.site.clock.advance(HOUR_MS)
    expect(await statusAt(two.site, browser)).toBe(401)
  })

  it('S80 of a grant that the authorization server has ended is known as well', async () => {
    const start = processes()
    const [one, two] = [await start(), await start()]
    const { browser } = await loggedIn(one, start.storage)
    for (const { site } of [one, two]) site.clock.advance(HOUR_MS)
    expect(await statusAt(two.site, browser)).toBe(200)
    server.failNext({ status: 400, body: { error: 'invalid_grant' } })
    one.site.clock.advance(HOUR_MS)
    expect(await statusAt(one.site, browser)).toBe(401)
    await eventually(async () => expect(ended(two.site.events)).toHaveLength(1))
    expect(ended(two.site.events)[0]).toMatchObject({ reason: 'invalid_grant', isLocal: false })
  })

  it('S80 a grant store that is silent at the start withholds a valid token for a second at most', async () => {
    const start = processes()
    const [one, two] = [await start(), await start()]
    const { browser } = await loggedIn(one, start.storage)
    two.grants.hang()
    const startedAt = performance.now()
    const statuses = await Promise.all([1, 2, 3].map(() => statusAt(two.site, browser)))
    expect(statuses).toEqual([200, 200, 200])
    expect(performance.now() - startedAt).toBeLessThan(5_000)
    two.grants.comeBack()
  })

  it('S80 a token from before the recent ends is served after one question, unless its grant has ended', async () => {
    server.setAccessTokenTtl(86_400)
    const start = processes()
    const one = await start()
    const [gone, alive] = [await loggedIn(one, start.storage), await loggedIn(one, start.storage)]
    await gone.browser.post('/logout')
    gone.putBack()
    server.setAccessTokenTtl(3_600)
    start.forgetRecentEnds()
    const clock = testClock()
    clock.advance(2 * HOUR_MS)
    const two = await start({ clock })
    expect(await statusAt(two.site, gone.browser)).toBe(401)
    for (const _ of [1, 2, 3]) expect(await statusAt(two.site, alive.browser)).toBe(200)
    expect(two.grants.calls).toEqual(['recentEnds', 'read', 'read'])
  })
})
