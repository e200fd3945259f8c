import { describe, expect, it, jest } from '@jest/globals'
import type { Request } from 'express'
import session, { type SessionData, type Store } from 'express-session'
import { GrantRegistry } from '../../../lib/grants/grant-registry.js'
import { memoryGrantStore } from '../../../lib/grants/memory-grant-store.js'
import { clientSecretBasic, type SessionTokens } from '../../../lib/index.js'
import { composeMiddleware } from '../../../lib/middleware/composition.js'
import { middlewareOf } from '../../../lib/middleware/express.js'
import { expressVersions } from '../../helpers/app.js'
import type { Browser } from '../../helpers/browser.js'
import { testClock } from '../../helpers/clock.js'
import { createGate } from '../../helpers/gate.js'
import { someTurnsOfTheLoop } from '../../helpers/next-commit.js'
import { destroyed, regenerated, regeneratedWithData, reloaded, saved } from '../../helpers/session-deeds.js'
import { ownProcess, recordingGrants, type Site, type SiteOptions, tokensIn } from '../../helpers/site.js'
import { readSession, recordingStore, sameSessions, sessionIdOf } from '../../helpers/stores.js'
import { HOUR_MS, testSites } from '../../helpers/test-sites.js'

const ok = { status: 200 }
const loggedOut = { status: 401, json: { code: 'ERR_NO_TOKENS' } }
type Callback = (error?: unknown, result?: unknown) => void

const { server, start, held, loggedIn, refresh, expectNewest } = await testSites()

/** Sessions that get the same id again when they are regenerated. */
const byDevice: SiteOptions = { session: { genid: (request) => String(request.headers['user-agent']) } }

/** A slow request that changes the session, and a refresh meanwhile: what every store must come through. */
async function expectToServe(site: Site): Promise<void> {
  const tab = await loggedIn(site)
  const slow = site.slow('/count', (request) => {
    request.session.views = 7
  })
  const count = tab.get('/count')
  await slow.reached
  await refresh(site, tab)
  slow.release()
  await count
  expect(await site.stored(tab)).toMatchObject({ views: 7 })
  await expectNewest(site, tab)
  await refresh(site, tab)
  expect(await site.stored(tab)).toMatchObject({ views: 7 })
  await expectNewest(site, tab)
  expect(site.events.map(({ type }) => type)).toEqual(['refreshed', 'refreshed'])
  expect(await tab.post('/logout')).toMatchObject(ok)
  expect(await tab.get('/token')).toMatchObject(loggedOut)
  expect(await site.stored(tab)).toMatchObject({ views: 7 })
}

describe.each(expressVersions)('with %s', (_, express) => {
  it('a session keeps its data and the newest tokens', async () => {
    await expectToServe(await start({ express }))
  })
})

describe("tokens.set(tokenResponse) in a store's session", () => {
  it('resolves when the store has it', async () => {
    const site = await start()
    const tab = site.browser()
    const write = site.store.hold('set')
    let resolved = false
    site.handle('/login', async (request) => {
      await request.tokens.set(request.body)
      resolved = true
    })
    const login = site.login(tab)
    await write.reached
    expect(resolved).toBe(false)
    write.release()
    await login
    expect(resolved).toBe(true)
    await expectNewest(site, tab)
  })

  it('rejects with ERR_SESSION_STORE when the store fails', async () => {
    const site = await start()
    site.store.failNext('set')
    expect(await site.browser().post('/login', await server.login('alice'))).toMatchObject({
      status: 503,
      json: { code: 'ERR_SESSION_STORE' },
    })
  })

  it('that the store has rejected is not stored when the request ends and saves its session', async () => {
    const site = await start()
    const tab = site.browser()
    site.handle('/login', async (request) => {
      request.session.views = 7
      await request.tokens.set(request.body)
    })
    site.store.failNext('set')
    expect(await tab.post('/login', await server.login('alice'))).toMatchObject({ status: 503 })
    expect(await site.stored(tab)).toMatchObject({ views: 7 })
    expect(await site.storedTokens(tab)).toBeUndefined()
    expect(await tab.get('/token')).toMatchObject(loggedOut)
  })

  it('that the store has rejected leaves the earlier login unchanged', async () => {
    const site = await start()
    const tab = await loggedIn(site)
    site.handle('/login', async (request) => {
      request.session.views = 7
      await request.tokens.set(request.body)
    })
    site.store.failNext('set')
    expect(await tab.post('/login', await server.login('bob'))).toMatchObject({ status: 503 })
    expect(await site.stored(tab)).toMatchObject({ views: 7 })
    await refresh(site, tab)
    await expectNewest(site, tab)
  })

  it('rejects with ERR_SESSION_STORE when the store does not respond in 10 seconds', async () => {
    const site = await start()
    const tab = site.browser()
    let outcome: unknown
    site.handle('/login', async (request) => {
      outcome = await request.tokens.set(request.body).catch((error) => error.code)
    })
    jest.useFakeTimers({ doNotFake: ['setImmediate', 'nextTick', 'queueMicrotask', 'performance', 'Date'] })
    try {
      const write = held(site.store.hold('set'))
      const login = tab.post('/login', await server.login('alice'))
      await write.reached
      await jest.advanceTimersByTimeAsync(9_999)
      expect(outcome).toBeUndefined()
      await jest.advanceTimersByTimeAsync(1)
      await someTurnsOfTheLoop()
      expect(outcome).toBe('ERR_SESSION_STORE')
      write.release()
      await login
    } finally {
      jest.useRealTimers()
    }
    expect(await tab.get('/token')).toMatchObject(loggedOut)
  })

  it.each(['getAccessToken', 'hasTokens', 'revoke', 'clear'] as const)(
    'and %s() reject with instructions when there is no session',
    async (method) => {
      const site = await start({
        before(request, _, next) {
          Reflect.deleteProperty(request, 'session')
          next()
        },
      })
      site.handle('/it', (request) => request.tokens[method]())
      const answer = await site.browser().get('/it')
      expect([answer.status, answer.json.code]).toEqual([500, 'ERR_CONFIGURATION'])
      expect(answer.json.message).toContain('Mount express-session before sessionTokens()')
    },
  )

  it('through a proxy of the session object does not wait for itself', async () => {
    const site = await start({
      before(request, _response, next) {
        const proxy = new Proxy(request.session, {
          get(session, name) {
            const value: unknown = Reflect.get(session, name)
            return typeof value === 'function' ? value.bind(session) : value
          },
        })
        Object.assign(request, { session: proxy })
        next()
      },
    })
    const startedAt = performance.now()
    const tab = await loggedIn(site)
    // Whoever is in the way of others goes ahead after 5 s.
    expect(performance.now() - startedAt).toBeLessThan(4_000)
    await expectNewest(site, tab)
    await refresh(site, tab)
    await expectNewest(site, tab)
  })
})

