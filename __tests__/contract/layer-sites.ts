import { afterAll, afterEach, beforeAll, beforeEach, expect } from '@jest/globals'
import type { Clock } from '../../lib/concurrency/clock.js'
import { GrantRegistry } from '../../lib/grants/grant-registry.js'
import { memoryGrantStore } from '../../lib/grants/memory-grant-store.js'
import type { ProcessServices } from '../../lib/middleware/composition.js'
import type { TokenSet } from '../../lib/tokens/token-set.js'
import { type AuthorizationServer, startAuthorizationServer } from '../helpers/authorization-server.js'
import type { Browser } from '../helpers/browser.js'
import { testClock } from '../helpers/clock.js'
import { createGate, type Gate } from '../helpers/gate.js'
import { tokensIn } from '../helpers/site.js'
import type {
  LayerSite,
  LayerSiteOptions,
  SessionLayerDriver,
  Sessions,
  Visit,
} from './session-layer-driver.js'

const HOUR_MS = 3_600_000

export const ok = { status: 200 }
export const loggedOut = { status: 401, json: { code: 'ERR_NO_TOKENS' } }

/** Where a refresh is held up: before the authorization server has the refresh token, and after it has answered. */
export const points = ['hold', 'holdAnswer'] as const

export function putBook({ session }: Visit): void {
  session.cart = ['book']
}

export function putViews({ session }: Visit): void {
  session.views = 7
}

/**
 * What processes know of grants, in large tables: made once for all tests, each of which has grants of its own. A process
 * of a test is one that no other process of the same test is.
 */
const processes: Pick<ProcessServices, 'registry'>[] = []
let clock = testClock()
const clockOfTheTest: Clock = { now: () => clock.now(), monotonic: () => clock.monotonic() }

function processOf(index: number): Pick<ProcessServices, 'registry'> {
  processes[index] ??= { registry: new GrantRegistry(clockOfTheTest) }
  return processes[index]
}

type SharedOptions = Pick<LayerSiteOptions<Sessions>, 'grants' | 'encryptionKeys'>

