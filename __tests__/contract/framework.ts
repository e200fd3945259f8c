import { randomBytes } from 'node:crypto'
import { describe, expect, it } from '@jest/globals'
import { ConfigurationError, memoryGrantStore, type SessionTokens, TokenError } from '../../lib/index.js'
import { testClock } from '../helpers/clock.js'
import { ownProcess } from '../helpers/site.js'
import { json, wireServer } from '../helpers/wire-server.js'
import type { FrameworkApp, FrameworkDriver } from './framework-driver.js'
import { frameworkApps } from './framework-tests.js'

const HOUR_MS = 3_600_000
const ok = { status: 200 }

/** What `sessionTokens()` does in every framework, seen by a browser and by a handler. */
export function describeFramework(driver: FrameworkDriver): void {
  describe(`sessionTokens(options), ${driver.name}`, () => {
    const apps = frameworkApps(driver)

    /** An app with sessions and tokens, and what tests add to it. */
    function usualApp(mounting?: Parameters<FrameworkApp['tokens']>[1]) {
      const app = apps.app()
      app.sessions()
      const mounted = app.tokens(apps.options(), mounting)
      apps.usual(app)
      return Object.assign(app, { mounted })
    }

    it('login, token, logout', async () => {
      const page = await usualApp().listen()
      expect((await page.get('/state')).json).toEqual([false, null])
      const login = await apps.server.login('user')
      expect(await page.post('/login', login)).toMatchObject(ok)
      expect((await page.get('/token')).json).toMatchObject({
        token: login.access_token,
        tokenType: 'Bearer',
      })
      expect((await page.get('/state')).json).toEqual([true, login.id_token])
      expect(await page.post('/logout')).toMatchObject(ok)
      expect((await page.get('/state')).json).toEqual([false, null])
      expect((await page.get('/token')).status).toBe(401)
      expect(await apps.server.isActive(login.refresh_token)).toBe(false)
    })

    it('a second one under the same property is refused, as its tokens would go to the APIs of the first', async () => {
      const app = usualApp()
      app.tokens(apps.options({ sessionKey: 'other' }), { on: '/second' })
      app.handle('/second', () => 'handled')
      const page = await app.listen()
      expect((await page.get('/state')).status).toBe(200)
      expect((await page.get('/second')).status).toBe(500)
      expect(app.errors).toEqual([
        expect.objectContaining({
          code: 'ERR_CONFIGURATION',
          message: expect.stringContaining(
            `${driver.carrier}.tokens has the tokens of another sessionTokens()`,
          ),
        }),
      ])
    })

    it('acquire() gets the tokens of a login by itself', async () => {
      const app = usualApp()
      app.handle('/callback', ({ body, tokens }) => tokens.acquire(body as never))
      const page = await app.listen()
      expect(await page.post('/callback', await apps.server.authorize('user'))).toMatchObject(ok)
      const { token } = (await page.get('/token')).json
      expect(await apps.server.isActive(token)).toBe(true)
    })

    it('clear() logs out here alone', async () => {
      const app = usualApp()
      app.handle('/clear', ({ tokens }) => tokens.clear())
      const page = await app.listen()
      const login = await apps.server.login('user')
      await page.post('/login', login)
      expect(await page.get('/clear')).toMatchObject(ok)
      expect((await page.get('/state')).json).toEqual([false, null])
      expect(await apps.server.isActive(login.refresh_token)).toBe(true)
    })

    it('a token that has expired is refreshed, once for all who ask', async () => {
      const clock = testClock()
      const page = await usualApp({ surroundings: ownProcess(clock) }).listen()
      await page.post('/login', await apps.server.login('user'))
      clock.advance(HOUR_MS)
      const before = apps.server.refreshes()
      const answers = await Promise.all(Array.from({ length: 10 }, () => page.get('/token')))
      expect(new Set(answers.map(({ json }) => json.token)).size).toBe(1)
      expect(apps.server.refreshes() - before).toBe(1)
    })

    it("axios() sends the session's token along", async () => {
      const api = await wireServer((request, response) => json(response, request.headers.authorization))
      apps.closing(api.close)
      const app = usualApp()
      app.handle('/api', async ({ tokens }) => (await tokens.axios({ baseURL: api.url }).get('/')).data)
      const page = await app.listen()
      await page.post('/login', { access_token: 'at', expires_in: 3600 })
      expect((await page.get('/api')).json).toBe('Bearer at')
    })

    it('tells each request its own user', async () => {
      const page = await usualApp().listen()
      const other = page.clone()
      await page.post('/login', { access_token: 'mine', expires_in: 3600 })
      await other.post('/login', { access_token: 'theirs', expires_in: 3600 })
      const answers = await Promise.all([page.get('/token'), other.get('/token'), page.get('/token')])
      expect(answers.map(({ json }) => json.token)).toEqual(['mine', 'theirs', 'mine'])
    })

    it('S5 a request that asks for nothing makes no session', async () => {
      const app = usualApp()
      app.handle('/', () => 'fine')
      const answer = await (await app.listen()).get('/')
      expect([answer.json, answer.headers.get('set-cookie')]).toEqual(['fine', null])
    })

    it('what it adds to the session is the tokens', async () => {
      const app = usualApp()
      app.handle('/session', ({ session }) => [typeof session.tokens, session.views])
      app.handle('/views', ({ session }) => {
        session.views = 7
      })
      const page = await app.listen()
      await page.get('/views')
      await page.post('/login', { access_token: 'at', expires_in: 3600 })
      expect((await page.get('/session')).json).toEqual(['string', 7])
    })

    describe('errors', () => {
      it.each<[number, string, (tokens: SessionTokens) => unknown]>([
        [401, 'ERR_NO_TOKENS', (tokens) => tokens.getAccessToken()],
        [502, 'ERR_INVALID_TOKEN_RESPONSE', (tokens) => tokens.set({ expires_in: 60 })],
        [500, 'ERR_CONFIGURATION', (tokens) => tokens.getAccessToken({ scopes: 'a' } as object)],
      ])('are answered with %i for %s, and the message stays here', async (status, code, use) => {
        const app = usualApp()
        app.handle('/', ({ tokens }) => use(tokens))
        const answer = await (await app.listen()).get('/')
        expect(answer.status).toBe(status)
        expect(app.errors).toEqual([expect.objectContaining({ code, status, expose: false })])
        const [{ message, stack }] = app.errors as [Error]
        expect(answer.text).not.toContain(message)
        expect(answer.text).not.toContain(code)
        expect(answer.text).not.toContain(stack!.split('\n')[1]!.trim())
      })

      it('503 when the authorization server is not to be had, and the user stays logged in', async () => {
        const clock = testClock()
        const app = usualApp({ surroundings: ownProcess(clock) })
        const page = await app.listen()
        await page.post('/login', await apps.server.login('user'))
        clock.advance(HOUR_MS)
        apps.server.failNext(503)
        expect((await page.get('/token')).status).toBe(503)
        expect(app.errors).toEqual([expect.any(TokenError)])
        clock.advance(7_000)
        expect(await page.get('/token')).toMatchObject(ok)
      })
    })

    describe('no session middleware', () => {
      const uses: [string, (tokens: SessionTokens) => unknown][] = [
        ['getAccessToken()', (tokens) => tokens.getAccessToken()],
        ['set()', (tokens) => tokens.set({ access_token: 'at', expires_in: 60 })],
        ['acquire()', (tokens) => tokens.acquire({ grant_type: 'authorization_code', code: 'code' })],
        ['hasTokens()', (tokens) => tokens.hasTokens()],
        ['idToken', (tokens) => tokens.idToken],
        ['clear()', (tokens) => tokens.clear()],
        ['revoke()', (tokens) => tokens.revoke()],
        ['axios()', (tokens) => tokens.axios({ baseURL: apps.server.issuer }).get('/')],
        ['fetch()', (tokens) => tokens.fetch({ baseURL: apps.server.issuer })('/')],
      ]

      it.each(uses)('%s says so at first use', async (_, use) => {
        const before = apps.server.tokenRequests.length
        const app = apps.app()
        app.tokens(apps.options())
        app.handle('/', ({ tokens }) => use(tokens))
        app.handle('/other', () => 'fine')
        const page = await app.listen()
        expect((await page.get('/')).status).toBe(500)
        expect(app.errors).toEqual([expect.any(ConfigurationError)])
        expect((app.errors[0] as Error).message).toMatch(driver.cure)
        expect((await page.get('/other')).json).toBe('fine')
        expect(apps.server.tokenRequests).toHaveLength(before)
      })

      it('requireTokens() says so rather than sending users to the login', async () => {
        const app = apps.app()
        app.tokens(apps.options())
        app.guard('/', { loginPath: '/login' })
        const page = await app.listen()
        expect((await page.get('/', { headers: { accept: 'text/html' } })).status).toBe(500)
        expect((app.errors[0] as Error).message).toMatch(driver.cure)
      })
    })

    describe('mounted twice', () => {
      it('for two authorization servers: neither sees the tokens of the other', async () => {
        const app = apps.app()
        app.sessions()
        app.tokens(apps.options())
        app.tokens(apps.options({ property: 'other', sessionKey: 'other', clientId: 'another' }))
        for (const name of ['tokens', 'other']) {
          app.handle(`/login/${name}`, (visit) => visit.tokensOf(name).set(visit.body))
          app.handle(`/token/${name}`, (visit) => visit.tokensOf(name).getAccessToken())
        }
        const page = await app.listen()
        await page.post('/login/tokens', { access_token: 'one', expires_in: 3600 })
        expect((await page.get('/token/tokens')).json.token).toBe('one')
        expect((await page.get('/token/other')).status).toBe(401)
        await page.post('/login/other', { access_token: 'two', expires_in: 3600 })
        expect((await page.get('/token/tokens')).json.token).toBe('one')
        expect((await page.get('/token/other')).json.token).toBe('two')
      })

      const cure = /under the same session key, `tokens`.*another `sessionKey`/

      it.each([
        ['for two clients', { clientId: 'another' }],
        ['once with encryption keys', { encryptionKeys: [randomBytes(32).toString('base64')] }],
        ["once with keep: 'store'", { keep: 'store' as const, grants: memoryGrantStore() }],
      ])('but with one sessionKey, %s: says so at the first request that reaches both', async (_, other) => {
        const app = apps.app()
        app.sessions()
        app.tokens(apps.options())
        app.tokens(apps.options({ property: 'other', ...other }))
        app.handle('/', () => 'fine')
        expect((await (await app.listen()).get('/')).status).toBe(500)
        expect((app.errors[0] as Error).message).toMatch(cure)
      })

      it('but with one sessionKey: says so at each request to the second of two paths', async () => {
        const app = apps.app()
        app.sessions()
        for (const name of ['one', 'two']) {
          app.tokens(apps.options({ clientId: name }), { on: `/${name}` })
          app.handle(`/${name}`, ({ tokens }) => tokens.hasTokens())
        }
        const page = await app.listen()
        const statuses = []
        for (const path of ['/one', '/two', '/one', '/two']) statuses.push((await page.get(path)).status)
        expect(statuses).toEqual([200, 500, 200, 500])
      })

      it('with one sessionKey, and the first one closed: the second takes over', async () => {
        const app = apps.app()
        app.sessions()
        const first = app.tokens(apps.options({ clientId: 'one' }), { on: '/one' })
        app.tokens(apps.options({ clientId: 'two' }), { on: '/two' })
        app.handle('/one', ({ tokens }) => tokens.hasTokens())
        app.handle('/two', ({ tokens }) => tokens.hasTokens())
        const page = await app.listen()
        await page.get('/one')
        await first.close()
        expect(await page.get('/two')).toMatchObject(ok)
      })
    })

    it('mounted on a path: other paths have no tokens', async () => {
      const app = apps.app()
      app.sessions()
      app.tokens(apps.options(), { on: '/api' })
      for (const path of ['/', '/api']) app.handle(path, ({ tokens }) => tokens !== undefined)
      const page = await app.listen()
      expect([(await page.get('/')).json, (await page.get('/api')).json]).toEqual([false, true])
    })

    it('S51 close() resolves when the refreshes under way are stored', async () => {
      const clock = testClock()
      const app = usualApp({ surroundings: ownProcess(clock) })
      app.handle('/start', ({ tokens }) => {
        tokens.getAccessToken().catch(() => {})
      })
      const page = await app.listen()
      await page.post('/login', await apps.server.login('user'))
      clock.advance(HOUR_MS)
      const gate = apps.server.holdAnswer()
      await page.get('/start')
      await gate.reached
      let closed = false
      const closing = app.mounted.close().then(() => (closed = true))
      await new Promise((resolve) => setImmediate(resolve))
      expect(closed).toBe(false)
      gate.release()
      await closing
    })
  })
}
