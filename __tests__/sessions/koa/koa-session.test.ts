import { describe, expect, it } from '@jest/globals'
import type { Context } from 'koa'
import { type Browser, browser } from '../../helpers/browser.js'
import { KOA_COOKIE, type KoaSite, type KoaSiteOptions, startKoaSite } from '../../helpers/koa-site.js'
import { type KoaMemoryStore, type KoaStoreCall, koaMemoryStore } from '../../helpers/koa-stores.js'
import { tokensIn } from '../../helpers/site.js'
import { HOUR_MS, testSites } from '../../helpers/test-sites.js'

const DAY_MS = 24 * HOUR_MS
const ok = { status: 200 }
const loggedOut = { status: 401, json: { code: 'ERR_NO_TOKENS' } }

const { server, closing, held } = await testSites()

async function start(options?: KoaSiteOptions): Promise<KoaSite> {
  return closing(await startKoaSite(server, options))
}

async function loggedIn(site: KoaSite): Promise<Browser> {
  const tab = site.browser()
  await site.login(tab)
  return tab
}

async function refresh(site: KoaSite, tab: Browser): Promise<void> {
  site.clock.advance(HOUR_MS)
  const before = server.refreshes()
  expect(await tab.get('/token')).toMatchObject(ok)
  expect(server.refreshes() - before).toBe(1)
}

const tokensOf = (site: KoaSite, tab: Browser) => tokensIn(site.stored(tab))
const writesOf = (store: KoaMemoryStore) => store.calls.filter(({ method }) => method === 'set')

describe('a store that needs the request', () => {
  /** Each tenant has a database of its own: without a request there is none. */
  async function startOverDatabases() {
    const databases = new Map<string, Map<string, Record<string, unknown>>>()
    const database = ({ ctx }: { ctx?: Context }) => {
      const tenant = ctx!.host
      if (!databases.has(tenant)) databases.set(tenant, new Map())
      return databases.get(tenant)!
    }
    const store = {
      get: async (key: string, _: unknown, options: object) => structuredClone(database(options).get(key)),
      set: async (key: string, session: Record<string, unknown>, _: unknown, options: object) =>
        void database(options).set(key, structuredClone(session)),
      destroy: async (key: string, options: object) => void database(options).delete(key),
    }
    const site = await start({ store: store as never, session: { rolling: true } })
    site.handle('/clear', (ctx) => ctx.tokens.clear())
    site.handle('/regenerate', (ctx) => ctx.session!.regenerate())
    site.handle('/destroy', (ctx) => {
      ctx.session = null
    })
    return { site, databases }
  }

  it.each(['/clear', '/logout'])('gets it for a visitor without a session: %s', async (path) => {
    const { site } = await startOverDatabases()
    expect(await site.browser().post(path, {})).toMatchObject(ok)
    expect(await site.browser().get('/token')).toMatchObject(loggedOut)
    expect(site.errors.filter((error) => error instanceof TypeError)).toEqual([])
  })

  it('gets it at a login, a refresh, a regeneration, another login and every way to log out', async () => {
    const { site, databases } = await startOverDatabases()
    const tab = await loggedIn(site)
    await refresh(site, tab)
    expect(await tab.post('/regenerate', {})).toMatchObject(ok)
    await refresh(site, tab)
    await site.login(tab, 'another')
    await refresh(site, tab)
    expect(await tab.post('/logout', {})).toMatchObject(ok)
    expect(await tab.get('/token')).toMatchObject(loggedOut)
    await site.login(tab)
    expect(await tab.post('/destroy', {})).toMatchObject(ok)
    expect(await tab.get('/token')).toMatchObject(loggedOut)
    expect(site.errors.filter((error) => error instanceof TypeError)).toEqual([])
    expect(databases.size).toBe(1)
  })

  it('gets it at a refresh that ends after ten thousand other sessions have been used', async () => {
    const { site } = await startOverDatabases()
    const tab = await loggedIn(site)
    site.clock.advance(HOUR_MS)
    const answer = held(server.hold())
    const refreshing = tab.get('/token')
    await answer.reached
    const store = site.store as unknown as { get(key: string, maxAge: unknown, options: object): unknown }
    const ctx = { host: 'other' }
    for (let n = 0; n <= 10_000; n++) await store.get(`other ${n}`, 0, { ctx })
    answer.release()
    expect(await refreshing).toMatchObject(ok)
    expect(site.events.map(({ type }) => type)).toEqual(['refreshed'])
  })
})

