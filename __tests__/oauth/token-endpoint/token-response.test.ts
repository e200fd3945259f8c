import { execFileSync } from 'node:child_process'
import { inspect } from 'node:util'
import { describe, expect, it } from '@jest/globals'
import { UnsecuredJWT } from 'jose'
import type { TokenError } from '../../../lib/errors/token-error.js'
import type { FailedRefresh, RefreshResponse } from '../../../lib/oauth/authorization-server.js'
import { adoptedTokens, handedOverTokens } from '../../../lib/oauth/token-endpoint/handed-over-tokens.js'
import { tokenResponse } from '../../../lib/oauth/token-endpoint/token-response.js'

const NOW = Date.parse('2024-06-01T12:00:00Z')
const seconds = NOW / 1000
const jwt = (claims: object) => new UnsecuredJWT({ ...claims }).encode()
const invalid = expect.objectContaining({ code: 'ERR_INVALID_TOKEN_RESPONSE' })

const source = {
  where: () => 'https://idp.example.com/token',
  describe: () => 'The token endpoint',
  now: NOW,
  secrets: () => [],
}
const read = (fields: object) => tokenResponse({ ...fields }, source) as RefreshResponse

/** The failure of a read: an error, which is thrown alone or returned with a new refresh token. */
function failureOf(work: () => RefreshResponse | FailedRefresh): Partial<FailedRefresh> {
  try {
    const result = work()
    if ('error' in result) return result
  } catch (error) {
    return { error: error as TokenError }
  }
  throw new Error('The read has not failed.')
}

