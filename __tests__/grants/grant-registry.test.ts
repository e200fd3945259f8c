import { beforeEach, describe, expect, it } from '@jest/globals'
import { TokenError } from '../../lib/errors/token-error.js'
import { GrantRegistry } from '../../lib/grants/grant-registry.js'
import { grantIdOf } from '../../lib/tokens/grant-proof.js'
import type { TokenSet } from '../../lib/tokens/token-set.js'
import type { TestClock } from '../helpers/clock.js'

const HOUR_MS = 3_600_000

/** Stands still unless a test turns it. */
let clock: TestClock
let registry: GrantRegistry

beforeEach(() => {
  const start = Date.now()
  let passed = 0
  let jumped = 0
  clock = {
    now: () => start + passed + jumped,
    monotonic: () => passed,
    advance: (ms) => {
      passed += ms
    },
    jump: (ms) => {
      jumped += ms
    },
  }
  registry = new GrantRegistry(clock)
})

function tokens(revision: number, grantId = 'grant'): TokenSet {
  return { grantId, revision, refreshToken: `${grantId} ${revision}`, accessTokens: [] }
}

describe('the state of a grant', () => {
  it('is nothing at first', () => {
    expect(registry.tokensOf('grant')).toBeUndefined()
    expect(registry.ended('grant')).toBeUndefined()
  })

  it.each([
    { learned: [1], revision: 1 },
    { learned: [1, 2], revision: 2 },
    { learned: [2, 1], revision: 2 },
    { learned: [9, 10], revision: 10 },
    { learned: [2, 5, 3, 4], revision: 5 },
  ])('is the newest of the revisions $learned', ({ learned, revision }) => {
    for (const each of learned) registry.learn(tokens(each))
    expect(registry.tokensOf('grant')).toEqual(tokens(revision))
  })

  it('is the first of two sets of one revision', () => {
    const first = tokens(1)
    registry.learn(first)
    registry.learn({ ...first, refreshToken: 'another' })
    expect(registry.tokensOf('grant')).toBe(first)
  })

  it('is kept for each grant separately', () => {
    registry.learn(tokens(2, 'one'))
    registry.learn(tokens(1, 'other'))
    registry.end({ grantId: 'one' }, 'logged_out')
    expect(registry.tokensOf('other')).toEqual(tokens(1, 'other'))
    expect(registry.ended('other')).toBeUndefined()
  })

  it('is forgotten beyond maxGrants', () => {
    registry = new GrantRegistry(clock, { maxGrants: 2 })
    for (const grantId of ['one', 'two', 'three']) registry.learn(tokens(1, grantId))
    expect(registry.tokensOf('one')).toBeUndefined()
    expect(registry.tokensOf('two')).toEqual(tokens(1, 'two'))
    expect(registry.tokensOf('three')).toEqual(tokens(1, 'three'))
  })

  it('of two token sets with one revision, the one with a refresh token is the newer: the other one is of a refresh that failed', () => {
    const dead = { grantId: 'grant', revision: 2, accessTokens: [] }
    registry.learn(dead)
    expect(registry.learn(tokens(2))).toBe(true)
    expect(registry.learn(dead)).toBe(false)
    expect(registry.tokensOf('grant')).toEqual(tokens(2))
    expect(registry.peek('grant')!.isDead).toBe(false)
  })

  it('can be learned again, and older, once it is forgotten', () => {
    registry = new GrantRegistry(clock, { maxGrants: 1 })
    for (const each of [tokens(2, 'one'), tokens(1, 'two'), tokens(1, 'one')]) registry.learn(each)
    expect(registry.tokensOf('one')).toEqual(tokens(1, 'one'))
  })

  it('holds ten thousand grants unless notified otherwise', () => {
    for (let i = 0; i <= 10_000; i++) registry.learn(tokens(1, `${i}`))
    expect(registry.tokensOf('0')).toBeUndefined()
    expect(registry.tokensOf('1')).toEqual(tokens(1, '1'))
  })
})

describe('a grant that has ended', () => {
  it.each(['logged_out', 'replaced'] as const)('is forgotten and not learned of again: %s', (why) => {
    registry.learn(tokens(1))
    registry.end({ grantId: 'grant' }, why)
    expect(registry.tokensOf('grant')).toBeUndefined()
    registry.learn(tokens(2))
    expect(registry.tokensOf('grant')).toBeUndefined()
    expect(registry.ended('grant')).toBe(why)
  })

  it('keeps the first reason', () => {
    registry.end({ grantId: 'grant' }, 'replaced')
    registry.end({ grantId: 'grant' }, 'logged_out')
    expect(registry.ended('grant')).toBe('replaced')
  })

  it('is remembered for longer than maxGrants grants', () => {
    registry = new GrantRegistry(clock, { maxGrants: 2 })
    registry.end({ grantId: 'grant' }, 'logged_out')
    for (let i = 0; i < 1_000; i++) {
      registry.learn(tokens(1, `${i}`))
      registry.end({ grantId: `${i}` }, 'replaced')
    }
    registry.learn(tokens(1))
    expect(registry.ended('grant')).toBe('logged_out')
    expect(registry.tokensOf('grant')).toBeUndefined()
  })
})

