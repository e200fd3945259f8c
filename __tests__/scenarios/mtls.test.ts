import { X509Certificate } from 'node:crypto'
import { subscribe, unsubscribe } from 'node:diagnostics_channel'
import { Agent } from 'node:https'
import { inspect } from 'node:util'
import { afterEach, describe, expect, it } from '@jest/globals'
import {
  type ClientAuthentication,
  type ClientCertificate,
  clientSecretBasic,
  requireTokens,
  selfSignedTlsClientAuth,
  tlsClientAuth,
} from '../../lib/index.js'
import { bearerProxy } from '../../lib/proxy.js'
import { clients } from '../helpers/authorization-server.js'
import type { Browser } from '../helpers/browser.js'
import { certificate } from '../helpers/certificate.js'
import { startMtlsApi } from '../helpers/mtls-api.js'
import {
  type Certificate,
  issuedClient,
  type MtlsServer,
  RESOURCES,
  selfSignedClient,
  startMtlsServer,
} from '../helpers/mtls-server.js'
import { type Site, startSite } from '../helpers/site.js'

const HOUR_MS = 3_600_000

const closers: (() => Promise<unknown>)[] = []
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close()
})

/** A user with an expired token, at a server that wants the certificate of its client. */
async function visit(
  server: MtlsServer,
  clientAuthentication: ClientAuthentication,
): Promise<{ site: Site; browser: Browser }> {
  closers.push(server.close)
  const unused = {
    tokenEndpoint: '',
    revocationEndpoint: '',
    clients,
    login: () => Promise.reject(new Error('not here')),
  }
  const site = await startSite(unused, {
    tokens: {
      issuer: server.issuer,
      tokenEndpoint: undefined,
      revocationEndpoint: undefined,
      clientId: 'bank',
      clientAuthentication,
      http: { httpsAgent: new Agent({ ca: server.ca }) },
    } as never,
  })
  closers.push(site.close)
  const browser = site.browser()
  const refreshToken = await server.refreshToken('bank')
  const login = { access_token: 'expired', token_type: 'Bearer', expires_at: 1, refresh_token: refreshToken }
  expect((await browser.post('/login', login)).status).toBe(200)
  return { site, browser }
}

const fingerprint = ({ cert }: Certificate) => new X509Certificate(cert).fingerprint256
const atToken = ({ requests }: MtlsServer) =>
  requests
    .filter(({ path }) => path === '/token')
    .map(({ isAlias, fingerprint }) => ({ isAlias, fingerprint }))

