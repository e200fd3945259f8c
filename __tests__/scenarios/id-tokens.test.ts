import { inspect } from 'node:util'
import { describe, expect, it } from '@jest/globals'
import { EncryptJWT, exportJWK, generateKeyPair, type JWK, SignJWT, UnsecuredJWT } from 'jose'
import { clientSecretBasic, type SessionTokensOptions } from '../../lib/index.js'
import { type EndpointRequest, startTokenEndpoint } from '../helpers/fault-server.js'
import type { Fault } from '../helpers/faults.js'
import { createGate } from '../helpers/gate.js'
import { HOUR_MS, testSites } from '../helpers/test-sites.js'

const { server, start, closing, held } = await testSites()

const { clientId } = server.clients.client_secret_basic
const issuersKey = await generateKeyPair('ES256', { extractable: true })
const strangersKey = await generateKeyPair('ES256')
const jwk: JWK = { ...(await exportJWK(issuersKey.publicKey)), alg: 'ES256', kid: 'key' }

const claims = (other: object = {}) => ({ iss: 'https://idp.example', sub: 'user', aud: clientId, ...other })
const signed = (other: object = {}, { privateKey } = issuersKey) =>
  new SignJWT(claims(other))
    .setProtectedHeader({ alg: 'ES256', kid: 'key' })
    .setExpirationTime('1 hour')
    .sign(privateKey)
const hmac = () => new SignJWT(claims()).setProtectedHeader({ alg: 'HS256' }).sign(new Uint8Array(32))

const FIRST = await signed({ jti: 'first' })
/** What makes a response useless, apart from its refresh token. */
const NO_ACCESS_TOKEN = { access_token: undefined }
const keys: Fault = { status: 200, body: { keys: [jwk] } }

/** A site in front of a server that answers with an ID token, and with its keys. */
async function siteWith(
  idToken: () => string,
  keysAnswer: (index: number) => Fault | Promise<Fault> = () => keys,
  other: object = {},
) {
  const fetches: EndpointRequest[] = []
  let answers = 0
  const endpoint = closing(
    await startTokenEndpoint((request) => {
      if (request.path === '/jwks') return keysAnswer(fetches.push(request))
      if (request.path === '/revoke') return { status: 200 }
      const number = ++answers
      const answer = {
        access_token: `access ${number}`,
        refresh_token: `refresh ${number}`,
        expires_in: 3600,
      }
      return { status: 200, body: { ...answer, token_type: 'Bearer', id_token: idToken(), ...other } }
    }),
  )
  const site = await start({
    tokens: {
      tokenEndpoint: endpoint.tokenEndpoint,
      revocationEndpoint: endpoint.revocationEndpoint,
      jwksUri: `${endpoint.url}/jwks`,
      clientAuthentication: clientSecretBasic('secret'),
      encryptionKeys: false,
    },
  })
  site.handle('/id-token', ({ tokens }) => ({ idToken: tokens.idToken, claims: tokens.idTokenClaims }))
  site.handle('/acquire', ({ tokens }) => tokens.acquire({ grant_type: 'authorization_code', code: 'code' }))
  const revoked = () =>
    endpoint.requests
      .filter(({ path }) => path === '/revoke')
      .map(({ parameters }) => parameters.get('token'))
  return { site, endpoint, fetches, revoked }
}

async function loggedIn(...answers: Parameters<typeof siteWith>) {
  const it = await siteWith(...answers)
  const tab = it.site.browser()
  await tab.post('/login', {
    access_token: 'access 0',
    refresh_token: 'refresh 0',
    expires_in: 3600,
    id_token: FIRST,
  })
  it.site.clock.advance(HOUR_MS - 30_000)
  return { ...it, tab }
}

