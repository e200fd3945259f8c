import { describe, expect, it } from '@jest/globals'
import { EncryptJWT, exportJWK, generateKeyPair, SignJWT } from 'jose'
import { clientSecretBasic, type SessionTokensOptions } from '../../lib/index.js'
import { bearerProxy } from '../../lib/proxy.js'
import { type EndpointRequest, startTokenEndpoint } from '../helpers/fault-server.js'
import type { Fault } from '../helpers/faults.js'
import { HOUR_MS, testSites } from '../helpers/test-sites.js'
import { json, wireServer } from '../helpers/wire-server.js'

const { server, start, closing } = await testSites()
const { clientId } = server.clients.client_secret_basic
/** The longest that a grant rests after its first failure. */
const REST_MS = 1_000

const LOGIN = { access_token: 'access 0', refresh_token: 'refresh 0', expires_in: 3600, scope: 'base' }
const answer = (number: number, other: object = {}): Fault => ({
  status: 200,
  body: { access_token: `access ${number}`, refresh_token: `refresh ${number}`, expires_in: 3600, ...other },
})

/** A site in front of a scripted token endpoint, and a browser whose user has logged in. */
async function loggedIn(
  responseTo: (index: number, request: EndpointRequest) => Fault,
  tokens: Partial<SessionTokensOptions> = {},
  login: object = {},
) {
  const refreshes: EndpointRequest[] = []
  const endpoint = closing(
    await startTokenEndpoint((request) =>
      request.path === '/token' ? responseTo(refreshes.push(request), request) : { status: 200 },
    ),
  )
  const site = await start({
    tokens: {
      tokenEndpoint: endpoint.tokenEndpoint,
      revocationEndpoint: endpoint.revocationEndpoint,
      clientAuthentication: clientSecretBasic('secret'),
      encryptionKeys: false,
      ...tokens,
    } as Partial<SessionTokensOptions>,
  })
  site.handle('/has', ({ tokens }) => ({ has: tokens.hasTokens() }))
  const tab = site.browser()
  await tab.post('/login', { ...LOGIN, ...login })
  return {
    site,
    tab,
    refreshes,
    sent: () => refreshes.map(({ parameters }) => parameters.get('refresh_token')),
  }
}

const form = (fields: Record<string, string>): Fault => ({
  status: 200,
  headers: { 'content-type': 'application/x-www-form-urlencoded' },
  body: new URLSearchParams(fields).toString(),
})

describe('S39 a response to a refresh', () => {
  const dead: [string, Fault][] = [
    ['invalid_grant, 400', { status: 400, body: { error: 'invalid_grant' } }],
    ['invalid_grant, 200', { status: 200, body: { error: 'invalid_grant' } }],
    ['invalid_grant in a form', form({ error: 'invalid_grant' })],
    ['GitHub', { status: 200, body: { error: 'bad_refresh_token' } }],
    [
      'HubSpot',
      { status: 400, body: { status: 'BAD_REFRESH_TOKEN', message: 'missing or invalid refresh token' } },
    ],
    ['Fitbit', { status: 400, body: { success: false, errors: [{ errorType: 'invalid_grant' }] } }],
    ['Facebook', { status: 400, body: { error: { type: 'OAuthException', code: 190, error_subcode: 460 } } }],
    ['Zoho', { status: 200, body: { error: 'invalid_code' } }],
  ]

  it.each(dead)('S39 %s: the session ends, and the refresh token is presented once', async (_, response) => {
    const { site, tab, refreshes } = await loggedIn(() => response)
    site.clock.advance(HOUR_MS)
    for (let call = 0; call < 3; call++) {
      const { status, json } = await tab.get('/token')
      expect([status, json.code]).toEqual([401, 'ERR_REAUTHENTICATION_REQUIRED'])
    }
    expect((await tab.get('/has')).json).toEqual({ has: false })
    expect(refreshes).toHaveLength(1)
  })

  const temporary: [string, Fault][] = [
    ['Entra ID’s request loop', { status: 400, body: { error: 'invalid_grant', error_codes: [50196] } }],
    [
      'Salesforce’s refreshes at the same time',
      {
        status: 400,
        body: { error: 'invalid_grant', error_description: 'token request is already being processed' },
      },
    ],
    ['Slack’s rate limit', { status: 200, body: { ok: false, error: 'ratelimited' } }],
  ]

  it.each(temporary)(
    'S39 %s: a valid token is served, then 503, and afterwards all requests succeed',
    async (_, response) => {
      const { site, tab, sent } = await loggedIn((index) => (index <= 2 ? response : answer(1)))
      site.clock.advance(HOUR_MS - 30_000)
      expect((await tab.get('/token')).json.token).toBe('access 0')
      site.clock.advance(30_000)
      const { status, json } = await tab.get('/token')
      expect([status, json.code]).toEqual([503, 'ERR_TOKEN_ENDPOINT_UNAVAILABLE'])
      site.clock.advance(2 * REST_MS)
      expect((await tab.get('/token')).json.token).toBe('access 1')
      expect(sent()).toEqual(['refresh 0', 'refresh 0', 'refresh 0'])
    },
  )

  it('S39 a success in a form: its refresh token is the next one', async () => {
    const { site, tab, sent } = await loggedIn((index) =>
      form({ access_token: `access ${index}`, refresh_token: `refresh ${index}`, expires_in: '3600' }),
    )
    for (const token of ['access 1', 'access 2']) {
      site.clock.advance(HOUR_MS)
      expect((await tab.get('/token')).json.token).toBe(token)
    }
    expect(sent()).toEqual(['refresh 0', 'refresh 1'])
  })

  it('S39 an access token with control characters: rejected, and the refresh token of the response is kept', async () => {
    const { site, tab, sent } = await loggedIn((index) =>
      index === 1 ? answer(1, { token_type: 'Bearer\r\nX: y' }) : answer(index),
    )
    site.clock.advance(HOUR_MS)
    expect((await tab.get('/token')).json.code).toBe('ERR_INVALID_TOKEN_RESPONSE')
    site.clock.advance(2 * REST_MS)
    expect((await tab.get('/token')).json.token).toBe('access 2')
    expect(sent()).toEqual(['refresh 0', 'refresh 1'])
  })

  it('S4 expires_in of 0 at every refresh: no refresh at each request', async () => {
    const { site, tab, refreshes } = await loggedIn((index) => answer(index, { expires_in: 0 }))
    site.clock.advance(HOUR_MS)
    for (let call = 0; call < 10; call++) expect((await tab.get('/token')).json.token).toBe('access 1')
    expect(refreshes).toHaveLength(1)
  })
})

