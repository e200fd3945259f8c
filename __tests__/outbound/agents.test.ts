import { Agent, type ClientRequest, request as httpRequest, type RequestOptions } from 'node:http'
import { Readable } from 'node:stream'
import { text } from 'node:stream/consumers'
import { inspect } from 'node:util'
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals'
import axios, {
  type AxiosAdapter,
  AxiosError,
  type AxiosInstance,
  type AxiosRequestConfig,
  type AxiosResponse,
  type CreateAxiosDefaults,
} from 'axios'
import { axiosOver } from '../../lib/outbound/axios/axios.js'
import { fetchOver } from '../../lib/outbound/fetch/fetch.js'
import type { OutboundTokens } from '../../lib/tokens/token-source.js'
import { createGate } from '../helpers/gate.js'
import { reachableTexts } from '../helpers/reachable.js'
import { type WireServer, wireServer } from '../helpers/wire-server.js'

const ALICE = 'AT-of-alice-0123456789'
const BOB = 'AT-of-bob-0123456789'
const SECRETS = [ALICE, BOB, 'RT-of-bob-0123456789', 'ID-of-bob-0123456789']

const tokensOf = (token: string, ...others: string[]): OutboundTokens => ({
  tokenToSend: async () => ({ token, tokenType: 'Bearer', expiresAt: Number.MAX_SAFE_INTEGER }),
  secrets: () => [token, ...others],
})
const alice = tokensOf(ALICE)
const bob = tokensOf(BOB, ...SECRETS.slice(2))

/** An agent of the app's, for all its users. */
class CountingAgent extends Agent {
  sent = 0

  /** What Node calls for each request. */
  addRequest(request: ClientRequest, options: RequestOptions): void {
    this.sent++
    ;(Agent.prototype as unknown as CountingAgent).addRequest.call(this, request, options)
  }
}

type Dispatcher = { destroy(): Promise<void> }

// Node's own dispatcher, which is made with its first fetch(), in the realm that fetch() is of.
await fetch('data:,x')
const realm = fetch.constructor('return globalThis')() as typeof globalThis
const { constructor: Dispatcher } = Reflect.get(realm, Symbol.for('undici.globalDispatcher.1')) as {
  constructor: new (options: object) => Dispatcher
}

let api: WireServer
let agent: CountingAgent
let dispatcher: Dispatcher
/** Lets the request of the other user end. */
let gate: ReturnType<typeof createGate>
let slow: Promise<unknown>[]

beforeEach(async () => {
  gate = createGate()
  slow = []
  api = await wireServer(async ({ path }, response) => {
    if (path === '/slow') {
      await gate.pass()
      response.end('slow')
    } else if (path === '/500') response.writeHead(500, { 'x-echo': SECRETS.slice(1).join() }).end(echo())
    else if (path === '/503') response.writeHead(503).end('later')
    else if (path === '/breaks') response.write('x', () => response.destroy())
    else if (path === '/quotes') quoting(response)
    else if (path === '/silent') return
    else response.end('{"fine":true}')
  })
  agent = new CountingAgent({ keepAlive: true })
  dispatcher = new Dispatcher({ connections: 2 })
})
afterEach(async () => {
  gate.release()
  await Promise.all(slow)
  await Promise.all([api.close(), dispatcher.destroy()])
  agent.destroy()
})

const echo = () => JSON.stringify({ seen: SECRETS.slice(1).map((secret) => `Bearer ${secret}`) })

/** Answers with chunks of which the second is none, but what the request was. */
function quoting({ socket }: Parameters<Parameters<typeof wireServer>[0]>[1]): void {
  const begins = 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n'
  socket?.write(begins, () => socket.end(`ZZ ${SECRETS.slice(1).join(' ')}\r\n`))
}

/** The other user's request, under way over the same connections. */
async function underWay(config: AxiosRequestConfig & object): Promise<void> {
  slow.push(axiosOver(() => alice, { baseURL: api.url }).get('/slow', config))
  await gate.reached
}

/** What a call has come to: its response or its error. */
const outcome = <T>(call: Promise<T>): Promise<AxiosResponse & AxiosError> =>
  call.catch((error) => error) as Promise<never>

