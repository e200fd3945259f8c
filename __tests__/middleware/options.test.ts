import type { ServerResponse } from 'node:http'
import { describe, expect, it } from '@jest/globals'
import supertest from 'supertest'
import {
  ConfigurationError,
  clientSecretBasic,
  memoryGrantStore,
  publicClient,
  sessionTokens,
} from '../../lib/index.js'
import { checkSessionTokensOptions } from '../../lib/middleware/check-options.js'
import { expressVersions } from '../helpers/app.js'

const valid = {
  issuer: 'https://idp.example.com',
  clientId: 'web',
  clientAuthentication: clientSecretBasic('secret'),
  encryptionKeys: false as const,
}
const { issuer: _, ...withoutServer } = valid
const endpoints = { ...withoutServer, tokenEndpoint: 'https://idp.example.com/token' }

/** What `sessionTokens(options)` throws. */
function thrownBy(options: unknown): ConfigurationError {
  try {
    sessionTokens(options as typeof valid)
  } catch (error) {
    expect(error).toBeInstanceOf(ConfigurationError)
    expect(error).toMatchObject({ code: 'ERR_CONFIGURATION', status: 500, retryable: false, expose: false })
    expect((error as ConfigurationError).message).toMatch(/[.?]$/)
    return error as ConfigurationError
  }
  throw new Error('nothing was thrown')
}

describe('the options of refreshes', () => {
  it.each<[string, object, RegExp]>([
    [
      'refreshParameters in a text',
      { refreshParameters: 'scope=a' },
      /`refreshParameters` must be a plain object/,
    ],
    ['refreshParameters of null', { refreshParameters: null }, /`refreshParameters` must be a plain object/],
    ['a grant_type', { refreshParameters: { grant_type: 'x' } }, /must not set grant_type/],
    ['a client_secret', { refreshParameters: { client_secret: 'hush' } }, /must not set client_secret/],
    ['a parameter that is a number', { refreshParameters: { max_age: 5 } }, /max_age is neither/],
    ['isGrantEnded of true', { isGrantEnded: true }, /`isGrantEnded` must be a function/],
    ['isGrantEnded of null', { isGrantEnded: null }, /`isGrantEnded` must be a function/],
    [
      'another authorizationScheme',
      { authorizationScheme: 'token' },
      /`authorizationScheme` must be 'Bearer'/,
    ],
    ['bearer in small letters', { authorizationScheme: 'bearer' }, /`authorizationScheme` must be 'Bearer'/],
    ['a misspelt one', { refreshParams: {} }, /Did you mean `refreshParameters`\?/],
  ])('%s: the message names the right value', (_, options, cure) => {
    const { message } = thrownBy({ ...valid, ...options })
    expect(message).toMatch(cure)
    expect(message).not.toMatch(/hush/)
  })

  it.each<[string, object]>([
    ['a record', { refreshParameters: { scope: 'a', resource: ['b', 'c'] } }],
    ['functions', { refreshParameters: () => undefined, isGrantEnded: () => undefined }],
    ['a scheme', { authorizationScheme: 'Bearer' }],
  ])('accepts %s', (_, options) => {
    expect(() => sessionTokens({ ...valid, ...options })).not.toThrow()
  })
})

