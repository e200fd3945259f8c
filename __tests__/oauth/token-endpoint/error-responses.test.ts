import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { inspect } from 'node:util'
import { afterEach, describe, expect, it } from '@jest/globals'
import { StepUpError, TokenError } from '../../../lib/errors/token-error.js'
import type { AuthorizationServer } from '../../../lib/oauth/authorization-server.js'
import { clientSecretPost } from '../../../lib/oauth/client-authentication/client-authentication.js'
import { httpAuthorizationServer } from '../../../lib/oauth/http-authorization-server.js'
import { json, type WireHandler, type WireServer, wireServer } from '../../helpers/wire-server.js'

const RT = 'rt-of-the-user'
const SECRET = 'the-client-secret'
const clock = { now: () => Date.parse('2024-06-01T12:00:00Z'), monotonic: () => 0 }
const closing: WireServer[] = []
const signal = () => AbortSignal.timeout(10_000)
const CODE = { grant_type: 'authorization_code', code: 'the-code' } as const

async function server(handler: WireHandler): Promise<AuthorizationServer> {
  const wire = await wireServer(handler)
  closing.push(wire)
  return httpAuthorizationServer({
    tokenEndpoint: `${wire.url}/token`,
    revocationEndpoint: `${wire.url}/revoke`,
    clientId: 'web',
    clientAuthentication: clientSecretPost(SECRET),
    clock,
  })
}

/** A server with one response for every request. */
function respondingWith(status: number, body: unknown, headers: object = {}): Promise<AuthorizationServer> {
  return server((_, response) =>
    typeof body === 'string'
      ? response.writeHead(status, { ...headers }).end(body)
      : json(response, body, status, headers),
  )
}

async function failure(asked: Promise<unknown>): Promise<TokenError> {
  const error = await asked.then(
    () => undefined,
    (reason: unknown) => reason,
  )
  expect(error).toBeInstanceOf(TokenError)
  const shown = inspect(error, { depth: 20, showHidden: true }) + JSON.stringify(error)
  for (const secret of [RT, SECRET, 'the-code']) expect(shown).not.toContain(secret)
  return error as TokenError
}

const refused = async (status: number, body: unknown, need: object = {}, headers: object = {}) =>
  failure((await respondingWith(status, body, headers)).refresh(RT, { ...need, signal: signal() }))

afterEach(async () => {
  await Promise.all(closing.splice(0).map((wire) => wire.close()))
})

const form = (fields: Record<string, string>) => new URLSearchParams(fields).toString()

const GRAPH = { type: 'OAuthException', code: 190, message: 'Error validating access token' }
const FITBIT = { errorType: 'invalid_grant', message: 'Refresh token invalid' }
const STRAVA = { resource: 'RefreshToken', field: 'refresh_token', code: 'invalid' }

/** Who says it, the status, the body, and what the error names as its code. */
const VENDORS: [string, number, object, string][] = [
  [
    'GitHub',
    200,
    { error: 'bad_refresh_token', error_description: 'incorrect or expired' },
    'bad_refresh_token',
  ],
  ['Slack', 200, { ok: false, error: 'invalid_refresh_token' }, 'invalid_refresh_token'],
  [
    'Atlassian',
    403,
    { error: 'unauthorized_client', error_description: 'refresh_token is invalid' },
    'unauthorized_client',
  ],
  [
    'X',
    400,
    { error: 'invalid_request', error_description: 'Value passed for the token was invalid.' },
    'invalid_request',
  ],
  [
    'HubSpot',
    400,
    { status: 'BAD_REFRESH_TOKEN', message: 'missing or invalid refresh token', correlationId: 'c' },
    'BAD_REFRESH_TOKEN',
  ],
  ['Fitbit', 400, { errors: [FITBIT], success: false }, 'invalid_grant'],
  ['Facebook', 400, { error: GRAPH }, 'OAuthException'],
  ['Facebook, app removed', 400, { error: { ...GRAPH, error_subcode: 458 } }, 'OAuthException'],
  ['Facebook, password changed', 400, { error: { ...GRAPH, error_subcode: 460 } }, 'OAuthException'],
  ['Facebook, expired', 401, { error: { ...GRAPH, error_subcode: 463 } }, 'OAuthException'],
  ['Strava', 400, { message: 'Bad Request', errors: [STRAVA] }, 'invalid'],
  ['Twitch', 400, { status: 400, message: 'Invalid refresh token' }, 'Invalid refresh token'],
  [
    'Twitch, 401',
    401,
    { error: 'Unauthorized', status: 401, message: 'Invalid refresh token' },
    'Unauthorized',
  ],
  ['Zoho', 200, { error: 'invalid_code' }, 'invalid_code'],
  [
    'Ory Hydra',
    401,
    {
      error: 'token_inactive',
      error_description: 'Token is inactive because it is malformed, expired or otherwise invalid.',
    },
    'token_inactive',
  ],
]

