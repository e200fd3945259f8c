import { generateKeyPairSync, randomBytes } from 'node:crypto'
import { IncomingMessage, ServerResponse } from 'node:http'
import { Socket } from 'node:net'
import { afterEach, describe, expect, it } from '@jest/globals'
import express from 'express'
import session from 'express-session'
import {
  clientAssertion,
  clientSecretBasic,
  clientSecretJwt,
  memoryGrantStore,
  privateKeyJwt,
  publicClient,
  refuseCrossOrigin,
  requireTokens,
  type SessionTokens,
  type SessionTokensOptions,
  sessionFetch,
  sessionTokens,
} from '../../lib/index.js'
import * as onKoa from '../../lib/koa.js'
import type { AnySessionTokensOptions } from '../../lib/middleware/options.js'
import { bearerProxy, upgradesThrough } from '../../lib/proxy.js'
import { redisGrantStore } from '../../lib/redis.js'
import { grantStoreContract } from '../../lib/testing.js'
import { browser } from '../helpers/browser.js'
import { serve } from '../helpers/http-server.js'
import { type Pollution, pollute } from '../helpers/pollution.js'
import { json, wireServer } from '../helpers/wire-server.js'

const closing: (() => unknown)[] = []
let pollution: Pollution | undefined
afterEach(async () => {
  pollution?.end()
  pollution = undefined
  for (const close of closing.splice(0).reverse()) await close()
})

const client = {
  tokenEndpoint: 'http://127.0.0.1:1/token',
  clientId: 'web',
  clientAuthentication: publicClient(),
  encryptionKeys: false as const,
}
const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
const redis = { send: async () => [] }
const KEY = randomBytes(32).toString('base64')
const API = { baseURL: 'http://127.0.0.1:1' }

/** A request's tokens over a session of its own. */
async function tokensOf(options: Partial<AnySessionTokensOptions> = {}): Promise<SessionTokens> {
  const request = new IncomingMessage(new Socket()) as IncomingMessage & { tokens: SessionTokens }
  const texts: string[] = []
  const session = () => ({
    read: () => texts.at(-1),
    write: (text: string) => void texts.push(text),
    clear: () => void texts.splice(0),
  })
  const middleware = sessionTokens({ ...client, session, ...options } as SessionTokensOptions)
  await new Promise<void>((resolve, reject) =>
    middleware(request, new ServerResponse(request), (error) => (error ? reject(error) : resolve())),
  )
  return request.tokens
}

type Make = (options: object) => unknown

/** Every function that takes options, and the least that it takes. */
const takers: [name: string, make: Make, least: object][] = [
  ['sessionTokens()', (given) => sessionTokens(given as never), client],
  ['sessionTokens() of Koa', (given) => onKoa.sessionTokens(given as never), client],
  ['sessionTokens({ http })', (http) => sessionTokens({ ...client, http }), {}],
  [
    'sessionTokens({ tenant })',
    (given) => sessionTokens(given as never),
    { tenant: () => 'a', options: () => client },
  ],
  ['memoryGrantStore()', (given) => memoryGrantStore(given), {}],
  ['redisGrantStore()', (given) => redisGrantStore(redis, given), {}],
  ['clientSecretBasic()', (given) => clientSecretBasic('secret', given), {}],
  ['clientSecretJwt()', (given) => clientSecretJwt('secret', given), {}],
  ['privateKeyJwt()', (given) => privateKeyJwt(privateKey, given), {}],
  ['clientAssertion()', (given) => clientAssertion('jwt', given), {}],
  ['requireTokens()', (given) => requireTokens(given), {}],
  ['requireTokens() of Koa', (given) => onKoa.requireTokens(given), {}],
  ['refuseCrossOrigin()', (given) => refuseCrossOrigin(given), {}],
  ['refuseCrossOrigin() of Koa', (given) => onKoa.refuseCrossOrigin(given), {}],
  ['sessionFetch()', (given) => sessionFetch(given as never), API],
  ['bearerProxy()', (given) => bearerProxy(given as never), { target: 'http://127.0.0.1:1' }],
  ['upgradesThrough()', (given) => upgradesThrough(() => {}, given), {}],
  ['grantStoreContract()', (given) => grantStoreContract(() => ({ store: memoryGrantStore() }), given), {}],
  ['the need of a client', (need) => sessionFetch({ ...API, need }), {}],
]

