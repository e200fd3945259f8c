import { webcrypto } from 'node:crypto'
import { inspect } from 'node:util'
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals'
import { calculateJwkThumbprint, decodeJwt, decodeProtectedHeader, type JWK } from 'jose'
import * as client from 'openid-client'
import { memoryGrantStore } from '../../lib/grants/memory-grant-store.js'
import { privateKeyJwt, requireTokens } from '../../lib/index.js'
import type { GivenDpopKey } from '../../lib/oauth/dpop/keys.js'
import { bearerProxy } from '../../lib/proxy.js'
import type { SessionAdapter } from '../../lib/sessions/session-adapter.js'
import { type AuthorizationServer, startAuthorizationServer } from '../helpers/authorization-server.js'
import type { Browser } from '../helpers/browser.js'
import { testClock } from '../helpers/clock.js'
import { type DpopApi, startDpopApi } from '../helpers/dpop-api.js'
import { callUserinfo, dpopLogin, SEALING_KEY, startDpopSite } from '../helpers/dpop-site.js'
import { type Site, type SiteOptions, sharedSessions, startSite } from '../helpers/site.js'

const HOUR_MS = 3_600_000

let server: AuthorizationServer
let sites: Site[] = []
let apis: DpopApi[] = []

beforeEach(() => {
  sites = []
  apis = []
})
afterEach(async () => {
  for (const site of sites) await site.close()
  for (const api of apis) await api.close()
  await server.close()
})

async function siteWith(options: SiteOptions = {}): Promise<Site> {
  const site = await startDpopSite(server, options)
  sites.push(site)
  return site
}

async function apiOf(of: AuthorizationServer): Promise<DpopApi> {
  const api = await startDpopApi(of)
  apis.push(api)
  return api
}

const proofs = () => server.tokenRequests.map(({ dpop }) => dpop ?? 'none')
const thumbprintIn = (proof: string) => calculateJwkThumbprint(decodeProtectedHeader(proof).jwk as JWK)
const tokenOf = async (browser: Browser) => (await browser.get('/token')).json

/** The private keys among the values that properties and getters of an object lead to. */
function keysIn(value: unknown, depth = 4): string[] {
  if (typeof value !== 'object' || value === null || depth === 0) return []
  if ('kty' in value && 'd' in value) return ['a private key']
  const names = new Set<string>()
  for (let one: object | null = value; one && one !== Object.prototype; one = Object.getPrototypeOf(one)) {
    for (const name of Object.getOwnPropertyNames(one)) names.add(name)
  }
  return [...names].flatMap((name) => {
    try {
      return keysIn((value as Record<string, unknown>)[name], depth - 1)
    } catch {
      // A getter may refuse.
      return []
    }
  })
}

describe.each([undefined, 'offered', 'required'] as const)('with nonces %s at the server', (dpopNonces) => {
  beforeEach(async () => {
    server = await startAuthorizationServer({ ...(dpopNonces && { dpopNonces }) })
  })

  it('S100 a login, a refresh, a call and a revocation prove the possession of one key', async () => {
    const site = await siteWith()
    site.handle('/userinfo', async (request) => {
      const response = await request.tokens.fetch({ baseURL: server.issuer })('/me')
      return { status: response.status, body: await response.json() }
    })
    const browser = site.browser()
    const thumbprint = await dpopLogin(server, browser)
    const first = await tokenOf(browser)
    expect(first.tokenType).toBe('DPoP')
    expect((await browser.get('/userinfo')).json).toEqual({ status: 200, body: { sub: 'user' } })

    const second = (await browser.get(`/token?rejected=${first.token}`)).json
    expect(second).toMatchObject({ tokenType: 'DPoP' })
    expect(second.token).not.toBe(first.token)
    expect((await browser.get('/userinfo')).json.status).toBe(200)
    expect((await browser.get('/logout')).status).toBe(200)

    // The first request of a process has no nonce, so it is sent twice.
    expect(server.tokenRequests).toHaveLength(dpopNonces === 'required' ? 3 : 2)
    for (const proof of [...proofs(), ...server.revocations.map(({ dpop }) => dpop!)]) {
      expect(await thumbprintIn(proof)).toBe(thumbprint)
      expect(decodeProtectedHeader(proof)).toMatchObject({ typ: 'dpop+jwt', alg: 'ES256' })
      expect(JSON.stringify(decodeProtectedHeader(proof))).not.toContain('"d"')
    }
    const claims = proofs().map((proof) => decodeJwt(proof))
    for (const claim of claims) expect(claim).toMatchObject({ htm: 'POST', htu: server.tokenEndpoint })
    expect(new Set(claims.map(({ jti }) => jti)).size).toBe(claims.length)
    expect(server.revocations.map(({ status }) => status)).toEqual([200])
    expect(decodeJwt(server.revocations[0]!.dpop!)).toMatchObject({ htu: server.revocationEndpoint })
    expect(site.errors).toEqual([])
  })
})

