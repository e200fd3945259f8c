import { once } from 'node:events'
import { Agent } from 'node:http'
import { type AddressInfo, createServer } from 'node:net'
import { Readable } from 'node:stream'
import { text } from 'node:stream/consumers'
import { inspect } from 'node:util'
import { describe, expect, it } from '@jest/globals'
import axios, {
  type AxiosAdapter,
  AxiosError,
  type AxiosInstance,
  type AxiosRequestConfig,
  type AxiosResponse,
  type InternalAxiosRequestConfig,
  isAxiosError,
  isCancel,
} from 'axios'
import type { SessionTokens } from '../../lib/index.js'
import { HOUR_MS, OutboundSite } from '../helpers/outbound-site.js'
import { json } from '../helpers/wire-server.js'

const at = new OutboundSite()

const calling = <T>(work: (api: AxiosInstance) => Promise<T>) =>
  at.inRequest((tokens) => work(tokens.axios({ baseURL: at.api.url })))

/** What a call rejects with. */
async function failure(call: Promise<unknown>): Promise<AxiosError & { code: string }> {
  const settled = await call.then(
    (value) => ({ value }),
    (error: unknown) => ({ error }),
  )
  expect(settled).toHaveProperty('error')
  return (settled as { error: AxiosError & { code: string } }).error
}

describe('bodies', () => {
  it.each<[string, () => unknown, string, string]>([
    ['JSON', () => ({ item: 'größe' }), 'application/json', '{"item":"größe"}'],
    [
      'URLSearchParams',
      () => new URLSearchParams({ item: 'a b&c' }),
      'application/x-www-form-urlencoded;charset=utf-8',
      'item=a+b%26c',
    ],
    ['text', () => 'text', 'application/x-www-form-urlencoded', 'text'],
  ])('S70 S71 %s is sent, and replayed, as axios does', async (_, body, type, sent) => {
    await at.refuseThePresentToken()
    const { status } = await calling((api) => api.post('/orders', body()))
    expect(status).toBe(200)
    expect(at.api.requests.map(({ headers, body }) => [headers['content-type'], body])).toEqual([
      [type, sent],
      [type, sent],
    ])
  })
})

