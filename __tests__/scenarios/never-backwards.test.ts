import { createHash } from 'node:crypto'
import { describe, expect, it } from '@jest/globals'
import express, { type Request } from 'express'
import session, { type Store } from 'express-session'
import { memoryGrantStore } from '../../lib/grants/memory-grant-store.js'
import { startApp } from '../helpers/app.js'
import { type Browser, browser } from '../helpers/browser.js'
import { createGate } from '../helpers/gate.js'
import { nextCommit, someTurnsOfTheLoop } from '../helpers/next-commit.js'
import { regeneratedWithData, reloaded, saved } from '../helpers/session-deeds.js'
import type { Site } from '../helpers/site.js'
import { fileStore, recordingStore, sameSessions } from '../helpers/stores.js'
import { HOUR_MS, testSites } from '../helpers/test-sites.js'

const ok = { status: 200 }

const { server, start, closing, held, loggedIn, refresh, expectNewest } = await testSites()

describe('S20 resave: true, a slow read-only request overlaps a refresh: the newest refresh token stays', () => {
  it('S20 when it ends after the refresh', async () => {
    const site = await start({ session: { resave: true } })
    const tab = await loggedIn(site)
    const slow = held(site.slow('/report'))
    const report = tab.get('/report')
    await slow.reached
    await refresh(site, tab)
    site.store.forget()
    slow.release()
    await report
    expect(site.store.count('set')).toBe(1)
    await expectNewest(site, tab)
  })

  it('S20 when it ends while the authorization server responds', async () => {
    const site = await start({ session: { resave: true } })
    const tab = await loggedIn(site)
    const slow = held(site.slow('/report'))
    const report = tab.get('/report')
    await slow.reached
    site.clock.advance(HOUR_MS)
    const answer = held(server.holdAnswer())
    const token = tab.get('/token')
    await answer.reached
    slow.release()
    await report
    answer.release()
    await token
    await expectNewest(site, tab)
  })

  it('S20 when its save is being written while the refresh is to be stored', async () => {
    const grants = memoryGrantStore()
    const site = await start({ session: { resave: true }, surroundings: { grants } })
    const tab = await loggedIn(site)
    const slow = held(site.slow('/report'))
    const report = tab.get('/report')
    await slow.reached
    const save = held(site.store.hold('set'))
    slow.release()
    await save.reached
    site.clock.advance(HOUR_MS)
    const committed = nextCommit(grants)
    const token = tab.get('/token')
    await committed
    save.release()
    await Promise.all([report, token])
    await expectNewest(site, tab)
  })

  it('S20 when the refresh is being written to the store', async () => {
    const site = await start({ session: { resave: true } })
    const tab = await loggedIn(site)
    const slow = held(site.slow('/report'))
    const report = tab.get('/report')
    await slow.reached
    site.clock.advance(HOUR_MS)
    const write = held(site.store.hold('set'))
    const token = tab.get('/token')
    await write.reached
    slow.release()
    write.release()
    await Promise.all([report, token])
    await expectNewest(site, tab)
  })

  it('S20 with fifty such requests', async () => {
    const site = await start({ session: { resave: true } })
    const tab = await loggedIn(site)
    const slow = held(site.slow('/report'))
    const reports = Array.from({ length: 50 }, () => tab.get('/report'))
    await slow.reachedBy(50)
    site.clock.advance(HOUR_MS)
    const answer = held(server.holdAnswer())
    const token = tab.get('/token')
    await answer.reached
    slow.release()
    answer.release()
    await Promise.all([...reports, token])
    await expectNewest(site, tab)
  })
})

