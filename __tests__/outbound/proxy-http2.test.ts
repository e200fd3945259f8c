import { once } from 'node:events'
import { connect, createServer } from 'node:http2'
import type { AddressInfo } from 'node:net'
import { text } from 'node:stream/consumers'
import { describe, expect, it } from '@jest/globals'
import Koa from 'koa'
import { bearerProxy } from '../../lib/proxy.js'
import { json, wireServer } from '../helpers/wire-server.js'

describe('bearerProxy(options), Koa over HTTP/2', () => {
  it.each([
    ['POST', 'a body', 'chunked'],
    ['GET', '', undefined],
  ])('passes a %s on', async (method, body, encoding) => {
    const api = await wireServer((_, response) => json(response, 'fine', 200, { connection: 'close' }))
    const app = new Koa()
    app.use((ctx, next) => {
      const token = { token: 'a-token', tokenType: 'Bearer', expiresAt: Infinity }
      Object.assign(ctx, { tokens: { tokenToSend: async () => token } })
      return next()
    })
    app.use(bearerProxy({ target: api.url }))
    const server = createServer(app.callback()).listen(0, '127.0.0.1')
    await once(server, 'listening')
    const session = connect(`http://127.0.0.1:${(server.address() as AddressInfo).port}`)

    const asking = session.request({
      ':method': method,
      ':path': '/1',
      cookie: 'a=b',
      'content-type': 'text/plain',
    })
    asking.end(body === '' ? undefined : body)
    expect(await text(asking)).toBe('"fine"')
    const { headers, ...request } = api.requests[0]!
    expect(request).toEqual({ method, path: '/1', body })
    expect(headers).toEqual({
      ...{ authorization: 'Bearer a-token', 'content-type': 'text/plain', host: new URL(api.url).host },
      ...{ connection: 'close', ...(encoding && { 'transfer-encoding': encoding }) },
    })

    const closed = once(server, 'close')
    session.close()
    server.close()
    await closed
    await api.close()
  })
})
