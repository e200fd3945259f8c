import { describe, expect, it } from '@jest/globals'
import { ConfigurationError, requireTokens } from '../../lib/index.js'
import { requireTokens as requireTokensInKoa } from '../../lib/koa.js'
import type { AnySessionTokensOptions } from '../../lib/middleware/options.js'
import { startKoaSite } from '../helpers/koa-site.js'
import { recordingGrants, type Site, sharedSessions } from '../helpers/site.js'
import { HOUR_MS, testSites } from '../helpers/test-sites.js'

const { server, start, closing, loggedIn } = await testSites()

const MINUTE_MS = 60_000

type Options = Parameters<typeof requireTokens>[0]

/** A site with `/poll`, which refreshes nothing, and `/token`, which does. */
async function startPolled(
  tokens: Partial<AnySessionTokensOptions> = {},
  options: Options = {},
): Promise<Site> {
  const site = await start({ tokens, store: sessions() })
  servePoll(site, options)
  return site
}

const sessions = sharedSessions()

function servePoll(site: Site, options: Options = {}): void {
  const guard = requireTokens({ refresh: false, ...options })
  site.handle('/poll', async (request, response) => {
    if ('page' in request.query) request.headers['sec-fetch-mode'] = 'navigate'
    const passed = await new Promise<boolean>((resolve, reject) => {
      response.once('finish', () => resolve(false))
      void guard(request, response, (error?: unknown) => (error ? reject(error) : resolve(true)))
    })
    return passed ? request.tokens.getAccessToken() : undefined
  })
}

describe('requireTokens({ refresh: false })', () => {
  it('S87 serves a valid token, never refreshes, and the next request of another route refreshes', async () => {
    const site = await startPolled()
    const tab = await loggedIn(site)
    const requests = server.tokenRequests.length
    const { token } = (await tab.get('/token')).json
    // Also when the token expires soon, and another route would wait for a refresh.
    for (const minutes of [0, 30, 29.5]) {
      site.clock.advance(minutes * MINUTE_MS)
      expect((await tab.get('/poll')).json.token).toBe(token)
    }
    site.clock.advance(MINUTE_MS)
    for (let n = 0; n < 3; n++) expect((await tab.get('/poll')).status).toBe(401)
    expect(server.tokenRequests.length).toBe(requests)
    expect(site.events).toEqual([])
    expect((await tab.get('/token')).status).toBe(200)
    expect((await tab.get('/poll')).status).toBe(200)
    expect(server.tokenRequests.length).toBe(requests + 1)
  })

  it('S87 a poll does not refresh ahead of expiry', async () => {
    const site = await startPolled({ leewayMs: 10_000, refreshAheadMs: 60_000 })
    const tab = await loggedIn(site)
    const requests = server.tokenRequests.length
    site.clock.advance(59.5 * MINUTE_MS)
    for (let n = 0; n < 3; n++) expect((await tab.get('/poll')).status).toBe(200)
    await site.middleware.close()
    expect(server.tokenRequests.length).toBe(requests)
  })

  it.each(['session', 'store'] as const)(
    "S87 keep: '%s': a poll gets what another process has refreshed",
    async (keep) => {
      const grants = recordingGrants()
      const [one, two] = await Promise.all([0, 1].map(() => startPolled({ grants, keep })))
      const tab = await loggedIn(one!)
      for (const { clock } of [one!, two!]) clock.advance(HOUR_MS)
      const { token } = (await tab.get('/token')).json
      grants.forget()
      expect((await two!.visitorOf(tab).get('/poll')).json.token).toBe(token)
      expect(grants.calls).not.toContain('lease')
      grants.forget()
      expect((await two!.visitorOf(tab).get('/poll')).json.token).toBe(token)
      expect(grants.calls).toEqual([])
    },
  )

  it('S87 the response of an API that rejects the token is passed on, without a refresh', async () => {
    const site = await startPolled()
    let calls = 0
    site.handle('/api', (_request, response) => {
      calls++
      response.status(401).set('WWW-Authenticate', 'Bearer error="invalid_token"')
      return {}
    })
    const guard = requireTokens({ refresh: false })
    site.handle('/call', async (request, response) => {
      await guard(request, response, () => {})
      return { status: (await request.tokens.fetch({ baseURL: site.url })('/api')).status }
    })
    const tab = await loggedIn(site)
    const requests = server.tokenRequests.length
    expect((await tab.get('/call')).json).toEqual({ status: 401 })
    expect([calls, server.tokenRequests.length]).toEqual([1, requests])
  })

  it('S87 without a valid token a page is redirected to the login', async () => {
    const site = await startPolled({}, { loginPath: '/in' })
    const tab = await loggedIn(site)
    site.clock.advance(HOUR_MS)
    const answer = await tab.get('/poll?page')
    expect([answer.status, answer.headers.get('location')]).toEqual([302, '/in?returnTo=%2Fpoll%3Fpage'])
  })

  it('S87 with user: optional, a call carries no token then', async () => {
    const site = await startPolled()
    const guard = requireTokens({ refresh: false, user: 'optional' })
    site.handle('/api', ({ headers }) => ({ authorization: headers.authorization ?? null }))
    site.handle('/call', async (request, response) => {
      await guard(request, response, () => {})
      return (await request.tokens.axios({ baseURL: site.url }).get('/api')).data
    })
    const tab = await loggedIn(site)
    expect((await tab.get('/call')).json.authorization).toMatch(/^Bearer /)
    site.clock.advance(HOUR_MS)
    expect((await tab.get('/call')).json.authorization).toBeNull()
  })

  it('S87 in Koa', async () => {
    const site = closing(await startKoaSite(server))
    const guard = requireTokensInKoa({ refresh: false })
    site.handle('/poll', async (ctx) => {
      let passed = false
      await guard(ctx as never, async () => {
        passed = true
      })
      return passed ? ctx.tokens.getAccessToken() : ctx.body
    })
    const tab = site.browser()
    await site.login(tab)
    const requests = server.tokenRequests.length
    expect((await tab.get('/poll')).status).toBe(200)
    site.clock.advance(HOUR_MS)
    expect((await tab.get('/poll')).status).toBe(401)
    expect(server.tokenRequests.length).toBe(requests)
  })

  it("has no meaning with user: 'none'", () => {
    expect(() => requireTokens({ user: 'none', refresh: false })).toThrow(ConfigurationError)
    expect(() => requireTokens({ refresh: 'no' as never })).toThrow(/`refresh` must be true or false/)
  })
})
