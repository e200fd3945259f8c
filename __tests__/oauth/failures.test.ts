import { once } from 'node:events'
import { Agent } from 'node:http'
import { type AddressInfo, createServer } from 'node:net'
import { inspect } from 'node:util'
import { brotliCompressSync, gzipSync } from 'node:zlib'
import { afterEach, describe, expect, it } from '@jest/globals'
import { TokenError } from '../../lib/errors/token-error.js'
import type { AuthorizationServer, FailedRefresh } from '../../lib/oauth/authorization-server.js'
import {
  clientAssertion,
  clientSecretBasic,
  clientSecretPost,
} from '../../lib/oauth/client-authentication/client-authentication.js'
import {
  type HttpAuthorizationServerOptions,
  httpAuthorizationServer,
} from '../../lib/oauth/http-authorization-server.js'
import { json, type WireHandler, type WireServer, wireServer } from '../helpers/wire-server.js'

const NOW = Date.parse('2024-06-01T12:00:00Z')
const clock = { now: () => NOW, monotonic: () => 0 }
const RT = 'rt-Zx+/= "9'
const SECRET = 'hush-hush+secret/ä'
const AT = 'at-from-the-response'
const NEW_RT = 'rt-from-the-response'
const API_KEY = 'api-key-4711'
const BASIC = Buffer.from(`web:${new URLSearchParams([['', SECRET]]).toString().slice(1)}`).toString('base64')
const RAW_BASIC = Buffer.from(`web:${SECRET}`).toString('base64')

let wire: WireServer | undefined
const signal = () => AbortSignal.timeout(10_000)

async function server(
  handler: WireHandler,
  options: Partial<HttpAuthorizationServerOptions> = {},
): Promise<AuthorizationServer> {
  wire = await wireServer(handler)
  return serverAt(`${wire.url}/token`, options)
}

function serverAt(
  tokenEndpoint: string,
  options: Partial<HttpAuthorizationServerOptions> = {},
): AuthorizationServer {
  return httpAuthorizationServer({
    tokenEndpoint,
    clientId: 'web',
    clientAuthentication: clientSecretBasic(SECRET),
    http: { headers: { 'X-Api-Key': API_KEY } },
    clock,
    ...options,
  })
}

/** A refresh at a server that refuses the TLS handshake with a fatal alert (RFC 8446 §6). */
async function refreshMeetingAlert(alert: number): Promise<unknown> {
  const sockets = createServer((socket) => {
    socket.on('error', () => {})
    socket.once('data', () => socket.end(Buffer.from([0x15, 3, 3, 0, 2, 2, alert])))
  })
  await once(sockets.listen(0, '127.0.0.1'), 'listening')
  const { port } = sockets.address() as AddressInfo
  const refreshed = serverAt(`https://127.0.0.1:${port}/token`).refresh(RT, { signal: signal() })
  return refreshed.finally(() => sockets.close())
}

/** The error of a refresh that failed, after a search for secrets in everything the error shows. */
async function failure(refreshed: Promise<unknown>): Promise<TokenError> {
  const error = await refreshed.then(
    (response) => (response as FailedRefresh).error,
    (reason: unknown) => reason,
  )
  expect(error).toBeInstanceOf(TokenError)
  const shown = everythingShownBy(error as TokenError)
  for (const secret of [RT, SECRET, AT, NEW_RT, BASIC, RAW_BASIC, API_KEY]) {
    expect(shown).not.toContain(secret)
    expect(shown).not.toContain(encodeURIComponent(secret))
  }
  expect((error as TokenError).message).toMatch(/^The .*\.$/)
  return error as TokenError
}

function everythingShownBy(error: TokenError): string {
  return [
    inspect(error, { depth: 20, showHidden: true, getters: true }),
    JSON.stringify(error),
    String(error),
    error.stack,
    inspect(error.cause, { depth: 20, showHidden: true }),
  ].join('\n')
}

afterEach(async () => {
  await wire?.close()
  wire = undefined
})