describe('what axios can do', () => {
  it('S71 interceptors see every call once, and no token', async () => {
    await at.refuseThePresentToken()
    const seen: unknown[] = []
    await calling((api) => {
      api.interceptors.request.use((config) => {
        seen.push(config.headers.Authorization)
        config.headers.set('X-Trace', 'trace')
        return config
      })
      api.interceptors.response.use((response) => {
        seen.push(response.config.headers.Authorization)
        response.data.seen = true
        return response
      })
      return api.get('/orders').then(({ data }) => expect(data).toEqual({ orders: [], seen: true }))
    })
    expect(seen).toEqual([undefined, undefined])
    expect(at.api.requests.map(({ headers }) => headers['x-trace'])).toEqual(['trace', 'trace'])
  })

  it('S71 a time-out ends the wait for a connection', async () => {
    const httpAgent = new Agent()
    httpAgent.createConnection = () => undefined
    const error = await failure(calling((api) => api.get('/orders', { httpAgent, timeout: 50 })))
    expect(error).toMatchObject({ code: 'ECONNABORTED', message: 'timeout of 50ms exceeded' })
  })

  it('S71 an API that changes the protocol unasked is a failure', async () => {
    const raw = createServer((socket) => {
      socket.on('error', () => {})
      socket.once('data', () =>
        socket.write('HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: other\r\n\r\n'),
      )
    }).listen(0, '127.0.0.1')
    await once(raw, 'listening')
    const baseURL = `http://127.0.0.1:${(raw.address() as AddressInfo).port}`
    const error = await failure(at.inRequest((tokens) => tokens.axios({ baseURL }).get('/orders')))
    expect([isAxiosError(error), error.code]).toEqual([true, 'ERR_UNEXPECTED_UPGRADE'])
    raw.close()
  })

  it('S71 an interceptor that tries again does so with the token of that moment', async () => {
    const first = await at.sessionToken()
    at.answer = (_request, response) => json(response, {}, at.api.requests.length < 3 ? 503 : 200)
    const { status } = await calling((api) => {
      api.interceptors.response.use(undefined, async (error: AxiosError) => {
        if (api.defaults.headers.common['X-Tries'] !== '1') at.site.clock.advance(HOUR_MS)
        api.defaults.headers.common['X-Tries'] = '1'
        return api.request(error.config!)
      })
      return api.get('/orders')
    })
    expect(status).toBe(200)
    const second = await at.sessionToken()
    expect(at.authorizations()).toEqual([`Bearer ${first}`, `Bearer ${second}`, `Bearer ${second}`])
  })

  it('S71 a call that an interceptor tries again is refreshed and replayed once, as any other', async () => {
    at.accepted = () => false
    const error = await failure(
      calling((api) => {
        let tries = 0
        api.interceptors.response.use(undefined, (error: AxiosError) => {
          if (tries++ > 0) throw error
          return api.request(error.config!)
        })
        return api.get('/orders')
      }),
    )
    expect(error.status).toBe(401)
    expect(at.authorizations()).toHaveLength(4)
    expect(at.refreshes()).toBe(2)
  })

  it.each([
    ['everything', () => true],
    ['less than 500', (status: number) => status < 500],
  ])(
    'S71 validateStatus takes %s: the 401 is recovered from all the same, the second one an answer',
    async (_, validateStatus) => {
      await at.refuseThePresentToken()
      expect((await calling((api) => api.get('/orders', { validateStatus }))).status).toBe(200)
      at.accepted = () => false
      const { status, data } = await calling((api) => api.get('/orders', { validateStatus }))
      expect([status, data]).toEqual([401, { why: 'token' }])
      expect(at.refreshes()).toBe(2)
    },
  )

  it('S71 validateStatus refuses a 200', async () => {
    const error = await failure(calling((api) => api.get('/orders', { validateStatus: () => false })))
    expect(error.status).toBe(200)
    expect(at.api.requests).toHaveLength(1)
  })

  it('S71 the second 401 is an error of axios, as any other status', async () => {
    at.accepted = () => false
    const error = await failure(calling((api) => api.get('/orders')))
    expect(error).toMatchObject({ status: 401, response: { data: { why: 'token' } } })
    expect(isAxiosError(error)).toBe(true)
  })

  it('S71 a CancelToken that is used during the refresh', async () => {
    at.site.clock.advance(HOUR_MS)
    const held = at.server.holdAnswer()
    const { token, cancel } = axios.CancelToken.source()
    const call = failure(calling((api) => api.get('/orders', { cancelToken: token })))
    await held.reached
    cancel('left')
    held.release()
    expect(isCancel(await call)).toBe(true)
    expect(at.api.requests).toEqual([])
  })

  it('S71 responseType stream, after a 401 too', async () => {
    await at.refuseThePresentToken()
    const body = await calling(async (api) => {
      const { data } = await api.get<Readable>('/orders', { responseType: 'stream' })
      return text(data)
    })
    expect(JSON.parse(body)).toEqual({ orders: [] })
    expect(at.api.requests).toHaveLength(2)
  })

  it.each<[string, 'http' | 'fetch']>([
    ['http', 'http'],
    ['fetch', 'fetch'],
  ])('S71 adapter %s of a single request', async (_, adapter) => {
    await at.refuseThePresentToken()
    const { data } = await calling((api) => api.post('/orders', { item: 1 }, { adapter }))
    expect(data).toEqual({ orders: [] })
    expect(at.api.requests.map(({ body }) => body)).toEqual(['{"item":1}', '{"item":1}'])
    expect(at.refreshes()).toBe(1)
  })

  it('S71 an adapter of the app’s own, of a single request or of all, is the one that sends', async () => {
    const sent: unknown[] = []
    const adapter: AxiosAdapter = async (config) => {
      sent.push(config.headers.Authorization)
      return { data: 'own', status: 200, statusText: 'OK', headers: {}, config } as AxiosResponse
    }
    const answers = await at.inRequest((tokens) =>
      Promise.all([
        tokens.axios({ baseURL: at.api.url }).get('/orders', { adapter }),
        tokens.axios({ baseURL: at.api.url, adapter }).get('/orders'),
      ]),
    )
    const authorization = `Bearer ${await at.sessionToken()}`
    expect(answers.map(({ data }) => data)).toEqual(['own', 'own'])
    expect(sent).toEqual([authorization, authorization])
    expect(inspect(answers, { depth: 20 })).not.toContain(await at.sessionToken())
    expect(at.api.requests).toEqual([])
  })
})