function expectNoToken(...values: unknown[]): void {
  for (const value of values) {
    const texts = reachableTexts(value)
    expect(SECRETS.filter((secret) => texts.includes(secret))).toEqual([])
  }
}

it('an agent, and a dispatcher, lead to the tokens of requests under way: what these tests are about', async () => {
  await underWay({ httpAgent: agent })
  expect(reachableTexts({ agent })).toContain(ALICE)
})

/** Ways in which an app names what its requests are sent over. */
const ways: [string, () => CreateAxiosDefaults][] = [
  ['httpAgent', () => ({ httpAgent: agent })],
  ['httpAgent and httpsAgent', () => ({ httpAgent: agent, httpsAgent: agent })],
  ['a transport', () => ({ transport: transport() })],
  ['an adapter', () => ({ adapter: ownAdapter() })],
  ['an adapter with an agent', () => ({ adapter: ownAdapter(), agent }) as never],
  ['an adapter with agents', () => ({ adapter: ownAdapter(), agents: { http: [agent] } }) as never],
  ['a client of its own', () => ({ httpAgent: agent, client: axios.create({ httpAgent: agent }) }) as never],
  ['a dispatcher', () => ({ adapter: 'fetch', fetchOptions: { dispatcher } }) as never],
]

const transport = () => ({
  agent,
  request: (options: RequestOptions, onResponse: never) => httpRequest({ ...options, agent }, onResponse),
})

/** An adapter of the app's that is careless with what it hands over. */
const ownAdapter = (): AxiosAdapter => async (config) => {
  try {
    const response = await axios.getAdapter('http')({ ...config, httpAgent: agent })
    return Object.assign(response, { agent, sockets: agent.sockets, fromCache: false })
  } catch (error) {
    throw Object.assign(error as AxiosError, { agent, socket: Object.values(agent.sockets)[0], tries: 1 })
  }
}

/** What comes of calls. */
const calls: [string, (api: AxiosInstance, config: AxiosRequestConfig) => Promise<unknown>][] = [
  ['a response', (api, config) => api.get('/', config)],
  ['a response to a stream', (api, config) => api.post('/', Readable.from(['x']), config)],
  ['a stream', (api, config) => api.get('/', { ...config, responseType: 'stream' })],
  ['a 500', (api, config) => api.get('/500', config)],
  ['a 500 in bytes', (api, config) => api.get('/500', { ...config, responseType: 'arraybuffer' })],
  ['a 500 as a stream', (api, config) => api.get('/503', { ...config, responseType: 'stream' })],
  ['a 500 that is no error', (api, config) => api.get('/', { ...config, validateStatus: () => false })],
  ['a response that breaks off', (api, config) => api.get('/breaks', config)],
  ['a response that quotes the request', (api, config) => api.get('/quotes', config)],
  ['a time-out', (api, config) => api.get('/silent', { ...config, timeout: 20 })],
  ['a signal', (api, config) => api.get('/silent', { ...config, signal: AbortSignal.timeout(20) })],
  ['a signal from the start', (api, config) => api.get('/', { ...config, signal: AbortSignal.abort() })],
  [
    'a CancelToken',
    (api, config) => {
      const { token, cancel } = axios.CancelToken.source()
      setTimeout(cancel, 20)
      return api.get('/silent', { ...config, cancelToken: token })
    },
  ],
  ['a response that is too long', (api, config) => api.get('/', { ...config, maxContentLength: 1 })],
  [
    'a response that is not transformed',
    (api, config) => api.get('/', { ...config, transformResponse: () => JSON.parse('{') }),
  ],
  ['JSON that is none', (api, config) => api.get('/slow/', { ...config, transformRequest: () => fail() })],
]
const fail = (): never => {
  throw new Error('not today')
}

describe.each(ways)('S66 %s of the app’s, with a request of another user under way', (_, config) => {
  it.each(calls)('%s leads to no token', async (_, call) => {
    await underWay(config() as AxiosRequestConfig)
    const { baseURL } = { baseURL: api.url }
    const came = [
      await outcome(
        call(
          axiosOver(() => bob, { baseURL, ...config() }),
          {},
        ),
      ),
      await outcome(
        call(
          axiosOver(() => bob, { baseURL }),
          config() as AxiosRequestConfig,
        ),
      ),
    ]
    for (const each of came) {
      expectNoToken(each, each.config, each.request, each.response, each.cause)
      if (each instanceof AxiosError) expectNoToken(each.toJSON())
    }
  })
})

