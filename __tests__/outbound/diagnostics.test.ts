import { subscribe, unsubscribe } from 'node:diagnostics_channel'
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals'
import type { OutboundCallMessage } from '../../lib/index.js'
import { axiosOver } from '../../lib/outbound/axios/axios.js'
import { fetchOver } from '../../lib/outbound/fetch/fetch.js'
import { bearerProxy } from '../../lib/proxy.js'
import type { TokenNeed } from '../../lib/tokens/token-need.js'
import { startAuthorizationServer } from '../helpers/authorization-server.js'
import { startSite } from '../helpers/site.js'
import { json, type WireServer, wireServer } from '../helpers/wire-server.js'

const CHANNEL = 'session-token-manager:outbound'

const published: OutboundCallMessage[] = []
const note = (message: unknown) => void published.push(message as OutboundCallMessage)

let api: WireServer
/** The number of requests that the API refuses first. */
let refusals: number
let challenge: string

beforeEach(async () => {
  published.length = 0
  refusals = 0
  challenge = 'Bearer error="invalid_token"'
  api = await wireServer(({ path }, response) => {
    if (path === '/broken') return response.destroy()
    if (path === '/500') return json(response, {}, 500)
    return refusals-- > 0 ? json(response, {}, 401, { 'www-authenticate': challenge }) : json(response, {})
  })
  subscribe(CHANNEL, note)
})
afterEach(async () => {
  unsubscribe(CHANNEL, note)
  await api.close()
})

let tokens = 0
const source = {
  async tokenToSend(_need: TokenNeed = {}) {
    return { token: `secret-${++tokens}`, tokenType: 'Bearer', expiresAt: Number.MAX_SAFE_INTEGER }
  },
  secrets: () => [],
}
const loggedOut = {
  tokenToSend: () => Promise.reject(new Error('no token')),
  secrets: () => [],
}

const clients: [string, (path: string, of?: typeof source) => Promise<unknown>][] = [
  ['axios', (path, of = source) => axiosOver(() => of, { baseURL: api.url }).get(path)],
  ['fetch', (path, of = source) => fetchOver(() => of, { baseURL: api.url })(path)],
]

describe.each(clients)('S95 a call of %s, on the channel of outbound calls', (_, call) => {
  const rows: [string, string, () => unknown, object][] = [
    [
      'with a response',
      '/orders/7?secret=1',
      () => {},
      { outcome: 'response', status: 200, isReplayed: false },
    ],
    ['with a response 500', '/500', () => {}, { outcome: 'response', status: 500, isReplayed: false }],
    ['that was replayed', '/', () => (refusals = 1), { outcome: 'response', status: 200, isReplayed: true }],
    [
      'that was refused twice',
      '/',
      () => (refusals = 9),
      { outcome: 'token_rejected', status: 401, isReplayed: true },
    ],
    ['without a response', '/broken', () => {}, { outcome: 'failed', isReplayed: false }],
    [
      'that requires a login',
      '/',
      () => {
        refusals = 1
        challenge = 'Bearer error="insufficient_user_authentication"'
      },
      { outcome: 'step_up', status: 401, isReplayed: false },
    ],
  ]

  it.each(rows)('S95 %s', async (_, path, arrange, expected) => {
    arrange()
    await call(path).catch(() => {})
    expect(published).toEqual([
      { origin: api.url, method: 'GET', durationMs: expect.any(Number), ...expected },
    ])
    expect(JSON.stringify(published)).not.toContain('secret')
  })

  it('S95 without a token', async () => {
    await expect(call('/', loggedOut as unknown as typeof source)).rejects.toThrow('no token')
    expect(published).toMatchObject([{ outcome: 'no_token', isReplayed: false }])
  })

  it('S95 nothing is computed when nothing listens', async () => {
    unsubscribe(CHANNEL, note)
    await call('/orders')
    expect(published).toEqual([])
  })
})

it('S95 a proxied request, on the channel of outbound calls', async () => {
  const server = await startAuthorizationServer()
  const site = await startSite(server)
  site.app.use('/api', bearerProxy({ target: api.url }))
  const browser = site.browser()
  await site.login(browser)
  for (const path of ['orders', 'broken']) await browser.get(`/api/${path}`)
  expect(published).toMatchObject([
    { origin: api.url, method: 'GET', outcome: 'response', status: 200 },
    { origin: api.url, method: 'GET', outcome: 'failed' },
  ])
  await site.close()
  await server.close()
})
