import { createPrivateKey, createSecretKey, generateKeyPairSync, webcrypto } from 'node:crypto'
import { inspect } from 'node:util'
import { describe, expect, it } from '@jest/globals'
import { decodeJwt, decodeProtectedHeader, jwtVerify } from 'jose'
import { ConfigurationError } from '../../../lib/errors/token-error.js'
import {
  type ClientAuthentication,
  clientAssertion,
  clientSecretBasic,
  clientSecretJwt,
  clientSecretPost,
  privateKeyJwt,
  publicClient,
} from '../../../lib/oauth/client-authentication/client-authentication.js'

const NOW = Date.parse('2024-06-01T12:00:00.900Z')
const TOKEN_ENDPOINT = 'https://idp.example.com/token'
const REQUEST = { clientId: 'web', tokenEndpoint: TOKEN_ENDPOINT, endpoint: TOKEN_ENDPOINT, now: NOW }
const ASSERTION_TYPE = 'urn:ietf:params:oauth:client-assertion-type:jwt-bearer'

const rsa = generateKeyPairSync('rsa', { modulusLength: 2048 })
const ec = generateKeyPairSync('ec', { namedCurve: 'P-256' })
const p384 = generateKeyPairSync('ec', { namedCurve: 'P-384' })
const ed25519 = generateKeyPairSync('ed25519')
const pem = rsa.privateKey.export({ type: 'pkcs8', format: 'pem' }) as string

async function assertionOf(authentication: ClientAuthentication, request = {}): Promise<string> {
  const { parameters } = await authentication({ ...REQUEST, ...request })
  return parameters?.client_assertion as string
}

describe('clientSecretBasic(secret, options?)', () => {
  // Decoded by hand from RFC 6749 §2.3.1: form-encoded first, joined by a colon, then Base64.
  it.each([
    ['plain', 'web', 's3cret', 'web:s3cret'],
    ['a colon', 'we:b', 's:3', 'we%3Ab:s%3A3'],
    ['a plus', 'we+b', 's+3', 'we%2Bb:s%2B3'],
    ['a percent sign', 'we%b', 's%20', 'we%25b:s%2520'],
    ['a slash', 'we/b', 's/3', 'we%2Fb:s%2F3'],
    ['a space', 'we b', 's 3', 'we+b:s+3'],
    ['an umlaut', 'weäb', 'sä3', 'we%C3%A4b:s%C3%A43'],
    ['unreserved characters', 'a-b_c.d', 'a*b', 'a-b_c.d:a*b'],
  ])('S50 sends %s form-encoded', async (_, clientId, secret, decoded) => {
    const { headers, parameters } = await clientSecretBasic(secret)({ ...REQUEST, clientId })
    expect(headers).toEqual({ Authorization: `Basic ${Buffer.from(decoded).toString('base64')}` })
    expect(parameters).toBeUndefined()
  })

  it.each([
    ['a percent sign, a plus and a slash', 'we%+/b', 's%+/:3'],
    ['an umlaut and a space', 'weä b', 'sä 3'],
  ])('S50 sends %s as it is, with formEncode: false', async (_, clientId, secret) => {
    const { headers } = await clientSecretBasic(secret, { formEncode: false })({ ...REQUEST, clientId })
    const sent = headers?.Authorization?.replace('Basic ', '') as string
    expect(Buffer.from(sent, 'base64').toString()).toBe(`${clientId}:${secret}`)
  })

  it('S50 refuses a client id with a colon that would not be encoded', () => {
    const authentication = clientSecretBasic('s', { formEncode: false })
    expect(() => authentication({ ...REQUEST, clientId: 'we:b' })).toThrow(ConfigurationError)
  })
})

describe.each<[string, (secret: string | undefined) => unknown]>([
  ['clientSecretBasic', clientSecretBasic],
  ['clientSecretPost', clientSecretPost],
  ['clientSecretJwt', clientSecretJwt],
])('%s(secret)', (name, factory) => {
  it.each<[string, unknown, RegExp]>([
    ['undefined', undefined, /got undefined\. Is the environment variable set/],
    ['empty', '', /got an empty string/],
    ['a number', 8712364, /got a number/],
  ])('refuses a secret that is %s', (_, secret, cure) => {
    const make = () => factory(secret as string)
    expect(make).toThrow(ConfigurationError)
    expect(make).toThrow(cure)
    expect(make).toThrow(name)
    expect(make).not.toThrow(/8712364/)
  })
})

