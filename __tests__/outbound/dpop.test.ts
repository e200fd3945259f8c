import { inspect } from 'node:util'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from '@jest/globals'
import { decodeJwt } from 'jose'
import type { SessionTokens } from '../../lib/index.js'
import { type AuthorizationServer, startAuthorizationServer } from '../helpers/authorization-server.js'
import type { Browser } from '../helpers/browser.js'
import { type DpopApi, newNonce, startDpopApi } from '../helpers/dpop-api.js'
import { dpopLogin, startDpopSite } from '../helpers/dpop-site.js'
import { outboundClients } from '../helpers/outbound-clients.js'
import type { Site } from '../helpers/site.js'
import { json } from '../helpers/wire-server.js'

let server: AuthorizationServer
let api: DpopApi
let site: Site
let browser: Browser
let refreshesBefore: number

beforeAll(async () => {
  server = await startAuthorizationServer()
})
beforeEach(async () => {
  api = await startDpopApi(server)
  site = await startDpopSite(server, { tokens: { ambient: true } })
  browser = site.browser()
  await dpopLogin(server, browser)
  refreshesBefore = server.refreshes()
})
afterEach(async () => {
  await site.close()
  await api.close()
})
afterAll(() => server.close())

const refreshes = () => server.refreshes() - refreshesBefore

/** Runs in a handler of the site. */
async function inRequest<T>(work: (tokens: SessionTokens) => Promise<T>): Promise<T> {
  let outcome: Promise<T> | undefined
  site.handle('/call', async ({ tokens }) => {
    outcome = (async () => work(tokens))()
    await outcome.catch(() => {})
  })
  await browser.get('/call')
  return outcome!
}

/** The claims of the proofs that the API has seen. */
const claims = () => api.requests.map(({ headers }) => decodeJwt(String(headers.dpop)))