describe('a config that is sent again', () => {
  /** What axios says of a call of the first user: its config was made by the first user's instance. */
  async function configOf(call: (api: AxiosInstance) => Promise<AxiosResponse>) {
    return (await calling(call)).config
  }

  it.each<[string, AxiosRequestConfig]>([
    ['as it is', {}],
    ['with an adapter of the app’s own', { adapter: 'fetch' }],
  ])('%s, with the instance of another user: it carries the token of the other', async (_, config) => {
    const resent = await configOf((api) => api.get('/orders', config))
    const first = await at.sessionToken()
    at.browser = at.site.browser()
    await at.site.login(at.browser, 'another')
    const again = await configOf((api) => api.request(resent))
    await configOf((api) => api.request(again))
    const other = await at.sessionToken()
    expect(other).not.toBe(first)
    expect(at.authorizations()).toEqual([first, other, other].map((token) => `Bearer ${token}`))
  })

  it('goes to the origins of that instance alone', async () => {
    const resent = await configOf((api) => api.get('/orders'))
    const elsewhere = (tokens: SessionTokens) =>
      tokens.axios({ baseURL: 'https://api.example.com' }).request(resent)
    expect(await failure(at.inRequest(elsewhere))).toMatchObject({ code: 'ERR_ORIGIN_NOT_ALLOWED' })
    expect(at.api.requests).toHaveLength(1)
  })

  it('is sent by the adapter that the app has chosen', async () => {
    let sent = 0
    const adapter: AxiosAdapter = async (config) => {
      sent++
      return { data: 'own', status: 200, statusText: 'OK', headers: {}, config } as AxiosResponse
    }
    const resent = await configOf((api) => api.get('/orders', { adapter }))
    await configOf((api) => api.request(resent))
    expect(sent).toBe(2)
    expect(at.api.requests).toEqual([])
  })
})

describe('nothing displaces the token', () => {
  const auth = { username: 'user', password: 'password' }

  it.each<[string, (tokens: SessionTokens) => Promise<unknown>]>([
    ['auth of the instance', (tokens) => tokens.axios({ baseURL: at.api.url, auth }).get('/orders')],
    ['auth of a request', (tokens) => tokens.axios({ baseURL: at.api.url }).get('/orders', { auth })],
    [
      'an Authorization header of the instance',
      (tokens) => tokens.axios({ baseURL: at.api.url, headers: { authorization: 'Basic x' } }).get('/orders'),
    ],
    [
      'an interceptor',
      (tokens) => {
        const instance = tokens.axios({ baseURL: at.api.url })
        instance.interceptors.request.use((config) => Object.assign(config, { auth }))
        return instance.get('/orders')
      },
    ],
  ])('S70 %s', async (_, call) => {
    await at.inRequest(call)
    expect(at.authorizations()).toEqual([`Bearer ${await at.sessionToken()}`])
  })
})

