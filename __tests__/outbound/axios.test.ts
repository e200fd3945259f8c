import { Readable } from 'node:stream'
import { text } from 'node:stream/consumers'
import { setImmediate } from 'node:timers/promises'
import { inspect } from 'node:util'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from '@jest/globals'
import {
  type AxiosAdapter,
  AxiosError,
  type AxiosInstance,
  type AxiosRequestConfig,
  type AxiosResponse,
  type InternalAxiosRequestConfig,
  isAxiosError,
  isCancel,
} from 'axios'
import { type SessionTokens, StepUpError } from '../../lib/index.js'
import { type AuthorizationServer, startAuthorizationServer } from '../helpers/authorization-server.js'
import type { Browser } from '../helpers/browser.js'
import { createGate } from '../helpers/gate.js'
import { type Site, startSite } from '../helpers/site.js'
import { json, type WireRequest, type WireServer, wireServer } from '../helpers/wire-server.js'

const HOUR_MS = 3_600_000

let server: AuthorizationServer
let api: WireServer
let site: Site
let browser: Browser
/** What the API answers to a request that has a token it takes. */
let answer: Parameters<typeof wireServer>[0]
let accepted: (token: string) => boolean
let refused: (response: Parameters<typeof json>[0]) => void
let refreshesBefore: number

beforeAll(async () => {
  server = await startAuthorizationServer()
  api = await wireServer((request, response) => {
    const [, token = ''] = /^Bearer (.+)$/.exec(request.headers.authorization ?? '') ?? []
    return accepted(token) ? answer(request, response) : refused(response)
  })
})
beforeEach(async () => {
  answer = (_request, response) => json(response, { orders: [] })
  accepted = () => true
  refused = (response) =>
    json(response, { why: 'token' }, 401, { 'www-authenticate': 'Bearer error="invalid_token"' })
  api.requests.length = 0
  site = await startSite(server)
  browser = site.browser()
  await site.login(browser)
  refreshesBefore = server.refreshes()
})
afterEach(() => site.close())
afterAll(async () => {
  await api.close()
  await server.close()
})

/** Runs in a handler of the site, for the browser's session. */
async function inRequest<T>(work: (tokens: SessionTokens) => Promise<T>): Promise<T> {
  let outcome: Promise<T> | undefined
  site.handle('/call', async (request) => {
    outcome = work(request.tokens)
    await outcome.catch(() => {})
  })
  expect((await browser.get('/call')).status).toBe(200)
  return outcome!
}

const calling = <T>(work: (api: AxiosInstance) => Promise<T>) =>
  inRequest((tokens) => work(tokens.axios({ baseURL: api.url })))

/** What a call rejects with. */
async function failure(call: Promise<unknown>): Promise<AxiosError & { code: string }> {
  const settled = await call.then(
    (value) => ({ value }),
    (error: unknown) => ({ error }),
  )
  expect(settled).toHaveProperty('error')
  return (settled as { error: AxiosError & { code: string } }).error
}

/** So many turns of the event loop. */
async function turns(count: number): Promise<void> {
  for (let turn = 0; turn < count; turn++) await setImmediate()
}

const sessionToken = async () => (await site.storedTokens(browser))!.accessTokens[0]!.token
const authorizations = () => api.requests.map(({ headers }) => headers.authorization)
const refreshes = () => server.refreshes() - refreshesBefore

/** The API refuses the session's present token and takes every other one. Resolves with the present one. */
async function refuseThePresentToken(): Promise<string> {
  const present = await sessionToken()
  accepted = (token) => token !== '' && token !== present
  return present
}