describe('a server that wants another nonce', () => {
  it('S100 gets one more request, with a fresh proof and a fresh client assertion', async () => {
    server = await startAuthorizationServer({ dpopNonces: 'required' })
    const { clientId, privateKey } = server.clients.private_key_jwt
    const site = await siteWith({ tokens: { clientId, clientAuthentication: privateKeyJwt(privateKey) } })
    const browser = site.browser()
    await dpopLogin(server, browser, 'user', { client: 'private_key_jwt' })
    expect(server.tokenRequests.map(({ error, status }) => [status, error])).toEqual([
      [400, 'use_dpop_nonce'],
      [200, undefined],
    ])
    const [proofIds, assertionIds] = [
      server.tokenRequests.map(({ dpop }) => decodeJwt(dpop!).jti),
      server.tokenRequests.map(({ parameters }) => decodeJwt(parameters.get('client_assertion')!).jti),
    ]
    expect(new Set(proofIds).size).toBe(2)
    expect(new Set(assertionIds).size).toBe(2)
    const codes = server.tokenRequests.map(({ parameters }) => parameters.get('code'))
    expect(new Set(codes).size).toBe(1)
  })
})

describe("the client's own token", () => {
  it.each([undefined, 'required'] as const)(
    'S100 S104 is bound to a key, with nonces %s',
    async (dpopNonces) => {
      server = await startAuthorizationServer({
        grantTypes: ['client_credentials'],
        ...(dpopNonces && { dpopNonces }),
      })
      const api = await apiOf(server)
      const site = await siteWith()
      const { client } = site.middleware
      const { token, tokenType } = await client.getAccessToken()
      expect(tokenType).toBe('DPoP')
      const responses = [
        await client.fetch({ baseURL: api.url })('/reports'),
        await client.axios({ baseURL: api.url }).post('/reports', { total: 1 }),
      ]
      expect(responses.map(({ status }) => status)).toEqual([200, 200])
      const request = { method: 'GET', url: `${api.url}/own?page=2` }
      const headers = { authorization: `DPoP ${token}`, dpop: await client.dpopProof(request) }
      expect((await fetch(request.url, { headers })).status).toBe(200)
      // A stolen token has no proof.
      expect((await fetch(request.url, { headers: { authorization: `DPoP ${token}` } })).status).toBe(401)
      expect((await fetch(request.url, { headers })).status).toBe(401)
      expect(new Set(await Promise.all(proofs().map(thumbprintIn))).size).toBe(1)
    },
  )

  it('S100 S104 on a route: the calls carry its proofs, and not the key of the user', async () => {
    server = await startAuthorizationServer({ grantTypes: ['client_credentials'] })
    const api = await apiOf(server)
    const site = await siteWith()
    site.app.use('/api', requireTokens({ user: 'client' }), bearerProxy({ target: api.url }))
    const browser = site.browser()
    const ofUser = await dpopLogin(server, browser)
    expect((await browser.get('/api/prices')).status).toBe(200)
    expect(api.verdicts).toEqual(['ok'])
    expect(await thumbprintIn(String(api.requests[0]!.headers.dpop))).not.toBe(ofUser)
  })
})