/** The names of a function's options, as its error lists them. */
function namesOf(make: Make, least: object): string[] {
  try {
    make({ ...least, xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx: 1 })
  } catch (error) {
    const [, list = ''] = /Known are (.*)\.$/.exec((error as Error).message) ?? []
    return list.split(', ')
  }
  return []
}

const OF_AXIOS = [
  ...[
    'adapter',
    'allowAbsoluteUrls',
    'auth',
    'beforeRedirect',
    'cancelToken',
    'data',
    'headers',
    'httpAgent',
  ],
  ...[
    'httpsAgent',
    'maxRedirects',
    'method',
    'params',
    'proxy',
    'responseType',
    'sensitiveHeaders',
    'signal',
  ],
  ...['socketPath', 'timeout', 'transformRequest', 'transport', 'url', 'validateStatus', 'withCredentials'],
]
const OF_FETCH = [
  'body',
  'cache',
  'credentials',
  'dispatcher',
  'duplex',
  'integrity',
  'keepalive',
  'mode',
  'redirect',
]
/** What is read of responses, of tokens that are handed over, and of copies in sessions. */
const OF_TOKENS = [
  ...['access_token', 'accessToken', 'refresh_token', 'refreshToken', 'id_token', 'idToken', 'token_type'],
  ...['tokenType', 'scopes', 'expires_in', 'expiresIn', 'expires_at', 'expiresAt', 'accessTokenExpiresAt'],
  ...['expiresOn', 'error', 'error_description', 'token', 'version', 'grantId', 'revision', 'accessTokens'],
  ...[
    'isReference',
    'requestedScope',
    'lifetimeMs',
    'retryAfterMs',
    'secrets',
    'cause',
    'grant_type',
    'code',
  ],
  ...[
    'redirect_uri',
    'code_verifier',
    'username',
    'password',
    'assertion',
    'iss',
    'sub',
    'aud',
    'exp',
    'nonce',
  ],
  ...[
    'token_endpoint',
    'revocation_endpoint',
    'jwks_uri',
    'parameters',
    'tokens',
    'proof',
    'share',
    'shares',
    'earlier',
    'subject',
    'key',
    'audience',
    'text',
    'flaw',
    'acrValues',
    'maxAge',
    'claims',
  ],
]
/** What parts of the library tell each other, and what grant stores and APIs respond. */
const OF_PARTS = [
  ...[
    'certificate',
    'dpopKey',
    'ended',
    'exchange',
    'failure',
    'isGrantEnded',
    'isLeased',
    'location',
    'namesNeed',
  ],
  ...['onEvicted', 'record', 'rejected', 'ttlMs', 'upgraded', 'wait', 'www-authenticate'],
]
/** What is read of a request to decide whether it comes from a page of another origin. */
const OF_REQUESTS = ['origin', 'sec-fetch-site', 'upgrade', ':authority', 'x-forwarded-host']
const everyName = [
  ...takers.flatMap(([, make, least]) => namesOf(make, least)),
  ...OF_AXIOS,
  ...OF_FETCH,
  ...OF_TOKENS,
  ...OF_PARTS,
]

describe('what an object inherits', () => {
  it.each(takers)('is no option of %s', (_, make, least) => {
    const names = namesOf(make, least)
    expect(names).not.toEqual([])
    for (const name of names) {
      pollution = pollute([name], Symbol('polluted'))
      make(least)
      expect(pollution.reads).toEqual([])
      pollution.end()
    }
  })

  it.each(takers)('from a class is refused by %s, with the cure', (_, make, least) => {
    for (const name of namesOf(make, least).filter((name) => !Object.hasOwn(least, name))) {
      const config = Object.assign(Object.create({ [name]: 1 }), least)
      expect(() => make(config)).toThrow(
        `\`${name}\` is inherited. Name it in a plain object: { ${name}: config.${name} }.`,
      )
    }
  })
})

