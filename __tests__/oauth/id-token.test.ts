import { describe, expect, it } from '@jest/globals'
import { EncryptJWT, UnsecuredJWT } from 'jose'
import { checkFirstIdToken, checkRefreshedIdToken, idTokenClaims } from '../../lib/oauth/id-token.js'

const ISSUER = 'https://idp.example.com'
const expected = { clientId: 'web', issuer: ISSUER }
const idToken = (claims: object = {}) =>
  new UnsecuredJWT({ iss: ISSUER, sub: 'ada', aud: 'web', ...claims }).encode()

/** An ID token for the keys of the app alone. */
const encrypted = await new EncryptJWT({ iss: ISSUER, sub: 'ada', aud: 'web' })
  .setProtectedHeader({ alg: 'dir', enc: 'A256GCM' })
  .encrypt(new Uint8Array(32))
const [header, , iv, ciphertext, tag] = encrypted.split('.')

describe('checkRefreshedIdToken(previous, next, expectation)', () => {
  it.each<[string, string | undefined, string]>([
    ['the same user', idToken(), idToken({ iat: 2 })],
    ['several audiences', idToken(), idToken({ aud: ['api', 'web'] })],
    ['one that has expired, as it may be the login’s', idToken(), idToken({ exp: 1 })],
    ['no ID token before', undefined, idToken()],
    ['one before that cannot be read', 'not a JWT', idToken()],
    [
      'an issuer that is equal to the one before',
      idToken({ iss: 'https://b' }),
      idToken({ iss: 'https://b' }),
    ],
    ['an encrypted one, which nobody here can read', idToken(), encrypted],
    ['an encrypted one, and none before', undefined, encrypted],
    ['an encrypted one after another', encrypted, encrypted],
    ['a readable one after an encrypted one', encrypted, idToken()],
  ])('S49 takes %s', (_, previous, next) => {
    expect(() => checkRefreshedIdToken(previous, next, expected)).not.toThrow()
  })

  it.each<[string, string | undefined, string, RegExp]>([
    ['another sub', idToken(), idToken({ sub: 'eve' }), /another user \(sub\)/],
    ['no sub', idToken(), idToken({ sub: undefined }), /another user \(sub\)/],
    ['another issuer', idToken(), idToken({ iss: 'https://else.example.com' }), /another issuer/],
    [
      'another issuer than configured',
      undefined,
      idToken({ iss: 'https://else.example.com' }),
      /another issuer/,
    ],
    ['another audience', idToken(), idToken({ aud: 'other' }), /not meant for this client/],
    ['several other audiences', idToken(), idToken({ aud: ['a', 'b'] }), /not meant for this client/],
    ['no audience', idToken(), idToken({ aud: undefined }), /not meant for this client/],
    ['garbage', idToken(), 'garbage', /could not be read/],
    ['garbage with dots', idToken(), 'gar.ba.ge', /could not be read/],
    ['garbage of five parts', idToken(), 'gar.ba.ge.of.five', /could not be read/],
    [
      'five parts that are not encrypted',
      idToken(),
      `${idToken().split('.')[0]}..${iv}.${ciphertext}.${tag}`,
      /could not be read/,
    ],
    [
      'an encrypted one of four parts',
      idToken(),
      `${header}.${iv}.${ciphertext}.${tag}`,
      /could not be read/,
    ],
    [
      'another audience, after an encrypted one',
      encrypted,
      idToken({ aud: 'other' }),
      /not meant for this client/,
    ],
  ])('S49 refuses %s', (_, previous, next, why) => {
    const check = () => checkRefreshedIdToken(previous, next, expected)
    expect(check).toThrow(why)
    expect(check).toThrow(expect.objectContaining({ code: 'ERR_INVALID_TOKEN_RESPONSE' }))
  })

  it('takes any issuer when none is known', () => {
    expect(() =>
      checkRefreshedIdToken(undefined, idToken({ iss: 'https://b' }), { clientId: 'web' }),
    ).not.toThrow()
  })
})

describe('checkFirstIdToken(idToken, expectation, now)', () => {
  const NOW = 1_700_000_000_000
  const exp = NOW / 1000 + 300
  const check = (claims: object, expectation: typeof expected | { clientId: string } = expected) =>
    checkFirstIdToken(idToken({ exp, ...claims }), expectation, NOW)

  it.each<[string, object]>([
    ['one for this client', {}],
    ['several audiences', { aud: ['api', 'web'] }],
    ['one that expired less than a minute ago', { exp: NOW / 1000 - 59 }],
  ])('takes %s', (_, claims) => {
    expect(() => check(claims)).not.toThrow()
  })

  it.each<[string, object, RegExp]>([
    ['another issuer', { iss: 'https://else.example.com' }, /another issuer \(iss\)/],
    ['no issuer', { iss: undefined }, /another issuer \(iss\)/],
    ['another audience', { aud: 'other' }, /not meant for this client \(aud\)/],
    ['one that expired a minute ago', { exp: NOW / 1000 - 60 }, /expired \(exp\)/],
    ['one that never expires', { exp: undefined }, /expired \(exp\)/],
  ])('refuses %s', (_, claims, why) => {
    expect(() => check(claims)).toThrow(why)
    expect(() => check(claims)).toThrow(expect.objectContaining({ code: 'ERR_INVALID_TOKEN_RESPONSE' }))
  })

  it('takes any issuer when none is known, and what is encrypted', () => {
    expect(() => check({ iss: 'https://b' }, { clientId: 'web' })).not.toThrow()
    expect(() => checkFirstIdToken(encrypted, expected, NOW)).not.toThrow()
  })

  it('refuses what is no JWT', () => {
    expect(() => checkFirstIdToken('garbage', expected, NOW)).toThrow(/could not be read/)
  })
})

describe('idTokenClaims(idToken)', () => {
  it('are what it says', () => {
    expect(idTokenClaims(idToken({ nonce: 'n' }))).toEqual({
      iss: ISSUER,
      sub: 'ada',
      aud: 'web',
      nonce: 'n',
    })
  })

  it.each([
    ['an encrypted one', encrypted],
    ['what is no JWT', 'garbage'],
  ])('are nothing for %s', (_, text) => {
    expect(idTokenClaims(text)).toBeUndefined()
  })
})
