import { fork } from 'node:child_process'
import { Console } from 'node:console'
import type { LookupAddress } from 'node:dns'
import { once } from 'node:events'
import { PassThrough } from 'node:stream'
import { inspect } from 'node:util'
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals'
import type { ErrorRequestHandler, Request } from 'express'
import { UnsecuredJWT } from 'jose'
import {
  clientAssertion,
  clientSecretBasic,
  clientSecretJwt,
  clientSecretPost,
  type GrantStore,
  memoryGrantStore,
  sessionTokens,
} from '../../lib/index.js'
import { clients } from '../helpers/authorization-server.js'
import { type Browser, browser as browserOf } from '../helpers/browser.js'
import { type FaultServer, startTokenEndpoint } from '../helpers/fault-server.js'
import type { Fault } from '../helpers/faults.js'
import { type Site, type SiteOptions, startSite } from '../helpers/site.js'
import { json, type WireServer, wireServer } from '../helpers/wire-server.js'

const HOUR_MS = 3_600_000
const { clientId, clientSecret } = clients.client_secret_basic
const idToken = (sub: string, iat: number) =>
  new UnsecuredJWT({ iss: 'https://idp.example', sub, aud: clientId, iat }).encode()

const LOGIN = {
  access_token: 'first-access-token~+/=',
  token_type: 'Bearer',
  expires_in: 3600,
  refresh_token: 'first-refresh-token & + % / of the login',
  id_token: idToken('user', 1),
}
const NEXT = {
  access_token: 'second-access-token~+/=',
  token_type: 'Bearer',
  expires_in: 3600,
  refresh_token: 'second-refresh-token & + % / of the refresh',
  id_token: idToken('user', 2),
}
/** Of another middleware over the same sessions. */
const OTHER = {
  ...LOGIN,
  access_token: 'access-token-of-another',
  refresh_token: 'refresh-token-of-another',
  id_token: idToken('of another', 1),
}
const ASSERTION = new UnsecuredJWT({ sub: 'assertion of the platform' }).encode()
const CODE = 'code-of-the-authorization & more'
const VERIFIER = 'verifier-of-the-authorization'
/** A refresh token that JSON escapes. */
const QUOTED = 'quoted-refresh-token "of" the \\ login'
const PASSWORD = 'password of the user + more'

const tokensIn = ({ access_token, refresh_token, id_token }: typeof LOGIN) => [
  access_token,
  refresh_token,
  id_token,
]
const SECRETS = [
  ...tokensIn(LOGIN),
  ...tokensIn(NEXT),
  ...tokensIn(OTHER),
  QUOTED,
  clientSecret,
  ASSERTION,
  CODE,
  VERIFIER,
  PASSWORD,
]

/** A secret as it may turn up: as it is, URL-encoded, in JSON, or somewhere in Base64. */
function formsOf(secret: string): string[] {
  const base64 = [0, 1, 2].flatMap((offset) => {
    const bytes = Buffer.concat([Buffer.alloc(offset), Buffer.from(secret)])
    // The first and the last letters hold bits of what is around.
    const core = (text: string) => text.replace(/=+$/, '').slice(offset === 0 ? 0 : offset + 1, -2)
    return [core(bytes.toString('base64')), core(bytes.toString('base64url'))]
  })
  return [
    secret,
    encodeURIComponent(secret),
    encodeURI(secret),
    new URLSearchParams({ '': secret }).toString().slice(1),
    JSON.stringify(secret).slice(1, -1),
    ...base64,
  ]
}

/** Where secrets show in a text. */
function leaks(text: string, secrets: readonly string[] = SECRETS): string[] {
  return secrets.flatMap((secret) => {
    const [form = ''] = formsOf(secret).filter((form) => text.includes(form))
    const at = text.indexOf(form)
    return form === '' ? [] : [text.slice(Math.max(0, at - 80), at + form.length)]
  })
}

/** Everything that a logger could make of a value. */
async function logged(value: unknown): Promise<string> {
  const stream = new PassThrough()
  const logger = new Console(stream)
  logger.log(value)
  logger.log('%s %j', value, value)
  logger.dir(value, { depth: 20 })
  stream.end()
  const printed = Buffer.concat(await stream.toArray()).toString()
  const { stack = '' } = value instanceof Error ? value : {}
  return [
    printed,
    inspect(value, { depth: 20, showHidden: false }),
    JSON.stringify(value),
    stack,
    String(value),
  ].join('\n')
}

