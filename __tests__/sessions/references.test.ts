import { expect, it } from '@jest/globals'
import { grantIdOf } from '../../lib/grant-proof.js'
import { References } from '../../lib/sessions/references.js'
import type { TokenSet } from '../../lib/token-set.js'

const AUDIENCE = 'web https://idp.example'
/** How many references are kept at hand. */
const MAX_GRANTS = 10_000

const tokensOf = (proof: string): TokenSet => ({
  grantId: grantIdOf(proof),
  proof,
  revision: 2,
  refreshToken: 'once',
  accessTokens: [],
})

it('a session leads to its tokens, however many others have come since', () => {
  const references = new References(AUDIENCE)
  const reference = references.write(tokensOf('first'))
  const record = references.record(tokensOf('first'))
  for (let n = 0; n <= MAX_GRANTS; n++) references.write(tokensOf(`grant ${n}`))
  const read = references.read(reference)!
  expect(read).toMatchObject({ grantId: grantIdOf('first'), isElsewhere: true })
  expect(references.readRecord(read, record)).toEqual(tokensOf('first'))
  const refreshed = { ...tokensOf('first'), revision: 3 }
  expect(references.readRecord(read, references.record(refreshed))).toEqual(refreshed)
  expect(references.write(refreshed)).toBe(reference)
})

it('S65 the key of one grant opens no record of another, and no id goes with another key', () => {
  const references = new References(AUDIENCE)
  const record = references.record(tokensOf('first'))
  expect(references.readRecord(tokensOf('other'), record)).toBeUndefined()
  const reference = references.write(tokensOf('first'))
  const forged = (change: object) => JSON.stringify({ ...JSON.parse(reference), ...change })
  for (const change of [{ key: 'x' }, { key: undefined }, { version: 1 }, { version: 1, key: 'x' }]) {
    expect(references.read(forged(change))).toBeUndefined()
  }
  expect(references.read(forged({}))).toBeDefined()
})

it('S65 a reference of the version before leads to its tokens, and one with another key does not', () => {
  const known = new Map<string, TokenSet>()
  const references = new References(AUDIENCE, undefined, ({ grantId, proof }) => {
    const { proof: other = proof } = known.get(grantId) ?? {}
    return other === proof
  })
  const of = (key: string) => ({ version: 1, audience: AUDIENCE, grantId: 'a grant of before', key })
  const read = references.read(JSON.stringify(of('the key')))!
  const record = references.record({ ...tokensOf('the key'), grantId: 'a grant of before' })
  expect(references.readRecord(read, record)).toMatchObject({ refreshToken: 'once', proof: 'the key' })
  const forged = references.read(JSON.stringify(of('another key')))!
  expect(references.readRecord(forged, record)).toBeUndefined()
  known.set('a grant of before', { ...tokensOf('the key') })
  expect(references.read(JSON.stringify(of('another key')))).toBeUndefined()
  expect(references.read(JSON.stringify(of('the key')))).toBeDefined()
})