describe('S21 resave: false, a slow request sets views during a refresh: both stay', () => {
  const workers: [string, (request: Request) => unknown][] = [
    ['and it is saved when the request ends', () => undefined],
    ['and saves it in the handler', (request) => saved(request)],
  ]

  it.each(workers)('S21 %s, after the refresh', async (_, work) => {
    const site = await start()
    const tab = await loggedIn(site)
    const slow = held(
      site.slow('/count', (request) => {
        request.session.views = 7
        return work(request)
      }),
    )
    const count = tab.get('/count')
    await slow.reached
    await refresh(site, tab)
    slow.release()
    expect(await count).toMatchObject(ok)
    expect(await site.stored(tab)).toMatchObject({ views: 7 })
    await expectNewest(site, tab)
  })

  it.each(workers)('S21 %s, while the authorization server responds', async (_, work) => {
    const site = await start()
    const tab = await loggedIn(site)
    site.handle('/count', (request) => {
      request.session.views = 7
      return work(request)
    })
    site.clock.advance(HOUR_MS)
    const answer = held(server.holdAnswer())
    const token = tab.get('/token')
    await answer.reached
    await tab.get('/count')
    answer.release()
    await token
    expect(await site.stored(tab)).toMatchObject({ views: 7 })
    await expectNewest(site, tab)
  })

  it.each(workers)('S21 %s, while the refresh is being written to the store', async (_, work) => {
    const site = await start()
    const tab = await loggedIn(site)
    const working = createGate()
    const slow = held(
      site.slow('/count', (request) => {
        request.session.views = 7
        void working.pass()
        return work(request)
      }),
    )
    const count = tab.get('/count')
    await slow.reached
    site.clock.advance(HOUR_MS)
    const write = held(site.store.hold('set'))
    const token = tab.get('/token')
    await write.reached
    slow.release()
    await working.reached
    write.release()
    await Promise.all([count, token])
    expect(await site.stored(tab)).toMatchObject({ views: 7 })
    await expectNewest(site, tab)
  })

  it('S21 and refreshes in the same request, before and after it sets it', async () => {
    const site = await start()
    const tab = await loggedIn(site)
    site.handle('/count', async (request) => {
      site.clock.advance(HOUR_MS)
      await request.tokens.getAccessToken()
      request.session.views = 7
      site.clock.advance(HOUR_MS)
      await request.tokens.getAccessToken()
      await saved(request)
      site.clock.advance(HOUR_MS)
      await request.tokens.getAccessToken()
      request.session.views = 8
    })
    const before = server.refreshes()
    expect(await tab.get('/count')).toMatchObject(ok)
    expect(server.refreshes() - before).toBe(3)
    expect(await site.stored(tab)).toMatchObject({ views: 8 })
    await expectNewest(site, tab)
  })

  it('S21 in another process, which then serves the next requests: no further refresh, and both are stored', async () => {
    const grants = memoryGrantStore()
    const sessions = new session.MemoryStore()
    const one = await start({ store: sessions, surroundings: { grants } })
    const other = await start({ store: sameSessions(sessions), surroundings: { grants } })
    const tab = await loggedIn(one)
    const tabThere = other.visitorOf(tab)
    const slow = held(
      other.slow('/count', (request) => {
        request.session.views = 7
      }),
    )
    const count = tabThere.get('/count')
    await slow.reached
    await refresh(one, tab)
    slow.release()
    await count
    const before = server.refreshes()
    other.clock.advance(HOUR_MS)
    expect(await tabThere.get('/token')).toMatchObject(ok)
    expect(await tabThere.get('/token')).toMatchObject(ok)
    expect(server.refreshes()).toBe(before)
    expect(await one.stored(tab)).toMatchObject({ views: 7 })
    await expectNewest(one, tab)
  })
})

