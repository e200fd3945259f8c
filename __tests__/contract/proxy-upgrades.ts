import { once } from 'node:events'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { connect, type Socket } from 'node:net'
import { text } from 'node:stream/consumers'
import { setImmediate } from 'node:timers/promises'
import { afterAll, afterEach, beforeAll, describe, expect, it, jest } from '@jest/globals'
import { WebSocket } from 'ws'
import { type AuthorizationServer, startAuthorizationServer } from '../helpers/authorization-server.js'
import type { Browser } from '../helpers/browser.js'
import { createGate } from '../helpers/gate.js'
import {
  onResponse,
  type ProxyFramework,
  type ProxySite,
  type ProxySiteOptions,
} from '../helpers/proxy-site.js'
import { type SocketApi, sayNo, sayNothing, socketApi } from '../helpers/socket-api.js'

const HOUR_MS = 3_600_000
const INVALID_TOKEN = { 'WWW-Authenticate': 'Bearer error="invalid_token"' }
const SWITCHING = 'HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n'
const COOKIES = ['connect.sid', 'koa.sess', 'koa.sess.sig', 'session', 'session.sig']

/** What `upgradesThrough()` and `bearerProxy()` do with WebSockets in every framework. */
export function describeProxyUpgrades(framework: ProxyFramework): void {
  describe(`upgradesThrough(app), ${framework.name}`, () => {
    let server: AuthorizationServer
    const closers: { close(): Promise<unknown> }[] = []
    beforeAll(async () => {
      server = await startAuthorizationServer()
    })
    afterEach(async () => {
      for (const each of closers.splice(0).reverse()) await each.close()
    })
    afterAll(() => server.close())

    function closing<T extends { close(): Promise<unknown> }>(it: T): T {
      closers.push(it)
      return it
    }
    async function api(...refuse: Parameters<typeof socketApi>): Promise<SocketApi> {
      return closing(await socketApi(...refuse))
    }
    async function site(target: string, options: Partial<ProxySiteOptions> = {}): Promise<ProxySite> {
      return closing(await framework.start(server, { proxy: { target }, ...options }))
    }
    function cookiesOf(tab: Browser): string {
      const sent = COOKIES.filter((name) => tab.cookie(name) !== undefined)
      return sent.map((name) => `${name}=${tab.cookie(name)}`).join('; ')
    }
    function socketTo(gateway: ProxySite, tab: Browser, path = '/api/live', headers = {}): WebSocket {
      const socket = new WebSocket(`${gateway.url.replace('http', 'ws')}${path}`, {
        headers: { cookie: cookiesOf(tab), ...headers },
      })
      socket.on('error', () => {})
      return socket
    }
    async function opened(socket: WebSocket): Promise<WebSocket> {
      const [event] = await Promise.race([
        once(socket, 'open').then(() => ['open']),
        once(socket, 'unexpected-response').then(([, answer]) => [`${answer.statusCode}`]),
      ])
      expect(event).toBe('open')
      return socket
    }
    async function refusal(socket: WebSocket) {
      const [, answer] = (await once(socket, 'unexpected-response')) as [unknown, IncomingMessage]
      return { status: answer.statusCode, headers: answer.headers, text: await text(answer) }
    }
    async function echo(socket: WebSocket, message: string): Promise<string> {
      socket.send(message)
      const [data] = await once(socket, 'message')
      return String(data)
    }

    it('S73 the API sees a fresh token and no cookies, and what both say arrives', async () => {
      const live = await api()
      const gateway = await site(`${live.url}/v1`)
      const tab = await gateway.loggedIn()
      const first = await opened(socketTo(gateway, tab))
      gateway.clock.advance(HOUR_MS)
      const origin = gateway.url
      const second = await opened(socketTo(gateway, tab, '/api/live?room=1', { origin, 'x-csrf-token': '1' }))

      const [before, request] = live.requests
      expect(request?.url).toBe('/v1/live?room=1')
      expect(request?.headers.authorization).toMatch(/^Bearer \S+$/)
      expect(request?.headers.authorization).not.toBe(before?.headers.authorization)
      for (const name of ['cookie', 'origin', 'x-csrf-token'])
        expect(request?.headers).not.toHaveProperty(name)
      const large = 'x'.repeat(1_000_000)
      expect(await echo(first, 'hello')).toBe('hello')
      expect(await echo(second, large)).toBe(large)
      second.close(4001, 'enough')
      expect(await once(second, 'close')).toEqual([4001, Buffer.from('enough')])
    })

    it('without upgradesThrough() in front an error says that it is missing', async () => {
      const live = await api()
      const gateway = await site(live.url, { upgrades: null })
      const log = jest.spyOn(console, 'error').mockImplementation(() => {})
      const answer = await refusal(socketTo(gateway, await gateway.loggedIn()))
      log.mockRestore()
      expect(answer.status).toBe(500)
      expect(gateway.errors).toEqual([
        expect.objectContaining({
          code: 'ERR_CONFIGURATION',
          message: expect.stringContaining("server.on('upgrade', upgradesThrough(app))"),
        }),
      ])
      expect(live.requests).toEqual([])
    })

    it('the response shows neither the token nor cookies of the API', async () => {
      const live = await api()
      const gateway = await site(live.url)
      const socket = socketTo(gateway, await gateway.loggedIn())
      const [answer] = (await once(socket, 'upgrade')) as [IncomingMessage]
      expect(answer.headers).toMatchObject({ upgrade: 'websocket', connection: 'Upgrade' })
      const token = live.requests[0]?.headers.authorization?.slice('Bearer '.length)
      expect(JSON.stringify(answer.rawHeaders)).not.toContain(token)
      expect(JSON.stringify(answer.rawHeaders)).not.toContain('api=1')
    })

    it('S74 without tokens: 401 and a problem body, and the API hears nothing', async () => {
      const live = await api()
      const gateway = await site(live.url, { guard: null })
      const answer = await refusal(socketTo(gateway, gateway.browser()))
      expect(answer.status).toBe(401)
      expect(answer.headers['content-type']).toBe('application/problem+json')
      expect(live.requests).toEqual([])
    })

    it.each(['/api/a/../live', '/api/%2e/live', '/api/a%2flive', '/api/\\live', 'http://a/api/live'])(
      'S67 %s: 400, and the API hears nothing',
      async (path) => {
        const live = await api()
        const gateway = await site(live.url, { guard: { user: 'none' } })
        const { hostname, port } = new URL(gateway.url)
        const socket = connect(Number(port), hostname)
        socket.write(handshake({}, path))
        expect(await text(socket)).toMatch(/^HTTP\/1.1 400 /)
        expect(live.requests).toEqual([])
      },
    )

    it('a path of no proxy: the app’s own 404', async () => {
      const gateway = await site('http://127.0.0.1:1')
      expect((await refusal(socketTo(gateway, gateway.browser(), '/elsewhere'))).status).toBe(404)
    })

    describe('a page of', () => {
      it.each([
        ['another site', 'https://evil.example', 403],
        ['no site', 'null', 403],
        ['another port', 'http://127.0.0.1:1', 403],
        ['nonsense', 'not an origin', 403],
        ['an allowed one', 'https://app.example.com', 101],
        ['this site', 'itself', 101],
        ['no browser', undefined, 101],
      ])('%s: %s', async (_, origin, status) => {
        const live = await api()
        const gateway = await site(live.url, { upgrades: { allowedOrigins: ['https://app.example.com'] } })
        const headers = origin === undefined ? {} : { origin: origin === 'itself' ? gateway.url : origin }
        const socket = socketTo(gateway, await gateway.loggedIn(), '/api/live', headers)
        if (status === 101) await opened(socket)
        else expect((await refusal(socket)).status).toBe(status)
        expect(live.requests).toHaveLength(status === 101 ? 1 : 0)
      })
    })

    it('S70 an API that refuses the token is asked again with a new one', async () => {
      let refused: string | undefined
      const live = await api((request, socket) => {
        refused ??= request.headers.authorization
        return request.headers.authorization === refused && sayNo(socket, 401, INVALID_TOKEN)
      })
      const gateway = await site(live.url)
      const socket = await opened(socketTo(gateway, await gateway.loggedIn()))
      expect(await echo(socket, 'hello')).toBe('hello')
      expect(live.requests).toHaveLength(2)
    })

    it('an API that says no: its response, however long, and the socket is closed', async () => {
      const body = 'x'.repeat(3_000_000)
      const live = await api((_, socket) => sayNo(socket, 403, { 'Set-Cookie': 'api=1' }, body))
      const gateway = await site(live.url)
      const answer = await refusal(socketTo(gateway, await gateway.loggedIn()))
      expect(answer.status).toBe(403)
      expect(answer.text).toHaveLength(body.length)
      expect(String(answer.headers['set-cookie'])).not.toContain('api=1')
      expect(answer.headers.connection).toBe('close')
    })

    it('502 when the API is down, 504 when it says nothing', async () => {
      const down = await site('http://127.0.0.1:1')
      expect((await refusal(socketTo(down, await down.loggedIn()))).status).toBe(502)
      const live = await api((_, socket) => sayNothing(socket))
      const silent = await site(live.url, { proxy: { target: live.url, proxyTimeout: 20 } })
      expect((await refusal(socketTo(silent, await silent.loggedIn()))).status).toBe(504)
      await live.idle()
    })

    it('a cookie session that was refreshed has its new cookie in the response', async () => {
      const live = await api()
      const gateway = await site(live.url, { inCookies: true })
      const tab = await gateway.loggedIn()
      gateway.clock.advance(HOUR_MS)
      const socket = socketTo(gateway, tab)
      const [answer] = (await once(socket, 'upgrade')) as [IncomingMessage]
      expect(answer.headers['set-cookie']?.join()).toMatch(/^(?:session|koa\.sess)=/)

      for (const cookie of answer.headers['set-cookie'] ?? []) {
        const [, name = '', value = ''] = /^([^=]+)=([^;]*)/.exec(cookie) ?? []
        tab.setCookie(name, value)
      }
      const refreshes = server.refreshes()
      await opened(socketTo(gateway, tab))
      expect(server.refreshes()).toBe(refreshes)
      expect(live.requests[1]?.headers.authorization).toBe(live.requests[0]?.headers.authorization)
    })

    it('when the browser goes, so does the connection to the API', async () => {
      const live = await api()
      const gateway = await site(live.url)
      const socket = await opened(socketTo(gateway, await gateway.loggedIn()))
      const idle = live.idle()
      socket.terminate()
      await idle
    })

    it('when the API goes, so does the browser’s', async () => {
      const live = await api()
      const gateway = await site(live.url)
      const socket = await opened(socketTo(gateway, await gateway.loggedIn()))
      for (const client of live.clients) client.terminate()
      expect(await once(socket, 'close')).toEqual([1006, Buffer.alloc(0)])
    })

    it('the request is over when the socket has been handed over', async () => {
      const closed: Promise<unknown>[] = []
      const note = (response: ServerResponse) =>
        void closed.push(once(response, 'finish'), once(response, 'close'))
      const between = onResponse(framework, note)
      const live = await api()
      const gateway = await site(live.url, { between })
      const socket = await opened(socketTo(gateway, await gateway.loggedIn()))
      await Promise.all(closed)
      expect(await echo(socket, 'still open')).toBe('still open')
    })

    it('what either says in one go with the handshake arrives', async () => {
      const live = await api((_, socket, head) => {
        socket.write(`${SWITCHING}from the API, `)
        const onData = (data: Buffer) => socket.end(`answer to ${data}`)
        if (head.length > 0) onData(head)
        else socket.once('data', onData)
        return true
      })
      const gateway = await site(live.url, { guard: { user: 'none' } })
      const { hostname, port } = new URL(gateway.url)
      const socket = connect(Number(port), hostname)
      socket.write(`${handshake()}the browser`)
      expect(await text(socket)).toMatch(/\r\n\r\nfrom the API, answer to the browser$/)
    })

    it('what the browser says while the API thinks arrives', async () => {
      const gate = createGate()
      const live = await api((_, socket) => {
        socket.once('data', (data) => socket.end(`answer to ${data}`))
        void gate.pass().then(() => socket.write(SWITCHING))
        return true
      })
      const gateway = await site(live.url, { guard: { user: 'none' } })
      const { hostname, port } = new URL(gateway.url)
      const socket = connect(Number(port), hostname)
      socket.write(handshake())
      await gate.reached
      await new Promise((sent) => socket.write('the browser', sent))
      gate.release()
      expect(await text(socket)).toMatch(/\r\n\r\nanswer to the browser$/)
    })

    it('when the connection to the API breaks, so does the browser’s', async () => {
      const sockets: Socket[] = []
      const live = await api((_, socket) => {
        sockets.push(socket)
        return false
      })
      const gateway = await site(live.url)
      const socket = await opened(socketTo(gateway, await gateway.loggedIn()))
      sockets[0]?.resetAndDestroy()
      expect(await once(socket, 'close')).toEqual([1006, Buffer.alloc(0)])
    })

    it('when the browser ends and the API does not, both are closed', async () => {
      const live = await api((_, socket) => {
        socket.write(SWITCHING)
        return true
      })
      const gateway = await site(live.url, { guard: { user: 'none' } })
      const { hostname, port } = new URL(gateway.url)
      const socket = connect({ port: Number(port), host: hostname, allowHalfOpen: true })
      socket.write(handshake())
      expect(String((await once(socket, 'data'))[0])).toMatch(/^HTTP\/1.1 101 /)
      socket.end()
      await once(socket, 'end')
    })

    it('when the browser disconnects before the response, the connection to the API ends', async () => {
      const gate = createGate()
      const slowly = (response: ServerResponse) => {
        const end = response.end.bind(response) as () => ServerResponse
        response.end = (() => {
          void gate.pass().then(() => end())
          return response
        }) as typeof response.end
      }
      const between = onResponse(framework, slowly)
      const live = await api()
      const gateway = await site(live.url, { guard: { user: 'none' }, between })
      const { hostname, port } = new URL(gateway.url)
      const socket = connect(Number(port), hostname)
      socket.write(handshake())
      await gate.reached
      const idle = live.idle()
      socket.resetAndDestroy()
      await idle
    })

    it('when the connection to the API breaks before the response is sent, the browser’s ends', async () => {
      const gate = createGate()
      const slowly = (response: ServerResponse) => {
        const end = response.end.bind(response) as () => ServerResponse
        response.end = (() => {
          void gate.pass().then(() => end())
          return response
        }) as typeof response.end
      }
      const between = onResponse(framework, slowly)
      const sockets: Socket[] = []
      const live = await api((_, socket) => {
        sockets.push(socket)
        return false
      })
      const gateway = await site(live.url, { guard: { user: 'none' }, between })
      const { hostname, port } = new URL(gateway.url)
      const socket = connect(Number(port), hostname)
      socket.write(handshake())
      await gate.reached
      const [upstream] = sockets
      const broken = once(upstream!, 'close')
      upstream!.resetAndDestroy()
      await broken
      // The gateway learns of it with its next read.
      await setImmediate()
      await setImmediate()
      const closed = once(socket.resume(), 'close')
      gate.release()
      await closed
    })

    it.each<[string, (socket: Socket) => unknown]>([
      ['goes', (socket) => socket.resetAndDestroy()],
      ['closes its end', (socket) => socket.end()],
    ])('when the browser %s while the API thinks, the API is asked no longer', async (_, leave) => {
      const gate = createGate()
      const live = await api((_, socket) => {
        gate.pass()
        return sayNothing(socket)
      })
      const gateway = await site(live.url)
      const tab = await gateway.loggedIn()
      const { hostname, port } = new URL(gateway.url)
      const socket = connect(Number(port), hostname)
      socket.write(handshake({ cookie: cookiesOf(tab) }))
      await gate.reached
      const idle = live.idle()
      leave(socket)
      await idle
    })

    it('a request in the middle of a response ends the connection, and nothing else', async () => {
      const live = await api()
      const gate = createGate()
      const between = framework.isKoa
        ? async (_: unknown, next: () => Promise<void>) => gate.pass().then(next)
        : (_: unknown, __: unknown, next: () => void) => void gate.pass().then(next)
      const gateway = await site(live.url, { guard: { user: 'none' }, between })
      const { hostname, port } = new URL(gateway.url)
      const socket = connect(Number(port), hostname)
      socket.on('error', () => {})
      const closed = once(socket, 'close')
      socket.write('GET /api/slow HTTP/1.1\r\nHost: a\r\n\r\n')
      await gate.reached
      socket.write(handshake())
      await closed
      gate.release()
      expect((await gateway.browser().get('/elsewhere')).status).toBe(404)
    })

    it.each([
      ['another protocol: the ordinary response', { upgrade: 'h2c' }, 'HTTP/1.1 404'],
      ['a body', { 'content-length': '2' }, 'HTTP/1.1 400'],
    ])('%s', async (_, headers, line) => {
      const gateway = await site('http://127.0.0.1:1')
      const { hostname, port } = new URL(gateway.url)
      const socket = connect(Number(port), hostname)
      socket.write(handshake(headers, '/elsewhere'))
      expect(await text(socket)).toMatch(new RegExp(`^${line} `))
    })
  })
}

function handshake(headers: Record<string, string> = {}, path = '/api/live'): string {
  const usual = { Host: 'a', Connection: 'Upgrade', upgrade: 'websocket' }
  const webSocket = { 'Sec-WebSocket-Version': '13', 'Sec-WebSocket-Key': 'dGhlIHNhbXBsZSBub25jZQ==' }
  const lines = Object.entries({ ...usual, ...webSocket, ...headers }).map(
    ([name, value]) => `${name}: ${value}\r\n`,
  )
  return `GET ${path} HTTP/1.1\r\n${lines.join('')}\r\n`
}
