import { X509Certificate } from 'node:crypto'
import { Agent } from 'node:https'
import { inspect } from 'node:util'
import { afterEach, describe, expect, it } from '@jest/globals'
import { type ClientAuthentication, selfSignedTlsClientAuth, tlsClientAuth } from '../../lib/index.js'
import { clients } from '../helpers/authorization-server.js'
import type { Browser } from '../helpers/browser.js'
import { certificate } from '../helpers/certificate.js'
import {
  type Certificate,
  issuedClient,
  type MtlsServer,
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

  it.each<[string, unknown, RegExp]>([
    ['nothing', undefined, /tlsClientAuth: there is no certificate/],
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
    expect(() => tlsClientAuth(given as never)).toThrow(/Give both in PEM: tlsClientAuth\(\{ cert, key \}\)/)
  })
})