const STANDARD: [string, number, object | string, string][] = [
  ['invalid_grant', 400, { error: 'invalid_grant' }, 'invalid_grant'],
  ['invalid_grant, 401', 401, { error: 'invalid_grant' }, 'invalid_grant'],
  ['invalid_grant, 403', 403, { error: 'invalid_grant' }, 'invalid_grant'],
  ['invalid_grant, 404', 404, { error: 'invalid_grant' }, 'invalid_grant'],
  ['invalid_grant, 422', 422, { error: 'invalid_grant' }, 'invalid_grant'],
  ['invalid_grant, 200', 200, { error: 'invalid_grant' }, 'invalid_grant'],
  [
    'invalid_grant, 200 with an empty token',
    200,
    { access_token: '', error: 'invalid_grant' },
    'invalid_grant',
  ],
  ['invalid_grant in an object', 400, { error: { code: 'invalid_grant' } }, 'invalid_grant'],
  ['invalid_grant, a form', 400, form({ error: 'invalid_grant', error_description: 'a b' }), 'invalid_grant'],
  ['invalid_grant, a form and 200', 200, form({ error: 'invalid_grant' }), 'invalid_grant'],
  ['bad_refresh_token, a form', 200, form({ error: 'bad_refresh_token' }), 'bad_refresh_token'],
]

describe('the table of responses that end a grant', () => {
  const read = (file: string) => readFileSync(join(import.meta.dirname, '../../..', file), 'utf8')
  const source = read('lib/oauth/token-endpoint/vendor-errors.ts')
  const [, table = ''] = /^const ENDED: .*?= \[\n(.*?)\n\]/ms.exec(source) ?? []
  const rows = [...table.matchAll(/server: '(.*?)',\s+status: \[(.*?)\]/g)].map(
    ([, server = '', statuses = '']) => ({ server, statuses: statuses.split(', ').map(Number) }),
  )
  const servers = [...new Set(rows.map(({ server }) => server))].sort()

  it('has a response in VENDORS for each server and status', () => {
    expect(servers).toContain('Ory Hydra')
    expect(rows).toHaveLength(table.split('server:').length - 1)
    const tested = VENDORS.map(([name, status]) => [name.split(', ')[0], status])
    for (const { server, statuses } of rows)
      for (const status of statuses) expect(tested).toContainEqual([server, status])
  })

  it.each(['docs/refreshes.md', 'docs/providers.md', 'lib/middleware/options.ts'])(
    'has the servers that %s names',
    (file) => {
      const text = read(file).replaceAll(/\s+(?:\* )?/g, ' ')
      const [list = ''] = /GitHub, Slack, [^.]*/.exec(text) ?? []
      expect(list.split(/, | and /).sort()).toEqual(servers)
    },
  )
})