describe('the cookie of a session that a refresh writes', () => {
  const cookies: [string, NonNullable<SiteOptions['session']>['cookie']][] = [
    ['of a browser session', {}],
    ['with maxAge', { maxAge: HOUR_MS }],
    ['with expires', { expires: new Date(Date.now() + HOUR_MS) }],
    ['with everything', { maxAge: HOUR_MS, sameSite: 'lax', path: '/', priority: 'high', httpOnly: false }],
  ]

  it.each(cookies)('is unchanged, %s', async (_, cookie) => {
    const site = await start({ session: { cookie } })
    const tab = await loggedIn(site)
    site.clock.advance(HOUR_MS)
    const answer = server.holdAnswer()
    const token = tab.get('/token')
    await answer.reached
    const before = (await site.stored(tab))?.cookie
    site.store.forget()
    answer.release()
    expect(await token).toMatchObject(ok)
    const written = site.store.calls.find(({ method }) => method === 'set')?.session
    expect(written?.cookie).toEqual(JSON.parse(JSON.stringify(before)))
    await expectNewest(site, tab)
  })

  it('passes the remaining time to the store, as express-session does', async () => {
    const lifetimes: unknown[] = []
    class LivingStore extends session.MemoryStore {
      override set(sid: string, data: SessionData, callback?: Callback): void {
        lifetimes.push([data.cookie.maxAge, data.cookie.originalMaxAge, data.cookie.expires instanceof Date])
        super.set(sid, data, callback)
      }
    }
    const site = await start({ store: new LivingStore(), session: { cookie: { maxAge: HOUR_MS } } })
    const tab = await loggedIn(site)
    lifetimes.length = 0
    await refresh(site, tab)
    expect(lifetimes).toEqual([[expect.any(Number), HOUR_MS, true]])
    const [[left]] = lifetimes as [[number]]
    expect(left).toBeGreaterThan(HOUR_MS - 60_000)
    expect(left).toBeLessThanOrEqual(HOUR_MS)
  })

  it('rolling: true, is sent with every response and with the same session id', async () => {
    const site = await start({ session: { rolling: true, cookie: { maxAge: HOUR_MS } } })
    const tab = await loggedIn(site)
    const sid = sessionIdOf(tab.cookie('connect.sid'))
    site.clock.advance(HOUR_MS)
    const answer = await tab.get('/token')
    expect(answer.headers.getSetCookie()).toHaveLength(1)
    expect(sessionIdOf(tab.cookie('connect.sid'))).toBe(sid)
    await expectNewest(site, tab)
  })

  it('rolling: true, a session keeps its data and the newest tokens', async () => {
    await expectToServe(await start({ session: { rolling: true, cookie: { maxAge: HOUR_MS } } }))
  })
})