describe('S66 an interceptor of the app’s', () => {
  const failing = (config: object) => new AxiosError('not now', 'E_OWN', config as never)

  it.each<[string, (api: AxiosInstance) => void]>([
    [
      'fails with the config',
      (api) => api.interceptors.request.use((config) => Promise.reject(failing(config))),
    ],
    [
      'fails with that of the response',
      (api) => api.interceptors.response.use(({ config }) => Promise.reject(failing(config))),
    ],
  ])('%s: it leads to no token, and goes over the same agent again', async (_, intercept) => {
    await underWay({ httpAgent: agent })
    const instance = axiosOver(() => bob, { baseURL: api.url })
    intercept(instance)
    const error = await outcome(instance.get('/', { httpAgent: agent }))
    expect(error).toMatchObject({ code: 'E_OWN' })
    expectNoToken(error)
    const before = agent.sent
    await axiosOver(() => bob, { baseURL: api.url }).request(error.config!)
    expect(agent.sent).toBe(before + 1)
  })
})

describe('S66 a config that is sent again goes over the agent of the app', () => {
  it.each<[string, CreateAxiosDefaults, AxiosRequestConfig]>([
    ['of the request', {}, { httpAgent: 'agent' }],
    ['of the instance', { httpAgent: 'agent' }, {}],
    ['of the request, with another of the instance', { httpAgent: new Agent() }, { httpAgent: 'agent' }],
    ['of a transport', {}, { transport: 'transport' }],
  ])('%s', async (_, defaults, config) => {
    const named = <T extends object>(config: T) =>
      Object.fromEntries(
        Object.entries(config).map(([name, value]) => [
          name,
          value === 'agent' ? agent : value === 'transport' ? transport() : value,
        ]),
      )
    const instance = axiosOver(() => bob, { baseURL: api.url, ...named(defaults) })
    const count = config.transport ? () => api.requests.length : () => agent.sent
    const { config: sent } = await outcome(instance.get('/500', named(config)))
    const { config: again } = await outcome(instance.request(sent!))
    const { config: third } = await outcome(axios.request(again!))
    const { config: fourth } = await outcome(axios.request({ ...third, url: '/' }))
    expect(count()).toBe(4)
    expect(api.requests.map(({ headers }) => headers.authorization)).toEqual(Array(4).fill(`Bearer ${BOB}`))
    expectNoToken(sent, again, third, fourth)
  })

  it('unless another is named', async () => {
    const instance = axiosOver(() => bob, { baseURL: api.url, httpAgent: new Agent() })
    const { config } = await instance.get('/', { httpAgent: new Agent() })
    await instance.request({ ...config, httpAgent: agent })
    expect(agent.sent).toBe(1)
    const { config: plain } = await axios.request({ ...config, httpAgent: agent })
    expect([agent.sent, plain.httpAgent]).toEqual([2, undefined])
  })

  it('and over that of its own instance alone, not of the first one', async () => {
    const first = axiosOver(() => alice, { baseURL: api.url, httpAgent: new Agent() })
    const { config } = await first.get('/')
    await axiosOver(() => bob, { baseURL: api.url, httpAgent: agent }).request(config)
    expect(agent.sent).toBe(1)
    expect(api.requests.map(({ headers }) => headers.authorization)).toEqual([
      `Bearer ${ALICE}`,
      `Bearer ${BOB}`,
    ])
  })
})