describe('clientSecretPost(secret)', () => {
  it('sends both in the form', async () => {
    const { headers, parameters } = await clientSecretPost('s ä')(REQUEST)
    expect(Object.entries(parameters ?? {})).toEqual([
      ['client_id', 'web'],
      ['client_secret', 's ä'],
    ])
    expect(headers).toBeUndefined()
  })
})

describe('publicClient()', () => {
  it('sends the client id alone', async () => {
    expect(await publicClient()(REQUEST)).toEqual({ parameters: { client_id: 'web' } })
  })
})

describe('clientSecretJwt(secret, options?)', () => {
  it.each([
    ['HS256 by default', undefined, 'HS256'],
    ['HS512 by option', 'HS512' as const, 'HS512'],
  ])('signs with the secret by %s', async (_, alg, expected) => {
    const assertion = await assertionOf(clientSecretJwt('s3cret ä', alg && { alg }))
    const { protectedHeader } = await jwtVerify(assertion, createSecretKey(Buffer.from('s3cret ä')), {
      currentDate: new Date(NOW),
    })
    expect(protectedHeader).toEqual({ alg: expected })
  })

  it('refuses another alg', () => {
    const options = { alg: 'RS256' as 'HS256' }
    expect(() => clientSecretJwt('s', options)).toThrow(
      "`alg` must be 'HS256', 'HS384' or 'HS512', or left out.",
    )
  })
})