describe('server.refresh(refreshToken, request) when the server cannot be reached', () => {
  const unavailable = { code: 'ERR_TOKEN_ENDPOINT_UNAVAILABLE', status: 503, retryable: true }

  it('S40 S60 connection refused', async () => {
    const closed = await wireServer(() => {})
    await closed.close()
    const error = await failure(serverAt(`${closed.url}/token`).refresh(RT, { signal: signal() }))
    expect(error).toMatchObject({ ...unavailable, cause: { code: 'ECONNREFUSED' } })
    expect(error.message).toContain('The token endpoint could not be reached (ECONNREFUSED)')
    expect(error.details).toBe(`${closed.url}/token`)
  })

  it('S40 S60 a server that does not speak https', async () => {
    const plain = await wireServer((_, response) => json(response, {}))
    const url = `${plain.url.replace('http:', 'https:')}/token`
    const error = await failure(serverAt(url).refresh(RT, { signal: signal() }))
    await plain.close()
    expect(error.message).toMatch(/could not be reached \(EPROTO\)\. Does it speak https\? Check the URL/)
  })

  /** OpenSSL 3.2 has renamed the alerts of SSL 3. */
  const named = (alert: string) =>
    process.versions.openssl < '3.2' ? alert : alert.replace(/^SSLV3/, 'SSL/TLS')

  it.each([
    [42, 'SSLV3_ALERT_BAD_CERTIFICATE'],
    [43, 'SSLV3_ALERT_UNSUPPORTED_CERTIFICATE'],
    [44, 'SSLV3_ALERT_CERTIFICATE_REVOKED'],
    [45, 'SSLV3_ALERT_CERTIFICATE_EXPIRED'],
    [46, 'SSLV3_ALERT_CERTIFICATE_UNKNOWN'],
    [48, 'TLSV1_ALERT_UNKNOWN_CA'],
    [49, 'TLSV1_ALERT_ACCESS_DENIED'],
    [116, 'TLSV13_ALERT_CERTIFICATE_REQUIRED'],
  ])('S40 S60 a TLS alert about the certificate of the client (%i)', async (alert, code) => {
    const error = await failure(refreshMeetingAlert(alert))
    expect(error).toMatchObject({ code: 'ERR_CLIENT_REJECTED', status: 500, retryable: false })
    expect(error.message).toContain(`refused the client certificate (ERR_SSL_${named(code)}).`)
  })

  it.each([
    [40, 'SSLV3_ALERT_HANDSHAKE_FAILURE'],
    [70, 'TLSV1_ALERT_PROTOCOL_VERSION'],
    [80, 'TLSV1_ALERT_INTERNAL_ERROR'],
    [112, 'TLSV1_UNRECOGNIZED_NAME'],
  ])('S40 S60 any other TLS alert (%i)', async (alert, code) => {
    const error = await failure(refreshMeetingAlert(alert))
    expect(error).toMatchObject(unavailable)
    expect(error.message).toContain(` could not be reached (ERR_SSL_${named(code)}). Check the URL`)
  })

  it('S40 S60 no such host', async () => {
    const error = await failure(serverAt('https://idp.invalid/token?key=q').refresh(RT, { signal: signal() }))
    expect(error).toMatchObject(unavailable)
    expect(error.message).not.toContain('key=q')
  })

  it('S40 S60 an agent that fails with secrets in its error', async () => {
    const httpAgent = new Agent()
    const fails = () => {
      const error = new Error(`no way for ${RT} and ${API_KEY}`)
      throw Object.assign(error, { code: `E_${API_KEY}`, name: `Of${API_KEY}`, token: RT })
    }
    Object.assign(httpAgent, { createConnection: fails })
    const authorizationServer = await server(() => {}, {
      http: { httpAgent, headers: { 'X-Api-Key': API_KEY } },
    })
    const error = await failure(authorizationServer.refresh(RT, { signal: signal() }))
    expect(error).toMatchObject({
      ...unavailable,
      message: expect.stringContaining(' could not be reached (E_[redacted]). '),
      cause: { message: 'no way for [redacted] and [redacted]', code: 'E_[redacted]', name: 'Of[redacted]' },
    })
  })

  it('S40 S60 not TLS', async () => {
    wire = await wireServer(() => {})
    const url = wire.url.replace('http:', 'https:')
    expect(await failure(serverAt(`${url}/token`).refresh(RT, { signal: signal() }))).toMatchObject(
      unavailable,
    )
  })

  it.each<[string, WireHandler]>([
    ['reset', (_, response) => response.socket?.resetAndDestroy()],
    ['closed without a response', (_, response) => response.socket?.end()],
    [
      'reset in the middle of the response',
      (_, response) =>
        response
          .writeHead(200, { 'content-length': 5000 })
          .write(`{"access_token":"${AT}`, () => response.socket?.resetAndDestroy()),
    ],
    [
      'closed in the middle of the response',
      (_, response) =>
        response
          .writeHead(200, { 'content-length': 5000 })
          .write(`{"access_token":"${AT}`, () => response.socket?.end()),
    ],
    [
      'closed in the middle of a chunked response',
      (_, response) =>
        response.writeHead(200).write(`{"access_token":"${AT}"}`, () => response.socket?.end()),
    ],
    [
      'closed in the middle of a compressed response',
      (_, response) =>
        response
          .writeHead(200, { 'content-encoding': 'gzip', 'content-length': 5000 })
          .write(gzipSync(`{"access_token":"${AT}"}`).subarray(0, 20), () => response.socket?.end()),
    ],
  ])('S40 S60 the connection is %s', async (_, handler) => {
    const authorizationServer = await server(handler)
    expect(await failure(authorizationServer.refresh(RT, { signal: signal() }))).toMatchObject(unavailable)
    expect(wire?.requests).toHaveLength(1)
  })

  it.each<[string, object, string | Buffer]>([
    ['JSON', {}, `{"access_token":"${AT}"`],
    ['gzip', { 'content-encoding': 'gzip' }, gzipSync(`{"access_token":"${AT}"}`).subarray(0, 30)],
  ])('S40 S60 %s that ends in the middle, without a length', async (_, headers, body) => {
    const authorizationServer = await server((_, response) => {
      response.writeHead(200, { ...headers, connection: 'close' }).end(body)
    })
    const error = await failure(authorizationServer.refresh(RT, { signal: signal() }))
    expect(error).toMatchObject(unavailable)
    expect(error.message).toMatch(/ends in the middle/)
    expect(wire?.requests).toHaveLength(1)
  })

  it('S40 a 101 that nothing has asked for', async () => {
    const raw = createServer((socket) => {
      socket.on('error', () => {})
      socket.once('data', () =>
        socket.write('HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: other\r\n\r\n'),
      )
    })
    raw.listen(0, '127.0.0.1')
    await once(raw, 'listening')
    const { port } = raw.address() as { port: number }
    const never = new AbortController()
    const error = await failure(serverAt(`http://127.0.0.1:${port}/`).refresh(RT, { signal: never.signal }))
    expect(error).toMatchObject(unavailable)
    raw.close()
  })

  it.each<[string, WireHandler]>([
    ['before the response', () => {}],
    [
      'in the middle of the response',
      (_, response) => response.writeHead(200).write(`{"access_token":"${AT}`),
    ],
    [
      'in the middle of a compressed response',
      (_, response) =>
        response.writeHead(200, { 'content-encoding': 'gzip' }).write(gzipSync('{"a":1}').subarray(0, 15)),
    ],
  ])('S40 S60 the time runs out %s', async (_, handler) => {
    const controller = new AbortController()
    const authorizationServer = await server(async (request, response) => {
      await handler(request, response)
      setImmediate(() => controller.abort(new DOMException('over', 'TimeoutError')))
    })
    const error = await failure(authorizationServer.refresh(RT, { signal: controller.signal }))
    expect(error).toMatchObject(unavailable)
    expect(error.message).toContain('did not respond in time')
  })

  it('S40 S60 the caller gives up', async () => {
    const controller = new AbortController()
    const authorizationServer = await server(() => controller.abort())
    const error = await failure(authorizationServer.refresh(RT, { signal: controller.signal }))
    expect(error).toMatchObject(unavailable)
    expect(error.message).toContain('aborted by its signal')
  })

  it.each<[string, number, string, string]>([
    ['500', 500, 'text/plain', 'oops'],
    ['503', 503, 'text/plain', ''],
    ['an HTML 502', 502, 'text/html', '<h1>Bad Gateway</h1>'],
    ['a 504 too large', 504, 'text/plain', 'x'.repeat(2_000_000)],
    ['429', 429, 'application/json', '{"error":"too_many_requests"}'],
    ['408', 408, 'text/plain', ''],
    ['a 500 that says invalid_grant', 500, 'application/json', '{"error":"invalid_grant"}'],
    ['a 503 that says invalid_client', 503, 'application/json', '{"error":"invalid_client"}'],
    ['a 429 that says invalid_grant', 429, 'application/json', '{"error":"invalid_grant"}'],
  ])('S40 S60 %s', async (_, status, type, body) => {
    const authorizationServer = await server((_, response) =>
      response.writeHead(status, { 'content-type': type }).end(body),
    )
    const error = await failure(authorizationServer.refresh(RT, { signal: signal() }))
    expect(error).toMatchObject({ ...unavailable, message: expect.stringContaining(String(status)) })
    expect(error.retryAfterMs).toBeUndefined()
    expect(error.error).toBeUndefined()
    expect(wire?.requests).toHaveLength(1)
  })

  it.each<[string, number, string, number | undefined]>([
    ['seconds', 429, '120', 120_000],
    ['seconds, with a 503', 503, '1', 1000],
    ['0', 429, '0', 0],
    ['a date', 503, 'Sat, 01 Jun 2024 12:00:30 GMT', 30_000],
    ['a date in the past', 429, 'Sat, 01 Jun 2024 11:00:00 GMT', 0],
    ['longer than an hour', 429, '999999999999', 3_600_000],
    ['a date far away', 503, 'Sat, 01 Jun 2030 12:00:00 GMT', 3_600_000],
    ['nonsense', 429, 'soon', undefined],
  ])('S41 Retry-After is %s', async (_, status, retryAfter, retryAfterMs) => {
    const authorizationServer = await server((_, response) =>
      response.writeHead(status, { 'retry-after': retryAfter }).end(),
    )
    const error = await failure(authorizationServer.refresh(RT, { signal: signal() }))
    expect(error).toMatchObject(unavailable)
    expect(error.retryAfterMs).toBe(retryAfterMs)
  })
})

