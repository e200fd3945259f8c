import { describe, expect } from '@jest/globals'
import { memoryGrantStore } from '../../lib/grants/memory-grant-store.js'
import type { Browser, BrowserAnswer } from '../helpers/browser.js'
import { createGate } from '../helpers/gate.js'
import { nextCommit } from '../helpers/next-commit.js'
import { scenarioTests } from './layer-matrix.js'
import { layerSites, loggedOut, ok, points, putBook, putViews } from './layer-sites.js'
import { describeSessionLayer } from './session-layer.js'
import type { SessionLayerDriver, Sessions, StoredLayerSite, Visit } from './session-layer-driver.js'

/** What holds for session layers that keep their sessions in a store. */
export function describeStoredSessionLayer<S extends Sessions, Site extends StoredLayerSite>(
  driver: SessionLayerDriver<S, Site>,
): void {
  describeSessionLayer(driver)

  describe(`the session layer ${driver.name}, with its store`, () => {
    const it = scenarioTests(driver)
    const sites = layerSites(driver)
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
      site.handle('/cart', putBook)
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

    it('S25 the store fails for good to take a refresh: it is told, and the next request stores it', async () => {
      const site = await start()
      const tab = await loggedIn(site)
      const works = site.store.failWrites()
      const token = await refresh(tab)
      expect(site.events.map(({ type }) => type)).toContain('session_write_failed')
      works()
      const before = sites.server.refreshes()
      expect((await tab.get('/token')).json.token).toBe(token)
      await sites.restart()
      expect(sites.server.refreshes()).toBe(before)
      await expectNewest(site, tab)
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
        if (!driver.limits.S21) expect(await site.stored(tab)).toMatchObject({ views: 7 })
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
        site.handle('/cart', putBook)
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
      site.handle('/cart', putBook)
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
      site.handle('/cart', putBook)
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

    it('S36 logged out in a process of its own while the request of the login goes on: no token comes back', async () => {
      const [site, other] = [await start(), await start()]
      const tab = site.browser()
      site.handle('/cart', putBook)
      await tab.get('/cart')
      const loggedInHere = held(createGate())
      site.handle('/login', async (visit) => {
        await visit.tokens.set(visit.body)
        await loggedInHere.pass()
      })
      const logging = login(tab)
      await loggedInHere.reached
      answered(await other.browser(tab).post('/logout'))
      loggedInHere.release()
      await logging
      await expectLoggedOut(other, other.browser(tab))
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
      site.handle('/cart', putBook)
      await tab.get('/cart')
      const gate = slow(site, '/slow', putViews)
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
