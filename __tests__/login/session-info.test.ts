import { afterEach, describe, expect, it, jest } from '@jest/globals'
import type { Express, Request } from 'express'
import { type Configuration, customFetch } from 'openid-client'
import type { LoginClaims, LoginTokens } from '../../lib/login.js'
import { failingGrants } from '../helpers/failing-grants.js'
import { createGate } from '../helpers/gate.js'
import { type LoginSite, type LoginSiteOptions, SCOPE, startLoginSite } from '../helpers/login-site.js'

let site: LoginSite
const start = async (options?: LoginSiteOptions) => {
  site = await startLoginSite(options)
  return site
}
afterEach(() => site.close())

/** Claims of userinfo, which change. */
let name = 'Alice'
const withNames: LoginSiteOptions['provider'] = {
  configure: (it) => ({
    ...it,
    claims: { openid: ['sub', 'name'] },
    findAccount: (_, accountId) => ({ accountId, claims: () => ({ sub: accountId, name }) }),
  }),
}

/** A route that has the tokens refreshed. */
function refreshRoute(app: Express): void {
  app.get('/refresh', ({ tokens }: Request, response, next) => {
    tokens
      .getAccessToken()
      .then(({ token }) => tokens.getAccessToken({ rejected: token }))
      .then(() => response.json({}), next)
  })
}

/** A route that shows what `onLogin` has noted in the session. */
function accountRoute(app: Express): void {
  app.get('/account', ({ session }: Request, response) => {
    response.json((session as { account?: string }).account ?? null)
  })
}

function note(claims: LoginClaims, { session }: Request): void {
  Object.assign(session, { account: claims.sub })
}

describe('GET /session', () => {
  it('shows the chosen claims, the seconds left and the path of the logout', async () => {
    await start({ session: { cookie: { maxAge: 600_000 } }, login: { sessionClaims: ['sub', 'iss'] } })
    const visitor = await site.loggedIn()
    const { headers, json, status } = await visitor.get('/session')
    expect([status, headers.get('cache-control')]).toEqual([200, 'no-store'])
    expect(json).toEqual({
      user: { sub: 'alice', iss: site.provider.issuer },
      secondsLeft: expect.any(Number),
      logoutUrl: '/logout',
    })
    expect(json.secondsLeft).toBeGreaterThan(590)
    expect(json.secondsLeft).toBeLessThanOrEqual(600)
  })

  it.each([
    [401, undefined],
    [200, { visitorStatus: 200 as const }],
  ])('responds to a visitor with %i and null', async (status, login) => {
    await start({ login: login ?? {} })
    const response = await site.browser().get('/session')
    expect([response.status, response.json]).toEqual([status, null])
    expect(response.headers.getSetCookie()).toEqual([])
  })

  it('neither refreshes nor makes the session last longer', async () => {
    await start({
      provider: { accessTokenTtl: 1 },
      session: { rolling: true, cookie: { maxAge: 600_000 } },
    })
    const visitor = await site.loggedIn()
    const expiry = () =>
      Object.values((site.store as unknown as { sessions: Record<string, string> }).sessions).map(
        (text) => JSON.parse(text).cookie.expires,
      )
    const before = expiry()
    jest.useFakeTimers({
      now: Date.now() + 60_000,
      doNotFake: [
        'setTimeout',
        'setImmediate',
        'nextTick',
        'setInterval',
        'performance',
        'queueMicrotask',
        'clearTimeout',
        'clearInterval',
        'hrtime',
        'clearImmediate',
      ],
    })
    try {
      const { json } = await visitor.get('/session')
      expect(json.secondsLeft).toBeLessThanOrEqual(540)
    } finally {
      jest.useRealTimers()
    }
    expect(expiry()).toEqual(before)
    expect(site.provider.refreshes()).toBe(0)
  })
})

