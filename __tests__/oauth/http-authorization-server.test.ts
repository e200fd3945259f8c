import { Agent } from 'node:http'
import { afterEach, describe, expect, it } from '@jest/globals'
import axios from 'axios'
import { UnsecuredJWT } from 'jose'
import { systemClock } from '../../lib/concurrency/clock.js'
import { ConfigurationError, TokenError, type TokenErrorCode } from '../../lib/errors/token-error.js'
import type { AcquireParameters, AuthorizationServer } from '../../lib/oauth/authorization-server.js'
import {
  type ClientAuthentication,
  clientSecretBasic,
  clientSecretPost,
  publicClient,
} from '../../lib/oauth/client-authentication/client-authentication.js'
import {
  type HttpAuthorizationServerOptions,
  httpAuthorizationServer,
} from '../../lib/oauth/http-authorization-server.js'
import { json, type WireHandler, type WireServer, wireServer } from '../helpers/wire-server.js'

let wire: WireServer
const closing: WireServer[] = []
const signal = () => AbortSignal.timeout(10_000)
const tokens: WireHandler = (_, response) => json(response, { access_token: 'at', expires_in: 60 })

async function server(
  options: Partial<HttpAuthorizationServerOptions> = {},
  handler: WireHandler = tokens,
): Promise<AuthorizationServer> {
  wire = await wireServer(handler)
  closing.push(wire)
  return httpAuthorizationServer({
    tokenEndpoint: `${wire.url}/token`,
    clientId: 'web',
    clientAuthentication: publicClient(),
    clock: systemClock,
    ...options,
  })
}

afterEach(async () => {
  await Promise.all(closing.splice(0).map((server) => server.close()))
})

describe('httpAuthorizationServer(options)', () => {
  const good = { clientId: 'web', clientAuthentication: publicClient(), clock: systemClock }

  it.each<[string, object, RegExp]>([
    ['S64 a tokenEndpoint over http', { tokenEndpoint: 'http://a/token' }, /^`tokenEndpoint` must use https/],
    [
      'S64 a refreshEndpoint over http',
      { tokenEndpoint: 'https://a/token', refreshEndpoint: 'http://a/refresh' },
      /^`refreshEndpoint` must use https/,
    ],
    [
      'S64 a revocationEndpoint over http',
      { tokenEndpoint: 'https://a/token', revocationEndpoint: 'http://a/revoke' },
      /^`revocationEndpoint` must use https/,
    ],
    [
      'S64 a jwksUri over http',
      { tokenEndpoint: 'https://a/token', jwksUri: 'http://a/jwks' },
      /^`jwksUri` must use https/,
    ],
    ['S64 an issuer over http', { issuer: 'http://a' }, /^`issuer` must use https/],
    ['an issuer with a query', { issuer: 'https://a?b=c' }, /^`issuer` must not have a query/],
  ])('refuses %s', (_, options, cure) => {
    const make = () => httpAuthorizationServer({ ...good, ...options } as HttpAuthorizationServerOptions)
    expect(make).toThrow(ConfigurationError)
    expect(make).toThrow(cure)
  })
})

