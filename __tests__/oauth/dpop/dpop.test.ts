import { createHash, generateKeyPairSync, webcrypto } from 'node:crypto'
import { describe, expect, it } from '@jest/globals'
import { decodeJwt, decodeProtectedHeader, EmbeddedJWK, jwtVerify } from 'jose'
import { publicClient, type SessionTokensOptions, sessionTokens } from '../../../lib/index.js'
import { boundResponse } from '../../../lib/oauth/dpop/bound-response.js'
import { Dpop } from '../../../lib/oauth/dpop/dpop.js'
import { type GivenDpopKey, givenDpopKey, newDpopKey, thumbprintOf } from '../../../lib/oauth/dpop/keys.js'
import { Nonces } from '../../../lib/oauth/dpop/nonces.js'
import { digestOf } from '../../../lib/tokens/grant-proof.js'

const dpop = (now = () => Date.now()) =>
  new Dpop({ alg: 'ES256', bearer: 'refuse' }, { now, onClockOff: () => {} })
/** A response with these headers. */
const response = (headers: Record<string, string>) => ({ header: (name: string) => headers[name] })

describe('the examples of RFC 9449', () => {
  it('the `ath` of §7.1', () => {
    const token = 'Kz~8mXK1EalYznwH-LC-1fBAo.4Ljp~zsPE_NeO.gxU'
    expect(digestOf(token)).toBe('fUHyO2r2Z3DZ53EsNrWBb0xWXoaNy59IiKCAqksmQEo')
  })

  it('the thumbprint of §6.1', async () => {
    const jwk = {
      kty: 'EC',
      alg: 'ES256',
      d: 'of the example only the public part is known',
      x: 'l8tFrhx-34tV3hRICRDY9zCkDlpBhF42UQUfWVAWBFs',
      y: '9VE4jf_Ok_o64zbTTlcuNJajHmt6v9TDVrU0CdvGRDA',
      crv: 'P-256',
    }
    expect(await thumbprintOf(jwk)).toBe('0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I')
  })

  it('the members of §4.2, with the method and the URL of §4.1', async () => {
    const key = await newDpopKey('ES256')
    const proof = await dpop(() => 1_562_262_616_000)
      .forServer(key)
      .proof('POST', 'https://server.example.com/token')
    const { payload, protectedHeader } = await jwtVerify(proof, EmbeddedJWK)
    expect(protectedHeader).toEqual({
      typ: 'dpop+jwt',
      alg: 'ES256',
      jwk: { kty: 'EC', crv: 'P-256', x: key.x, y: key.y },
    })
    expect(payload).toEqual({
      jti: expect.stringMatching(/^[\da-f-]{36}$/),
      htm: 'POST',
      htu: 'https://server.example.com/token',
      iat: 1562262616,
    })
  })
})

describe('proof(method, url)', () => {
  it.each([
    ['https://api.example.com/orders?a=1#b', 'https://api.example.com/orders'],
    ['https://user:password@api.example.com:443/', 'https://api.example.com/'],
    ['https://API.example.com:8443/a/../b%2Fc', 'https://api.example.com:8443/b%2Fc'],
  ])('of %s is for %s', async (url, htu) => {
    const proof = await dpop()
      .forApi(await newDpopKey('ES256'), 'token')
      .proof('GET', url)
    expect(decodeJwt(proof)).toMatchObject({
      htu,
      ath: createHash('sha256').update('token').digest('base64url'),
    })
  })

  it('has the newest nonce of the origin, and an API has others than an authorization server', async () => {
    const key = await newDpopKey('EdDSA')
    const source = dpop()
    const ofApi = source.forApi(key, 'token')
    const url = 'https://one.example.com/a'
    expect(ofApi.learn(url, response({}))).toBe(false)
    for (const nonce of ['first', 'second'])
      expect(ofApi.learn(url, response({ 'dpop-nonce': nonce }))).toBe(true)
    const nonceIn = async (proofs: typeof ofApi, at: string) => decodeJwt(await proofs.proof('GET', at)).nonce
    expect(await nonceIn(source.forApi(key, 'token'), 'https://one.example.com/b')).toBe('second')
    expect(await nonceIn(source.forApi(key, 'token'), 'https://two.example.com/a')).toBeUndefined()
    expect(await nonceIn(source.forServer(key), url)).toBeUndefined()
    await ofApi.proof('GET', url)
    expect(ofApi.learn(url, response({ 'dpop-nonce': 'second' }))).toBe(false)
  })
})

describe('Nonces', () => {
  it('hold the newest nonce of each of 1,000 origins', () => {
    const nonces = new Nonces()
    for (let at = 0; at < 1_001; at++) nonces.keep(`https://${at}.example.com`, `nonce-${at}`)
    expect(nonces.of('https://0.example.com')).toBeUndefined()
    expect(nonces.of('https://1.example.com')).toBe('nonce-1')
    nonces.keep('https://1.example.com', 'newer')
    nonces.keep('https://another.example.com', 'x')
    expect(nonces.of('https://1.example.com')).toBe('newer')
    expect(nonces.of('https://2.example.com')).toBeUndefined()
  })

  it.each(['', 'with space', 'quo"te', 'x'.repeat(1_025)])('keep nothing that is no nonce: %j', (nonce) => {
    const nonces = new Nonces()
    nonces.keep('https://one.example.com', nonce)
    expect(nonces.of('https://one.example.com')).toBeUndefined()
  })
})

