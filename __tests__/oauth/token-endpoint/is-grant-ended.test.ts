import { inspect } from 'node:util'
import { afterEach, describe, expect, it } from '@jest/globals'
import { systemClock } from '../../../lib/concurrency/clock.js'
import { ConfigurationError, type TokenError } from '../../../lib/errors/token-error.js'
import { clientSecretPost } from '../../../lib/oauth/client-authentication/client-authentication.js'
import { httpAuthorizationServer } from '../../../lib/oauth/http-authorization-server.js'
import type { IsGrantEnded, RefusedRefresh } from '../../../lib/oauth/token-endpoint/is-grant-ended.js'
import { json, type WireServer, wireServer } from '../../helpers/wire-server.js'

const RT = 'rt-of-the-user'
const SECRET = 'the-client-secret'
const API_KEY = 'api-key-4711'
let wire: WireServer | undefined
afterEach(() => wire?.close())

async function serverWith(isGrantEnded: IsGrantEnded, status: number, body: unknown) {
  await wire?.close()
  wire = await wireServer((_, response) =>
    typeof body === 'string' ? response.writeHead(status).end(body) : json(response, body, status),
  )
  return httpAuthorizationServer({
    tokenEndpoint: `${wire.url}/token`,
    revocationEndpoint: `${wire.url}/revoke`,
    clientId: 'web',
    clientAuthentication: clientSecretPost(SECRET),
    http: { headers: { 'X-Api-Key': API_KEY } },
    clock: systemClock,
    isGrantEnded,
  })
}

const signal = () => AbortSignal.timeout(10_000)

async function refusal(
  isGrantEnded: IsGrantEnded,
  status: number,
  body: unknown,
  need = {},
): Promise<TokenError> {
  const server = await serverWith(isGrantEnded, status, body)
  return server.refresh(RT, { ...need, signal: signal() }).then(
    () => {
      throw new Error('was not refused')
    },
    (error: TokenError) => error,
  )
}

/** What the option receives of a response. */
async function received(status: number, body: unknown): Promise<RefusedRefresh[]> {
  const asked: RefusedRefresh[] = []
  const server = await serverWith((refused) => void asked.push(refused), status, body)
  await server.refresh(RT, { signal: signal() }).catch(() => {})
  return asked
}