describe('a store of another kind', () => {
  it('whose touch() calls its own set()', async () => {
    class TouchingStore extends session.MemoryStore {
      override touch(sid: string, data: SessionData, callback?: Callback): void {
        this.get(sid, (_error: unknown, stored?: SessionData | null) => {
          if (!stored) return callback?.()
          this.set(sid, { ...stored, cookie: data.cookie }, callback)
        })
      }
    }
    await expectToServe(await start({ store: new TouchingStore() }))
  })

  describe.each([
    ['by its own set()', 'set'],
    ['by itself', 'write'],
  ] as const)('whose touch() writes the whole session, %s', (_, way) => {
    class WritingStore extends session.MemoryStore {
      write(sid: string, data: SessionData, callback?: Callback): void {
        super.set(sid, data, callback)
      }
      override touch(sid: string, data: SessionData, callback?: Callback): void {
        this[way](sid, data, callback)
      }
    }

    it('keeps the newest tokens, though a request that began before a refresh touches the session', async () => {
      const site = await start({ store: new WritingStore() })
      const tab = await loggedIn(site)
      const slow = held(site.slow('/slow'))
      const answer = tab.get('/slow')
      await slow.reached
      await refresh(site, tab)
      slow.release()
      await answer
      await expectNewest(site, tab)
    })

    it.each([
      ['the grant has ended', 'end'],
      ['newer tokens are known', 'learn'],
    ] as const)('writes no outdated copy once %s, though it was the newest before', async (_, news) => {
      const clock = testClock()
      const registry = new GrantRegistry(clock)
      const site = await start({ store: new WritingStore(), clock, surroundings: { registry } })
      const tab = await loggedIn(site)
      site.handle('/visit', () => {})
      await tab.get('/visit')
      const before = (await site.storedTokens(tab))!
      const newer = { ...before, revision: before.revision + 1, refreshToken: 'newer' }
      const slow = held(site.slow('/slow'))
      const answer = tab.get('/slow')
      await slow.reached
      if (news === 'end') registry.end({ grantId: before.grantId }, 'logged_out')
      else registry.learn(newer)
      slow.release()
      await answer
      const stored = await site.storedTokens(tab)
      expect(stored?.refreshToken).toBe(news === 'end' ? undefined : 'newer')
    })

    it('keeps a login, though a request that began before it touches the session', async () => {
      const site = await start({ store: new WritingStore() })
      const tab = site.browser()
      site.handle('/visit', (request) => {
        request.session.views = 7
      })
      await tab.get('/visit')
      const slow = held(site.slow('/slow'))
      const answer = tab.get('/slow')
      await slow.reached
      await site.login(tab, 'alice')
      slow.release()
      await answer
      await expectNewest(site, tab)
    })
  })

  it('without touch()', async () => {
    class PlainStore extends session.MemoryStore {}
    Object.assign(PlainStore.prototype, { touch: undefined })
    await expectToServe(await start({ store: new PlainStore() }))
  })

  describe('that keeps object references', () => {
    class ReferenceStore extends session.Store {
      readonly kept = new Map<string, SessionData>()
      override get(sid: string, callback: (error: unknown, session?: SessionData | null) => void): void {
        setImmediate(callback, null, this.kept.get(sid))
      }
      override set(sid: string, data: SessionData, callback?: Callback): void {
        this.kept.set(sid, data)
        setImmediate(callback ?? (() => {}))
      }
      override destroy(sid: string, callback?: Callback): void {
        this.kept.delete(sid)
        setImmediate(callback ?? (() => {}))
      }
    }

    it('a session keeps its data and the newest tokens', async () => {
      await expectToServe(await start({ store: new ReferenceStore() }))
    })

    it('keeps a login, though an earlier request has the session object that the login was stored in', async () => {
      const site = await start({ store: new ReferenceStore() })
      const tab = site.browser()
      site.handle('/visit', (request) => {
        request.session.views = 1
      })
      await tab.get('/visit')
      const saving = held(createGate())
      site.handle('/login', async (request) => {
        request.session.user = 'alice'
        await saved(request)
        await saving.pass()
        await request.tokens.set(request.body)
      })
      const login = site.login(tab)
      await saving.reached
      const slow = held(
        site.slow('/slow', (request) => {
          request.session.views = 7
        }),
      )
      const answer = tab.get('/slow')
      await slow.reached
      saving.release()
      await login
      slow.release()
      expect(await answer).toMatchObject(ok)
      await expectNewest(site, tab)
      expect(await tab.get('/token')).toMatchObject(ok)
    })
  })

  it('that returns promises and calls back as well', async () => {
    class PromisingStore extends session.MemoryStore {
      override set(sid: string, data: SessionData, callback?: Callback) {
        return new Promise<void>((resolve) =>
          super.set(sid, data, () => {
            callback?.()
            resolve()
          }),
        )
      }
      override destroy(sid: string, callback?: Callback) {
        return new Promise<void>((resolve) =>
          super.destroy(sid, () => {
            resolve()
            callback?.()
          }),
        )
      }
    }
    await expectToServe(await start({ store: new PromisingStore() }))
  })

  /** A store whose next writes of a refresh fail in a way of their own. */
  function failingStore(fail: () => unknown): { store: Store; failNext(times: number): void } {
    let failures = 0
    class FailingStore extends session.MemoryStore {
      override set(sid: string, data: SessionData, callback?: Callback): unknown {
        if (failures > 0) {
          failures -= 1
          return fail()
        }
        return super.set(sid, data, callback)
      }
    }
    return {
      store: new FailingStore(),
      failNext(times) {
        failures = times
      },
    }
  }

  it.each([
    ['that reports a failure only through its promise', () => Promise.reject(new Error('no'))],
    [
      'that throws',
      () => {
        throw new Error('no')
      },
    ],
    [
      'that throws undefined',
      () => {
        throw undefined
      },
    ],
  ])(
    '%s: the first failure is tried again; a lasting failure is reported, and the session is repaired later',
    async (_, fail) => {
      const { store, failNext } = failingStore(fail)
      const site = await start({ store })
      const tab = await loggedIn(site)
      failNext(1)
      await refresh(site, tab)
      expect(site.events.map(({ type }) => type)).toEqual(['refreshed'])
      await expectNewest(site, tab)
      failNext(2)
      await refresh(site, tab)
      expect(site.events.map(({ type }) => type).sort()).toEqual([
        'refreshed',
        'refreshed',
        'session_write_failed',
        'tokens_unsaved',
      ])
      expect(await tab.get('/token')).toMatchObject(ok)
      await expectNewest(site, tab)
    },
  )
})

describe('an app that chooses the ids of its sessions', () => {
  it.each(['hold', 'holdAnswer'] as const)(
    'carries the data over by regenerate(), during %s() too, and keeps the newest tokens',
    async (point) => {
      const site = await start(byDevice)
      const tab = await loggedIn(site)
      const sid = sessionIdOf(tab.cookie('connect.sid'))
      site.handle('/again', async (request) => {
        const { tokens } = request.session
        await regenerated(request)
        Object.assign(request.session, { tokens, views: 7 })
      })
      site.clock.advance(HOUR_MS)
      const gate = server[point]()
      const token = tab.get('/token')
      await gate.reached
      expect(await tab.get('/again')).toMatchObject(ok)
      expect(sessionIdOf(tab.cookie('connect.sid'))).toBe(sid)
      gate.release()
      expect(await token).toMatchObject(ok)
      const before = server.refreshes()
      expect(await tab.get('/token')).toMatchObject(ok)
      expect(server.refreshes()).toBe(before)
      expect(await site.stored(tab)).toMatchObject({ views: 7 })
      await expectNewest(site, tab)
    },
  )

  it('has no tokens after regenerate() without the data', async () => {
    const site = await start(byDevice)
    const tab = await loggedIn(site)
    site.handle('/again', async (request) => {
      await regenerated(request)
      request.session.views = 7
    })
    expect(await tab.get('/again')).toMatchObject(ok)
    expect(await tab.get('/token')).toMatchObject(loggedOut)
    expect(await site.storedTokens(tab)).toBeUndefined()
  })

  it('has no tokens after regenerate() without the data, though a slow request saves its old session', async () => {
    const site = await start(byDevice)
    const tab = await loggedIn(site)
    site.handle('/again', async (request) => {
      await regenerated(request)
      request.session.user = 'nobody'
    })
    const slow = site.slow('/slow', (request) => {
      request.session.views = 7
    })
    const answer = tab.get('/slow')
    await slow.reached
    expect(await tab.get('/again')).toMatchObject(ok)
    slow.release()
    await answer
    expect(await tab.get('/token')).toMatchObject(loggedOut)
  })

  it('has the tokens of the next user, though a slow request saves the session of the previous user', async () => {
    const site = await start(byDevice)
    const tab = await loggedIn(site, 'alice')
    const alice = await site.storedTokens(tab)
    site.handle('/login', async (request) => {
      await regenerated(request)
      await request.tokens.set(request.body)
    })
    const slow = site.slow('/slow', (request) => {
      request.session.views = 7
    })
    const answer = tab.get('/slow')
    await slow.reached
    await site.login(tab, 'bob')
    slow.release()
    await answer
    expect((await site.storedTokens(tab))?.grantId).not.toBe(alice?.grantId)
    expect(await tab.get('/token')).toMatchObject(ok)
  })
})