describe('tokens.axios(config)', () => {
  it('sends the access token along', async () => {
    const { data } = await calling((api) => api.get('/orders?open=1'))
    expect(data).toEqual({ orders: [] })
    expect(api.requests).toMatchObject([{ method: 'GET', path: '/orders?open=1' }])
    expect(authorizations()).toEqual([`Bearer ${await sessionToken()}`])
    expect(refreshes()).toBe(0)
  })

  it('refreshes an expired token first', async () => {
    const before = await sessionToken()
    site.clock.advance(HOUR_MS)
    await calling((api) => api.get('/orders'))
    expect(await sessionToken()).not.toBe(before)
    expect(authorizations()).toEqual([`Bearer ${await sessionToken()}`])
  })

  it('asks for the token that is needed, at each call', async () => {
    const resource = 'https://orders.example'
    await site.login(browser, 'user', { resource })
    await inRequest(async (tokens) => {
      const orders = tokens.axios({ baseURL: api.url, need: { resource, scope: 'orders.read' } })
      await orders.get('/one')
      await orders.get('/two')
      await tokens.axios({ baseURL: api.url }).get('/three')
    })
    const [one, two, three] = authorizations()
    expect(one).toMatch(/^Bearer ey/)
    expect(two).toBe(one)
    expect(three).not.toBe(one)
    expect(refreshes()).toBe(1)
  })

  it('S74 sends nothing when nobody is logged in', async () => {
    browser = site.browser()
    expect(await failure(calling((api) => api.get('/orders')))).toMatchObject({ code: 'ERR_NO_TOKENS' })
    expect(api.requests).toEqual([])
  })

  it('sends nothing when the token is not a bearer token', async () => {
    await browser.post('/login', { access_token: 'bound', token_type: 'DPoP', expires_in: 60 })
    const error = await failure(calling((api) => api.get('/orders')))
    expect(error).toMatchObject({ code: 'ERR_INVALID_TOKEN_RESPONSE' })
    expect(error.message).toContain('getAccessToken()')
    expect(api.requests).toEqual([])
  })

  it.each<[string, object]>([
    ['no baseURL', {}],
    ['a relative baseURL', { baseURL: '/api' }],
    ['a baseURL without a scheme', { baseURL: 'api.example.com' }],
    ['a baseURL of another kind', { baseURL: 'data:text/plain,x' }],
    [
      'an allowed origin that is none',
      { baseURL: 'https://api.example.com', allowedOrigins: ['files.example.com'] },
    ],
  ])('refuses %s', async (_, config) => {
    const error = await failure(inRequest(async (tokens) => tokens.axios(config as { baseURL: string })))
    expect(error).toMatchObject({ code: 'ERR_CONFIGURATION' })
    expect(error.message).toContain('baseURL: "https://api.example.com"')
  })
})

describe('when the API refuses the token', () => {
  it('S70 one refresh and one replay', async () => {
    const first = await refuseThePresentToken()
    const { data, status } = await calling((api) => api.get('/orders'))
    expect([status, data]).toEqual([200, { orders: [] }])
    const second = await sessionToken()
    expect(second).not.toBe(first)
    expect(authorizations()).toEqual([`Bearer ${first}`, `Bearer ${second}`])
    expect(refreshes()).toBe(1)
  })

  it('S70 S18 twenty calls at once: one refresh', async () => {
    await refuseThePresentToken()
    const answers = await calling((api) => Promise.all(Array.from({ length: 20 }, () => api.get('/orders'))))
    expect(answers.map(({ status }) => status)).toEqual(Array(20).fill(200))
    expect(refreshes()).toBe(1)
    expect(server.reuses()).toBe(0)
  })

  it('S70 a second 401 is passed on as it is', async () => {
    accepted = () => false
    const error = await failure(calling((api) => api.get('/orders')))
    expect(error).toMatchObject({ status: 401, response: { data: { why: 'token' } } })
    expect(isAxiosError(error)).toBe(true)
    expect(api.requests).toHaveLength(2)
    expect(refreshes()).toBe(1)
  })

  it.each<[string, number, Record<string, string>]>([
    ['403', 403, {}],
    ['403 that says invalid_token', 403, { 'www-authenticate': 'Bearer error="invalid_token"' }],
    [
      '401 with insufficient_scope',
      401,
      { 'www-authenticate': 'Bearer error="insufficient_scope", scope="a"' },
    ],
    ['401 with insufficient_scope unquoted', 401, { 'www-authenticate': 'Bearer error=insufficient_scope' }],
    [
      '401 with insufficient_scope spelt otherwise',
      401,
      { 'www-authenticate': 'Bearer realm="x", Error = "insufficient_scope"' },
    ],
    ['500', 500, {}],
  ])('S70 %s never refreshes and is not repeated', async (_, status, headers) => {
    accepted = () => false
    refused = (response) => json(response, { why: 'not the token' }, status, headers)
    const error = await failure(calling((api) => api.get('/orders')))
    expect(error).toMatchObject({ status, response: { data: { why: 'not the token' } } })
    expect(api.requests).toHaveLength(1)
    expect(refreshes()).toBe(0)
  })

  it('S70 insufficient_user_authentication is a step-up error (RFC 9470), and nothing is refreshed', async () => {
    accepted = () => false
    const challenge = 'Bearer error="insufficient_user_authentication", acr_values="mfa phr", max_age="300"'
    refused = (response) => json(response, {}, 401, { 'www-authenticate': challenge })
    const error = await failure(calling((api) => api.get('/orders')))
    expect(error).toBeInstanceOf(StepUpError)
    expect(error).toMatchObject({ code: 'ERR_STEP_UP_REQUIRED', acrValues: 'mfa phr', maxAge: 300 })
    expect(api.requests).toHaveLength(1)
    expect(refreshes()).toBe(0)
  })

  it('S70 the refresh fails: the call fails with that, and is not repeated', async () => {
    await refuseThePresentToken()
    server.failNext(500)
    const error = await failure(calling((api) => api.get('/orders')))
    expect(error).toMatchObject({ code: 'ERR_TOKEN_ENDPOINT_UNAVAILABLE', retryable: true })
    expect(api.requests).toHaveLength(1)
    expect((await calling((api) => api.get('/orders'))).status).toBe(200)
  })
})