let closers: (() => Promise<unknown>)[]
beforeEach(() => {
  closers = []
})
afterEach(async () => {
  for (const close of closers.reverse()) await close()
})

/** What a situation is played on. */
interface World {
  readonly site: Site
  readonly endpoint: FaultServer
  readonly api: WireServer
}

interface Situation {
  /** What the token endpoint answers; by default nothing is wrong there. */
  readonly answer?: Fault | ((parameters: URLSearchParams) => Fault)
  /** What the revocation endpoint answers. */
  readonly revocation?: Fault
  readonly tokens?: NonNullable<SiteOptions['tokens']>
  /** How the API answers. */
  readonly api?: Parameters<typeof wireServer>[0]
  /** Time does not pass before the call. */
  readonly fresh?: boolean
  prepare?(world: World): void
  /** What the handler does. Default: it asks for a token. */
  act?(request: Request, world: World): Promise<unknown>
}

/** Everything that a server was told, as it may quote it. */
const echo = (parameters: URLSearchParams) => `${parameters} ${[...parameters.values()].join(' ')}`

/** A failure of a store that quotes what it was given or has: as it is, as a JSON record, and in a query. */
function talkative(...answers: (typeof LOGIN)[]): Error {
  const tokens = answers.flatMap(tokensIn)
  const query = new URLSearchParams(tokens.map((token) => ['token', token]))
  const records = JSON.stringify(answers)
  const message = `failed with ${tokens.join(' ')} ${records} ${JSON.stringify({ records })} ${query}`
  return Object.assign(new Error(message), { code: 'E_STORE', rows: answers })
}

function failingGrants(method: keyof GrantStore, error: Error): GrantStore {
  const grants = memoryGrantStore()
  const working = (['lease', 'renew', 'commit', 'release', 'read', 'end'] as const).map((name) => [
    name,
    (grants[name] as (...args: unknown[]) => unknown).bind(grants),
  ])
  return { ...Object.fromEntries(working), [method]: () => Promise.reject(error) } as GrantStore
}

const callApi =
  (config: object = {}) =>
  (request: Request, { api }: World) =>
    request.tokens.axios({ baseURL: api.url }).post('/orders', { item: 1 }, config)

const fetchApi = (request: Request, { api }: World) =>
  request.tokens.fetch({ baseURL: api.url })('/orders', { method: 'POST', body: 'item' })

const FAULTS = [
  429,
  500,
  503,
  'html-502',
  'html-200',
  'garbage',
  'cut-off',
  'empty',
  'empty-400',
  'empty-401',
  'no-access-token',
  'huge',
  'redirect',
  'invalid_client',
  'unauthorized_client',
  'invalid_grant',
  'invalid_scope',
  'reset',
  'hangup',
  'cut-connection',
] as const satisfies Fault[]

