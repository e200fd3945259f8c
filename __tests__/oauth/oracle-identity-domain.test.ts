import { createSecretKey, generateKeyPairSync } from 'node:crypto'
import { afterEach, describe, expect, it } from '@jest/globals'
import { systemClock } from '../../lib/concurrency/clock.js'
import type { AcquireParameters, AuthorizationServer } from '../../lib/oauth/authorization-server.js'
import {
  type ClientAuthentication,
  clientAssertion,
  clientSecretBasic,
  clientSecretJwt,
  clientSecretPost,
  privateKeyJwt,
  publicClient,
} from '../../lib/oauth/client-authentication/client-authentication.js'
import { httpAuthorizationServer } from '../../lib/oauth/http-authorization-server.js'
import {
  type OracleIdentityDomain,
  oracleIdentityDomain,
  type Registration,
} from '../helpers/oracle-identity-domain.js'

const CLIENT_ID = '7d0b6f5e2c'
const SECRET = '0f6a4e0b-7a5e-4d0e-9a40-6a2b1c9d3e5f'
const SCOPE = 'urn:opc:idm:__myscopes__ offline_access'
const { privateKey, publicKey } = generateKeyPairSync('rsa', { modulusLength: 2048 })
const P6_CLIENT_ID = Buffer.from(`${CLIENT_ID}:${SECRET}`).toString('base64')

const authentications: [string, Registration, ClientAuthentication][] = [
  ['a confidential client', { kind: 'confidential', secret: SECRET }, clientSecretBasic(SECRET)],
  ['an assertion signed by a key', { kind: 'assertion', verify: publicKey }, privateKeyJwt(privateKey)],
  [
    'an assertion signed by the secret',
    { kind: 'assertion', verify: createSecretKey(Buffer.from(SECRET)) },
    clientSecretJwt(SECRET),
  ],
  [
    'a ready-made assertion',
    { kind: 'ready-made assertion', assertion: 'ready.made.assertion' },
    clientAssertion(() => 'ready.made.assertion'),
  ],
  [
    'an assertion and Base64 of client_id:client_secret as the client_id',
    { kind: 'assertion', verify: publicKey, formClientId: P6_CLIENT_ID },
    privateKeyJwt(privateKey, { formClientId: P6_CLIENT_ID }),
  ],
  [
    'a ready-made assertion and Base64 of client_id:client_secret as the client_id',
    { kind: 'ready-made assertion', assertion: 'ready.made.assertion', formClientId: P6_CLIENT_ID },
    clientAssertion('ready.made.assertion', { formClientId: P6_CLIENT_ID }),
  ],
  ['a public client', { kind: 'public' }, publicClient()],
]

// Keys in no particular order: the wire has the documented one.
const grants: [string, AcquireParameters][] = [
  [
    'authorization code',
    { redirect_uri: 'https://app.example.com/callback', grant_type: 'authorization_code', code: 'the-code' },
  ],
  [
    'authorization code with PKCE',
    {
      code_verifier: 'dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk',
      code: 'the-code',
      redirect_uri: 'https://app.example.com/callback',
      grant_type: 'authorization_code',
    },
  ],
  [
    'resource owner password',
    { scope: SCOPE, password: 'the-password', username: 'ada@example.com', grant_type: 'password' },
  ],
  [
    'JWT user assertion',
    {
      scope: SCOPE,
      assertion: 'the-assertion',
      grant_type: 'urn:ietf:params:oauth:grant-type:jwt-bearer',
    },
  ],
]

let domain: OracleIdentityDomain

async function server(
  registration: Registration,
  clientAuthentication: ClientAuthentication,
): Promise<AuthorizationServer> {
  domain = await oracleIdentityDomain(CLIENT_ID, registration)
  const { tokenEndpoint } = domain
  return httpAuthorizationServer({
    tokenEndpoint,
    clientId: CLIENT_ID,
    clientAuthentication,
    clock: systemClock,
  })
}

const signal = () => AbortSignal.timeout(10_000)

afterEach(() => domain?.close())

describe.each(authentications)('an Oracle identity domain and %s', (_, registration, authentication) => {
  it.each(grants)('takes the grant before a refresh: %s', async (_, parameters) => {
    const oracle = await server(registration, authentication)
    const acquired = await oracle.acquire(parameters, signal())
    expect(domain.refusals).toEqual([])
    expect(acquired).toMatchObject({ tokenType: 'Bearer', lifetimeMs: 3_600_000 })
    const refreshed = await oracle.refresh(acquired.refreshToken as string, { signal: signal() })
    expect(refreshed.refreshToken).not.toBe(acquired.refreshToken)
  })

  it('takes refresh after refresh, each token once, with a scope and without', async () => {
    const oracle = await server(registration, authentication)
    const first = await oracle.acquire(grants[0]![1], signal())
    const second = await oracle.refresh(first.refreshToken as string, { signal: signal() })
    const third = await oracle.refresh(second.refreshToken as string, { scope: SCOPE, signal: signal() })
    expect(domain.refusals).toEqual([])
    expect(new Set([first, second, third].map(({ refreshToken }) => refreshToken)).size).toBe(3)
  })
})

