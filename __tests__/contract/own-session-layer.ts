import { describe, expect } from '@jest/globals'
import type { Browser } from '../helpers/browser.js'
import { recordingGrants } from '../helpers/site.js'
import { scenarioTests } from './layer-matrix.js'
import { layerSites, ok, points, putBook, putViews } from './layer-sites.js'
import { describeSessionLayer } from './session-layer.js'
import type { OwnLayerSite, SessionLayerDriver, Sessions, Visit } from './session-layer-driver.js'

/** What holds for a session layer of the app's own, behind the option `session`, whose sessions are on the server. */
export function describeOwnSessionLayer<S extends Sessions, Site extends OwnLayerSite>(
  driver: SessionLayerDriver<S, Site>,
): void {
  describeSessionLayer(driver)

  describe(`the session layer ${driver.name}, on the server`, () => {
    const it = scenarioTests(driver)
    const sites = layerSites(driver)
    const { expectLoggedOut, expectNewest, expire, holdRefresh, loggedIn, refresh, slow, start } = sites

    const twoProcesses = async () => {
      const grants = recordingGrants()
      return [await start(undefined, {}, { grants }), await start(undefined, {}, { grants })] as const
    }

    /** The next request that asks for a token gets the newest without a refresh, and mends the session. */
    const expectToMend = async (site: Site, tab: Browser) => {
      const before = sites.server.refreshes()
      expect(await tab.get('/token')).toMatchObject(ok)
      expect(sites.server.refreshes()).toBe(before)
      await expectNewest(site, tab)
    }

    it('set() when it fails to write: 503, and nobody is logged in', async () => {
      const site = await start()
      const tab = site.browser()
      site.handle('/login', async ({ body, session, tokens }) => {
        session.views = 7
        site.failNextWrite()
        await tokens.set(body)
      })
      const answer = await tab.post('/login', await sites.server.login('alice'))
      expect([answer.status, answer.json.code]).toEqual([503, 'ERR_SESSION_STORE'])
      await expectLoggedOut(site, tab)
      expect(await site.stored(tab)).toMatchObject({ views: 7 })
    })

    it('S21 a slow request changes the session after the refresh: both stay', async () => {
      const site = await start()
      const tab = await loggedIn(site)
      const count = slow(site, '/views', putViews)
      const saving = tab.get('/views')
      await count.reached
      await refresh(tab)
      count.release()
      expect(await saving).toMatchObject(ok)
      expect(await site.stored(tab)).toMatchObject({ views: 7 })
      await expectNewest(site, tab)
    })

    it('S21 in another process: both stay, and it needs no further refresh', async () => {
      const [site, other] = await twoProcesses()
      const tab = await loggedIn(site)
      const there = other.browser(tab)
      const count = slow(other, '/views', putViews)
      const saving = there.get('/views')
      await count.reached
      await refresh(tab)
      count.release()
      expect(await saving).toMatchObject(ok)
      await expectToMend(other, there)
      expect(await site.stored(tab)).toMatchObject({ views: 7 })
    })

    it.each(points)(
      'S22 a fast request puts an item in the cart during %s(): the cart keeps it',
      async (point) => {
        const site = await start()
        const tab = await loggedIn(site)
        site.handle('/cart', putBook)
        expire()
        const gate = holdRefresh(point)
        const token = tab.get('/token')
        await gate.reached
        await tab.get('/cart')
        gate.release()
        expect(await token).toMatchObject(ok)
        expect(await site.stored(tab)).toMatchObject({ cart: ['book'] })
        await expectNewest(site, tab)
      },
    )

    const deeds: [string, (visit: Visit) => Promise<void>][] = [
      ['save()', (visit) => visit.save()],
      ['regenerate() with the data carried over', (visit) => visit.regenerate()],
    ]

    describe.each(deeds)('S24 %s', (_, deed) => {
      const doing = async (visit: Visit) => {
        visit.session.views = 7
        await deed(visit)
      }

      it('S24 after a refresh, in a request from before it: the next one mends it', async () => {
        const site = await start()
        const tab = await loggedIn(site)
        const gate = slow(site, '/deed', doing)
        const answer = tab.get('/deed')
        await gate.reached
        await refresh(tab)
        gate.release()
        expect(await answer).toMatchObject(ok)
        await expectToMend(site, tab)
        expect(await site.stored(tab)).toMatchObject({ views: 7 })
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
        expect(await tab.get('/deed')).toMatchObject(ok)
        await expectNewest(site, tab)
        expect(await site.stored(tab)).toMatchObject({ views: 7 })
      })

      it('S24 in another request, during a refresh: the next one mends it', async () => {
        const site = await start()
        const tab = await loggedIn(site)
        site.handle('/deed', doing)
        expire()
        const gate = holdRefresh('holdAnswer')
        const token = tab.clone().get('/token')
        await gate.reached
        expect(await tab.get('/deed')).toMatchObject(ok)
        gate.release()
        expect(await token).toMatchObject(ok)
        await expectToMend(site, tab)
      })
    })

    it('S25 a write fails once: tried again, nothing is lost', async () => {
      const site = await start()
      const tab = await loggedIn(site)
      site.failNextWrite()
      await refresh(tab)
      await expectNewest(site, tab)
      expect(site.events.map(({ type }) => type)).toEqual(['refreshed'])
    })

    it('S25 writes fail for good: it is told, and the next request writes', async () => {
      const site = await start()
      const tab = await loggedIn(site)
      const works = site.failWrites()
      expire()
      const before = sites.server.refreshes()
      expect(await tab.get('/token')).toMatchObject(ok)
      expect(site.events.map(({ type }) => type)).toContain('session_write_failed')
      works()
      await expectToMend(site, tab)
      expect(sites.server.refreshes() - before).toBe(1)
    })

    it('S26 every client disconnects during a refresh: another process finds its tokens', async () => {
      const site = await start()
      const tab = await loggedIn(site)
      const before = await sites.abandon(site, tab)
      const other = await sites.restart()
      expect(await other.browser(tab).get('/token')).toMatchObject(ok)
      expect(sites.server.refreshes()).toBe(before)
      await expectNewest(other, tab)
    })

    it('S27 a refresh when the headers are out is stored', async () => {
      const site = await start()
      const tab = await loggedIn(site)
      site.handle('/stream', async ({ begin, tokens }) => {
        begin()
        return (await tokens.getAccessToken()).token
      })
      expire()
      const token = (await tab.get('/stream')).json
      await expectNewest(site, tab)
      expect((await tab.get('/token')).json.token).toBe(token)
    })

    it('S28 a refresh leaves the id of the session', async () => {
      const site = await start()
      const tab = await loggedIn(site)
      const before = site.idOf(tab)
      await refresh(tab)
      expect(site.idOf(tab)).toBe(before)
    })

    it.each<[string, (visit: Visit) => Promise<void>]>([
      ['revoke()', (visit) => visit.tokens.revoke()],
      ['clear()', (visit) => visit.tokens.clear()],
    ])('S36 logged out by %s, then a slow request saves its session: no token comes back', async (_, end) => {
      for (const eager of [undefined, ...driver.eager]) {
        const site = await start(eager)
        const tab = await loggedIn(site)
        const gate = slow(site, '/slow', putViews)
        const answer = tab.get('/slow')
        await gate.reached
        site.handle('/end', end)
        expect(await tab.get('/end')).toMatchObject(ok)
        gate.release()
        expect(await answer).toMatchObject(ok)
        expect(await tab.get('/token')).toMatchObject({ status: 401 })
      }
    })

    it('S36 thrown away without a logout: what is refreshed then is not stored', async () => {
      const site = await start()
      const tab = await loggedIn(site)
      const old = tab.clone()
      const gate = slow(site, '/slow', ({ tokens }) => tokens.getAccessToken())
      const answer = old.get('/slow')
      await gate.reached
      site.handle('/end', (visit) => visit.destroy())
      expect(await tab.get('/end')).toMatchObject(ok)
      expire()
      gate.release()
      expect(await answer).toMatchObject(ok)
      expect(await site.stored(old)).toBeUndefined()
      await expectLoggedOut(site, tab)
    })
  })
}