describe('privateKeyJwt(key, options?)', () => {
  it('sends client_id, client_assertion_type and client_assertion', async () => {
    const { headers, parameters } = await privateKeyJwt(rsa.privateKey)(REQUEST)
    expect(headers).toBeUndefined()
    expect(Object.entries(parameters ?? {})).toEqual([
      ['client_id', 'web'],
      ['client_assertion_type', ASSERTION_TYPE],
      ['client_assertion', expect.stringMatching(/^[\w-]+\.[\w-]+\.[\w-]+$/)],
    ])
  })

  it('has the claims that RFC 7523 §3 requires', async () => {
    const claims = decodeJwt(await assertionOf(privateKeyJwt(rsa.privateKey)))
    const iat = Math.floor(NOW / 1000)
    expect(claims).toEqual({
      iss: 'web',
      sub: 'web',
      aud: TOKEN_ENDPOINT,
      iat,
      exp: iat + 60,
      jti: expect.stringMatching(/^[\da-f-]{36}$/),
    })
  })

  it.each<[string, object, object, string]>([
    ['the token endpoint', {}, {}, TOKEN_ENDPOINT],
    [
      'the token endpoint, also elsewhere',
      {},
      { endpoint: 'https://idp.example.com/revoke' },
      TOKEN_ENDPOINT,
    ],
    ['the issuer when it is known', {}, { issuer: 'https://idp.example.com' }, 'https://idp.example.com'],
    [
      'the one in the options',
      { audience: 'https://aud' },
      { issuer: 'https://idp.example.com' },
      'https://aud',
    ],
  ])('addresses %s', async (_, options, request, audience) => {
    expect(decodeJwt(await assertionOf(privateKeyJwt(rsa.privateKey, options), request)).aud).toBe(audience)
  })

  it('takes a lifetime, and a fresh jti each time', async () => {
    const authentication = privateKeyJwt(rsa.privateKey, { lifetimeMs: 5000 })
    const [one, other] = [
      decodeJwt(await assertionOf(authentication)),
      decodeJwt(await assertionOf(authentication)),
    ]
    expect((one.exp as number) - (one.iat as number)).toBe(5)
    expect(one.jti).not.toBe(other.jti)
  })

  it.each<[string, Parameters<typeof privateKeyJwt>, object, Parameters<typeof jwtVerify>[1]]>([
    ['an RSA KeyObject', [rsa.privateKey], { alg: 'RS256' }, rsa.publicKey],
    ['an RSA KeyObject and alg', [rsa.privateKey, { alg: 'PS512' }], { alg: 'PS512' }, rsa.publicKey],
    ['an EC KeyObject', [ec.privateKey], { alg: 'ES256' }, ec.publicKey],
    ['another curve', [p384.privateKey], { alg: 'ES384' }, p384.publicKey],
    ['an Ed25519 KeyObject', [ed25519.privateKey], { alg: 'EdDSA' }, ed25519.publicKey],
    [
      'a PEM string, alg and kid',
      [pem, { alg: 'RS384', kid: 'k1' }],
      { alg: 'RS384', kid: 'k1' },
      rsa.publicKey,
    ],
    [
      'a JWK with alg and kid',
      [{ ...rsa.privateKey.export({ format: 'jwk' }), kty: 'RSA', alg: 'PS256', kid: 'k2' }],
      { alg: 'PS256', kid: 'k2' },
      rsa.publicKey,
    ],
    [
      'a JWK whose alg and kid are overridden',
      [
        { ...rsa.privateKey.export({ format: 'jwk' }), kty: 'RSA', alg: 'PS256', kid: 'k2' },
        { alg: 'RS256', kid: 'k3' },
      ],
      { alg: 'RS256', kid: 'k3' },
      rsa.publicKey,
    ],
    [
      'an EC JWK',
      [{ ...ec.privateKey.export({ format: 'jwk' }), kty: 'EC' }],
      { alg: 'ES256' },
      ec.publicKey,
    ],
  ])('signs with %s', async (_, [key, options], header, publicKey) => {
    const assertion = await assertionOf(privateKeyJwt(key, options))
    const { protectedHeader } = await jwtVerify(assertion, publicKey as never, { currentDate: new Date(NOW) })
    expect(protectedHeader).toEqual(header)
  })

  it.each<[string, webcrypto.RsaHashedImportParams | webcrypto.EcKeyImportParams, string, string]>([
    ['an RSA CryptoKey', { name: 'RSASSA-PKCS1-v1_5', hash: 'SHA-512' }, pem, 'RS512'],
    ['an RSA-PSS CryptoKey', { name: 'RSA-PSS', hash: 'SHA-256' }, pem, 'PS256'],
    [
      'an EC CryptoKey',
      { name: 'ECDSA', namedCurve: 'P-256' },
      ec.privateKey.export({ type: 'pkcs8', format: 'pem' }) as string,
      'ES256',
    ],
  ])('signs with %s', async (_, algorithm, source, alg) => {
    const der = createPrivateKey(source).export({ type: 'pkcs8', format: 'der' })
    const key = await webcrypto.subtle.importKey('pkcs8', der, algorithm, false, ['sign'])
    expect(decodeProtectedHeader(await assertionOf(privateKeyJwt(key)))).toEqual({ alg })
  })

  it.each<[string, unknown, object, RegExp]>([
    ['nothing', undefined, {}, /Give a private key as a CryptoKey/],
    ['a secret', createSecretKey(Buffer.from('topsecret')), {}, /got a secret key/],
    ['a public KeyObject', rsa.publicKey, {}, /got a public key/],
    ['a public JWK', rsa.publicKey.export({ format: 'jwk' }), {}, /without the private part/],
    ['a broken JWK', { kty: 'RSA', n: 'topsecret', e: 'AQAB', d: 'topsecret' }, {}, /could not read the key/],
    ['an oct JWK', { kty: 'oct', k: 'topsecret' }, {}, /without the private part/],
    ['a string that is no PEM', 'topsecret', {}, /could not read the key.*PKCS#8 PEM/],
    ['an encrypted PEM', encryptedPem(), {}, /createPrivateKey\(\{ key, passphrase \}\)/],
    ['a short RSA key', generateKeyPairSync('rsa', { modulusLength: 1024 }).privateKey, {}, /1024 bits/],
    ['an X25519 key', generateKeyPairSync('x25519').privateKey, {}, /Use an RSA, EC or Ed25519 key/],
    [
      'an alg that the key does not fit',
      rsa.privateKey,
      { alg: 'ES256' },
      /cannot sign with alg "ES256".*RS256/,
    ],
    ['the alg none', rsa.privateKey, { alg: 'none' }, /cannot sign with alg "none"/],
    ['a lifetime of 0', rsa.privateKey, { lifetimeMs: 0 }, /lifetimeMs/],
    ['a lifetime that is no number', rsa.privateKey, { lifetimeMs: '60' }, /lifetimeMs/],
    ['an empty audience', rsa.privateKey, { audience: '' }, /audience/],
    ['an empty formClientId', rsa.privateKey, { formClientId: '' }, /formClientId/],
  ])('refuses %s, and says what to give', (_, key, options, cure) => {
    const make = () => privateKeyJwt(key as string, options)
    expect(make).toThrow(ConfigurationError)
    expect(make).toThrow(cure)
    expect(make).toThrow(/^(privateKeyJwt: .*|`\w+` must be .*, e\.g\. .*)\.$/)
    const thrown = thrownBy(make)
    expect(inspect(thrown, { depth: 20 }) + JSON.stringify(thrown)).not.toContain('topsecret')
  })

  it('refuses a CryptoKey that may not sign', async () => {
    const pair = await webcrypto.subtle.generateKey({ name: 'ECDH', namedCurve: 'P-256' }, false, [
      'deriveBits',
    ])
    expect(() => privateKeyJwt(pair.privateKey)).toThrow(/usage 'sign'/)
    const { publicKey } = await webcrypto.subtle.generateKey({ name: 'ECDSA', namedCurve: 'P-256' }, false, [
      'sign',
      'verify',
    ])
    expect(() => privateKeyJwt(publicKey)).toThrow(/got a public CryptoKey/)
  })
})

describe('clientAssertion(jwt, options?)', () => {
  it.each<[string, Parameters<typeof clientAssertion>[0]]>([
    ['a JWT', 'a.b.c'],
    ['a JWT with a line end, as read from a file', 'a.b.c\n'],
    ['a function', () => 'a.b.c'],
    ['an async function', async () => 'a.b.c'],
  ])('sends %s', async (_, jwt) => {
    const { parameters } = await clientAssertion(jwt)(REQUEST)
    expect(Object.entries(parameters ?? {})).toEqual([
      ['client_id', 'web'],
      ['client_assertion_type', ASSERTION_TYPE],
      ['client_assertion', 'a.b.c'],
    ])
  })

  it('asks the function for each request', async () => {
    let count = 0
    const authentication = clientAssertion(() => `a.b.${++count}`)
    expect([await assertionOf(authentication), await assertionOf(authentication)]).toEqual(['a.b.1', 'a.b.2'])
  })

  it.each<[string, unknown]>([
    ['nothing', undefined],
    ['an empty string', ''],
    ['blanks', ' \n'],
    ['a number', 1],
  ])('refuses %s', (_, jwt) => {
    expect(() => clientAssertion(jwt as string)).toThrow(ConfigurationError)
  })

  it('refuses a function that returns nothing', async () => {
    await expect(assertionOf(clientAssertion(() => ''))).rejects.toThrow(ConfigurationError)
  })
})

describe('an unknown option of a client authentication', () => {
  it.each<[string, (options: object) => ClientAuthentication, object, string]>([
    ['clientSecretBasic', (options) => clientSecretBasic('s', options), { formencode: false }, 'formEncode'],
    ['clientSecretJwt', (options) => clientSecretJwt('s', options), { lifeTimeMs: 1_000 }, 'lifetimeMs'],
    ['privateKeyJwt', (options) => privateKeyJwt(ec.privateKey, options), { keyId: 'k' }, 'kid'],
    [
      'clientAssertion',
      (options) => clientAssertion('a.b.c', options),
      { formClientID: 'x' },
      'formClientId',
    ],
  ])('%s() refuses an unknown option, and names the known ones', (name, make, wrong, right) => {
    expect(() => make(wrong)).toThrow(ConfigurationError)
    expect(() => make(wrong)).toThrow(`${name}() has no option \`${Object.keys(wrong)[0]}\`. `)
    expect(() => make(wrong)).toThrow(new RegExp(`${right}`))
    expect(() => make('x' as never)).toThrow(`The options of ${name}() must be an object of `)
  })
})

describe.each<[string, ClientAuthentication]>([
  ['clientSecretJwt', clientSecretJwt('s', { formClientId: 'other' })],
  ['privateKeyJwt', privateKeyJwt(ec.privateKey, { formClientId: 'other' })],
  ['clientAssertion', clientAssertion('a.b.c', { formClientId: 'other' })],
])('%s(…, { formClientId })', (name, authentication) => {
  it('sends another client_id in the form, and keeps it a secret', async () => {
    const { parameters, secrets } = await authentication(REQUEST)
    expect(parameters?.client_id).toBe('other')
    expect(secrets).toContain('other')
    if (name !== 'clientAssertion') expect(decodeJwt(parameters?.client_assertion as string).sub).toBe('web')
  })
})

function encryptedPem(): string {
  const { privateKey } = generateKeyPairSync('ec', {
    namedCurve: 'P-256',
    privateKeyEncoding: { type: 'pkcs8', format: 'pem', cipher: 'aes-256-cbc', passphrase: 'topsecret' },
    publicKeyEncoding: { type: 'spki', format: 'pem' },
  })
  return privateKey
}

function thrownBy(run: () => unknown): unknown {
  try {
    return run()
  } catch (error) {
    return error
  }
}