describe('a thief', () => {
  beforeEach(async () => {
    server = await startAuthorizationServer()
  })

  it('S100 gets nothing by a stolen token, a copied proof, or a proof by another key', async () => {
    const site = await siteWith()
    site.handle('/proof', (request) => {
      const { url } = request.body as { url: string }
      return request.tokens.dpopProof({ method: 'GET', url })
    })
    const browser = site.browser()
    const thief = site.browser()
    await dpopLogin(server, browser)
    await dpopLogin(server, thief, 'thief')
    const { token } = await tokenOf(browser)
    const proofOf = async (who: Browser, url: string) => (await who.post('/proof', { url })).json as string
    const url = `${server.issuer}/me`

    const dpop = await proofOf(browser, url)
    const authorization = `DPoP ${token}`
    expect((await callUserinfo(server, { authorization, dpop })).status).toBe(200)
    const refused: Record<string, string>[] = [
      { authorization: `Bearer ${token}` },
      { authorization },
      { authorization, dpop },
      { authorization, dpop: await proofOf(browser, `${server.issuer}/other`) },
      { authorization, dpop: await proofOf(thief, url) },
    ]
    for (const headers of refused) {
      const response = await callUserinfo(server, headers)
      expect([400, 401]).toContain(response.status)
    }
  })

  it('S61 S100 no property of req.tokens, and of what it leads to, shows the key', async () => {
    const site = await siteWith()
    const browser = site.browser()
    await dpopLogin(server, browser)
    const shown: string[] = []
    site.handle('/look', ({ tokens, session }) => {
      for (const value of [tokens, tokens.client, session, site.middleware]) {
        shown.push(...keysIn(value), inspect(value, { depth: 20, getters: true, showHidden: true }))
      }
    })
    expect((await browser.get('/look')).status).toBe(200)
    expect(shown.join('\n')).not.toMatch(/"?kty"?:|a private key/)
  })

  it('S61 S100 finds no key in the session store, and none of events, errors and requests shows one', async () => {
    const site = await siteWith()
    const browser = site.browser()
    await browser.get('/begin')
    const begun = JSON.stringify(await site.stored(browser))
    await dpopLogin(server, browser)
    site.clock.advance(2 * HOUR_MS)
    await tokenOf(browser)
    expect((site.errors[0] as Error).message).toContain('invalid_dpop_proof')
    const stored = JSON.stringify(await site.stored(browser))
    const keys = site.mounted.manager.tokensOf(fakeSession(JSON.parse(stored).tokens))!
      .dpopKey as unknown as Record<string, string>
    expect(keys.d).toHaveLength(43)
    const shown = inspect([begun, stored, site.events, site.errors], { depth: 20 })
    for (const secret of [keys.d!, keys.x!, 'keyOfNextLogin', ...proofs()]) {
      expect(shown).not.toContain(secret)
    }
  })
})

/** A session that holds a copy, for reading it. */
function fakeSession(copy: string): SessionAdapter {
  return { read: () => copy, lastKnown: copy, isCookieBased: false } as SessionAdapter
}