describe('server.refresh(refreshToken, request)', () => {
  it('posts a form, and reads the response', async () => {
    const authorizationServer = await server()
    expect(await authorizationServer.refresh('rt', { signal: signal() })).toEqual({
      accessToken: 'at',
      lifetimeMs: 60_000,
    })
    expect(wire.requests).toHaveLength(1)
    expect(wire.requests[0]).toMatchObject({
      method: 'POST',
      path: '/token',
      body: 'grant_type=refresh_token&refresh_token=rt&client_id=web',
      headers: {
        'content-type': 'application/x-www-form-urlencoded;charset=UTF-8',
        accept: 'application/json',
        'user-agent': 'session-token-manager',
      },
    })
    expect(wire.requests[0]?.headers).not.toHaveProperty('authorization')
  })

  it('puts the client authentication before scope and resource', async () => {
    const authorizationServer = await server({ clientAuthentication: clientSecretPost('s') })
    await authorizationServer.refresh('rt', {
      scope: 'a b',
      resource: 'https://api.example.com',
      signal: signal(),
    })
    expect(wire.requests[0]?.body).toBe(
      'grant_type=refresh_token&refresh_token=rt&client_id=web&client_secret=s&scope=a+b' +
        '&resource=https%3A%2F%2Fapi.example.com',
    )
  })

  it.each([
    ['a plus', 'a+b', 'a%2Bb'],
    ['an ampersand', 'a&b', 'a%26b'],
    ['an equals sign', 'a=b==', 'a%3Db%3D%3D'],
    ['a percent sign', 'a%2Bb', 'a%252Bb'],
    ['a slash', 'a/b', 'a%2Fb'],
    ['a quote', 'a"b', 'a%22b'],
    ['a space', 'a b', 'a+b'],
    ['8 KB', 'x'.repeat(8192), 'x'.repeat(8192)],
  ])('S50 sends a refresh token with %s', async (_, refreshToken, encoded) => {
    const authorizationServer = await server()
    await authorizationServer.refresh(refreshToken, { signal: signal() })
    expect(wire.requests[0]?.body).toBe(`grant_type=refresh_token&refresh_token=${encoded}&client_id=web`)
  })

  it('S50 takes tokens of 8 KB', async () => {
    const [accessToken, refreshToken] = ['a'.repeat(8192), '+&=%/" '.repeat(1170)]
    const authorizationServer = await server({}, (_, response) =>
      json(response, { access_token: accessToken, refresh_token: refreshToken }),
    )
    expect(await authorizationServer.refresh('rt', { signal: signal() })).toEqual({
      accessToken,
      refreshToken,
    })
  })

  it('S50 sends the exact bytes of a client id and a secret', async () => {
    const authorizationServer = await server({
      clientId: 'w:+%/ ä',
      clientAuthentication: clientSecretBasic('s:+%/ ä'),
    })
    await authorizationServer.refresh('rt', { signal: signal() })
    const credentials = Buffer.from('w%3A%2B%25%2F+%C3%A4:s%3A%2B%25%2F+%C3%A4').toString('base64')
    expect(wire.requests[0]?.headers.authorization).toBe(`Basic ${credentials}`)
    expect(wire.requests[0]?.body).toBe('grant_type=refresh_token&refresh_token=rt')
  })

  it('goes to the refreshEndpoint, if there is one', async () => {
    const authorizationServer = await server()
    const other = await wireServer(tokens)
    closing.push(other)
    const refreshing = httpAuthorizationServer({
      tokenEndpoint: `${wire.url}/token`,
      refreshEndpoint: `${other.url}/refresh?tenant=a`,
      clientId: 'web',
      clientAuthentication: ({ tokenEndpoint, endpoint }) => ({ parameters: { tokenEndpoint, endpoint } }),
      clock: systemClock,
    })
    await refreshing.refresh('rt', { signal: signal() })
    await authorizationServer.refresh('rt', { signal: signal() })
    expect(other.requests.map(({ path }) => path)).toEqual(['/refresh?tenant=a'])
    expect(Object.fromEntries(new URLSearchParams(other.requests[0]?.body))).toMatchObject({
      tokenEndpoint: `${wire.url}/token`,
      endpoint: `${other.url}/refresh?tenant=a`,
    })
    expect(wire.requests.map(({ path }) => path)).toEqual(['/token'])
  })

  it('sends the headers of the http option, but lets none stand in for its own', async () => {
    const headers = {
      'X-Api-Key': 'k',
      'user-agent': 'app',
      'content-type': 'text/plain',
      ACCEPT: 'text/html',
    }
    const authorizationServer = await server({ http: { headers } })
    await authorizationServer.refresh('rt', { signal: signal() })
    expect(wire.requests[0]?.headers).toMatchObject({
      'x-api-key': 'k',
      'user-agent': 'app',
      'content-type': 'application/x-www-form-urlencoded;charset=UTF-8',
      accept: 'application/json',
    })
  })

  it('does not let a client authentication change the content type', async () => {
    const clientAuthentication = () => ({ headers: { 'content-type': 'text/plain', 'X-Mine': 'yes' } })
    const authorizationServer = await server({ clientAuthentication })
    await authorizationServer.refresh('rt', { signal: signal() })
    expect(wire.requests[0]?.headers).toMatchObject({
      'content-type': 'application/x-www-form-urlencoded;charset=UTF-8',
      'x-mine': 'yes',
    })
  })

  it('keeps the connection for the next request', async () => {
    const authorizationServer = await server()
    await authorizationServer.refresh('rt', { signal: signal() })
    await authorizationServer.refresh('rt', { signal: signal() })
    expect(wire.requests.map(({ headers }) => headers.connection)).toEqual(['keep-alive', 'keep-alive'])
    expect(new Set(wire.requests.map(({ port }) => port)).size).toBe(1)
  })

  it('uses the agent of the http option', async () => {
    const httpAgent = new Agent({ keepAlive: true })
    const created: unknown[] = []
    httpAgent.on('free', (socket) => created.push(socket))
    const authorizationServer = await server({ http: { httpAgent } })
    await authorizationServer.refresh('rt', { signal: signal() })
    await authorizationServer.refresh('rt', { signal: signal() })
    expect(created.length).toBeGreaterThan(0)
    httpAgent.destroy()
  })

  it('goes through no proxy on the loopback interface', async () => {
    const proxy = await wireServer(tokens)
    closing.push(proxy)
    const before = process.env.http_proxy
    process.env.http_proxy = proxy.url
    try {
      const authorizationServer = await server({ http: { proxy: { host: '127.0.0.1', port: proxy.port } } })
      await authorizationServer.refresh('rt', { signal: signal() })
    } finally {
      if (before === undefined) delete process.env.http_proxy
      else process.env.http_proxy = before
    }
    expect(proxy.requests).toEqual([])
    expect(wire.requests).toHaveLength(1)
  })

  it("is not seen by the app's axios", async () => {
    const seen: unknown[] = []
    const interceptor = axios.interceptors.request.use((config) => {
      seen.push(config)
      return config
    })
    const { adapter, baseURL } = axios.defaults
    axios.defaults.headers.common['X-App'] = 'app'
    axios.defaults.baseURL = 'http://127.0.0.1:1'
    axios.defaults.adapter = async (config) => {
      seen.push(config)
      throw new Error('the adapter of the app')
    }
    try {
      const authorizationServer = await server()
      await authorizationServer.refresh('rt', { signal: signal() })
    } finally {
      axios.interceptors.request.eject(interceptor)
      delete axios.defaults.headers.common['X-App']
      Object.assign(axios.defaults, { adapter, baseURL })
    }
    expect(seen).toEqual([])
    expect(wire.requests[0]?.headers).not.toHaveProperty('x-app')
  })

  it.each<[string, object]>([
    ['parameters of the request', { parameters: { refresh_token: 'another' } }],
    ['scope', { parameters: { scope: 'a' } }],
    ['a parameter that is no string', { parameters: { client_id: 5 } }],
  ])('refuses a client authentication that sets %s', async (_, credentials) => {
    const authorizationServer = await server({ clientAuthentication: () => credentials })
    await expect(authorizationServer.refresh('rt', { signal: signal() })).rejects.toThrow(ConfigurationError)
    expect(wire.requests).toEqual([])
  })

  it('sends nothing when the client authentication fails', async () => {
    const authorizationServer = await server({
      clientAuthentication: async () => {
        throw new Error('the vault is sealed')
      },
    })
    await expect(authorizationServer.refresh('rt', { signal: signal() })).rejects.toMatchObject({
      code: 'ERR_TOKEN_ENDPOINT_UNAVAILABLE',
      cause: { message: 'the vault is sealed' },
    })
    expect(wire.requests).toEqual([])
  })

  it.each<[string, () => unknown, RegExp]>([
    ['nothing', () => undefined, /must return an object, e\.g\. \{ parameters/],
    ['null', async () => null, /must return an object/],
    ['text', () => 'secret-one', /must return an object/],
    ['an array', () => [{ headers: {} }], /must return an object/],
    [
      'headers at the top',
      () => ({ Authorization: 'secret-one' }),
      /headers, parameters, secrets, certificate and nothing else/,
    ],
    [
      'a header that is undefined',
      () => ({ headers: { 'X-Key': undefined } }),
      /X-Key is undefined\. Is the environ/,
    ],
    ['a header that is a number', () => ({ headers: { 'X-Key': 8712364 } }), /X-Key is a number\. Leave out/],
    ['headers that are text', () => ({ headers: 'secret-one' }), /headers .* plain object .*'X-Api-Key'/],
    ['headers of fetch', () => ({ headers: new Headers({ a: 'secret-one' }) }), /headers .* plain object/],
    [
      'a form of parameters',
      () => ({ parameters: new URLSearchParams('a=secret-one') }),
      /parameters .* plain object/,
    ],
    [
      'a parameter that is null',
      () => ({ parameters: { client_secret: null } }),
      /client_secret is null\. Is the env/,
    ],
    ['secrets that are text', () => ({ secrets: 'secret-one' }), /secrets in an array of strings/],
    ['secrets that are undefined', () => ({ secrets: [undefined] }), /secrets in an array of strings/],
  ])('rejects a client authentication that returns %s', async (_, result, cure) => {
    const authorizationServer = await server({ clientAuthentication: result as ClientAuthentication })
    const error = await authorizationServer
      .refresh('rt', { signal: signal() })
      .catch((error: unknown) => error)
    expect(error).toBeInstanceOf(ConfigurationError)
    expect((error as Error).message).toMatch(cure)
    expect((error as Error).message).not.toMatch(/secret-one|8712364/)
    expect(wire.requests).toEqual([])
  })

  it('takes a client authentication that adds nothing', async () => {
    const authorizationServer = await server({ clientAuthentication: () => ({}) })
    await authorizationServer.refresh('rt', { signal: signal() })
    expect(wire.requests[0]?.body).toBe('grant_type=refresh_token&refresh_token=rt')
  })

  it.each<TokenErrorCode>(['ERR_REAUTHENTICATION_REQUIRED', 'ERR_NO_TOKENS', 'ERR_CLIENT_REJECTED'])(
    'a client authentication that fails with a %s of its own says nothing about the user',
    async (code) => {
      const cause = new TokenError(code, 'The machine has no tokens.')
      const authorizationServer = await server({ clientAuthentication: () => Promise.reject(cause) })
      await expect(authorizationServer.refresh('rt', { signal: signal() })).rejects.toMatchObject({
        code: 'ERR_TOKEN_ENDPOINT_UNAVAILABLE',
        cause,
      })
      expect(wire.requests).toEqual([])
    },
  )

  it('a client authentication passes its ConfigurationError on', async () => {
    const wrong = new ConfigurationError('The key is missing.')
    const authorizationServer = await server({ clientAuthentication: () => Promise.reject(wrong) })
    await expect(authorizationServer.refresh('rt', { signal: signal() })).rejects.toBe(wrong)
  })

  it('a client authentication that fails because the signal is aborted: the error names the abort', async () => {
    const controller = new AbortController()
    const authorizationServer = await server({
      clientAuthentication: () => {
        controller.abort()
        throw new TypeError('aborted')
      },
    })
    await expect(authorizationServer.refresh('rt', { signal: controller.signal })).rejects.toMatchObject({
      code: 'ERR_TOKEN_ENDPOINT_UNAVAILABLE',
      message: expect.stringContaining('aborted by its signal'),
    })
  })

  it('stops waiting for the client authentication when the signal is aborted', async () => {
    const controller = new AbortController()
    const authorizationServer = await server({
      clientAuthentication: () => {
        controller.abort()
        return new Promise(() => {})
      },
    })
    await expect(authorizationServer.refresh('rt', { signal: controller.signal })).rejects.toMatchObject({
      code: 'ERR_TOKEN_ENDPOINT_UNAVAILABLE',
    })
    expect(wire.requests).toEqual([])
  })

  it('sends nothing when the signal is aborted already', async () => {
    const authorizationServer = await server()
    await expect(authorizationServer.refresh('rt', { signal: AbortSignal.abort() })).rejects.toMatchObject({
      code: 'ERR_TOKEN_ENDPOINT_UNAVAILABLE',
    })
    expect(wire.requests).toEqual([])
  })
})

describe('server.acquire(parameters, signal)', () => {
  it.each<[string, AcquireParameters, string]>([
    [
      'authorization code',
      {
        scope: 'a',
        code_verifier: 'v',
        redirect_uri: 'https://app.example.com/cb?x=1',
        code: 'c+/=',
        grant_type: 'authorization_code',
      },
      'grant_type=authorization_code&code=c%2B%2F%3D&redirect_uri=https%3A%2F%2Fapp.example.com%2Fcb%3Fx%3D1' +
        '&code_verifier=v&client_id=web&client_secret=s&scope=a',
    ],
    [
      'authorization code, the least',
      { grant_type: 'authorization_code', code: 'c', redirect_uri: undefined, code_verifier: '' },
      'grant_type=authorization_code&code=c&client_id=web&client_secret=s',
    ],
    [
      'password',
      { password: 'pä ss', username: 'ada@example.com', grant_type: 'password', scope: 'a offline_access' },
      'grant_type=password&username=ada%40example.com&password=p%C3%A4+ss&client_id=web&client_secret=s' +
        '&scope=a+offline_access',
    ],
    [
      'JWT bearer',
      { scope: 'a', grant_type: 'urn:ietf:params:oauth:grant-type:jwt-bearer', assertion: 'a.b.c' },
      'grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer&assertion=a.b.c' +
        '&client_id=web&client_secret=s&scope=a',
    ],
    [
      'extension',
      { card: '1', grant_type: 'urn:example:params:oauth:grant-type:card' },
      'grant_type=urn%3Aexample%3Aparams%3Aoauth%3Agrant-type%3Acard&client_id=web&client_secret=s&card=1',
    ],
    [
      'further parameters and several resources',
      {
        audience: 'https://aud',
        resource: ['https://a', 'https://b'],
        grant_type: 'authorization_code',
        code: 'c',
        client_id: 'not this one',
      },
      'grant_type=authorization_code&code=c&client_id=web&client_secret=s' +
        '&resource=https%3A%2F%2Fa&resource=https%3A%2F%2Fb&audience=https%3A%2F%2Faud',
    ],
  ])('posts the form of the %s grant, in its order', async (_, parameters, body) => {
    const authorizationServer = await server({
      clientAuthentication: clientSecretPost('s'),
      refreshEndpoint: 'https://idp.example.com/refresh',
    })
    expect(await authorizationServer.acquire(parameters, signal())).toEqual({
      accessToken: 'at',
      lifetimeMs: 60_000,
    })
    expect(wire.requests.map(({ path, body }) => [path, body])).toEqual([['/token', body]])
  })

  it.each<[string, object, RegExp]>([
    ...['redirectUri', 'codeVerifier', 'clientId'].map((name): [string, object, RegExp] => [
      `${name}, as it is not on the wire`,
      { grant_type: 'authorization_code', code: 'c', [name]: 'x' },
      new RegExp(`unlike \`${name}\`\\. Did you mean \`${name.replace(/[A-Z]/, '_$&').toLowerCase()}\`\\?`),
    ]),
    ['grantType', { grantType: 'authorization_code', code: 'c' }, /Did you mean `grant_type`\?/],
    ['no code', { grant_type: 'authorization_code' }, /`code` is missing.*query of the callback/],
    ['an empty code', { grant_type: 'authorization_code', code: '' }, /`code` is missing/],
    [
      'two codes',
      { grant_type: 'authorization_code', code: ['a', 'b'] },
      /`code` is missing, empty or not a string/,
    ],
    ['no username', { grant_type: 'password', password: 'p' }, /`username` is missing.*Give both/],
    ['no password', { grant_type: 'password', username: 'u' }, /`password` is missing/],
    [
      'no assertion',
      { grant_type: 'urn:ietf:params:oauth:grant-type:jwt-bearer' },
      /`assertion` is missing.*Give the JWT/,
    ],
  ])('refuses %s, says what to do, and sends nothing', async (_, parameters, cure) => {
    const authorizationServer = await server()
    const refused = authorizationServer.acquire(parameters as AcquireParameters, signal())
    await expect(refused).rejects.toThrow(ConfigurationError)
    await expect(refused).rejects.toThrow(cure)
    expect(wire.requests).toEqual([])
  })

  it('sends neither nonce nor iss', async () => {
    const issuer = 'https://idp.example.com'
    const authorizationServer = await server({ issuer })
    const expected = { nonce: 'n-1', iss: issuer }
    await authorizationServer.acquire({ grant_type: 'authorization_code', code: 'c', ...expected }, signal())
    await authorizationServer.acquire({ grant_type: 'urn:example:grant', ...expected }, signal())
    await authorizationServer.acquire(
      { grant_type: 'authorization_code', code: 'c', iss: undefined },
      signal(),
    )
    expect(wire.requests.map(({ body }) => body)).toEqual([
      'grant_type=authorization_code&code=c&client_id=web',
      'grant_type=urn%3Aexample%3Agrant&client_id=web',
      'grant_type=authorization_code&code=c&client_id=web',
    ])
  })

  it.each<[string, unknown]>([
    ['another issuer', 'https://evil.example.com'],
    ['the issuer with a slash more', 'https://idp.example.com/'],
    ['the issuer in capitals', 'https://IDP.example.com'],
    ['an empty text', ''],
    ['two', ['https://idp.example.com', 'https://idp.example.com']],
    ['null', null],
  ])('does not send the code when iss is %s (RFC 9207)', async (_, iss) => {
    const authorizationServer = await server({ issuer: 'https://idp.example.com' })
    const parameters = { grant_type: 'authorization_code', code: 'the-code', iss }
    const error = await authorizationServer
      .acquire(parameters as AcquireParameters, signal())
      .catch((it: unknown) => it)
    expect(error).toMatchObject({
      code: 'ERR_INVALID_TOKEN_RESPONSE',
      message: expect.stringMatching(/`iss`/),
    })
    expect(String((error as Error).message)).not.toMatch(/the-code|evil/)
    expect(wire.requests).toEqual([])
  })

  it.each<[string, object, RegExp]>([
    ['iss, and the issuer is not known', { iss: 'https://idp.example.com' }, /`iss` cannot be checked/],
    ['a nonce that was lost', { nonce: undefined }, /`nonce` must be a string/],
    ['an empty nonce', { nonce: '' }, /`nonce` must be a string/],
    ['two nonces', { nonce: ['a', 'b'] }, /`nonce` must be a string/],
  ])('refuses %s, and sends nothing', async (_, expected, why) => {
    const authorizationServer = await server()
    const parameters = { grant_type: 'authorization_code', code: 'c', ...expected } as AcquireParameters
    const refused = authorizationServer.acquire(parameters, signal())
    await expect(refused).rejects.toThrow(ConfigurationError)
    await expect(refused).rejects.toThrow(why)
    expect(wire.requests).toEqual([])
  })

  it('refuses a value that is no string', async () => {
    const authorizationServer = await server()
    const parameters = { grant_type: 'authorization_code', code: 'c', x: { a: 'b' } }
    const refused = authorizationServer.acquire(parameters as unknown as AcquireParameters, signal())
    await expect(refused).rejects.toThrow(/parameter x .* must be a string/)
    expect(wire.requests).toEqual([])
  })
})

describe('server.revoke(token, tokenTypeHint, signal)', () => {
  const revoking = async (handler: WireHandler, options: Partial<HttpAuthorizationServerOptions> = {}) => {
    wire = await wireServer(handler)
    closing.push(wire)
    return server({ revocationEndpoint: `${wire.url}/revoke`, ...options }).then((made) => {
      wire = closing[0] as WireServer
      return made
    })
  }

  it.each<[string, WireHandler]>([
    ['an empty 200', (_, response) => response.end()],
    ['a 200 with something in it', (_, response) => response.end('<p>done</p>')],
    ['a 204', (_, response) => response.writeHead(204).end()],
  ])('posts the token, and takes %s', async (_, handler) => {
    const authorizationServer = await revoking(handler, { clientAuthentication: clientSecretPost('s') })
    expect(await authorizationServer.revoke('rt', 'refresh_token', signal())).toBeUndefined()
    expect(wire.requests.map(({ path, body }) => [path, body])).toEqual([
      ['/revoke', 'token=rt&token_type_hint=refresh_token&client_id=web&client_secret=s'],
    ])
  })

  it.each<[string, WireHandler, object]>([
    [
      'unsupported_token_type',
      (_, response) => json(response, { error: 'unsupported_token_type' }, 400),
      { code: 'ERR_TOKEN_ENDPOINT', error: 'unsupported_token_type' },
    ],
    [
      'a 503',
      (_, response) => response.writeHead(503, { 'retry-after': '5' }).end(),
      { code: 'ERR_TOKEN_ENDPOINT_UNAVAILABLE', retryAfterMs: 5000 },
    ],
    [
      'a redirect',
      (_, response) => response.writeHead(302, { location: '/elsewhere' }).end(),
      { code: 'ERR_INVALID_TOKEN_RESPONSE' },
    ],
    [
      'invalid_client',
      (_, response) => json(response, { error: 'invalid_client' }, 401),
      { code: 'ERR_CLIENT_REJECTED' },
    ],
  ])('rejects on %s', async (_, handler, error) => {
    const authorizationServer = await revoking(handler)
    await expect(authorizationServer.revoke('rt', 'refresh_token', signal())).rejects.toMatchObject(error)
    expect(wire.requests).toHaveLength(1)
  })

  it('says what to do when no revocation endpoint is known', async () => {
    const authorizationServer = await server()
    const revoked = authorizationServer.revoke('rt', 'refresh_token', signal())
    await expect(revoked).rejects.toThrow(ConfigurationError)
    await expect(revoked).rejects.toThrow(/revocationEndpoint.*clear\(\)/)
  })
})

describe('server.signatureOf(idToken) without the keys of the issuer', () => {
  const idToken = new UnsecuredJWT({ iss: 'https://idp.example.com', sub: 'ada', aud: 'web' }).encode()

  it('is good for a JWT, which came over TLS', async () => {
    expect(await (await server()).signatureOf(idToken)).toEqual({ verdict: 'good' })
  })

  it('S49 is unknown for a text that is no JWT', async () => {
    expect(await (await server()).signatureOf('an opaque text')).toEqual({
      verdict: 'unknown',
      error: expect.objectContaining({ code: 'ERR_INVALID_TOKEN_RESPONSE' }),
    })
    expect(wire.requests).toEqual([])
  })
})