describe('server.refresh(refreshToken, request) when the server responds with an error', () => {
  it.each([400, 401, 403])('invalid_grant (%i) ends the grant', async (status) => {
    const authorizationServer = await server((_, response) =>
      json(response, { error: 'invalid_grant' }, status),
    )
    expect(await failure(authorizationServer.refresh(RT, { signal: signal() }))).toMatchObject({
      code: 'ERR_REAUTHENTICATION_REQUIRED',
      status: 401,
      error: 'invalid_grant',
    })
  })

  it.each<[string, WireHandler]>([
    ['invalid_client, 400', (_, response) => json(response, { error: 'invalid_client' }, 400)],
    [
      'invalid_client, 401',
      (_, response) => json(response, { error: 'invalid_client' }, 401, { 'www-authenticate': 'Basic' }),
    ],
    ['unauthorized_client', (_, response) => json(response, { error: 'unauthorized_client' }, 400)],
    ['a bare 401', (_, response) => response.writeHead(401, { 'www-authenticate': 'Basic realm="a"' }).end()],
    [
      'an HTML 401',
      (_, response) => response.writeHead(401, { 'www-authenticate': 'Basic' }).end('<p>no</p>'),
    ],
  ])('S43 %s is about the client, not the user', async (_, handler) => {
    const authorizationServer = await server(handler)
    expect(await failure(authorizationServer.refresh(RT, { signal: signal() }))).toMatchObject({
      code: 'ERR_CLIENT_REJECTED',
      status: 500,
      retryable: false,
    })
  })

  it.each<[string, number]>([
    ['temporarily_unavailable', 400],
    ['temporarily_unavailable', 403],
    ['server_error', 400],
    ['server_error', 401],
  ])('S41 %s (%i) is retryable', async (error, status) => {
    const authorizationServer = await server((_, response) =>
      json(response, { error, error_description: 'later' }, status, { 'retry-after': '5' }),
    )
    const failed = await failure(authorizationServer.refresh(RT, { signal: signal() }))
    expect(failed).toMatchObject({
      code: 'ERR_TOKEN_ENDPOINT_UNAVAILABLE',
      status: 503,
      retryable: true,
      retryAfterMs: 5000,
      error,
      errorDescription: 'later',
    })
    expect(wire?.requests).toHaveLength(1)
  })

  it('passes on another error, with its description', async () => {
    const authorizationServer = await server((_, response) =>
      json(response, { error: 'invalid_scope', error_description: 'no such scope' }, 400),
    )
    const error = await failure(authorizationServer.refresh(RT, { signal: signal() }))
    expect(error).toMatchObject({
      code: 'ERR_TOKEN_ENDPOINT',
      status: 502,
      error: 'invalid_scope',
      errorDescription: 'no such scope',
    })
    expect(error.message).toMatch(/responded with invalid_scope\. The caller .* refreshParameters/)
    expect(error.details).toBe(`${wire?.url}/token: "no such scope"`)
  })

  it('S60 shows the text of the server shortened, printable and without secrets', async () => {
    const authorizationServer = await server((_, response) =>
      json(
        response,
        {
          error: `e\u001b[31m${'x'.repeat(1000)}`,
          error_description: `${'y'.repeat(490)}${RT}\r\nFake: log line\u0000 ${'z'.repeat(1000)}`,
        },
        400,
      ),
    )
    const error = await failure(authorizationServer.refresh(RT, { signal: signal() }))
    expect(error.error?.length).toBeLessThan(70)
    expect(error.errorDescription?.length).toBeLessThan(510)
    expect(error.message).toMatch(/^[\x20-\x7e…]*$/)
    expect(error.message).not.toContain(RT.slice(0, 6))
  })

  it.each<[string, (sent: string, authorization: string) => string]>([
    ['the request', (sent) => sent],
    ['the request, decoded', (sent) => decodeURIComponent(sent)],
    ['the Authorization header', (_, authorization) => authorization],
    ['the Base64 of the header', (_, authorization) => authorization.replace('Basic ', '')],
    ['what the header holds', (_, authorization) => atob(authorization.replace('Basic ', ''))],
    ['the refresh token', () => RT],
    ['the refresh token, escaped for HTML', () => RT.replaceAll('"', '&quot;')],
    ['the refresh token, encoded twice', (sent) => encodeURIComponent(sent)],
    ['the secret', () => SECRET],
    ['the secret, in JSON as PHP writes it', () => SECRET.replaceAll('/', '\\/')],
    ['a header of the http option', () => API_KEY],
    ['the tokens of the response', () => `${AT} ${NEW_RT}`],
  ])('S60 the server echoes %s', async (_, echo) => {
    const authorizationServer = await server(({ body, headers }, response) => {
      const echoed = echo(body, headers.authorization ?? '')
      json(
        response,
        { error: echoed, error_description: echoed, access_token: AT, refresh_token: NEW_RT },
        400,
      )
    })
    const error = await failure(authorizationServer.refresh(RT, { signal: signal() }))
    expect(error.code).toBe('ERR_TOKEN_ENDPOINT')
    expect(error.message).toContain('[redacted]')
  })

  it.each<[string, Partial<HttpAuthorizationServerOptions>, string[]]>([
    ['client_secret_post', { clientAuthentication: clientSecretPost('post-secret') }, ['post-secret']],
    [
      'an assertion',
      { clientAuthentication: clientAssertion('aaa.bbb.ccc', { formClientId: 'form-client' }) },
      ['aaa.bbb.ccc', 'form-client'],
    ],
    [
      'a function of your own',
      { clientAuthentication: () => ({ headers: { 'X-Key': 'my-key' }, parameters: { pin: 'my-pin' } }) },
      ['my-key', 'my-pin'],
    ],
  ])('S60 the server echoes the whole request by %s', async (_, options, secrets) => {
    const authorizationServer = await server(
      ({ body, headers }, response) =>
        json(response, { error: 'x', error_description: body + JSON.stringify(headers) }, 400),
      options,
    )
    const error = await failure(authorizationServer.refresh(RT, { signal: signal() }))
    for (const secret of secrets) expect(everythingShownBy(error)).not.toContain(secret)
  })

  it('S60 the server echoes the earlier tokens of the grant', async () => {
    const authorizationServer = await server(({ body }, response) =>
      json(response, { error: 'invalid_grant', error_description: body }, 400),
    )
    const requests = [
      { grant_type: 'authorization_code', code: 'the-code', code_verifier: 'the-verifier' },
      { grant_type: 'password', username: 'ada', password: 'the-password' },
      {
        grant_type: 'urn:ietf:params:oauth:grant-type:jwt-bearer',
        assertion: 'the-assertion',
        otp: 'the-otp',
      },
    ] as const
    for (const request of requests) {
      const error = await failure(authorizationServer.acquire(request, signal()))
      expect(everythingShownBy(error)).not.toMatch(/the-/)
    }
  })
})