describe('S49 the signature of a refreshed ID token', () => {
  it('S49 is the issuer’s: accepted, repeatedly, with the keys fetched once', async () => {
    const next = await signed({ jti: 'next' })
    const { site, tab, fetches } = await loggedIn(() => next)
    for (const token of ['access 1', 'access 2']) {
      expect((await tab.get('/token')).json.token).toBe(token)
      site.clock.advance(HOUR_MS)
    }
    expect((await tab.get('/id-token')).json).toMatchObject({
      idToken: next,
      claims: { sub: 'user', jti: 'next' },
    })
    expect(fetches).toHaveLength(1)
  })

  it.each<[string, () => Promise<string>]>([
    ['by another key', () => signed({}, strangersKey)],
    [
      'missing, and the ID token is about another user',
      async () => new UnsecuredJWT(claims({ sub: 'eve' })).encode(),
    ],
  ])('S49 is %s: rejected, reported, and the used refresh token is not presented again', async (_, forge) => {
    const forged = await forge()
    const { site, tab, endpoint, revoked } = await loggedIn(() => forged)
    for (let call = 0; call < 3; call++) expect((await tab.get('/token')).json.token).toBe('access 0')
    expect(endpoint.requests.filter(({ path }) => path === '/token')).toHaveLength(1)
    expect(revoked()).toEqual(['refresh 1'])
    expect(site.events.map(({ type }) => type).slice(0, 2)).toEqual(['late_tokens_revoked', 'refresh_failed'])
    const stored = await site.storedTokens(tab)
    expect([stored?.refreshToken, stored?.idToken]).toEqual([undefined, FIRST])
    site.clock.advance(HOUR_MS)
    expect((await tab.get('/token')).json.code).toBe('ERR_REAUTHENTICATION_REQUIRED')
  })

  it.each<[string, () => Promise<string>]>([
    ['of another user', () => signed({ sub: 'eve' })],
    ['for another client', () => signed({ aud: 'another' })],
    ['by another key', () => signed({}, strangersKey)],
  ])('S49 %s, beside a refresh token alone: the refresh token is revoked and not used', async (_, forge) => {
    const forged = await forge()
    const { site, tab, endpoint, revoked } = await loggedIn(() => forged, undefined, NO_ACCESS_TOKEN)
    for (let call = 0; call < 3; call++) expect((await tab.get('/token')).json.token).toBe('access 0')
    site.clock.advance(HOUR_MS)
    expect((await tab.get('/token')).json.code).toBe('ERR_REAUTHENTICATION_REQUIRED')
    expect(endpoint.requests.filter(({ path }) => path === '/token')).toHaveLength(1)
    expect(revoked()).toEqual(['refresh 1'])
    expect((await site.storedTokens(tab))?.refreshToken).toBeUndefined()
  })

  it.each<[string, () => Promise<string>]>([
    ['of the same user', signed],
    ['that is not signed', async () => new UnsecuredJWT(claims()).encode()],
  ])('S49 %s, beside a refresh token alone: the refresh token is kept', async (_, make) => {
    const idToken = await make()
    const { site, tab, revoked } = await loggedIn(() => idToken, undefined, NO_ACCESS_TOKEN)
    expect((await tab.get('/token')).json.token).toBe('access 0')
    expect(await site.storedTokens(tab)).toMatchObject({ refreshToken: 'refresh 1', idToken: FIRST })
    expect(revoked()).toEqual([])
  })

  it.each<[string, () => Promise<string>, Fault]>([
    ['since the keys cannot be reached', signed, 'reset'],
    ['since the keys are unavailable', signed, 503],
    ['since the keys are garbage', signed, 'garbage'],
    ['since there is no such key', signed, { status: 200, body: { keys: [] } }],
    ['as it is made with the client secret', hmac, keys],
    ['as it is not signed', async () => new UnsecuredJWT(claims()).encode(), keys],
    ['as it is from the future', () => signed({ iat: 9e9 }), keys],
    ['as it is no JWT', async () => 'an-opaque-text-that-is-no-jwt', keys],
    ['as it is no JWT, with dots', async () => 'gar.ba.ge', keys],
  ])(
    'S49 cannot be checked, %s: every other token is kept, and the ID token before',
    async (_, idToken, answer) => {
      const next = await idToken()
      const { site, tab } = await loggedIn(
        () => next,
        () => answer,
      )
      for (const token of ['access 1', 'access 2']) {
        expect((await tab.get('/token')).json.token).toBe(token)
        site.clock.advance(HOUR_MS)
      }
      const stored = await site.storedTokens(tab)
      expect([stored?.refreshToken, stored?.idToken]).toEqual(['refresh 2', FIRST])
      expect(site.events.map(({ type }) => type)).toEqual([
        'id_token_left_out',
        'refreshed',
        'id_token_left_out',
        'refreshed',
      ])
      for (const secret of [next, 'refresh 1', 'access 1'])
        expect(inspect(site.events, { depth: 9 })).not.toContain(secret)
    },
  )

  it('S49 is by a key that has just replaced another one of the same name: the user stays logged in', async () => {
    const newKey = await generateKeyPair('ES256', { extractable: true })
    const newJwk = { ...jwk, ...(await exportJWK(newKey.publicKey)) }
    const [before, after] = [await signed({ jti: 'before' }), await signed({ jti: 'after' }, newKey)]
    let isReplaced = false
    const { site, tab } = await loggedIn(
      () => (isReplaced ? after : before),
      () => ({ status: 200, body: { keys: [isReplaced ? newJwk : jwk] } }),
    )
    expect((await tab.get('/token')).json.token).toBe('access 1')
    isReplaced = true
    for (const token of ['access 2', 'access 3']) {
      site.clock.advance(HOUR_MS)
      expect((await tab.get('/token')).json.token).toBe(token)
    }
    expect((await tab.get('/id-token')).json).toMatchObject({ claims: { jti: 'before' } })
    expect(site.events.map(({ type }) => type)).toContain('id_token_left_out')
  })

  it('S49 cannot be checked, and the ID token is about another user: rejected', async () => {
    const foreign = await signed({ sub: 'eve' })
    const { tab, revoked } = await loggedIn(
      () => foreign,
      () => 'reset',
    )
    expect((await tab.get('/token')).json.token).toBe('access 0')
    expect(revoked()).toEqual(['refresh 1'])
  })

  it('S49 waits for slow keys for two seconds; the next one finds them', async () => {
    const gate = held(createGate())
    const next = await signed({ jti: 'next' })
    const { site, tab, fetches } = await loggedIn(
      () => next,
      async () => {
        await gate.pass()
        return keys
      },
    )
    // A caller with a valid token would wait for a second only.
    site.clock.advance(30_000)
    const since = performance.now()
    expect((await tab.get('/token')).json.token).toBe('access 1')
    expect(performance.now() - since).toBeLessThan(4_000)
    expect((await site.storedTokens(tab))?.idToken).toBe(FIRST)
    gate.release()
    site.clock.advance(HOUR_MS)
    expect((await tab.get('/token')).json.token).toBe('access 2')
    expect((await site.storedTokens(tab))?.idToken).toBe(next)
    expect(fetches).toHaveLength(1)
  })

  it('S49 with the issuer’s metadata: its keys are found there', async () => {
    const { tab, site } = await atIssuer()
    expect((await tab.get('/token')).status).toBe(200)
    const before = (await tab.get('/id-token')).json.idToken
    site.clock.advance(HOUR_MS)
    expect((await tab.get('/token')).status).toBe(200)
    expect((await tab.get('/id-token')).json.idToken).not.toBe(before)
    expect(site.events.map(({ type }) => type)).toEqual(['refreshed'])
  })
})