describe('isGrantEnded({ status, body, error })', () => {
  it.each<[string, number, unknown]>([
    ['an error of the server’s own', 400, { reason: 'session_closed', code: 'E42' }],
    ['a client error', 401, { error: 'invalid_client' }],
    ['what wants the user', 400, { error: 'interaction_required' }],
    ['a temporary problem', 400, { error: 'invalid_grant', error_codes: [50196] }],
    ['a 200', 200, { error: 'token_dead' }],
    ['a form', 400, 'error=token_dead'],
    ['a 404', 404, { message: 'no such token' }],
  ])('true: %s ends the grant', async (_, status, body) => {
    const error = await refusal(() => true, status, body)
    expect(error).toMatchObject({
      code: 'ERR_REAUTHENTICATION_REQUIRED',
      status: 401,
      error: expect.any(String),
    })
  })

  it.each<[string, number, unknown]>([
    ['invalid_grant', 400, { error: 'invalid_grant' }],
    ['GitHub’s words', 200, { error: 'bad_refresh_token' }],
  ])('false: %s does not, and is tried again later', async (_, status, body) => {
    const error = await refusal(() => false, status, body)
    const { error: code } = body as { error: string }
    expect(error).toMatchObject({
      code: 'ERR_TOKEN_ENDPOINT_UNAVAILABLE',
      status: 503,
      retryable: true,
      error: code,
    })
  })

  it.each<[number, object, string]>([
    [400, { error: 'invalid_client' }, 'ERR_CLIENT_REJECTED'],
    [400, { error: 'invalid_scope' }, 'ERR_TOKEN_ENDPOINT'],
    [400, { error: 'login_required' }, 'ERR_STEP_UP_REQUIRED'],
  ])('false changes no error that ends nothing anyway (%i %j)', async (status, body, code) => {
    expect((await refusal(() => false, status, body)).code).toBe(code)
  })

  it.each<[number, object, string]>([
    [400, { error: 'invalid_grant' }, 'ERR_REAUTHENTICATION_REQUIRED'],
    [200, { error: 'bad_refresh_token' }, 'ERR_REAUTHENTICATION_REQUIRED'],
    [400, { error: 'token_dead' }, 'ERR_TOKEN_ENDPOINT'],
  ])('undefined: the library decides (%i %j)', async (status, body, code) => {
    expect((await refusal(() => undefined, status, body)).code).toBe(code)
  })

  it.each<[string, number, unknown]>([
    ['500', 500, { error: 'invalid_grant' }],
    ['503', 503, { error: 'invalid_grant' }],
    ['429', 429, { error: 'invalid_grant' }],
    ['408', 408, { error: 'invalid_grant' }],
    ['HTML', 400, '<p>no</p>'],
    ['nothing', 400, ''],
    ['an array', 400, []],
    ['a redirect', 302, { error: 'invalid_grant' }],
    ['a success', 200, { access_token: 'at', refresh_token: 'rt' }],
    ['a success in an object', 200, { code: 0, data: { access_token: 'at' } }],
    ['a new refresh token', 200, { refresh_token: 'rt' }],
  ])('is not asked about %s', async (_, status, body) => {
    expect(await received(status, body)).toEqual([])
  })

  it.each<[string, number, object]>([
    ['a reason', 409, { reason: 'session_closed' }],
    ['a number', 200, { code: 20026, msg: 'The refresh token has expired.' }],
    ['a flag', 200, { success: false }],
    ['an empty error', 400, { error: '' }],
  ])('is asked about a response without an error code: %s', async (_, status, body) => {
    expect(await received(status, body)).toEqual([{ status, body, error: '' }])
    const ended = await refusal(() => true, status, body)
    expect(ended).toMatchObject({ code: 'ERR_REAUTHENTICATION_REQUIRED', status: 401 })
    for (const kept of [false, undefined]) {
      expect((await refusal(() => kept, status, body)).code).toBe('ERR_INVALID_TOKEN_RESPONSE')
    }
    const failed = await refusal(() => JSON.parse('{'), status, body)
    expect(failed.code).toBe('ERR_CONFIGURATION')
    expect(failed.message).toContain(`responded with ${status},`)
  })

  it('is not asked about acquire() and revoke()', async () => {
    const asked: unknown[] = []
    const server = await serverWith((refused) => void asked.push(refused), 400, { error: 'invalid_grant' })
    await server.acquire({ grant_type: 'authorization_code', code: 'c' }, signal()).catch(() => {})
    await server.revoke(RT, 'refresh_token', signal()).catch(() => {})
    expect(asked).toEqual([])
  })

  it('receives the status, the fields and the code', async () => {
    expect(await received(409, { reason: 'closed', error: { code: 'E42', at: [1, null, true] } })).toEqual([
      { status: 409, body: { reason: 'closed', error: { code: 'E42', at: [1, null, true] } }, error: 'E42' },
    ])
    expect(await received(200, 'error=E42&why=a+b')).toEqual([
      { status: 200, body: { error: 'E42', why: 'a b' }, error: 'E42' },
    ])
  })

  it('S60 receives no token and no secret, at any depth', async () => {
    const jwt = `eyJ${'a'.repeat(20)}.eyJ${'b'.repeat(20)}.${'c'.repeat(20)}`
    const body = {
      error: 'x',
      error_description: `${RT} and ${SECRET} and ${encodeURIComponent(API_KEY)}, new-1 as well`,
      refresh_token: 'new-1',
      data: [{ accessToken: 'new-2', list: [RT, { [RT]: 'key', id_token: 'new-3' }], mfa_token: 'new-4' }],
      credentials: { client_secret: 'new-5', apiKey: 'new-6', password: 'new-7', tokens: ['new-8'] },
      note: `a JWT: ${jwt}, really`,
      refresh_token_status: 'revoked',
    }
    const [refused] = await received(400, body)
    const shown = inspect(refused, { depth: 20, showHidden: true }) + JSON.stringify(refused)
    for (const secret of [RT, SECRET, API_KEY, 'new-', jwt]) expect(shown).not.toContain(secret)
    expect(refused?.body).toMatchObject({
      error: 'x',
      refresh_token_status: 'revoked',
      note: 'a JWT: [redacted], really',
    })
  })

  it('receives a sentence about a token, which is no token', async () => {
    const errors = { refresh_token: ['is invalid or was revoked'] }
    expect(await received(400, { error: 'x', errors })).toMatchObject([{ body: { errors } }])
  })

  it('cannot change the response', async () => {
    const [refused] = await received(400, { error: 'x', deep: { list: [{}] } })
    const deep = refused?.body.deep as { list: object[] }
    const parts = [refused, refused?.body, deep, deep.list, deep.list[0]]
    expect(parts.map((part) => Object.isFrozen(part))).toEqual(parts.map(() => true))
  })

  it.each<[string, unknown, RegExp]>([
    ['null', null, /returned null/],
    ['a text', 'true', /returned a string/],
    ['a number', 1, /returned a number/],
    ['a promise', Promise.resolve(true), /returned a promise/],
    ['a promise that rejects', Promise.reject(new Error('late')), /returned a promise/],
  ])('that returns %s ends nothing, and an error says so', async (_, result, why) => {
    if (result instanceof Promise) result.catch(() => {})
    const error = await refusal((() => result) as IsGrantEnded, 400, { error: 'invalid_grant' })
    expect(error).toBeInstanceOf(ConfigurationError)
    expect(error).toMatchObject({ message: expect.stringMatching(why), error: 'invalid_grant' })
  })

  it('that fails ends nothing, and the error does not show what it quotes', async () => {
    const fails = () => {
      throw new TypeError(`cannot read ${RT}`)
    }
    const error = await refusal(fails, 400, { error: 'invalid_grant' })
    expect(error).toBeInstanceOf(ConfigurationError)
    expect(error).toMatchObject({
      message: expect.stringMatching(/`isGrantEnded` failed .* invalid_grant \(400\), so the grant was kept/),
      cause: { message: 'cannot read [redacted]' },
    })
  })
})