describe('S22 a refresh in a slow request, while a fast request puts an item in the cart: the cart keeps it', () => {
  it.each(['hold', 'holdAnswer'] as const)('S22 when the item comes during %s()', async (point) => {
    const site = await start()
    const tab = await loggedIn(site)
    site.handle('/cart', (request) => {
      request.session.cart = [...(request.session.cart ?? []), 'book']
    })
    site.clock.advance(HOUR_MS)
    const gate = held(server[point]())
    const slow = tab.get('/token')
    await gate.reached
    await tab.get('/cart')
    gate.release()
    expect(await slow).toMatchObject(ok)
    expect(await site.stored(tab)).toMatchObject({ cart: ['book'] })
    await expectNewest(site, tab)
  })

  it('S22 when the item comes after the refresh, and the slow request ends last', async () => {
    const site = await start()
    const tab = await loggedIn(site)
    const refreshed = held(createGate())
    site.clock.advance(HOUR_MS)
    site.handle('/orders', async (request) => {
      await request.tokens.getAccessToken()
      await refreshed.pass()
    })
    site.handle('/cart', (request) => {
      request.session.cart = ['book']
    })
    const orders = tab.get('/orders')
    await refreshed.reached
    await tab.get('/cart')
    refreshed.release()
    await orders
    expect(await site.stored(tab)).toMatchObject({ cart: ['book'] })
    await expectNewest(site, tab)
  })

  it('S22 when the item comes while the refresh is being stored', async () => {
    const site = await start()
    const tab = await loggedIn(site)
    const carrying = createGate()
    site.handle('/cart', (request) => {
      request.session.cart = ['book']
      void carrying.pass()
    })
    site.clock.advance(HOUR_MS)
    const write = held(site.store.hold('set'))
    const slow = tab.get('/token')
    await write.reached
    const cart = tab.get('/cart')
    await carrying.reached
    write.release()
    await Promise.all([slow, cart])
    expect(await site.stored(tab)).toMatchObject({ cart: ['book'] })
    await expectNewest(site, tab)
  })

  it('S22 when the item is being written to the store', async () => {
    const grants = memoryGrantStore()
    const site = await start({ surroundings: { grants } })
    const tab = await loggedIn(site)
    site.handle('/cart', (request) => {
      request.session.cart = ['book']
    })
    site.clock.advance(HOUR_MS)
    const answer = held(server.holdAnswer())
    const slow = tab.get('/token')
    await answer.reached
    const save = held(site.store.hold('set'))
    const cart = tab.get('/cart')
    await save.reached
    const committed = nextCommit(grants)
    answer.release()
    await committed
    save.release()
    await Promise.all([slow, cart])
    expect(await site.stored(tab)).toMatchObject({ cart: ['book'] })
    await expectNewest(site, tab)
  })
})

describe('S23 a request that only refreshed does not save the session at its end', () => {
  /** The same app without tokens: what express-session asks of the store by itself. */
  async function callsWithoutTokens(resave: boolean): Promise<string[]> {
    const recording = recordingStore()
    const app = closing(
      await startApp(() => {
        const app = express()
        app.use(session({ secret: 'test', resave, saveUninitialized: false, store: recording.store }))
        app.get('/login', (request, response) => {
          request.session.views = 1
          response.json(null)
        })
        app.get('/token', (_, response) => void response.json(null))
        return app
      }),
    )
    const tab = browser(app.url)
    await tab.get('/login')
    recording.forget()
    await tab.get('/token')
    return recording.calls.map(({ method }) => method)
  }

  it.each([false, true])(
    'S23 with resave: %s, apart from the read and write of the refresh, and a read before each save of tokens',
    async (resave) => {
      const site = await start({ session: { resave } })
      const tab = await loggedIn(site)
      const usual = (await callsWithoutTokens(resave)).flatMap((call) =>
        call === 'set' ? ['get', call] : [call],
      )
      site.store.forget()
      await tab.get('/token')
      expect(site.store.calls.map(({ method }) => method)).toEqual(usual)
      site.store.forget()
      await refresh(site, tab)
      // Loaded; looked at again under the lease; read and replaced; then what express-session does.
      expect(site.store.calls.map(({ method }) => method)).toEqual([
        'get',
        'get',
        'get',
        'set',
        ...usual.slice(1),
      ])
    },
  )

  it("S23 the session's hash is as it was", async () => {
    const site = await start()
    const tab = await loggedIn(site)
    const hash = (request: Request) =>
      createHash('sha256').update(JSON.stringify(request.session)).digest('hex')
    site.handle('/hashes', async (request) => {
      const before = hash(request)
      site.clock.advance(HOUR_MS)
      await request.tokens.getAccessToken()
      return [before, hash(request)]
    })
    const [before, after] = (await tab.get('/hashes')).json
    expect(after).toBe(before)
  })
})