describe('regenerate() with the data carried over, in a request that began earlier', () => {
  /** A browser that moves its session to a new id, after something else has happened to it. */
  async function movedAfter(site: Site, tab: Browser, happens: () => Promise<unknown>): Promise<Browser> {
    const mover = tab.clone()
    const slow = held(site.slow('/move', regeneratedWithData))
    const move = mover.get('/move')
    await slow.reached
    await happens()
    slow.release()
    expect(await move).toMatchObject(ok)
    return mover
  }

  it('stores the newest tokens after a refresh', async () => {
    const site = await start()
    const tab = await loggedIn(site)
    const mover = await movedAfter(site, tab, () => refresh(site, tab))
    await expectNewest(site, mover)
  })

  it('stores no tokens after a logout', async () => {
    const site = await start()
    const tab = await loggedIn(site)
    const mover = await movedAfter(site, tab, () => tab.post('/logout'))
    expect(await site.storedTokens(mover)).toBeUndefined()
  })
})

describe('another session() over a store that is already in use', () => {
  it('regenerate() with the data carried over keeps the tokens', async () => {
    const site = await start()
    const tab = await loggedIn(site)
    session({ secret: 'test', resave: false, saveUninitialized: false, store: site.store.store })
    site.handle('/move', regeneratedWithData)
    expect(await tab.get('/move')).toMatchObject(ok)
    await expectNewest(site, tab)
    expect(await tab.get('/token')).toMatchObject(ok)
  })

  it('a new session keeps a login that was stored under the same id', async () => {
    const site = await start(byDevice)
    const tab = await loggedIn(site, 'alice')
    const regenerating = held(createGate())
    session({
      secret: 'test',
      resave: false,
      saveUninitialized: false,
      ...byDevice.session,
      store: site.store.store,
    })
    site.handle('/again', async (request) => {
      await regenerated(request)
      request.session.user = 'nobody'
      await regenerating.pass()
    })
    const again = tab.get('/again')
    await regenerating.reached
    await site.login(tab, 'bob')
    const bob = await site.storedTokens(tab)
    regenerating.release()
    expect(await again).toMatchObject(ok)
    expect(await site.storedTokens(tab)).toEqual(bob)
  })
})

describe('a session that moves to a new id with its data, while earlier requests run', () => {
  /** A browser whose session has moved, and requests that came before: each goes on when it is called. */
  async function moved(site: Site, ...handlers: ((request: Request) => unknown)[]) {
    site.handle('/move', async (request) => {
      await regeneratedWithData(request)
      request.session.views = 7
    })
    const tab = await loggedIn(site)
    const old = tab.clone()
    const requests = handlers.map((handler, index) => {
      const gate = held(site.slow(`/${index}`, handler))
      const answer = old.get(`/${index}`)
      const goOn = () => {
        gate.release()
        return answer
      }
      return { reached: gate.reached, goOn }
    })
    await Promise.all(requests.map(({ reached }) => reached))
    expect(await tab.get('/move')).toMatchObject(ok)
    return { tab, old, goOn: requests.map(({ goOn }) => goOn) }
  }

  it('has the tokens of a refresh by one of them, though another has touched the old session', async () => {
    const site = await start()
    const { tab, goOn } = await moved(
      site,
      () => {},
      (request) => request.tokens.getAccessToken(),
    )
    site.store.forget()
    await goOn[0]!()
    expect(site.store.calls.map(({ method }) => method)).toEqual(['touch'])
    site.clock.advance(HOUR_MS)
    expect(await goOn[1]!()).toMatchObject(ok)
    await expectNewest(site, tab)
  })

  it('loses its tokens to a login by one of them, which resolves when they are removed from the store', async () => {
    const sessions = new session.MemoryStore()
    const site = await start({ store: sessions })
    const bob = await server.login('bob')
    let resolved = false
    const { tab, old, goOn } = await moved(site, async (request) => {
      await request.tokens.set(bob)
      resolved = true
    })
    const write = held(site.store.holdAnswer('set'))
    const login = goOn[0]!()
    await write.reached
    const look = held(site.store.hold('get'))
    write.release()
    await look.reached
    await someTurnsOfTheLoop()
    expect(resolved).toBe(false)
    look.release()
    expect(await login).toMatchObject(ok)
    expect(await site.storedTokens(tab)).toBeUndefined()
    expect(await site.stored(tab)).toMatchObject({ views: 7 })
    expect(await site.storedTokens(old)).toMatchObject({ refreshToken: bob.refresh_token })
    const restarted = await start({ store: sameSessions(sessions) })
    expect(await restarted.visitorOf(tab).get('/token')).toMatchObject(loggedOut)
    expect(await restarted.visitorOf(old).get('/token')).toMatchObject(ok)
  })

  it('keeps the tokens of another login when one of them logs in', async () => {
    const site = await start()
    const bob = await server.login('bob')
    const { tab, goOn } = await moved(site, (request) => request.tokens.set(bob))
    await site.login(tab, 'carol')
    const carol = await site.storedTokens(tab)
    expect(await goOn[0]!()).toMatchObject(ok)
    expect(await site.storedTokens(tab)).toEqual(carol)
    expect(await tab.get('/token')).toMatchObject(ok)
  })

  it('loses its tokens, and nothing else, when one of them destroys the old session', async () => {
    const site = await start()
    const { tab, goOn } = await moved(site, destroyed)
    expect(await goOn[0]!()).toMatchObject(ok)
    await someTurnsOfTheLoop()
    expect(await site.storedTokens(tab)).toBeUndefined()
    expect(await site.stored(tab)).toMatchObject({ views: 7 })
  })

  it('does not keep one of them from logging in when the store cannot read it', async () => {
    const site = await start()
    const bob = await server.login('bob')
    const { tab, old, goOn } = await moved(site, (request) => request.tokens.set(bob))
    const write = held(site.store.holdAnswer('set'))
    const login = goOn[0]!()
    await write.reached
    site.store.failNext('get')
    write.release()
    expect(await login).toMatchObject(ok)
    expect(await old.get('/token')).toMatchObject(ok)
    expect(await tab.get('/token')).toMatchObject(loggedOut)
  })
})