describe('server.refresh(refreshToken, request) when the response is garbage', () => {
  const gzip = { 'content-encoding': 'gzip' }
  const bomb = gzipSync(Buffer.alloc(50_000_000, 'x'))

  it.each<[string, number, object, string | Buffer, RegExp]>([
    ['JSON that is none', 200, {}, `{access_token:"${AT}"}`, /neither a JSON object nor a form/],
    ['no access_token', 200, {}, `{"refresh_token":"${NEW_RT}"}`, /no access_token/],
    ['an access_token of another type', 200, {}, `{"access_token":{"a":"${AT}"}}`, /not a string/],
    ['10 MB', 200, {}, `{"access_token":"${AT}","x":"${'x'.repeat(10_000_000)}"}`, /larger than 1 MB/],
    [
      'a 400 of 10 MB',
      400,
      {},
      `{"error":"invalid_grant","x":"${'x'.repeat(10_000_000)}"}`,
      /larger than 1 MB/,
    ],
    ['an empty 200', 200, {}, '', /is empty/],
    ['an empty 400', 400, {}, '', /is empty/],
    ['an empty 401', 401, {}, '', /is empty/],
    ['HTML', 200, { 'content-type': 'text/html' }, `<p>${AT}</p>`, /neither a JSON object nor a form/],
    [
      'an HTML 403',
      403,
      { 'content-type': 'text/html' },
      '<p>blocked</p>',
      /neither a JSON object nor a form/,
    ],
    ['text', 200, { 'content-type': 'application/json' }, AT, /neither a JSON object nor a form/],
    ['a JSON string', 200, {}, JSON.stringify(AT), /neither a JSON object nor a form/],
    ['a JSON array', 200, {}, JSON.stringify([{ access_token: AT }]), /neither a JSON object nor a form/],
    ['null', 200, {}, 'null', /neither a JSON object nor a form/],
    ['a 400 without an error code', 400, {}, '{"id":"no"}', /no error code/],
    ['a 200 whose error is none', 200, {}, '{"error":null}', /no access_token/],
    ['a form that is none', 400, {}, 'error=invalid_grant or so', /neither a JSON object nor a form/],
    [
      'a text with a form in it',
      400,
      {},
      'No such page&error=invalid_grant',
      /neither a JSON object nor a form/,
    ],
    ['HTML with a form in it', 400, {}, '<p>x</p>&error=invalid_grant', /neither a JSON object nor a form/],
    ['a 302', 302, { location: '/elsewhere' }, '', /redirect \(302\)/],
    ['a 307', 307, { location: '/elsewhere' }, '', /redirect \(307\)/],
    ['a 303 that says invalid_grant', 303, { location: '/e' }, '{"error":"invalid_grant"}', /redirect/],
    ['a gzip bomb', 200, gzip, bomb, /larger than 1 MB/],
    ['gzip that is none', 200, gzip, `{"access_token":"${AT}"}`, /could not be decompressed/],
    [
      'Brotli that is none',
      200,
      { 'content-encoding': 'br' },
      'no Brotli at all',
      /could not be decompressed/,
    ],
  ])('S44 S60 %s', async (_, status, headers, body, why) => {
    const authorizationServer = await server((_, response) =>
      response.writeHead(status, { ...headers }).end(body),
    )
    const error = await failure(authorizationServer.refresh(RT, { signal: signal() }))
    expect(error).toMatchObject({ code: 'ERR_INVALID_TOKEN_RESPONSE', status: 502, retryable: false })
    expect(error.message).toMatch(why)
    expect(error.message).not.toContain('127.0.0.1')
    expect(error.details?.replace(/ \(.*\)$/, '')).toBe(`${wire?.url}/token`)
    expect(error.error).toBeUndefined()
    expect(wire?.requests.map(({ path }) => path)).toEqual(['/token'])
  })

  it('S44 not HTTP', async () => {
    const raw = createServer((socket) => socket.once('data', () => socket.end('SSH-2.0-OpenSSH_9.6\r\n')))
    raw.listen(0, '127.0.0.1')
    await once(raw, 'listening')
    const { port } = raw.address() as { port: number }
    const error = await failure(serverAt(`http://127.0.0.1:${port}/`).refresh(RT, { signal: signal() }))
    expect(error.code).toBe('ERR_TOKEN_ENDPOINT_UNAVAILABLE')
    raw.close()
  })

  it.each<[string, object, string | Buffer]>([
    ['plain', {}, `{"access_token":"${AT}"}`],
    ['with a byte order mark', {}, `\ufeff{"access_token":"${AT}"}`],
    ['gzip', gzip, gzipSync(`{"access_token":"${AT}"}`)],
    ['Brotli', { 'content-encoding': 'br' }, brotliCompressSync(`{"access_token":"${AT}"}`)],
    ['declared as HTML', { 'content-type': 'text/html' }, `{"access_token":"${AT}"}`],
    ['just under 1 MB', {}, `{"access_token":"${AT}","x":"${'x'.repeat(1_000_000)}"}`],
  ])('takes JSON that is %s', async (_, headers, body) => {
    const authorizationServer = await server((_, response) =>
      response.writeHead(200, { ...headers }).end(body),
    )
    expect(await authorizationServer.refresh(RT, { signal: signal() })).toEqual({ accessToken: AT })
  })
})