describe('S39 "this refresh token is dead"', () => {
  it.each([...STANDARD, ...VENDORS])('S39 %s (%i): it ends the grant', async (_, status, body, code) => {
    const error = await refused(status, body)
    expect(error).toMatchObject({ code: 'ERR_REAUTHENTICATION_REQUIRED', status: 401, error: code })
    expect(error.message).toMatch(/Send the user to the login\.$/)
  })

  it.each([...STANDARD, ...VENDORS])('S39 %s: it ends nothing with a 5xx or a 429', async (_, __, body) => {
    for (const status of [500, 502, 503, 429, 408]) {
      expect((await refused(status, body)).code).toBe('ERR_TOKEN_ENDPOINT_UNAVAILABLE')
    }
  })

  it.each(VENDORS)('S39 %s: it ends nothing with another status', async (name, listed, body) => {
    const also = name.startsWith('Facebook') ? [400, 401] : [listed]
    for (const status of [200, 400, 401, 403, 404, 422].filter((it) => !also.includes(it))) {
      const error = await refused(status, body)
      expect([status, error.code]).not.toEqual([status, 'ERR_REAUTHENTICATION_REQUIRED'])
    }
  })

  it.each(VENDORS)('S39 %s: at acquire() it is about the code', async (name, status, body, code) => {
    const error = await failure((await respondingWith(status, body)).acquire(CODE, signal()))
    expect(error.code).toBe(name === 'Atlassian' ? 'ERR_CLIENT_REJECTED' : 'ERR_TOKEN_ENDPOINT')
    expect(error.error).toBe(code)
  })

  it.each<[string, number, object]>([
    ['GitHub: the code is wrong', 200, { error: 'bad_verification_code' }],
    ['GitHub: in other words', 200, { error: 'bad_refresh_token_type' }],
    ['Slack: in other words', 200, { ok: false, error: 'invalid_refresh_tokens' }],
    ['Slack: without its ok', 200, { error: 'invalid_refresh_token' }],
    [
      'Atlassian: the client',
      403,
      { error: 'unauthorized_client', error_description: 'client_id is invalid' },
    ],
    [
      'X: another parameter',
      400,
      { error: 'invalid_request', error_description: 'Value passed for the client was invalid.' },
    ],
    [
      'X: more words',
      400,
      { error: 'invalid_request', error_description: 'Value passed for the token was invalid. Really' },
    ],
    ['HubSpot: the client', 400, { status: 'BAD_CLIENT_ID', message: 'missing or unknown client id' }],
    ['HubSpot: the message alone', 400, { status: 'error', message: 'missing or invalid refresh token' }],
    ['Fitbit: the client', 400, { success: false, errors: [{ errorType: 'invalid_client' }] }],
    ['Fitbit: two errors', 400, { success: false, errors: [FITBIT, { errorType: 'invalid_client' }] }],
    ['Fitbit: no error', 400, { success: false, errors: [] }],
    ['Facebook: the user has to confirm', 400, { error: { ...GRAPH, error_subcode: 459 } }],
    ['Facebook: the account is unconfirmed', 400, { error: { ...GRAPH, error_subcode: 464 } }],
    ['Facebook: a subcode that is not listed', 400, { error: { ...GRAPH, error_subcode: 1 } }],
    ['Facebook: another code', 400, { error: { ...GRAPH, code: 100 } }],
    ['Facebook: the code in a text', 400, { error: { ...GRAPH, code: '190' } }],
    ['Strava: the client', 400, { errors: [{ ...STRAVA, resource: 'Application', field: 'client_id' }] }],
    [
      'Strava: the client as well',
      400,
      { errors: [STRAVA, { resource: 'Application', field: 'client_id', code: 'invalid' }] },
    ],
    ['Twitch: the secret', 403, { status: 403, message: 'invalid client secret' }],
    ['Twitch: another status in the body', 400, { status: 403, message: 'Invalid refresh token' }],
    ['Zoho: the client', 200, { error: 'invalid_client' }],
    ['a message that says invalid_grant', 400, { message: 'invalid_grant' }],
    ['a description that says invalid_grant', 400, { error: 'x', error_description: 'invalid_grant' }],
    ['an inherited error', 400, JSON.parse('{"__proto__":{"error":"invalid_grant"},"message":"no"}')],
  ])('S39 %s: it ends nothing', async (_, status, body) => {
    const error = await refused(status, body)
    expect(['ERR_TOKEN_ENDPOINT', 'ERR_CLIENT_REJECTED', 'ERR_INVALID_TOKEN_RESPONSE']).toContain(error.code)
  })
})