describe('the stand-in for an Oracle identity domain', () => {
  it('ends the grant when a refresh token is used twice', async () => {
    const oracle = await server({ kind: 'public' }, publicClient())
    const first = await oracle.acquire(grants[0]![1], signal())
    const second = await oracle.refresh(first.refreshToken as string, { signal: signal() })
    const dead = { code: 'ERR_REAUTHENTICATION_REQUIRED', error: 'invalid_grant' }
    await expect(oracle.refresh(first.refreshToken as string, { signal: signal() })).rejects.toMatchObject(
      dead,
    )
    await expect(oracle.refresh(second.refreshToken as string, { signal: signal() })).rejects.toMatchObject(
      dead,
    )
  })

  it.each<[string, Registration, ClientAuthentication, string]>([
    [
      'the secret in the form',
      { kind: 'confidential', secret: SECRET },
      clientSecretPost(SECRET),
      'authorization',
    ],
    ['another secret', { kind: 'confidential', secret: SECRET }, clientSecretBasic('x'), 'authorization'],
    ['no authentication', { kind: 'assertion', verify: publicKey }, publicClient(), 'body'],
    ['Basic by a public client', { kind: 'public' }, clientSecretBasic(SECRET), 'authorization'],
    [
      'an assertion signed by another key',
      { kind: 'assertion', verify: generateKeyPairSync('rsa', { modulusLength: 2048 }).publicKey },
      privateKeyJwt(privateKey),
      'client_assertion',
    ],
    [
      'an assertion for another client',
      { kind: 'assertion', verify: publicKey },
      privateKeyJwt(privateKey, { audience: 'https://else.example.com' }),
      'client_assertion',
    ],
    [
      'a client_id that is not the Base64',
      { kind: 'assertion', verify: publicKey, formClientId: P6_CLIENT_ID },
      privateKeyJwt(privateKey),
      'client_id',
    ],
    [
      'an assertion in another order',
      { kind: 'ready-made assertion', assertion: 'a.b.c' },
      () => ({
        parameters: {
          client_assertion: 'a.b.c',
          client_assertion_type: 'urn:ietf:params:oauth:client-assertion-type:jwt-bearer',
          client_id: CLIENT_ID,
        },
      }),
      'body',
    ],
  ])('refuses %s', async (_, registration, authentication, refusal) => {
    const oracle = await server(registration, authentication)
    await expect(oracle.acquire(grants[0]![1], signal())).rejects.toThrow()
    expect(domain.refusals).toEqual([refusal])
  })

  it('refuses an assertion that it has seen', async () => {
    let assertion = ''
    const signed = privateKeyJwt(privateKey)
    const oracle = await server({ kind: 'assertion', verify: publicKey }, async (request) => {
      assertion ||= (await signed(request)).parameters?.client_assertion ?? ''
      return { parameters: { ...(await signed(request)).parameters, client_assertion: assertion } }
    })
    await oracle.acquire(grants[0]![1], signal())
    await expect(oracle.acquire(grants[0]![1], signal())).rejects.toMatchObject({
      code: 'ERR_CLIENT_REJECTED',
    })
    expect(domain.refusals).toEqual(['jti'])
  })

  it.each<[string, RequestInit, string, string]>([
    ['another method', { method: 'PUT' }, '', 'method'],
    ['another path', {}, '/', 'path'],
    [
      'another content type',
      { headers: { 'content-type': 'application/x-www-form-urlencoded' } },
      '',
      'content-type',
    ],
    ['an Authorization header', { headers: { authorization: 'Basic eDp5' } }, '', 'authorization'],
    [
      'parameters in another order',
      { body: 'refresh_token=r&grant_type=refresh_token&client_id=c' },
      '',
      'body',
    ],
    ['a further parameter', { body: 'grant_type=refresh_token&refresh_token=r&client_id=c&x=y' }, '', 'body'],
    ['a byte too many', { body: 'grant_type=refresh_token&refresh_token=r&client_id=c&' }, '', 'body'],
    [
      'bytes that are not encoded',
      { body: 'grant_type=refresh_token&refresh_token=r/r&client_id=c' },
      '',
      'body',
    ],
    ['another client', { body: 'grant_type=refresh_token&refresh_token=r&client_id=c' }, '', 'client_id'],
    [
      'a refresh token it never issued',
      { body: `grant_type=refresh_token&refresh_token=r&client_id=${CLIENT_ID}` },
      '',
      'grant',
    ],
  ])('refuses %s', async (_, init, suffix, refusal) => {
    await server({ kind: 'public' }, publicClient())
    const headers = { 'content-type': 'application/x-www-form-urlencoded;charset=UTF-8', ...init.headers }
    const body = init.body ?? `grant_type=refresh_token&refresh_token=r&client_id=${CLIENT_ID}`
    const response = await fetch(domain.tokenEndpoint + suffix, { method: 'POST', ...init, body, headers })
    expect(response.status).toBe(400)
    expect(domain.refusals).toEqual([refusal])
  })
})