describe('the endpoint that an error names', () => {
  const asked: [string, (server: AuthorizationServer) => Promise<unknown>][] = [
    ['token', (server) => server.refresh(RT, { signal: signal() })],
    ['token', (server) => server.acquire({ grant_type: 'authorization_code', code: 'the-code' }, signal())],
    ['revocation', (server) => server.revoke(RT, 'refresh_token', signal())],
  ]

  it.each(asked)('is the %s endpoint', async (name, ask) => {
    const authorizationServer = await server((_, response) => response.writeHead(500).end(), {
      revocationEndpoint: 'http://127.0.0.1:1/revoke',
    })
    const error = await failure(ask(authorizationServer))
    expect(error.message).toMatch(new RegExp(`^The ${name} endpoint [rc]`))
    expect(error.details).toMatch(/^http:/)
  })

  it('is the refresh endpoint where one is configured', async () => {
    wire = await wireServer((_, response) => response.writeHead(500).end())
    const authorizationServer = serverAt('https://idp.invalid/token', {
      refreshEndpoint: `${wire.url}/refresh`,
    })
    const { details, message } = await failure(authorizationServer.refresh(RT, { signal: signal() }))
    expect(message).toBe('The refresh endpoint responded with 500. Try again later.')
    expect(details).toBe(`${wire.url}/refresh`)
  })

  it('S60 is shown without a key in its path', async () => {
    wire = await wireServer((_, response) => response.writeHead(500).end())
    const { details } = await failure(
      serverAt(`${wire.url}/${API_KEY}/token`).refresh(RT, { signal: signal() }),
    )
    expect(details).toBe(`${wire.url}/[redacted]/token`)
  })
})

