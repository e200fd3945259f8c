import { describe, expect, it } from '@jest/globals'
import { EncryptJWT, UnsecuredJWT } from 'jose'
import { isEncrypted } from '../../../lib/oauth/id-token/encrypted.js'
import {
  checkFirstIdToken,
  checkRefreshedIdToken,
  differentSubjects,
  futureIdToken,
  idTokenClaims,
  subjectOf,
  unreadableIdToken,
} from '../../../lib/oauth/id-token/id-token.js'

const ISSUER = 'https://idp.example.com'
const expected = { clientId: 'web', issuer: ISSUER }
const idToken = (claims: object = {}) =>
  new UnsecuredJWT({ iss: ISSUER, sub: 'ada', aud: 'web', ...claims }).encode()

/** An ID token for the keys of the app alone. */
const encrypted = await new EncryptJWT({ iss: ISSUER, sub: 'ada', aud: 'web' })
  .setProtectedHeader({ alg: 'dir', enc: 'A256GCM' })
  .encrypt(new Uint8Array(32))
const [header, , iv, ciphertext, tag] = encrypted.split('.')

const known = (token: string | undefined, subject?: string) => ({
  ...(token !== undefined && { idToken: token }),
  ...(subject !== undefined && { subject }),
})

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
    ['an encrypted one, which the app alone can read', idToken(), encrypted],
    ['an encrypted one, and none before', undefined, encrypted],
    ['an encrypted one after another', encrypted, encrypted],
    ['a readable one after an encrypted one', encrypted, idToken()],
    ['one that was issued to this client', idToken(), idToken({ azp: 'web' })],
    ['one with null in place of no azp', idToken(), idToken({ azp: null })],
    ['one with an empty azp', idToken(), idToken({ azp: '' })],
    ['one after one that names no user', idToken({ sub: undefined }), idToken()],
    ['one from the future, whose time is checked elsewhere', idToken(), idToken({ iat: 9e12 })],
    ['a text that is no JWT, and claims no other user', idToken(), 'garbage'],
  ])('S49 takes %s', (_, previous, next) => {
    expect(() => checkRefreshedIdToken(known(previous), next, expected)).not.toThrow()
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
    ['no sub, and none before', undefined, idToken({ sub: undefined }), /\(sub\)/],
    ['an empty sub', undefined, idToken({ sub: '' }), /\(sub\)/],
    ['a sub that is no text', undefined, idToken({ sub: 7 }), /\(sub\)/],
    ['one that was issued to another client', idToken(), idToken({ azp: 'app' }), /another client \(azp\)/],
    [
      'one for several that was issued to another',
      idToken(),
      idToken({ aud: ['web', 'app'], azp: 'app' }),
      /\(azp\)/,
    ],
    [
      'another audience, after an encrypted one',
      encrypted,
      idToken({ aud: 'other' }),
      /not meant for this client/,
    ],
  ])('S49 refuses %s', (_, previous, next, why) => {
    const check = () => checkRefreshedIdToken(known(previous), next, expected)
    expect(check).toThrow(why)
    expect(check).toThrow(expect.objectContaining({ code: 'ERR_INVALID_TOKEN_RESPONSE' }))
  })

  const ada = subjectOf(idToken())

  it('S49 remembers the user of the last readable one, beside an encrypted one', () => {
    const check = (next: string) => () => checkRefreshedIdToken(known(encrypted, ada), next, expected)
    expect(check(idToken({ iat: 2 }))).not.toThrow()
    expect(check(encrypted)).not.toThrow()
    expect(check(idToken({ sub: 'eve' }))).toThrow(/another user \(sub\)/)
    expect(check(idToken({ iss: 'https://else.example.com' }))).toThrow(/another issuer \(iss\)/)
  })

  it('S49 prefers a readable ID token to the remembered user', () => {
    const eve = idToken({ sub: 'eve' })
    expect(() => checkRefreshedIdToken(known(eve, ada), eve, expected)).not.toThrow()
  })

  it('takes any issuer when none is known', () => {
    expect(() => checkRefreshedIdToken({}, idToken({ iss: 'https://b' }), { clientId: 'web' })).not.toThrow()
  })
})