describe('userinfo', () => {
  it('is fetched at the login, and again when a refresh has brought a new ID token', async () => {
    name = 'Alice'
    await start({
      provider: withNames,
      login: { userinfo: true },
      routes: refreshRoute,
    })
    const visitor = await site.loggedIn()
    expect((await visitor.get('/session')).json.user).toEqual({ sub: 'alice', name: 'Alice' })
    name = 'Alice B.'
    expect((await visitor.get('/session')).json.user.name).toBe('Alice')
    await visitor.get('/refresh')
    expect(site.provider.refreshes()).toBe(1)
    expect((await visitor.get('/session')).json.user.name).toBe('Alice B.')
  })

  it('is not put into a session whose user logs out while it is fetched', async () => {
    const gate = createGate()
    let isHeld = false
    await start({
      login: {
        userinfo: true,
        onLogin: (_: LoginTokens, claims: LoginClaims, request: Request) => note(claims, request),
        configure(configuration: Configuration) {
          configuration[customFetch] = async (url, { body, headers, method }) => {
            const response = await fetch(url, { body: (body as string) ?? null, headers, method })
            if (isHeld && new URL(url).pathname === '/me') await gate.pass()
            return response
          }
        },
      } as never,
      routes(app) {
        refreshRoute(app)
        accountRoute(app)
      },
    })
    const visitor = await site.loggedIn()
    expect((await visitor.get('/account')).json).toBe('alice')
    await visitor.get('/refresh')
    isHeld = true
    const asked = visitor.get('/session')
    await gate.reached
    const out = await visitor.post('/logout', undefined, { headers: { accept: 'application/json' } })
    expect(out.status).toBe(200)
    gate.release()
    const { json, status } = await asked
    expect([status, json]).toEqual([401, null])
    expect((site.store as unknown as { sessions: object }).sessions).toEqual({})
    expect((await visitor.get('/account')).json).toBeNull()
  })

  it('is not shown of the user who has logged in when the app has put another one into the session', async () => {
    await start({
      provider: {
        configure: (it) => ({
          ...it,
          claims: { openid: ['sub', 'name'] },
          findAccount: (_, accountId) => ({
            accountId,
            claims: (use) => ({
              sub: accountId,
              ...(use === 'userinfo' && { name: `the name of ${accountId}` }),
            }),
          }),
        }),
      },
      login: { userinfo: true },
      routes(app) {
        app.get('/become-bob', ({ tokens }: Request, response, next) => {
          const bob = site.provider.login('bob')
          bob.then((given) => tokens.set(given)).then(() => response.json({}), next)
        })
      },
    })
    const visitor = await site.loggedIn()
    const shown = async () => (await visitor.get('/session')).json.user
    expect(await shown()).toEqual({ sub: 'alice', name: 'the name of alice' })
    await visitor.get('/become-bob')
    await site.provider.down()
    const withoutUserinfo = await shown()
    await site.provider.up()
    expect(withoutUserinfo).toEqual({ sub: 'bob' })
    expect(await shown()).toEqual({ sub: 'bob', name: 'the name of bob' })
    await site.provider.down()
    const known = await shown()
    await site.provider.up()
    expect(known).toEqual({ sub: 'bob', name: 'the name of bob' })
  })
})

describe('onLogin', () => {
  it('gets the tokens and the claims, and the session that the user will have', async () => {
    await start({
      login: {
        onLogin(tokens: LoginTokens, claims: LoginClaims, request: Request) {
          request.session.visits = Number(tokens.access_token !== '' && claims.sub === 'alice')
        },
      } as never,
      routes: (app) =>
        void app.get('/visits', (request, response) => void response.json(request.session.visits)),
    })
    expect((await (await site.loggedIn()).get('/visits')).json).toBe(1)
  })

  it('refuses a user: the tokens are revoked, and nobody is logged in', async () => {
    await start({ login: { onLogin: () => false } })
    const visitor = site.browser()
    const page = await site.step(visitor, await site.begin(visitor))
    expect([page.status, page.text]).toEqual([403, expect.stringContaining('No access')])
    expect((await visitor.get('/')).json).toEqual({ loggedIn: false })
    expect(site.failures).toMatchObject([{ reason: 'refused' }])
    expect(site.provider.revocations).toHaveLength(1)
  })

  it.each([
    ['a visitor', []],
    ['another user', ['/login?user=bob']],
  ])('leaves no user in the session when it throws at the login of %s', async (_, earlier) => {
    await start({
      login: {
        authorization: ({ query }: Request) => ({
          scope: SCOPE,
          prompt: 'login consent',
          login_hint: query.user,
        }),
        onLogin(_: LoginTokens, claims: LoginClaims, request: Request) {
          note(claims, request)
          if (claims.sub === 'alice') throw new Error('this account is locked')
        },
      } as never,
      routes: accountRoute,
    })
    const visitor = site.browser()
    for (const path of earlier) await site.step(visitor, await site.begin(visitor, path))
    const other = site.browser()
    if (earlier.length > 0) other.setCookie('connect.sid', visitor.cookie('connect.sid')!)
    expect((await site.step(other, await site.begin(other, '/login?user=alice'))).status).toBe(500)
    expect((await other.get('/account')).json).toBeNull()
    expect(site.errors).toMatchObject([{ message: 'this account is locked' }])
  })

  it('leaves the user who was logged in when it throws at another login of this user', async () => {
    let isDown = false
    await start({
      login: {
        onLogin(_: LoginTokens, claims: LoginClaims, request: Request) {
          if (isDown) throw new Error('the database is down')
          note(claims, request)
        },
      } as never,
      routes: accountRoute,
    })
    const visitor = await site.loggedIn()
    isDown = true
    expect((await site.step(visitor, await site.begin(visitor))).status).toBe(500)
    expect((await visitor.get('/account')).json).toBe('alice')
    expect((await visitor.get('/')).json).toEqual({ loggedIn: true })
  })

  it('leaves no user in the session when it refuses and the grant store is down', async () => {
    const grants = failingGrants()
    let refuses = false
    await start({
      tokens: { grants: grants.store },
      login: {
        onLogin(_: LoginTokens, claims: LoginClaims, request: Request) {
          note(claims, request)
          if (refuses) grants.goAway()
          return !refuses
        },
      } as never,
      routes: accountRoute,
    })
    const visitor = await site.loggedIn()
    const callback = await site.begin(visitor)
    refuses = true
    const { status } = await site.step(visitor, callback)
    grants.comeBack()
    expect([status, site.errors]).toMatchObject([503, [{ code: 'ERR_GRANT_STORE' }]])
    expect((await visitor.get('/account')).json).toBeNull()
  })
})