describe('the cure in a message', () => {
  it.each([
    ['invalid_client', 401, 'Check clientId and clientAuthentication.'],
    ['unauthorized_client', 400, 'Allow the client this grant type at the authorization server.'],
    ['invalid_grant', 400, 'Send the user to the login.'],
    ['invalid_request', 400, 'Check the parameters that were sent.'],
    ['server_error', 400, 'Try again later.'],
    ['of_its_own', 400, "See the authorization server's documentation or log."],
    ['constructor', 400, "See the authorization server's documentation or log."],
  ])('about %s (%i)', async (error, status, cure) => {
    const authorizationServer = await server((_, response) =>
      json(response, { error, error_description: 'Said so' }, status),
    )
    const { details, message } = await failure(authorizationServer.refresh(RT, { signal: signal() }))
    expect(message).toBe(`The token endpoint responded with ${error}. ${cure}`)
    expect(details?.replace(' (400)', '')).toBe(`${wire?.url}/token: "Said so"`)
  })

  it('about a bare 401', async () => {
    const authorizationServer = await server((_, response) =>
      response.writeHead(401, { 'www-authenticate': 'Basic' }).end(),
    )
    const { message } = await failure(authorizationServer.refresh(RT, { signal: signal() }))
    expect(message).toMatch(
      /refused the client authentication \(401\)\. Check clientId and clientAuthentication\.$/,
    )
  })
})

