import { expect, it } from '@jest/globals'
import { GrantReferenceCodec } from '../../../lib/sessions/codec/grant-reference-codec.js'
import { grantIdOf } from '../../../lib/tokens/grant-proof.js'
import type { TokenSet } from '../../../lib/tokens/token-set.js'

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

it('a session finds its tokens, however many sessions were written after it', () => {
  const references = new GrantReferenceCodec(AUDIENCE)
  const reference = references.write(tokensOf('first'), 'share')
  const record = references.record(tokensOf('first'))
  for (let n = 0; n <= MAX_GRANTS; n++) references.write(tokensOf(`grant ${n}`), 'share')
  const read = references.read(reference)!
  expect(read).toMatchObject({ grantId: grantIdOf('first'), isReference: true })
  expect(references.readRecord(read, record)).toEqual(tokensOf('first'))
  const refreshed = { ...tokensOf('first'), revision: 3 }
  expect(references.readRecord(read, references.record(refreshed))).toEqual(refreshed)
  expect(references.write(refreshed, 'share')).toBe(reference)
})

it('S65 the key of one grant opens no record of another grant, and an id is valid with its own key only', () => {
  const references = new GrantReferenceCodec(AUDIENCE)
  const record = references.record(tokensOf('first'))
  expect(references.readRecord(tokensOf('other'), record)).toBeUndefined()
  const reference = references.write(tokensOf('first'), 'share')
  const forged = (change: object) => JSON.stringify({ ...JSON.parse(reference), ...change })
  const noKey = { key: undefined }
  const noShare = { share: undefined }
  for (const change of [{ key: 'x' }, noKey, noShare, { version: 1 }, { version: 1, key: 'x' }]) {
    expect(references.read(forged(change))).toBeUndefined()
  }
  expect(references.read(forged({}))).toBeDefined()
})

it('S65 a reference of the earlier version finds its tokens, and a reference with another key does not', () => {
  const known = new Map<string, TokenSet>()
  const references = new GrantReferenceCodec(AUDIENCE, undefined, ({ grantId, proof }) => {
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
