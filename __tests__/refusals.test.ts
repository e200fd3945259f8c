import { describe, expect, it } from '@jest/globals'
import { ConfigurationError, TokenError } from '../lib/index.js'
import { grantStoreFailed } from '../lib/refusals.js'

describe('grantStoreFailed(what, details)', () => {
  const failed = (cause: unknown, secrets: string[] = []) =>
    grantStoreFailed('It cannot be reached', { cause, secrets }).message

  it.each<[string, unknown, string]>([
    ['a code of Node’s', Object.assign(new Error('secret'), { code: 'ECONNREFUSED' }), ' (ECONNREFUSED).'],
    ['one of our own errors', new ConfigurationError('Connect the client.'), '. Connect the client.'],
    ['our own error, with a code', new TokenError('ERR_GRANT_STORE', 'No answer.'), '. No answer.'],
    ['what a client says', new Error('secret'), '.'],
    ['a code that is a text', Object.assign(new Error('secret'), { code: 'no, secret' }), '.'],
    ['a number', Object.assign(new Error('secret'), { code: 7 }), '.'],
    ['nothing', undefined, '.'],
    ['null', null, '.'],
  ])('says why, given %s', (_, cause, why) => {
    expect(failed(cause)).toBe(`It cannot be reached${why} Check its connection.`)
  })

  it('shows no secret in a code', () => {
    expect(failed({ code: 'SECRET_TOKEN' }, ['SECRET_TOKEN'])).toContain('([redacted])')
  })
})