describe('S39 an error that is temporary', () => {
  const entra = (code: number) => ({
    error: 'invalid_grant',
    error_description: `AADSTS${code}: The server says so.`,
    error_codes: [code],
  })

  it.each<[string, number, object]>([
    ...[
      ...[40010, 50033, 50087, 50166, 50196, 70012],
      ...[90006, 90012, 90024, 90033, 90055, 90090, 90091],
    ].map((code): [string, number, object] => [`Entra ID ${code}`, 400, entra(code)]),
    ['Entra ID, among others', 400, { ...entra(70002), error_codes: [70002, 50196] }],
    [
      'Entra ID, in the description alone',
      400,
      { error: 'invalid_grant', error_description: 'AADSTS50196: A loop.' },
    ],
    [
      'Salesforce',
      400,
      { error: 'invalid_grant', error_description: 'token request is already being processed' },
    ],
    [
      'Salesforce, in older words',
      400,
      { error: 'invalid_grant', error_description: 'expired authorization code' },
    ],
    ['Google', 400, { error: 'internal_failure', error_description: 'Backend Error' }],
    ['a rate limit', 400, { error: 'rate_limit_exceeded' }],
    ['Slack: a rate limit', 200, { ok: false, error: 'ratelimited' }],
    ['Slack: an error of its own', 200, { ok: false, error: 'internal_error' }],
    [
      'Zoho',
      400,
      {
        error: 'Access Denied',
        error_description: 'You have made too many requests continuously. Please try again after some time.',
        status: 'failure',
      },
    ],
    ['Facebook: throttled', 400, { error: { type: 'OAuthException', code: 4, message: 'limit reached' } }],
    ['Facebook: transient', 400, { error: { type: 'OAuthException', code: 9, is_transient: true } }],
  ])('S39 %s: try again later', async (_, status, body) => {
    const error = await refused(status, body, {}, { 'retry-after': '7' })
    expect(error).toMatchObject({
      code: 'ERR_TOKEN_ENDPOINT_UNAVAILABLE',
      status: 503,
      retryable: true,
      retryAfterMs: 7_000,
    })
    expect(typeof error.error).toBe('string')
    expect(error.message).toMatch(/Try again later\.$/)
  })

  it.each<[string, object]>([
    ['Entra ID: expired', entra(700082)],
    ['Entra ID: revoked', entra(50173)],
    ['Entra ID: an error that is not to be repeated', entra(40008)],
    [
      'Entra ID: the code inside of the words',
      { error: 'invalid_grant', error_description: 'No AADSTS50196: here' },
    ],
    ['Salesforce', { error: 'invalid_grant', error_description: 'expired access/refresh token' }],
  ])('S39 %s: it ends the grant', async (_, body) => {
    expect((await refused(400, body)).code).toBe('ERR_REAUTHENTICATION_REQUIRED')
  })

  it.each<[string, unknown]>([
    ['objects', [{ toString: 'x' }, { valueOf: null }]],
    ['arrays', [[50196]]],
    ['an object', { 0: 50196 }],
    ['nothing', [null, undefined]],
  ])('S39 codes of Entra ID that are %s say nothing', async (_, codes) => {
    const error = await refused(400, { error: 'invalid_grant', error_codes: codes })
    expect(error.code).toBe('ERR_REAUTHENTICATION_REQUIRED')
  })

  it('S39 an expired code at acquire() is not', async () => {
    const body = { error: 'invalid_grant', error_description: 'expired authorization code' }
    const error = await failure((await respondingWith(400, body)).acquire(CODE, signal()))
    expect(error.code).toBe('ERR_REAUTHENTICATION_REQUIRED')
  })
})

