import { afterAll, afterEach, expect } from '@jest/globals'
import { type AuthorizationServer, startAuthorizationServer } from './authorization-server.js'
import type { Browser } from './browser.js'
import type { Gate } from './gate.js'
import { type Site, type SiteOptions, startSite } from './site.js'

export const HOUR_MS = 3_600_000

/** The sites of a file's tests in front of one authorization server, and what these tests do with them. */
export interface TestSites {
  readonly server: AuthorizationServer
  /** Starts a site that runs until the test is over. */
  start(options?: SiteOptions): Promise<Site>
  /** Has something else closed when the test is over. */
  closing<T extends { close(): Promise<unknown> }>(it: T): T
  /** A gate that is open at the latest when the test is over. */
  held(gate: Gate): Gate
  /** A browser whose user has logged in. */
  loggedIn(site: Site, account?: string): Promise<Browser>
  /** Refreshes, since the access token is too old. */
  refresh(site: Site, tab: Browser): Promise<void>
  /** The stored session holds the one refresh token that the authorization server takes, and the tokens it gave with it. */
  expectNewest(site: Site, tab: Browser): Promise<void>
}

/** To be called once in a test file, at its top. No test may use a refresh token twice. */
export async function testSites(): Promise<TestSites> {
  const server = await startAuthorizationServer()
  const running: { close(): Promise<unknown> }[] = []
  const gates: Gate[] = []

  afterEach(async () => {
    for (const gate of gates.splice(0)) gate.release()
    await Promise.all(running.splice(0).map((it) => it.close()))
    expect(server.reuses()).toBe(0)
  })
  afterAll(() => server.close())

  function closing<T extends { close(): Promise<unknown> }>(it: T): T {
    running.push(it)
    return it
  }
  return {
    server,
    closing,
    start: async (options) => closing(await startSite(server, options)),
    held(gate) {
      gates.push(gate)
      return gate
    },
    async loggedIn(site, account = 'alice') {
      const tab = site.browser()
      await site.login(tab, account)
      return tab
    },
    async refresh(site, tab) {
      const before = server.refreshes()
      site.clock.advance(HOUR_MS)
      expect((await tab.get('/token')).status).toBe(200)
      expect(server.refreshes() - before).toBe(1)
    },
    async expectNewest(site, tab) {
      const tokens = await site.storedTokens(tab)
      expect(await server.isActive(tokens?.refreshToken ?? 'none')).toBe(true)
      expect(await server.isActive(tokens?.accessTokens[0]?.token ?? 'none')).toBe(true)
    },
  }
}