describe('S24 operations of the app on its session keep the newest refresh token', () => {
  type Deed = (request: Request) => Promise<void>
  const deeds: [string, Deed][] = [
    ['reload()', reloaded],
    ['save()', saved],
    ['regenerate() with the data carried over', regeneratedWithData],
    [
      'reload() and save()',
      async (request) => {
        await reloaded(request)
        await saved(request)
      },
    ],
    [
      'regenerate() with the data carried over and save()',
      async (request) => {
        await regeneratedWithData(request)
        await saved(request)
      },
    ],
  ]

  /** The session goes on, with its data, with the newest tokens, after the next request at the latest. */
  async function expectToGoOn(site: Site, tab: Browser): Promise<void> {
    const before = server.refreshes()
    expect(await tab.get('/token')).toMatchObject(ok)
    expect(server.refreshes()).toBe(before)
    expect(await site.stored(tab)).toMatchObject({ views: 7 })
    await expectNewest(site, tab)
  }

  it.each(deeds)('S24 %s before a refresh', async (_, deed) => {
    const site = await start()
    const tab = await loggedIn(site)
    site.handle('/deed', async (request) => {
      request.session.views = 7
      await saved(request)
      await deed(request)
    })
    expect(await tab.get('/deed')).toMatchObject(ok)
    await refresh(site, tab)
    await expectToGoOn(site, tab)
  })

  it.each(deeds)('S24 %s after a refresh, in a request from before it', async (_, deed) => {
    const site = await start()
    const tab = await loggedIn(site)
    const slow = held(
      site.slow('/deed', async (request) => {
        request.session.views = 7
        await saved(request)
        await deed(request)
      }),
    )
    const answer = tab.get('/deed')
    await slow.reached
    await refresh(site, tab)
    slow.release()
    expect(await answer).toMatchObject(ok)
    await expectToGoOn(site, tab)
  })

  it.each(deeds)('S24 %s after a refresh, in the request that refreshed', async (_, deed) => {
    const site = await start()
    const tab = await loggedIn(site)
    site.handle('/deed', async (request) => {
      request.session.views = 7
      await saved(request)
      site.clock.advance(HOUR_MS)
      await request.tokens.getAccessToken()
      await deed(request)
    })
    expect(await tab.get('/deed')).toMatchObject(ok)
    await expectToGoOn(site, tab)
  })

  describe.each(['hold', 'holdAnswer'] as const)('during %s()', (point) => {
    it.each(deeds)('S24 %s in another request during a refresh', async (_, deed) => {
      const site = await start()
      const tab = await loggedIn(site)
      site.handle('/deed', async (request) => {
        request.session.views = 7
        await saved(request)
        await deed(request)
      })
      site.clock.advance(HOUR_MS)
      const gate = held(server[point]())
      const token = tab.clone().get('/token')
      await gate.reached
      expect(await tab.get('/deed')).toMatchObject(ok)
      gate.release()
      expect(await token).toMatchObject(ok)
      await expectToGoOn(site, tab)
    })

    it.each(deeds)('S24 %s in the request that refreshes, during it', async (_, deed) => {
      const site = await start()
      const tab = await loggedIn(site)
      site.handle('/deed', async (request) => {
        request.session.views = 7
        await saved(request)
        site.clock.advance(HOUR_MS)
        const gate = held(server[point]())
        const token = request.tokens.getAccessToken()
        await gate.reached
        await deed(request)
        gate.release()
        await token
      })
      expect(await tab.get('/deed')).toMatchObject(ok)
      await expectToGoOn(site, tab)
    })
  })

  it.each(deeds)('S24 %s while the refresh is being written to the store', async (_, deed) => {
    const site = await start()
    const tab = await loggedIn(site)
    site.handle('/views', (request) => {
      request.session.views = 7
    })
    await tab.get('/views')
    const doing = createGate()
    site.handle('/deed', async (request) => {
      void doing.pass()
      await deed(request)
    })
    site.clock.advance(HOUR_MS)
    const write = held(site.store.hold('set'))
    const token = tab.clone().get('/token')
    await write.reached
    const answer = tab.get('/deed')
    await doing.reached
    write.release()
    expect(await answer).toMatchObject(ok)
    expect(await token).toMatchObject(ok)
    await expectToGoOn(site, tab)
  })
})