describe('a client secret that is short', () => {
  const bodies: [string, number, string][] = [
    ['invalid_client', 401, '{"error":"invalid_client"}'],
    ['invalid_grant', 400, '{"error":"invalid_grant"}'],
    ['interaction_required', 400, '{"error":"interaction_required"}'],
    ['a 500', 500, ''],
    ['a 404', 404, '<p>Not found</p>'],
    ['a redirect', 302, ''],
    ['no access token', 200, '{}'],
    ['no JSON', 200, 'x'],
  ]

  it.each(bodies)('%s: mangles no message', async (_, status, body) => {
    wire = await wireServer((_, response) => response.writeHead(status).end(body))
    for (const secret of ['a', 'id', 'e', 'https', 'token endpoint']) {
      const clientAuthentication = clientSecretPost(secret)
      const authorizationServer = serverAt(`${wire.url}/token`, { clientAuthentication })
      const error = await failure(authorizationServer.refresh(RT, { signal: signal() }))
      expect(everythingShownBy(error)).not.toContain('[redacted]')
    }
  })

  it('is redacted in the texts of the server', async () => {
    const authorizationServer = await server(
      (_, response) => json(response, { error: 'x', error_description: 'not pin, ok?' }, 400),
      { clientAuthentication: clientSecretPost('pin') },
    )
    const error = await failure(authorizationServer.refresh(RT, { signal: signal() }))
    expect(error).toMatchObject({
      message: expect.stringContaining('responded with x. '),
      details: expect.stringContaining(': "not [redacted], ok?"'),
      errorDescription: 'not [redacted], ok?',
    })
  })
})

