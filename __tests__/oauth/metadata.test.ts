import { afterEach, describe, expect, it } from '@jest/globals'
import { systemClock } from '../../lib/concurrency/clock.js'
import { ConfigurationError } from '../../lib/errors/token-error.js'
import { publicClient } from '../../lib/oauth/client-authentication/client-authentication.js'
import { httpClient } from '../../lib/oauth/http.js'
import {
  type HttpAuthorizationServerOptions,
  httpAuthorizationServer,
} from '../../lib/oauth/http-authorization-server.js'
import { metadataOf } from '../../lib/oauth/metadata.js'
import { testClock } from '../helpers/clock.js'
import { eventually } from '../helpers/fleet-expectations.js'
import { json, type WireHandler, type WireServer, wireServer } from '../helpers/wire-server.js'

let wire: WireServer

/** Answers by path; a path that is not there is a 404. */
async function serving(
  paths: (issuer: string) => Record<string, WireHandler | object>,
  path = '',
): Promise<string> {
  wire = await wireServer((request, response) => {
    const found = paths(`${wire.url}${path}`)[request.path]
    if (found === undefined) return response.writeHead(404).end('<p>Not found</p>')
    return typeof found === 'function' ? (found as WireHandler)(request, response) : json(response, found)
  })
  return `${wire.url}${path}`
}

const metadata = async (issuer: string, timeoutMs?: number) =>
  metadataOf(issuer, {
    send: httpClient(),
    now: () => Date.now(),
    secrets: [],
    ...(timeoutMs !== undefined && { timeoutMs }),
  }).get()
const full = (issuer: string, fields: object = {}) => ({
  issuer,
  token_endpoint: `${issuer}/token`,
  revocation_endpoint: `${issuer}/revoke`,
  jwks_uri: `${issuer}/jwks`,
  ...fields,
})
const OPENID = '/.well-known/openid-configuration'
const RFC8414 = '/.well-known/oauth-authorization-server'

afterEach(() => wire.close())

