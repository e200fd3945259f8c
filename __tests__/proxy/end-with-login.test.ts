import { once } from 'node:events'
import { get, type IncomingMessage } from 'node:http'
import { type AddressInfo, connect, createServer } from 'node:net'
import { afterAll, afterEach, beforeAll, describe, expect, it } from '@jest/globals'
import { WebSocket } from 'ws'
import { type AuthorizationServer, startAuthorizationServer } from '../helpers/authorization-server.js'
import type { Browser } from '../helpers/browser.js'
import { createGate } from '../helpers/gate.js'
import { serve } from '../helpers/http-server.js'
import { type ProxySite, type ProxySiteOptions, proxyFrameworks } from '../helpers/proxy-site.js'
import { socketApi } from '../helpers/socket-api.js'

const COOKIES = ['connect.sid', 'koa.sess', 'koa.sess.sig']

function cookiesOf(tab: Browser): string {
  const sent = COOKIES.filter((name) => tab.cookie(name) !== undefined)
  return sent.map((name) => `${name}=${tab.cookie(name)}`).join('; ')
}

/** An API whose event streams stay open. */
async function eventApi() {
  const api = await serve(() => (_, response) => {
    response.writeHead(200, { 'content-type': 'text/event-stream; charset=utf-8' }).write('data: 1\n\n')
  })
  return { url: api.url, close: api.down }
}

describe.each(proxyFrameworks)('S83 what is open through bearerProxy() on $name', (framework) => {
  let server: AuthorizationServer
  const closers: { close(): Promise<unknown> }[] = []
  beforeAll(async () => {
    server = await startAuthorizationServer()
  })
  afterEach(async () => {
    for (const each of closers.splice(0).reverse()) await each.close()
  })
  afterAll(() => server?.close())

  async function gatewayTo(
    api: { url: string; close(): Promise<unknown> },
    options: Partial<ProxySiteOptions['proxy']> = {},
  ): Promise<ProxySite> {
    closers.push(api)
    const site = await framework.start(server, { proxy: { target: api.url, ...options } })
    closers.push(site)
    return site
  }

  async function socketOf(gateway: ProxySite, tab: Browser): Promise<WebSocket> {
    const socket = new WebSocket(`${gateway.url.replace('http', 'ws')}/api/live`, {
      headers: { cookie: cookiesOf(tab) },
    })
    await once(socket, 'open')
    return socket
  }

  async function streamOf(gateway: ProxySite, tab: Browser): Promise<IncomingMessage> {
    const request = get(`${gateway.url}/api/events`, { headers: { cookie: cookiesOf(tab) } })
    const [stream] = (await once(request, 'response')) as [IncomingMessage]
    stream.on('error', () => {})
    const [first] = await once(stream, 'data')
    expect(String(first)).toBe('data: 1\n\n')
    return stream
  }

  it('S83 a WebSocket is closed when the login ends, and no other', async () => {
    const gateway = await gatewayTo(await socketApi())
    const [tab, other] = [await gateway.loggedIn(), await gateway.loggedIn()]
    const [socket, stays] = [await socketOf(gateway, tab), await socketOf(gateway, other)]
    const closed = once(socket, 'close')
    await tab.post('/logout')
    await closed
    stays.send('hello')
    expect(String((await once(stays, 'message'))[0])).toBe('hello')
  })

  it('S83 an event stream is closed when the login ends', async () => {
    const gateway = await gatewayTo(await eventApi())
    const tab = await gateway.loggedIn()
    const stream = await streamOf(gateway, tab)
    const closed = new Promise((resolve) => stream.once('close', resolve))
    await tab.post('/logout')
    await closed
    expect(stream.complete).toBe(false)
    expect((await tab.get('/api/events')).status).toBe(401)
  })

  it('S83 an event stream without a length and without chunks is closed, too', async () => {
    const api = createServer((socket) => {
      socket.on('error', () => {})
      socket.once('data', () =>
        socket.write('HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n'),
      )
    }).listen(0, '127.0.0.1')
    await once(api, 'listening')
    const url = `http://127.0.0.1:${(api.address() as AddressInfo).port}`
    const gateway = await gatewayTo({ url, close: async () => void api.close() })
    const tab = await gateway.loggedIn()
    const stream = await streamOf(gateway, tab)
    const closed = new Promise((resolve) => stream.once('close', resolve))
    await tab.post('/logout')
    await closed
    expect(stream.complete).toBe(false)
  })

  it('S83 a WebSocket is closed that the API accepts after the login has ended', async () => {
    const gate = createGate()
    const api = await socketApi((_, socket) => {
      socket.resume().once('end', () => socket.end())
      void gate
        .pass()
        .then(() =>
          socket.write(
            'HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n',
          ),
        )
      return true
    })
    const gateway = await gatewayTo(api)
    const tab = await gateway.loggedIn()
    const { hostname, port } = new URL(gateway.url)
    const socket = connect(Number(port), hostname)
    socket.write(
      `GET /api/live HTTP/1.1\r\nHost: ${hostname}:${port}\r\nCookie: ${cookiesOf(tab)}\r\nConnection: Upgrade\r\n` +
        'Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n',
    )
    await gate.reached
    await tab.post('/logout')
    const [closed, idle] = [once(socket.resume(), 'close'), api.idle()]
    gate.release()
    await Promise.all([closed, idle])
  })

  it('S83 an event stream is closed that begins after the login has ended', async () => {
    const gate = createGate()
    const api = await serve(() => async (_, response) => {
      await gate.pass()
      response.writeHead(200, { 'content-type': 'text/event-stream' }).write('data: 1\n\n')
    })
    const gateway = await gatewayTo({ url: api.url, close: api.down })
    const tab = await gateway.loggedIn()
    const request = get(`${gateway.url}/api/events`, { headers: { cookie: cookiesOf(tab) } })
    const closed = new Promise((resolve) => {
      request.once('error', resolve)
      request.once('response', (stream) =>
        stream
          .once('error', () => {})
          .once('close', resolve)
          .resume(),
      )
    })
    await gate.reached
    await tab.post('/logout')
    gate.release()
    await closed
  })

  it('S83 both stay open with endWithLogin: false', async () => {
    const gateway = await gatewayTo(await socketApi(), { endWithLogin: false })
    const tab = await gateway.loggedIn()
    const socket = await socketOf(gateway, tab)
    await tab.post('/logout')
    socket.send('hello')
    expect(String((await once(socket, 'message'))[0])).toBe('hello')
  })
})