describe.each(outboundClients)('$name', (client) => {
  const config = () => ({ baseURL: api.url })

  it('S100 each call has a fresh proof of its method, its URL without the query, and its token', async () => {
    const statuses = await inRequest(async (tokens) => {
      const call = client.of(tokens, config())
      const url = '/orders/a%20b?page=1#top'
      const responses = [
        await call({ url }),
        await call({ url, method: 'PATCH', body: 'x' }),
        await call({ url }),
      ]
      return responses.map(({ status }) => status)
    })
    expect(statuses).toEqual([200, 200, 200])
    expect(claims().map(({ htm }) => htm)).toEqual(['GET', 'PATCH', 'GET'])
    expect(new Set(claims().map(({ htu }) => htu))).toEqual(new Set([`${api.url}/orders/a%20b`]))
    expect(new Set(claims().map(({ jti }) => jti)).size).toBe(3)
    expect(api.requests[0]!.headers.authorization).toMatch(/^DPoP /)
  })

  it('S100 ambient calls have proofs, too', async () => {
    const call = client.ambient(config())
    const { status } = await inRequest(() => call({ url: '/orders' }))
    expect(status).toBe(200)
  })

  it('S100 a nonce is asked for once, and the newest one of the origin is used from then on', async () => {
    api.nonce = newNonce()
    const statuses = await inRequest(async (tokens) => {
      const call = client.of(tokens, config())
      const first = await call({ url: '/orders', method: 'POST', body: 'one' })
      const second = await call({ url: '/orders' })
      // The response to an accepted request brings the next nonce.
      const before = api.nonce!
      api.answer = (_, response) => {
        api.nonce = newNonce()
        response.setHeader('DPoP-Nonce', api.nonce)
        return json(response, {})
      }
      const third = await call({ url: '/orders' })
      expect(api.nonce).not.toBe(before)
      const fourth = await call({ url: '/orders' })
      return [first, second, third, fourth].map(({ status }) => status)
    })
    expect(statuses).toEqual([200, 200, 200, 200])
    expect(api.verdicts).toEqual(['use_dpop_nonce', 'ok', 'ok', 'ok', 'ok'])
    expect(api.requests.slice(0, 2).map(({ body }) => body)).toEqual(['one', 'one'])
    expect(new Set(claims().map(({ jti }) => jti)).size).toBe(5)
    expect(refreshes()).toBe(0)
  })

  it('S100 the retry with a nonce does not count as the retry after a 401: both happen in one call', async () => {
    api.nonce = newNonce()
    const { token } = await inRequest((tokens) => tokens.getAccessToken())
    api.rejects = (sent) => sent === token
    const { status } = await inRequest((tokens) => client.of(tokens, config())({ url: '/orders' }))
    expect(status).toBe(200)
    expect(refreshes()).toBe(1)
    expect(api.verdicts).toEqual(['use_dpop_nonce', 'invalid_token', 'ok'])
  })

  it('S100 an API that always responds with 401 gets two requests, and there is one refresh', async () => {
    api.rejects = () => true
    const { status } = await inRequest((tokens) => client.of(tokens, config())({ url: '/orders' }))
    expect(status).toBe(401)
    expect(api.requests).toHaveLength(2)
    expect(refreshes()).toBe(1)
  })

  it('S100 an API that always asks for another nonce gets two requests, and there is no refresh', async () => {
    const ask = api.verify
    api.verify = async (request) => {
      await ask(request)
      api.nonce = newNonce()
      return 'use_dpop_nonce'
    }
    const { status } = await inRequest((tokens) => client.of(tokens, config())({ url: '/orders' }))
    expect(status).toBe(401)
    expect(api.requests).toHaveLength(2)
    expect(refreshes()).toBe(0)
  })

  it('S100 a proof that is refused causes no refresh, and the response is that of the API', async () => {
    api.origin = 'https://proxied.example'
    const { status, text } = await inRequest((tokens) => client.of(tokens, config())({ url: '/orders' }))
    expect([status, JSON.parse(text)]).toEqual([401, { error: 'invalid_dpop_proof' }])
    expect(api.requests).toHaveLength(1)
    expect(refreshes()).toBe(0)
  })

  it('S100 a body that can be sent once only is not sent again: the next call has the nonce', async () => {
    api.nonce = newNonce()
    const statuses = await inRequest(async (tokens) => {
      const call = client.of(tokens, config())
      const [, body] = client.onceOnly[0]!
      const first = await call({ url: '/orders', method: 'POST', body: body() as never })
      const second = await call({ url: '/orders', method: 'POST', body: body() as never })
      return [first.status, second.status]
    })
    expect(statuses).toEqual([401, 200])
    expect(api.requests).toHaveLength(2)
  })

  it('S100 each request that redirects lead to has a proof of its own, and one to another origin has none', async () => {
    const elsewhere = await startDpopApi(server)
    try {
      api.nonce = newNonce()
      api.answer = ({ path }, response) => {
        const location = path === '/a' ? '/b?c' : `${elsewhere.url}/d`
        response.writeHead(303, { location }).end()
      }
      await inRequest((tokens) => client.of(tokens, config())({ url: '/a', method: 'POST', body: 'x' }))
      expect(api.verdicts).toEqual(['use_dpop_nonce', 'ok', 'ok'])
      expect(claims().map(({ htm, htu }) => `${htm} ${htu}`)).toEqual([
        `POST ${api.url}/a`,
        `POST ${api.url}/a`,
        `GET ${api.url}/b`,
      ])
      const [request] = elsewhere.requests
      expect(request?.headers).not.toHaveProperty('dpop')
      expect(request?.headers).not.toHaveProperty('authorization')
    } finally {
      await elsewhere.close()
    }
  })

  it('S60 S100 no response and no error shows a proof or the token', async () => {
    api.rejects = () => true
    const shown: unknown[] = []
    await inRequest(async (tokens) => {
      shown.push(await client.of(tokens, config())({ url: '/orders' }))
      await api.close()
      const error = await client
        .of(
          tokens,
          config(),
        )({ url: '/orders' })
        .catch((error: unknown) => error)
      expect(String(error)).toContain('Error')
      shown.push(error)
    })
    const text = inspect(shown, { depth: 20, showHidden: true, maxStringLength: null })
    for (const { headers } of api.requests) {
      expect(text).not.toContain(String(headers.dpop))
      expect(text).not.toContain(String(headers.authorization).replace('DPoP ', ''))
    }
    api = await startDpopApi(server)
  })
})

describe('axios with an adapter of the app', () => {
  it('S100 sends proofs, and one request more for a nonce, whatever the app thinks of statuses', async () => {
    api.nonce = newNonce()
    const { status } = await inRequest((tokens) =>
      tokens.axios({ baseURL: api.url, adapter: 'fetch' }).post('/orders?x=1', { a: 1 }),
    )
    expect(status).toBe(200)
    expect(api.verdicts).toEqual(['use_dpop_nonce', 'ok'])
  })
})

describe('fetch', () => {
  it('S100 50 calls at once that do not know the nonce yet are all served', async () => {
    api.nonce = newNonce()
    const statuses = await inRequest(async (tokens) => {
      const call = tokens.fetch({ baseURL: api.url })
      const responses = await Promise.all(Array.from({ length: 50 }, (_, at) => call(`/orders/${at}`)))
      return responses.map(({ status }) => status)
    })
    expect(new Set(statuses)).toEqual(new Set([200]))
    expect(api.verdicts.filter((it) => it === 'ok')).toHaveLength(50)
  })
})
