import { createHash } from 'node:crypto'
import { once } from 'node:events'
import {
  Agent,
  type ClientRequest,
  createServer,
  type IncomingMessage,
  type RequestListener,
  type RequestOptions,
  request as requestOf,
  type ServerResponse,
} from 'node:http'
import { type AddressInfo, connect, type Socket } from 'node:net'
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { setTimeout as pause } from 'node:timers/promises'
import { afterAll, afterEach, beforeAll, describe, expect, it } from '@jest/globals'
import { type AuthorizationServer, startAuthorizationServer } from '../helpers/authorization-server.js'
import { createGate } from '../helpers/gate.js'
import {
  onResponse,
  type ProxyFramework,
  type ProxySite,
  type ProxySiteOptions,
} from '../helpers/proxy-site.js'

const MB = 1024 * 1024
const LARGE = 48 * MB
/** What may be on its way between three processes: the buffers of two connections. */
const BUFFERS = 24 * MB
const NOBODY = { user: 'none' } as const

interface StreamingApi {
  readonly url: string
  readonly connections: ReadonlySet<Socket>
  /** How many connections there have been. */
  readonly connected: number
  close(): Promise<void>
}

/** What `bearerProxy()` does with bodies that are long or slow, in every framework. */
export function describeProxyStreams(framework: ProxyFramework): void {
  describe(`bearerProxy(options), ${framework.name}: streams`, () => {
    let server: AuthorizationServer
    const closers: { close(): Promise<unknown> }[] = []
    beforeAll(async () => {
      server = await startAuthorizationServer()
    })
    afterEach(async () => {
      for (const each of closers.splice(0).reverse()) await each.close()
    })
    afterAll(() => server.close())

    async function api(listener: RequestListener): Promise<StreamingApi> {
      const http = createServer(listener).listen(0, '127.0.0.1')
      const connections = new Set<Socket>()
      let connected = 0
      http.on('connection', (socket) => {
        connected += 1
        connections.add(socket)
        socket.once('close', () => connections.delete(socket))
      })
      await once(http, 'listening')
      const started = {
        url: `http://127.0.0.1:${(http.address() as AddressInfo).port}`,
        connections,
        get connected() {
          return connected
        },
        async close() {
          const end = once(http, 'close')
          http.close()
          http.closeAllConnections()
          await end
        },
      }
      closers.push(started)
      return started
    }
    async function site(target: string, options: Partial<ProxySiteOptions> = {}): Promise<ProxySite> {
      const started = await framework.start(server, { guard: NOBODY, proxy: { target }, ...options })
      closers.push(started)
      return started
    }
    function ask(gateway: ProxySite, options: RequestOptions = {}): ClientRequest {
      const asking = requestOf(`${gateway.url}/api/file`, { agent: false, ...options })
      asking.on('error', () => {})
      return asking
    }
    async function answerTo(asking: ClientRequest): Promise<IncomingMessage> {
      const [answer] = (await once(asking, 'response')) as [IncomingMessage]
      answer.on('error', () => {})
      return answer
    }

    it('a large upload is not kept: it goes on only as fast as the API reads', async () => {
      const reading = createGate()
      const orders = await api(async (request, response) => {
        request.pause()
        await reading.pass()
        response.end(await digest(request))
      })
      const gateway = await site(orders.url)
      const asking = ask(gateway, { method: 'POST' })
      const sending = pipeline(Readable.from(chunksOf(LARGE)), asking)
      await reading.reached
      const [socket] = gateway.sockets
      expect(await settled(() => socket?.bytesRead ?? 0)).toBeLessThan(BUFFERS)
      reading.release()
      const answer = await answerTo(asking)
      await sending
      expect(await textOf(answer)).toBe(await digest(Readable.from(chunksOf(LARGE))))
    }, 30_000)

    it('a large download is not kept: it goes on only as fast as the browser reads', async () => {
      const orders = await api((_, response) => void pipeline(Readable.from(chunksOf(LARGE)), response))
      const gateway = await site(orders.url)
      const answer = await answerTo(ask(gateway).end())
      const [socket] = orders.connections
      expect(await settled(() => socket?.bytesWritten ?? 0)).toBeLessThan(BUFFERS)
      expect(await digest(answer)).toBe(await digest(Readable.from(chunksOf(LARGE))))
    }, 30_000)

    it.each([
      ['with a length', { 'content-length': '1' }],
      ['in chunks', {}],
    ])('headers of an answer %s arrive as they are, in whatever encoding', async (_, headers) => {
      const name = 'caf\u00e9 \u00c3\u00a9'
      // Node encodes headers anew that go out along with a text.
      const orders = await api((_, response) =>
        response.writeHead(200, { ...headers, 'x-name': name }).end(Buffer.from('1')),
      )
      const answer = await answerTo(ask(await site(orders.url)).end())
      expect(answer.headers['x-name']).toBe(name)
      expect(await textOf(answer)).toBe('1')
    })

    it('server-sent events arrive one by one, the headers before the first', async () => {
      const next = [createGate(), createGate()]
      const orders = await api(async (_, response) => {
        response.writeHead(200, { 'content-type': 'text/event-stream' }).flushHeaders()
        for (const [index, gate] of next.entries()) {
          await gate.pass()
          response.write(`data: ${index}\n\n`)
        }
      })
      const gateway = await site(orders.url)
      const answer = await answerTo(ask(gateway).end())
      expect(answer.headers['content-type']).toBe('text/event-stream')
      for (const [index, gate] of next.entries()) {
        gate.release()
        const [event] = await once(answer, 'data')
        expect(String(event)).toBe(`data: ${index}\n\n`)
      }
      answer.destroy()
    })

    describe('when the browser goes, the API is asked no longer', () => {
      it('while it thinks', async () => {
        const asked = createGate()
        const orders = await api(() => void asked.pass())
        const gateway = await site(orders.url)
        const asking = ask(gateway).end()
        await asked.reached
        const [socket] = orders.connections
        asking.destroy()
        await closed(socket!)
      })

      it('while it waits for a connection', async () => {
        const first = createGate()
        const paths: unknown[] = []
        const orders = await api(async (request, response) => {
          paths.push(request.url)
          if (request.url === '/first') await first.pass()
          response.end('done')
        })
        const agent = new Agent({ keepAlive: true, maxSockets: 1 })
        closers.push({ close: async () => agent.destroy() })
        const gateway = await site(orders.url, { proxy: { target: orders.url, agent } })
        const answer = answerTo(ask(gateway, { path: '/api/first' }).end())
        await first.reached
        const asking = ask(gateway, { path: '/api/second' }).end()
        await once(asking, 'finish')
        for (let tries = 0; Object.keys(agent.requests).length === 0; tries++) {
          expect(tries).toBeLessThan(1000)
          await pause(1)
        }
        const socket = [...gateway.sockets].at(-1)
        asking.destroy()
        await closed(socket!)
        first.release()
        expect(await textOf(await answer)).toBe('done')
        expect(await textOf(await answerTo(ask(gateway, { path: '/api/third' }).end()))).toBe('done')
        expect(paths).toEqual(['/first', '/third'])
      })

      it('while it answers', async () => {
        const orders = await api((_, response) => response.write('the first part'))
        const gateway = await site(orders.url)
        const answer = await answerTo(ask(gateway).end())
        const [socket] = orders.connections
        answer.destroy()
        await closed(socket!)
      })

      it.each([
        ['GET', ''],
        ['POST', 'the body'],
      ])('while an answer before its own is still to come: %s', async (method, body) => {
        const asked = createGate()
        const orders = await api(() => void asked.pass())
        const gateway = await site(orders.url)
        const browser = connect(Number(new URL(gateway.url).port), '127.0.0.1')
        const length = `Content-Length: ${body.length}`
        for (let count = 0; count < 12; count++) {
          browser.write(`${method} /api/file HTTP/1.1\r\nHost: a\r\n${length}\r\n\r\n${body}`)
        }
        await asked.reachedBy(12)
        const sockets = [...orders.connections]
        expect(sockets).toHaveLength(12)
        browser.destroy()
        await Promise.all(sockets.map(closed))
      })

      it('while it is told', async () => {
        const asked = createGate()
        const orders = await api((request) => void request.once('data', () => asked.pass()))
        const gateway = await site(orders.url)
        const asking = ask(gateway, { method: 'POST' })
        asking.write('the first part')
        await asked.reached
        const [socket] = orders.connections
        asking.destroy()
        await closed(socket!)
      })
    })

    it.each([
      ['with a length', { 'content-length': '100' }],
      ['in chunks', {}],
    ])('an answer %s that breaks off breaks off for the browser as well', async (_, headers) => {
      const orders = await api((_, response) => {
        response.writeHead(200, headers).write('the first part')
      })
      const gateway = await site(orders.url)
      const answer = await answerTo(ask(gateway).end())
      const [part] = await once(answer, 'data')
      expect(String(part)).toBe('the first part')
      for (const socket of orders.connections) socket.destroy()
      await closed(answer)
      expect(answer.complete).toBe(false)
    })

    it('when the app ends the response, the API is asked no longer', async () => {
      let responding: ServerResponse | undefined
      const between = onResponse(framework, (response) => {
        responding = response
      })
      const orders = await api((_, response) => {
        response.write('the first part')
        const more = setInterval(() => response.write('more'), 10)
        response.once('close', () => clearInterval(more))
      })
      const gateway = await site(orders.url, { between })
      const answer = await answerTo(ask(gateway).end())
      const [socket] = orders.connections
      responding?.end()
      await Promise.all([closed(socket!), textOf(answer)])
    })

    it('502 when the API breaks off before it responds', async () => {
      const orders = await api((request) => void request.once('data', () => request.socket.destroy()))
      const gateway = await site(orders.url)
      const asking = ask(gateway, { method: 'POST' })
      asking.write('the first part')
      const answer = await answerTo(asking)
      expect(answer.statusCode).toBe(502)
      expect(answer.headers['content-type']).toBe('application/problem+json')
      asking.end()
      await textOf(answer)
    })

    it.each([
      ['a status that no response has', 'HTTP/1.1 099 Odd\r\nContent-Length: 3\r\n\r\nodd'],
      [
        'another protocol, unasked',
        'HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: odd\r\n\r\n',
      ],
    ])('502 when the API answers with %s', async (_, bytes) => {
      const orders = await api(({ socket }) => void socket.on('error', () => {}).write(bytes))
      const gateway = await site(orders.url)
      const answer = await answerTo(ask(gateway).end())
      expect(answer.statusCode).toBe(502)
      await textOf(answer)
      expect(gateway.errors).toEqual([])
      await Promise.all([...orders.connections].map((socket) => socket.destroyed || once(socket, 'close')))
    })

    it('a response to an upload that the API does not read on arrives, and the rest of the upload is read here', async () => {
      const requests: IncomingMessage[] = []
      const orders = await api((request) => {
        requests.push(request.on('error', () => {}))
        request.socket.write('HTTP/1.1 413 Content Too Large\r\nContent-Length: 9\r\n\r\ntoo large')
      })
      const gateway = await site(orders.url)
      const browser = connect(Number(new URL(gateway.url).port), '127.0.0.1')
      const answers = textOf(browser)
      browser.write(`POST /api/file HTTP/1.1\r\nHost: a\r\nContent-Length: ${LARGE}\r\n\r\n`)
      await pipeline(Readable.from(chunksOf(LARGE)), browser, { end: false })
      browser.write('GET /elsewhere HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n')
      expect((await answers).match(/HTTP\/1.1 \d+|too large/g)).toEqual([
        'HTTP/1.1 413',
        'too large',
        'HTTP/1.1 404',
      ])
      // Who does not read does not notice that the other end has gone.
      for (const request of requests) await closed(request.resume())
    })

    describe('proxyTimeout', () => {
      it('504 when the API says nothing', async () => {
        const orders = await api(() => {})
        const gateway = await site(orders.url, { proxy: { target: orders.url, proxyTimeout: 20 } })
        const answer = await answerTo(ask(gateway).end())
        expect(answer.statusCode).toBe(504)
        expect(JSON.parse(await textOf(answer))).toMatchObject({ title: 'Gateway Timeout' })
      })

      it('neither ends an upload that goes on nor a response that has begun', async () => {
        const orders = await api(async (request, response) => {
          response.setHeader('content-type', await textOf(request))
          response.flushHeaders()
          await pause(1_100)
          response.end('done')
        })
        const gateway = await site(orders.url, { proxy: { target: orders.url, proxyTimeout: 1_000 } })
        const asking = ask(gateway, { method: 'POST' })
        for (let part = 0; part < 12; part++) {
          asking.write('x')
          await pause(100)
        }
        const answer = await answerTo(asking.end())
        expect(answer.headers['content-type']).toBe('x'.repeat(12))
        expect(await textOf(answer)).toBe('done')
      })
    })

    it('a chunked body that a replay needs goes out again, and what was still to come', async () => {
      const refusing = createGate()
      const refused = createGate()
      let count = 0
      const orders = await api(async (request, response) => {
        count += 1
        if (count === 1) {
          await once(request, 'data')
          refusing.pass()
          response.writeHead(401, { 'www-authenticate': 'Bearer error="invalid_token"' }).end()
        } else {
          refused.pass()
          response.end(await textOf(request))
        }
      })
      const gateway = await site(orders.url, { guard: {} })
      const tab = await gateway.loggedIn()
      const names = ['connect.sid', 'koa.sess', 'koa.sess.sig']
      const cookie = names.map((name) => `${name}=${tab.cookie(name) ?? ''}`).join('; ')
      const asking = ask(gateway, { method: 'POST', headers: { cookie } })
      asking.write('the first part, ')
      await refused.reached
      asking.end('the rest')
      refused.release()
      expect(await textOf(await answerTo(asking))).toBe('the first part, the rest')
    })

    it('keeps the connections of an `agent`', async () => {
      const orders = await api((request, response) => void textOf(request).then((body) => response.end(body)))
      const agent = new Agent({ keepAlive: true })
      closers.push({ close: async () => agent.destroy() })
      const gateway = await site(orders.url, { proxy: { target: orders.url, agent } })
      for (const body of ['one', 'two', 'three']) {
        expect(await textOf(await answerTo(ask(gateway, { method: 'POST' }).end(body)))).toBe(body)
      }
      expect(orders.connected).toBe(1)
    })
  })
}

/** Resolves when a stream is no more, with an error or without. */
function closed(stream: Readable): Promise<void> {
  return new Promise((resolve) => stream.once('close', resolve))
}

/** Different bytes, in chunks. */
function* chunksOf(bytes: number): Generator<Buffer> {
  for (let at = 0; at < bytes; at += MB) yield Buffer.alloc(MB, at / MB)
}

async function digest(stream: AsyncIterable<Buffer>): Promise<string> {
  const hash = createHash('sha256')
  for await (const chunk of stream) hash.update(chunk)
  return hash.digest('hex')
}

async function textOf(stream: AsyncIterable<Buffer>): Promise<string> {
  const chunks: Buffer[] = []
  for await (const chunk of stream) chunks.push(chunk)
  return Buffer.concat(chunks).toString()
}

/** What a count is when it has stopped growing: nothing tells that no more will come. */
async function settled(count: () => number): Promise<number> {
  let last = -1
  for (let still = 0; still < 5; ) {
    await pause(20)
    still = count() === last && last > 0 ? still + 1 : 0
    last = count()
  }
  return last
}
