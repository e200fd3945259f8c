import { once } from 'node:events'
import { createServer as createProxy, type RequestListener } from 'node:http'
import { Agent as HttpsAgent } from 'node:https'
import { type AddressInfo, connect } from 'node:net'
import { afterEach, describe, expect, it, jest } from '@jest/globals'
import { type HttpOptions, publicClient } from '../../lib/index.js'
import { login } from '../../lib/login.js'
import { eventually } from '../helpers/fleet-expectations.js'
import { serve } from '../helpers/http-server.js'
import { LOGIN_KEY, type LoginSite, type LoginSiteOptions, startLoginSite } from '../helpers/login-site.js'
import { logInAt, startTlsProvider } from '../helpers/tls-provider.js'
import { json, wireServer } from '../helpers/wire-server.js'

const closing: (() => void)[] = []
let site: LoginSite | undefined

afterEach(async () => {
  await site?.close()
  site = undefined
  for (const close of closing.splice(0)) close()
})

async function startProvider() {
  const provider = await startTlsProvider()
  closing.push(provider.close)
  return provider
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
  const { status, text } = await site.step(await logInAt(site), '/session')
  return { status, text }
}

const LOGGED_IN = { status: 200, text: expect.stringContaining('"sub":"ann"') }

describe('the option http of login()', () => {
  it('has a private CA trusted, from discovery on, and sends its headers', async () => {
    const { requests, ca, issuer } = await startProvider()
    expect(
      await logIn(issuer, { httpsAgent: new HttpsAgent({ ca }), headers: { 'User-Agent': 'shop' } }),
    ).toEqual(LOGGED_IN)
    expect(new Set(requests.map(({ userAgent }) => userAgent))).toEqual(new Set(['shop']))
  })

  it('sends every request through a forward proxy', async () => {
    const { requests, ca, issuer } = await startProvider()
    const { port, tunnels } = await startForwardProxy()
    const http = { httpsAgent: new HttpsAgent({ ca }), proxy: { host: '127.0.0.1', port } }
    expect(await logIn(issuer, http)).toEqual(LOGGED_IN)
    expect(new Set(tunnels)).toEqual(new Set([new URL(issuer).host]))
    // Without connections that are kept, each request has a tunnel of its own.
    expect(tunnels).toHaveLength(requests.length)
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

describe('what the operator reads', () => {
  /** Begins a login at a provider, and returns the status of the page. */
  async function beginAt(provider: RequestListener, times: { timeoutMs?: number } = {}): Promise<number> {
    const { down, url } = await serve(() => provider)
    closing.push(down)
    site = await startLoginSite({ login: { issuer: url, ...times } })
    return (await site.step(site.browser(), '/login')).status
  }

  it('of a provider that never responds: that time is out', async () => {
    expect(await beginAt(() => {}, { timeoutMs: 200 })).toBe(503)
    expect(site!.failures).toMatchObject([
      { reason: 'unavailable', cause: { message: 'operation timed out', code: 'OAUTH_TIMEOUT' } },
    ])
  })

  it.each([
    [200, 502, 'rejected'],
    [500, 503, 'unavailable'],
  ])('of a response with status %i that is too large: that it is', async (status, ofPage, reason) => {
    const huge = JSON.stringify({ text: 'x'.repeat(1_100_000) })
    const respond: RequestListener = (_, response) =>
      void response.writeHead(status, { 'content-type': 'application/json' }).end(huge)
    expect(await beginAt(respond)).toBe(ofPage)
    const message = `The login failed (${reason}). The response of the authorization server is larger than 1 MB.`
    expect(site!.failures).toMatchObject([{ reason, message }])
  })

  it('of a response that is not compressed as it says: that it could not be decompressed', async () => {
    const headers = { 'content-type': 'application/json', 'content-encoding': 'gzip' }
    expect(await beginAt((_, response) => void response.writeHead(200, headers).end('{}'))).toBe(502)
    const message =
      'The login failed (rejected). The response of the authorization server could not be decompressed.'
    expect(site!.failures).toMatchObject([{ reason: 'rejected', message }])
  })
})

describe('the metadata of the provider', () => {
  /** A provider that names another authorization endpoint each time. */
  async function movingProvider() {
    let fetches = 0
    const provider = await wireServer(({ path }, response) => {
      if (!path.startsWith('/.well-known/')) return json(response, { error: 'gone' }, 404)
      fetches += 1
      return json(response, {
        issuer: provider.url,
        authorization_endpoint: `${provider.url}/authorize-${fetches}`,
        token_endpoint: `${provider.url}/token`,
      })
    })
    closing.push(() => void provider.close())
    const further = { issuer: provider.url }
    site = await startLoginSite({ login: further, tokens: further } as LoginSiteOptions)
    const opened = site
    const begin = async () => {
      const visitor = opened.browser()
      const { headers } = await opened.step(visitor, '/login')
      const url = new URL(headers.get('location')!)
      return { visitor, path: url.pathname, state: url.searchParams.get('state') }
    }
    return { begin, step: opened.step }
  }

  afterEach(() => {
    jest.restoreAllMocks()
  })
  const later = (ms: number) => {
    const time = Date.now() + ms
    jest.spyOn(Date, 'now').mockImplementation(() => time)
  }

  it('is fetched again after a day', async () => {
    const { begin } = await movingProvider()
    expect((await begin()).path).toBe('/authorize-1')
    expect((await begin()).path).toBe('/authorize-1')
    later(25 * 3_600_000)
    // This login does not wait for it.
    expect((await begin()).path).toBe('/authorize-1')
    await eventually(async () => expect((await begin()).path).toBe('/authorize-2'))
  })

  it('is fetched again when an endpoint is not there any more', async () => {
    const { begin, step } = await movingProvider()
    const { state, visitor } = await begin()
    later(61_000)
    expect((await step(visitor, `/callback?code=1&state=${state}`)).status).toBe(502)
    await eventually(async () => expect((await begin()).path).toBe('/authorize-2'))
  })
})