describe('tokenResponse(fields, source)', () => {
  it('S48 reads every field that a response may have', () => {
    const fields = {
      access_token: 'at',
      token_type: 'DPoP',
      expires_in: 60,
      refresh_token: 'rt',
      id_token: 'it',
      scope: 'a b',
      something: ['else'],
    }
    expect(read(fields)).toEqual({
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
  ])('S48 reads a field that is %s as omitted', (_, fields) => {
    expect(read({ access_token: 'at', ...fields })).toEqual({ accessToken: 'at' })
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
    expect(read({ access_token: 'at', ...fields }).lifetimeMs).toBe(lifetimeMs)
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
    expect(read({ access_token: 'at', ...fields }).lifetimeMs).toBe(lifetimeMs)
  })

  it('S4 a date without a time zone is in UTC, whatever the zone of the host', () => {
    const dates = [
      '2024-06-01T14:00:00',
      '2024-06-01T14:00:00.000',
      '2024-06-01 14:00:00',
      '06/01/2024 2:00:00 PM',
      '2024-06-01T14:00:00Z',
      '2024-06-01T16:00:00+02:00',
      '2024-06-01 16:00:00 +0200',
      'Sat, 01 Jun 2024 14:00:00 GMT',
    ]
    const program =
      "import { lifetimesIn } from './lib/oauth/token-endpoint/expiry.ts';" +
      `console.log(JSON.stringify(${JSON.stringify(dates)}.map((expires_at) => lifetimesIn({ expires_at }, ${NOW}).lifetimeMs)))`
    const [file, argv] = [process.execPath, ['--import', 'tsx', '--input-type=module', '--eval', program]]
    const printed = execFileSync(file, argv, {
      env: { ...process.env, TZ: 'America/New_York', TSX_TSCONFIG_PATH: '__tests__/tsconfig.json' },
    })
    expect(JSON.parse(String(printed))).toEqual(dates.map(() => 7_200_000))
  })

  it.each<[string, unknown, string | undefined]>([
    ['spaces', 'a b', 'a b'],
    ['commas', 'repo,gist', 'repo gist'],
    ['commas and spaces', 'repo, gist', 'repo gist'],
    ['several spaces', ' a  b ', 'a b'],
    ['an array', ['a', 'b'], 'a b'],
    ['an array with commas', ['a,b', 'c'], 'a b c'],
    ['commas alone', ',', undefined],
  ])('reads scopes that are separated by %s', (_, scope, expected) => {
    expect(read({ access_token: 'at', scope }).scope).toBe(expected)
    expect(handedOverTokens({ accessToken: 'at', scopes: scope }, NOW).scope).toBe(expected)
  })

  const UNSENDABLE: [string, object][] = [
    ['a line break in the access token', { access_token: 'a\r\nX: y' }],
    ['a NUL in the access token', { access_token: 'a\0' }],
    ['a letter that is no ASCII in the access token', { access_token: 'ä' }],
    ['a line break in the token type', { token_type: 'Bearer\r\nX: y' }],
    ['a tab in the token type', { token_type: 'Bearer\t' }],
    ['a letter that is no ASCII in the token type', { token_type: 'Bäärer' }],
  ]
  const UNSENDABLE_REFRESH_TOKENS: [string, object][] = [
    ['a line break in the refresh token', { refresh_token: 'rt\n' }],
    ['a DEL in the refresh token', { refresh_token: 'rt\x7f' }],
  ]

  it.each(UNSENDABLE_REFRESH_TOKENS)('refuses %s in set() and adopt', (_, fields) => {
    const tokens = { access_token: 'at', ...fields }
    for (const handOver of [() => handedOverTokens(tokens, NOW), () => adoptedTokens(tokens, NOW)]) {
      expect(handOver).toThrow(invalid)
      expect(handOver).toThrow(/characters/)
    }
  })

  it.each(UNSENDABLE)('refuses %s, in responses, set() and adopt', (_, fields) => {
    const tokens = { access_token: 'at', refresh_token: 'rt', token_type: 'Bearer', ...fields }
    for (const handOver of [() => handedOverTokens(tokens, NOW), () => adoptedTokens(tokens, NOW)]) {
      expect(handOver).toThrow(invalid)
      expect(handOver).toThrow(/characters/)
    }
    const { error, refreshToken } = failureOf(() => read(tokens))
    expect(error).toEqual(invalid)
    expect(error?.message).toMatch(/characters/)
    expect(refreshToken).toBe('rt')
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
    expect(read({ access_token: jwt(claims), ...fields }).lifetimeMs).toBe(lifetimeMs)
  })

  it.each<[string, object]>([
    ['no access_token', {}],
    ['an empty access_token', { access_token: '' }],
    ['null as access_token', { access_token: null }],
    ['a number as access_token', { access_token: 1 }],
    ['an access_token that no header can hold', { access_token: 'a\r\nX-Injected: 1' }],
  ])('S44 refuses %s', (_, fields) => {
    expect(failureOf(() => read(fields)).error).toEqual(invalid)
  })

  it.each<[string, object, object]>([
    ['an array of scopes', { scope: ['a', 'b'] }, { scope: 'a b' }],
    ['no scopes in an array', { scope: [] }, {}],
    ['an array of other things as scope', { scope: ['a', { b: 1 }] }, {}],
    ['an object as scope', { scope: { a: true } }, {}],
    ['a number as token_type', { token_type: 1 }, {}],
    ['an object as id_token', { id_token: {} }, {}],
    ['a number as expires_in that is none', { expires_in: {} }, {}],
    ['a number as refresh_token', { refresh_token: 1234567890123456 }, { refreshToken: '1234567890123456' }],
    ['a refresh_token that is no whole number', { refresh_token: 1.5 }, { refreshToken: undefined }],
    [
      'a refresh_token that has lost its last digits',
      { refresh_token: 2 ** 60 },
      { refreshToken: undefined },
    ],
    ['an object as refresh_token', { refresh_token: { value: 'rt' } }, { refreshToken: undefined }],
    ['a refresh_token that no form can hold', { refresh_token: 'rt\n' }, { refreshToken: undefined }],
  ])('loses no token for %s: the field is read, or counts as omitted', (_, fields, expected) => {
    const tokens = { access_token: 'at', refresh_token: 'rt' }
    const response = read({ ...tokens, ...fields })
    expect(response).toEqual({ accessToken: 'at', refreshToken: 'rt', ...expected })
  })

  it.each<[string, object, string | undefined]>([
    ['there is no access_token', { refresh_token: 'rt' }, 'rt'],
    ['the access_token is a number', { access_token: 1, refresh_token: 'rt' }, 'rt'],
    ['no header can hold the access_token', { access_token: 'a\nb', refresh_token: 'rt' }, 'rt'],
    ['there is no refresh token', {}, undefined],
    ['the refresh token is empty', { refresh_token: '' }, undefined],
    ['the refresh token is an array', { refresh_token: ['rt'] }, undefined],
    ['it says that the refresh was refused', { error: 'invalid_scope', refresh_token: 'rt' }, undefined],
  ])('fails, and returns the new refresh token or none, when %s: %j → %p', (_, fields, expected) => {
    const { error, refreshToken } = failureOf(() => read(fields))
    expect(error).toEqual(invalid)
    expect(refreshToken).toBe(expected)
    expect(inspect(error, { depth: 20, showHidden: true })).not.toContain("'rt'")
  })

  it('names the error in a success without an access token', () => {
    expect(() => read({ error: 'bad_refresh_token' })).toThrow(/no access_token \(bad_refresh_token\)/)
  })
})