describe('S25 the session store fails to store a refresh', () => {
  const failures = (site: Site) => site.events.filter(({ type }) => type === 'session_write_failed')

  it('S25 once: it is tried again, and nothing is lost', async () => {
    const site = await start()
    const tab = await loggedIn(site)
    site.store.failNext('set')
    await refresh(site, tab)
    expect(failures(site)).toEqual([])
    await expectNewest(site, tab)
  })

  it('S25 once, in reading: it is tried again, and nothing is lost', async () => {
    const site = await start()
    const tab = await loggedIn(site)
    site.clock.advance(HOUR_MS)
    const answer = held(server.holdAnswer())
    const token = tab.get('/token')
    await answer.reached
    site.store.failNext('get')
    answer.release()
    expect(await token).toMatchObject(ok)
    expect(failures(site)).toEqual([])
    await expectNewest(site, tab)
  })

  it('S25 for good: the tokens are kept, an event is emitted, the next request repairs the session', async () => {
    const site = await start()
    const tab = await loggedIn(site)
    const old = await site.storedTokens(tab)
    site.store.failNext('set', 2)
    await refresh(site, tab)
    expect(failures(site)).toMatchObject([
      { grantId: old?.grantId, error: { code: 'ERR_SESSION_STORE', status: 503, retryable: true } },
    ])
    expect(await site.storedTokens(tab)).toEqual(old)
    const before = server.refreshes()
    expect(await tab.get('/token')).toMatchObject(ok)
    expect(server.refreshes()).toBe(before)
    await expectNewest(site, tab)
    site.store.forget()
    await tab.get('/token')
    expect(site.store.count('set')).toBe(0)
  })

  it('S25 a request from before the refresh repairs the stored tokens once, however many tokens it requests', async () => {
    const site = await start()
    const tab = await loggedIn(site)
    const slow = held(
      site.slow('/slow', async (request) => {
        for (let n = 0; n < 3; n++) {
          await request.tokens.getAccessToken()
          await someTurnsOfTheLoop()
        }
      }),
    )
    const answer = tab.get('/slow')
    await slow.reached
    await refresh(site, tab)
    site.store.forget()
    slow.release()
    expect(await answer).toMatchObject(ok)
    expect(site.store.calls.map(({ method }) => method)).toEqual(['get', 'touch'])
  })

  it('S25 for good, and repeatedly: every request succeeds, with one refresh, and the session is repaired in the end', async () => {
    const site = await start()
    const tab = await loggedIn(site)
    site.store.failNext('set', 8)
    await refresh(site, tab)
    const before = server.refreshes()
    for (let request = 1; request < 4; request++) {
      expect(await tab.get('/token')).toMatchObject(ok)
      await site.mounted.manager.close()
    }
    // The requests and the retries of this process share the eight failures: that the tokens are unsaved is told once.
    expect(failures(site).length).toBeGreaterThan(0)
    expect(site.events.filter(({ type }) => type === 'tokens_unsaved')).toHaveLength(1)
    expect(await tab.get('/token')).toMatchObject(ok)
    expect(server.refreshes()).toBe(before)
    await expectNewest(site, tab)
  })

  it('S25 for good: a save by the app repairs the session too', async () => {
    const site = await start()
    const tab = await loggedIn(site)
    site.handle('/count', (request) => {
      request.session.views = 7
    })
    site.store.failNext('set', 2)
    await refresh(site, tab)
    await tab.get('/count')
    await expectNewest(site, tab)
  })

  it('S25 for good: a process that shares the grant store has the tokens, and repairs the session', async () => {
    const grants = memoryGrantStore()
    const sessions = new session.MemoryStore()
    const one = await start({ store: sessions, surroundings: { grants } })
    const other = await start({ store: sameSessions(sessions), surroundings: { grants } })
    const tab = await loggedIn(one)
    one.store.failNext('set', 2)
    await refresh(one, tab)
    const tabThere = other.visitorOf(tab)
    const before = server.refreshes()
    other.clock.advance(HOUR_MS)
    expect(await tabThere.get('/token')).toMatchObject(ok)
    expect(await tabThere.get('/token')).toMatchObject(ok)
    expect(server.refreshes()).toBe(before)
    await expectNewest(other, tabThere)
  })

  it('S25 for good: once healed, a restarted process has the tokens', async () => {
    const files = await fileStore()
    try {
      const site = await start({ store: files.store })
      const tab = await loggedIn(site)
      site.store.failNext('set', 2)
      await refresh(site, tab)
      expect(await tab.get('/token')).toMatchObject(ok)
      await expectNewest(site, tab)
      const restarted = await start({ store: files.reopen() })
      const tabThere = restarted.visitorOf(tab)
      restarted.clock.advance(HOUR_MS)
      await refresh(restarted, tabThere)
      await expectNewest(restarted, tabThere)
    } finally {
      await files.close()
    }
  })
})