describe('koa-session with a store: the lifetime of a session', () => {
  /** What the login and a refresh have stored. */
  async function written(session: KoaSiteOptions['session'] = {}) {
    const site = await start({ session })
    const tab = await loggedIn(site)
    const atLogin = writesOf(site.store)
    site.store.calls.splice(0)
    await refresh(site, tab)
    const [atRefresh, ...others] = writesOf(site.store)
    expect(others).toEqual([])
    return { site, tab, atLogin, atRefresh: atRefresh! }
  }

  it.each([
    ['of the default', {}, DAY_MS],
    ['of a minute', { maxAge: 60_000 }, 60_000],
  ])(
    'a lifetime %s: a login is stored as koa-session stores it, a refresh keeps the expiry',
    async (_, options, maxAge) => {
      const { atLogin, atRefresh } = await written(options)
      // The login itself, and koa-session at the end of the request.
      const [login, end] = atLogin
      expect(atLogin).toHaveLength(2)
      expect(login!.session).toMatchObject({ _maxAge: maxAge })
      expect(login!.session!._expire).toBeGreaterThan(Date.now() + maxAge - 10_000)
      expect(Object.keys(login!.session!).sort()).toEqual(Object.keys(end!.session!).sort())
      expect(login!.maxAge).toBe(maxAge + 10_000)
      expect(login!.maxAge).toBe(end!.maxAge)
      expect(login!.options).toMatchObject({ changed: true, rolling: false })
      expect(login!.options.ctx).toBe(end!.options.ctx)

      const { _expire, _maxAge } = end!.session!
      expect(atRefresh.session).toMatchObject({ _expire, _maxAge })
      expect(atRefresh.maxAge).toBeGreaterThan(maxAge)
      expect(atRefresh.maxAge).toBeLessThanOrEqual(maxAge + 10_000)
      expect(atRefresh.options).toMatchObject({ changed: true, rolling: false })
      expect(atRefresh.options.ctx).toBeDefined()
    },
  )

  it("maxAge: 'session'", async () => {
    const { atLogin, atRefresh } = await written({ maxAge: 'session' })
    expect(atLogin[0]).toMatchObject({ maxAge: 'session', session: { _session: true } })
    expect(atLogin[0]!.session).not.toHaveProperty('_expire')
    expect(atRefresh).toMatchObject({ maxAge: 'session', session: { _session: true } })
  })

  it('half of the lifetime has passed: a refresh keeps the session for the other half', async () => {
    const site = await start()
    const tab = await loggedIn(site)
    const key = tab.cookie(KOA_COOKIE)!
    const _expire = Date.now() + DAY_MS / 2
    site.store.poke(key, { ...site.stored(tab), _expire })
    site.store.calls.splice(0)
    await refresh(site, tab)
    const [{ maxAge, session }] = writesOf(site.store) as [KoaStoreCall]
    expect(session).toMatchObject({ _expire, _maxAge: DAY_MS })
    expect(maxAge).toBeGreaterThan(DAY_MS / 2)
    expect(maxAge).toBeLessThanOrEqual(DAY_MS / 2 + 10_000)
  })

  it('an expired session counts as no session', async () => {
    const site = await start()
    const tab = await loggedIn(site)
    site.store.poke(tab.cookie(KOA_COOKIE)!, { ...site.stored(tab), _expire: Date.now() - 1 })
    expect(await tab.get('/token')).toMatchObject(loggedOut)
  })

  it.each([
    ['a logout', '/logout'],
    ['a logout in this app alone', '/clear'],
    ['a login', '/login'],
  ])('a session that valid() refuses counts as no session: %s does not end its login', async (_, path) => {
    const valid = (ctx: Context) => ctx.get('device') !== 'another'
    const site = await start({ session: { valid } as KoaSiteOptions['session'] & object })
    site.handle('/clear', (ctx) => ctx.tokens.clear())
    const tab = await loggedIn(site)
    const headers = { device: 'another' }
    expect(await site.browser(tab).get('/token', { headers })).toMatchObject(loggedOut)
    expect(await site.browser(tab).post(path, await server.login('bob'), { headers })).toMatchObject(ok)
    expect(await tab.get('/token')).toMatchObject(ok)
  })

  it('a session without an expiry, as an app may have stored it, stays without one', async () => {
    const site = await start()
    const tab = await loggedIn(site)
    const { _expire, _maxAge, ...rest } = site.stored(tab)!
    site.store.poke(tab.cookie(KOA_COOKIE)!, rest)
    await refresh(site, tab)
    expect(Object.keys(site.stored(tab)!)).toEqual(['tokens'])
    expect(writesOf(site.store).at(-1)!.maxAge).toBe(DAY_MS + 10_000)
  })
})