describe('a save of the app', () => {
  it('keeps the newest tokens when the store cannot be read', async () => {
    const site = await start()
    const tab = await loggedIn(site)
    await refresh(site, tab)
    site.handle('/count', (request) => {
      request.session.views = 7
      site.store.failNext('get')
    })
    expect(await tab.get('/count')).toMatchObject(ok)
    expect(await site.stored(tab)).toMatchObject({ views: 7 })
    await expectNewest(site, tab)
  })

  it("does not change the request's own session", async () => {
    const site = await start()
    const tab = await loggedIn(site)
    const slow = held(
      site.slow('/slow', async (request) => {
        const before = request.session.tokens
        await saved(request)
        return { same: request.session.tokens === before }
      }),
    )
    const answer = tab.get('/slow')
    await slow.reached
    await refresh(site, tab)
    slow.release()
    expect((await answer).json).toEqual({ same: true })
    await expectNewest(site, tab)
  })

  it('keeps the newest tokens, though another process has stored older ones', async () => {
    const sessions = new session.MemoryStore()
    const [one, other] = [await start({ store: sessions }), await start({ store: sameSessions(sessions) })]
    const tab = await loggedIn(one)
    const { store } = recordingStore(sameSessions(sessions))
    const sid = sessionIdOf(tab.cookie('connect.sid'))
    const older = (await readSession(store, sid))!
    await refresh(one, tab)
    const slow = held(
      other.slow('/count', (request) => {
        request.session.views = 7
      }),
    )
    const count = other.visitorOf(tab).get('/count')
    await slow.reached
    await new Promise((resolve) => store.set(sid, older, resolve))
    slow.release()
    expect(await count).toMatchObject(ok)
    expect(await one.stored(tab)).toMatchObject({ views: 7 })
    await expectNewest(one, tab)
  })

  it.each([{ some: 'value' }, 'a text', 7])('keeps %j, which the app has under the key', async (value) => {
    const site = await start()
    const tab = site.browser()
    site.handle('/own', (request) => {
      Object.assign(request.session, { tokens: value })
    })
    site.handle('/count', (request) => {
      request.session.views = 7
    })
    await tab.get('/own')
    await tab.get('/count')
    expect(await site.stored(tab)).toMatchObject({ views: 7, tokens: value })
  })

  it('for no request keeps the newest tokens, though another process has refreshed them since it read', async () => {
    const sessions = new session.MemoryStore()
    const site = await start({ store: sessions })
    const tab = await loggedIn(site)
    const { store } = (await start({ store: sameSessions(sessions) })).store
    const other = await start({ store })
    const tabThere = other.visitorOf(tab)
    expect(await tabThere.get('/session')).toMatchObject(ok)
    const sid = sessionIdOf(tab.cookie('connect.sid'))
    const data = (await readSession(store, sid))!
    await refresh(site, tab)
    await new Promise((resolve) => store.set(sid, { ...data, views: 7 }, resolve))
    expect(await site.stored(tab)).toMatchObject({ views: 7 })
    await expectNewest(site, tab)
  })

  it('that deletes the tokens keeps those of a login in another process', async () => {
    const sessions = new session.MemoryStore()
    const [one, other] = [await start({ store: sessions }), await start({ store: sameSessions(sessions) })]
    const tab = await loggedIn(one)
    const tabThere = other.visitorOf(tab)
    const slow = held(
      other.slow('/out', (request) => {
        delete request.session.tokens
      }),
    )
    const out = tabThere.get('/out')
    await slow.reached
    await one.login(tab, 'bob')
    const bob = await one.storedTokens(tab)
    slow.release()
    expect(await out).toMatchObject(ok)
    expect(await one.storedTokens(tab)).toEqual(bob)
    expect(await tab.get('/token')).toMatchObject(ok)
  })
})

describe('a refresh, while another process that has not learned of it', () => {
  /** Two processes with a grant store each, and a refresh in the first while `happens` in the second. */
  async function refreshedWhile(happens: (other: Site, tab: Browser) => Promise<unknown>) {
    const sessions = new session.MemoryStore()
    const [one, other] = [await start({ store: sessions }), await start({ store: sameSessions(sessions) })]
    const tab = await loggedIn(one, 'alice')
    one.clock.advance(HOUR_MS)
    const gate = held(server.holdAnswer(({ grantType }) => grantType === 'refresh_token'))
    const token = tab.get('/token')
    await gate.reached
    await happens(other, other.visitorOf(tab))
    const before = await one.storedTokens(tab)
    gate.release()
    expect(await token).toMatchObject(ok)
    return { before, after: await one.storedTokens(tab) }
  }

  it('logs another user in, does not affect that login', async () => {
    const { before, after } = await refreshedWhile((other, tab) => other.login(tab, 'bob'))
    expect(before).toBeDefined()
    expect(after).toEqual(before)
  })

  it('logs out, brings no tokens back', async () => {
    const { after } = await refreshedWhile((other, tab) => {
      other.handle('/clear', (request) => request.tokens.clear())
      return tab.post('/clear')
    })
    expect(after).toBeUndefined()
  })
})