describe('isGrantEnded', () => {
  it.each<[string, object]>([
    ['an error that the library does not know', { reason: 'session_closed', code: 'E42' }],
    ['an error without a code', { reason: 'session_closed' }],
  ])('ends the session for %s', async (_, response) => {
    const closed: Fault = { status: 409, body: response }
    const isGrantEnded = ({ status, body }: { status: number; body: Readonly<Record<string, unknown>> }) =>
      (status === 409 && body.reason === 'session_closed') || undefined
    const { site, tab } = await loggedIn(() => closed, { isGrantEnded })
    site.clock.advance(HOUR_MS)
    expect((await tab.get('/token')).json.code).toBe('ERR_REAUTHENTICATION_REQUIRED')
    expect((await tab.get('/has')).json).toEqual({ has: false })
  })

  it.each<[string, () => unknown, number, string]>([
    ['false', () => false, 503, 'ERR_TOKEN_ENDPOINT_UNAVAILABLE'],
    ['a promise', async () => true, 500, 'ERR_CONFIGURATION'],
    ['a failure', () => JSON.parse('{'), 500, 'ERR_CONFIGURATION'],
  ])(
    'keeps the session with %s, although the server says invalid_grant',
    async (_, isGrantEnded, status, code) => {
      const { site, tab } = await loggedIn(
        (index) => (index === 1 ? { status: 400, body: { error: 'invalid_grant' } } : answer(1)),
        { isGrantEnded } as Partial<SessionTokensOptions>,
      )
      site.clock.advance(HOUR_MS)
      const refused = await tab.get('/token')
      expect([refused.status, refused.json.code]).toEqual([status, code])
      expect((await tab.get('/has')).json).toEqual({ has: true })
      site.clock.advance(2 * REST_MS)
      expect((await tab.get('/token')).json.token).toBe('access 1')
    },
  )
})

describe('refreshParameters', () => {
  it('are sent with plain refreshes and with those of a need', async () => {
    const { site, tab, refreshes } = await loggedIn((index) => answer(index), {
      refreshParameters: ({ scope }) => ({ p: 'policy', scope: `${scope ?? 'base'} offline_access` }),
    })
    site.clock.advance(HOUR_MS)
    await tab.get('/token')
    await tab.get('/token?scope=other')
    const sent = refreshes.map(({ parameters }) => [parameters.get('p'), parameters.get('scope')])
    expect(sent).toEqual([
      ['policy', 'base offline_access'],
      ['policy', 'other offline_access'],
    ])
  })

  it('of a wrong kind: a ConfigurationError, and the refresh token is not spent', async () => {
    let wrong: unknown = { grant_type: 'password' }
    const refreshParameters = () => wrong
    const { site, tab, sent } = await loggedIn((index) => answer(index), {
      refreshParameters,
    } as unknown as Partial<SessionTokensOptions>)
    site.clock.advance(HOUR_MS)
    const { status, json } = await tab.get('/token')
    expect([status, json.code]).toEqual([500, 'ERR_CONFIGURATION'])
    expect(sent()).toEqual([])
    wrong = undefined
    site.clock.advance(2 * REST_MS)
    expect((await tab.get('/token')).json.token).toBe('access 1')
  })
})

