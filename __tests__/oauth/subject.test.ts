import { describe, expect, it } from '@jest/globals'
import { UnsecuredJWT } from 'jose'
import { differentSubjects } from '../../lib/oauth/subject.js'

const idToken = (claims: object = {}) =>
  new UnsecuredJWT({ iss: 'https://idp.example.com', sub: 'ada', ...claims }).encode()

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