const situations: [name: string, situation: Situation][] = [
  ...FAULTS.map((fault): [string, Situation] => [`the token endpoint: ${fault}`, { answer: fault }]),
  ['the token endpoint does not respond', { answer: 'silence', tokens: { refreshTimeoutMs: 50 } }],
  ['the caller loses patience', { answer: 'silence', tokens: { timeoutMs: 20, refreshTimeoutMs: 50 } }],
  ...(['invalid_request', 'invalid_grant', 'invalid_client'] as const).map((error): [string, Situation] => [
    `${error} that quotes the request`,
    {
      answer: (sent) => ({
        status: 400,
        body: { error, error_description: echo(sent), error_uri: echo(sent) },
      }),
    },
  ]),
  [
    'an error code that quotes the request',
    { answer: (sent) => ({ status: 400, body: { error: echo(sent) } }) },
  ],
  [
    'an error page that quotes the request',
    { answer: (sent) => ({ status: 400, body: `<p>${echo(sent)}</p>` }) },
  ],
  ['a 500 that quotes the request', { answer: (sent) => ({ status: 500, body: echo(sent) }) }],
  ['a success that is no JSON', { answer: { status: 200, body: `${JSON.stringify(NEXT)} and more` } }],
  [
    'a success with an error in it',
    { answer: { status: 200, body: { ...NEXT, access_token: undefined, error: 'x' } } },
  ],
  [
    'an access token of another type',
    { answer: { status: 200, body: { ...NEXT, access_token: [NEXT.access_token] } } },
  ],
  [
    'an access token that no header may hold',
    { answer: { status: 200, body: { ...NEXT, access_token: `${NEXT.access_token}\n` } } },
  ],
  [
    'an ID token of another user',
    { answer: { status: 200, body: { ...NEXT, id_token: idToken('other', 2) } } },
  ],
  [
    'an ID token of another user, and the revocation fails',
    { answer: { status: 200, body: { ...NEXT, id_token: idToken('other', 2) } }, revocation: 500 },
  ],
  [
    'the secret in the form, and the response quotes it',
    {
      tokens: { clientAuthentication: clientSecretPost(clientSecret) },
      answer: (sent) => ({ status: 400, body: { error: 'invalid_request', error_description: echo(sent) } }),
    },
  ],
  [
    'an assertion, and the response quotes it',
    {
      tokens: { clientAuthentication: clientAssertion(ASSERTION) },
      answer: (sent) => ({ status: 400, body: { error: 'invalid_request', error_description: echo(sent) } }),
    },
  ],
  [
    'a signed assertion, and the answer quotes it',
    {
      tokens: { clientAuthentication: clientSecretJwt(clientSecret) },
      answer: (sent) => ({ status: 401, body: { error: 'invalid_client', error_description: echo(sent) } }),
    },
  ],
  ['a grant store without leases', { tokens: { grants: failingGrants('lease', talkative(LOGIN)) } }],
  ['a grant store that rejects tokens', { tokens: { grants: failingGrants('commit', talkative(NEXT)) } }],
  [
    'a grant store that cannot be read after invalid_grant',
    { tokens: { grants: failingGrants('read', talkative(LOGIN)) }, answer: 'invalid_grant' },
  ],
  [
    'a session store that cannot be read during a refresh',
    {
      act: (request, { site }) => {
        site.store.failNext('get', 1, talkative(LOGIN))
        return request.tokens.getAccessToken()
      },
    },
  ],
  [
    'a session store that rejects tokens',
    { prepare: ({ site }) => site.store.failNext('set', 2, talkative(NEXT)) },
  ],
  [
    'a session store that rejects tokens, and shows the whole session',
    { prepare: ({ site }) => site.store.failNext('set', 2, talkative(NEXT, OTHER)) },
  ],
  [
    'a session store that rejects a login',
    {
      prepare: ({ site }) => site.store.failNext('set', 1, talkative(NEXT)),
      act: (request) => request.tokens.set(NEXT),
    },
  ],
  [
    'a session store that rejects a login, and whose record of it is JSON',
    {
      prepare: ({ site }) => site.store.failNext('set', 1, talkative({ ...NEXT, refresh_token: QUOTED })),
      act: (request) => request.tokens.set({ ...NEXT, refresh_token: QUOTED }),
    },
  ],
  [
    'a session store that rejects a logout',
    {
      prepare: ({ site }) => site.store.failNext('set', 1, talkative(LOGIN)),
      act: (request) => request.tokens.revoke(),
    },
  ],
  ['a logout that does not reach the server', { revocation: 500, act: (request) => request.tokens.revoke() }],
  [
    'a code that is refused',
    {
      answer: (sent) => ({ status: 400, body: { error: 'invalid_grant', error_description: echo(sent) } }),
      act: (request) =>
        request.tokens.acquire({ grant_type: 'authorization_code', code: CODE, code_verifier: VERIFIER }),
    },
  ],
  [
    'a password that is refused',
    {
      answer: (sent) => ({ status: 400, body: { error: 'invalid_grant', error_description: echo(sent) } }),
      act: (request) =>
        request.tokens.acquire({ grant_type: 'password', username: 'user', password: PASSWORD }),
    },
  ],
  ...[
    ['a login that is an error', { ...NEXT, error: 'access_denied' }],
    ['a login with a token of another type', { ...NEXT, refresh_token: [NEXT.refresh_token] }],
    ['a login with text', JSON.stringify(NEXT)],
    ['a login without tokens', { id_token: NEXT.id_token, refreshtoken: NEXT.refresh_token }],
  ].map(([name, login]): [string, Situation] => [
    name as string,
    { act: (request) => request.tokens.set(login) },
  ]),
  [
    'a need that is misspelt',
    { act: (request) => request.tokens.getAccessToken({ rejectd: LOGIN.access_token } as object) },
  ],
  ['the API responds with 401', { act: callApi(), api: (_, response) => json(response, {}, 401) }],
  ['the API responds with 403', { act: callApi(), api: (_, response) => json(response, {}, 403) }],
  ['the API responds with 500', { act: callApi(), api: (_, response) => json(response, {}, 500) }],
  ['the API is down', { act: (request) => request.tokens.axios({ baseURL: 'http://127.0.0.1:1' }).get('/') }],
  ['the API hangs up', { act: callApi(), api: (_, response) => response.socket?.destroy(), fresh: true }],
  ['the API does not respond in time', { act: callApi({ timeout: 20 }), api: () => {}, fresh: true }],
  [
    'the API redirects for ever',
    { act: callApi(), api: (_, response) => response.writeHead(307, { location: '/' }).end(), fresh: true },
  ],
  [
    'the API redirects, which is not followed',
    {
      act: callApi({ maxRedirects: 0 }),
      api: (_, response) => response.writeHead(307, { location: '/' }).end(),
    },
  ],
  [
    'the API responds with invalid JSON',
    {
      act: callApi({ responseType: 'json', transitional: { silentJSONParsing: false } }),
      api: (_, response) => response.end('{'),
    },
  ],
  [
    'fetch: the API is down',
    { act: (request) => request.tokens.fetch({ baseURL: 'http://127.0.0.1:1' })('/') },
  ],
  [
    'fetch: the API hangs up',
    { act: fetchApi, api: (_, response) => response.socket?.destroy(), fresh: true },
  ],
  [
    'fetch: the API redirects for ever',
    { act: fetchApi, api: (_, response) => response.writeHead(307, { location: '/' }).end(), fresh: true },
  ],
  [
    'fetch: a call to another origin',
    { act: (request, { api }) => request.tokens.fetch({ baseURL: api.url })('http://127.0.0.1:9') },
  ],
  ...(['axios', 'fetch'] as const).map((client): [string, Situation] => [
    `${client}: the API wants a stronger login, and quotes the token`,
    {
      act: client === 'axios' ? callApi() : fetchApi,
      api: ({ headers }, response) => {
        const error = 'error="insufficient_user_authentication"'
        const challenge = `Bearer ${error}, acr_values="${headers.authorization}", scope="${headers.authorization}"`
        json(response, headers, 401, { 'www-authenticate': challenge })
      },
      fresh: true,
    },
  ]),
  ['a call to another origin', { act: callApi({ baseURL: 'http://127.0.0.1:9' }) }],
]

