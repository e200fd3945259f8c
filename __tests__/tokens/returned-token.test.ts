import assert from 'node:assert'
import { describe, expect, it } from '@jest/globals'
import { ConfigurationError } from '../../lib/index.js'
import type { AccessToken } from '../../lib/tokens/access-token.js'
import { ReturnedToken } from '../../lib/tokens/returned-token.js'

const held: AccessToken = {
  token: 'the-token',
  tokenType: 'BearerToken',
  obtainedAt: 0,
  expiresAt: 1,
  scope: 'orders.read',
}
const shown = { token: 'the-token', tokenType: 'BearerToken', expiresAt: 1, scope: 'orders.read' }

describe('new ReturnedToken(accessToken, scheme)', () => {
  it('is equal to an object of its properties, in every form', () => {
    const token = new ReturnedToken(held)
    expect(token).toEqual(shown)
    expect({ ...token }).toStrictEqual(shown)
    expect(structuredClone(token)).toStrictEqual(shown)
    expect(JSON.parse(JSON.stringify(token))).toStrictEqual(shown)
    assert.deepEqual(token, shown)
  })

  it('has no scope if it is not known, and the scheme in place of the type', () => {
    const { scope: _, ...without } = held
    expect({ ...new ReturnedToken(without, 'Bearer') }).toStrictEqual({
      token: 'the-token',
      tokenType: 'Bearer',
      expiresAt: 1,
    })
  })

  it.each<[string, (token: ReturnedToken) => unknown]>([
    ["'Bearer ' + token", (token) => `Bearer ${token}`],
    ['String(token)', (token) => String(token)],
    ['a header', (token) => new Headers({ authorization: token as unknown as string })],
    ['a parameter of a URL', (token) => new URLSearchParams({ token: token as unknown as string })],
  ])('is not made a text by %s: the error has the cure', (_, use) => {
    expect(() => use(new ReturnedToken(held))).toThrow(ConfigurationError)
    expect(() => use(new ReturnedToken(held))).toThrow('const { token } = await req.tokens.getAccessToken()')
  })
})