describe('the time by which tokens are judged', () => {
  type Step = ['advance' | 'jump', ms: number]
  const cases: [what: string, steps: Step[], sinceLearned: number][] = [
    ['is the clock’s', [], 0],
    ['passes', [['advance', 5_000]], 5_000],
    ['follows a jump forward', [['jump', HOUR_MS]], HOUR_MS],
    ['does not follow a jump back', [['jump', -HOUR_MS]], 0],
    [
      'passes after a jump back',
      [
        ['advance', 1_000],
        ['jump', -HOUR_MS],
        ['advance', 2_000],
      ],
      3_000,
    ],
    [
      'passes after a jump forward',
      [
        ['jump', HOUR_MS],
        ['advance', 2_000],
      ],
      HOUR_MS + 2_000,
    ],
    [
      'goes back with a clock that is set right after a jump forward',
      [
        ['jump', HOUR_MS],
        ['advance', 1_000],
        ['jump', -HOUR_MS],
      ],
      1_000,
    ],
    [
      'goes back no further than that',
      [
        ['jump', HOUR_MS],
        ['advance', 1_000],
        ['jump', -3 * HOUR_MS],
      ],
      1_000,
    ],
  ]

  it.each(cases)('%s', (_, steps, sinceLearned) => {
    clock.advance(777)
    const learnedAt = clock.now()
    registry.learn(tokens(1))
    for (const [step, ms] of steps) clock[step](ms)
    expect(registry.now('grant')).toBe(learnedAt + sinceLearned)
  })

  it('is the clock’s for an unknown grant', () => {
    clock.jump(-HOUR_MS)
    expect(registry.now('grant')).toBe(clock.now())
  })

  it('is the clock’s again when the grant has ended', () => {
    registry.learn(tokens(1))
    clock.jump(-HOUR_MS)
    registry.end({ grantId: 'grant' }, 'logged_out')
    expect(registry.now('grant')).toBe(clock.now())
  })

  it('is counted from the newest tokens', () => {
    registry.learn(tokens(1))
    clock.jump(-HOUR_MS)
    registry.learn(tokens(2))
    expect(registry.now('grant')).toBe(clock.now())
  })

  it('is not counted anew from tokens that are no news', () => {
    registry.learn(tokens(2))
    const learnedAt = clock.now()
    clock.jump(-HOUR_MS)
    registry.learn(tokens(2))
    registry.learn(tokens(1))
    expect(registry.now('grant')).toBe(learnedAt)
  })
})

describe('tokens of a grant that has ended', () => {
  const error = new TokenError('ERR_REAUTHENTICATION_REQUIRED', 'refused')
  const notified: string[] = []

  beforeEach(() => {
    notified.length = 0
    registry.onEnded((grantId) => notified.push(grantId))
    registry.learn(tokens(1))
    registry.learn(tokens(1, 'other'))
  })

  it('are those of a grant that has ended; the rejection of its refresh token is forgotten', () => {
    registry.grant('grant').reject('grant 1', error)
    expect(registry.grant('grant').rejectionOf('grant 1')).toBe(error)
    expect(registry.grant('grant').rejectionOf('grant 2')).toBeUndefined()
    expect(registry.holdsEndedTokens(tokens(1))).toBe(false)
    registry.end({ grantId: 'grant' }, 'logged_out')
    expect(notified).toEqual(['grant'])
    expect(registry.holdsEndedTokens(tokens(1))).toBe(true)
    expect(registry.holdsEndedTokens(tokens(2))).toBe(true)
    expect(registry.holdsEndedTokens(tokens(1, 'other'))).toBe(false)
    expect(registry.grant('grant').rejectionOf('grant 1')).toBeUndefined()
  })

  it('are those of a grant that the authorization server has ended', () => {
    const dead = { grantId: 'grant', revision: 2, accessTokens: [] }
    registry.learn(dead)
    expect(notified).toEqual(['grant'])
    expect(registry.holdsEndedTokens(tokens(1))).toBe(true)
    expect(registry.holdsEndedTokens(dead)).toBe(false)
    expect(registry.holdsEndedTokens(tokens(1, 'other'))).toBe(false)
  })

  it('are those of a session that has left a grant', () => {
    const grantId = grantIdOf('proof')
    const of = (share: string) => ({ ...tokens(1, grantId), share })
    registry.learn(tokens(1, grantId))
    registry.end(of('a'), 'logged_out')
    expect(notified).toEqual([grantId])
    expect(registry.holdsEndedTokens(of('a'))).toBe(true)
    expect(registry.holdsEndedTokens(of('b'))).toBe(false)
  })

  it('are notified to a listener until it stops listening', () => {
    const stop = registry.onEnded((grantId) => notified.push(`also ${grantId}`))
    registry.end({ grantId: 'grant' }, 'logged_out')
    stop()
    registry.end({ grantId: 'other' }, 'logged_out')
    expect(notified).toEqual(['grant', 'also grant', 'other'])
  })
})