describe('S26 the client disconnects during the refresh: it completes, and is kept', () => {
  it.each([
    ['hold', 1],
    ['holdAnswer', 1],
    ['hold', 10],
    ['holdAnswer', 10],
  ] as const)('S26 during %s(), %i clients, all of them', async (point, count) => {
    const site = await start()
    const tab = await loggedIn(site)
    const closed = createGate()
    const answers = createGate()
    site.handle('/token', async (request, response) => {
      response.on('close', () => void closed.pass())
      await request.tokens.getAccessToken()
      void answers.pass()
    })
    site.clock.advance(HOUR_MS)
    const before = server.refreshes()
    const gate = held(server[point]())
    const leave = new AbortController()
    const gone = Array.from({ length: count }, () =>
      expect(tab.get('/token', { signal: leave.signal })).rejects.toThrow('aborted'),
    )
    await gate.reached
    leave.abort()
    await Promise.all(gone)
    await closed.reached
    gate.release()
    await answers.reached
    await site.middleware.close()
    await expectNewest(site, tab)
    site.handle('/token', (request) => request.tokens.getAccessToken())
    expect(await tab.get('/token')).toMatchObject(ok)
    expect(server.refreshes() - before).toBe(1)
  })

  it('S26 of several clients, the first one: the others get their response', async () => {
    const site = await start()
    const tab = await loggedIn(site)
    const closed = createGate()
    const waiting = createGate()
    site.handle('/first', (request, response) => {
      response.on('close', () => void closed.pass())
      return request.tokens.getAccessToken()
    })
    site.handle('/second', (request) => {
      void waiting.pass()
      return request.tokens.getAccessToken()
    })
    site.clock.advance(HOUR_MS)
    const before = server.refreshes()
    const gate = held(server.hold())
    const leave = new AbortController()
    const gone = expect(tab.get('/first', { signal: leave.signal })).rejects.toThrow('aborted')
    await gate.reached
    const second = tab.get('/second')
    await waiting.reached
    leave.abort()
    await gone
    await closed.reached
    gate.release()
    expect(await second).toMatchObject(ok)
    expect(server.refreshes() - before).toBe(1)
    await expectNewest(site, tab)
  })
})

describe('S27 headers already sent when the refresh happens', () => {
  it('S27 with a server-side session it persists', async () => {
    const site = await start()
    const tab = await loggedIn(site)
    site.handle('/stream', async (request, response) => {
      response.write('begin ')
      site.clock.advance(HOUR_MS)
      await request.tokens.getAccessToken()
      response.end('end')
    })
    const before = server.refreshes()
    expect(await tab.get('/stream')).toMatchObject({ status: 200, text: 'begin end' })
    expect(server.refreshes() - before).toBe(1)
    await expectNewest(site, tab)
  })

  it('S27 after the whole response was sent it is stored', async () => {
    const site = await start()
    const tab = await loggedIn(site)
    const before = server.refreshes()
    const refreshed = new Promise<void>((resolve, reject) => {
      site.handle('/later', (request, response) => {
        response.json(null)
        response.on('finish', () => {
          site.clock.advance(HOUR_MS)
          request.tokens.getAccessToken().then(() => resolve(), reject)
        })
      })
    })
    await tab.get('/later')
    await refreshed
    expect(server.refreshes() - before).toBe(1)
    await expectNewest(site, tab)
  })
})

describe('S28 the session id does not change by a refresh', () => {
  it.each([
    ['usual', {}],
    ['resave', { resave: true }],
    ['saveUninitialized', { saveUninitialized: true }],
  ])('S28 %s: no cookie is set, and the session stays where it was', async (_, options) => {
    const site = await start({ session: options })
    const tab = await loggedIn(site)
    const cookie = tab.cookie('connect.sid')
    site.clock.advance(HOUR_MS)
    const answer = await tab.get('/token')
    expect(answer).toMatchObject(ok)
    expect(answer.headers.getSetCookie()).toEqual([])
    expect(tab.cookie('connect.sid')).toBe(cookie)
    expect(Object.keys((site.store.store as Store & { sessions: object }).sessions)).toHaveLength(1)
    await expectNewest(site, tab)
  })
})
