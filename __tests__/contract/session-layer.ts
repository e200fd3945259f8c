import { describe, expect } from '@jest/globals'
import { scenarioTests } from './layer-matrix.js'
import { layerSites, loggedOut, ok, points, putBook } from './layer-sites.js'
import type { LayerSite, SessionLayerDriver, Sessions, Visit } from './session-layer-driver.js'

/** What holds for every session layer, wherever it keeps its sessions. */
export function describeSessionLayer<S extends Sessions, Site extends LayerSite>(
  driver: SessionLayerDriver<S, Site>,
): void {
  describe(`the session layer ${driver.name}`, () => {
    const it = scenarioTests(driver)
    const sites = layerSites(driver)
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
      site.handle('/cart', putBook)
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
      const content = ({ session }: Visit) =>
        JSON.stringify(session, (name, value) => (name === 'tokens' ? undefined : value))
      site.handle('/cart', putBook)
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

    it('S26 every client disconnects during a refresh: the next request has its tokens', async () => {
      const site = await start()
      const tab = await loggedIn(site)
      const before = await sites.abandon(site, tab)
      expect(await tab.get('/token')).toMatchObject(ok)
      expect(sites.server.refreshes()).toBe(before)
      await expectNewest(site, tab)
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
      site.handle('/has', ({ tokens }) => tokens.hasTokens())
      const visitor = tab.clone()
      const out = tab.post('/logout')
      while ((await visitor.get('/has')).json) await new Promise(setImmediate)
      gate.release()
      expect(await out).toMatchObject(ok)
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
          const revoked = tokens.revoke()
          while (tokens.hasTokens()) await new Promise(setImmediate)
          gate.release()
          await revoked
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