describe('S60 every text from outside', () => {
  it.each([
    ['the refresh token', encodeURIComponent(RT)],
    ['a header of the http option', API_KEY],
    ['the Base64 of the header', BASIC],
    ['a token of the response', NEW_RT],
  ])('S60 the error of a success quotes %s', async (_, secret) => {
    const authorizationServer = await server((_, response) =>
      json(response, { error: `E:${secret}`, refresh_token: NEW_RT }),
    )
    const error = await failure(authorizationServer.refresh(RT, { signal: signal() }))
    expect(error).toMatchObject({
      error: 'E:[redacted]',
      message: expect.stringContaining(' responded with E:[redacted].'),
    })
  })

  it('S60 a client authentication that fails quotes a header of the http option', async () => {
    const clientAuthentication = () => Promise.reject(new Error(`no way with ${API_KEY}`))
    const authorizationServer = await server(() => {}, { clientAuthentication })
    const error = await failure(authorizationServer.refresh(RT, { signal: signal() }))
    expect(error.cause).toMatchObject({ message: 'no way with [redacted]' })
  })

  it.each<[string, (url: string) => object]>([
    ['issuer', () => ({ issuer: `https://idp.example.com/${API_KEY}` })],
    ['token_endpoint', (issuer) => ({ issuer, token_endpoint: `http://idp.example.com/${API_KEY}` })],
    [
      'revocation_endpoint',
      (issuer) => ({ issuer, token_endpoint: issuer, revocation_endpoint: `http://${API_KEY}.example.com` }),
    ],
    ['token_endpoint, which is asked', (issuer) => ({ issuer, token_endpoint: `${issuer}/${API_KEY}` })],
    [
      'token_endpoint, which is asked and quotes the refresh token',
      (issuer) => ({ issuer, token_endpoint: `${issuer}/${encodeURIComponent(RT)}` }),
    ],
  ])('S60 the metadata quotes it in its %s', async (_, metadata) => {
    wire = await wireServer(({ method }, response) =>
      method === 'GET' ? json(response, metadata(wire!.url)) : response.writeHead(404).end(),
    )
    const authorizationServer = httpAuthorizationServer({
      issuer: wire.url,
      clientId: 'web',
      clientAuthentication: clientSecretBasic(SECRET),
      http: { headers: { 'X-Api-Key': API_KEY } },
      clock,
    })
    const error = await failure(authorizationServer.refresh(RT, { signal: signal() }))
    expect(error.details).toContain('[redacted]')
  })

  it('S60 an agent that fails on the way to the metadata', async () => {
    const httpAgent = new Agent()
    const fails = () => {
      throw Object.assign(new Error(`no way for ${API_KEY}`), { code: `E_${API_KEY}` })
    }
    Object.assign(httpAgent, { createConnection: fails })
    const authorizationServer = httpAuthorizationServer({
      issuer: 'http://127.0.0.1:1',
      clientId: 'web',
      clientAuthentication: clientSecretBasic(SECRET),
      http: { httpAgent, headers: { 'X-Api-Key': API_KEY } },
      clock,
    })
    const error = await failure(authorizationServer.refresh(RT, { signal: signal() }))
    expect(error.message).toContain('could not be reached (E_[redacted]).')
    expect(error.cause).toMatchObject({ message: 'no way for [redacted]' })
  })
})