describe('bodies', () => {
  const form = () => {
    const form = new FormData()
    form.append('name', 'größe')
    form.append('file', new Blob(['content of the file']), 'file.txt')
    return form
  }
  const boundaryOf = ({ headers }: WireRequest) =>
    /boundary=(.+)$/.exec(headers['content-type'] ?? '')?.[1] ?? 'none'

  it.each<[string, () => unknown, string, string]>([
    ['JSON', () => ({ item: 'größe' }), 'application/json', '{"item":"größe"}'],
    [
      'URLSearchParams',
      () => new URLSearchParams({ item: 'a b&c' }),
      'application/x-www-form-urlencoded;charset=utf-8',
      'item=a+b%26c',
    ],
    ['text', () => 'text', 'application/x-www-form-urlencoded', 'text'],
    ['a buffer', () => Buffer.from('bytes'), 'application/x-www-form-urlencoded', 'bytes'],
  ])('S70 S71 %s is sent, and replayed', async (_, body, type, sent) => {
    await refuseThePresentToken()
    const { status } = await calling((api) => api.post('/orders', body()))
    expect(status).toBe(200)
    expect(api.requests.map(({ headers, body }) => [headers['content-type'], body])).toEqual([
      [type, sent],
      [type, sent],
    ])
  })

  it('S70 S71 FormData is sent, and replayed', async () => {
    await refuseThePresentToken()
    const { status } = await calling((api) => api.post('/files', form()))
    expect(status).toBe(200)
    expect(api.requests).toHaveLength(2)
    for (const request of api.requests) {
      expect(request.body.split(`--${boundaryOf(request)}`)).toEqual([
        '',
        expect.stringMatching(/name="name"\r\n\r\ngröße\r\n$/),
        expect.stringMatching(/filename="file.txt"[\s\S]*content of the file\r\n$/),
        '--\r\n',
      ])
    }
  })

  it('S70 S71 a stream is sent, and not replayed', async () => {
    const sent = await calling((api) => api.post('/files', Readable.from(['one ', 'two'])))
    expect(sent.status).toBe(200)
    await refuseThePresentToken()
    const error = await failure(calling((api) => api.post('/files', Readable.from(['one ', 'two']))))
    expect(error.status).toBe(401)
    expect(api.requests.map(({ body }) => body)).toEqual(['one two', 'one two'])
    // Who sends it again does so with another token.
    expect(refreshes()).toBe(1)
    expect((await calling((api) => api.post('/files', Readable.from(['two'])))).status).toBe(200)
    expect(refreshes()).toBe(1)
  })
})