describe('a login replaces a login', () => {
  it('that the request has not seen, in its own process: the earlier login has ended', async () => {
    const grants = memoryGrantStore()
    const site = await start({ surroundings: { grants } })
    const tab = site.browser()
    site.handle('/visit', (request) => {
      request.session.views = 7
    })
    await tab.get('/visit')
    const bob = await server.login('bob')
    const slow = held(site.slow('/slow', (request) => request.tokens.set(bob)))
    const login = tab.get('/slow')
    await slow.reached
    await site.login(tab, 'alice')
    const alice = (await site.storedTokens(tab))!
    slow.release()
    expect(await login).toMatchObject(ok)
    expect((await grants.read(alice.grantId)).ended).toBe('logged_out')
    expect(await site.storedTokens(tab)).toMatchObject({ refreshToken: bob.refresh_token })
  })

  it('that its process has not seen before: another user has logged out the first one', async () => {
    const grants = memoryGrantStore()
    const sessions = new session.MemoryStore()
    const one = await start({ store: sessions, surroundings: { grants } })
    const other = await start({ store: sameSessions(sessions), surroundings: { grants } })
    const tab = await loggedIn(one, 'alice')
    const { grantId } = (await one.storedTokens(tab))!
    await other.login(other.visitorOf(tab), 'bob')
    expect((await grants.read(grantId)).ended).toBe('logged_out')
  })

  it('that the request has not seen, in another process: the earlier login has ended in all processes', async () => {
    const grants = memoryGrantStore()
    const sessions = new session.MemoryStore()
    const one = await start({ store: sessions, surroundings: { grants } })
    const other = await start({ store: sameSessions(sessions), surroundings: { grants } })
    const tab = one.browser()
    one.handle('/visit', (request) => {
      request.session.views = 7
    })
    await tab.get('/visit')
    const bob = await server.login('bob')
    const slow = held(one.slow('/slow', (request) => request.tokens.set(bob)))
    const login = tab.get('/slow')
    await slow.reached
    const tabThere = other.visitorOf(tab)
    await other.login(tabThere, 'alice')
    const alice = (await other.storedTokens(tabThere))!
    slow.release()
    expect(await login).toMatchObject(ok)
    expect((await grants.read(alice.grantId)).ended).toBeDefined()
    expect(await one.storedTokens(tab)).toMatchObject({ refreshToken: bob.refresh_token })
  })
})

describe('a request that only reads its session', () => {
  it("costs only express-session's own calls of the store, also after a logout", async () => {
    const site = await start()
    const tab = await loggedIn(site)
    for (const prepare of [() => tab.get('/session'), () => tab.post('/logout')]) {
      await prepare()
      site.store.forget()
      await tab.get('/session')
      expect(site.store.calls.map(({ method }) => method)).toEqual(['get', 'touch'])
    }
  })
})

describe('in one request', () => {
  it('two logins at once: the later login stays, the other has ended', async () => {
    const site = await start()
    const tab = site.browser()
    const [alice, bob] = [await server.login('alice'), await server.login('bob')]
    site.handle('/twice', async (request) => {
      const first = request.tokens.set(alice).then(() => tokensIn(request.session)?.grantId)
      const [grantId] = await Promise.all([first, request.tokens.set(bob)])
      return {
        firstIsOver: site.mounted.manager.sessionGrants.newestOf({ grantId: String(grantId) }) === 'ended',
      }
    })
    expect((await tab.get('/twice')).json).toEqual({ firstIsOver: true })
    expect(await site.storedTokens(tab)).toMatchObject({ refreshToken: bob.refresh_token })
    await refresh(site, tab)
  })

  it('two logins at once, of which the store rejects the first: the second login stays', async () => {
    const site = await start()
    const tab = site.browser()
    const logins = [await server.login('alice'), await server.login('bob')]
    site.store.failNext('set')
    site.handle('/twice', async (request) => {
      const outcomes = await Promise.allSettled(logins.map((login) => request.tokens.set(login)))
      return outcomes.map(({ status }) => status)
    })
    expect((await tab.get('/twice')).json).toEqual(['rejected', 'fulfilled'])
    expect(await site.storedTokens(tab)).toMatchObject({ refreshToken: logins[1]!.refresh_token })
    await refresh(site, tab)
  })

  it('a running save and a login: the login stays', async () => {
    const site = await start()
    const tab = await loggedIn(site, 'alice')
    site.handle('/login', async (request) => {
      request.session.views = 7
      const saving = saved(request)
      await request.tokens.set(request.body)
      await saving
    })
    await site.login(tab, 'bob')
    expect(await tab.get('/token')).toMatchObject(ok)
    await refresh(site, tab)
  })

  it('a login and delete req.session.tokens: it is a logout', async () => {
    const site = await start()
    const tab = site.browser()
    site.handle('/login', async (request) => {
      request.session.user = 'alice'
      await request.tokens.set(request.body)
      delete request.session.tokens
    })
    await site.login(tab, 'alice')
    expect(await site.stored(tab)).toMatchObject({ user: 'alice' })
    expect(await site.storedTokens(tab)).toBeUndefined()
    expect(await tab.get('/token')).toMatchObject(loggedOut)
  })

  it('a login, a new session id and another login: the first login has ended', async () => {
    const site = await start()
    const tab = site.browser()
    const bob = await server.login('bob')
    let alice: string | undefined
    site.handle('/login', async (request) => {
      await request.tokens.set(request.body)
      alice = tokensIn(request.session)?.grantId
      await regenerated(request)
      await request.tokens.set(bob)
    })
    await site.login(tab, 'alice')
    expect(site.mounted.manager.sessionGrants.newestOf({ grantId: alice! })).toBe('ended')
    expect(await site.storedTokens(tab)).toMatchObject({ refreshToken: bob.refresh_token })
    await expectNewest(site, tab)
  })

  it('a new session id and a login: the earlier login has ended', async () => {
    const site = await start()
    const tab = await loggedIn(site, 'alice')
    const alice = (await site.storedTokens(tab))!
    site.handle('/login', async (request) => {
      await regenerated(request)
      await request.tokens.set(request.body)
    })
    await site.login(tab, 'bob')
    expect(site.mounted.manager.sessionGrants.newestOf({ grantId: alice.grantId })).toBe('ended')
    await expectNewest(site, tab)
  })

  it("a read of another request's login, a new session id and a login: the login that was read has ended", async () => {
    const site = await start()
    const tab = site.browser()
    site.handle('/visit', (request) => {
      request.session.views = 7
    })
    await tab.get('/visit')
    const bob = await server.login('bob')
    const slow = held(
      site.slow('/slow', async (request) => {
        await reloaded(request)
        const has = request.tokens.hasTokens()
        await regenerated(request)
        await request.tokens.set(bob)
        return { has }
      }),
    )
    const login = tab.get('/slow')
    await slow.reached
    await site.login(tab, 'alice')
    const alice = (await site.storedTokens(tab))!
    slow.release()
    expect((await login).json).toEqual({ has: true })
    expect(site.mounted.manager.sessionGrants.newestOf({ grantId: alice.grantId })).toBe('ended')
  })

  it('a logout and a save: the grant store is called once', async () => {
    const grants = recordingGrants()
    const site = await start({ surroundings: { grants } })
    const tab = await loggedIn(site)
    site.handle('/logout', async (request) => {
      await request.tokens.clear()
      request.session.views = 7
    })
    expect(await tab.post('/logout')).toMatchObject(ok)
    expect(await site.stored(tab)).toMatchObject({ views: 7 })
    expect(grants.calls).toEqual(['commit', 'read', 'end'])
  })
})