/** A token endpoint that gives what is asked for. */
async function authorizationServer() {
  const responses = [
    { access_token: 'at-1', refresh_token: 'rt-1', expires_in: 3600 },
    { access_token: 'at-2', expires_in: 3600 },
  ]
  const server = await wireServer((_, response) =>
    json(response, responses.shift() ?? { access_token: 'at' }),
  )
  closing.push(server.close)
  return {
    server,
    options: { tokenEndpoint: `${server.url}/token`, revocationEndpoint: `${server.url}/revoke` },
  }
}

/** What a value is that an attacker puts there: one for each name. */
const anyValue = (name: string) => `polluted-${name}`

describe('a property of Object.prototype', () => {
  it.each<[string, object]>([
    ['access_token', { refresh_token: 'rt' }],
    ['refresh_token', { access_token: 'at' }],
    ['refreshToken', { access_token: 'at' }],
    ['id_token', { access_token: 'at' }],
    ['token', { access_token: 'at' }],
  ])('%s is not among the tokens that set() takes', async (name, handedOver) => {
    const tokens = await tokensOf()
    pollution = pollute([name], anyValue(name))
    await tokens.set(handedOver)
    expect(tokens.idToken).toBeUndefined()
    expect(pollution.reads).toEqual([])
  })

  it.each(['allowedOrigins', 'need', 'replay', 'baseURL', 'maxRedirects'])(
    '%s is no option of axios() and fetch()',
    async (name) => {
      const tokens = await tokensOf()
      await tokens.set({ access_token: 'at', expires_in: 3600 })
      const elsewhere = await wireServer((_, response) => json(response, {}))
      closing.push(elsewhere.close)
      pollution = pollute([name], [elsewhere.url])
      const calls = [tokens.axios({ ...API }).get(elsewhere.url), tokens.fetch({ ...API })(elsewhere.url)]
      for (const call of calls) await expect(call).rejects.toMatchObject({ code: 'ERR_ORIGIN_NOT_ALLOWED' })
      expect(elsewhere.requests).toEqual([])
      expect(pollution.reads).toEqual([])
    },
  )

  it('is read nowhere on the way of a login, a refresh, calls and a logout', async () => {
    const { server, options } = await authorizationServer()
    const serving = async () => {
      const tokens = await tokensOf({ ...options, grants: memoryGrantStore() })
      await tokens.acquire({ grant_type: 'authorization_code', code: 'code' })
      await tokens.getAccessToken()
      await tokens.getAccessToken({ scope: 'a' })
      const api = { baseURL: server.url, need: {} }
      await tokens.axios(api).get('/orders')
      await tokens.axios(api).post('/orders', { a: 1 }, { headers: { 'x-a': '1' } })
      await (await tokens.fetch(api)('/orders')).json()
      await tokens.fetch(api)(new Request(`${server.url}/orders`, { method: 'POST', body: 'a' }), {})
      await tokens.revoke()
    }
    pollution = pollute(everyName)
    const failure = await serving().catch((error) => error ?? 'nothing')
    pollution.end()
    expect(failure).toBeUndefined()
    expect(pollution.reads).toEqual([])
    expect(server.requests.map(({ body }) => body)).toEqual([
      'grant_type=authorization_code&code=code&client_id=web',
      'grant_type=refresh_token&refresh_token=rt-1&client_id=web&scope=a',
      ...['', '{"a":1}', '', 'a'],
      'token=rt-1&token_type_hint=refresh_token&client_id=web',
    ])
  })

  it('is no option of the client for the authorization server, where `http` is left out', async () => {
    const proxy = await wireServer((_, response) => json(response, {}))
    closing.push(proxy.close)
    pollution = pollute(['proxy', 'headers', 'httpAgent', 'httpsAgent'], {
      protocol: 'http',
      host: '127.0.0.1',
      port: proxy.port,
    })
    const tokens = await tokensOf({ tokenEndpoint: 'https://127.0.0.1:1/token' })
    await tokens.set({ access_token: 'at', refresh_token: 'rt', expires_at: 1 })
    await expect(tokens.getAccessToken()).rejects.toMatchObject({
      code: 'ERR_TOKEN_ENDPOINT_UNAVAILABLE',
      cause: { code: 'ECONNREFUSED' },
    })
    expect(proxy.requests).toEqual([])
    expect(pollution.reads).toEqual([])
  })

  it('S60 is no client certificate, whose settings would lead a request elsewhere', async () => {
    const elsewhere = await wireServer((_, response) => json(response, {}))
    closing.push(elsewhere.close)
    const { server, options } = await authorizationServer()
    const tokens = await tokensOf(options)
    await tokens.set({ access_token: 'at', refresh_token: 'rt', expires_at: 1 })
    pollution = pollute(['certificate'], { hostname: '127.0.0.1', port: elsewhere.port })
    expect((await tokens.getAccessToken()).token).toBe('at-1')
    pollution.end()
    expect(server.requests).toHaveLength(1)
    expect(elsewhere.requests).toEqual([])
    expect(pollution.reads).toEqual([])
  })

  it('is no need of a refresh that names none, and no end of a grant', async () => {
    const forms: string[] = []
    const server = await wireServer(({ body }, response) => {
      forms.push(body)
      const isExchange = body.includes('token-exchange')
      if (isExchange) return json(response, { access_token: 'exchanged', expires_in: 3600 })
      // The need is refused, and the refresh without it is not.
      if (body.includes('scope=refused')) return json(response, { error: 'invalid_grant' }, 400)
      return json(response, { access_token: `at-${forms.length}`, refresh_token: 'rt', expires_in: 3600 })
    })
    closing.push(server.close)
    const exchanges = { x: { audience: 'x' } }
    const tokens = await tokensOf({ tokenEndpoint: `${server.url}/token`, exchanges })
    await tokens.set({ access_token: 'at', refresh_token: 'rt', expires_at: 1 })
    for (const name of ['scope', 'resource', 'audience', 'exchange', 'rejected', 'ended', 'record']) {
      pollution = pollute([name], `polluted-${name}`)
      const refused = await tokens.getAccessToken({ scope: 'refused' }).catch((error) => error.code)
      const exchanged = await tokens
        .getAccessToken({ exchange: 'x', rejected: 'exchanged' })
        .catch(() => undefined)
      pollution.end()
      expect([name, refused, typeof exchanged, pollution.reads]).toEqual([
        name,
        'ERR_STEP_UP_REQUIRED',
        'object',
        [],
      ])
    }
    expect(forms.join(' ')).not.toContain('polluted')
  })

  it('is read nowhere where an API refuses a token, or wants another login', async () => {
    const { options } = await authorizationServer()
    const api = await wireServer(({ path }, response) => {
      const error = path === '/strict' ? 'insufficient_user_authentication' : 'invalid_token'
      json(response, {}, 401, { 'WWW-Authenticate': `Bearer error="${error}"` })
    })
    closing.push(api.close)
    const tokens = await tokensOf(options)
    await tokens.set({ access_token: 'at', refresh_token: 'rt', expires_in: 3600 })
    const proxy = bearerProxy({ target: api.url })
    const site = await serve(() => (request, response) => {
      proxy(Object.assign(request, { tokens }), response, (error) => void response.destroy(error as Error))
    })
    closing.push(site.down)
    const visitor = browser(site.url)
    pollution = pollute([...everyName, ...OF_REQUESTS], 'polluted')
    const failures: unknown[] = []
    for (const path of ['/orders', '/strict']) {
      failures.push(
        await tokens
          .fetch({ baseURL: api.url })(path)
          .catch((error) => error),
      )
      failures.push(
        await tokens
          .axios({ baseURL: api.url, validateStatus: null })
          .get(path)
          .catch((error) => error),
      )
      failures.push(JSON.parse((await visitor.get(path)).text))
    }
    pollution.end()
    expect(pollution.reads).toEqual([])
    expect(failures).toMatchObject([{ status: 401 }, { status: 401 }, {}, {}, {}, { status: 401 }])
    for (const failure of failures.slice(3)) {
      for (const name of ['acrValues', 'acr_values', 'maxAge', 'max_age', 'scope', 'claims']) {
        expect(failure).not.toHaveProperty(name)
      }
    }
  })

  it('is no header by which a request is of this site', () => {
    const request = { method: 'POST', rawHeaders: [], socket: {} }
    const check = refuseCrossOrigin()
    const passes = (headers: object) => {
      let hasPassed = false
      const response = { writeHead: () => response, end: () => response }
      check({ ...request, headers } as never, response as never, () => {
        hasPassed = true
      })
      return hasPassed
    }
    const evil = { host: 'app.example.com', origin: 'https://evil.example' }
    for (const [name, value] of [
      ['sec-fetch-site', 'same-origin'],
      [':authority', 'evil.example'],
    ] as const) {
      pollution = pollute([name], value)
      expect(passes(evil)).toBe(false)
      expect(pollution.reads).toEqual([])
      pollution.end()
    }
    pollution = pollute(['origin', 'host'], 'https://app.example.com')
    expect(passes({ 'sec-fetch-site': 'cross-site' })).toBe(false)
    expect(pollution.reads).toEqual([])
  })

  it('is read nowhere in an app with sessions, guards, tenants, adopted tokens and a proxy', async () => {
    const { server, options } = await authorizationServer()
    const shared = { ...client, ...options }
    const app = express()
    app.use(session({ secret: 'secret', resave: false, saveUninitialized: false }))
    app.use(
      sessionTokens({
        ...shared,
        keep: 'store',
        grants: memoryGrantStore(),
        encryptionKeys: [KEY],
        ambient: true,
      }),
    )
    app.use(sessionTokens({ tenant: () => 'a', options: () => ({ ...shared, property: 'tenants' }) }))
    const adopt = () => ({ access_token: 'adopted', expires_at: Date.now() / 1000 + 3600 })
    app.use(
      sessionTokens({ ...shared, property: 'adopted', sessionKey: 'adopted', adopt, clientId: 'other' }),
    )
    const api = sessionFetch({ baseURL: server.url })
    app.get('/login', async (request, response) => {
      await request.tokens.acquire({ grant_type: 'password', username: 'user', password: 'password' })
      await (request as never as { tenants: SessionTokens }).tenants.set({ access_token: 'tenants' })
      response.end('in')
    })
    app.get('/orders', requireTokens({ scope: 'a' }), async (_, response) => {
      response.json(await (await api('/orders')).json())
    })
    app.get('/adopted', requireTokens({ property: 'adopted' }), (_, response) => void response.end('adopted'))
    app.get('/tenants', requireTokens({ property: 'tenants' }), (_, response) => void response.end('tenants'))
    app.use('/api', requireTokens(), bearerProxy({ target: server.url }))
    app.get('/logout', async (request, response) => {
      await request.tokens.clear()
      response.end('out')
    })
    const site = await serve(() => app)
    closing.push(site.down)
    const visitor = browser(site.url)
    // express-session itself loads nothing under a name that every object has.
    pollution = pollute(everyName.filter((name) => name !== 'tokens'))
    const texts: string[] = []
    for (const path of ['/login', '/orders', '/adopted', '/tenants', '/api/orders', '/logout', '/orders']) {
      texts.push(await visitor.get(path).then(({ text }) => text, String))
    }
    pollution.end()
    expect(texts).toEqual([
      'in',
      '{"access_token":"at"}',
      'adopted',
      'tenants',
      '{"access_token":"at"}',
      'out',
      expect.stringContaining('Log in first'),
    ])
    expect(pollution.reads).toEqual([])
  })
})