describe('a clock that is off', () => {
  it('S100 is met by a nonce of the server, and reported', async () => {
    server = await startAuthorizationServer({ dpopNonces: 'offered' })
    const clock = testClock()
    clock.jump(HOUR_MS)
    const site = await siteWith({ clock })
    const browser = site.browser()
    await dpopLogin(server, browser)
    expect((await browser.get('/token')).json.tokenType).toBe('DPoP')
    expect(site.events).toMatchObject([{ type: 'clock_off', origin: server.issuer }])
    const [event] = site.events as unknown as { offMs: number }[]
    expect(Math.abs(event!.offMs - HOUR_MS)).toBeLessThan(60_000)
  })

  it('S100 fails a refresh without nonces, which logs no user out', async () => {
    server = await startAuthorizationServer()
    const clock = testClock()
    const site = await siteWith({ clock })
    const browser = site.browser()
    await dpopLogin(server, browser)
    const { token } = await tokenOf(browser)
    clock.jump(-HOUR_MS)
    expect((await browser.get(`/token?rejected=${token}`)).json).toMatchObject({ code: 'ERR_TOKEN_ENDPOINT' })
    expect(site.events.map(({ type }) => type)).toContain('clock_off')
    clock.jump(HOUR_MS)
    expect((await tokenOf(browser)).token).toBe(token)
    expect(server.endedGrants).toEqual([])
  })
})

describe('the key of the next login', () => {
  beforeEach(async () => {
    server = await startAuthorizationServer()
  })

  it('S100 is the same in two tabs, which both log in', async () => {
    const site = await siteWith()
    const browser = site.browser()
    await browser.get('/begin')
    const [one, two] = await Promise.all(['a', 'b'].map(async () => (await browser.get('/begin')).json))
    expect(one).toBe(two)
    for (const account of ['first', 'second']) {
      const grant = await server.authorize(account, { dpopJkt: one })
      expect((await browser.post('/callback', grant)).status).toBe(200)
    }
    expect((await tokenOf(browser)).tokenType).toBe('DPoP')
  })

  it('S100 stays while the app saves its session, and when it regenerates the session before acquire()', async () => {
    const site = await siteWith({ session: { resave: true } })
    site.handle('/save', (request) => {
      request.session.views = 1
    })
    site.handle('/callback', async (request) => {
      await new Promise((resolve) => request.session.regenerate(resolve))
      await request.tokens.acquire(request.body)
    })
    const browser = site.browser()
    expect((await browser.get('/begin')).status).toBe(200)
    await browser.get('/save')
    expect((await browser.get('/token')).json.code).toBe('ERR_NO_TOKENS')
    expect(site.events).toEqual([])
    await dpopLogin(server, browser)
    expect((await tokenOf(browser)).tokenType).toBe('DPoP')
  })

  it('S100 is gone with the logout: the next login has another one', async () => {
    const site = await siteWith()
    const browser = site.browser()
    const first = await dpopLogin(server, browser)
    expect((await browser.get('/begin')).json).toBe(first)
    await browser.post('/logout')
    expect((await browser.get('/begin')).json).not.toBe(first)
  })

  it('S100 acquire() without dpopThumbprint() makes one', async () => {
    const site = await siteWith()
    const browser = site.browser()
    await browser.post('/callback', await server.authorize('user'))
    expect((await tokenOf(browser)).tokenType).toBe('DPoP')
  })

  it.each(['EdDSA', 'PS256'] as const)('S100 signs with %s', async (alg) => {
    const site = await siteWith({ tokens: { dpop: { alg } } })
    const browser = site.browser()
    await dpopLogin(server, browser)
    expect(decodeProtectedHeader(proofs()[0]!)).toMatchObject({ alg })
    expect((await tokenOf(browser)).tokenType).toBe('DPoP')
  })
})

describe('a session from before the option', () => {
  it('S100 keeps its bearer token, and its next refresh binds the tokens to a key', async () => {
    server = await startAuthorizationServer({ accessTokenTtl: 60 })
    const before = await startSite(server, { tokens: { encryptionKeys: [SEALING_KEY] } })
    sites.push(before)
    const old = before.browser()
    await before.login(old)
    expect((await tokenOf(old)).tokenType).toBe('Bearer')

    const after = await siteWith({ store: before.store.store })
    const browser = after.visitorOf(old)
    expect((await tokenOf(browser)).tokenType).toBe('Bearer')
    const thumbprint = (await browser.get('/begin')).json
    expect((await tokenOf(browser)).tokenType).toBe('DPoP')
    expect(await thumbprintIn(proofs().at(-1)!)).toBe(thumbprint)
    expect(server.refreshes()).toBe(1)
  })
})