describe('S55 an error that requires the user', () => {
  const claims = '{"access_token":{"polids":{"essential":true,"values":["a\\u002fb"]}}}'

  it.each<[string, number, object]>([
    ['interaction_required', 400, { error: 'interaction_required', suberror: 'basic_action' }],
    ['login_required', 400, { error: 'login_required' }],
    ['consent_required', 403, { error: 'consent_required' }],
    ['account_selection_required', 400, { error: 'account_selection_required' }],
    ['unmet_authentication_requirements', 400, { error: 'unmet_authentication_requirements' }],
    ['mfa_required', 403, { error: 'mfa_required', error_description: 'MFA', mfa_token: 'secret-mfa' }],
    ['mfa_required with 200', 200, { error: 'mfa_required' }],
    ...[
      ...['basic_action', 'additional_action', 'message_only', 'consent_required'],
      ...['user_password_expired', 'device_authentication_failed'],
    ].map((suberror): [string, number, object] => [
      `Entra ID: ${suberror}`,
      400,
      { error: 'invalid_grant', suberror, error_codes: [50076] },
    ]),
    ...[
      ...[50072, 50074, 50076, 50078, 50079, 50097, 50158],
      ...[53000, 53001, 53002, 53003, 53004, 65001, 65004],
    ].map((code): [string, number, object] => [
      `Entra ID: ${code} without a suberror`,
      400,
      { error: 'invalid_grant', error_codes: [code] },
    ]),
    [
      'Entra ID: a code in the description alone',
      400,
      { error: 'invalid_grant', error_description: 'AADSTS65001: The user has not consented.' },
    ],
    [
      'Entra ID: protection_policy_required',
      400,
      { error: 'unauthorized_client', suberror: 'protection_policy_required' },
    ],
    ['Entra ID: a claims challenge', 400, { error: 'invalid_grant', claims }],
    ['a claims challenge in an object', 400, { error: 'invalid_grant', claims: JSON.parse(claims) }],
    ...['invalid_rapt', 'rapt_required'].map((subtype): [string, number, object] => [
      `Google: ${subtype}`,
      400,
      { error: 'invalid_grant', error_subtype: subtype, error_description: 'reauth related error' },
    ]),
  ])('S55 %s (%i): a StepUpError, at acquire() too', async (_, status, body) => {
    const { error: code } = body as { error: string }
    const asked = await respondingWith(status, body)
    for (const attempt of [
      asked.refresh(RT, { scope: 'a', signal: signal() }),
      asked.acquire(CODE, signal()),
    ]) {
      const error = await failure(attempt)
      expect(error).toBeInstanceOf(StepUpError)
      expect(error).toMatchObject({ code: 'ERR_STEP_UP_REQUIRED', status: 401, error: code })
      expect(inspect(error)).not.toContain('secret-mfa')
    }
  })

  it.each(['bad_token', 'token_expired', 'client_mismatch'])(
    'S55 Entra ID: %s is about the refresh token',
    async (suberror) => {
      for (const codes of [[], [50076]]) {
        const error = await refused(400, { error: 'invalid_grant', suberror, error_codes: codes })
        expect(error.code).toBe('ERR_REAUTHENTICATION_REQUIRED')
      }
    },
  )

  it('S55 passes on its requirements, byte for byte', async () => {
    const body = {
      error: 'interaction_required',
      claims,
      acr_values: 'gold silver',
      max_age: 300,
      scope: 'a b',
    }
    expect(await refused(400, body)).toMatchObject({
      claims,
      acrValues: 'gold silver',
      maxAge: 300,
      scope: 'a b',
    })
    const others = {
      error: 'interaction_required',
      claims: { id_token: { acr: null } },
      acr_values: ['a'],
      max_age: '0',
    }
    expect(await refused(400, others)).toMatchObject({
      claims: '{"id_token":{"acr":null}}',
      acrValues: 'a',
      maxAge: 0,
    })
    const invalid = { error: 'interaction_required', claims: 7, acr_values: [1], max_age: 'soon', scope: {} }
    const error = await refused(400, invalid)
    expect(Object.keys(error)).not.toEqual(expect.arrayContaining(['claims']))
    expect([error].map(({ message: _, ...fields }) => fields)[0]).not.toHaveProperty('maxAge')
  })

  it('S60 redacts the refresh token and the secret in the claims', async () => {
    const body = { error: 'interaction_required', claims: JSON.stringify({ hint: `${RT} ${SECRET}` }) }
    expect(await refused(400, body)).toMatchObject({ claims: '{"hint":"[redacted] [redacted]"}' })
  })
})