describe('S102 mTLS at the authorization server', () => {
  it('S102 tlsClientAuth: the alias of the token endpoint is used, with the certificate', async () => {
    const own = certificate()
    const server = await startMtlsServer([issuedClient('bank')], { trusted: [own] })
    const { browser } = await visit(server, tlsClientAuth(own))
    expect((await browser.get('/token')).status).toBe(200)
    expect(atToken(server)).toEqual([{ isAlias: true, fingerprint: fingerprint(own) }])
    expect(server.requests[0]).toMatchObject({ isAlias: false, path: '/.well-known/openid-configuration' })
  })

  it('S102 selfSignedTlsClientAuth: a renewed certificate is taken while the process runs', async () => {
    const [first, second] = [certificate(), certificate()]
    let current = first
    const server = await startMtlsServer([selfSignedClient('bank', [first, second])])
    const { site, browser } = await visit(
      server,
      selfSignedTlsClientAuth(async () => current),
    )
    expect((await browser.get('/token')).status).toBe(200)
    current = second
    site.clock.advance(2 * HOUR_MS)
    expect((await browser.get('/token')).status).toBe(200)
    expect(atToken(server).map((it) => it.fingerprint)).toEqual([fingerprint(first), fingerprint(second)])
    expect(site.errors).toEqual([])
  })

  it('S102 a function that fails: the last certificate is used', async () => {
    const own = certificate()
    let fails = false
    const server = await startMtlsServer([selfSignedClient('bank', [own])])
    const source = () => (fails ? Promise.reject(new Error('vault: hush')) : Promise.resolve(own))
    const { site, browser } = await visit(server, selfSignedTlsClientAuth(source))
    expect((await browser.get('/token')).status).toBe(200)
    fails = true
    site.clock.advance(2 * HOUR_MS)
    expect((await browser.get('/token')).status).toBe(200)
  })

  it('S102 a function that fails at once: 503, nothing is sent, and the user stays logged in', async () => {
    const own = certificate()
    let fails = true
    const server = await startMtlsServer([selfSignedClient('bank', [own])])
    const source = () => (fails ? Promise.reject(new Error('vault')) : Promise.resolve(own))
    const { site, browser } = await visit(server, selfSignedTlsClientAuth(source))
    expect((await browser.get('/token')).status).toBe(503)
    expect(atToken(server)).toEqual([])
    fails = false
    site.clock.advance(60_000)
    expect((await browser.get('/token')).status).toBe(200)
  })

  it.each([
    ['another certificate', certificate()],
    ['an expired certificate', certificate(-1)],
  ])('S102 %s: the fault of the client, and the user stays logged in', async (_, wrong) => {
    const own = certificate()
    let current = wrong
    const server = await startMtlsServer([issuedClient('bank')], { trusted: [own] })
    const { site, browser } = await visit(
      server,
      tlsClientAuth(() => current),
    )
    expect((await browser.get('/token')).status).toBe(500)
    expect(site.errors).toMatchObject([{ code: 'ERR_CLIENT_REJECTED', error: 'invalid_client' }])
    expect(site.events.filter(({ type }) => type === 'ended')).toEqual([])
    current = own
    site.clock.advance(120_000)
    expect((await browser.get('/token')).status).toBe(200)
  })

  it('S102 a certificate that the handshake refuses: the same', async () => {
    const own = certificate()
    let current = certificate()
    const server = await startMtlsServer([issuedClient('bank')], { trusted: [own], isStrict: true })
    const { site, browser } = await visit(
      server,
      tlsClientAuth(() => current),
    )
    const { status } = await browser.get('/token')
    expect([500, 503]).toContain(status)
    expect(site.events.filter(({ type }) => type === 'ended')).toEqual([])
    current = own
    site.clock.advance(120_000)
    expect((await browser.get('/token')).status).toBe(200)
    expect(inspect(site.errors, { depth: 20 })).not.toContain('PRIVATE KEY')
  })

  it("S102 S104 the client's own token is requested with the certificate, 50 callers share one request", async () => {
    const own = certificate()
    const server = await startMtlsServer([issuedClient('bank')], { trusted: [own] })
    const { site } = await visit(server, tlsClientAuth(own))
    await Promise.all(Array.from({ length: 50 }, () => site.middleware.client.getAccessToken()))
    expect(atToken(server)).toEqual([{ isAlias: true, fingerprint: fingerprint(own) }])
  })

  it('S10 S101 S102 50 parallel requests on an expired session: 1 refresh', async () => {
    const own = certificate()
    const server = await startMtlsServer([issuedClient('bank')], { trusted: [own] })
    const { browser } = await visit(server, tlsClientAuth(own))
    const responses = await Promise.all(Array.from({ length: 50 }, () => browser.get('/token')))
    expect(new Set(responses.map(({ json }) => json.token)).size).toBe(1)
    expect(atToken(server)).toHaveLength(1)
  })

  it('S15 S102 two resources at once on one refresh token: a token for each, and the last refresh token is kept', async () => {
    const own = certificate()
    const server = await startMtlsServer([issuedClient('bank')], { trusted: [own] })
    const { site, browser } = await visit(server, tlsClientAuth(own))
    const tokens = await Promise.all(
      RESOURCES.map((resource) => browser.get(`/token?resource=${encodeURIComponent(resource)}`)),
    )
    expect(tokens.map(({ status }) => status)).toEqual([200, 200])
    expect(new Set(tokens.map(({ json }) => json.token)).size).toBe(2)
    expect(new Set(await Promise.all(tokens.map(({ json }) => server.boundTo(json.token)))).size).toBe(1)
    site.clock.advance(2 * HOUR_MS)
    expect((await browser.get(`/token?resource=${encodeURIComponent(RESOURCES[0])}`)).status).toBe(200)
    expect(site.events.filter(({ type }) => type === 'ended' || type === 'refresh_failed')).toEqual([])
    expect(atToken(server)).toHaveLength(3)
  })

  it('S12 S102 a session copy from before the refresh: no further refresh', async () => {
    const own = certificate()
    const server = await startMtlsServer([issuedClient('bank')], { trusted: [own] })
    const { site, browser } = await visit(server, tlsClientAuth(own))
    const slow = site.slow('/slow', ({ tokens }) => tokens.getAccessToken())
    const late = browser.get('/slow')
    await slow.reached
    const { token } = (await browser.get('/token')).json
    slow.release()
    expect((await late).json).toMatchObject({ token })
    expect(atToken(server)).toHaveLength(1)
  })

  it.each<[string, unknown, RegExp]>([
    [
      'nothing',
      undefined,
      /tlsClientAuth: the certificate must be an object, or a function that returns one/,
    ],
    ['no key', { cert: certificate().cert }, /`key` is missing/],
    ['no certificate', { key: certificate().key }, /`cert` is missing/],
    [
      'the key of another one',
      { cert: certificate().cert, key: certificate().key },
      /the key is not that of the certificate/,
    ],
    ['texts', { cert: 'a', key: 'b' }, /cannot be read/],
  ])('S102 %s is a ConfigurationError with the cure', (_, given, message) => {
    expect(() => tlsClientAuth(given as never)).toThrow(message)
    expect(() => tlsClientAuth(given as never)).toThrow(
      /Give the certificate and its key in PEM: tlsClientAuth\(\{ cert, key \}\)/,
    )
  })
})