describe('req.session.destroy()', () => {
  it('in a process that has not seen the session before ends the grant that it holds', async () => {
    const grants = memoryGrantStore()
    const sessions = new session.MemoryStore()
    const one = await start({ store: sessions, surroundings: { grants } })
    const other = await start({ store: sameSessions(sessions), surroundings: { grants } })
    const tab = await loggedIn(one)
    const { grantId } = (await one.storedTokens(tab))!
    other.handle('/end', destroyed)
    expect(await other.visitorOf(tab).get('/end')).toMatchObject(ok)
    expect((await grants.read(grantId)).ended).toBe('logged_out')
  })
})

describe('requests that loaded their sessions before the store was patched', () => {
  it('are served like all others: deleting the tokens in one request is a logout for every request', async () => {
    const sessions = new session.MemoryStore()
    const before = await start({ store: sessions })
    const tab = await loggedIn(before)
    const loaded = held(createGate())
    const site = await start({
      store: sameSessions(sessions),
      before: (_request, _response, next) => void loaded.pass().then(() => next()),
    })
    site.handle('/out', (request) => {
      delete request.session.tokens
    })
    const [first, out] = [site.visitorOf(tab), site.visitorOf(tab)]
    const answers = Promise.all([first.get('/session'), out.get('/out')])
    await loaded.reachedBy(2)
    loaded.release()
    expect((await answers).map(({ status }) => status)).toEqual([200, 200])
    expect(await site.storedTokens(out)).toBeUndefined()
    expect(await out.get('/token')).toMatchObject(loggedOut)
  })
})

describe('two session() with a store each that use the same session ids', () => {
  it('a login in one does not affect the login in the other', async () => {
    const stores = new Map(['/a', '/b'].map((path) => [path, new session.MemoryStore()]))
    const sessions = new Map(
      [...stores].map(([path, store]) => [
        path,
        session({
          name: path.slice(1),
          secret: 'test',
          resave: false,
          saveUninitialized: false,
          store,
          genid: (request) => String(request.headers['user-agent']),
        }),
      ]),
    )
    const site = await start({
      before(request, response, next) {
        const own = sessions.get(request.path.slice(0, 2))!
        Reflect.deleteProperty(request, 'session')
        own(request, response, next)
      },
    })
    for (const path of stores.keys()) {
      site.handle(`${path}/login`, (request) => request.tokens.set(request.body))
      site.handle(`${path}/token`, (request) => request.tokens.getAccessToken())
      site.handle(`${path}/end`, destroyed)
    }
    const tab = site.browser()
    expect(await tab.post('/a/login', await server.login('alice'))).toMatchObject(ok)
    expect(await tab.post('/b/login', await server.login('bob'))).toMatchObject(ok)
    expect(await tab.get('/a/token')).toMatchObject(ok)
    expect(await tab.get('/b/token')).toMatchObject(ok)
    expect(await tab.get('/a/end')).toMatchObject(ok)
    expect(await tab.get('/a/token')).toMatchObject(loggedOut)
    expect(await tab.get('/b/token')).toMatchObject(ok)
  })
})