/** A site that knows its authorization server by the issuer alone, and a browser that has logged in by `acquire()`. */
async function atIssuer(tokens: Partial<SessionTokensOptions> = {}) {
  const site = await start({
    tokens: {
      issuer: server.issuer,
      tokenEndpoint: undefined,
      revocationEndpoint: undefined,
      ...tokens,
    } as unknown as Partial<SessionTokensOptions>,
  })
  site.handle('/id-token', ({ tokens }) => ({ idToken: tokens.idToken, claims: tokens.idTokenClaims }))
  site.handle('/acquire', async ({ tokens }) => tokens.acquire({ ...(await server.authorize('alice')) }))
  const tab = site.browser()
  const answer = await tab.post('/acquire', {})
  return { site, tab, answer }
}

describe('the ID token of acquire()', () => {
  it('is checked with the keys in the issuer’s metadata, and accepted', async () => {
    const { tab, answer } = await atIssuer()
    expect(answer.status).toBe(200)
    expect((await tab.get('/id-token')).json.claims).toMatchObject({
      iss: server.issuer,
      sub: 'alice',
      aud: clientId,
    })
  })

  it.each<[string, () => Promise<string> | string, RegExp]>([
    ['signed by another key', () => signed({}, strangersKey), /not signed by its issuer/],
    ['without a signature', () => new UnsecuredJWT(claims({ exp: 9e9 })).encode(), /alg none/],
    ['for another client', () => signed({ aud: 'other' }), /aud/],
    [
      'that has expired',
      () =>
        new SignJWT(claims({ exp: 1 }))
          .setProtectedHeader({ alg: 'ES256', kid: 'key' })
          .sign(issuersKey.privateKey),
      /exp/,
    ],
    ['that is garbage', () => 'garbage', /could not be read/],
    [
      'with the client secret',
      () => new SignJWT(claims({ exp: 9e9 })).setProtectedHeader({ alg: 'HS256' }).sign(new Uint8Array(32)),
      /HS256/,
    ],
  ])('%s: no tokens are stored, and the received tokens are revoked', async (_, idToken, why) => {
    const token = await idToken()
    const { site, revoked } = await siteWith(() => token)
    const tab = site.browser()
    const answer = await tab.post('/acquire', {})
    expect([answer.status, answer.json.code]).toEqual([502, 'ERR_INVALID_TOKEN_RESPONSE'])
    expect(answer.json.message).toMatch(why)
    expect(revoked()).toEqual(['refresh 1'])
    expect(site.store.count('set')).toBe(0)
  })

  it('while the keys cannot be reached: nothing is stored, try again', async () => {
    const token = await signed()
    const { site, revoked } = await siteWith(
      () => token,
      () => 'reset',
    )
    const answer = await site.browser().post('/acquire', {})
    expect([answer.status, answer.json.code]).toEqual([503, 'ERR_TOKEN_ENDPOINT_UNAVAILABLE'])
    expect(revoked()).toEqual(['refresh 1'])
  })
})