describe('an error whose class reads a private field', () => {
  /** An error of an app's adapter, as HTTP clients with private fields make them. */
  class ClientError extends Error {
    readonly #sent: object

    constructor(sent: object) {
      super('refused')
      this.#sent = sent
    }

    get request(): object {
      return this.#sent
    }

    get details(): object {
      return { sent: [this.#sent] }
    }

    get status(): number {
      return 418
    }

    get broken(): never {
      throw new TypeError('no private field')
    }

    toJSON(): object {
      return { message: this.message, sent: this.#sent }
    }
  }

  it.each(['thrown', 'the cause of another'])('%s: leads to no token', async (kind) => {
    const adapter: AxiosAdapter = async ({ headers }) => {
      const error = new ClientError({ authorization: String(headers.get('Authorization')), agent })
      throw kind === 'thrown' ? error : new Error('failed', { cause: error })
    }
    const thrown = await axiosOver(() => bob, { baseURL: api.url, adapter })
      .get('/')
      .catch((error) => error)
    const error = kind === 'thrown' ? thrown : thrown.cause
    expect(error).toBeInstanceOf(ClientError)
    expect(error).toMatchObject({ message: 'refused', status: 418 })
    const shown = [JSON.stringify(error), JSON.stringify(error.request), JSON.stringify(error.details)]
    for (const text of [...shown, inspect(error, { depth: 9, getters: true, showHidden: true })]) {
      for (const secret of SECRETS) expect(text).not.toContain(secret)
      expect(text).not.toContain('CountingAgent')
    }
    expect(JSON.parse(shown[0]!)).toMatchObject({ message: 'refused' })
    expect(error.details.sent[0].agent).toBeUndefined()
  })
})

it('what else an app keeps in a config stays there for its interceptors', async () => {
  const metadata = { start: new Date(), span: new (class Span {})(), done: () => true }
  const instance = axiosOver(() => bob, { baseURL: api.url, httpAgent: agent })
  const { config } = await instance.get('/', { metadata } as never)
  expect((config as unknown as { metadata: typeof metadata }).metadata).toEqual(metadata)
  expect(config.httpAgent).toBeUndefined()
})

describe('S66 a dispatcher of the app’s, with a request of another user under way', () => {
  const fetchOf = (tokens: OutboundTokens) => fetchOver(() => tokens, { baseURL: api.url })
  const over = () => ({ dispatcher }) as unknown as RequestInit

  it.each<[string, (call: typeof fetch) => Promise<unknown>]>([
    ['a response', (call) => call('/', over())],
    ['a 500', (call) => call('/500', over())],
    ['a body that breaks off', async (call) => (await call('/breaks', over())).text()],
    ['a body that quotes the request', async (call) => (await call('/quotes', over())).text()],
    ['a signal', (call) => call('/silent', { ...over(), signal: AbortSignal.timeout(20) })],
  ])('%s leads to no token', async (_, call) => {
    slow.push(fetchOf(alice)('/slow', over()))
    await gate.reached
    const came = await call(fetchOf(bob)).catch((error) => error)
    const headers = came instanceof Response ? [...came.headers.keys()] : []
    if (!headers.includes('x-echo')) expectNoToken(came)
  })

  it('an error of the dispatcher’s keeps what it says, and lets go of the dispatcher', async () => {
    const cause = Object.assign(new Error(`not sent: Bearer ${BOB}`), {
      code: 'E_OWN',
      dispatcher,
      details: { tries: 2, sent: [`Bearer ${SECRETS[2]}`], agent },
    })
    const failing = {
      dispatch: () => {
        throw cause
      },
    }
    const error = await fetchOf(bob)('/', { dispatcher: failing } as never).catch((error) => error)
    expect(error.cause).toBe(cause)
    expect(error.cause).toMatchObject({
      code: 'E_OWN',
      message: 'not sent: Bearer [redacted]',
      details: { tries: 2, sent: ['Bearer [redacted]'] },
    })
    expectNoToken(error)
  })
})

describe('S60 a body that fails while it is read shows no token', () => {
  const call = async (path = '/quotes') => fetchOver(() => bob, { baseURL: api.url })(path)
  const iterate = async (body: AsyncIterable<unknown>) => {
    for await (const _chunk of body);
  }

  it.each<[string, (response: Response) => Promise<unknown>]>([
    ['text()', (response) => response.text()],
    ['json()', (response) => response.json()],
    ['arrayBuffer()', (response) => response.arrayBuffer()],
    ['blob()', (response) => response.blob()],
    ['for await', ({ body }) => iterate(body as never)],
    [
      'getReader()',
      async ({ body }) => {
        const reader = body!.getReader()
        while (!(await reader.read()).done);
      },
    ],
    [
      'a reader of bytes',
      async ({ body }) => {
        const reader = body!.getReader({ mode: 'byob' })
        while (!(await reader.read(new Uint8Array(64))).done);
      },
    ],
    ['pipeTo()', ({ body }) => body!.pipeTo(new WritableStream())],
    ['pipeThrough()', ({ body }) => text(body!.pipeThrough(new TransformStream()))],
    ['tee()', ({ body }) => Promise.all(body!.tee().map((branch) => text(branch)))],
    ['Readable.fromWeb()', ({ body }) => text(Readable.fromWeb(body as never))],
    ['a Response around it', ({ body }) => new Response(body).text()],
    ['a clone', (response) => response.clone().text()],
    ['a clone of a clone', (response) => response.clone().clone().json()],
    ['the body of a clone', (response) => iterate(response.clone().body as never)],
    [
      'a response that was cloned',
      (response) => {
        response.clone()
        return response.text()
      },
    ],
  ])('by %s', async (_, read) => {
    const error = await read(await call()).then(
      () => 'no error',
      (error) => error,
    )
    expect(error).toMatchObject({ name: 'TypeError', message: 'terminated' })
    expect(error.cause).toMatchObject({ name: 'HTTPParserError' })
    expectNoToken(error)
  })

  it('and one that does not is read as it is, once, by every way', async () => {
    const response = await call('/')
    const clone = response.clone()
    const { body } = response
    expect(response.body).toBe(body)
    expect(response.bodyUsed).toBe(false)
    expect(await response.json()).toEqual({ fine: true })
    expect(response.bodyUsed).toBe(true)
    await expect(response.text()).rejects.toMatchObject({ name: 'TypeError' })
    const reader = clone.body!.getReader({ mode: 'byob' })
    const { value } = await reader.read(new Uint8Array(4))
    expect(Buffer.from(value!).toString()).toBe('{"fi')
    await reader.cancel()
    expect(clone.bodyUsed).toBe(true)
    expect(await (await call('/')).clone().text()).toBe('{"fine":true}')
  })

  it('JSON that is none', async () => {
    api.requests.length = 0
    const echoing = await wireServer((_request, response) => response.end(SECRETS[2]))
    const response = await fetchOver(() => bob, { baseURL: echoing.url })('/')
    const error = await response.json().catch((error) => error)
    await echoing.close()
    expect(error.name).toBe('SyntaxError')
    expectNoToken(error)
  })

  it('in a stream of an adapter of the app’s', async () => {
    const failing = () => Object.assign(new Error(`broken: ${BOB}`), { agent })
    const adapter: AxiosAdapter = async (config) => {
      const data = new Readable({ read: () => void data.destroy(failing()) })
      return { data, status: 200, statusText: 'OK', headers: {}, config }
    }
    const { data } = await axiosOver(() => bob, { baseURL: api.url, adapter }).get('/')
    const error = await iterate(data).catch((error) => error)
    expect(error.message).toBe('broken: [redacted]')
    expect(error).not.toHaveProperty('agent')
  })

  it.each(['http', 'fetch'] as const)('in a stream of axios, adapter %s', async (adapter) => {
    const config = { baseURL: api.url, adapter, responseType: 'stream' } as const
    const { data } = await axiosOver(() => bob, config).get('/quotes')
    const error = await iterate(data).catch((error) => error)
    expect(error.message).toMatch(adapter === 'http' ? /Parse Error|aborted/ : /terminated/)
    expectNoToken(error)
  })
})

describe('S60 an error of axios shows no token of the session that the API echoes', () => {
  it('in its headers and its body', async () => {
    const error = await outcome(axiosOver(() => bob, { baseURL: api.url }).get('/500'))
    expect(error.response?.data).toEqual({ seen: Array(3).fill('Bearer [redacted]') })
    expect(error.response?.headers['x-echo']).toBe('[redacted],[redacted],[redacted]')
  })

  it('and a response that is no error has all that the API says', async () => {
    const config = { validateStatus: () => true }
    const { data } = await axiosOver(() => bob, { baseURL: api.url }).get('/500', config)
    expect(data).toEqual(JSON.parse(echo()))
  })
})
