import { afterAll, afterEach, beforeAll, describe, expect, it } from '@jest/globals'
import { sessionTokens } from '../../lib/index.js'
import { type AuthorizationServer, startAuthorizationServer } from '../helpers/authorization-server.js'
import type { Browser } from '../helpers/browser.js'
import { eventually } from '../helpers/fleet-expectations.js'
import { startTestIssuer, type TestIssuer } from '../helpers/logout-tokens.js'
import { newsHub } from '../helpers/news-hub.js'
import { type Site, sharedSessions, startSite } from '../helpers/site.js'

let server: AuthorizationServer
let issuer: TestIssuer
const open: Site[] = []

async function siteOf(options: Parameters<typeof startSite>[1] = {}): Promise<Site> {
  const site = await startSite(server, options)
  open.push(site)
  return site
}

async function loggedIn(site: Site, user: string): Promise<Browser> {
  const browser = site.browser()
  await site.login(browser, user)
  return browser
}

const statusesAt = (site: Site, browsers: readonly Browser[]) =>
  Promise.all(browsers.map(async (browser) => (await site.browser(browser).get('/token')).status))

const active = (tokens: readonly (string | undefined)[]) =>
  Promise.all(tokens.map((token) => server.isActive(token!)))

describe('S81 end() of sessionTokens()', () => {
  beforeAll(async () => {
    ;[server, issuer] = await Promise.all([startAuthorizationServer(), startTestIssuer()])
  })
  afterEach(() => Promise.all(open.splice(0).map((site) => site.close())))
  afterAll(() => Promise.all([server?.close(), issuer?.server.down()]))

  it('S81 ends every session of a user and no other, at the authorization server too', async () => {
    const site = await siteOf()
    const alices = [await loggedIn(site, 'alice'), await loggedIn(site, 'alice')]
    const bob = await loggedIn(site, 'bob')
    const all = [...alices, bob]
    const refreshTokens = await Promise.all(
      all.map(async (browser) => (await site.storedTokens(browser))?.refreshToken),
    )
    expect(await site.middleware.end({ sub: 'alice' })).toBe(2)
    expect(await statusesAt(site, all)).toEqual([401, 401, 200])
    expect(await active(refreshTokens)).toEqual([false, false, true])
    expect(site.events.filter(({ type }) => type === 'ended')).toEqual([
      expect.objectContaining({ reason: 'logged_out', scope: 'grant', isLocal: true }),
      expect.objectContaining({ reason: 'logged_out', scope: 'grant', isLocal: true }),
    ])
    expect(await site.middleware.end({ sub: 'alice' })).toBe(0)
  })

  it('S81 reaches every process, and finds what another process has logged in', async () => {
    const hub = newsHub()
    const sessions = sharedSessions()
    const start = () => siteOf({ store: sessions(), tokens: { grants: hub.connect().store } })
    const [one, two] = [await start(), await start()]
    const [alice, bob] = [await loggedIn(one, 'alice'), await loggedIn(one, 'bob')]
    expect(await statusesAt(one, [alice, bob])).toEqual([200, 200])
    expect(await two.middleware.end({ sub: 'alice' })).toBe(1)
    await eventually(async () => expect(await statusesAt(one, [alice, bob])).toEqual([401, 200]))
  })

  it('S81 finds a grant after its refreshes, and ends it while a refresh is in flight', async () => {
    const site = await siteOf()
    const alice = await loggedIn(site, 'alice')
    for (const _ of [1, 2]) {
      site.clock.advance(3_600_000)
      expect((await alice.get('/token')).status).toBe(200)
    }
    site.clock.advance(3_600_000)
    const answer = server.holdAnswer()
    const refreshing = alice.get('/token')
    await answer.reached
    const ending = site.middleware.end({ sub: 'alice' })
    await eventually(async () => expect(site.events.at(-1)?.type).toBe('ended'))
    answer.release()
    expect(await ending).toBe(1)
    expect((await refreshing).status).toBe(401)
    expect(site.events.map(({ type }) => type)).toContain('late_tokens_revoked')
  })

  it('S81 ends the logins with a sid alone, and one grant by its id', async () => {
    const site = await siteOf({ tokens: { issuer: issuer.issuer, tokenEndpoint: undefined as never } })
    const login = async (sub: string, sid: string) => {
      const browser = site.browser()
      expect((await browser.post('/login', await issuer.login(sub, { sid }))).status).toBe(200)
      return browser
    }
    const [first, second, third] = [await login('a', '1'), await login('a', '2'), await login('a', '3')]
    expect(await site.middleware.end({ sid: '2' }, 'backchannel_logout')).toBe(1)
    expect(await statusesAt(site, [first, second, third])).toEqual([200, 401, 200])
    const { grantId } = (await site.storedTokens(third))!
    expect(await site.middleware.end({ grantId })).toBe(1)
    expect(await statusesAt(site, [first, second, third])).toEqual([200, 401, 401])
  })

  it('S81 finds no grant of another client', async () => {
    const hub = newsHub()
    const one = await siteOf({ tokens: { grants: hub.connect().store } })
    const other = await siteOf({ tokens: { grants: hub.connect().store, clientId: 'another' } })
    const alice = await loggedIn(one, 'alice')
    expect(await other.middleware.end({ sub: 'alice' })).toBe(0)
    expect((await alice.get('/token')).status).toBe(200)
  })

  it('S81 is logged out here, and rejects, if the authorization server does not revoke', async () => {
    const site = await siteOf()
    const alice = await loggedIn(site, 'alice')
    server.failNextRevocation(503, 5)
    await expect(site.middleware.end({ sub: 'alice' })).rejects.toMatchObject({
      code: 'ERR_TOKEN_ENDPOINT_UNAVAILABLE',
    })
    expect((await alice.get('/token')).status).toBe(401)
    expect(site.events.map(({ type }) => type)).toContain('revocation_failed')
  })

  it.each([
    ['nothing', {}],
    ['two names', { sub: 'a', sid: 'b' }],
    ['an empty name', { sub: '' }],
    ['no text', { sub: 1 }],
    ['an unknown name', { user: 'a' }],
    ['a further name', { sub: 'a', user: 'a' }],
    ['no object', undefined],
    ['a tenant without tenants', { sub: 'a', tenant: 'acme' }],
  ])('S81 refuses %s', async (_, whom) => {
    const site = await siteOf()
    await expect(site.middleware.end(whom as never)).rejects.toMatchObject({ code: 'ERR_CONFIGURATION' })
  })

  it('S81 refuses an unknown reason, and a grant store that cannot find the grants', async () => {
    const { grantsWith: _, ...store } = newsHub().connect().store
    const site = await siteOf({ tokens: { grants: store } })
    for (const [whom, reason] of [
      [{ sub: 'a' }, 'bored'],
      [{ sub: 'a' }, undefined],
    ] as const) {
      await expect(site.middleware.end(whom, reason as never)).rejects.toMatchObject({
        code: 'ERR_CONFIGURATION',
      })
    }
    expect(await site.middleware.end({ grantId: 'unknown' })).toBe(1)
  })

  it('S81 names the tenant, if there are tenants', async () => {
    const { clientId } = server.clients.client_secret_basic
    const tokens = sessionTokens({
      tenant: () => 'acme',
      options: () => ({
        tokenEndpoint: server.tokenEndpoint,
        clientId,
        clientAuthentication: () => ({}) as never,
        encryptionKeys: false,
      }),
    })
    await expect(tokens.end({ sub: 'a' })).rejects.toMatchObject({ code: 'ERR_CONFIGURATION' })
    expect(await tokens.end({ tenant: 'acme', sub: 'a' })).toBe(0)
    await tokens.close()
  })
})