describe('what axios can do', () => {
  it('S71 interceptors see every call once, and no token', async () => {
    await refuseThePresentToken()
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
    expect(api.requests.map(({ headers }) => headers['x-trace'])).toEqual(['trace', 'trace'])
  })

  it('S71 an interceptor that tries again does so with the token of that moment', async () => {
    const first = await sessionToken()
    answer = (_request, response) => json(response, {}, api.requests.length < 3 ? 503 : 200)
    const { status } = await calling((api) => {
      api.interceptors.response.use(undefined, async (error: AxiosError) => {
        if (api.defaults.headers.common['X-Tries'] !== '1') site.clock.advance(HOUR_MS)
        api.defaults.headers.common['X-Tries'] = '1'
        return api.request(error.config!)
      })
      return api.get('/orders')
    })
    expect(status).toBe(200)
    const second = await sessionToken()
    expect(authorizations()).toEqual([`Bearer ${first}`, `Bearer ${second}`, `Bearer ${second}`])
  })

  it('S71 a call that an interceptor tries again is refreshed and replayed once, as any other', async () => {
    accepted = () => false
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
    expect(authorizations()).toHaveLength(4)
    expect(refreshes()).toBe(2)
  })

  it.each([
    ['everything', () => true],
    ['less than 500', (status: number) => status < 500],
  ])(
    'S71 validateStatus takes %s: the 401 is recovered from all the same, the second one an answer',
    async (_, validateStatus) => {
      await refuseThePresentToken()
      expect((await calling((api) => api.get('/orders', { validateStatus }))).status).toBe(200)
      accepted = () => false
      const { status, data } = await calling((api) => api.get('/orders', { validateStatus }))
      expect([status, data]).toEqual([401, { why: 'token' }])
      expect(refreshes()).toBe(2)
    },
  )

  it('S71 validateStatus refuses a 200', async () => {
    const error = await failure(calling((api) => api.get('/orders', { validateStatus: () => false })))
    expect(error.status).toBe(200)
    expect(api.requests).toHaveLength(1)
  })

  it('S71 a signal that was aborted before: nothing is sent', async () => {
    const error = await failure(calling((api) => api.get('/orders', { signal: AbortSignal.abort() })))
    expect(isCancel(error)).toBe(true)
    expect(api.requests).toEqual([])
  })

  it('S71 a signal that is aborted while the API works', async () => {
    const gate = createGate()
    answer = async (_request, response) => {
      await gate.pass()
      json(response, {})
    }
    const leaving = new AbortController()
    const call = failure(calling((api) => api.get('/orders', { signal: leaving.signal })))
    await gate.reached
    leaving.abort()
    expect(isCancel(await call)).toBe(true)
    gate.release()
  })

  it('S71 a signal that is aborted during the refresh: the caller goes at once, the refresh is kept', async () => {
    site.clock.advance(HOUR_MS)
    const held = server.holdAnswer()
    const leaving = new AbortController()
    const call = failure(calling((api) => api.get('/orders', { signal: leaving.signal })))
    await held.reached
    leaving.abort()
    const first = await Promise.race([call.then(() => 'caller'), turns(100).then(() => 'nobody')])
    held.release()
    expect(first).toBe('caller')
    expect(isCancel(await call)).toBe(true)
    await site.mounted.manager.close()
    expect((await site.storedTokens(browser))?.revision).toBe(2)
    expect(api.requests).toEqual([])
  })

  it('S71 responseType stream, after a 401 too', async () => {
    await refuseThePresentToken()
    const body = await calling(async (api) => {
      const { data } = await api.get<Readable>('/orders', { responseType: 'stream' })
      return text(data)
    })
    expect(JSON.parse(body)).toEqual({ orders: [] })
    expect(api.requests).toHaveLength(2)
  })

  it.each<[string, 'http' | 'fetch']>([
    ['http', 'http'],
    ['fetch', 'fetch'],
  ])('S71 adapter %s of a single request', async (_, adapter) => {
    await refuseThePresentToken()
    const { data } = await calling((api) => api.post('/orders', { item: 1 }, { adapter }))
    expect(data).toEqual({ orders: [] })
    expect(api.requests.map(({ body }) => body)).toEqual(['{"item":1}', '{"item":1}'])
    expect(refreshes()).toBe(1)
  })

  it('S71 an adapter of the app’s own, of a single request or of all, is the one that sends', async () => {
    const sent: unknown[] = []
    const adapter: AxiosAdapter = async (config) => {
      sent.push(config.headers.Authorization)
      return { data: 'own', status: 200, statusText: 'OK', headers: {}, config } as AxiosResponse
    }
    const answers = await inRequest((tokens) =>
      Promise.all([
        tokens.axios({ baseURL: api.url }).get('/orders', { adapter }),
        tokens.axios({ baseURL: api.url, adapter }).get('/orders'),
      ]),
    )
    const authorization = `Bearer ${await sessionToken()}`
    expect(answers.map(({ data }) => data)).toEqual(['own', 'own'])
    expect(sent).toEqual([authorization, authorization])
    expect(inspect(answers, { depth: 20 })).not.toContain(await sessionToken())
    expect(api.requests).toEqual([])
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
    const first = await sessionToken()
    browser = site.browser()
    await site.login(browser, 'another')
    const again = await configOf((api) => api.request(resent))
    await configOf((api) => api.request(again))
    const other = await sessionToken()
    expect(other).not.toBe(first)
    expect(authorizations()).toEqual([first, other, other].map((token) => `Bearer ${token}`))
  })

  it('goes to the origins of that instance alone', async () => {
    const resent = await configOf((api) => api.get('/orders'))
    const elsewhere = (tokens: SessionTokens) =>
      tokens.axios({ baseURL: 'https://api.example.com' }).request(resent)
    expect(await failure(inRequest(elsewhere))).toMatchObject({ code: 'ERR_ORIGIN_NOT_ALLOWED' })
    expect(api.requests).toHaveLength(1)
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
    expect(api.requests).toEqual([])
  })
})