describe('unreadableIdToken(idToken)', () => {
  it.each<[string, string, boolean]>([
    ['garbage', 'garbage', true],
    ['garbage with dots', 'gar.ba.ge', true],
    ['garbage of five parts', 'gar.ba.ge.of.five', true],
    ['five parts that are not encrypted', `${idToken().split('.')[0]}..${iv}.${ciphertext}.${tag}`, true],
    ['an encrypted one of four parts', `${header}.${iv}.${ciphertext}.${tag}`, true],
    ['a JWT of another user', idToken({ sub: 'eve' }), false],
    ['a JWT that names no user', idToken({ sub: undefined }), false],
    ['an encrypted one', encrypted, false],
  ])('%s', (_, text, isUnreadable) => {
    expect(unreadableIdToken(text) !== undefined).toBe(isUnreadable)
  })

  it('shows nothing of it', () => {
    expect(unreadableIdToken('top.se.cret')?.message).not.toMatch(/top|cret/)
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
    ['one that was issued to this client', { aud: ['api', 'web'], azp: 'web' }],
    ['one by a clock that is a minute ahead', { iat: NOW / 1000 + 60, nbf: NOW / 1000 + 60 }],
  ])('takes %s', (_, claims) => {
    expect(() => check(claims)).not.toThrow()
  })

  it.each<[string, object, RegExp]>([
    ['another issuer', { iss: 'https://else.example.com' }, /another issuer \(iss\)/],
    ['no issuer', { iss: undefined }, /another issuer \(iss\)/],
    ['another audience', { aud: 'other' }, /not meant for this client \(aud\)/],
    ['one that expired a minute ago', { exp: NOW / 1000 - 60 }, /expired \(exp\)/],
    ['one that never expires', { exp: undefined }, /expired \(exp\)/],
    ['no sub', { sub: undefined }, /\(sub\)/],
    ['an empty sub', { sub: '' }, /\(sub\)/],
    ['one that was issued to another client', { azp: 'app' }, /\(azp\)/],
    ['an azp that is no text', { azp: ['web'] }, /\(azp\)/],
    ['one from the future', { iat: NOW / 1000 + 61 }, /future \(iat\)/],
    ['one that is not valid yet', { nbf: NOW / 1000 + 61 }, /future \(nbf\)/],
    ['an iat that is no number', { iat: 'soon' }, /\(iat\)/],
  ])('refuses %s', (_, claims, why) => {
    expect(() => check(claims)).toThrow(why)
    expect(() => check(claims)).toThrow(expect.objectContaining({ code: 'ERR_INVALID_TOKEN_RESPONSE' }))
  })

  it('takes any issuer when none is known, and an encrypted one', () => {
    expect(() => check({ iss: 'https://b' }, { clientId: 'web' })).not.toThrow()
    expect(() => checkFirstIdToken(encrypted, expected, NOW)).not.toThrow()
  })

  it('compares the nonce, if one is expected', () => {
    const checkNonce = (claims: object) => () =>
      checkFirstIdToken(idToken({ exp, ...claims }), { ...expected, nonce: 'n-1' }, NOW)
    expect(checkNonce({ nonce: 'n-1' })).not.toThrow()
    for (const nonce of ['n-2', undefined, '', ['n-1']]) expect(checkNonce({ nonce })).toThrow(/nonce/)
    expect(() => checkFirstIdToken(encrypted, { ...expected, nonce: 'n-1' }, NOW)).toThrow(/encrypted/)
    expect(() => checkFirstIdToken(idToken({ exp, nonce: 'n-2' }), expected, NOW)).not.toThrow()
  })

  it('refuses a text that is no JWT', () => {
    expect(() => checkFirstIdToken('garbage', expected, NOW)).toThrow(/could not be read/)
  })
})