describe('sessionTokens(options)', () => {
  it.each<[string, unknown]>([
    ['undefined', undefined],
    ['null', null],
    ['only an issuer', 'https://idp.example.com'],
    ['nothing', {}],
  ])('given %s: the message names the missing options', (_, options) => {
    expect(thrownBy(options).message).toMatch(/issuer.*https:|issuer, clientId, clientAuthentication/)
  })

  it.each<[string, object, string]>([
    ['leewayMS', { leewayMS: 1 }, 'Did you mean `leewayMs`?'],
    ['leeway', { leeway: 1 }, 'Did you mean `leewayMs`?'],
    ['timeout', { timeout: 1 }, 'Did you mean `timeoutMs`?'],
    ['tokenEndPoint', { tokenEndPoint: 'https://idp.example.com/token' }, 'Did you mean `tokenEndpoint`?'],
    ['revocationendpoint', { revocationendpoint: 'x' }, 'Did you mean `revocationEndpoint`?'],
    ['onEvents', { onEvents: () => {} }, 'Did you mean `onEvent`?'],
    ['client_id', { client_id: 'web' }, 'Did you mean `clientId`?'],
    ['clientID', { clientID: 'web' }, 'Did you mean `clientId`?'],
    ['clientSecret', { clientSecret: 'x' }, 'Use clientAuthentication: clientSecretBasic(secret).'],
    ['client_secret', { client_secret: 'x' }, 'Use clientAuthentication: clientSecretBasic(secret).'],
    ['authentication', { authentication: 'x' }, 'Did you mean `clientAuthentication`?'],
    ['issuerUrl', { issuerUrl: 'x' }, 'Did you mean `issuer`?'],
    ['redirectUri', { redirectUri: 'x' }, 'It goes to acquire({ redirect_uri }).'],
    ['store', { store: {} }, '`grants`'],
    ['scope', { scope: 'a' }, 'requireTokens({ scope })'],
    ['constructor', { constructor: 1 }, 'Known are issuer, tokenEndpoint,'],
    ['toString', { toString: 1 }, 'Known are issuer, tokenEndpoint,'],
    ['a name that resembles no option', { zzzzzzzzzz: 1 }, 'Known are issuer, tokenEndpoint,'],
  ])('rejects the unknown option %s and names the cure', (_, wrong, cure) => {
    const { message } = thrownBy({ ...valid, ...wrong })
    expect(message).toContain(`sessionTokens() has no option \`${Object.keys(wrong)[0]}\``)
    expect(message).toContain(cure)
  })

  it('shows no value of an option', () => {
    expect(thrownBy({ ...valid, clientSecret: 'the secret itself' }).message).not.toContain('itself')
    expect(thrownBy({ ...valid, clientAuthentication: 'the secret itself' }).message).not.toContain('itself')
  })

  it.each<[string, object, RegExp]>([
    ['both issuer and tokenEndpoint', { ...valid, ...endpoints }, /Keep `issuer` if .* else `tokenEndpoint`/],
    ['neither', withoutServer, /Give the issuer URL, e\.g\. issuer: 'https:.*or `tokenEndpoint`/],
    [
      'only a refreshEndpoint',
      { ...withoutServer, refreshEndpoint: 'https://a/refresh' },
      /Give the issuer URL, e\.g\. issuer: 'https:.*or `tokenEndpoint`/,
    ],
    [
      'an issuer that is no URL',
      { ...valid, issuer: 'idp.example.com' },
      /^`issuer` must be an absolute https URL, e\.g\. issuer: 'https:\/\/idp\.example\.com'\.$/,
    ],
    [
      'an empty issuer',
      { ...valid, issuer: '' },
      /`issuer` must be an absolute https URL, e\.g\. issuer: 'https:/,
    ],
    [
      'the address of the metadata',
      { ...valid, issuer: 'https://idp.example.com/.well-known/openid-configuration' },
      /Give the value of `issuer` that the metadata contains/,
    ],
    [
      'the address of the metadata of RFC 8414',
      { ...valid, issuer: 'https://idp.example.com/.well-known/oauth-authorization-server/tenant' },
      /Give the value of `issuer` that the metadata contains/,
    ],
    [
      'a key that is not set',
      { ...valid, encryptionKeys: [undefined] },
      /^`encryptionKeys\[0\]` is undefined\. Is the environment variable set\?/,
    ],
    ['an issuer with a query', { ...valid, issuer: 'https://idp.example.com?x=1' }, /Leave out the \?/],
    [
      'an issuer over http',
      { ...valid, issuer: 'http://idp.example.com' },
      /^`issuer` must use https.* is 'http:\/\/idp\.example\.com'\./,
    ],
    [
      'a token endpoint over http',
      { ...endpoints, tokenEndpoint: 'http://a.example/t' },
      /`tokenEndpoint` must use https.* is 'http:\/\/a\.example\/t'\./,
    ],
    [
      'a refresh endpoint over http',
      { ...endpoints, refreshEndpoint: 'http://a.example/t' },
      /`refreshEndpoint` must use https/,
    ],
    [
      'a revocation endpoint over http',
      { ...endpoints, revocationEndpoint: 'http://a.example/t' },
      /`revocationEndpoint` must use https/,
    ],
    [
      'an endpoint with a fragment',
      { ...endpoints, tokenEndpoint: 'https://a.example/#t' },
      /Leave out the #/,
    ],
    [
      'an endpoint with credentials',
      { ...endpoints, tokenEndpoint: 'https://u:p@a.example/t' },
      /Give clientId and clientAuthentication/,
    ],
    ['no clientId', { ...valid, clientId: undefined }, /`clientId` is missing.*registered/],
    ['an empty clientId', { ...valid, clientId: '' }, /`clientId` is missing/],
    ['a clientId that is a number', { ...valid, clientId: 5 }, /`clientId`/],
    [
      'no clientAuthentication',
      { ...valid, clientAuthentication: undefined },
      /clientSecretBasic\(secret\).*publicClient\(\)/,
    ],
    [
      'a clientAuthentication that is text',
      { ...valid, clientAuthentication: 'x' },
      /not a function.*clientSecretBasic\(secret\)/,
    ],
    ['grants without methods', { ...valid, grants: {} }, /no method lease\(\).*memoryGrantStore\(\)/],
    ['grants that are null', { ...valid, grants: null }, /no method lease\(\)/],
    [
      'grants that lack one',
      { ...valid, grants: { ...methodsOf(memoryGrantStore()), end: undefined } },
      /no method end\(\)/,
    ],
    [
      'grants that were not called',
      { ...valid, grants: memoryGrantStore },
      /call it: grants: memoryGrantStore\(…\)/,
    ],
    ['grants that are a promise', { ...valid, grants: Promise.resolve() }, /Await it: grants: await/],
    [
      'grants that are a Map',
      { ...valid, grants: new Map() },
      /memoryGrantStore\(\).*postgresGrantStore\(pool\)/,
    ],
    [
      "keep: 'store' without grants",
      { ...valid, keep: 'store' },
      /needs `grants`.*redisGrantStore\(client\) or postgresGrantStore\(pool\)\. With memoryGrantStore\(\) a restart/,
    ],
    ['an adopt that is no function', { ...valid, adopt: {} }, /`adopt` must be a function/],
    ['an onEvent that is no function', { ...valid, onEvent: true }, /onEvent: \(event\) => /],
    ['http that is text', { ...valid, http: 'x' }, /`http` must be an object, e\.g\. http: \{ headers/],
    ['http that is null', { ...valid, http: null }, /`http` must be an object, e\.g\. http: \{ headers/],
    [
      'http with an unknown option',
      { ...valid, http: { agent: {} } },
      /`http` has no option `agent`.*httpAgent/,
    ],
    [
      'a header of undefined',
      { ...valid, http: { headers: { 'X-Api-Key': undefined } } },
      /^`http\.headers` must have strings as values, but the value of X-Api-Key is undefined\. Is the environment variable set\?/,
    ],
    [
      'a header of null',
      { ...valid, http: { headers: { 'X-Api-Key': null } } },
      /X-Api-Key is null\. Is the/,
    ],
    [
      'a header that is a number',
      { ...valid, http: { headers: { a: 5 } } },
      /but the value of a is a number\. Leave out/,
    ],
    [
      'headers of null',
      { ...valid, http: { headers: null } },
      /plain object of strings, e\.g\. \{ 'User-Agent'/,
    ],
    ['headers of fetch', { ...valid, http: { headers: new Headers() } }, /plain object of strings/],
  ])('rejects %s and names the cure', (_, options, message) => {
    expect(thrownBy(options).message).toMatch(message)
  })

  const durations = [
    ...(['leewayMs', 'refreshAheadMs', 'patienceMs', 'timeoutMs', 'refreshTimeoutMs'] as const),
    'connectTimeoutMs',
    'defaultLifetimeMs',
  ] as const

  describe.each(durations)('%s', (name) => {
    it.each<[string, unknown]>([
      ['NaN', NaN],
      ['negative', -1],
      ['infinite', Infinity],
      ['too long', 365 * 86_400_000 + 1],
      ['longer than a timer can wait', 2 ** 31 * 100],
      ['text', '60000'],
      ['null', null],
      ['a bigint', 1n],
      ['a Date', new Date()],
    ])('rejects a value that is %s, and names the right value', (_, value) => {
      const { message } = thrownBy({ ...valid, [name]: value })
      expect(message).toMatch(
        new RegExp(`\`${name}\` must be a number of milliseconds .*e\\.g\\. ${name}: \\d+`),
      )
    })
  })

  it.each([
    ['leewayMs', 86_400_000, '24 hours'],
    ['timeoutMs', 86_400_000, '24 hours'],
    ['refreshTimeoutMs', 86_400_000, '24 hours'],
    ['defaultLifetimeMs', 31_536_000_000, '365 days'],
  ] as const)('accepts a %s of up to %d', (name, most, inWords) => {
    expect(checkSessionTokensOptions({ ...valid, [name]: most })[name]).toBe(most)
    const { message } = thrownBy({ ...valid, [name]: most + 1 })
    expect(message).toContain(`to ${most} (${inWords}), e.g. ${name}: `)
  })

  it.each(['timeoutMs', 'refreshTimeoutMs', 'connectTimeoutMs', 'defaultLifetimeMs'])(
    'refuses a %s of 0',
    (name) => {
      expect(thrownBy({ ...valid, [name]: 0 }).message).toContain(
        `\`${name}\` must be a number of milliseconds from 1`,
      )
    },
  )

  it.each(['leewayMs', 'refreshAheadMs', 'patienceMs'] as const)('accepts a %s of 0', (name) => {
    expect(checkSessionTokensOptions({ ...valid, [name]: 0 })[name]).toBe(0)
  })

  it.each<[string, object]>([
    ['sessionKey', { sessionKey: 'cookie' }],
    ['sessionKey', { sessionKey: 'id' }],
    ['sessionKey', { sessionKey: 'save' }],
    ['sessionKey', { sessionKey: 'regenerate' }],
  ])('rejects a %s that is in use: %j', (name, wrong) => {
    const value = Object.values(wrong)[0]
    expect(thrownBy({ ...valid, ...wrong }).message).toBe(
      `\`${name}\` must not be '${value}': express-session or sessionTokens() uses this key of the session. Choose another, e.g. 'tokens'.`,
    )
  })

  it.each(expressVersions)('refuses every property that a request of %s has', async (_, express) => {
    const app = express()
    const router = express.Router()
    let names: string[] = []
    let taken: string[] = []
    router.get('/:id', (request, response) => {
      names = namesIn(request)
      taken = names.filter((property) => {
        try {
          sessionTokens({ ...valid, property })(request, response, () => {})
          return true
        } catch (error) {
          return !/^`property` must /.test((error as ConfigurationError).message)
        }
      })
      response.end()
    })
    app.use((request, _, next) => {
      Object.assign(request, { ofTheApp: undefined })
      next()
    })
    app.use('/routed', express.json(), router)
    await supertest(app).get('/routed/1').expect(200)
    expect(names).toEqual(
      expect.arrayContaining(['get', 'query', 'params', 'route', 'baseUrl', 'pipe', 'on', 'ofTheApp']),
    )
    expect(taken).toEqual([])
  })

  it.each(expressVersions)('says in %s which property is in use', async (_, express) => {
    const app = express()
    app.use(sessionTokens({ ...valid, property: 'query' }))
    app.use((error: Error, _: unknown, response: ServerResponse, __: unknown) => response.end(error.message))
    const { text } = await supertest(app).get('/').buffer(true)
    expect(text).toBe(
      "`property` must not be 'query': req.query is in use already. Choose another, e.g. 'tokens'.",
    )
  })

  it.each(['user', 'oauth', 'auth', 'accessTokens'])('accepts the property %s', (property) => {
    expect(checkSessionTokensOptions({ ...valid, property }).property).toBe(property)
  })

  describe.each(['sessionKey', 'property'])('%s', (name) => {
    it.each<[string, unknown]>([
      ['empty', ''],
      ['a number', 5],
      ['null', null],
      ['a symbol', Symbol('x')],
      ['__proto__', '__proto__'],
      ['constructor', 'constructor'],
      ['toString', 'toString'],
    ])('rejects a value that is %s', (_, value) => {
      expect(thrownBy({ ...valid, [name]: value }).message).toBe(
        `\`${name}\` must be a name, e.g. ${name}: 'tokens'.`,
      )
    })
  })

  it('has defaults', () => {
    expect(checkSessionTokensOptions(valid)).toEqual({
      ...valid,
      encryptionKeys: undefined,
      sessionKey: 'tokens',
      property: 'tokens',
      acceptUnsealed: false,
      ambient: false,
      keep: 'session',
      onGrantStoreError: 'fail',
      leewayMs: 10_000,
      refreshAheadMs: 60_000,
      patienceMs: 1_000,
      maxConcurrentRefreshes: 200,
      timeoutMs: 10_000,
      refreshTimeoutMs: 30_000,
      connectTimeoutMs: 3_000,
      defaultLifetimeMs: 300_000,
    })
  })

  it('accepts every documented option', () => {
    const options = {
      ...endpoints,
      encryptionKeys: ['UUa2j3oVjRk0c8Zs9CLtEz3uJgQmA7rS7T1a0YbKx5c='],
      refreshEndpoint: 'https://idp.example.com/refresh',
      revocationEndpoint: 'http://localhost:8080/revoke',
      grants: memoryGrantStore(),
      keep: 'session' as const,
      onGrantStoreError: 'local' as const,
      session: () => ({ read: () => undefined, write() {}, clear() {} }),
      sessionKey: 'oauth',
      property: 'oauth',
      leewayMs: 1,
      refreshAheadMs: 1,
      patienceMs: 1,
      maxConcurrentRefreshes: 1,
      waitUntil: () => {},
      timeoutMs: 1,
      refreshTimeoutMs: 1,
      connectTimeoutMs: 1,
      defaultLifetimeMs: 1,
      http: { headers: { 'User-Agent': 'app' } },
      onEvent: () => {},
    }
    const encryptionKeys = expect.objectContaining({ isRotating: false, isEmpty: false })
    const checked = { ...options, encryptionKeys, acceptUnsealed: false, ambient: false }
    expect(checkSessionTokensOptions(options)).toEqual(checked)
    expect(sessionTokens(options)).toHaveLength(3)
  })
})

function namesIn(object: object | null): string[] {
  return object ? [...Object.getOwnPropertyNames(object), ...namesIn(Object.getPrototypeOf(object))] : []
}

function methodsOf(grants: ReturnType<typeof memoryGrantStore>): object {
  const names = Object.getOwnPropertyNames(Object.getPrototypeOf(grants)) as (keyof typeof grants)[]
  return Object.fromEntries(names.map((name) => [name, grants[name]]))
}

describe('clientAuthentication that was not called', () => {
  it.each([publicClient, clientSecretBasic])('%p: says to call it', (factory) => {
    const options = { tokenEndpoint: 'https://idp.example.com/token', clientId: 'web' }
    const create = () => sessionTokens({ ...options, clientAuthentication: factory as never })
    expect(create).toThrow(`call it: clientAuthentication: ${factory.name}(…)`)
  })
})

describe('memoryGrantStore(options)', () => {
  it.each([
    ['another option', { max: 3 }, 'memoryGrantStore() has no option `max`. Known are maxGrants.'],
    ['a misspelt option', { maxGrant: 3 }, 'Did you mean `maxGrants`?'],
    ['a value that is not an object', null, 'memoryGrantStore({ maxGrants'],
    ['no options', { maxGrants: 0 }, 'a whole number from 1'],
    ['half a grant', { maxGrants: 1.5 }, 'a whole number from 1'],
  ])('rejects %s', (_, options, cure) => {
    expect(() => memoryGrantStore(options as never)).toThrow(cure)
  })
})
