import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals'
import express from 'express'
import session from 'express-session'
import { decodeJwt } from 'jose'
import { WebSocket } from 'ws'
import { clientSecretBasic } from '../../lib/index.js'
import { composeMiddleware } from '../../lib/middleware/composition.js'
import { middlewareOf } from '../../lib/middleware/express.js'
import { type BearerProxyOptions, bearerProxy, upgradesThrough } from '../../lib/proxy.js'
import { type AuthorizationServer, startAuthorizationServer } from '../helpers/authorization-server.js'
import { type Browser, browser as browserOf } from '../helpers/browser.js'
import { type DpopApi, newNonce, startDpopApi } from '../helpers/dpop-api.js'
import { dpopLogin, SEALING_KEY } from '../helpers/dpop-site.js'
import { ownProcess } from '../helpers/site.js'
import { sayNo, socketApi } from '../helpers/socket-api.js'
import { json } from '../helpers/wire-server.js'

let server: AuthorizationServer
let api: DpopApi

beforeAll(async () => {
  server = await startAuthorizationServer()
  api = await startDpopApi(server)
})
afterAll(async () => {
  await api.close()
  await server.close()
})

/** A site whose `/api` is that of `options.target`, and a browser whose user has logged in. */
async function loggedIn(
  options: BearerProxyOptions,
): Promise<{ browser: Browser; url: string; close(): Promise<void> }> {
  const { clientId, clientSecret } = server.clients.client_secret_basic
  const middleware = middlewareOf(
    composeMiddleware(
      {
        tokenEndpoint: server.tokenEndpoint,
        clientId,
        clientAuthentication: clientSecretBasic(clientSecret),
        encryptionKeys: [SEALING_KEY],
        dpop: true,
      },
      ownProcess(),
    ),
  )
  const app = express()
  app.use(session({ secret: 'test', resave: false, saveUninitialized: false }), middleware)
  app.use('/api', bearerProxy(options))
  app.use(express.json())
  app.get('/begin', async (request, response) => response.json(await request.tokens.dpopThumbprint()))
  app.post('/callback', async (request, response) => {
    await request.tokens.acquire(request.body)
    response.json(null)
  })
  const site = createServer(app).on('upgrade', upgradesThrough(app)).listen(0, '127.0.0.1')
  await once(site, 'listening')
  const url = `http://127.0.0.1:${(site.address() as AddressInfo).port}`
  const browser = browserOf(url)
  await dpopLogin(server, browser)
  const close = async () => {
    const closed = once(site, 'close')
    site.close()
    site.closeAllConnections()
    await closed
  }
  return { browser, url, close }
}

describe('bearerProxy() with DPoP', () => {
  it('S100 sends a proof of the URL at the API, and the body once more when the API asks for a nonce', async () => {
    const site = await loggedIn({ target: `${api.url}/orders` })
    api.nonce = newNonce()
    api.verdicts.length = 0
    api.answer = ({ body }, response) => json(response, { body })
    const headers = { dpop: "the browser's", authorization: "the browser's" }
    const response = await site.browser.post('/api/1?page=2', { a: 1 }, { headers })
    expect([response.status, response.json]).toEqual([200, { body: '{"a":1}' }])
    expect(api.verdicts).toEqual(['use_dpop_nonce', 'ok'])
    expect(decodeJwt(String(api.requests.at(-1)!.headers.dpop))).toMatchObject({
      htm: 'POST',
      htu: `${api.url}/orders/1`,
      nonce: api.nonce,
    })
    expect(response.headers.has('dpop-nonce')).toBe(false)

    const again = await site.browser.get('/api/2')
    expect(again.status).toBe(200)
    expect(api.verdicts).toEqual(['use_dpop_nonce', 'ok', 'ok'])
    await site.close()
  })

  it('S100 a body that is not kept is sent once, and the browser gets the response without the challenge', async () => {
    const site = await loggedIn({ target: api.url, maxReplayBytes: 0 })
    api.nonce = newNonce()
    const response = await site.browser.post('/api/orders', { a: 1 })
    expect(response.status).toBe(401)
    expect(response.headers.has('www-authenticate')).toBe(false)
    await site.close()
  })

  it('S100 the handshake of a WebSocket has a proof, and is repeated with the nonce that the API asks for', async () => {
    const challenge = { 'WWW-Authenticate': 'DPoP error="use_dpop_nonce"', 'DPoP-Nonce': 'for-sockets' }
    const sockets = await socketApi(({ headers }, socket) =>
      decodeJwt(String(headers.dpop)).nonce === 'for-sockets' ? false : sayNo(socket, 401, challenge),
    )
    const site = await loggedIn({ target: sockets.url })
    const cookie = `connect.sid=${site.browser.cookie('connect.sid')}`
    const socket = new WebSocket(`${site.url.replace('http', 'ws')}/api/live?room=1`, { headers: { cookie } })
    await once(socket, 'open')
    socket.send('hello')
    const [message] = await once(socket, 'message')
    expect(String(message)).toBe('hello')
    const claims = sockets.requests.map(({ headers }) => decodeJwt(String(headers.dpop)))
    expect(claims).toMatchObject([{}, { htm: 'GET', htu: `${sockets.url}/live`, nonce: 'for-sockets' }])
    expect(claims[0]!.jti).not.toBe(claims[1]!.jti)
    expect(sockets.requests[1]!.headers.authorization).toMatch(/^DPoP /)
    socket.terminate()
    await site.close()
    await sockets.close()
  })
})