describe('futureIdToken(idToken, now)', () => {
  const NOW = 1_700_000_000_000

  it.each<[string, object, boolean]>([
    ['issued now', { iat: NOW / 1000 }, false],
    ['issued a minute from now', { iat: NOW / 1000 + 60 }, false],
    ['issued later', { iat: NOW / 1000 + 61 }, true],
    ['valid later', { nbf: NOW / 1000 + 61 }, true],
    ['without a time', {}, false],
  ])('%s', (_, claims, isEarly) => {
    expect(futureIdToken(idToken(claims), NOW) !== undefined).toBe(isEarly)
  })
})

describe('isEncrypted(text)', () => {
  const part = (bytes: number) => Buffer.alloc(bytes, 'x').toString('base64url')
  const jwe = (header: object, key: number, iv: number, content: number, tag: number) =>
    [Buffer.from(JSON.stringify(header)).toString('base64url'), ...[key, iv, content, tag].map(part)].join(
      '.',
    )
  const gcm = { alg: 'dir', enc: 'A256GCM' }
  const cbc = { alg: 'RSA-OAEP', enc: 'A128CBC-HS256' }

  it.each<[string, string, boolean]>([
    ['what jose encrypts', encrypted, true],
    ['AES GCM with a shared key', jwe(gcm, 0, 12, 90, 16), true],
    ['AES CBC with a wrapped key', jwe(cbc, 256, 16, 96, 16), true],
    ['letters in five parts', `${jwe(gcm, 0, 12, 1, 16).split('.')[0]}.a.b.c.d`, false],
    ['a key where none is sent', jwe(gcm, 1, 12, 90, 16), false],
    ['no key where one is sent', jwe(cbc, 0, 16, 96, 16), false],
    ['a short initialization vector', jwe(gcm, 0, 11, 90, 16), false],
    ['a long tag', jwe(gcm, 0, 12, 90, 17), false],
    ['no content', jwe(gcm, 0, 12, 0, 16), false],
    ['no alg', jwe({ enc: 'A256GCM' }, 0, 12, 90, 16), false],
    ['an encryption that there is not', jwe({ alg: 'dir', enc: 'ROT13' }, 0, 12, 90, 16), false],
    ['characters that are not Base64', `${jwe(gcm, 0, 12, 90, 16)}=`, false],
    ['a JWT', idToken(), false],
  ])('%s: %#', (_, text, is) => {
    expect(isEncrypted(text)).toBe(is)
  })
})

describe('idTokenClaims(idToken)', () => {
  it('are those of a JWT', () => {
    expect(idTokenClaims(idToken({ nonce: 'n' }))).toEqual({
      iss: ISSUER,
      sub: 'ada',
      aud: 'web',
      nonce: 'n',
    })
  })

  it.each([
    ['an encrypted one', encrypted],
    ['a text that is no JWT', 'garbage'],
  ])('are nothing for %s', (_, text) => {
    expect(idTokenClaims(text)).toBeUndefined()
  })
})

describe('differentSubjects(idToken, other)', () => {
  it.each<[string, string | undefined, string | undefined, boolean]>([
    ['two of one user', idToken(), idToken({ iat: 2 }), false],
    ['another sub', idToken(), idToken({ sub: 'eve' }), true],
    ['another issuer', idToken(), idToken({ iss: 'https://b' }), true],
    ['no sub in either', idToken({ sub: undefined }), idToken({ sub: undefined }), false],
    ['one missing', idToken(), undefined, false],
    ['both missing', undefined, undefined, false],
    ['garbage twice', 'garbage', 'garbage', false],
  ])('of %s', (_, one, other, different) => {
    expect(differentSubjects(one, other)).toBe(different)
  })
})