describe('koa-session with a store: the stored session', () => {
  it('a session that is saved again unchanged is stored as unchanged, unless its tokens are newer', async () => {
    const site = await start({ session: { rolling: true } })
    const tab = await loggedIn(site)
    const changes = async (path: string) => {
      site.store.calls.splice(0)
      expect(await tab.get(path)).toMatchObject(ok)
      return writesOf(site.store).map(({ options }) => options.changed)
    }
    expect(await changes('/session')).toEqual([false])
    site.handle('/refresh', async (ctx) => {
      site.clock.advance(HOUR_MS)
      await ctx.tokens.getAccessToken()
    })
    // The refresh, then the request, which came with the tokens from before.
    expect(await changes('/refresh')).toEqual([true, true])
    expect(await server.isActive(tokensOf(site, tab)!.refreshToken!)).toBe(true)
  })

  it('an app may keep `id`, `req`, `save` and `cookie` in its session', async () => {
    const site = await start()
    const tab = site.browser()
    const data = { id: 7, req: { id: 'request' }, cookie: { path: '/' }, sessionID: 'x' }
    site.handle('/put', (ctx) => Object.assign(ctx.session, data) && null)
    site.handle('/touch', (ctx) => {
      ctx.session.views = 7
    })
    expect(await tab.get('/put')).toMatchObject(ok)
    await site.login(tab)
    await refresh(site, tab)
    await tab.get('/touch')
    expect(site.stored(tab)).toMatchObject({ ...data, views: 7 })
    expect(await server.isActive(tokensOf(site, tab)!.refreshToken!)).toBe(true)

    const slow = held(site.slow('/slow', (ctx) => Object.assign(ctx.session, { views: 8 })))
    const answer = tab.get('/slow')
    await slow.reached
    await tab.post('/logout')
    slow.release()
    await answer
    expect(site.stored(tab)).toMatchObject({ ...data, views: 8 })
    expect(tokensOf(site, tab)).toBeUndefined()
  })

  it('holds the tokens and nothing else of this library: no name, no symbol, no method', async () => {
    const store = koaMemoryStore(new Map(), { references: true })
    const site = await start({ store })
    const tab = await loggedIn(site)
    await refresh(site, tab)
    const stored = store.peek(tab.cookie(KOA_COOKIE)!)!
    expect(Reflect.ownKeys(stored).sort()).toEqual(['_expire', '_maxAge', 'tokens'])
  })

  it('a store that returns the objects that it keeps: no request gets tokens of a refresh that could not be stored', async () => {
    const store = koaMemoryStore(new Map(), { references: true })
    const site = await start({ store })
    const tab = await loggedIn(site)
    const before = store.peek(tab.cookie(KOA_COOKIE)!)!.tokens
    store.failNext('set')
    store.failNext('set')
    await refresh(site, tab)
    expect(site.events.map(({ type }) => type)).toContain('session_write_failed')
    expect(store.peek(tab.cookie(KOA_COOKIE)!)!.tokens).toBe(before)
  })
})