describe('givenDpopKey(key)', () => {
  const ec = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  const rsa = generateKeyPairSync('rsa', { modulusLength: 2048 })
  const ed = generateKeyPairSync('ed25519')
  const small = generateKeyPairSync('rsa', { modulusLength: 1024 })
  const pair = (name: string, extractable = true) =>
    webcrypto.subtle.generateKey({ name, namedCurve: 'P-384' }, extractable, ['sign', 'verify'])

  it.each<[string, () => unknown, string]>([
    ['a pair of KeyObjects', () => ec, 'ES256'],
    ['a KeyObject', () => ec.privateKey, 'ES256'],
    ['a JWK', () => ed.privateKey.export({ format: 'jwk' }), 'EdDSA'],
    ['an RSA key', () => rsa, 'PS256'],
    [
      'a JWK with its algorithm',
      () => ({ ...rsa.privateKey.export({ format: 'jwk' }), alg: 'RS256' }),
      'RS256',
    ],
    ['a CryptoKeyPair', () => pair('ECDSA'), 'ES384'],
  ])('takes %s', async (_, make, alg) => {
    const key = await givenDpopKey((await make()) as GivenDpopKey)
    expect(key.alg).toBe(alg)
    expect(
      decodeProtectedHeader(await dpop().forServer(key).proof('POST', 'https://a.example/')),
    ).toMatchObject({ alg })
  })

  it.each<[string, () => unknown, RegExp]>([
    ['a public key', () => ec.publicKey, /not a private key/],
    ['a public JWK', () => ec.publicKey.export({ format: 'jwk' }), /no private part/],
    ['a small RSA key', () => small, /fewer than 2048 bits/],
    ['a text', () => 'key', /is no key/],
    ['a curve that no proof is signed with', () => generateKeyPairSync('x25519'), /of a kind/],
    ['a key that cannot be exported', () => pair('ECDSA', false), /extractable/],
    [
      'a broken JWK',
      () => ({ kty: 'EC', crv: 'P-256', x: 'x', y: 'y', d: 'secret-d' }),
      /cannot be imported/,
    ],
  ])('refuses %s', async (_, make, message) => {
    const error = await givenDpopKey((await make()) as GivenDpopKey).catch((error: unknown) => error)
    expect(error).toMatchObject({ code: 'ERR_CONFIGURATION', message: expect.stringMatching(message) })
    expect(String((error as Error).stack)).not.toContain('secret-d')
  })
})

describe('boundResponse(response)', () => {
  const accessToken = 'at'
  const check = (tokenType?: string, acceptsBearer = false, refreshToken?: string) =>
    boundResponse(
      { accessToken, ...(tokenType && { tokenType }), ...(refreshToken && { refreshToken }) },
      acceptsBearer,
      () => 'The token endpoint',
    )

  it.each(['DPoP', 'dpop', 'DPOP'])('takes the type %s, without an expiry too', (tokenType) => {
    expect(check(tokenType)).toEqual({ accessToken, tokenType: 'DPoP' })
  })

  it.each([undefined, 'Bearer', 'bearer', 'MAC'])(
    'refuses the type %s, and keeps the new refresh token',
    (type) => {
      expect(() => check(type)).toThrow(/not bound to the key/)
      expect(check(type, false, 'rt')).toMatchObject({
        refreshToken: 'rt',
        error: { code: 'ERR_INVALID_TOKEN_RESPONSE' },
      })
    },
  )

  it('accepts a bearer token where the app does, and no other type', () => {
    expect(check('bearer', true)).toMatchObject({ tokenType: 'bearer' })
    expect(check(undefined, true)).toEqual({ accessToken })
    expect(() => check('MAC', true)).toThrow(/not bound/)
  })
})

describe('the option dpop', () => {
  const options = (given: object) =>
    ({
      issuer: 'https://idp.example.com',
      clientId: 'web',
      clientAuthentication: publicClient(),
      encryptionKeys: ['k1Vn0TnAW9mIAF4bR0a5Wm8p2m3JZrWQ3xv3m5eVx2s='],
      ...given,
    }) as SessionTokensOptions

  it.each([true, false, {}, { alg: 'EdDSA' }, { alg: 'PS256', bearer: 'accept' }])('takes %j', (value) => {
    expect(() => sessionTokens(options({ dpop: value }))).not.toThrow()
  })

  it.each<[object, RegExp]>([
    [{ dpop: true, encryptionKeys: false }, /`dpop` needs `encryptionKeys`/],
    [{ dpop: true, encryptionKeys: undefined }, /`dpop` needs `encryptionKeys`/],
    [{ dpop: 'ES256' }, /`dpop` must be true, or an object/],
    [{ dpop: { alg: 'RS256' } }, /`alg` must be 'ES256', 'EdDSA' or 'PS256'/],
    [{ dpop: { algorithm: 'ES256' } }, /no option `algorithm`/],
    [{ dpop: { bearer: 'allow' } }, /`bearer` must be 'refuse' or 'accept'/],
    [{ dpop: true, authorizationScheme: 'Bearer' }, /contradicts `dpop`/],
    [{ dpop: true, adopt: () => undefined }, /does not go with `adopt`/],
  ])('refuses %j', (given, message) => {
    expect(() => sessionTokens(options(given))).toThrow(message)
  })
})
