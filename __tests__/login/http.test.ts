import { generateKeyPairSync } from 'node:crypto'
import { once } from 'node:events'
import { createServer as createProxy } from 'node:http'
import { createServer, Agent as HttpsAgent } from 'node:https'
import { type AddressInfo, connect } from 'node:net'
import { afterEach, describe, expect, it } from '@jest/globals'
import { exportJWK, SignJWT } from 'jose'
import { type HttpOptions, publicClient } from '../../lib/index.js'
import { login } from '../../lib/login.js'
import { certificate } from '../helpers/certificate.js'
import { readBody, send } from '../helpers/http-server.js'
import { LOGIN_KEY, type LoginSite, type LoginSiteOptions, startLoginSite } from '../helpers/login-site.js'

const closing: (() => void)[] = []
let site: LoginSite | undefined

afterEach(async () => {
  await site?.close()
  site = undefined
  for (const close of closing.splice(0)) close()
})

/** A provider over https, whose certificate no process trusts by itself. A code of it is the nonce of its login. */
async function startProvider() {
  const own = certificate()
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  const agents: (string | undefined)[] = []
  const server = createServer(own, async (request, response) => {
    agents.push(request.headers['user-agent'])
    const code = new URLSearchParams(await readBody(request)).get('code')
    const idToken = () =>
      new SignJWT({ nonce: code })
        .setProtectedHeader({ alg: 'ES256' })
        .setIssuer(issuer)
        .setAudience('login-app')
        .setSubject('ann')
        .setIssuedAt()
        .setExpirationTime('1h')
        .sign(privateKey)
    const bodies: Record<string, () => unknown> = {
      '/.well-known/openid-configuration': () => ({
        issuer,
        authorization_endpoint: `${issuer}/auth`,
        token_endpoint: `${issuer}/token`,
        jwks_uri: `${issuer}/jwks`,
        response_types_supported: ['code'],
        id_token_signing_alg_values_supported: ['ES256'],
      }),
      '/jwks': async () => ({ keys: [{ ...(await exportJWK(publicKey)), alg: 'ES256', use: 'sig' }] }),
      '/token': async () => ({
        access_token: 'at',
        token_type: 'Bearer',
        expires_in: 300,
        refresh_token: 'rt',
        id_token: await idToken(),
      }),
    }
    send(response, { status: 200, body: await bodies[request.url ?? '']?.() })
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const issuer = `https://localhost:${(server.address() as AddressInfo).port}`
  closing.push(() => {
    server.close()
    server.closeAllConnections()
  })
  return { issuer, ca: own.cert, agents }
}

/** A forward proxy, which tunnels. */
async function startForwardProxy() {
  const tunnels: (string | undefined)[] = []
  const proxy = createProxy().on('connect', ({ url = '' }, socket) => {
    tunnels.push(url)
    const target = connect(Number(url.split(':')[1]), '127.0.0.1', () => {
      socket.write('HTTP/1.1 200 Connection established\r\n\r\n')
      target.pipe(socket).pipe(target)
    })
    for (const end of [socket, target]) end.on('error', () => {})
    closing.push(() => target.destroy())
  })
  proxy.listen(0, '127.0.0.1')
  await once(proxy, 'listening')
  closing.push(() => {
    proxy.close()
    proxy.closeAllConnections()
  })
  return { tunnels, port: (proxy.address() as AddressInfo).port }
}

/** Logs a user in, and returns what `GET /session` says. */
async function logIn(issuer: string, http?: HttpOptions): Promise<{ status: number; text: string }> {
  const further = { issuer, ...(http && { http }) }
  site = await startLoginSite({ login: further, tokens: further } as LoginSiteOptions)
  const visitor = site.browser()
  const sent = await site.step(visitor, '/login')
  const { state, nonce } = Object.fromEntries(
    new URL(sent.headers.get('location') ?? 'about:blank').searchParams,
  )
  await site.step(visitor, `/callback?${new URLSearchParams({ state: state ?? '', code: nonce ?? '' })}`)
  const { status, text } = await site.step(visitor, '/session')
  return { status, text }
}

const LOGGED_IN = { status: 200, text: expect.stringContaining('"sub":"ann"') }

describe('the option http of login()', () => {
  it('has a private CA trusted, from discovery on, and sends its headers', async () => {
    const { agents, ca, issuer } = await startProvider()
    expect(
      await logIn(issuer, { httpsAgent: new HttpsAgent({ ca }), headers: { 'User-Agent': 'shop' } }),
    ).toEqual(LOGGED_IN)
    expect(new Set(agents)).toEqual(new Set(['shop']))
  })

  it('sends every request through a forward proxy', async () => {
    const { agents, ca, issuer } = await startProvider()
    const { port, tunnels } = await startForwardProxy()
    const http = { httpsAgent: new HttpsAgent({ ca }), proxy: { host: '127.0.0.1', port } }
    expect(await logIn(issuer, http)).toEqual(LOGGED_IN)
    expect(new Set(tunnels)).toEqual(new Set([new URL(issuer).host]))
    // Without connections that are kept, each request has a tunnel of its own.
    expect(tunnels).toHaveLength(agents.length)
  })

  it('leaves the proxy of the environment in force', async () => {
    const { ca, issuer } = await startProvider()
    const { port, tunnels } = await startForwardProxy()
    const { HTTPS_PROXY, NO_PROXY } = process.env
    Object.assign(process.env, { HTTPS_PROXY: `http://127.0.0.1:${port}`, NO_PROXY: '' })
    try {
      expect(await logIn(issuer, { httpsAgent: new HttpsAgent({ ca }) })).toEqual(LOGGED_IN)
    } finally {
      delete process.env.HTTPS_PROXY
      delete process.env.NO_PROXY
      if (HTTPS_PROXY !== undefined) Object.assign(process.env, { HTTPS_PROXY })
      if (NO_PROXY !== undefined) Object.assign(process.env, { NO_PROXY })
    }
    expect(new Set(tunnels)).toEqual(new Set([new URL(issuer).host]))
  })

  it('is needed: without it the login fails as unavailable', async () => {
    const { issuer } = await startProvider()
    expect((await logIn(issuer)).status).toBe(401)
    expect(site!.failures[0]).toMatchObject({
      reason: 'unavailable',
      cause: { message: 'fetch failed', code: 'DEPTH_ZERO_SELF_SIGNED_CERT' },
    })
  })

  it('refuses unknown names', () => {
    const options = {
      ...{ issuer: 'https://idp.example', clientId: 'a', baseUrl: 'https://app.example' },
      ...{ clientAuthentication: publicClient(), encryptionKeys: [LOGIN_KEY], http: { agent: {} } as never },
    }
    expect(() => login(options)).toThrow('`http`')
  })
})