describe('what comes back shows no token', () => {
  it.each<[string, (api: AxiosInstance) => Promise<unknown>]>([
    ['an answer', (api) => api.get('/orders')],
    ['an answer to a body', (api) => api.post('/orders', { item: 1 })],
    ['an answer as a stream', (api) => api.get('/orders', { responseType: 'stream' })],
    ['an answer through fetch', (api) => api.get('/orders', { adapter: 'fetch' })],
  ])('%s', async (_, call) => {
    await at.refuseThePresentToken()
    const response = (await calling(call)) as AxiosResponse
    expect([...at.leaks(response), ...at.leaks(response.config)]).toEqual([])
  })

  it.each<[string, number, (api: AxiosInstance) => Promise<unknown>]>([
    ['401', 401, (api) => api.get('/orders')],
    ['401 to a stream', 401, (api) => api.post('/orders', Readable.from(['x']))],
    ['401 as a stream', 401, (api) => api.get('/orders', { responseType: 'stream' })],
    ['500', 500, (api) => api.get('/orders')],
    ['500 as a stream', 500, (api) => api.get('/orders', { responseType: 'stream' })],
    ['500 through fetch', 500, (api) => api.get('/orders', { adapter: 'fetch' })],
    ['a redirect that is not followed', 302, (api) => api.get('/orders', { maxRedirects: 0 })],
    ['too many redirects', 302, (api) => api.get('/orders', { maxRedirects: 2 })],
    ['an answer that is too long', 200, (api) => api.get('/orders', { maxContentLength: 1 })],
  ])('an error: %s', async (_, status, call) => {
    at.accepted = () => false
    at.refused = (_request, response) => json(response, { why: 'x' }, status, { location: '/orders' })
    const error = await failure(calling(call))
    expect([...at.leaks(error), ...at.leaks(error.config), ...at.leaks(error.response)]).toEqual([])
    // axios's own documentation logs `error.request`.
    expect(at.leaks(error.request)).toEqual([])
  })

  it.each(['http', 'fetch'] as const)(
    'an error: what answers is no HTTP, and quotes the request, through %s',
    async (adapter) => {
      at.answer = ({ headers }, { socket }) => void socket?.end(`no HTTP: ${headers.authorization}`)
      const error = await failure(calling((api) => api.get('/orders', { adapter })))
      expect(error.cause).toMatchObject({ message: expect.stringContaining('Expected HTTP/') })
      expect(at.leaks(error)).toEqual([])
      expect(error.cause).not.toHaveProperty('rawPacket')
    },
  )

  type Rejecting = (config: InternalAxiosRequestConfig) => unknown

  it.each<[string, Rejecting]>([
    ['an error with the config', (config) => Object.assign(new Error('own'), { config })],
    ['an object with the config', (config) => ({ message: 'own', config })],
    ['an error with the request', (config) => Object.assign(new Error('own'), { request: { ...config } })],
    [
      'an answer',
      (config) => Object.assign(new Error('own'), { response: { status: 500, config, request: config } }),
    ],
    ['a cause with the config', (config) => new Error('own', { cause: { config } })],
    ['a cause of a cause', (config) => new Error('own', { cause: new Error('x', { cause: { config } }) })],
    [
      'an axios error as cause',
      (config) => new Error('own', { cause: new AxiosError('x', 'E', config, config) }),
    ],
    ['an axios error with a cause', (config) => Object.assign(new AxiosError('own'), { cause: { config } })],
    ['several errors', (config) => new AggregateError([{ config }], 'own')],
    [
      'an error that cannot be changed',
      (config) => Object.freeze(Object.assign(new Error('own'), { config })),
    ],
    [
      'an error that caused itself',
      (config) => {
        const error: Error & { config?: unknown } = new Error('own')
        return Object.assign(error, { config, cause: error })
      },
    ],
  ])('an adapter of the app’s own that rejects with %s', async (_, rejecting) => {
    const sent: string[] = []
    const adapter: AxiosAdapter = async (config) => {
      sent.push(String(config.headers.Authorization).replace('Bearer ', ''))
      throw rejecting(config)
    }
    const error = await failure(calling((api) => api.get('/orders', { adapter })))
    expect(error.message).toBe('own')
    expect(sent).toEqual([await at.sessionToken()])
    expect(inspect(error, { depth: 20, showHidden: true })).not.toContain(sent[0])
  })

  it.each([undefined, null, 'text', 5])(
    'an adapter of the app’s own that rejects with %p',
    async (reason) => {
      const adapter = () => Promise.reject(reason)
      expect(await failure(calling((api) => api.get('/orders', { adapter })))).toBe(reason)
    },
  )
})