describe('S55 a need that is not granted', () => {
  it.each<[string, object]>([
    ['invalid_scope', { scope: 'admin' }],
    ['invalid_scope', { resource: 'https://api.example.com' }],
    ['invalid_target', { resource: 'https://api.example.com' }],
    ['invalid_target', { audience: 'api' }],
  ])('S55 %s, for %j: 403', async (code, need) => {
    const error = await refused(400, { error: code, error_description: 'no' }, need)
    expect(error).toMatchObject({
      code: 'ERR_INSUFFICIENT_SCOPE',
      status: 403,
      error: code,
      errorDescription: 'no',
    })
    expect(error).not.toBeInstanceOf(StepUpError)
  })

  it.each(['invalid_scope', 'invalid_target'])(
    'S55 %s, and nothing was asked for: the operator’s error',
    async (code) => {
      const error = await refused(400, { error: code })
      expect(error).toMatchObject({ code: 'ERR_TOKEN_ENDPOINT', status: 502, error: code })
      expect(error.message).toMatch(/refreshParameters/)
    },
  )
})

describe('error.error', () => {
  it.each<[string, number, object | string, string, string | undefined]>([
    ['a text', 400, { error: 'x', error_description: 'why' }, 'x', 'why'],
    ['an object', 400, { error: { code: 'x', message: 'why' } }, 'x', 'why'],
    [
      'an object with a status',
      400,
      { error: { code: 400, status: 'INVALID_ARGUMENT', message: 'why' } },
      'INVALID_ARGUMENT',
      'why',
    ],
    ['an object with a number', 400, { error: { code: 41 } }, '41', undefined],
    ['an object in an object', 400, { error: { error: { type: 'x' } } }, 'x', undefined],
    ['a number', 200, { error: 100016, error_description: 'why' }, '100016', 'why'],
    ['errors', 401, { errors: [{ errorType: 'x', message: 'why' }] }, 'x', 'why'],
    ['errors in texts', 400, { errors: ['x', 'y'] }, 'x', undefined],
    ['error_code', 400, { error_code: 'x', error_message: 'why' }, 'x', 'why'],
    ['errorCode', 400, { errorCode: 'E0000011', errorSummary: 'why' }, 'E0000011', undefined],
    ['errcode', 200, { errcode: 40030, errmsg: 'why' }, '40030', 'why'],
    ['ErrorCode', 400, { ErrorCode: 'x', Error: 'why' }, 'x', undefined],
    [
      'a fault',
      401,
      { fault: { faultstring: 'why', detail: { errorcode: 'keymanagement.x' } } },
      'keymanagement.x',
      undefined,
    ],
    ['a code', 400, { code: 'x', message: 'why', status: 'error' }, 'x', 'why'],
    ['a message', 403, { status: 403, message: 'why' }, 'why', undefined],
    ['true', 400, { error: true, message: 'why' }, 'why', undefined],
    ['ok: false', 200, { ok: false, error: 'x' }, 'x', undefined],
    ['an object around it', 200, { data: { error_code: 10010 }, message: 'error' }, '10010', 'error'],
    ['a function around it', 200, 'callback( {"error":"x","error_description":"why"} );', 'x', 'why'],
  ])('is a text when the response has %s', async (_, status, body, code, description) => {
    const error = await refused(status, body)
    expect([error.code, error.error, error.errorDescription]).toEqual([
      'ERR_TOKEN_ENDPOINT',
      code,
      description,
    ])
    const acquired = await failure((await respondingWith(status, body)).acquire(CODE, signal()))
    expect(acquired.error).toBe(code)
  })

  it.each(['incorrect_client_credentials', 'bad_client_secret', 'invalid_client_id'])(
    'S43 %s (200) is about the client',
    async (code) => {
      expect(await refused(200, { error: code })).toMatchObject({ code: 'ERR_CLIENT_REJECTED', error: code })
    },
  )

  it('of a 404 is followed by what to check', async () => {
    expect((await refused(404, { message: 'no such route' })).message).toMatch(/Check the URL/)
  })

  it('S60 shows no token of the response, wherever it stands', async () => {
    const body = {
      error: { code: 'x', message: 'mfa-1 nested-2' },
      mfa_token: 'mfa-1',
      data: { accessToken: 'nested-2' },
    }
    expect(await refused(400, body)).toMatchObject({ errorDescription: '[redacted] [redacted]' })
  })

  it('S60 shows no JWT, and no other token of the session', async () => {
    const jwt = 'eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJhZGEifQ.c2lnbmF0dXJl'
    const asked = await respondingWith(401, { error: jwt, error_description: `${jwt} at-1 expired` })
    const error = await failure(asked.refresh(RT, { secrets: () => ['at-1'], signal: signal() }))
    expect(error).toMatchObject({ error: '[redacted]', errorDescription: '[redacted] [redacted] expired' })
    expect(error.message).not.toMatch(/eyJ|at-1/)
  })

  it('of a body nested deeply is found in bounded time', async () => {
    const nested = `${'{"error":'.repeat(3_000)}"x"${'}'.repeat(3_000)}`
    expect((await refused(400, nested)).code).toBe('ERR_INVALID_TOKEN_RESPONSE')
  })
})