/** What the tests of a driver start and look at. */
export function layerSites<S extends Sessions, Site extends LayerSite>(driver: SessionLayerDriver<S, Site>) {
  let server: AuthorizationServer
  let sessions: S
  let started = 0
  const sites: Site[] = []
  const gates: Gate[] = []

  beforeAll(async () => {
    server = await startAuthorizationServer()
  })
  beforeEach(async () => {
    sessions = await driver.openSessions()
    clock = testClock()
    started = 0
  })
  afterEach(async () => {
    for (const gate of gates.splice(0)) gate.release()
    await Promise.all(sites.splice(0).map((site) => site.close()))
    await sessions.close()
    expect(server.reuses()).toBe(0)
    expect(server.presentedAgain()).toEqual([])
  })
  afterAll(() => server.close())

  /** A process over the sessions of the test. */
  async function start(
    eager?: string,
    surroundings: Partial<ProcessServices> = {},
    options: SharedOptions = {},
  ): Promise<Site> {
    const site = await driver.start(server, {
      sessions,
      clock,
      surroundings: {
        ...processOf(started++),
        grants: memoryGrantStore({ maxGrants: 100 }),
        ...surroundings,
      },
      ...(eager !== undefined && { eager }),
      ...options,
    })
    sites.push(site)
    site.handle('/token', ({ tokens }) => tokens.getAccessToken())
    site.handle('/login', ({ tokens, body }) => tokens.set(body))
    site.handle('/logout', ({ tokens }) => tokens.revoke())
    site.handle('/visit', () => null)
    return site
  }
  function held(gate: Gate): Gate {
    gates.push(gate)
    return gate
  }
  async function login(tab: Browser, account = 'alice'): Promise<void> {
    expect(await tab.post('/login', await server.login(account))).toMatchObject(ok)
  }

  return {
    get server() {
      return server
    },
    start,
    /** A process in place of those that run now, over the same sessions. */
    async restart(options?: SharedOptions): Promise<Site> {
      await Promise.all(sites.splice(0).map((site) => site.close()))
      return start(undefined, {}, options)
    },
    held,
    login,
    expire: () => clock.advance(HOUR_MS),
    advance: (ms: number) => clock.advance(ms),
    remember: (site: Site, tab: Browser) => driver.remember(site, sessions, tab),
    async loggedIn(site: Site, account?: string): Promise<Browser> {
      const tab = site.browser()
      await login(tab, account)
      return tab
    },
    /** Refreshes, since the access token is too old. */
    async refresh(tab: Browser): Promise<string> {
      clock.advance(HOUR_MS)
      const before = server.refreshes()
      const answer = await tab.get('/token')
      expect(answer).toMatchObject(ok)
      expect(server.refreshes() - before).toBe(1)
      return answer.json.token
    },
    /** Requests of a path wait at the gate with the session they came with. */
    slow(site: Site, path: string, handler: (visit: Visit) => unknown = () => null): Gate {
      const gate = held(createGate())
      site.handle(path, async (visit) => {
        await gate.pass()
        return handler(visit)
      })
      return gate
    },
    /** The next refresh waits, before the authorization server has the refresh token or after it has answered. */
    holdRefresh(point: 'hold' | 'holdAnswer'): Gate {
      return held(server[point](({ grantType }) => grantType === 'refresh_token'))
    },
    /**
     * Fifty clients ask for a token that has to be refreshed, and go before it is there. Resolves when it is, with how
     * many refreshes the authorization server has seen by then.
     */
    async abandon(site: Site, tab: Browser): Promise<number> {
      clock.advance(HOUR_MS)
      const before = server.refreshes()
      const arrivals = held(createGate())
      const handled: Promise<unknown>[] = []
      site.handle('/abandoned', ({ tokens }) => {
        void arrivals.pass()
        const token = tokens.getAccessToken()
        handled.push(token)
        return token
      })
      const answer = held(server.holdAnswer())
      const gone = new AbortController()
      const asking = Array.from({ length: 50 }, () => tab.get('/abandoned', { signal: gone.signal }))
      await Promise.all([arrivals.reachedBy(50), answer.reached])
      gone.abort()
      await Promise.allSettled(asking)
      answer.release()
      await Promise.all(handled)
      expect(server.refreshes() - before).toBe(1)
      return server.refreshes()
    },
    async tokensOf(site: Site, tab: Browser): Promise<TokenSet | undefined> {
      return tokensIn(await site.stored(tab))
    },
    async expectNewest(site: Site, tab: Browser): Promise<void> {
      const tokens = tokensIn(await site.stored(tab))
      expect(await server.isActive(tokens?.refreshToken ?? 'none')).toBe(true)
      expect(await server.isActive(tokens?.accessTokens[0]?.token ?? 'none')).toBe(true)
    },
    /** Nobody is logged in, now and after another save of the session. */
    async expectLoggedOut(site: Site, tab: Browser): Promise<void> {
      site.handle('/count', (visit) => {
        visit.session.visits = Number(visit.session.visits ?? 0) + 1
        return visit.tokens.hasTokens()
      })
      expect(tokensIn(await site.stored(tab))).toBeUndefined()
      expect(await tab.get('/token')).toMatchObject(loggedOut)
      expect((await tab.get('/count')).json).toBe(false)
      expect(tokensIn(await site.stored(tab))).toBeUndefined()
      expect(await tab.get('/token')).toMatchObject(loggedOut)
    },
    /** This very grant is logged in, and can be refreshed. */
    async expectLoggedIn(site: Site, tab: Browser, grantId: string | undefined): Promise<void> {
      expect(await tab.get('/token')).toMatchObject(ok)
      expect(tokensIn(await site.stored(tab))?.grantId).toBe(grantId)
      clock.advance(HOUR_MS)
      expect(await tab.get('/token')).toMatchObject(ok)
      expect(tokensIn(await site.stored(tab))?.grantId).toBe(grantId)
    },
  }
}