describe('S60 no log shows a token, a secret or an assertion', () => {
  it('S60 the search finds the tokens that it is given', async () => {
    for (const secret of SECRETS) {
      expect(leaks(`x${secret}`)).not.toEqual([])
      expect(leaks(JSON.stringify(encodeURIComponent(secret)))).not.toEqual([])
      expect(leaks(new URLSearchParams({ secret }).toString())).not.toEqual([])
      for (const before of ['', 'x', 'xy']) {
        expect(leaks(Buffer.from(`${before}${secret}:z`).toString('base64'))).not.toEqual([])
      }
      const error = Object.assign(new Error('x'), { response: { config: { deep: { secret } } } })
      expect(leaks(await logged(error))).not.toEqual([])
    }
  })

  it.each(situations)('S60 %s', async (_, situation) => {
    const endpoint = await startTokenEndpoint(({ path, parameters }) => {
      if (path !== '/token') return situation.revocation ?? { status: 200 }
      const { answer = { status: 200, body: NEXT } } = situation
      return typeof answer === 'function' ? answer(parameters) : answer
    })
    const api = await wireServer(situation.api ?? ((_request, response) => json(response, {})))
    const site = await startSite(
      { ...endpoint, clients, login: () => Promise.reject() },
      { ...(situation.tokens && { tokens: situation.tokens }) },
    )
    closers.push(endpoint.close, api.close, site.close)
    const world = { site, endpoint, api }
    const caught: unknown[] = []
    site.app.get('/act', (request, response, next) => {
      const acting = situation.act?.(request, world) ?? request.tokens.getAccessToken()
      acting.then(() => response.end(), next)
    })
    site.app.use(((error, _request, _response, next) => {
      caught.push(error)
      next(error)
    }) as ErrorRequestHandler)

    const browser = site.browser()
    expect((await browser.post('/login', LOGIN)).status).toBe(200)
    if (!situation.fresh) site.clock.advance(HOUR_MS)
    await situation.prepare?.(world)
    // The answer is that of the error handler of Express itself, with the error's stack.
    const answers = [await browser.get('/act'), await browser.get('/act')]
    await site.mounted.manager.close()

    expect(caught.length + site.events.length + site.errors.length).toBeGreaterThan(0)
    const assertions = endpoint.requests.flatMap(({ parameters }) => parameters.get('client_assertion') ?? [])
    const authorizations = endpoint.requests.flatMap(
      ({ headers }) => headers.authorization?.split(' ')[1] ?? [],
    )
    const secrets = [...SECRETS, ...assertions, ...authorizations]
    const told = await Promise.all([...caught, ...site.errors, ...site.events].map(logged))
    expect(leaks([...told, ...answers.map(({ text }) => text)].join('\n'), secrets)).toEqual([])
  })

  /** An app of its own process, that logs what it can. */
  const APP = `
    import express from 'express'
    import session from 'express-session'
    import { clientSecretBasic, sessionTokens } from './lib/index.ts'

    const { tokenEndpoint, clientId, clientSecret, api } = JSON.parse(process.env.SETTINGS)
    const app = express()
    app.use(session({ secret: 'test', resave: false, saveUninitialized: false }))
    app.use(sessionTokens({
      tokenEndpoint,
      clientId,
      clientAuthentication: clientSecretBasic(clientSecret),
      encryptionKeys: false,
      onEvent: (event) => console.log(event),
    }))
    app.use(express.json())
    app.post('/login', async (request, response) => {
      await request.tokens.set(request.body)
      response.end()
    })
    app.get('/token', async (request, response) => {
      await request.tokens.getAccessToken()
      response.end()
    })
    app.get('/api/:path', async (request, response) => {
      const { data } = await request.tokens.axios({ baseURL: api }).get(request.params.path)
      response.json(data)
    })
    app.get('/fetch/:path', async (request, response) => {
      const answer = await request.tokens.fetch({ baseURL: api })(request.params.path)
      console.log(answer)
      response.status(answer.status).json(await answer.json())
    })
    const server = app.listen(0, '127.0.0.1', () => process.send(server.address().port))
    process.on('message', () => process.exit())
  `

  /** A process starts, and compiles itself. */
  const STARTED_WITHIN_MS = 30_000

  /** Plays a visit to the app, with everything logged that can be. Resolves with what it printed. */
  async function printedBy(visit: (browser: Browser) => Promise<void>, settings: object): Promise<string> {
    const args = ['--import', 'tsx', '--input-type=module', '--eval', APP]
    const child = fork('', [], {
      execArgv: args,
      stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
      env: { ...process.env, DEBUG: '*', NODE_ENV: 'development', SETTINGS: JSON.stringify(settings) },
    })
    const printed = Promise.all([child.stdout!.toArray(), child.stderr!.toArray()])
    const [port] = await once(child, 'message')
    await visit(browserOf(`http://127.0.0.1:${port}`))
    child.send('end')
    return (await printed).flat().map(String).join('')
  }

  it(
    'S60 the output of a process with DEBUG=*',
    async () => {
      const faults: Fault[] = [
        500,
        'reset',
        'garbage',
        'invalid_client',
        { status: 200, body: NEXT },
        'invalid_grant',
      ]
      const endpoint = await startTokenEndpoint((_request, index) => faults[index] ?? 'reset')
      closers.push(endpoint.close)
      const expired = { ...LOGIN, expires_in: undefined, expires_at: 1 }
      const statuses: number[] = []
      const printed = await printedBy(
        async (browser) => {
          // A grant rests after a failure, so that each fault has a login and a grant of its own.
          for (const index of faults.keys()) {
            await browser.post('/login', { ...expired, refresh_token: `${LOGIN.refresh_token} ${index}` })
            statuses.push((await browser.get('/token')).status)
          }
        },
        { tokenEndpoint: endpoint.tokenEndpoint, clientId, clientSecret },
      )
      expect(statuses).toEqual([503, 503, 502, 500, 200, 401])
      expect(printed).toMatch(/express-session/)
      expect(printed).toMatch(/ERR_CLIENT_REJECTED/)
      expect(leaks(printed)).toEqual([])
    },
    STARTED_WITHIN_MS,
  )

  it.each([
    ['api', /AxiosError/],
    ['fetch', /Response \{/],
  ])(
    'S60 the output of a process with DEBUG=* that calls an API: /%s',
    async (client, expected) => {
      const endpoint = await startTokenEndpoint(() => ({ status: 200, body: NEXT }))
      const api = await wireServer(({ path }, response) =>
        json(response, {}, Number(path.slice(1)), { location: '/200' }),
      )
      closers.push(endpoint.close, api.close)
      const printed = await printedBy(
        async (browser) => {
          await browser.post('/login', LOGIN)
          for (const status of [200, 302, 401, 403, 500]) await browser.get(`/${client}/${status}`)
        },
        { tokenEndpoint: endpoint.tokenEndpoint, clientId, clientSecret, api: api.url },
      )
      expect(api.requests.map(({ path }) => path)).toEqual([
        '/200',
        '/302',
        '/200',
        '/401',
        '/401',
        '/403',
        '/500',
      ])
      expect(printed).toMatch(expected)
      expect(leaks(printed)).toEqual([])
    },
    STARTED_WITHIN_MS,
  )
})

describe('S63 an access token goes to the origins that were named and to no other', () => {
  let site: Site
  let browser: Browser
  let api: WireServer
  let other: WireServer
  /** Where the API redirects to. */
  let location: string | undefined
  let status: number

  beforeEach(async () => {
    location = undefined
    status = 307
    api = await wireServer((request, response) => {
      if (location !== undefined && request.path === '/moved') response.writeHead(status, { location }).end()
      else json(response, { from: 'api' })
    })
    other = await wireServer((_request, response) => json(response, { from: 'other' }))
    const endpoint = await startTokenEndpoint(() => ({ status: 200, body: NEXT }))
    site = await startSite({ ...endpoint, clients, login: () => Promise.reject() })
    closers.push(endpoint.close, api.close, other.close, site.close)
    browser = site.browser()
    await browser.post('/login', LOGIN)
  })

  type Tokens = Request['tokens']

  async function calling(
    call: (tokens: Tokens) => Promise<unknown>,
  ): Promise<{ data?: { from: string }; code?: string }> {
    let outcome: Promise<unknown> | undefined
    site.handle('/call', async (request) => {
      outcome = call(request.tokens)
      await outcome.catch(() => {})
    })
    expect((await browser.get('/call')).status).toBe(200)
    return outcome!.catch((error) => error) as Promise<object>
  }

  const authorizations = ({ requests }: WireServer) => requests.map(({ headers }) => headers.authorization)
  const instance = (tokens: Tokens, more: object = {}) => tokens.axios({ baseURL: `${api.url}/v1`, ...more })

  it.each<[string, (tokens: Tokens) => Promise<unknown>]>([
    ['an absolute URL', (tokens) => instance(tokens).get(`${other.url}/x`)],
    ['an absolute URL in the config', (tokens) => instance(tokens).request({ url: `${other.url}/x` })],
    ['an absolute URL to post to', (tokens) => instance(tokens).post(`${other.url}/x`, { item: 1 })],
    ['another baseURL', (tokens) => instance(tokens).get('/x', { baseURL: other.url })],
    [
      'another baseURL among the defaults',
      (tokens) => {
        const axios = instance(tokens)
        axios.defaults.baseURL = other.url
        return axios.get('/x')
      },
    ],
    [
      'an interceptor that changes the URL',
      (tokens) => {
        const axios = instance(tokens)
        axios.interceptors.request.use((config) => Object.assign(config, { url: `${other.url}/x` }))
        return axios.get('/x')
      },
    ],
    [
      'another name of the same host',
      (tokens) => instance(tokens).get(api.url.replace('127.0.0.1', 'localhost')),
    ],
    ['another scheme', (tokens) => instance(tokens).get(api.url.replace('http:', 'https:'))],
    [
      'the origin as credentials of another',
      (tokens) => instance(tokens).get(`${api.url}@${other.url.slice('http://'.length)}/x`),
    ],
    [
      'one that is not among allowedOrigins',
      (tokens) => instance(tokens, { allowedOrigins: ['https://files.example.com'] }).get(`${other.url}/x`),
    ],
    ['the adapter fetch', (tokens) => instance(tokens, { adapter: 'fetch' }).get(`${other.url}/x`)],
  ])('S63 %s: rejected, and no request is sent', async (_, call) => {
    expect(await calling(call)).toMatchObject({ code: 'ERR_ORIGIN_NOT_ALLOWED' })
    expect([...api.requests, ...other.requests]).toEqual([])
  })

  it.each<[string, () => string]>([
    ['that names no scheme', () => other.url.replace('http:', '')],
    ['that begins like the origin', () => `${api.url}.other.example`],
    ['of data', () => 'data:text/plain,x//'],
  ])('S63 an address %s: rejected, and no request is sent', async (_, addressOf) => {
    const code = /^(ERR_ORIGIN_NOT_ALLOWED|ERR_CONFIGURATION)$/
    const call = (tokens: Tokens) => instance(tokens).get('/x', { baseURL: addressOf() })
    expect((await calling(call)).code).toMatch(code)
    expect([...api.requests, ...other.requests]).toEqual([])
  })

  it('S63 allowedOrigins: the token goes there, whatever the path', async () => {
    const allowedOrigins = [`${other.url}/some/path`]
    const answer = await calling((tokens) => instance(tokens, { allowedOrigins }).get(`${other.url}/x`))
    expect(answer.data).toEqual({ from: 'other' })
    expect(authorizations(other)).toEqual([`Bearer ${LOGIN.access_token}`])
  })

  it('S63 a redirect within the origin: the token goes along', async () => {
    location = '/elsewhere'
    expect((await calling((tokens) => instance(tokens).get(`${api.url}/moved`))).data).toEqual({
      from: 'api',
    })
    expect(authorizations(api)).toEqual(Array(2).fill(`Bearer ${LOGIN.access_token}`))
  })

  describe.each<['http' | 'fetch']>([['http'], ['fetch']])('adapter %s', (adapter) => {
    it.each<[string, () => string, number]>([
      ['to another port', () => `${other.url}/x`, 302],
      ['to another port, with the method kept', () => `${other.url}/x`, 307],
      ['to another name of another port', () => `${other.url.replace('127.0.0.1', 'localhost')}/x`, 307],
      ['that names no scheme', () => `${other.url.replace('http:', '')}/x`, 303],
    ])('S63 a redirect %s: without the token', async (_, to, redirect) => {
      location = to()
      status = redirect
      const answer = await calling((tokens) => instance(tokens).post(`${api.url}/moved`, 'x', { adapter }))
      expect(answer.data).toEqual({ from: 'other' })
      expect(authorizations(api)).toEqual([`Bearer ${LOGIN.access_token}`])
      expect(authorizations(other)).toEqual([undefined])
    })
  })

  it.each([
    ['a subdomain', 'sub.api.example'],
    ['the domain above', 'example'],
    ['a host whose name has the same ending', 'evilapi.example'],
  ])('S63 a redirect to %s: without the token', async (_, host) => {
    const { port } = api
    location = `http://${host}:${port}/x`
    const lookup = (
      _hostname: string,
      _options: object,
      callback: (error: null, addresses: LookupAddress[]) => void,
    ) => callback(null, [{ address: '127.0.0.1', family: 4 }])
    const answer = await calling((tokens) =>
      tokens.axios({ baseURL: `http://api.example:${port}`, lookup: lookup as never }).get('/moved'),
    )
    expect(answer.data).toEqual({ from: 'api' })
    expect(api.requests.map(({ headers }) => [headers.host, headers.authorization])).toEqual([
      [`api.example:${port}`, `Bearer ${LOGIN.access_token}`],
      [`${host}:${port}`, undefined],
    ])
  })

  it('S63 a redirect, with a beforeRedirect of the app: both are called', async () => {
    location = `${other.url}/x`
    const seen: unknown[] = []
    await calling((tokens) =>
      instance(tokens).get(`${api.url}/moved`, {
        beforeRedirect: (options) => {
          seen.push(options.href)
          options.headers.authorization = `Bearer ${LOGIN.access_token}`
        },
      }),
    )
    expect(seen).toEqual([`${other.url}/x`])
    expect(authorizations(other)).toEqual([undefined])
  })

  it('S63 a redirect to an origin that rejects it: no refresh, since the token was not rejected', async () => {
    const closed = await wireServer((_request, response) => json(response, {}, 401))
    closers.push(closed.close)
    location = `${closed.url}/x`
    expect(await calling((tokens) => instance(tokens).get(`${api.url}/moved`))).toMatchObject({ status: 401 })
    expect(authorizations(closed)).toEqual([undefined])
    expect(site.events).toEqual([])
  })
})

describe('S64 plain http that is not loopback', () => {
  const options = {
    clientId,
    clientAuthentication: clientSecretBasic(clientSecret),
    encryptionKeys: false as const,
  }
  const tokenEndpoint = 'https://idp.example.com/token'

  it.each([
    ['http://idp.example.com/x'],
    ['http://127.0.0.1.example.com/x'],
    ['http://localhost.example.com/x'],
    ['http://notlocalhost/x'],
    ['http://10.0.0.1/x'],
    ['http://0.0.0.0/x'],
    ['http://[::2]/x'],
    ['http://localhost@idp.example.com/x'],
    ['ftp://localhost/x'],
    ['ws://localhost/x'],
  ])('S64 %s is rejected at construction', (url) => {
    const refused = expect.objectContaining({ code: 'ERR_CONFIGURATION' })
    expect(() => sessionTokens({ ...options, issuer: url })).toThrow(refused)
    expect(() => sessionTokens({ ...options, tokenEndpoint: url })).toThrow(refused)
    expect(() => sessionTokens({ ...options, tokenEndpoint, refreshEndpoint: url })).toThrow(refused)
    expect(() => sessionTokens({ ...options, tokenEndpoint, revocationEndpoint: url })).toThrow(refused)
  })

  it.each([
    ['https://idp.example.com/x'],
    ['http://localhost:8080/x'],
    ['http://127.0.0.1/x'],
    ['http://127.1.2.3:1/x'],
    ['http://[::1]/x'],
  ])('S64 %s is accepted', (url) => {
    const taken = { ...options, tokenEndpoint: url, refreshEndpoint: url, revocationEndpoint: url }
    expect(sessionTokens(taken)).toBeInstanceOf(Function)
    expect(sessionTokens({ ...options, issuer: url })).toBeInstanceOf(Function)
  })

  it.each(['token_endpoint', 'revocation_endpoint'])(
    'S64 metadata with such a %s: rejected, and no request is sent',
    async (name) => {
      const endpoint = await wireServer(({ path }, response) => {
        const metadata = {
          issuer: endpoint.url,
          token_endpoint: `${endpoint.url}/token`,
          [name]: 'http://idp.example.com/x',
        }
        json(response, path === '/token' ? NEXT : metadata)
      })
      const site = await startSite(
        { tokenEndpoint: '', revocationEndpoint: '', clients, login: () => Promise.reject() },
        {
          tokens: { issuer: endpoint.url, tokenEndpoint: undefined, revocationEndpoint: undefined } as never,
        },
      )
      closers.push(endpoint.close, site.close)
      const browser = site.browser()
      await browser.post('/login', LOGIN)
      site.clock.advance(HOUR_MS)
      const answer = await browser.get('/token')
      expect([answer.status, answer.json.code]).toEqual([500, 'ERR_CONFIGURATION'])
      expect(answer.json.message).toContain('must use https')
      expect(endpoint.requests.map(({ method }) => method)).toEqual(['GET'])
    },
  )
})
