import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from '@jest/globals'
import { memoryGrantStore } from '../../lib/grants/memory.js'
import type { SessionTokens, TokenEvent } from '../../lib/index.js'
import type { Surroundings } from '../../lib/mount.js'
import type { TokenSet } from '../../lib/token-set.js'
import { type AuthorizationServer, startAuthorizationServer } from '../helpers/authorization-server.js'
import type { Browser, BrowserAnswer } from '../helpers/browser.js'
import { type TestClock, testClock } from '../helpers/clock.js'
import { createGate, type Gate } from '../helpers/gate.js'
import { nextCommit } from '../helpers/next-commit.js'
import { tokensIn } from '../helpers/site.js'

const HOUR_MS = 3_600_000

/** What a handler of these tests has of a request, whatever the framework and the session layer. */
export interface Visit {
  readonly tokens: SessionTokens
  /** The data of the session, to be read and changed; always that of the session which the request has now. */
  readonly session: Record<string, unknown>
  /** Stores the session now. */
  save(): Promise<void>
  /** Gives the session another id and carries its data over. */
  regenerate(): Promise<void>
  /** Ends the session. It may be gone only when the request has ended. */
  destroy(): Promise<void>
  /** The body that was posted, if it was JSON. */
  readonly body: unknown
}

/** Where the sessions of a site are, when it is not running too. */
export interface Sessions {
  /** Frees what it takes. */
  close(): Promise<void>
}

/** How a site is to be started. */
export interface LayerSiteOptions<S extends Sessions> {
  /** The sessions it is to go on with, those of another site or of one that was stopped. */
  readonly sessions: S
  readonly clock: TestClock
  /** What a process has one of. Left out in part or whole: a process of its own. */
  readonly surroundings: Partial<Surroundings>
  /** The options of the session layer, one of the driver's `eager`; the usual ones if left out. */
  readonly eager?: string
}

/** A site on one session layer. */
export interface LayerSite {
  readonly events: readonly TokenEvent[]
  /**
   * Answers `GET` and `POST` of a path, with what the handler returns as JSON. What it throws is answered with its
   * `status`, and its `code` in a JSON object. May be called at any time, again too.
   */
  handle(path: string, handler: (visit: Visit) => unknown): void
  /** A browser at this site: without cookies, or with those of another one at this moment. */
  browser(visitor?: Browser): Browser
  /** The data of a browser's session, as the next request of it would find it; without what the layer adds. */
  stored(tab: Browser): Promise<Record<string, unknown> | undefined>
  /** What names the session of a browser: it changes when the session is regenerated. */
  idOf(tab: Browser): string
  close(): Promise<void>
}

/** A site whose sessions are in a store. */
export interface StoredLayerSite extends LayerSite {
  readonly store: {
    /** From now on writes of sessions wait at the gate, before they reach the store. */
    holdWrites(): Gate
    /** The same for reads. */
    holdReads(): Gate
    /** How many writes the store has been asked for. */
    writes(): number
    failNextWrite(): void
  }
}

/** Starts sites on one session layer. */
export interface SessionLayerDriver<S extends Sessions, Site extends LayerSite> {
  readonly name: string
  /**
   * The configurations, by any names, in which the layer saves sessions that the app has not changed: all of what the
   * request holds goes back to where sessions are.
   */
  readonly eager: readonly string[]
  openSessions(): Promise<S>
  start(
    server: Pick<AuthorizationServer, 'tokenEndpoint' | 'revocationEndpoint' | 'clients'>,
    options: LayerSiteOptions<S>,
  ): Promise<Site>
  /**
   * Keeps a browser's session as it is now. What it returns brings that state back once, as a slow request that knows
   * nothing of this library does, and gives the browser that has it then. It may be called more than once.
   */
  remember(site: Site, sessions: S, tab: Browser): Promise<() => Promise<Browser>>
}

const ok = { status: 200 }
const loggedOut = { status: 401, json: { code: 'ERR_NO_TOKENS' } }

