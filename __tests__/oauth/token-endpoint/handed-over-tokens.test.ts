import { describe, expect, it } from '@jest/globals'
import { adoptedTokens, handedOverTokens } from '../../../lib/oauth/token-endpoint/handed-over-tokens.js'

const NOW = Date.parse('2024-06-01T12:00:00Z')
const seconds = NOW / 1000
const invalid = expect.objectContaining({ code: 'ERR_INVALID_TOKEN_RESPONSE' })

/** A class like arctic's OAuth2Tokens: its methods throw when the response has no such field. */
class OAuth2Tokens {
  constructor(readonly data: Record<string, unknown>) {}
  #get(name: string) {
    if (name in this.data) return this.data[name]
    throw new Error(`Missing or invalid '${name}' field`)
  }
  accessToken = () => this.#get('access_token')
  refreshToken = () => this.#get('refresh_token')
  hasRefreshToken = () => 'refresh_token' in this.data
  idToken = () => this.#get('id_token')
  accessTokenExpiresAt = () => new Date(NOW + Number(this.#get('expires_in')) * 1000)
  scopes = () => String(this.#get('scope')).split(' ')
}

/** A class like openid-client v5's TokenSet: `expires_in` counts down. */
class TokenSet {
  access_token = 'at'
  refresh_token = 'rt'
  token_type = 'Bearer'
  constructor(readonly expires_at: number) {}
  get expires_in() {
    return Math.max(0, this.expires_at - seconds)
  }
  expired() {
    return this.expires_in === 0
  }
}

describe('handedOverTokens(value, now)', () => {
  const full = { accessToken: 'at', tokenType: 'Bearer', lifetimeMs: 60_000, refreshToken: 'rt' }

  it.each<[string, unknown, object]>([
    [
      'the response as it is',
      {
        access_token: 'at',
        token_type: 'Bearer',
        expires_in: 60,
        refresh_token: 'rt',
        id_token: 'it',
        scope: 'a',
      },
      { ...full, idToken: 'it', scope: 'a' },
    ],
    [
      'openid-client v6',
      {
        access_token: 'at',
        token_type: 'bearer',
        expires_in: 60,
        refresh_token: 'rt',
        claims: () => ({}),
        expiresIn: () => 60,
      },
      { ...full, tokenType: 'bearer' },
    ],
    ['openid-client v5', new TokenSet(seconds + 60), full],
    ['openid-client v5, expired', new TokenSet(seconds - 60), { ...full, lifetimeMs: -60_000 }],
    [
      'simple-oauth2, a Date',
      {
        access_token: 'at',
        token_type: 'Bearer',
        expires_in: 3600,
        expires_at: new Date(NOW + 60_000),
        refresh_token: 'rt',
      },
      full,
    ],
    [
      'simple-oauth2, a string',
      {
        access_token: 'at',
        token_type: 'Bearer',
        expires_in: 3600,
        expires_at: '2024-06-01T12:01:00.000Z',
        refresh_token: 'rt',
      },
      full,
    ],
    [
      'simple-oauth2, the object around it',
      {
        token: { access_token: 'at', token_type: 'Bearer', expires_in: 60, refresh_token: 'rt' },
        expired: () => false,
      },
      full,
    ],
    [
      'camelCase',
      {
        accessToken: 'at',
        tokenType: 'Bearer',
        expiresIn: 60,
        refreshToken: 'rt',
        idToken: 'it',
        scope: 'a',
      },
      { ...full, idToken: 'it', scope: 'a' },
    ],
    [
      'camelCase with expiresAt in seconds',
      { accessToken: 'at', tokenType: 'Bearer', expiresAt: seconds + 60, refreshToken: 'rt' },
      full,
    ],
    [
      'camelCase with expiresAt in milliseconds',
      { accessToken: 'at', tokenType: 'Bearer', expiresAt: NOW + 60_000, refreshToken: 'rt' },
      full,
    ],
    [
      'arctic',
      new OAuth2Tokens({
        access_token: 'at',
        token_type: 'Bearer',
        expires_in: 60,
        refresh_token: 'rt',
        id_token: 'it',
        scope: 'a b',
      }),
      { ...full, idToken: 'it', scope: 'a b' },
    ],
    ['arctic, the least', new OAuth2Tokens({ access_token: 'at' }), { accessToken: 'at' }],
    [
      'passport-oauth2',
      { accessToken: 'at', refreshToken: 'rt', access_token: 'at', token_type: 'Bearer', expires_in: 60 },
      full,
    ],
    [
      'passport-oauth2 without a refresh token',
      { accessToken: 'at', refreshToken: undefined, expires_in: '60' },
      { accessToken: 'at', lifetimeMs: 60_000 },
    ],
    ['scopes in an array', { access_token: 'at', scope: ['a', 'b'] }, { accessToken: 'at', scope: 'a b' }],
    ['a refresh token alone', { refresh_token: 'rt', expires_in: 60 }, { refreshToken: 'rt' }],
    ['an access token alone', { access_token: 'at' }, { accessToken: 'at' }],
    [
      'google-auth-library',
      { access_token: 'at', token_type: 'Bearer', refresh_token: 'rt', expiry_date: NOW + 60_000 },
      full,
    ],
    [
      'MSAL',
      {
        accessToken: 'at',
        tokenType: 'Bearer',
        refreshToken: 'rt',
        scopes: ['a', 'b'],
        expiresOn: new Date(NOW + 60_000),
        extExpiresOn: new Date(NOW + 600_000),
      },
      { ...full, scope: 'a b' },
    ],
    [
      'client-oauth2',
      {
        accessToken: 'at',
        tokenType: 'Bearer',
        refreshToken: 'rt',
        expires: new Date(NOW + 60_000),
        data: {},
      },
      full,
    ],
    [
      'better-auth',
      {
        accessToken: 'at',
        tokenType: 'Bearer',
        refreshToken: 'rt',
        accessTokenExpiresAt: new Date(NOW + 60_000),
      },
      full,
    ],
    [
      'Azure AD v1',
      {
        access_token: 'at',
        token_type: 'Bearer',
        refresh_token: 'rt',
        expires_in: '3600',
        ext_expires_in: '3600',
        expires_on: String(seconds + 60),
        not_before: String(seconds),
      },
      full,
    ],
    [
      'Zoho',
      {
        access_token: 'at',
        token_type: 'Bearer',
        refresh_token: 'rt',
        expires_in: 60_000,
        expires_in_sec: 60,
      },
      full,
    ],
    [
      'an expiry of 0, which is long ago',
      { access_token: 'at', expires_at: 0 },
      { accessToken: 'at', lifetimeMs: -NOW },
    ],
    [
      'an expiry that is none',
      { access_token: 'at', expires_at: 'never', expires_in: 60 },
      { accessToken: 'at', lifetimeMs: 60_000 },
    ],
    ['an error of null', { access_token: 'at', error: null }, { accessToken: 'at' }],
  ])('reads %s', (_, value, tokens) => {
    expect(handedOverTokens(value, NOW)).toEqual(tokens)
  })

  it.each<[string, unknown, RegExp]>([
    ['undefined', undefined, /is undefined\. Pass the token endpoint's response/],
    ['null', null, /is null\. Pass the token endpoint's response/],
    ['a string', 'secret-at', /is a string\. Pass/],
    ['an array', [{ access_token: 'secret-at' }], /is an array\. Pass/],
    ['a Promise', Promise.resolve({ access_token: 'secret-at' }), /is a Promise\. Await it/],
    ['an empty object', {}, /neither an access_token nor a refresh_token\. Pass/],
    [
      'an OAuth error',
      { error: 'access_denied', access_token: 'secret-at' },
      /is an OAuth error \(access_denied\)/,
    ],
    ['an error that holds a token', { error: 'secret-at', access_token: 'secret-at' }, /is an OAuth error/],
    [
      'a number as access token',
      { access_token: 5, refresh_token: 'secret-at' },
      /access_token is not a string/,
    ],
    [
      'a number as refresh token',
      { accessToken: 'secret-at', refreshToken: 5 },
      /refresh_token is not a string/,
    ],
    ['an object as ID token', { accessToken: 'secret-at', idToken: {} }, /id_token is not a string/],
    ['scopes that are symbols', { accessToken: 'secret-at', scope: [Symbol('a')] }, /scope is not a string/],
    [
      'scopes without a prototype',
      { accessToken: 'secret-at', scopes: [Object.create(null)] },
      /scope is not a string/,
    ],
  ])('refuses %s, and says what to pass', (_, value, cure) => {
    const read = () => handedOverTokens(value, NOW)
    expect(read).toThrow(cure)
    expect(read).toThrow(invalid)
    expect(read).toThrow(/\.$/)
    expect(read).not.toThrow(/secret-at/)
  })
})

describe('adoptedTokens(value, now)', () => {
  it.each<[string, object, number | undefined]>([
    ['a moment', { expires_on: String(seconds + 60) }, 60_000],
    ['a life, which began at an unknown time', { expires_in: 60 }, 0],
    ['a life by another name', { expires: 60, expires_in_sec: 60 }, 0],
  ])('of a grant that can be refreshed, with %s', (_, fields, lifetimeMs) => {
    const tokens = adoptedTokens({ access_token: 'at', refresh_token: 'rt', ...fields }, NOW)
    expect(tokens?.lifetimeMs).toBe(lifetimeMs)
  })

  it('takes a life at its word where nothing can be refreshed', () => {
    expect(adoptedTokens({ access_token: 'at', expires: 60 }, NOW)?.lifetimeMs).toBe(60_000)
  })
})