describe('a success in an object of the response', () => {
  const tokens = { access_token: 'at', refresh_token: 'rt', expires_in: 60, token_type: 'Bearer' }
  const read = { accessToken: 'at', refreshToken: 'rt', lifetimeMs: 60_000, tokenType: 'Bearer' }

  it.each<[string, object | string]>([
    ['in data, as TikTok and Lark send', { code: 0, message: 'success', data: { ...tokens, error_code: 0 } }],
    ['in body, as Withings sends', { status: 0, body: tokens }],
    ['in authed_user, as Slack sends for a user', { ok: true, authed_user: tokens, team: { id: 'T1' } }],
    ['in a function, as QQ sends', `callback( ${JSON.stringify(tokens)} );\n`],
    ['in camel case', { accessToken: 'at', refreshToken: 'rt', expiresIn: 60, tokenType: 'Bearer' }],
    ['at the top, whatever stands in data', { ...tokens, data: { access_token: 'other' } }],
  ])('is read: %s', async (_, body) => {
    const asked = await respondingWith(200, body)
    expect(await asked.refresh(RT, { signal: signal() })).toEqual(read)
    expect(await asked.acquire(CODE, signal())).toEqual(read)
  })

  it('does not count where the response has an error', async () => {
    expect(await refused(200, { error: 'x', data: tokens })).toMatchObject({
      code: 'ERR_TOKEN_ENDPOINT',
      error: 'x',
    })
  })
})

describe('a response in a form', () => {
  const success = form({
    access_token: 'at+1/2=',
    refresh_token: 'rt 2&3',
    expires_in: '3600',
    scope: 'repo,gist',
    token_type: 'bearer',
  })
  const read = {
    accessToken: 'at+1/2=',
    refreshToken: 'rt 2&3',
    lifetimeMs: 3_600_000,
    scope: 'repo gist',
    tokenType: 'bearer',
  }

  it.each<[string, object]>([
    ['declared as a form', { 'content-type': 'application/x-www-form-urlencoded; charset=utf-8' }],
    ['declared as text', { 'content-type': 'text/plain' }],
    ['declared as HTML', { 'content-type': 'text/html' }],
    ['declared as JSON', { 'content-type': 'application/json' }],
    ['declared as nothing', {}],
  ])('that is %s is read as one', async (_, headers) => {
    const asked = await respondingWith(200, success, headers)
    expect(await asked.refresh(RT, { signal: signal() })).toEqual(read)
    expect(await asked.acquire(CODE, signal())).toEqual(read)
  })

  it('that ends with a new line, and has an expiry in Facebook’s name', async () => {
    const asked = await respondingWith(200, 'access_token=at&expires=5184000\n')
    expect(await asked.refresh(RT, { signal: signal() })).toEqual({
      accessToken: 'at',
      lifetimeMs: 5_184_000_000,
    })
  })

  it('that has a name twice: the first counts', async () => {
    const asked = await respondingWith(200, 'access_token=at&access_token=other')
    expect(await asked.refresh(RT, { signal: signal() })).toEqual({ accessToken: 'at' })
  })

  it.each([
    'a=b',
    'access_token',
    '<a href="?access_token=x">',
    '["access_token=x"]',
    'see access_token=x',
    '"access_token=x"',
  ])('that is none: %s', async (body) => {
    const error = await refused(200, body)
    expect(error.code).toBe('ERR_INVALID_TOKEN_RESPONSE')
  })
})

