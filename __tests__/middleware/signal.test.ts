import { getEventListeners, once } from 'node:events'
import { Agent, get } from 'node:http'
import type { Socket } from 'node:net'
import { text } from 'node:stream/consumers'
import { afterAll, afterEach, beforeAll, describe, expect, it } from '@jest/globals'
import type { SessionTokens } from '../../lib/index.js'
import { type AuthorizationServer, startAuthorizationServer } from '../helpers/authorization-server.js'
import { eventually } from '../helpers/fleet-expectations.js'
import { createGate } from '../helpers/gate.js'
import { newsHub } from '../helpers/news-hub.js'
import { type Site, sharedSessions, startSite } from '../helpers/site.js'

let server: AuthorizationServer
const open: Site[] = []

async function siteOf(options: Parameters<typeof startSite>[1] = {}): Promise<Site> {
  const site = await startSite(server, options)
  open.push(site)
  return site
}

/** A request that is open, and its tokens. */
async function openRequest(site: Site, browser = site.browser()) {
  const gate = createGate()
  const arrived = new Promise<SessionTokens>((resolve) => {
    site.handle('/open', async (request) => {
      resolve(request.tokens)
      await gate.pass()
    })
  })
  const response = browser.get('/open')
  return { tokens: await arrived, release: () => gate.release(), response }
}

describe('S83 req.tokens.signal', () => {
  beforeAll(async () => {
    server = await startAuthorizationServer()
  })
  afterEach(() => Promise.all(open.splice(0).map((site) => site.close())))
  afterAll(() => server?.close())

  it('S83 aborts at the logout, with the reason, and is the same signal at each look', async () => {
    const site = await siteOf()
    const browser = site.browser()
    await site.login(browser)
    const { tokens, release, response } = await openRequest(site, browser)
    const { signal } = tokens
    expect(tokens.signal).toBe(signal)
    expect(signal.aborted).toBe(false)
    const aborted = once(signal, 'abort')
    await browser.post('/logout')
    await aborted
    expect(signal.reason).toMatchObject({ code: 'ERR_REAUTHENTICATION_REQUIRED', reason: 'logged_out' })
    expect(tokens.signal).toBe(signal)
    release()
    await response
  })

  it('S83 aborts when another process ends the login', async () => {
    const hub = newsHub()
    const sessions = sharedSessions()
    const [one, two] = [
      await siteOf({ store: sessions(), tokens: { grants: hub.connect().store } }),
      await siteOf({ store: sessions(), tokens: { grants: hub.connect().store } }),
    ]
    const browser = one.browser()
    await one.login(browser)
    const { tokens, release, response } = await openRequest(two, two.browser(browser))
    await tokens.getAccessToken()
    const aborted = once(tokens.signal, 'abort')
    await browser.post('/logout')
    await aborted
    release()
    await response
  })

  it('S83 aborts when the authorization server refuses the refresh token for good', async () => {
    const site = await siteOf()
    const browser = site.browser()
    await site.login(browser)
    const { tokens, release, response } = await openRequest(site, browser)
    const { signal } = tokens
    server.failNext('invalid_grant')
    site.clock.advance(3_600_000)
    expect((await browser.get('/token')).status).toBe(401)
    expect(signal.reason).toMatchObject({ reason: 'invalid_grant' })
    release()
    await response
  })

  it('S83 has aborted without a login, and a login later in the request has another signal', async () => {
    const site = await siteOf()
    const { tokens, release, response } = await openRequest(site)
    expect(tokens.signal.reason).toMatchObject({ code: 'ERR_NO_TOKENS' })
    await tokens.set(await server.login('user'))
    expect(tokens.signal.aborted).toBe(false)
    release()
    await response
  })

  it('S83 is let go when the response is closed', async () => {
    const site = await siteOf()
    const browser = site.browser()
    await site.login(browser)
    const { tokens, release, response } = await openRequest(site, browser)
    const { signal } = tokens
    release()
    await response
    await eventually(async () => {
      await browser.post('/logout')
      expect(signal.aborted).toBe(false)
    })
    expect(getEventListeners(signal, 'abort')).toEqual([])
  })

  it('S83 is let go with the response, although a client sends `Upgrade: h2c` and keeps its connection', async () => {
    const site = await siteOf()
    const browser = site.browser()
    await site.login(browser)
    const signals: AbortSignal[] = []
    const listeners: number[] = []
    let socket: Socket | undefined
    site.handle('/signal', (request) => {
      socket ??= request.socket
      expect(request.socket).toBe(socket)
      signals.push(request.tokens.signal)
      listeners.push(socket.listenerCount('close'))
    })
    const agent = new Agent({ keepAlive: true, maxSockets: 1 })
    const cookie = `connect.sid=${browser.cookie('connect.sid')}`
    const headers = { cookie, connection: 'Upgrade, HTTP2-Settings', upgrade: 'h2c', 'http2-settings': '' }
    for (let n = 0; n < 5; n++) {
      const [response] = await once(get(`${site.url}/signal`, { agent, headers }), 'response')
      await text(response)
    }
    expect(listeners.at(-1)).toBe(listeners[0])
    await browser.post('/logout')
    expect(signals.filter(({ aborted }) => aborted)).toEqual([])
    agent.destroy()
  })
})
