import { afterEach, describe, expect, it, jest } from '@jest/globals'
import type { Request } from 'express'
import type { LoginClaims, LoginTokens } from '../../lib/login.js'
import { type LoginSite, type LoginSiteOptions, startLoginSite } from '../helpers/login-site.js'

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
      routes(app) {
        app.get('/refresh', (request, response, next) => {
          request.tokens
            .getAccessToken()
            .then(({ token }) => request.tokens.getAccessToken({ rejected: token }))
            .then(() => response.json({}), next)
        })
      },
    })
    const visitor = await site.loggedIn()
    expect((await visitor.get('/session')).json.user).toEqual({ sub: 'alice', name: 'Alice' })
    name = 'Alice B.'
    expect((await visitor.get('/session')).json.user.name).toBe('Alice')
    await visitor.get('/refresh')
    expect(site.provider.refreshes()).toBe(1)
    expect((await visitor.get('/session')).json.user.name).toBe('Alice B.')
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
})
