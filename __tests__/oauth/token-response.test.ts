import { inspect } from 'node:util'
import { describe, expect, it } from '@jest/globals'
import { UnsecuredJWT } from 'jose'
import {
  adoptedTokens,
  handedOverTokens,
  refreshTokenBeside,
  tokenResponse,
} from '../../lib/oauth/token-response.js'

const NOW = Date.parse('2024-06-01T12:00:00Z')
const seconds = NOW / 1000
const jwt = (claims: object) => new UnsecuredJWT({ ...claims }).encode()
const invalid = expect.objectContaining({ code: 'ERR_INVALID_TOKEN_RESPONSE' })

function thrownBy(work: () => unknown): object {
  try {
    work()
  } catch (error) {
    return error as object
  }
  throw new Error('nothing was thrown')
}

describe('tokenResponse(fields, now, what)', () => {
  it('S48 reads everything an answer may have', () => {
    const fields = {
      access_token: 'at',
      token_type: 'DPoP',
      expires_in: 60,
      refresh_token: 'rt',
      id_token: 'it',
      scope: 'a b',
      something: ['else'],
    }
    expect(tokenResponse(fields, NOW, 'The answer')).toEqual({
      accessToken: 'at',
      tokenType: 'DPoP',
      lifetimeMs: 60_000,
      refreshToken: 'rt',
      idToken: 'it',
      scope: 'a b',
    })
  })

  it.each<[string, object]>([
    ['left out', {}],
    ['null', { refresh_token: null, id_token: null, scope: null, token_type: null, expires_in: null }],
    ['empty', { refresh_token: '', id_token: '', scope: '', token_type: '', expires_in: '' }],
  ])('S48 takes what is %s for omitted', (_, fields) => {
    expect(tokenResponse({ access_token: 'at', ...fields }, NOW, 'The answer')).toEqual({ accessToken: 'at' })
  })

  it.each<[string, object, number | undefined]>([
    ['a number', { expires_in: 3600 }, 3_600_000],
    ['a string', { expires_in: '3600' }, 3_600_000],
    ['a fraction', { expires_in: 0.5 }, 500],
    ['more than ten years', { expires_in: 1e300 }, 10 * 365 * 24 * 3_600_000],
    ['missing', {}, undefined],
    ['0', { expires_in: 0 }, undefined],
    ['"0"', { expires_in: '0' }, undefined],
    ['negative', { expires_in: -1 }, undefined],
    ['a negative string', { expires_in: '-3600' }, undefined],
    ['not a number', { expires_in: 'soon' }, undefined],
    ['hexadecimal', { expires_in: '0x10' }, undefined],
    ['too large a number', { expires_in: '9'.repeat(400) }, undefined],
    ['an object', { expires_in: {} }, undefined],
  ])('S4 expires_in is %s', (_, fields, lifetimeMs) => {
    expect(tokenResponse({ access_token: 'at', ...fields }, NOW, 'The answer').lifetimeMs).toBe(lifetimeMs)
  })

  const later = seconds + 7200
  it.each<[string, object, number | undefined]>([
    ['expires_at in seconds', { expires_at: later }, 7_200_000],
    ['expires_at in milliseconds', { expires_at: later * 1000 }, 7_200_000],
    ['expires_at, a date', { expires_at: '2024-06-01T14:00:00Z' }, 7_200_000],
    ['expires_on in a text', { expires_on: String(later) }, 7_200_000],
    ['expires_on, a date of App Service', { expires_on: '06/01/2024 14:00:00 +00:00' }, 7_200_000],
    ['expires in seconds from now', { expires: 7200 }, 7_200_000],
    ['expires in seconds from now, a text', { expires: '7200' }, 7_200_000],
    ['expires, a moment', { expires: later }, 7_200_000],
    ['expires, a date', { expires: 'Sat, 01 Jun 2024 14:00:00 GMT' }, 7_200_000],
    ['expiry_date in milliseconds', { expiry_date: later * 1000 }, 7_200_000],
    ['expiry, RFC 3339', { expiry: '2024-06-01T16:00:00+02:00' }, 7_200_000],
    ['expiresIn', { expiresIn: 7200 }, 7_200_000],
    ['expires_in_sec beside milliseconds', { expires_in: 3_600_000, expires_in_sec: 3600 }, 3_600_000],
    [
      'expires_in_seconds beside milliseconds',
      { expires_in: '3600000', expires_in_seconds: '3600' },
      3_600_000,
    ],
    ['expires_in before a moment', { expires_in: 3600, expires_at: later }, 3_600_000],
    ['expires_in of 0, and a moment', { expires_in: 0, expires_at: later }, 7_200_000],
    ['a moment that is over', { expires_at: seconds - 1 }, undefined],
    ['a moment that is now', { expires_on: seconds }, undefined],
    ['a moment of 0', { expires_at: 0 }, undefined],
    ['a negative moment', { expires_at: -5 }, undefined],
    ['a moment that is none', { expires_at: 'never', expires_on: {}, expiry_date: null }, undefined],
    ['expires of 0', { expires: 0 }, undefined],
    ['expires of -1', { expires: -1 }, undefined],
    ['ext_expires_in alone, which is no expiry', { ext_expires_in: 7200 }, undefined],
    ['issued_at alone, which is no expiry', { issued_at: String(NOW) }, undefined],
    [
      'the expiry of the refresh token alone',
      { refresh_token_expires_in: 7200, refresh_expires_in: 7200 },
      undefined,
    ],
  ])('S4 the response has %s', (_, fields, lifetimeMs) => {
    expect(tokenResponse({ access_token: 'at', ...fields }, NOW, 'The answer').lifetimeMs).toBe(lifetimeMs)
  })

  it.each<[string, unknown, string | undefined]>([
    ['spaces', 'a b', 'a b'],
    ['commas', 'repo,gist', 'repo gist'],
    ['commas and spaces', 'repo, gist', 'repo gist'],
    ['several spaces', ' a  b ', 'a b'],
    ['an array', ['a', 'b'], 'a b'],
    ['an array with commas', ['a,b', 'c'], 'a b c'],
    ['commas alone', ',', undefined],
  ])('reads scopes that are separated by %s', (_, scope, read) => {
    expect(tokenResponse({ access_token: 'at', scope }, NOW, 'The answer').scope).toBe(read)
    expect(handedOverTokens({ accessToken: 'at', scopes: scope }, NOW).scope).toBe(read)
  })

  const UNSENDABLE: [string, object][] = [
    ['a line break in the access token', { access_token: 'a\r\nX: y' }],
    ['a NUL in the access token', { access_token: 'a\0' }],
    ['a letter that is no ASCII in the access token', { access_token: 'ä' }],
    ['a line break in the token type', { token_type: 'Bearer\r\nX: y' }],
    ['a tab in the token type', { token_type: 'Bearer\t' }],
    ['a letter that is no ASCII in the token type', { token_type: 'Bäärer' }],
    ['a line break in the refresh token', { refresh_token: 'rt\n' }],
    ['a DEL in the refresh token', { refresh_token: 'rt\x7f' }],
  ]

  it.each(UNSENDABLE)('refuses %s, in responses, set() and adopt', (_, fields) => {
    const tokens = { access_token: 'at', refresh_token: 'rt', token_type: 'Bearer', ...fields }
    for (const read of [
      () => tokenResponse(tokens, NOW, 'The answer'),
      () => handedOverTokens(tokens, NOW),
      () => adoptedTokens(tokens, NOW),
    ]) {
      expect(read).toThrow(invalid)
      expect(read).toThrow(/characters/)
    }
    const kept = 'refresh_token' in fields ? undefined : 'rt'
    expect(refreshTokenBeside(thrownBy(() => tokenResponse(tokens, NOW, 'The answer')))).toBe(kept)
  })

  it.each<[string, object, object, number | undefined]>([
    ['exp', { exp: seconds + 100 }, {}, 100_000],
    ['exp, and expires_in is 0', { exp: seconds + 100 }, { expires_in: 0 }, 100_000],
    ['exp, and expires_in is good', { exp: seconds + 100 }, { expires_in: 50 }, 50_000],
    ['exp and iat, our clock is slow', { exp: seconds + 100, iat: seconds + 40 }, {}, 60_000],
    ['exp and iat, our clock is fast', { exp: seconds + 20, iat: seconds - 40 }, {}, 20_000],
    ['exp in the past', { exp: seconds - 1 }, {}, undefined],
    ['exp now', { exp: seconds }, {}, undefined],
    ['exp not after iat', { exp: seconds + 10, iat: seconds + 10 }, {}, undefined],
    ['exp that is no number', { exp: 'x' }, {}, undefined],
    ['no exp', {}, {}, undefined],
  ])('S4 the access token is a JWT with %s', (_, claims, fields, lifetimeMs) => {
    expect(tokenResponse({ access_token: jwt(claims), ...fields }, NOW, 'The answer').lifetimeMs).toBe(
      lifetimeMs,
    )
  })

  it.each<[string, object]>([
    ['no access_token', {}],
    ['an empty access_token', { access_token: '' }],
    ['null as access_token', { access_token: null }],
    ['a number as access_token', { access_token: 1 }],
    ['an access_token that no header can hold', { access_token: 'a\r\nX-Injected: 1' }],
    ['a number as refresh_token', { access_token: 'at', refresh_token: 1 }],
  ])('S44 refuses %s', (_, fields) => {
    expect(() => tokenResponse({ ...fields }, NOW, 'The answer')).toThrow(invalid)
  })

  it.each<[string, object, object]>([
    ['an array of scopes', { scope: ['a', 'b'] }, { scope: 'a b' }],
    ['no scopes in an array', { scope: [] }, {}],
    ['an array of other things as scope', { scope: ['a', { b: 1 }] }, {}],
    ['an object as scope', { scope: { a: true } }, {}],
    ['a number as token_type', { token_type: 1 }, {}],
    ['an object as id_token', { id_token: {} }, {}],
    ['a number as expires_in that is none', { expires_in: {} }, {}],
  ])('loses no token for %s: it is read, or taken for omitted', (_, fields, read) => {
    const tokens = { access_token: 'at', refresh_token: 'rt' }
    const answer = tokenResponse({ ...tokens, ...fields }, NOW, 'The answer')
    expect(answer).toEqual({ accessToken: 'at', refreshToken: 'rt', ...read })
  })

  it.each<[string, object, string | undefined]>([
    ['there is no access_token', { refresh_token: 'rt' }, 'rt'],
    ['the access_token is odd', { access_token: 1, refresh_token: 'rt' }, 'rt'],
    ['no header can hold the access_token', { access_token: 'a\nb', refresh_token: 'rt' }, 'rt'],
    ['there is no refresh token', {}, undefined],
    ['the refresh token is empty', { refresh_token: '' }, undefined],
    ['the refresh token is odd', { refresh_token: ['rt'] }, undefined],
    ['it says that the refresh was refused', { error: 'invalid_scope', refresh_token: 'rt' }, undefined],
  ])('refreshTokenBeside(error), when %s: %j → %p', (_, fields, refreshToken) => {
    const error = thrownBy(() => tokenResponse({ ...fields }, NOW, 'The answer'))
    expect(error).toEqual(invalid)
    expect(refreshTokenBeside(error)).toBe(refreshToken)
    // An error that is kept for later has it no more.
    expect(refreshTokenBeside(error)).toBeUndefined()
    expect(inspect(error, { depth: 20, showHidden: true })).not.toContain("'rt'")
  })

  it('says which error a success has that is none', () => {
    expect(() => tokenResponse({ error: 'bad_refresh_token' }, NOW, 'The answer')).toThrow(
      /no access_token \(bad_refresh_token\)/,
    )
  })
})

/** What arctic's OAuth2Tokens is like: methods that throw when the answer has no such field. */
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

/** What openid-client v5's TokenSet is like: `expires_in` counts down. */
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
      'the answer as it is',
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
  ])('reads %s', (_, value, answer) => {
    expect(handedOverTokens(value, NOW)).toEqual(answer)
  })

  it.each<[string, unknown, RegExp]>([
    ['undefined', undefined, /is undefined\. Pass the token endpoint's answer/],
    ['null', null, /is null\. Pass the token endpoint's answer/],
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
    const answer = adoptedTokens({ access_token: 'at', refresh_token: 'rt', ...fields }, NOW)
    expect(answer?.lifetimeMs).toBe(lifetimeMs)
  })

  it('takes a life at its word where nothing can be refreshed', () => {
    expect(adoptedTokens({ access_token: 'at', expires: 60 }, NOW)?.lifetimeMs).toBe(60_000)
  })
})
