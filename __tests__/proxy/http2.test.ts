import { once } from 'node:events'
import {
  type ClientHttp2Session,
  connect,
  createServer,
  type Http2Server,
  type IncomingHttpHeaders,
} from 'node:http2'
import type { AddressInfo } from 'node:net'
import { text } from 'node:stream/consumers'
import { describe, expect, it } from '@jest/globals'
import Koa from 'koa'
import { bearerProxy } from '../../lib/proxy.js'
import { json, wireServer } from '../helpers/wire-server.js'

async function serveOverHttp2(
  target: string,
): Promise<{ readonly server: Http2Server; readonly session: ClientHttp2Session }> {
  const app = new Koa()
  app.use((ctx, next) => {
    const token = { token: 'a-token', tokenType: 'Bearer', expiresAt: Infinity }
    Object.assign(ctx, { tokens: { tokenToSend: async () => token } })
    return next()
  })
  app.use(bearerProxy({ target }))
  const server = createServer(app.callback()).listen(0, '127.0.0.1')
  await once(server, 'listening')
  return { server, session: connect(`http://127.0.0.1:${(server.address() as AddressInfo).port}`) }
}

describe('bearerProxy(options), Koa over HTTP/2', () => {
  it.each([
    ['this host', 'http://app.example.com', {}, 200],
    ['another host', 'https://evil.example', {}, 403],
    ['another port', 'http://app.example.com:1', {}, 403],
    ['another host, which another header names', 'https://evil.example', { host: 'evil.example' }, 403],
  ])('takes :authority for the host: a POST of a page of %s', async (_, origin, more, status) => {
    const api = await wireServer((_, response) => json(response, 'fine', 200, { connection: 'close' }))
    const { server, session } = await serveOverHttp2(api.url)
    const asking = session.request({
      ':method': 'POST',
      ':path': '/1',
      ':authority': 'app.example.com',
      origin,
      ...more,
    })
    asking.end()
    const [headers] = (await once(asking, 'response')) as [IncomingHttpHeaders]
    asking.resume()
    expect(headers[':status']).toBe(status)
    expect(api.requests).toHaveLength(status === 200 ? 1 : 0)

    const closed = once(server, 'close')
    session.close()
    server.close()
    await closed
    await api.close()
  })

  it.each(['trace', 'Trace', 'connect', 'delete', 'get', 'TRACK'])(
    'refuses the method %s',
    async (method) => {
      const api = await wireServer((_, response) => json(response, 'fine', 200, { connection: 'close' }))
      const { server, session } = await serveOverHttp2(api.url)
      const asking = session.request({ ':method': method, ':path': '/1' })
      asking.end()
      const [headers] = (await once(asking, 'response')) as [IncomingHttpHeaders]
      asking.resume()
      expect(headers[':status']).toBe(405)
      expect(api.requests).toEqual([])

      const closed = once(server, 'close')
      session.close()
      server.close()
      await closed
      await api.close()
    },
  )

  it.each([
    ['POST', 'a body', 'chunked'],
    ['GET', '', undefined],
  ])('passes a %s on', async (method, body, encoding) => {
    const api = await wireServer((_, response) => json(response, 'fine', 200, { connection: 'close' }))
    const { server, session } = await serveOverHttp2(api.url)

    const asking = session.request({
      ':method': method,
      ':path': '/1',
      cookie: 'a=b',
      'content-type': 'text/plain',
    })
    asking.end(body === '' ? undefined : body)
    expect(await text(asking)).toBe('"fine"')
    const { headers, port: _, ...request } = api.requests[0]!
    expect(request).toEqual({ method, path: '/1', body })
    expect(headers).toEqual({
      ...{ authorization: 'Bearer a-token', 'content-type': 'text/plain', host: new URL(api.url).host },
      ...{ connection: 'keep-alive', ...(encoding && { 'transfer-encoding': encoding }) },
    })

    const closed = once(server, 'close')
    session.close()
    server.close()
    await closed
    await api.close()
  })
})