describe('nothing displaces the token', () => {
  const auth = { username: 'user', password: 'password' }

  it.each<[string, (tokens: SessionTokens) => Promise<unknown>]>([
    ['auth of the instance', (tokens) => tokens.axios({ baseURL: api.url, auth }).get('/orders')],
    ['auth of a request', (tokens) => tokens.axios({ baseURL: api.url }).get('/orders', { auth })],
    [
      'an Authorization header of the instance',
      (tokens) => tokens.axios({ baseURL: api.url, headers: { authorization: 'Basic x' } }).get('/orders'),
    ],
    [
      'an Authorization header of a request',
      (tokens) =>
        tokens.axios({ baseURL: api.url }).get('/orders', { headers: { AUTHORIZATION: 'Basic x' } }),
    ],
    [
      'an interceptor',
      (tokens) => {
        const instance = tokens.axios({ baseURL: api.url })
        instance.interceptors.request.use((config) => Object.assign(config, { auth }))
        return instance.get('/orders')
      },
    ],
  ])('S70 %s', async (_, call) => {
    await inRequest(call)
    expect(authorizations()).toEqual([`Bearer ${await sessionToken()}`])
  })
})

describe('a URL that cannot be used', () => {
  it('S70 credentials in baseURL are refused', async () => {
    const baseURL = api.url.replace('//', '//user:password@')
    const error = await failure(inRequest(async (tokens) => tokens.axios({ baseURL })))
    expect(error).toMatchObject({ code: 'ERR_CONFIGURATION' })
    expect(error.message).toContain('Leave them out')
    expect(error.message).not.toContain('password@')
  })

  it('S70 credentials in the URL of a request are refused', async () => {
    const url = `${api.url.replace('//', '//user:password@')}/orders`
    expect(await failure(calling((api) => api.get(url)))).toMatchObject({ code: 'ERR_CONFIGURATION' })
    expect(api.requests).toEqual([])
  })

  it('a URL of a request that is none is what the message names', async () => {
    const error = await failure(calling((api) => api.get('http://[/orders')))
    expect(error).toMatchObject({ code: 'ERR_CONFIGURATION' })
    expect(error.message).toMatch(/^The URL of the request /)
  })
})

describe('what comes back shows no token', () => {
  /** Where a logger would show one of the tokens that were sent. */
  function leaks(value: unknown): string[] {
    const text = [
      inspect(value, { depth: 20 }),
      value instanceof Error ? `${value}\n${value.stack}\n${JSON.stringify(value)}` : '',
    ].join('\n')
    const tokens = authorizations().map((authorization) => authorization!.replace('Bearer ', ''))
    expect(tokens.length).toBeGreaterThan(0)
    return tokens.flatMap((token) => {
      const at = text.indexOf(token)
      return at === -1 ? [] : [text.slice(Math.max(0, at - 60), at)]
    })
  }

  it.each<[string, (api: AxiosInstance) => Promise<unknown>]>([
    ['an answer', (api) => api.get('/orders')],
    ['an answer to a body', (api) => api.post('/orders', { item: 1 })],
    ['an answer as a stream', (api) => api.get('/orders', { responseType: 'stream' })],
    ['an answer through fetch', (api) => api.get('/orders', { adapter: 'fetch' })],
  ])('%s', async (_, call) => {
    await refuseThePresentToken()
    const response = (await calling(call)) as AxiosResponse
    expect([...leaks(response), ...leaks(response.config)]).toEqual([])
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
    accepted = () => false
    refused = (response) => json(response, { why: 'x' }, status, { location: '/orders' })
    const error = await failure(calling(call))
    expect([...leaks(error), ...leaks(error.config), ...leaks(error.response)]).toEqual([])
    // axios's own documentation logs `error.request`.
    expect(leaks(error.request)).toEqual([])
  })

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
    expect(sent).toEqual([await sessionToken()])
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