describe('the nonce that acquire() expects', () => {
  const acquiring = async (idToken: () => string, nonce: string) => {
    const { site, revoked } = await siteWith(idToken)
    site.handle('/acquire', ({ tokens }) =>
      tokens.acquire({ grant_type: 'authorization_code', code: 'code', nonce }),
    )
    const answer = await site.browser().post('/acquire', {})
    return { answer, revoked, stores: site.store.count('set') }
  }

  it('is in the ID token: accepted', async () => {
    const token = await signed({ nonce: 'n-1' })
    const { answer, revoked } = await acquiring(() => token, 'n-1')
    expect([answer.status, revoked()]).toEqual([200, []])
  })

  it.each<[string, () => Promise<string>]>([
    ['is another', () => signed({ nonce: 'n-2' })],
    ['is missing', () => signed()],
    ['is missing, as there is no ID token', async () => ''],
    [
      'cannot be read, as the ID token is encrypted',
      () =>
        new EncryptJWT({ nonce: 'n-1' })
          .setProtectedHeader({ alg: 'dir', enc: 'A256GCM' })
          .encrypt(new Uint8Array(32)),
    ],
  ])('%s: no tokens are stored, and the received tokens are revoked', async (_, idToken) => {
    const token = await idToken()
    const { answer, revoked, stores } = await acquiring(() => token, 'n-1')
    expect([answer.status, answer.json.code]).toEqual([502, 'ERR_INVALID_TOKEN_RESPONSE'])
    expect(answer.json.message).toMatch(/nonce/)
    expect([revoked(), stores]).toEqual([['refresh 1'], 0])
  })
})

describe('tokens.idTokenClaims', () => {
  it('are nothing without an ID token', async () => {
    const { site } = await siteWith(() => '')
    const tab = site.browser()
    expect((await tab.get('/id-token')).json).toEqual({})
    await tab.post('/login', { access_token: 'access' })
    expect((await tab.get('/id-token')).json).toEqual({})
  })

  it('of a login are those given to set(), without a request', async () => {
    const { tab, endpoint } = await loggedIn(() => '')
    expect((await tab.get('/id-token')).json.claims).toMatchObject(claims({ jti: 'first' }))
    expect(endpoint.requests).toHaveLength(0)
  })
})
