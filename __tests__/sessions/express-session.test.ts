import { afterAll, afterEach, beforeAll, describe, expect, it } from '@jest/globals'
import type { Request } from 'express'
import session, { type SessionData, type Store } from 'express-session'
import { middlewareOf } from '../../lib/frameworks/express.js'
import { KnownGrants } from '../../lib/grants/known-grants.js'
import { memoryGrantStore } from '../../lib/grants/memory.js'
import { clientSecretBasic, type SessionTokens } from '../../lib/index.js'
import { mount } from '../../lib/mount.js'
import { expressVersions } from '../helpers/app.js'
import { type AuthorizationServer, startAuthorizationServer } from '../helpers/authorization-server.js'
import type { Browser } from '../helpers/browser.js'
import { testClock } from '../helpers/clock.js'
import { createGate } from '../helpers/gate.js'
import { type Site, type SiteOptions, startSite, tokensIn } from '../helpers/site.js'
import { sessionIdOf } from '../helpers/stores.js'

declare module 'express-session' {
  interface SessionData {
    views?: number
    user?: string
  }
}

const HOUR_MS = 3_600_000
const ok = { status: 200 }
const loggedOut = { status: 401, json: { code: 'ERR_NO_TOKENS' } }
type Callback = (error?: unknown, result?: unknown) => void

let server: AuthorizationServer
const running: Site[] = []

beforeAll(async () => {
  server = await startAuthorizationServer()
})
afterEach(async () => {
  await Promise.all(running.splice(0).map((site) => site.close()))
  expect(server.reuses()).toBe(0)
})
afterAll(() => server.close())

async function start(options?: SiteOptions): Promise<Site> {
  const site = await startSite(server, options)
  running.push(site)
  return site
}

async function loggedIn(site: Site, account?: string): Promise<Browser> {
  const tab = site.browser()
  await site.login(tab, account)
  return tab
}

async function refresh(site: Site, tab: Browser): Promise<void> {
  const before = server.refreshes()
  site.clock.advance(HOUR_MS)
  expect(await tab.get('/token')).toMatchObject(ok)
  expect(server.refreshes() - before).toBe(1)
}

async function expectNewest(site: Site, tab: Browser): Promise<void> {
  expect(await server.isActive((await site.storedTokens(tab))?.refreshToken ?? 'none')).toBe(true)
}

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

  it.each(['getAccessToken', 'hasTokens', 'revoke', 'clear'] as const)(
    'and %s() reject with a cure when there is no session',
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
})

describe('the cookie of a session that a refresh writes', () => {
  const cookies: [string, NonNullable<SiteOptions['session']>['cookie']][] = [
    ['of a browser session', {}],
    ['with maxAge', { maxAge: HOUR_MS }],
    ['with expires', { expires: new Date(Date.now() + HOUR_MS) }],
    ['with everything', { maxAge: HOUR_MS, sameSite: 'lax', path: '/', priority: 'high', httpOnly: false }],
  ]

  it.each(cookies)('stays as it was, %s', async (_, cookie) => {
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

  it('tells a store the time that is left, as express-session does', async () => {
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

  it('rolling: true, is sent with every answer and with the same session id', async () => {
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

  it('whose touch() writes the whole session that it is given', async () => {
    class WritingStore extends session.MemoryStore {
      override touch(sid: string, data: SessionData, callback?: Callback): void {
        this.set(sid, data, callback)
      }
    }
    const site = await start({ store: new WritingStore() })
    const tab = await loggedIn(site)
    const slow = site.slow('/slow')
    const answer = tab.get('/slow')
    await slow.reached
    await refresh(site, tab)
    slow.release()
    await answer
    await expectNewest(site, tab)
  })

  it('without touch()', async () => {
    class PlainStore extends session.MemoryStore {}
    Object.assign(PlainStore.prototype, { touch: undefined })
    await expectToServe(await start({ store: new PlainStore() }))
  })

  it('that keeps object references', async () => {
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
    await expectToServe(await start({ store: new ReferenceStore() }))
  })

  it('that answers with promises as well as callbacks', async () => {
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
    ['that reports a failure through its promise alone', () => Promise.reject(new Error('no'))],
    [
      'that throws',
      () => {
        throw new Error('no')
      },
    ],
    [
      'that throws nothing at all',
      () => {
        throw undefined
      },
    ],
  ])('%s: once it is tried again, for good it is told, then healed', async (_, fail) => {
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
    ])
    expect(await tab.get('/token')).toMatchObject(ok)
    await expectNewest(site, tab)
  })
})

describe('an app that names its sessions itself', () => {
  function regenerated(request: Request): Promise<void> {
    return new Promise((resolve, reject) =>
      request.session.regenerate((error) => (error ? reject(error) : resolve())),
    )
  }
  const byDevice: SiteOptions = { session: { genid: (request) => String(request.headers['user-agent']) } }

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

  it('has the tokens of the next user, though a slow request saves the session of the one before', async () => {
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

describe('two sessionTokens() over the same session', () => {
  /** A site with a further middleware, in front of the usual one. */
  async function startWithSecond(options: { property: string; sessionKey?: string }) {
    const clock = testClock()
    const surroundings = { clock, known: new KnownGrants(clock), grants: memoryGrantStore() }
    const { clientId, clientSecret } = server.clients.client_secret_basic
    const second = mount(
      {
        tokenEndpoint: server.tokenEndpoint,
        revocationEndpoint: server.revocationEndpoint,
        clientId,
        clientAuthentication: clientSecretBasic(clientSecret),
        ...options,
      },
      surroundings,
    )
    const site = await start({ surroundings, before: middlewareOf(second) as never })
    return { site, clock }
  }

  const other = (request: Request) => (request as unknown as { other: SessionTokens }).other

  it('with keys of their own: each refreshes and ends what is its own', async () => {
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
    const surroundings = { clock, known: new KnownGrants(clock), grants: memoryGrantStore() }
    const { clientId, clientSecret } = server.clients.client_secret_basic
    const options = {
      tokenEndpoint: server.tokenEndpoint,
      clientId,
      clientAuthentication: clientSecretBasic(clientSecret),
    }
    const onPath = middlewareOf(mount(options, surroundings))
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
  it('leaves the store to others: sessions are saved as they are', async () => {
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
