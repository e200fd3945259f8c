import { afterAll, beforeAll, expect, it } from '@jest/globals'
import type { SessionTokens } from '../../lib/index.js'
import { type ApacheApi, describeWithApache, startApacheApi } from '../helpers/apache.js'
import { type AuthorizationServer, startAuthorizationServer } from '../helpers/authorization-server.js'
import type { Browser } from '../helpers/browser.js'
import { dpopLogin, startDpopSite } from '../helpers/dpop-site.js'
import type { Site } from '../helpers/site.js'

const RESOURCE = 'https://api-a.example'

let server: AuthorizationServer
let api: ApacheApi
let site: Site
let browser: Browser
let calls = 0

/** Runs in a handler of the site. */
async function inRequestOf<T>(tab: Browser, work: (tokens: SessionTokens) => Promise<T>): Promise<T> {
  let outcome: Promise<T> | undefined
  const path = `/call-${++calls}`
  site.handle(path, async ({ tokens }) => {
    outcome = work(tokens)
    await outcome.catch(() => {})
  })
  await tab.get(path)
  return outcome!
}

const inRequest = <T>(work: (tokens: SessionTokens) => Promise<T>) => inRequestOf(browser, work)

/** Calls the API by hand. */
async function statusOf(headers: Record<string, string>, path = '/orders'): Promise<number> {
  const response = await fetch(`${api.url}${path}`, { headers })
  await response.arrayBuffer()
  return response.status
}

describeWithApache('S100 an API behind the mod_oauth2 of Apache, which this project did not write', () => {
  beforeAll(async () => {
    server = await startAuthorizationServer()
    api = await startApacheApi(`${server.issuer}/jwks`)
    site = await startDpopSite(server)
    browser = site.browser()
    await dpopLogin(server, browser, 'user', { resource: [RESOURCE] })
  })
  afterAll(async () => {
    await site?.close()
    await api?.close()
    await server?.close()
  })

  it('S100 takes the calls of axios and fetch, again and again', async () => {
    const statuses = await inRequest(async (tokens) => {
      const need = { resource: RESOURCE }
      const axios = tokens.axios({ baseURL: api.url, need, validateStatus: () => true })
      const call = tokens.fetch({ baseURL: api.url, need })
      return [
        (await axios.get('/orders')).status,
        (await axios.get('/orders?page=2')).status,
        (await call('/orders')).status,
      ]
    })
    expect(statuses).toEqual([200, 200, 200])
  })

  it('S100 takes the proof of an own client once, for its URL, its method and its token alone', async () => {
    const other = site.browser()
    await dpopLogin(server, other, 'thief', { resource: [RESOURCE] })
    await inRequest(async (tokens) => {
      const { token } = await tokens.getAccessToken({ resource: RESOURCE })
      const url = `${api.url}/orders`
      const proof = (of: { method?: string; url?: string } = {}) =>
        tokens.dpopProof({ method: 'GET', url, accessToken: token, ...of })
      const authorization = `DPoP ${token}`
      const once = await proof()
      expect(await statusOf({ authorization, dpop: once })).toBe(200)
      expect(await statusOf({ authorization, dpop: once })).toBe(401)
      expect(await statusOf({ authorization, dpop: await proof({ method: 'POST' }) })).toBe(401)
      expect(await statusOf({ authorization, dpop: await proof({ url: `${api.url}/other` }) })).toBe(401)
      expect(await statusOf({ authorization })).toBe(401)
      expect(await statusOf({ authorization: `Bearer ${token}`, dpop: await proof() })).toBe(401)
      const stolen = await inRequestOf(other, (thief) =>
        thief.dpopProof({ method: 'GET', url, accessToken: token }),
      )
      expect(await statusOf({ authorization, dpop: stolen })).toBe(401)
      expect(await statusOf({ authorization, dpop: await proof() })).toBe(200)
    })
  })
})