describe('server.revoke(token, hint, signal) of a token that is revoked already', () => {
  const revoked = async (status: number, body: unknown) =>
    (await respondingWith(status, body)).revoke(RT, 'refresh_token', signal())

  it.each<[string, number, object | string]>([
    ['revoked', 200, ''],
    ['revoked, and nothing to say', 204, ''],
    ['revoked, and it says so', 200, { ok: true, revoked: true }],
    ['revoked, in HTML', 200, '<p>done</p>'],
    ['Google', 400, { error: 'invalid_token', error_description: 'Token expired or revoked' }],
    ['Salesforce, a form', 400, 'error=invalid_token&error_description=invalid%20token'],
    ['invalid_token, 200', 200, { error: 'invalid_token' }],
    ['invalid_token, 404', 404, { error: 'invalid_token' }],
    ['invalid_grant', 400, { error: 'invalid_grant' }],
    ['Twitch', 400, { status: 400, message: 'Invalid token' }],
    ['Slack', 200, { ok: false, error: 'token_revoked' }],
  ])('%s (%i): it resolves', async (_, status, body) => {
    await expect(revoked(status, body)).resolves.toBeUndefined()
  })

  it.each<[string, number, object | string, string]>([
    ['a type that cannot be revoked', 400, { error: 'unsupported_token_type' }, 'ERR_TOKEN_ENDPOINT'],
    ['the same, a form', 400, 'error=unsupported_token_type', 'ERR_TOKEN_ENDPOINT'],
    ['the same, 200', 200, { error: 'unsupported_token_type' }, 'ERR_TOKEN_ENDPOINT'],
    ['a wrong request', 400, { error: 'invalid_request' }, 'ERR_TOKEN_ENDPOINT'],
    ['a wrong client', 401, { error: 'invalid_client' }, 'ERR_CLIENT_REJECTED'],
    ['an authorization that is refused', 401, { error: 'invalid_token' }, 'ERR_TOKEN_ENDPOINT'],
    ['no such path', 404, '', 'ERR_INVALID_TOKEN_RESPONSE'],
    [
      'no such client, as Twitch says it',
      404,
      { status: 404, message: 'client does not exist' },
      'ERR_TOKEN_ENDPOINT',
    ],
    ['Slack: not allowed', 200, { ok: false, error: 'not_allowed' }, 'ERR_TOKEN_ENDPOINT'],
    ['out of order', 503, { error: 'invalid_token' }, 'ERR_TOKEN_ENDPOINT_UNAVAILABLE'],
    ['too many requests', 429, { error: 'invalid_token' }, 'ERR_TOKEN_ENDPOINT_UNAVAILABLE'],
  ])('%s (%i): it rejects', async (_, status, body, code) => {
    expect((await failure(revoked(status, body))).code).toBe(code)
  })
})

describe('a response without an error code keeps the user logged in, and tells the operator what it is', () => {
  const html = '<html><title>Sign in</title></html>'
  const ofHtml = { 'content-type': 'text/html; charset=utf-8' }

  it.each<[name: string, status: number, body: unknown, headers: object, told: string]>([
    ['a message', 400, { message: 'Invalid refresh token' }, {}, '/token (400)'],
    ['a message of a gateway', 401, { message: 'Unauthorized' }, {}, '/token (401)'],
    ['an error in words', 403, { statusCode: 403, error: 'Forbidden' }, {}, '/token (403)'],
    ['other fields', 400, { msg: 'invalid', title: 'no' }, {}, '/token (the fields msg, title)'],
    ['a page', 403, html, ofHtml, '/token (text/html; charset=utf-8)'],
    ['a page with the status of a success', 200, html, ofHtml, '/token (text/html; charset=utf-8)'],
    ['no body', 400, '', {}, '/token'],
    ['no body, and the status of a success', 204, '', {}, '/token'],
    ['an array', 400, '[]', {}, '/token'],
    ['a token as the name of a field', 400, { [RT]: true }, {}, '/token (the fields [redacted])'],
    ['a token in the content type', 400, 'x', { 'content-type': `a/${RT}` }, '/token (a/[redacted])'],
  ])('%s', async (_, status, body, headers, told) => {
    const error = await refused(status, body, {}, headers)
    expect(error.code).not.toBe('ERR_REAUTHENTICATION_REQUIRED')
    expect(error.details?.replace(/^http:..127\.0\.0\.1:\d+/, '')).toBe(told)
  })
})