describe('koa-session with a store: stores and keys of all kinds', () => {
  it('a store that returns values instead of promises still works', async () => {
    const sessions = new Map<string, string>()
    const store = {
      get: (key: string) => sessions.has(key) && JSON.parse(sessions.get(key)!),
      set: (key: string, session: object) => void sessions.set(key, JSON.stringify(session)),
      destroy: (key: string) => void sessions.delete(key),
    }
    const site = await start({ store: store as unknown as KoaMemoryStore })
    const tab = await loggedIn(site)
    await refresh(site, tab)
    const key = tab.cookie(KOA_COOKIE)!
    expect(await server.isActive(tokensIn(store.get(key))!.refreshToken!)).toBe(true)
    store.set('mine', { views: 7 })
    expect(store.get('mine')).toEqual({ views: 7 })
    store.destroy('mine')
    await tab.post('/logout')
    expect(tokensIn(store.get(key))).toBeUndefined()
  })

  it('a store that returns thenables, as a query builder does, is read once, and deleting the tokens is a logout', async () => {
    const store = koaMemoryStore()
    let reads = 0
    /** Runs when it is waited for, each time anew. */
    const query = <T>(run: () => Promise<T>) => ({
      // biome-ignore lint/suspicious/noThenProperty: a query is a thenable
      then: (resolve: (value: T) => unknown, reject: (reason: unknown) => unknown) =>
        run().then(resolve, reject),
    })
    const queries = {
      ...store,
      get: (...args: Parameters<typeof store.get>) =>
        query(() => {
          reads++
          return store.get(...args)
        }),
      set: (...args: Parameters<typeof store.set>) => query(() => store.set(...args)),
      destroy: (...args: Parameters<typeof store.destroy>) => query(() => store.destroy(...args)),
    } as unknown as KoaMemoryStore
    const site = await start({ store: queries })
    site.handle('/read', (ctx) => ({ views: ctx.session.views ?? 0 }))
    site.handle('/out', (ctx) => {
      delete ctx.session.tokens
    })
    const tab = await loggedIn(site)
    await refresh(site, tab)
    const key = tab.cookie(KOA_COOKIE)!
    const old = store.peek(key)!
    expect(await server.isActive(tokensIn(old)!.refreshToken!)).toBe(true)
    reads = 0
    await tab.get('/read')
    expect(reads).toBe(1)
    await tab.get('/out')
    store.poke(key, old)
    expect(await tab.get('/token')).toMatchObject(loggedOut)
  })

  it('a store that needs the request gets it with every call', async () => {
    const store = koaMemoryStore()
    const site = await start({ store })
    const tab = await loggedIn(site)
    site.handle('/regenerate', (ctx) => ctx.session.regenerate())
    site.handle('/destroy', (ctx) => {
      ctx.session = null
    })
    await refresh(site, tab)
    await tab.get('/regenerate')
    await tab.get('/destroy')
    expect(store.calls.length).toBeGreaterThan(8)
    expect(store.calls.map(({ options }) => (options.ctx as Context).method)).not.toContain(undefined)
  })

  it('a key that is not in the cookie', async () => {
    const externalKey = {
      get: (ctx: Context) => ctx.get('x-session'),
      set: (ctx: Context, key: string) => ctx.set('x-session', key),
    }
    const site = await start({ session: { externalKey } })
    const tab = browser(site.url)
    const login = await tab.post('/login', await server.login('alice'))
    const headers = { 'x-session': login.headers.get('x-session')! }
    site.clock.advance(HOUR_MS)
    expect(await tab.get('/token', { headers })).toMatchObject(ok)
    expect(tokensIn(site.store.peek(headers['x-session']))?.revision).toBe(2)
  })

  it('a session that is regenerated twice: the next refresh is stored in the newest session', async () => {
    const site = await start()
    const tab = await loggedIn(site)
    site.handle('/twice', async (ctx) => {
      await ctx.session.regenerate()
      await ctx.session.regenerate()
      site.clock.advance(HOUR_MS)
      await ctx.tokens.getAccessToken()
      return { key: ctx.session.externalKey }
    })
    const { key } = (await tab.get('/twice')).json
    expect(tab.cookie(KOA_COOKIE)).not.toBe(key)
    expect(site.store.peek(key)).toBeUndefined()
    expect(tokensOf(site, tab)?.revision).toBe(2)
  })

  it('autoCommit: false: set() stores the tokens, the app sets the cookie', async () => {
    const site = await start({ session: { autoCommit: false } })
    const tab = site.browser()
    site.handle('/login', async (ctx) => {
      await ctx.tokens.set({ access_token: 'at', expires_in: 3600 })
      await ctx.session.manuallyCommit()
    })
    await tab.get('/login')
    expect((await tab.get('/token')).json.token).toBe('at')
  })

  it('sessions of a store that the app uses by itself', async () => {
    const site = await start()
    const tab = await loggedIn(site)
    const key = tab.cookie(KOA_COOKIE)!
    const session = (await site.store.get(key, undefined, {}))!
    await site.store.set(key, { ...session, views: 7 }, DAY_MS, {})
    expect(site.stored(tab)).toMatchObject({ views: 7, tokens: session.tokens })
    await site.store.destroy(key, {})
    expect(site.stored(tab)).toBeUndefined()
    // The grant has ended with its session.
    site.store.poke(key, session)
    expect(await tab.get('/token')).toMatchObject(loggedOut)
  })
})