describe("keep: 'store'", () => {
  it('S100 the session holds a reference, and the key is with the tokens', async () => {
    server = await startAuthorizationServer()
    const grants = memoryGrantStore()
    const openSessions = sharedSessions()
    const tokens = { keep: 'store', grants } as const
    const one = await siteWith({ tokens, store: openSessions() })
    const other = await siteWith({ tokens, store: openSessions() })
    const browser = one.browser()
    const thumbprint = await dpopLogin(server, browser)
    const visitor = other.visitorOf(browser)
    expect((await visitor.get('/begin')).json).toBe(thumbprint)
    const { token } = await tokenOf(visitor)
    await visitor.get(`/token?rejected=${token}`)
    expect(await thumbprintIn(proofs().at(-1)!)).toBe(thumbprint)
  })
})

describe('set(tokens, { dpopKey })', () => {
  beforeEach(async () => {
    server = await startAuthorizationServer()
  })

  async function loggedInBy(key: GivenDpopKey, pair: webcrypto.CryptoKeyPair) {
    const site = await siteWith()
    const { clientId, clientSecret } = server.clients.client_secret_basic
    const config = new client.Configuration(
      { issuer: server.issuer, token_endpoint: server.tokenEndpoint },
      clientId,
      { client_secret: clientSecret, id_token_signed_response_alg: 'ES256' },
      client.ClientSecretBasic(clientSecret),
    )
    client.allowInsecureRequests(config)
    const grant = await server.authorize('user')
    const tokens = await client.genericGrantRequest(
      config,
      'authorization_code',
      { code: grant.code, redirect_uri: grant.redirect_uri, code_verifier: grant.code_verifier },
      { DPoP: client.getDPoPHandle(config, pair) },
    )
    site.handle('/set', (request) => request.tokens.set(tokens, { dpopKey: key }))
    const browser = site.browser()
    const { status } = await browser.get('/set')
    return { site, browser, status }
  }

  it("S100 takes openid-client's key pair: the tokens are refreshed with it", async () => {
    const pair = await client.randomDPoPKeyPair('ES256', { extractable: true })
    const { browser, status } = await loggedInBy(pair, pair)
    expect(status).toBe(200)
    const { token, tokenType } = await tokenOf(browser)
    expect(tokenType).toBe('DPoP')
    await browser.get(`/token?rejected=${token}`)
    const jwk = await webcrypto.subtle.exportKey('jwk', pair.publicKey)
    expect(await thumbprintIn(proofs().at(-1)!)).toBe(await calculateJwkThumbprint(jwk as JWK))
    expect(server.refreshes()).toBe(1)
  })

  it('S100 says how to make a key that can be stored', async () => {
    const pair = await client.randomDPoPKeyPair('ES256')
    const { site, status } = await loggedInBy(pair, pair)
    expect(status).toBe(500)
    expect((site.errors[0] as Error).message).toContain('extractable: true')
  })

  it('S100 refuses tokens without their key, and bearer tokens, unless the app accepts them', async () => {
    const site = await siteWith()
    const lenient = await siteWith({ tokens: { dpop: { bearer: 'accept' } } })
    const bound = { access_token: 'a-bound-token', token_type: 'dpop', expires_in: 60 }
    for (const one of [site, lenient]) {
      expect((await one.browser().post('/login', bound)).json.message).toContain('set(tokens, { dpopKey })')
    }
    const bearer = { access_token: 'a-bearer-token', token_type: 'bearer', expires_in: 60 }
    expect((await site.browser().post('/login', bearer)).json.code).toBe('ERR_INVALID_TOKEN_RESPONSE')
    const browser = lenient.browser()
    expect((await browser.post('/login', bearer)).status).toBe(200)
    expect((await tokenOf(browser)).tokenType).toBe('bearer')
  })
})