describe('two sessionTokens() over the same session', () => {
  /** A site with a further middleware, in front of the usual one. */
  async function startWithSecond(options: { property: string; sessionKey?: string }) {
    const clock = testClock()
    const surroundings = ownProcess(clock)
    const { clientId, clientSecret } = server.clients.client_secret_basic
    const second = composeMiddleware(
      {
        tokenEndpoint: server.tokenEndpoint,
        revocationEndpoint: server.revocationEndpoint,
        clientId,
        clientAuthentication: clientSecretBasic(clientSecret),
        encryptionKeys: false,
        ...options,
      },
      surroundings,
    )
    const site = await start({ surroundings, before: middlewareOf(second) as never })
    return { site, clock }
  }

  const other = (request: Request) => (request as unknown as { other: SessionTokens }).other

  it('with a key each: each refreshes and ends its own tokens', async () => {
    const { site, clock } = await startWithSecond({ property: 'other', sessionKey: 'otherTokens' })
    site.handle('/other/login', (request) => other(request).set(request.body))
    site.handle('/other/token', (request) => other(request).getAccessToken())
    site.handle('/other/logout', (request) => other(request).revoke())
    const tab = await loggedIn(site, 'alice')
    await tab.post('/other/login', await server.login('bob'))
    clock.advance(HOUR_MS)
    const before = server.refreshes()
    const [mine, others] = await Promise.all([tab.get('/token'), tab.get('/other/token')])
    expect([mine.status, others.status]).toEqual([200, 200])
    expect(mine.json.token).not.toBe(others.json.token)
    expect(server.refreshes() - before).toBe(2)
    const stored = await site.stored(tab)
    expect(await server.isActive(tokensIn(stored)?.refreshToken ?? 'none')).toBe(true)
    expect(await server.isActive(tokensIn(stored, 'otherTokens')?.refreshToken ?? 'none')).toBe(true)
    expect(await tab.post('/other/logout')).toMatchObject(ok)
    expect(await tab.get('/other/token')).toMatchObject(loggedOut)
    expect(await tab.get('/token')).toMatchObject(ok)
    expect(Object.keys((await site.stored(tab))!)).toEqual(['cookie', 'tokens'])
  })

  it('with a key each: a login of one and a logout by hand of the other, in one request', async () => {
    const { site } = await startWithSecond({ property: 'other', sessionKey: 'otherTokens' })
    site.handle('/other/login', (request) => other(request).set(request.body))
    site.handle('/other/token', (request) => other(request).getAccessToken())
    site.handle('/login', async (request) => {
      await request.tokens.set(request.body)
      Reflect.deleteProperty(request.session, 'otherTokens')
    })
    const tab = site.browser()
    await tab.post('/other/login', await server.login('bob'))
    await site.login(tab, 'alice')
    expect(Object.keys((await site.stored(tab))!)).toEqual(['cookie', 'tokens'])
    expect(await tab.get('/other/token')).toMatchObject(loggedOut)
    expect(await tab.get('/token')).toMatchObject(ok)
  })

  it('with a key each: a session that the app stores without the tokens of one keeps those of the other', async () => {
    const { site } = await startWithSecond({ property: 'other', sessionKey: 'otherTokens' })
    site.handle('/other/login', (request) => other(request).set(request.body))
    const tab = await loggedIn(site, 'alice')
    await tab.post('/other/login', await server.login('bob'))
    const { store } = site.store
    const sid = sessionIdOf(tab.cookie('connect.sid'))
    const { tokens: _, ...rest } = (await readSession(store, sid))!
    await new Promise((resolve) => store.set(sid, rest as SessionData, resolve))
    expect(Object.keys((await site.stored(tab))!)).toEqual(['cookie', 'otherTokens'])
    expect(await tab.get('/token')).toMatchObject(loggedOut)
  })

  it('with one key: they share the tokens, and refresh once', async () => {
    const { site, clock } = await startWithSecond({ property: 'other' })
    site.handle('/other/token', (request) => other(request).getAccessToken())
    const tab = await loggedIn(site)
    clock.advance(HOUR_MS)
    const before = server.refreshes()
    const answers = await Promise.all(
      Array.from({ length: 10 }, (_, index) => tab.get(index % 2 ? '/token' : '/other/token')),
    )
    expect(new Set(answers.map(({ json }) => json.token)).size).toBe(1)
    expect(server.refreshes() - before).toBe(1)
    await expectNewest(site, tab)
  })

  it.each(['revoke', 'clear'] as const)('with one key: %s() of one is a logout for both', async (end) => {
    const { site } = await startWithSecond({ property: 'other' })
    site.handle('/other/token', (request) => other(request).getAccessToken())
    site.handle('/other/end', (request) => other(request)[end]())
    const tab = await loggedIn(site)
    const slow = site.slow('/slow', (request) => {
      request.session.views = 7
    })
    const answer = tab.get('/slow')
    await slow.reached
    expect(await tab.get('/other/end')).toMatchObject(ok)
    slow.release()
    await answer
    expect(await tab.get('/token')).toMatchObject(loggedOut)
    expect(await tab.get('/other/token')).toMatchObject(loggedOut)
    expect(await site.storedTokens(tab)).toBeUndefined()
  })

  it('on different paths, with one key: delete req.session.tokens on one path is a logout for both', async () => {
    const clock = testClock()
    const surroundings = ownProcess(clock)
    const { clientId, clientSecret } = server.clients.client_secret_basic
    const options = {
      tokenEndpoint: server.tokenEndpoint,
      clientId,
      clientAuthentication: clientSecretBasic(clientSecret),
      encryptionKeys: false as const,
    }
    const onPath = middlewareOf(composeMiddleware(options, surroundings))
    const site = await start({
      surroundings,
      before(request, response, next) {
        if (!request.path.startsWith('/other/')) return next()
        onPath(request, response, (error) => {
          if (error || request.path !== '/other/out') return next(error)
          delete request.session.tokens
          response.json(null)
        })
      },
    })
    const tab = await loggedIn(site)
    await tab.get('/other/out')
    expect(await tab.get('/token')).toMatchObject(loggedOut)
    expect(await site.storedTokens(tab)).toBeUndefined()
  })
})

describe('middleware.close()', () => {
  it("stops changing sessions: the app's sessions are saved as they are", async () => {
    const site = await start()
    const tab = await loggedIn(site)
    const gate = createGate()
    site.handle('/count', async (request) => {
      request.session.views = 7
      await gate.pass()
    })
    const count = tab.get('/count')
    await gate.reached
    await refresh(site, tab)
    await site.middleware.close()
    gate.release()
    expect(await count).toMatchObject(ok)
    expect(await site.stored(tab)).toMatchObject({ views: 7 })
  })
})