describe('S102 tokens that are bound to the certificate, at an API that checks it', () => {
  /** A user, and an API whose calls may have the certificate. */
  async function visitApi(authentication = tlsClientAuth(own)) {
    const server = await startMtlsServer([issuedClient('bank')], { trusted: [own] })
    const api = await startMtlsApi(server)
    closers.push(api.close)
    const visited = await visit(server, authentication)
    return { ...visited, api, agent: new Agent({ ca: api.own.cert, keepAlive: true }) }
  }
  const own = certificate()
  const statusOf = async (call: Promise<{ readonly status: number }>) => (await call).status

  it('S102 axios: with the certificate, and refused without', async () => {
    const { agent, api, browser, site } = await visitApi()
    const options = { baseURL: api.url, httpsAgent: agent, validateStatus: () => true }
    const call = (clientCertificate: boolean) => {
      site.handle('/call', ({ tokens }) =>
        statusOf(tokens.axios({ ...options, clientCertificate }).get('/a')),
      )
      return browser.get('/call')
    }
    expect((await call(true)).json).toBe(200)
    // The same agent keeps the connection with the certificate, and must not lend it.
    expect((await call(false)).json).toBe(401)
    expect((await call(true)).json).toBe(200)
    expect(api.certificates[0]).toBe(fingerprint(own))
    expect(api.certificates.filter((it) => it === undefined).length).toBeGreaterThan(0)
  })

  it('S102 fetch(): with the certificate, over one dispatcher, and refused without', async () => {
    const { api, browser, site } = await visitApi()
    const made: unknown[] = []
    const clientCertificate = ({ cert, key }: ClientCertificate) => {
      const dispatcher = new (platformAgent())({ connect: { ca: api.own.cert, cert, key } })
      made.push(dispatcher)
      return dispatcher
    }
    const trusting = new (platformAgent())({ connect: { ca: api.own.cert } })
    site.handle('/call', ({ tokens }) =>
      statusOf(
        tokens.fetch({ baseURL: api.url, clientCertificate })('/a', { dispatcher: trusting } as never),
      ),
    )
    site.handle('/plain', ({ tokens }) =>
      statusOf(tokens.fetch({ baseURL: api.url })('/a', { dispatcher: trusting } as never)),
    )
    expect((await browser.get('/call')).json).toBe(200)
    expect((await browser.get('/plain')).json).toBe(401)
    expect((await browser.get('/call')).json).toBe(200)
    expect(made).toHaveLength(1)
    expect(api.certificates[0]).toBe(fingerprint(own))
    expect(api.certificates.at(-1)).toBe(fingerprint(own))
    const client = site.middleware.client.fetch({ baseURL: api.url, clientCertificate })
    expect((await client('/a')).status).toBe(200)
    expect(made).toHaveLength(1)
  })

  it('S102 fetch(), a certificate that is renewed: the next call has the new one', async () => {
    let current = own
    const { api, browser, site } = await visitApi(tlsClientAuth(() => current))
    const clientCertificate = ({ cert, key }: ClientCertificate) =>
      new (platformAgent())({ connect: { ca: api.own.cert, cert, key } })
    site.handle('/call', ({ tokens }) =>
      statusOf(tokens.fetch({ baseURL: api.url, replay: 'never', clientCertificate })('/a')),
    )
    expect((await browser.get('/call')).json).toBe(200)
    current = certificate()
    site.clock.advance(61_000)
    await browser.get('/call')
    expect((await browser.get('/call')).json).toBe(401)
    expect(api.certificates.at(-1)).toBe(fingerprint(current))
  })

  it('S102 fetch(), a redirect to an origin that was not named: no certificate', async () => {
    const { api, browser, site } = await visitApi()
    const other = await startMtlsApi({ boundTo: async () => undefined }, api.own)
    closers.push(other.close)
    api.elsewhere = `${other.url}/a`
    const agent = (more: object) => new (platformAgent())({ connect: { ca: api.own.cert, ...more } })
    const clientCertificate = ({ cert, key }: ClientCertificate) => agent({ cert, key })
    const dispatcher = agent({})
    site.handle('/call', ({ tokens }) =>
      statusOf(tokens.fetch({ baseURL: api.url, clientCertificate })('/elsewhere', { dispatcher } as never)),
    )
    expect((await browser.get('/call')).json).toBe(401)
    expect(api.certificates).toEqual([fingerprint(own)])
    expect(other.certificates).toEqual([undefined])
  })

  it('S102 a call that is observed has the certificate as well', async () => {
    const { agent, api, browser, site } = await visitApi()
    const observe = () => {}
    subscribe('session-token-manager:outbound', observe)
    closers.push(async () => unsubscribe('session-token-manager:outbound', observe))
    const options = {
      baseURL: api.url,
      httpsAgent: agent,
      clientCertificate: true,
      validateStatus: () => true,
    }
    site.handle('/call', ({ tokens }) => statusOf(tokens.axios(options).get('/a')))
    expect((await browser.get('/call')).json).toBe(200)
  })

  it("S102 bearerProxy(), and the client's own token", async () => {
    const { agent, api, browser, site } = await visitApi()
    const proxy = (clientCertificate: boolean) => bearerProxy({ target: api.url, agent, clientCertificate })
    site.app.use('/api', proxy(true))
    site.app.use('/plain', proxy(false))
    site.app.use('/own', requireTokens({ user: 'client' }), proxy(true))
    expect((await browser.get('/api/a')).status).toBe(200)
    expect((await browser.get('/plain/a')).status).toBe(401)
    expect((await browser.get('/own/a')).status).toBe(200)
    const client = site.middleware.client.axios({
      baseURL: api.url,
      httpsAgent: agent,
      clientCertificate: true,
    })
    expect((await client.get('/a')).status).toBe(200)
  })

  it('S102 a redirect to an origin that was not named: no certificate', async () => {
    const { api, browser, site } = await visitApi()
    const other = await startMtlsApi({ boundTo: async () => undefined }, api.own)
    closers.push(other.close)
    api.elsewhere = `${other.url}/a`
    const httpsAgent = new Agent({ ca: api.own.cert })
    const options = { baseURL: api.url, httpsAgent, clientCertificate: true, validateStatus: () => true }
    site.handle('/call', ({ tokens }) => statusOf(tokens.axios(options).get('/elsewhere')))
    expect((await browser.get('/call')).json).toBe(401)
    expect(api.certificates).toEqual([fingerprint(own)])
    expect(other.certificates).toEqual([undefined])
  })

  it('S102 no error and no response shows the key', async () => {
    const { agent, api, browser, site } = await visitApi()
    const shown: unknown[] = []
    site.handle('/call', async ({ tokens }) => {
      const of = (baseURL: string) => tokens.axios({ baseURL, httpsAgent: agent, clientCertificate: true })
      shown.push(await of(api.url).get('/a'))
      await of('https://localhost:1')
        .get('/a')
        .catch((error) => shown.push(error))
    })
    await browser.get('/call')
    expect(shown).toHaveLength(2)
    expect(inspect(shown, { depth: 20, showHidden: true })).not.toContain('PRIVATE KEY')
  })

  it('S102 each misuse is a ConfigurationError with the cure', async () => {
    const { api, site } = await visitApi()
    const { client } = site.middleware
    const clientCertificate = true
    expect(() => client.axios({ baseURL: 'http://localhost:1', clientCertificate })).toThrow(/needs https/)
    expect(() => bearerProxy({ target: 'http://localhost:1', clientCertificate })).toThrow(/needs https/)
    expect(() => client.fetch({ baseURL: api.url, clientCertificate } as never)).toThrow(
      /must be a function that returns a dispatcher of undici/,
    )
    const http = { baseURL: 'http://localhost:1', clientCertificate: () => ({}) }
    expect(() => client.fetch(http)).toThrow(/needs https/)
    const none = client.fetch({ baseURL: api.url, clientCertificate: () => ({}) })
    await expect(none('/a')).rejects.toThrow(/must be a function that returns a dispatcher of undici/)
    const adapter = async () => Promise.reject(new Error('not called'))
    await expect(client.axios({ baseURL: api.url, clientCertificate, adapter }).get('/')).rejects.toThrow(
      /of your own/,
    )
    for (const httpVersion of [2, '2'] as const) {
      const overHttp2 = client.axios({ baseURL: api.url, clientCertificate, httpVersion: httpVersion as 2 })
      await expect(overHttp2.get('/')).rejects.toThrow(/Leave `httpVersion` out/)
    }
    const plain = await startSite(
      {
        tokenEndpoint: 'https://localhost:1/token',
        revocationEndpoint: '',
        clients,
        login: async () => ({}) as never,
      },
      {
        tokens: { clientAuthentication: clientSecretBasic('secret'), revocationEndpoint: undefined } as never,
      },
    )
    closers.push(plain.close)
    plain.handle('/call', ({ tokens }) => tokens.axios({ baseURL: api.url, clientCertificate }).get('/'))
    const visitor = plain.browser()
    await visitor.post('/login', { access_token: 'token', token_type: 'Bearer', expires_in: 3600 })
    expect((await visitor.get('/call')).status).toBe(500)
    expect(String(plain.errors[0])).toContain('the client authenticates without one')
  })
})

interface PlatformAgent {
  new (options: { connect: object }): object
}

/** Returns the platform's own class of dispatchers, which works like `Agent` of the package undici. */
function platformAgent(): PlatformAgent {
  // Jest runs tests in a realm of their own. `fetch` leads to the realm in which the platform keeps its dispatcher.
  const realm = fetch.constructor('return globalThis')()
  return realm[Symbol.for('undici.globalDispatcher.1')].constructor
}