describe('metadataOf(issuer, source)', () => {
  it.each<[string, string, string, string[]]>([
    ['OpenID discovery', '', OPENID, [OPENID]],
    ['OpenID discovery below a path', '/realms/a', `/realms/a${OPENID}`, [`/realms/a${OPENID}`]],
    ['OpenID discovery below a slash', '/', OPENID, [OPENID]],
    ['RFC 8414', '', RFC8414, [OPENID, RFC8414]],
    [
      'RFC 8414 for a path',
      '/realms/a',
      `${RFC8414}/realms/a`,
      [`/realms/a${OPENID}`, `${RFC8414}/realms/a`],
    ],
  ])('reads %s', async (_, path, place, asked) => {
    const issuer = await serving((issuer) => ({ [place]: full(issuer) }), path)
    expect(await metadata(issuer)).toEqual({
      issuer,
      tokenEndpoint: `${issuer}/token`,
      revocationEndpoint: `${issuer}/revoke`,
      jwksUri: `${issuer}/jwks`,
    })
    expect(wire.requests.map(({ path }) => path)).toEqual(asked)
    expect(wire.requests[0]).toMatchObject({ method: 'GET', headers: { accept: 'application/json' } })
  })

  it('works without a revocation endpoint and a JWKS', async () => {
    const issuer = await serving((issuer) => ({ [OPENID]: { issuer, token_endpoint: 'https://a/token' } }))
    expect(await metadata(issuer)).toEqual({ issuer, tokenEndpoint: 'https://a/token' })
  })

  it('tries the next URL when a page is there in place of the metadata', async () => {
    const page: WireHandler = (_, response) => response.end('<p>Welcome</p>')
    const issuer = await serving((issuer) => ({ [OPENID]: page, [RFC8414]: full(issuer) }))
    expect(await metadata(issuer)).toMatchObject({ issuer })
  })

  it.each<[string, (issuer: string) => Record<string, WireHandler | object>, RegExp]>([
    [
      'nothing is there',
      () => ({}),
      /no authorization server metadata\..*tokenEndpoint and revocationEndpoint.* \(http.* or http/s,
    ],
    ['JSON that is no object', () => ({ [OPENID]: ['a'] }), /no authorization server metadata/],
    [
      'a redirect',
      (issuer) => ({
        [OPENID]: (_, response) => response.writeHead(302, { location: `${issuer}/else` }).end(),
        '/else': full(issuer),
      }),
      /no authorization server metadata/,
    ],
    [
      'it is larger than 1 MB',
      (issuer) => ({ [OPENID]: full(issuer, { x: 'x'.repeat(2_000_000) }) }),
      /no authorization server metadata/,
    ],
    [
      'the issuer is another',
      (issuer) => ({ [OPENID]: full(`${issuer}.evil`) }),
      /has the issuer "http.*evil", not "http/,
    ],
    ['the issuer has one slash more', (issuer) => ({ [OPENID]: full(`${issuer}/`) }), /must be identical/],
    [
      'the issuer is missing',
      (issuer) => ({ [OPENID]: full(issuer, { issuer: undefined }) }),
      /has the issuer none/,
    ],
    [
      'the token endpoint is missing',
      (issuer) => ({ [OPENID]: full(issuer, { token_endpoint: undefined }) }),
      /the token_endpoint must be an absolute https URL\./,
    ],
    [
      'S64 the token endpoint is over http',
      (issuer) => ({ [OPENID]: full(issuer, { token_endpoint: 'http://idp.example.com/token' }) }),
      /the token_endpoint must use https/,
    ],
    [
      'S64 the revocation endpoint is over http',
      (issuer) => ({ [OPENID]: full(issuer, { revocation_endpoint: 'http://idp.example.com/revoke' }) }),
      /the revocation_endpoint must use https/,
    ],
  ])('is a mistake in the configuration when %s', async (_, paths, cure) => {
    const found = metadata(await serving(paths))
    await expect(found).rejects.toThrow(ConfigurationError)
    const { details, message } = (await found.catch((error) => error)) as ConfigurationError
    expect(`${message} (${details})`).toMatch(cure)
    expect(message).not.toContain('://')
    expect(message).toMatch(/Check the option issuer, .*\.$/)
  })

  it.each<[string, WireHandler, object]>([
    ['a 503', (_, response) => response.writeHead(503, { 'retry-after': '9' }).end(), { retryAfterMs: 9000 }],
    ['a 429', (_, response) => response.writeHead(429).end(), {}],
    ['a reset', (_, response) => response.socket?.resetAndDestroy(), {}],
    ['no response in time', () => {}, { message: expect.stringContaining('did not respond in time') }],
  ])('is retryable when there is %s', async (_, handler, error) => {
    const issuer = await serving(() => ({ [OPENID]: handler }))
    await expect(metadata(issuer, 200)).rejects.toMatchObject({
      code: 'ERR_TOKEN_ENDPOINT_UNAVAILABLE',
      ...error,
    })
  })
})

describe('httpAuthorizationServer({ issuer })', () => {
  const server = (options: Partial<HttpAuthorizationServerOptions>) =>
    httpAuthorizationServer({
      clientId: 'web',
      clientAuthentication: publicClient(),
      clock: systemClock,
      ...options,
    })
  const signal = () => AbortSignal.timeout(10_000)
  const tokens = { access_token: 'at' }
  const paths = (issuer: string): Record<string, WireHandler | object> => ({
    [OPENID]: full(issuer),
    '/token': tokens,
    '/refresh': tokens,
    '/explicit': tokens,
    '/revoke': {},
  })
  const asked = () => wire.requests.map(({ path }) => path)

  it('fetches nothing until it is needed, then once', async () => {
    const idp = server({ issuer: await serving(paths) })
    expect(asked()).toEqual([])
    await Promise.all([1, 2, 3].map(() => idp.refresh('rt', { signal: signal() })))
    await idp.revoke('rt', 'refresh_token', signal())
    expect(asked()).toEqual([OPENID, '/token', '/token', '/token', '/revoke'])
  })

  it('prefers the endpoints in the options, and fetches nothing if they suffice', async () => {
    const issuer = await serving(paths)
    const idp = server({ issuer, tokenEndpoint: `${issuer}/explicit` })
    await idp.refresh('rt', { signal: signal() })
    expect(asked()).toEqual(['/explicit'])
    await idp.revoke('rt', 'refresh_token', signal())
    expect(asked()).toEqual(['/explicit', OPENID, '/revoke'])
  })

  it('refreshes at the refreshEndpoint', async () => {
    const issuer = await serving(paths)
    const idp = server({ issuer, refreshEndpoint: `${issuer}/refresh` })
    await idp.refresh('rt', { signal: signal() })
    await idp.acquire({ grant_type: 'authorization_code', code: 'c' }, signal())
    expect(asked()).toEqual([OPENID, '/refresh', '/token'])
  })

  it('does not keep a failure', async () => {
    let down = true
    const issuer = await serving((issuer) => ({
      ...paths(issuer),
      ...(down && { [OPENID]: (_, response) => response.writeHead(503).end() }),
    }))
    const idp = server({ issuer })
    await expect(idp.refresh('rt', { signal: signal() })).rejects.toMatchObject({
      code: 'ERR_TOKEN_ENDPOINT_UNAVAILABLE',
    })
    down = false
    await expect(idp.refresh('rt', { signal: signal() })).resolves.toEqual({ accessToken: 'at' })
  })

  describe('fetches the metadata again, beside the requests,', () => {
    /** An issuer that has moved its token endpoint. */
    async function moved(status: number) {
      const clock = testClock()
      const gone: WireHandler = (_, response) => response.writeHead(status, { location: '/elsewhere' }).end()
      let at = '/token'
      let metadata: WireHandler | undefined
      const issuer = await serving((issuer) => ({
        [OPENID]: metadata ?? full(issuer, { token_endpoint: issuer + at }),
        '/token': at === '/token' ? tokens : gone,
        '/moved': tokens,
      }))
      const idp = server({ issuer, clock })
      await idp.refresh('rt', { signal: signal() })
      at = '/moved'
      wire.requests.length = 0
      return {
        clock,
        refresh: () => idp.refresh('rt', { signal: signal() }),
        answerMetadata: (handler: WireHandler | undefined) => {
          metadata = handler
        },
      }
    }
    const fetched = (times = 1) =>
      eventually(async () => expect(asked().filter((path) => path === OPENID)).toHaveLength(times))

    it.each([301, 308, 404, 405, 410])('when the token endpoint responds with %i', async (status) => {
      const { clock, refresh } = await moved(status)
      clock.advance(61_000)
      await expect(refresh()).rejects.toMatchObject({ code: 'ERR_INVALID_TOKEN_RESPONSE' })
      await fetched()
      await eventually(async () => expect(await refresh()).toEqual({ accessToken: 'at' }))
      expect(asked().at(-1)).toBe('/moved')
    })

    it('at most once a minute', async () => {
      const { clock, refresh } = await moved(404)
      await expect(refresh()).rejects.toThrow()
      expect(asked()).toEqual(['/token'])
      clock.advance(61_000)
      await expect(refresh()).rejects.toThrow()
      await fetched()
    })

    it('after a day, and no refresh waits or fails if there is none', async () => {
      const { answerMetadata, clock, refresh } = await moved(200)
      const never: WireHandler = () => {}
      answerMetadata(never)
      clock.advance(25 * 3_600_000)
      await expect(refresh()).rejects.toThrow(/is empty/)
      expect(asked()).toEqual(expect.arrayContaining([OPENID, '/token']))
      answerMetadata((_, response) => response.writeHead(503).end())
      clock.advance(61_000)
      await expect(refresh()).rejects.toThrow(/is empty/)
      await fetched(2)
      answerMetadata(undefined)
      clock.advance(61_000)
      await expect(refresh()).rejects.toThrow(/is empty/)
      await eventually(async () => expect(await refresh()).toEqual({ accessToken: 'at' }))
      expect(asked().at(-1)).toBe('/moved')
    })
  })

  it('an aborted first caller does not fail the others', async () => {
    const controller = new AbortController()
    let respond = () => {}
    const issuer = await serving((issuer) => ({
      ...paths(issuer),
      [OPENID]: (_, response) => {
        respond = () => json(response, full(issuer))
        controller.abort()
      },
    }))
    const idp = server({ issuer })
    const first = idp.refresh('rt', { signal: controller.signal })
    const second = idp.refresh('rt', { signal: signal() })
    await expect(first).rejects.toMatchObject({ code: 'ERR_TOKEN_ENDPOINT_UNAVAILABLE' })
    respond()
    await expect(second).resolves.toEqual({ accessToken: 'at' })
    expect(asked()).toEqual([OPENID, '/token'])
  })

  it('says what to do when the metadata has no revocation endpoint', async () => {
    const issuer = await serving((issuer) => ({ [OPENID]: full(issuer, { revocation_endpoint: undefined }) }))
    await expect(server({ issuer }).revoke('rt', 'refresh_token', signal())).rejects.toThrow(
      /revocationEndpoint.*clear\(\)/,
    )
  })

  it('passes the issuer to the client authentication', async () => {
    const issuer = await serving(paths)
    const received: object[] = []
    const idp = server({
      issuer,
      clientAuthentication: (request) => {
        received.push(request)
        return {}
      },
    })
    await idp.revoke('rt', 'refresh_token', signal())
    expect(received).toEqual([
      {
        clientId: 'web',
        issuer,
        tokenEndpoint: `${issuer}/token`,
        endpoint: `${issuer}/revoke`,
        now: expect.any(Number),
      },
    ])
  })
})
