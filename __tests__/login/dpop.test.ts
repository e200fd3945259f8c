import { afterEach, describe, expect, it } from '@jest/globals'
import { calculateJwkThumbprint, decodeJwt, decodeProtectedHeader, type JWK } from 'jose'
import { customFetch } from 'openid-client'
import { type LoginSite, type LoginSiteOptions, NAVIGATION, startLoginSite } from '../helpers/login-site.js'

const sites: LoginSite[] = []
afterEach(async () => {
  for (const site of sites.splice(0)) await site.close()
})

/** A site whose tokens are bound to keys, and the forms that its login has sent. */
async function start(options: LoginSiteOptions = {}) {
  const sent: URLSearchParams[] = []
  const site = await startLoginSite({
    ...options,
    tokens: { dpop: true, ...options.tokens },
    login: {
      ...options.login,
      configure(configuration) {
        configuration[customFetch] = (url, request) => {
          if (request.body instanceof URLSearchParams) sent.push(request.body)
          return fetch(url, request as RequestInit)
        }
      },
    },
    routes(app) {
      app.get('/token', async (request, response) => response.json(await request.tokens.getAccessToken()))
      app.get('/me', async (request, response) => {
        const me = await request.tokens.fetch({ baseURL: site.provider.issuer })('/me')
        response.status(me.status).json(await me.json())
      })
    },
  })
  sites.push(site)
  return { site, sent }
}

const thumbprintIn = (proof: string) => calculateJwkThumbprint(decodeProtectedHeader(proof).jwk as JWK)

describe.each([true, false])('S100 S110 login() with DPoP, pushedRequests: %s', (pushedRequests) => {
  it.each([undefined, 'required'] as const)(
    'sends dpop_jkt by itself, and redeems the code with the key, with nonces %s',
    async (dpopNonces) => {
      const { site, sent } = await start({
        login: { pushedRequests },
        provider: dpopNonces ? { dpopNonces } : {},
      })
      const visitor = site.browser()
      const page = await site.step(visitor, '/login?returnTo=/token')
      const location = new URL(page.headers.get('location')!)
      const jkt = (pushedRequests ? sent[0]! : location.searchParams).get('dpop_jkt')
      expect(jkt).toMatch(/^[\w-]{43}$/)
      expect(location.searchParams.has('dpop_jkt')).toBe(!pushedRequests)

      await site.step(visitor, await site.begin(visitor, '/login?returnTo=/token'))
      expect((await visitor.get('/token')).json).toMatchObject({ tokenType: 'DPoP' })
      expect((await visitor.get('/me')).status).toBe(200)
      const proofs = site.provider.tokenRequests.map(({ dpop }) => dpop!)
      expect(proofs).toHaveLength(dpopNonces ? 2 : 1)
      const redeemed = await thumbprintIn(proofs.at(-1)!)
      const announced = pushedRequests
        ? sent
            .filter((form) => form.has('dpop_jkt'))
            .at(-1)!
            .get('dpop_jkt')
        : redeemed
      expect(redeemed).toBe(announced)
      // Each login has a key of its own.
      expect(redeemed).not.toBe(jkt)
    },
  )
})

describe('S100 the key of a login that is under way', () => {
  it('is not readable in the cookie, and refreshes go on with it', async () => {
    const { site } = await start()
    const visitor = await site.loggedIn()
    const [first] = site.provider.tokenRequests
    const { token } = (await visitor.get('/token')).json
    await visitor.get('/token')
    const stored = JSON.stringify(Object.values((site.store as unknown as { sessions: object }).sessions))
    expect(stored).not.toMatch(/"d\\*":|dpopKey/)
    expect(decodeJwt(first!.dpop!)).toMatchObject({ htm: 'POST', htu: site.provider.tokenEndpoint })
    expect(stored).not.toContain(token)
  })

  it.each(['EdDSA', 'PS256'] as const)('with %s and a long path, fits into a cookie', async (alg) => {
    const { site } = await start({ tokens: { dpop: { alg } } })
    const visitor = site.browser()
    const page = await site.step(visitor, `/login?returnTo=/${'a'.repeat(998)}`)
    const [cookie] = page.headers.getSetCookie().filter((it) => it.includes('login-'))
    expect(cookie!.length).toBeLessThan(4096)
    await site.step(visitor, await site.begin(visitor, '/login?returnTo=/token'))
    expect((await visitor.get('/me')).status).toBe(200)
  })

  it('needs encryptionKeys, in the session too', async () => {
    const { site } = await start({ login: { transactions: 'session', encryptionKeys: false } })
    const page = await site.browser().get('/login', NAVIGATION)
    expect(page.status).toBe(500)
    expect(site.errors).toMatchObject([{ code: 'ERR_CONFIGURATION' }])
    expect(String(site.errors[0])).toContain('Give login() the `encryptionKeys`')
  })

  it('proves userinfo requests, at the login and later', async () => {
    const { site } = await start({ login: { userinfo: true } })
    const visitor = await site.loggedIn('/login?returnTo=/token')
    expect((await visitor.get('/session')).json).toMatchObject({ user: { sub: expect.any(String) } })
    expect(site.failures).toEqual([])
  })

  it('of a provider that issues bearer tokens all the same: the login is refused, unless they are accepted', async () => {
    const plain: LoginSiteOptions['provider'] = {
      configure: (it) => ({ ...it, features: { ...it.features, dPoP: { enabled: false } } }),
    }
    const { site } = await start({ provider: plain })
    const visitor = site.browser()
    const callback = await site.begin(visitor, '/login?returnTo=/token')
    expect((await site.step(visitor, callback)).status).toBe(502)
    expect((await visitor.get('/token')).status).toBe(401)

    const { site: lenient } = await start({ provider: plain, tokens: { dpop: { bearer: 'accept' } } })
    const user = await lenient.loggedIn('/login?returnTo=/token')
    expect((await user.get('/token')).json).toMatchObject({ tokenType: expect.stringMatching(/^bearer$/i) })
  })
})

it('S100 `authorization` must not give dpop_jkt', async () => {
  const { site } = await start({ login: { authorization: () => ({ scope: 'openid', dpop_jkt: 'x' }) } })
  expect((await site.browser().get('/login', NAVIGATION)).status).toBe(500)
  expect(String(site.errors[0])).toContain('It is sent by itself with the option `dpop`')
})