/** What the tests of a driver start and look at. */
function useSites<S extends Sessions, Site extends LayerSite>(driver: SessionLayerDriver<S, Site>) {
  let server: AuthorizationServer
  let sessions: S
  let clock: TestClock
  const sites: Site[] = []
  const gates: Gate[] = []

  beforeAll(async () => {
    server = await startAuthorizationServer()
  })
  beforeEach(async () => {
    sessions = await driver.openSessions()
    clock = testClock()
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
  async function start(eager?: string, surroundings: Partial<Surroundings> = {}): Promise<Site> {
    const site = await driver.start(server, {
      sessions,
      clock,
      surroundings,
      ...(eager !== undefined && { eager }),
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
    async restart(): Promise<Site> {
      await Promise.all(sites.splice(0).map((site) => site.close()))
      return start()
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

const points = ['hold', 'holdAnswer'] as const

/** What holds for every session layer, wherever it keeps its sessions. */
export function describeSessionLayer<S extends Sessions, Site extends LayerSite>(
  driver: SessionLayerDriver<S, Site>,
): void {
  describe(`the session layer ${driver.name}`, () => {
    const sites = useSites(driver)
    const { advance, expectLoggedIn, expectLoggedOut, expectNewest, expire, holdRefresh, loggedIn, login } =
      sites
    const { refresh, remember, restart, slow, start, tokensOf } = sites

    it('login, token, refresh, logout', async () => {
      const site = await start()
      const tab = site.browser()
      expect(await tab.get('/token')).toMatchObject(loggedOut)
      await login(tab)
      const first = (await tab.get('/token')).json.token
      expect(await refresh(tab)).not.toBe(first)
      await expectNewest(site, tab)
      expect(await tab.post('/logout')).toMatchObject(ok)
      await expectLoggedOut(site, tab)
    })

    it('a login keeps what the session holds, and what the handler puts there before and after it', async () => {
      const site = await start()
      const tab = site.browser()
      site.handle('/cart', ({ session }) => void (session.cart = ['book']))
      site.handle('/login', async ({ body, session, tokens }) => {
        session.before = 1
        await tokens.set(body)
        session.after = 2
      })
      await tab.get('/cart')
      await login(tab)
      expect(await site.stored(tab)).toMatchObject({ cart: ['book'], before: 1, after: 2 })
      await expectNewest(site, tab)
    })

    it('S10 fifty requests that have all loaded the session: 1 refresh, and one token for all', async () => {
      const site = await start()
      const tab = await loggedIn(site)
      const gate = slow(site, '/orders', ({ tokens }) => tokens.getAccessToken())
      const asking = Array.from({ length: 50 }, () => tab.get('/orders'))
      await gate.reachedBy(50)
      expire()
      const before = sites.server.refreshes()
      gate.release()
      expect(new Set((await Promise.all(asking)).map(({ json }) => json.token)).size).toBe(1)
      expect(sites.server.refreshes() - before).toBe(1)
      await expectNewest(site, tab)
    })

    it.each([0, 1, 40, 1000])(
      'S12 a request that came before a refresh asks %d ms after it: no further refresh',
      async (delayMs) => {
        const site = await start()
        const tab = await loggedIn(site)
        const late = slow(site, '/late', ({ tokens }) => tokens.getAccessToken())
        const asking = tab.clone().get('/late')
        await late.reached
        const token = await refresh(tab)
        const before = sites.server.refreshes()
        advance(delayMs)
        late.release()
        expect((await asking).json.token).toBe(token)
        expect(sites.server.refreshes()).toBe(before)
      },
    )

    it('S12 the session is as it was before the refresh: no further refresh, and it heals', async () => {
      const site = await start()
      const tab = await loggedIn(site)
      const bringBack = await remember(site, tab)
      const token = await refresh(tab)
      const before = sites.server.refreshes()
      const stale = await bringBack()
      expect((await stale.get('/token')).json.token).toBe(token)
      expect(sites.server.refreshes()).toBe(before)
      expect((await stale.get('/token')).json.token).toBe(token)
      await expectNewest(site, stale)
    })

    it('S13 a request that came two rotations before gets the newest', async () => {
      const site = await start()
      const tab = await loggedIn(site)
      const late = slow(site, '/late', ({ tokens }) => tokens.getAccessToken())
      const asking = tab.clone().get('/late')
      await late.reached
      await refresh(tab)
      const newest = await refresh(tab)
      const before = sites.server.refreshes()
      late.release()
      expect((await asking).json.token).toBe(newest)
      expect(sites.server.refreshes()).toBe(before)
    })

    it('S13 the session is as it was two rotations before: the newest is served, and refreshed', async () => {
      const site = await start()
      const tab = await loggedIn(site)
      const bringBack = await remember(site, tab)
      await refresh(tab)
      const newest = await refresh(tab)
      const stale = await bringBack()
      expect((await stale.get('/token')).json.token).toBe(newest)
      const again = await bringBack()
      await refresh(again)
      await expectNewest(site, again)
    })

    it.each(driver.eager)(
      'S20 %s: a slow read-only request overlaps a refresh: the newest refresh token stays',
      async (eager) => {
        const site = await start(eager)
        const tab = await loggedIn(site)
        const report = slow(site, '/report')
        const reporting = tab.get('/report')
        await report.reached
        await refresh(tab)
        report.release()
        expect(await reporting).toMatchObject(ok)
        // Of a session in a cookie the browser has the stale one now; the next request heals it.
        expect(await tab.get('/token')).toMatchObject(ok)
        await expectNewest(site, tab)
      },
    )

    it('S23 a request that only refreshed leaves its session as it was', async () => {
      const site = await start()
      const tab = await loggedIn(site)
      const content = ({ session }: Visit) => {
        const { tokens: _, ...rest } = session
        return JSON.stringify(rest)
      }
      site.handle('/cart', ({ session }) => void (session.cart = ['book']))
      site.handle('/contents', async (visit) => {
        const before = content(visit)
        expire()
        await visit.tokens.getAccessToken()
        return [before, content(visit)]
      })
      await tab.get('/cart')
      const [before, after] = (await tab.get('/contents')).json
      expect(before).toContain('book')
      expect(after).toBe(before)
    })

    it('S30 the process is restarted: the tokens are the newest, and a logout stays', async () => {
      const first = await start()
      const tab = await loggedIn(first)
      const token = await refresh(tab)
      const second = await restart()
      const later = second.browser(tab)
      expect((await later.get('/token')).json.token).toBe(token)
      await refresh(later)
      await expectNewest(second, later)
      expect(await later.post('/logout')).toMatchObject(ok)
      const third = await restart()
      await expectLoggedOut(third, third.browser(later))
    })

    it.each(points)('S35 revoke() during %s() of a refresh: nobody is logged in', async (point) => {
      const site = await start()
      const tab = await loggedIn(site)
      expire()
      const gate = holdRefresh(point)
      const token = tab.clone().get('/token')
      await gate.reached
      expect(await tab.post('/logout')).toMatchObject(ok)
      gate.release()
      expect(await token).toMatchObject(loggedOut)
      await expectLoggedOut(site, tab)
    })

    it.each(points)(
      'S35 in the request that refreshes, during %s(): the rest of the session stays',
      async (point) => {
        const site = await start()
        const tab = await loggedIn(site)
        site.handle('/both', async ({ session, tokens }) => {
          session.views = 7
          expire()
          const gate = holdRefresh(point)
          const token = tokens.getAccessToken()
          await gate.reached
          await tokens.revoke()
          gate.release()
          return token
        })
        expect(await tab.get('/both')).toMatchObject(loggedOut)
        expect(await site.stored(tab)).toMatchObject({ views: 7 })
        await expectLoggedOut(site, tab)
      },
    )

    it.each(points)("S37 another user logs in during %s(): the old user's tokens are gone", async (point) => {
      const site = await start()
      const tab = await loggedIn(site, 'alice')
      const old = tab.clone()
      expire()
      const gate = holdRefresh(point)
      const token = old.get('/token')
      await gate.reached
      await login(tab, 'bob')
      const bob = await tokensOf(site, tab)
      gate.release()
      expect(await token).toMatchObject(loggedOut)
      await expectLoggedIn(site, tab, bob?.grantId)
    })
  })
}

/** What holds for session layers that keep their sessions in a store. */
export function describeStoredSessionLayer<S extends Sessions, Site extends StoredLayerSite>(
  driver: SessionLayerDriver<S, Site>,
): void {
  describeSessionLayer(driver)

  describe(`the session layer ${driver.name}, with its store`, () => {
    const sites = useSites(driver)
    const { expectLoggedIn, expectLoggedOut, expectNewest, expire, held, holdRefresh, loggedIn, login } =
      sites
    const { refresh, slow, start, tokensOf } = sites
    const usualAndEager: [string, string | undefined][] = [
      ['which it has changed', undefined],
      ...driver.eager.map((eager): [string, string] => [eager, eager]),
    ]

    const twoProcesses = async () => {
      const grants = memoryGrantStore()
      return [await start(undefined, { grants }), await start(undefined, { grants })] as const
    }
    const answered = (answer: BrowserAnswer) => expect(answer).toMatchObject(ok)

    it('when set() resolves, another process finds the tokens', async () => {
      const [site, other] = await twoProcesses()
      const tab = site.browser()
      site.handle('/cart', ({ session }) => void (session.cart = ['book']))
      await tab.get('/cart')
      site.handle('/login', async ({ body, tokens }) => {
        await tokens.set(body)
        return other.browser(tab).get('/token')
      })
      expect((await tab.post('/login', await sites.server.login('alice'))).json.status).toBe(200)
    })

    it('set() when the store fails: 503, and nobody is logged in', async () => {
      const site = await start()
      const tab = site.browser()
      site.handle('/login', async ({ body, session, tokens }) => {
        session.views = 7
        site.store.failNextWrite()
        await tokens.set(body)
      })
      const answer = await tab.post('/login', await sites.server.login('alice'))
      expect([answer.status, answer.json.code]).toEqual([503, 'ERR_SESSION_STORE'])
      await expectLoggedOut(site, tab)
      expect(await site.stored(tab)).toMatchObject({ views: 7 })
    })

    it('S1 a valid token costs no write', async () => {
      const site = await start()
      const tab = await loggedIn(site)
      const before = site.store.writes()
      for (let n = 0; n < 3; n++) answered(await tab.get('/token'))
      expect(site.store.writes()).toBe(before)
    })

    it('S23 a request that refreshes has one write made, and no more when it ends', async () => {
      const site = await start()
      const tab = await loggedIn(site)
      const before = site.store.writes()
      await refresh(tab)
      expect(site.store.writes() - before).toBe(1)
    })

    it('S25 the store fails once to take a refresh: tried again, nothing is lost', async () => {
      const site = await start()
      const tab = await loggedIn(site)
      site.store.failNextWrite()
      await refresh(tab)
      await expectNewest(site, tab)
      expect(site.events.map(({ type }) => type)).toEqual(['refreshed'])
    })

    describe.each(driver.eager)('%s', (eager) => {
      it('S20 a slow read-only request ends while the authorization server answers', async () => {
        const site = await start(eager)
        const tab = await loggedIn(site)
        const report = slow(site, '/report')
        const reporting = tab.get('/report')
        await report.reached
        expire()
        const answer = holdRefresh('holdAnswer')
        const token = tab.get('/token')
        await answer.reached
        report.release()
        await reporting
        answer.release()
        answered(await token)
        await expectNewest(site, tab)
      })

      it('S20 its save is on the way to the store when the refresh is to be stored', async () => {
        const grants = memoryGrantStore()
        const site = await start(eager, { grants })
        const tab = await loggedIn(site)
        const report = slow(site, '/report')
        const reporting = tab.get('/report')
        await report.reached
        const save = held(site.store.holdWrites())
        report.release()
        await save.reached
        expire()
        const committed = nextCommit(grants)
        const token = tab.get('/token')
        await committed
        save.release()
        await Promise.all([reporting, token])
        await expectNewest(site, tab)
      })

      it('S20 the refresh is on the way to the store when it ends', async () => {
        const site = await start(eager)
        const tab = await loggedIn(site)
        const report = slow(site, '/report')
        const reporting = tab.get('/report')
        await report.reached
        expire()
        const write = held(site.store.holdWrites())
        const token = tab.get('/token')
        await write.reached
        report.release()
        write.release()
        await Promise.all([reporting, token])
        await expectNewest(site, tab)
      })

      it('S20 fifty such requests', async () => {
        const site = await start(eager)
        const tab = await loggedIn(site)
        const report = slow(site, '/report')
        const reports = Array.from({ length: 50 }, () => tab.get('/report'))
        await report.reachedBy(50)
        await refresh(tab)
        report.release()
        await Promise.all(reports)
        await expectNewest(site, tab)
      })
    })

    const saves: [string, (visit: Visit) => unknown][] = [
      ['when the request ends', () => null],
      ['in the handler', (visit) => visit.save()],
    ]

    describe.each(saves)('S21 a slow request changes the session, which is saved %s', (_, save) => {
      const counting = (visit: Visit) => {
        visit.session.views = 7
        return save(visit)
      }

      it('S21 after the refresh: both stay', async () => {
        const site = await start()
        const tab = await loggedIn(site)
        const count = slow(site, '/views', counting)
        const saving = tab.get('/views')
        await count.reached
        await refresh(tab)
        count.release()
        answered(await saving)
        expect(await site.stored(tab)).toMatchObject({ views: 7 })
        await expectNewest(site, tab)
      })

      it.each(points)('S21 during %s() of the refresh: both stay', async (point) => {
        const site = await start()
        const tab = await loggedIn(site)
        site.handle('/views', counting)
        expire()
        const gate = holdRefresh(point)
        const token = tab.get('/token')
        await gate.reached
        answered(await tab.get('/views'))
        gate.release()
        answered(await token)
        expect(await site.stored(tab)).toMatchObject({ views: 7 })
        await expectNewest(site, tab)
      })

      it('S21 while the refresh is on the way to the store: both stay', async () => {
        const site = await start()
        const tab = await loggedIn(site)
        const working = createGate()
        const count = slow(site, '/views', (visit) => {
          void working.pass()
          return counting(visit)
        })
        const saving = tab.get('/views')
        await count.reached
        expire()
        const write = held(site.store.holdWrites())
        const token = tab.get('/token')
        await write.reached
        count.release()
        await working.reached
        write.release()
        await Promise.all([saving, token])
        expect(await site.stored(tab)).toMatchObject({ views: 7 })
        await expectNewest(site, tab)
      })

      it('S21 in another process: both stay, and it needs no further refresh', async () => {
        const [site, other] = await twoProcesses()
        const tab = await loggedIn(site)
        const there = other.browser(tab)
        const count = slow(other, '/views', counting)
        const saving = there.get('/views')
        await count.reached
        const token = await refresh(tab)
        count.release()
        answered(await saving)
        const before = sites.server.refreshes()
        expect((await there.get('/token')).json.token).toBe(token)
        expect(sites.server.refreshes()).toBe(before)
        expect(await site.stored(tab)).toMatchObject({ views: 7 })
        await expectNewest(site, tab)
      })
    })

    it.each(points)(
      'S22 a fast request puts an item in the cart during %s(): the cart keeps it',
      async (point) => {
        const site = await start()
        const tab = await loggedIn(site)
        site.handle('/cart', ({ session }) => void (session.cart = ['book']))
        expire()
        const gate = holdRefresh(point)
        const token = tab.get('/token')
        await gate.reached
        await tab.get('/cart')
        gate.release()
        answered(await token)
        expect(await site.stored(tab)).toMatchObject({ cart: ['book'] })
        await expectNewest(site, tab)
      },
    )

    it('S22 the item comes after the refresh, and the request that refreshed ends last: the cart keeps it', async () => {
      const site = await start()
      const tab = await loggedIn(site)
      const refreshed = held(createGate())
      expire()
      site.handle('/orders', async ({ tokens }) => {
        await tokens.getAccessToken()
        await refreshed.pass()
      })
      site.handle('/cart', ({ session }) => void (session.cart = ['book']))
      const orders = tab.get('/orders')
      await refreshed.reached
      await tab.get('/cart')
      refreshed.release()
      answered(await orders)
      expect(await site.stored(tab)).toMatchObject({ cart: ['book'] })
      await expectNewest(site, tab)
    })

    const deeds: [string, (visit: Visit) => Promise<void>][] = [
      ['save()', (visit) => visit.save()],
      ['regenerate() with the data carried over', (visit) => visit.regenerate()],
      [
        'regenerate() with the data carried over and save()',
        async (visit) => {
          await visit.regenerate()
          await visit.save()
        },
      ],
    ]

    describe.each(deeds)('S24 %s', (_, deed) => {
      const doing = async (visit: Visit) => {
        visit.session.views = 7
        await visit.save()
        await deed(visit)
      }
      /** The session goes on with its data and with the newest tokens. */
      const expectToGoOn = async (site: Site, tab: Browser) => {
        const before = sites.server.refreshes()
        answered(await tab.get('/token'))
        expect(sites.server.refreshes()).toBe(before)
        expect(await site.stored(tab)).toMatchObject({ views: 7 })
        await expectNewest(site, tab)
        await refresh(tab)
        await expectNewest(site, tab)
      }

      it('S24 before a refresh', async () => {
        const site = await start()
        const tab = await loggedIn(site)
        site.handle('/deed', doing)
        answered(await tab.get('/deed'))
        await refresh(tab)
        await expectToGoOn(site, tab)
      })

      it('S24 after a refresh, in a request from before it', async () => {
        const site = await start()
        const tab = await loggedIn(site)
        const gate = slow(site, '/deed', doing)
        const answer = tab.get('/deed')
        await gate.reached
        await refresh(tab)
        gate.release()
        answered(await answer)
        await expectToGoOn(site, tab)
      })

      it('S24 after a refresh, in the request that refreshed', async () => {
        const site = await start()
        const tab = await loggedIn(site)
        site.handle('/deed', async (visit) => {
          expire()
          await visit.tokens.getAccessToken()
          await doing(visit)
        })
        answered(await tab.get('/deed'))
        await expectToGoOn(site, tab)
      })

      it.each(points)('S24 in another request, during %s() of a refresh', async (point) => {
        const site = await start()
        const tab = await loggedIn(site)
        site.handle('/deed', doing)
        expire()
        const gate = holdRefresh(point)
        const token = tab.clone().get('/token')
        await gate.reached
        answered(await tab.get('/deed'))
        gate.release()
        answered(await token)
        await expectToGoOn(site, tab)
      })

      it.each(points)('S24 in the request that refreshes, during %s()', async (point) => {
        const site = await start()
        const tab = await loggedIn(site)
        site.handle('/deed', async (visit) => {
          expire()
          const gate = holdRefresh(point)
          const token = visit.tokens.getAccessToken()
          await gate.reached
          await doing(visit)
          gate.release()
          await token
        })
        answered(await tab.get('/deed'))
        await expectToGoOn(site, tab)
      })

      it('S24 and a refresh after it in the same request', async () => {
        const site = await start()
        const tab = await loggedIn(site)
        site.handle('/deed', async (visit) => {
          await doing(visit)
          expire()
          await visit.tokens.getAccessToken()
        })
        answered(await tab.get('/deed'))
        await expectToGoOn(site, tab)
      })
    })

    it('S28 a refresh leaves the id of the session', async () => {
      const site = await start()
      const tab = await loggedIn(site)
      const before = site.idOf(tab)
      await refresh(tab)
      expect(site.idOf(tab)).toBe(before)
    })

    it('a session that is regenerated, then logged in: the tokens are under its new id', async () => {
      const site = await start()
      const tab = site.browser()
      site.handle('/cart', ({ session }) => void (session.cart = ['book']))
      await tab.get('/cart')
      const before = site.idOf(tab)
      const bystander = tab.clone()
      site.handle('/login', async (visit) => {
        await visit.regenerate()
        await visit.tokens.set(visit.body)
      })
      await login(tab)
      expect(site.idOf(tab)).not.toBe(before)
      expect(await site.stored(tab)).toMatchObject({ cart: ['book'] })
      await expectNewest(site, tab)
      expect(await bystander.get('/token')).toMatchObject(loggedOut)
    })

    describe.each(usualAndEager)(
      'S36 the session is gone, then a slow request saves its old one, %s',
      (_, eager) => {
        const ends: [string, (visit: Visit) => Promise<void>][] = [
          ['destroyed', (visit) => visit.destroy()],
          ['logged out by revoke()', (visit) => visit.tokens.revoke()],
          ['logged out by clear()', (visit) => visit.tokens.clear()],
          ['left without its tokens', async (visit) => void delete visit.session.tokens],
        ]

        it.each(ends)('S36 when it was %s: no token comes back', async (_, end) => {
          const site = await start(eager)
          const tab = await loggedIn(site)
          const old = tab.clone()
          const gate = slow(site, '/slow', async (visit) => {
            if (eager === undefined) visit.session.views = 7
          })
          const answer = old.get('/slow')
          await gate.reached
          site.handle('/end', end)
          answered(await tab.get('/end'))
          gate.release()
          await answer
          await expectLoggedOut(site, old)
        })
      },
    )

    it('S36 destroyed during a refresh: what arrives late is not stored', async () => {
      const site = await start()
      const tab = await loggedIn(site)
      const old = tab.clone()
      site.handle('/end', (visit) => visit.destroy())
      expire()
      const gate = holdRefresh('holdAnswer')
      const token = old.get('/token')
      await gate.reached
      answered(await tab.get('/end'))
      gate.release()
      expect(await token).toMatchObject(loggedOut)
      expect(await site.stored(old)).toBeUndefined()
      await expectLoggedOut(site, old)
    })

    it.each(points)('S35 in another process, during %s()', async (point) => {
      const [site, other] = await twoProcesses()
      const tab = await loggedIn(site)
      expire()
      const gate = holdRefresh(point)
      const token = tab.get('/token')
      await gate.reached
      answered(await other.browser(tab).post('/logout'))
      gate.release()
      expect(await token).toMatchObject(loggedOut)
      await expectLoggedOut(site, tab)
      await expectLoggedOut(other, other.browser(tab))
    })

    it('S35 while the refresh is on the way to the store', async () => {
      const site = await start()
      const tab = await loggedIn(site)
      const leaving = createGate()
      site.handle('/out', ({ tokens }) => {
        void leaving.pass()
        return tokens.revoke()
      })
      expire()
      const write = held(site.store.holdWrites())
      const token = tab.get('/token')
      await write.reached
      const out = tab.post('/out')
      await leaving.reached
      write.release()
      answered(await out)
      await token
      await expectLoggedOut(site, tab)
    })

    it.each(usualAndEager)(
      "S37 the old user's slow request saves her session last, %s: the new user stays",
      async (_, eager) => {
        const site = await start(eager)
        const tab = await loggedIn(site, 'alice')
        const gate = slow(site, '/slow', async (visit) => {
          if (eager === undefined) visit.session.views = 7
        })
        const answer = tab.get('/slow')
        await gate.reached
        await login(tab, 'bob')
        const bob = await tokensOf(site, tab)
        gate.release()
        answered(await answer)
        await expectLoggedIn(site, tab, bob?.grantId)
      },
    )

    it('S37 another user logs in under a new id, in the request that refreshes', async () => {
      const site = await start()
      const tab = await loggedIn(site, 'alice')
      site.handle('/switch', async (visit) => {
        expire()
        const gate = holdRefresh('holdAnswer')
        const token = visit.tokens.getAccessToken()
        await gate.reached
        await visit.regenerate()
        await visit.tokens.set(visit.body)
        gate.release()
        await token.catch(() => {})
      })
      const alice = await tokensOf(site, tab)
      answered(await tab.post('/switch', await sites.server.login('bob')))
      const bob = await tokensOf(site, tab)
      expect(bob?.grantId).not.toBe(alice?.grantId)
      await expectLoggedIn(site, tab, bob?.grantId)
    })

    it('a request from before the login saves its session after it: the login stays', async () => {
      const site = await start()
      const tab = site.browser()
      site.handle('/cart', ({ session }) => void (session.cart = ['book']))
      await tab.get('/cart')
      const gate = slow(site, '/slow', async ({ session }) => void (session.views = 7))
      const answer = tab.get('/slow')
      await gate.reached
      await login(tab)
      const alice = await tokensOf(site, tab)
      gate.release()
      answered(await answer)
      expect(await site.stored(tab)).toMatchObject({ views: 7 })
      await expectLoggedIn(site, tab, alice?.grantId)
    })
  })
}
