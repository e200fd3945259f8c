import { expect, it } from '@jest/globals'
import { References } from '../../lib/sessions/references.js'
import type { TokenSet } from '../../lib/token-set.js'

const AUDIENCE = 'web https://idp.example'
/** How many grants' keys are kept at hand. */
const MAX_GRANTS = 10_000

const tokensOf = (grantId: string): TokenSet => ({
  grantId,
  revision: 2,
  refreshToken: 'once',
  accessTokens: [],
})

it('a session that goes on being read leads to its tokens when very many others have come since', () => {
  const references = new References(AUDIENCE)
  const reference = references.write(tokensOf('first'))
  const record = references.record(tokensOf('first'))
  for (let n = 0; n <= MAX_GRANTS; n++) {
    references.record(tokensOf(`grant ${n}`))
    references.read(reference)
  }
  expect(references.readRecord('first', record)).toEqual(tokensOf('first'))
  const refreshed = { ...tokensOf('first'), revision: 3 }
  expect(references.readRecord('first', references.record(refreshed))).toEqual(refreshed)
  expect(references.write(refreshed)).toBe(reference)
})

it('a session that was not read for long does so as soon as it is', () => {
  const references = new References(AUDIENCE)
  const reference = references.write(tokensOf('first'))
  const record = references.record(tokensOf('first'))
  references.read(reference)
  for (let n = 0; n <= MAX_GRANTS; n++) references.record(tokensOf(`grant ${n}`))
  expect(references.read(reference)).toMatchObject({ grantId: 'first', isElsewhere: true })
  expect(references.readRecord('first', record)).toEqual(tokensOf('first'))
})