describe('koa-session with a store: a session that was destroyed', () => {
  it('a session that was destroyed earlier in the request has no tokens, and rejects a login', async () => {
    const site = await start()
    const tab = await loggedIn(site)
    site.handle('/end', async (ctx) => {
      const before = ctx.tokens.hasTokens()
      ctx.session = null
      return [before, ctx.tokens.hasTokens()]
    })
    site.handle('/login-after-end', async (ctx) => {
      ctx.session = null
      await ctx.tokens.set({ access_token: 'at', expires_in: 3600 })
    })
    const other = await loggedIn(site)
    expect((await tab.get('/end')).json).toEqual([true, false])
    expect(await other.get('/login-after-end')).toMatchObject({
      status: 500,
      json: {
        code: 'ERR_CONFIGURATION',
        message: expect.stringContaining('destroyed earlier in this request'),
      },
    })
  })

  it("revoke() after ctx.session = null revokes the session's tokens", async () => {
    const site = await start()
    const tab = await loggedIn(site)
    const { refreshToken } = tokensOf(site, tab)!
    site.handle('/end', async (ctx) => {
      ctx.session = null
      await ctx.tokens.revoke()
    })
    expect(await tab.get('/end')).toMatchObject(ok)
    expect(await server.isActive(refreshToken!)).toBe(false)
    expect(site.stored(tab)).toBeUndefined()
  })

  it('another session object in its place without the tokens is a logout', async () => {
    const site = await start()
    const tab = await loggedIn(site)
    const old = site.stored(tab)!
    site.handle('/replace', (ctx) => {
      ctx.session = { views: 7 }
    })
    await tab.get('/replace')
    expect(site.stored(tab)).toMatchObject({ views: 7 })
    expect(tokensOf(site, tab)).toBeUndefined()
    site.store.poke(tab.cookie(KOA_COOKIE)!, old)
    expect(await tab.get('/token')).toMatchObject(loggedOut)
  })

  it('a session that the app stores by itself in a request without a session is left as it is', async () => {
    const site = await start()
    const tab = site.browser()
    expect(await tab.get('/token')).toMatchObject(loggedOut)
    expect(site.store.calls).toEqual([])
    expect(tab.cookie(KOA_COOKIE)).toBeUndefined()
  })
})

