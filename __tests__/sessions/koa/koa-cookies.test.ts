import { randomBytes } from 'node:crypto'
import { describe, expect, it } from '@jest/globals'
import type { Context } from 'koa'
import type { Browser } from '../../helpers/browser.js'
import {
  KOA_COOKIE,
  type KoaSite,
  type KoaSiteOptions,
  koaSession6,
  startKoaSite,
} from '../../helpers/koa-site.js'
import { recordingGrants } from '../../helpers/site.js'
import { HOUR_MS, testSites } from '../../helpers/test-sites.js'

const ok = { status: 200 }
const encryptionKeys = [randomBytes(32).toString('base64')]

const { server, closing } = await testSites()

async function start({ tokens, ...options }: KoaSiteOptions = {}): Promise<KoaSite> {
  return closing(
    await startKoaSite(server, { inCookies: true, ...options, tokens: { encryptionKeys, ...tokens } }),
  )
}

async function loggedIn(site: KoaSite): Promise<Browser> {
  const tab = site.browser()
  await site.login(tab)
  return tab
}

describe('koa-session in cookies', () => {
  it('S62 without encryption keys: said at first use, and nothing is put into the cookie', async () => {
    const site = closing(await startKoaSite(server, { inCookies: true }))
    const tab = site.browser()
    const answer = await tab.post('/login', await server.login('alice'))
    expect(answer).toMatchObject({
      status: 500,
      json: { code: 'ERR_CONFIGURATION', message: expect.stringContaining('encryptionKeys') },
    })
    expect(tab.cookie(KOA_COOKIE)).toBeUndefined()
  })

  it('a session that is not read is not decoded, and no cookie is set', async () => {
    let decoded = 0
    const decode = (text: string) => {
      decoded += 1
      return JSON.parse(Buffer.from(text, 'base64').toString())
    }
    const site = await start({ session: { decode } })
    site.handle('/other', () => 'fine')
    const tab = await loggedIn(site)
    const answer = await tab.get('/other')
    expect([answer.json, answer.headers.get('set-cookie'), decoded]).toEqual(['fine', null, 0])
    await tab.get('/token')
    expect(decoded).toBe(1)
  })

  it('S1 a valid token: no cookie is set', async () => {
    const site = await start()
    const tab = await loggedIn(site)
    expect((await tab.get('/token')).headers.get('set-cookie')).toBeNull()
  })

  describe('S27 a refresh when the cookie has been set', () => {
    it('S27 after the last handler is rejected before the refresh token is spent', async () => {
      let result: unknown
      const site = await start({
        before: async (ctx, next) => {
          await next()
          if (ctx.path === '/late')
            result = await ctx.tokens.getAccessToken().catch((error: unknown) => error)
        },
      })
      const tab = await loggedIn(site)
      site.handle('/late', () => 'fine')
      site.clock.advance(HOUR_MS)
      const refreshes = server.tokenRequests.length
      expect(await tab.get('/late')).toMatchObject(ok)
      expect(result).toMatchObject({ code: 'ERR_HEADERS_SENT', status: 500 })
      expect(server.tokenRequests.length).toBe(refreshes)
      expect(await tab.get('/token')).toMatchObject(ok)
    })

    it('S27 while the response is being sent is rejected before the refresh token is spent', async () => {
      const site = await start()
      const tab = await loggedIn(site)
      let result: unknown
      site.handle('/stream', async (ctx) => {
        ctx.res.writeHead(200)
        ctx.res.write('"begun"')
        result = await ctx.tokens.getAccessToken().catch((error: unknown) => error)
        return 'begun'
      })
      site.clock.advance(HOUR_MS)
      const refreshes = server.tokenRequests.length
      await tab.get('/stream').catch(() => {})
      expect(result).toMatchObject({ code: 'ERR_HEADERS_SENT' })
      expect(server.tokenRequests.length).toBe(refreshes)
      expect(await tab.get('/token')).toMatchObject(ok)
    })

    it('S27 with a shared grant store it is done, and the next cookie has it', async () => {
      const grants = recordingGrants()
      let result: unknown
      const site = await start({
        tokens: { grants },
        before: async (ctx, next) => {
          await next()
          if (ctx.path === '/late') result = await ctx.tokens.getAccessToken()
        },
      })
      const tab = await loggedIn(site)
      site.handle('/late', () => 'fine')
      site.clock.advance(HOUR_MS)
      const refreshes = server.refreshes()
      await tab.get('/late')
      const { token } = (await tab.get('/token')).json
      expect(result).toMatchObject({ token })
      expect(server.refreshes() - refreshes).toBe(1)
    })
  })

  it('S26 an error response of Koa itself has no cookie: the next request has the tokens, without a refresh', async () => {
    const site = await start({
      before: async (ctx, next) => {
        await next()
        if (ctx.path === '/boom') throw new Error('boom')
      },
    })
    const tab = await loggedIn(site)
    site.handle('/boom', (ctx) => ctx.tokens.getAccessToken())
    site.clock.advance(HOUR_MS)
    const refreshes = server.refreshes()
    expect((await tab.get('/boom')).headers.get('set-cookie')).toBeNull()
    const answer = await tab.get('/token')
    expect(answer).toMatchObject(ok)
    expect(answer.headers.get('set-cookie')).not.toBeNull()
    expect(server.refreshes() - refreshes).toBe(1)
  })

  it('mounted twice: a middleware between them may still refresh after the inner one has finished', async () => {
    const site: KoaSite = await start({
      before: (ctx, next) =>
        site.middleware(ctx, async () => {
          await next()
          if (ctx.path === '/between') ctx.body = await ctx.tokens.getAccessToken()
        }),
    })
    const tab = await loggedIn(site)
    site.handle('/between', () => 'fine')
    site.clock.advance(HOUR_MS)
    const { token } = (await tab.get('/between')).json
    const refreshes = server.refreshes()
    expect((await tab.get('/token')).json.token).toBe(token)
    expect(server.refreshes()).toBe(refreshes)
  })

  it('mounted twice with one sessionKey, for two clients: the second rejects', async () => {
    const first = await start({ tokens: { property: 'other', clientId: 'another' } })
    const site = await start({ before: first.middleware })
    site.handle('/has', (ctx) => ctx.tokens.hasTokens())
    site.handle('/other', (ctx) => ctx.other.hasTokens())
    const tab = site.browser()
    expect(await tab.get('/other')).toMatchObject(ok)
    expect((await tab.get('/has')).json).toMatchObject({
      code: 'ERR_CONFIGURATION',
      message: expect.stringContaining('under the same session key, `tokens`'),
    })
  })

  it('a session that does not fit into a cookie is rejected, and stays unchanged', async () => {
    const site = await start()
    const tab = site.browser()
    site.handle('/cart', (ctx) => {
      ctx.session.cart = 'x'.repeat(2_000)
    })
    await tab.get('/cart')
    const before = tab.cookie(KOA_COOKIE)
    const answer = await tab.post('/login', {
      access_token: 'a'.repeat(1_000),
      refresh_token: 'r',
      expires_in: 3600,
    })
    expect(answer).toMatchObject({ status: 500, json: { code: 'ERR_SESSION_TOO_LARGE' } })
    const [, bytes] = /cookie of (\d+) bytes/.exec(answer.json.message)!
    expect(Number(bytes)).toBeGreaterThan(4_096)
    expect(tab.cookie(KOA_COOKIE)).toBe(before)
    expect((await tab.get('/token')).json.code).toBe('ERR_NO_TOKENS')
  })

  it('the size of a cookie is the size of its name and its value', async () => {
    const site = await start()
    const tab = site.browser()
    let [least, most] = [0, 3_000]
    while (most - least > 1) {
      const length = Math.floor((least + most) / 2)
      const { status } = await tab.post('/login', { access_token: 'a'.repeat(length), expires_in: 3600 })
      if (status === 200) least = length
      else most = length
    }
    await tab.post('/login', { access_token: 'a'.repeat(least), expires_in: 3600 })
    const size = KOA_COOKIE.length + tab.cookie(KOA_COOKIE)!.length
    expect(size).toBeLessThanOrEqual(4_096)
    expect(size).toBeGreaterThan(4_096 - 16)
  })

  it.each([
    ['7', undefined],
    ['6', koaSession6],
  ])(
    'I2 koa-session %s with autoCommit: false: a refresh is committed, whether or not the app commits',
    async (_, koaSession) => {
      const session = { autoCommit: false } as KoaSiteOptions['session'] & object
      const site = await start({ session, ...(koaSession && { koaSession }) })
      const tab = await loggedIn(site)
      site.clock.advance(HOUR_MS)
      const { token } = (await tab.get('/token')).json
      // A process that knows nothing of it.
      const other = await start({ session, clock: site.clock, ...(koaSession && { koaSession }) })
      const refreshes = server.refreshes()
      expect((await other.browser(tab).get('/token')).json.token).toBe(token)
      expect(server.refreshes()).toBe(refreshes)
      expect(await tab.post('/logout')).toMatchObject(ok)
      expect(site.stored(tab)).not.toHaveProperty('tokens')
    },
  )

  it('with autoCommit: false a session that does not fit into a cookie is not sent', async () => {
    const site = await start({ session: { autoCommit: false } as KoaSiteOptions['session'] & object })
    const tab = site.browser()
    const answer = await tab.post('/login', { access_token: 'a'.repeat(4_000), expires_in: 3600 })
    expect(answer.json.code).toBe('ERR_SESSION_TOO_LARGE')
    expect(answer.headers.get('set-cookie')).toBeNull()
  })

  it('a login after ctx.session = null starts a new session', async () => {
    const site = await start()
    const tab = await loggedIn(site)
    site.handle('/switch', async (ctx) => {
      ctx.session.views = 7
      ctx.session = null
      await ctx.tokens.set({ access_token: 'bob', expires_in: 3600 })
    })
    expect(await tab.get('/switch')).toMatchObject(ok)
    expect((await tab.get('/token')).json.token).toBe('bob')
    expect(site.stored(tab)).not.toHaveProperty('views')
  })

  it.each(['/logout', '/login'])(
    '%s with a session that valid() refuses does not end its login',
    async (path) => {
      const valid = (ctx: Context) => ctx.get('device') !== 'another'
      const site = await start({ session: { valid } as KoaSiteOptions['session'] & object })
      const tab = await loggedIn(site)
      const headers = { device: 'another' }
      expect(await site.browser(tab).get('/token', { headers })).toMatchObject({ status: 401 })
      expect(await site.browser(tab).post(path, await server.login('bob'), { headers })).toMatchObject(ok)
      expect(await tab.get('/token')).toMatchObject(ok)
    },
  )

  it("revoke() after ctx.session = null revokes the session's tokens, and leaves no session", async () => {
    const site = await start()
    const login = await server.login('alice')
    const tab = site.browser()
    await tab.post('/login', login)
    site.handle('/end', async (ctx) => {
      ctx.tokens.hasTokens()
      ctx.session = null
      await ctx.tokens.revoke()
    })
    expect(await tab.get('/end')).toMatchObject(ok)
    expect(await server.isActive(login.refresh_token)).toBe(false)
    expect(tab.cookie(KOA_COOKIE) || undefined).toBeUndefined()
  })
})
