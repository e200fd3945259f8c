import { setTimeout as delay } from 'node:timers/promises'
import { describe, expect } from '@jest/globals'
import { RACE_WINDOW_MS } from '../../lib/concurrency/time-constants.js'
import type { GrantStore } from '../../lib/index.js'
import type { Browser } from '../helpers/browser.js'
import { recordingGrants } from '../helpers/site.js'
import { scenarioTests } from './layer-matrix.js'
import { layerSites, loggedOut, ok, points, putBook, putViews } from './layer-sites.js'
import { describeSessionLayer } from './session-layer.js'
import type { LayerSite, SessionLayerDriver, Sessions, Visit } from './session-layer-driver.js'

/**
 * What holds for session layers that keep their sessions in cookies. A browser keeps the cookie that came last, so an old one
 * may come back at any time: it is of use as long as its grant lives, and leads to the newest tokens.
 */
export function describeCookieSessionLayer<S extends Sessions, Site extends LayerSite>(
  driver: SessionLayerDriver<S, Site>,
): void {
  describeSessionLayer(driver)

  describe(`the session layer ${driver.name}, without a store`, () => {
    const it = scenarioTests(driver)
    const sites = layerSites(driver)
    const { expectLoggedOut, expectNewest, expire, holdRefresh, loggedIn, refresh, slow, start } = sites

    /** The next request that asks for a token gets the newest without a refresh, and mends the cookie. */
    const expectToMend = async (site: Site, tab: Browser) => {
      const before = sites.server.refreshes()
      expect(await tab.get('/token')).toMatchObject(ok)
      expect(sites.server.refreshes()).toBe(before)
      await expectNewest(site, tab)
    }

    it('S21 the slow request answers after the refresh: what it changed stays, and the tokens mend', async () => {
      const site = await start()
      const tab = await loggedIn(site)
      const count = slow(site, '/views', putViews)
      const saving = tab.get('/views')
      await count.reached
      await refresh(tab)
      count.release()
      expect(await saving).toMatchObject(ok)
      await expectToMend(site, tab)
      expect(await site.stored(tab)).toMatchObject({ views: 7 })
    })

    it.each(points)(
      'S22 the refresh, held up at %s(), answers last: its cookie is kept whole',
      async (point) => {
        const site = await start()
        const tab = await loggedIn(site)
        site.handle('/cart', putBook)
        expire()
        const gate = holdRefresh(point)
        const token = tab.get('/token')
        await gate.reached
        expect(await tab.get('/cart')).toMatchObject(ok)
        gate.release()
        expect(await token).toMatchObject(ok)
        await expectNewest(site, tab)
        expect(await site.stored(tab)).not.toHaveProperty('cart')
      },
    )

    it('S22 a request that came after the refresh changes the session: both stay', async () => {
      const site = await start()
      const tab = await loggedIn(site)
      site.handle('/cart', putBook)
      await refresh(tab)
      expect(await tab.get('/cart')).toMatchObject(ok)
      expect(await site.stored(tab)).toMatchObject({ cart: ['book'] })
      await expectNewest(site, tab)
    })

    const deeds: [string, (visit: Visit) => Promise<void>][] = [
      ['save()', (visit) => visit.save()],
      ['regenerate() with the data carried over', (visit) => visit.regenerate()],
    ]

    describe.each(deeds)('S24 %s', (_, deed) => {
      const doing = async (visit: Visit) => {
        visit.session.views = 7
        await deed(visit)
      }

      it('S24 before a refresh', async () => {
        const site = await start()
        const tab = await loggedIn(site)
        site.handle('/deed', doing)
        expect(await tab.get('/deed')).toMatchObject(ok)
        await refresh(tab)
        expect(await site.stored(tab)).toMatchObject({ views: 7 })
        await expectNewest(site, tab)
      })

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

      it('S24 after a refresh, in the request that refreshed', async () => {
        const site = await start()
        const tab = await loggedIn(site)
        site.handle('/deed', async (visit) => {
          expire()
          await visit.tokens.getAccessToken()
          await doing(visit)
        })
        expect(await tab.get('/deed')).toMatchObject(ok)
        expect(await site.stored(tab)).toMatchObject({ views: 7 })
        await expectNewest(site, tab)
      })

      it('S24 in the request that refreshes, during the refresh', async () => {
        const site = await start()
        const tab = await loggedIn(site)
        site.handle('/deed', async (visit) => {
          expire()
          const gate = holdRefresh('holdAnswer')
          const token = visit.tokens.getAccessToken()
          await gate.reached
          await doing(visit)
          gate.release()
          await token
        })
        expect(await tab.get('/deed')).toMatchObject(ok)
        expect(await site.stored(tab)).toMatchObject({ views: 7 })
        await expectNewest(site, tab)
      })
    })

    const streamed = (site: Site) =>
      site.handle('/stream', async ({ begin, tokens }) => {
        begin()
        return tokens.getAccessToken().then(
          ({ token }) => token,
          ({ code }) => code,
        )
      })

    it('S27 a refresh when the headers are out is refused before the refresh token is spent', async () => {
      const site = await start()
      const tab = await loggedIn(site)
      streamed(site)
      expire()
      const before = sites.server.tokenRequests.length
      expect((await tab.get('/stream')).json).toBe('ERR_HEADERS_SENT')
      expect(sites.server.tokenRequests.length).toBe(before)
      expect(await tab.get('/token')).toMatchObject(ok)
      await expectNewest(site, tab)
    })

    it('S27 with a shared grant store it is done, and the next cookie has it', async () => {
      const site = await start(undefined, {}, { grants: recordingGrants() })
      const tab = await loggedIn(site)
      streamed(site)
      expire()
      const token = (await tab.get('/stream')).json
      const before = sites.server.refreshes()
      expect((await tab.get('/token')).json.token).toBe(token)
      expect(sites.server.refreshes()).toBe(before)
      await expectNewest(site, tab)
    })

    it('S26 every client disconnects, and the process is restarted: a shared grant store has the tokens', async () => {
      const grants: GrantStore = recordingGrants()
      const site = await start(undefined, {}, { grants })
      const tab = await loggedIn(site)
      const before = await sites.abandon(site, tab)
      const other = await sites.restart({ grants })
      const later = other.browser(tab)
      expect(await later.get('/token')).toMatchObject(ok)
      expect(sites.server.refreshes()).toBe(before)
      await expectNewest(other, later)
    })

    const ends: [string, (visit: Visit) => Promise<void>][] = [
      ['revoke()', (visit) => visit.tokens.revoke()],
      ['clear()', (visit) => visit.tokens.clear()],
      [
        'revoke(), and destroyed',
        async (visit) => {
          await visit.tokens.revoke()
          await visit.destroy()
        },
      ],
    ]

    // cookie-session does not tell what a session held that nobody has looked at.
    if (driver.layer !== 'cookie-session') {
      ends.push([
        'revoke() when it was destroyed',
        async (visit) => {
          await visit.destroy()
          await visit.tokens.revoke()
        },
      ])
    }

    it.each(ends)('S36 logged out by %s, then a slow request brings its session back', async (_, end) => {
      const site = await start()
      const tab = await loggedIn(site)
      const old = tab.clone()
      const gate = slow(site, '/slow', putViews)
      const answer = old.get('/slow')
      await gate.reached
      site.handle('/end', end)
      expect(await tab.get('/end')).toMatchObject(ok)
      gate.release()
      expect(await answer).toMatchObject(ok)
      // The copy is in the cookie, and of no use.
      expect(await old.get('/token')).toMatchObject({ status: 401 })
      await expectLoggedOut(site, tab)
    })

    it('S36 logged out, and the old cookie comes to another process: it asks once, serves nothing, and refreshes nothing', async () => {
      const grants = recordingGrants()
      const [site, other] = [await start(undefined, {}, { grants }), await start(undefined, {}, { grants })]
      const tab = await loggedIn(site)
      const old = other.browser(tab)
      expect(await tab.post('/logout')).toMatchObject(ok)
      const before = sites.server.tokenRequests.length
      expect(await old.get('/token')).toMatchObject({ status: 401 })
      expire()
      expect(await old.get('/token')).toMatchObject({ status: 401 })
      expect(sites.server.tokenRequests.length).toBe(before)
      await expectLoggedOut(site, tab)
    })

    it('S36 logged out, and the old cookie comes to a process that has served it: it serves what is valid, and refreshes nothing', async () => {
      const grants = recordingGrants()
      const [site, other] = [await start(undefined, {}, { grants }), await start(undefined, {}, { grants })]
      const tab = await loggedIn(site)
      const old = other.browser(tab)
      expect(await old.get('/token')).toMatchObject(ok)
      expect(await tab.post('/logout')).toMatchObject(ok)
      expect(await old.get('/token')).toMatchObject(ok)
      expire()
      const before = sites.server.tokenRequests.length
      expect(await old.get('/token')).toMatchObject({ status: 401 })
      expect(sites.server.tokenRequests.length).toBe(before)
      await expectLoggedOut(site, tab)
    })

    it('S36 thrown away by the request that has logged in over another login: it stays away', async () => {
      const site = await start(undefined, {}, { grants: recordingGrants() })
      const tab = await loggedIn(site)
      site.handle('/login', async (visit) => {
        await visit.tokens.set(visit.body)
        await visit.destroy()
        // A login is looked after in the background for so long.
        await delay(3 * RACE_WINDOW_MS)
      })
      await sites.login(tab, 'bob')
      expect(await tab.get('/token')).toMatchObject(loggedOut)
    })

    it('S36 thrown away without a logout: the old cookie is as good as before', async () => {
      const site = await start()
      const tab = await loggedIn(site)
      const old = tab.clone()
      site.handle('/end', (visit) => visit.destroy())
      expect(await tab.get('/end')).toMatchObject(ok)
      await expectLoggedOut(site, tab)
      expect(await old.get('/token')).toMatchObject(ok)
    })
  })
}