describe('koa-session with a store: sessionTokens() mounted before it', () => {
  it('serves and refreshes tokens', async () => {
    const site = await start({ mountedInFront: true })
    const tab = await loggedIn(site)
    const slow = held(site.slow('/slow', (ctx) => Object.assign(ctx.session, { views: 7 })))
    const answer = tab.get('/slow')
    await slow.reached
    await refresh(site, tab)
    slow.release()
    await answer
    expect(site.stored(tab)).toMatchObject({ views: 7 })
    expect(tokensOf(site, tab)?.revision).toBe(2)
    await tab.post('/logout')
    expect(tokensOf(site, tab)).toBeUndefined()
    expect(await tab.get('/token')).toMatchObject(loggedOut)
  })

  it('deleting the tokens is a logout there, too', async () => {
    const site = await start({ mountedInFront: true })
    const tab = await loggedIn(site)
    const old = site.stored(tab)!
    site.handle('/out', (ctx) => {
      delete ctx.session.tokens
    })
    await tab.get('/out')
    expect(tokensOf(site, tab)).toBeUndefined()
    site.store.poke(tab.cookie(KOA_COOKIE)!, old)
    expect(await tab.get('/token')).toMatchObject(loggedOut)
  })
})

describe('koa-session with a store: the tokens are deleted before sessionTokens() runs', () => {
  it.each([
    ['and the request ends there', false],
    ['and the request goes on', true],
  ])('%s: the tokens do not come back', async (_, goesOn) => {
    const site = await start({
      before: async (ctx, next) => {
        if (ctx.path === '/out') delete ctx.session.tokens
        if (ctx.path !== '/out' || goesOn) await next()
      },
    })
    site.handle('/out', () => null)
    const tab = await loggedIn(site)
    const old = site.stored(tab)!
    await tab.get('/out')
    expect(tokensOf(site, tab)).toBeUndefined()
    expect(await tab.get('/token')).toMatchObject(loggedOut)
    site.store.poke(tab.cookie(KOA_COOKIE)!, old)
    expect(await tab.get('/token')).toMatchObject(loggedOut)
  })
})

describe('koa-session with a store: sessions that existed before the first request of the process', () => {
  it('deleting the tokens in the first request is a logout', async () => {
    const sessions = new Map<string, unknown>()
    const site = await start({ store: koaMemoryStore(sessions) })
    const tab = await loggedIn(site)
    const old = site.stored(tab)!
    const restarted = await start({ store: koaMemoryStore(sessions) })
    const later = restarted.browser(tab)
    restarted.handle('/out', (ctx) => {
      delete ctx.session.tokens
    })
    await later.get('/out')
    expect(tokensOf(restarted, later)).toBeUndefined()
    restarted.store.poke(later.cookie(KOA_COOKIE)!, old)
    expect(await later.get('/token')).toMatchObject(loggedOut)
  })
})

describe('koa-session: unsupported options and reserved names', () => {
  const tokens = (ctx: Context) => ctx.tokens.hasTokens()

  it('ContextStore', async () => {
    class ContextStore {
      async get() {}
      async set() {}
      async destroy() {}
    }
    const site = await start({ session: { ContextStore } })
    site.handle('/', tokens)
    site.handle('/other', () => 'fine')
    expect(await site.browser().get('/')).toMatchObject({
      status: 500,
      json: { code: 'ERR_CONFIGURATION', message: expect.stringContaining('Use its option `store`') },
    })
    expect(await site.browser().get('/other')).toMatchObject(ok)
  })

  it.each(['_tokens', 'isNew', 'maxAge', 'externalKey', 'save', 'populated'])(
    'the sessionKey %s',
    async (sessionKey) => {
      await expect(start({ tokens: { sessionKey } })).rejects.toMatchObject({ code: 'ERR_CONFIGURATION' })
    },
  )
})
