import { createPublicKey, generateKeyPairSync, type JsonWebKey, X509Certificate } from 'node:crypto'
import { describe, expect, it, jest } from '@jest/globals'
import { decodeProtectedHeader, jwtVerify } from 'jose'
import {
  type ClientAuthentication,
  clientSecretBasic,
  clientSecretJwt,
  clientSecretPost,
  privateKeyJwt,
} from '../../../lib/oauth/client-authentication/client-authentication.js'
import { tlsClientAuth } from '../../../lib/oauth/client-authentication/tls-client.js'
import { certificate } from '../../helpers/certificate.js'

const TOKEN_ENDPOINT = 'https://idp.example.com/token'
const jwk = (kid: string): JsonWebKey & { kid: string } => {
  const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  return { ...privateKey.export({ format: 'jwk' }), kid }
}
const authenticate = (authentication: ClientAuthentication, now: number, onSecretFailed = () => {}) =>
  authentication({
    clientId: 'web',
    tokenEndpoint: TOKEN_ENDPOINT,
    endpoint: TOKEN_ENDPOINT,
    now,
    onSecretFailed,
  })
const basic = (secret: string) => `Basic ${Buffer.from(`web:${secret}`).toString('base64')}`

/** Whether an assertion is signed with a secret or a key. */
async function expectSigned(jwt: string | undefined, key: Parameters<typeof jwtVerify>[1]): Promise<void> {
  await jwtVerify(jwt as string, key, { currentDate: new Date(decodeTime(jwt as string)) })
}
const decodeTime = (jwt: string) =>
  (JSON.parse(Buffer.from(jwt.split('.')[1]!, 'base64url').toString()) as { iat: number }).iat * 1000

describe('a function in place of a secret', () => {
  it('clientSecretBasic(), clientSecretPost(), clientSecretJwt(): the secret of the moment, a minute later at most', async () => {
    const [first, second] = ['one'.repeat(11), 'two'.repeat(11)]
    let current = first
    const [ofBasic, post, ofJwt] = [clientSecretBasic, clientSecretPost, clientSecretJwt].map((factory) =>
      factory(() => current),
    ) as [ClientAuthentication, ClientAuthentication, ClientAuthentication]
    for (const [secret, now] of [
      [first, 0],
      [first, 59_999],
      [second, 60_000],
    ] as const) {
      expect((await authenticate(ofBasic, now)).headers).toEqual({ Authorization: basic(secret) })
      expect((await authenticate(post, now)).parameters).toMatchObject({ client_secret: secret })
      const { parameters, secrets } = await authenticate(ofJwt, now)
      await expectSigned(parameters?.client_assertion, Buffer.from(secret))
      expect(secrets).toEqual([secret])
      current = second
    }
  })

  it('privateKeyJwt(): the key of the moment, by its kid', async () => {
    const keys = [jwk('first'), jwk('second')]
    const authentication = privateKeyJwt(async () => keys[0])
    for (const now of [0, 60_000]) {
      const { parameters } = await authenticate(authentication, now)
      const [key] = keys
      expect(decodeProtectedHeader(parameters!.client_assertion!)).toEqual({ alg: 'ES256', kid: key!.kid })
      await expectSigned(parameters?.client_assertion, createPublicKey({ key: key!, format: 'jwk' }))
      keys.shift()
    }
  })

  it('tlsClientAuth(): the certificate of the moment', async () => {
    const certificates = [certificate(), certificate()]
    const authentication = tlsClientAuth(() => certificates[0])
    for (const now of [0, 60_000]) {
      const sent = (await authenticate(authentication, now)).certificate!
      expect(new X509Certificate(sent.cert).raw).toEqual(new X509Certificate(certificates[0]!.cert).raw)
      certificates.shift()
    }
  })

  it.each<[string, () => string | undefined]>([
    [
      'fails',
      () => {
        throw new Error('hush-hush')
      },
    ],
    ['returns nothing', () => undefined],
    ['returns an empty text', () => ''],
  ])('a function that %s: the last secret, and the failure is told without a secret', async (_, fail) => {
    let read: () => string | undefined = () => 'the first secret'
    const authentication = clientSecretBasic(() => read())
    await authenticate(authentication, 0)
    read = fail
    const told = jest.fn()
    const { secrets } = await authenticate(authentication, 60_000, told)
    expect(secrets).toContain('the first secret')
    expect(told.mock.calls).toEqual([
      [expect.objectContaining({ code: 'ERR_TOKEN_ENDPOINT_UNAVAILABLE', retryable: true }), true],
    ])
    const error = told.mock.calls[0]![0] as Error
    expect(`${error.stack}${(error.cause as Error).stack}`).not.toMatch(/hush|first secret/)
  })

  it.each<[string, (read: () => string) => ClientAuthentication]>([
    ['clientSecretBasic', clientSecretBasic],
    ['privateKeyJwt', privateKeyJwt],
    ['tlsClientAuth', (read) => tlsClientAuth(read as never)],
  ])('%s() names itself when its function fails at once', async (name, factory) => {
    const authentication = factory(() =>
      'neither key nor certificate'.slice(0, name === 'clientSecretBasic' ? 0 : undefined),
    )
    await expect(authenticate(authentication, 0)).rejects.toMatchObject({
      code: 'ERR_TOKEN_ENDPOINT_UNAVAILABLE',
      message: expect.stringMatching(new RegExp(`^${name}: the function .* Nothing was sent`)),
      cause: expect.objectContaining({ code: 'ERR_CONFIGURATION' }),
    })
  })
})