describe("authorizationScheme: 'Bearer'", () => {
  async function calling(tokens: Partial<SessionTokensOptions>, type: string) {
    const api = closing(await wireServer((_, response) => json(response, {})))
    const { site, tab } = await loggedIn((index) => answer(index), tokens, { token_type: type })
    site.handle('/axios', async ({ tokens }) => (await tokens.axios({ baseURL: api.url }).get('/')).status)
    site.handle('/fetch', async ({ tokens }) => (await tokens.fetch({ baseURL: api.url })('/')).status)
    site.app.use('/api', bearerProxy({ target: api.url }))
    const sent = () => api.requests.map(({ headers }) => headers.authorization)
    return { tab, sent }
  }

  it.each(['BearerToken', 'user', 'bot', 'DPoP', 'bearer'])('sends a token of the type %s', async (type) => {
    const { tab, sent } = await calling({ authorizationScheme: 'Bearer' }, type)
    expect((await tab.get('/token')).json).toMatchObject({ token: 'access 0', tokenType: 'Bearer' })
    for (const path of ['/axios', '/fetch', '/api/x']) expect((await tab.get(path)).status).toBe(200)
    expect(sent()).toEqual(['Bearer access 0', 'Bearer access 0', 'Bearer access 0'])
  })

  it.each(['BearerToken', 'user'])('without it, a token of the type %s is sent nowhere', async (type) => {
    const { tab, sent } = await calling({}, type)
    expect((await tab.get('/token')).json.tokenType).toBe(type)
    for (const path of ['/axios', '/fetch']) expect((await tab.get(path)).status).toBe(502)
    expect((await tab.get('/api/x')).status).not.toBe(200)
    expect(sent()).toEqual([])
  })
})

const key = await generateKeyPair('ES256', { extractable: true })
const jwk = { ...(await exportJWK(key.publicKey)), alg: 'ES256', kid: 'key' }

describe('S49 an encrypted ID token', () => {
  const claims = (sub: string) => ({ iss: 'https://idp.example', aud: clientId, sub })
  const signed = (sub: string) =>
    new SignJWT(claims(sub))
      .setProtectedHeader({ alg: 'ES256', kid: 'key' })
      .setExpirationTime('1 h')
      .sign(key.privateKey)
  const encrypted = (sub: string) =>
    new EncryptJWT(claims(sub)).setProtectedHeader({ alg: 'dir', enc: 'A256GCM' }).encrypt(new Uint8Array(32))

  async function refreshedWith(...idTokens: string[]) {
    const keys = closing(await wireServer((_, response) => json(response, { keys: [jwk] })))
    const it = await loggedIn(
      (index) => answer(index, { id_token: idTokens[index - 1] }),
      { jwksUri: keys.url },
      { id_token: await signed('ada') },
    )
    const results: unknown[] = []
    for (const _ of idTokens) {
      it.site.clock.advance(HOUR_MS)
      const { status, json } = await it.tab.get('/token')
      results.push(status === 200 ? json.token : json.code)
    }
    return { ...it, results }
  }

  it('S49 between two of one user: accepted, and the user is remembered', async () => {
    const [first, second] = [await encrypted('ada'), await encrypted('ada')]
    const { results, site, tab } = await refreshedWith(first, second, await signed('ada'))
    expect(results).toEqual(['access 1', 'access 2', 'access 3'])
    expect(await site.storedTokens(tab)).not.toHaveProperty('subject')
  })

  it('S49 does not undo the check of the next one', async () => {
    const { results, site, tab } = await refreshedWith(
      await encrypted('ada'),
      await encrypted('ada'),
      await signed('eve'),
    )
    expect(results).toEqual(['access 1', 'access 2', 'ERR_INVALID_TOKEN_RESPONSE'])
    const stored = await site.storedTokens(tab)
    expect(stored?.subject).toBe(JSON.stringify(['https://idp.example', 'ada']))
    expect(stored).not.toHaveProperty('refreshToken')
  })

  it('S49 that is not encrypted is left out, and the next one must be about the same user', async () => {
    const [header] = (await encrypted('ada')).split('.')
    const { results, site, tab } = await refreshedWith(`${header}.a.b.c.d`, await signed('eve'))
    expect(results).toEqual(['access 1', 'ERR_INVALID_TOKEN_RESPONSE'])
    expect(site.events.map(({ type }) => type).slice(0, 3)).toEqual([
      'id_token_left_out',
      'refreshed',
      'late_tokens_revoked',
    ])
    expect(await site.storedTokens(tab)).not.toHaveProperty('refreshToken')
  })
})
