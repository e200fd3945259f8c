import { describe, expect, it } from '@jest/globals'
import { grantStoreError } from '../../lib/grants/grant-store-error.js'
import { ConfigurationError, TokenError } from '../../lib/index.js'
import { cannotRefreshError } from '../../lib/manager/manager-errors.js'

describe('grantStoreError(message, details)', () => {
  const failed = (cause: unknown, secrets: string[] = []) =>
    grantStoreError('It cannot be reached', { cause, secrets }).message

  it.each<[string, unknown, string]>([
    ['a code of Node’s', Object.assign(new Error('secret'), { code: 'ECONNREFUSED' }), ' (ECONNREFUSED).'],
    ['the message of a client', new Error('secret'), '.'],
    ['a code that is a text', Object.assign(new Error('secret'), { code: 'no, secret' }), '.'],
    ['a number', Object.assign(new Error('secret'), { code: 7 }), '.'],
    ['nothing', undefined, '.'],
    ['null', null, '.'],
  ])('says why, given %s', (_, cause, why) => {
    expect(failed(cause)).toBe(`It cannot be reached${why} Check its connection.`)
  })

  it.each([
    new ConfigurationError('Connect the client.'),
    new TokenError('ERR_GRANT_STORE', 'It did not reply. Check its connection.'),
  ])('shows the message of a TokenError, which says what to do: %s', (cause) => {
    expect(failed(cause)).toBe(`It cannot be reached. ${cause.message}`)
  })

  it.each([
    ['OOM', "command not allowed when used memory > 'maxmemory'.", 'Its memory is full. Check maxmemory.'],
    ['READONLY', "You can't write against a read only replica.", 'The client is connected to a replica.'],
    ['LOADING', 'Redis is loading the dataset in memory', 'It is loading its data after a start.'],
    ['NOPERM', 'this user has no permissions', 'Check the rights of its user (ACL).'],
    ['ERR', 'unknown command', 'Check its log.'],
  ])('shows %s, with which Redis begins its error response, and what to check', (code, words, cure) => {
    const error = grantStoreError('It failed', { cause: new Error(`${code} ${words}`) })
    expect(error.message).toBe(`It failed (${code}). ${cure}`)
    expect(error.cause).toMatchObject({ code })
  })

  it('shows no secret in a code', () => {
    expect(failed(new Error('SECRET of a user'), ['SECRET'])).toContain('([redacted])')
    expect(failed({ code: 'SECRET_TOKEN' }, ['SECRET_TOKEN'])).toContain('([redacted])')
  })
})

describe('cannotRefreshError(tokens, need, now)', () => {
  const accessToken = { token: 'at', tokenType: 'Bearer', obtainedAt: 0, expiresAt: 60_000, scope: 'openid' }
  const tokens = { grantId: 'g', revision: 1, accessTokens: [accessToken] }

  it.each([
    [
      { scope: 'orders' },
      'is not known to cover the requested scope. There is no refresh token to get another one. Request this scope and ' +
        'offline access at login. If the token response has no `scope`, pass it to set().',
    ],
    [
      { audience: 'https://api.example.com' },
      'is not known to cover the requested audience. There is no refresh token to get another one. Request this audience and ' +
        'offline access at login.',
    ],
  ])('says what to request at login for the need %j', (need, message) => {
    const error = cannotRefreshError(tokens, need, 1)
    expect(error.code).toBe('ERR_INSUFFICIENT_SCOPE')
    expect(error.message).toBe(`The access token is valid, but ${message}`)
  })
})
