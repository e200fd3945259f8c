import { beforeEach, describe, expect, it } from '@jest/globals'
import { TokenError } from '../../lib/errors.js'
import { grantIdOf, identityOf } from '../../lib/grant-proof.js'
import { KnownGrants } from '../../lib/grants/known-grants.js'
import type { TokenSet } from '../../lib/token-set.js'
import type { TestClock } from '../helpers/clock.js'

const HOUR_MS = 3_600_000

/** Stands still unless a test turns it. */
let clock: TestClock
let known: KnownGrants

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
  known = new KnownGrants(clock)
})

function tokens(revision: number, grantId = 'grant'): TokenSet {
  return { grantId, revision, refreshToken: `${grantId} ${revision}`, accessTokens: [] }
}

describe('what is known of a grant', () => {
  it('is nothing at first', () => {
    expect(known.get('grant')).toBeUndefined()
    expect(known.ended('grant')).toBeUndefined()
  })

  it.each([
    { learned: [1], revision: 1 },
    { learned: [1, 2], revision: 2 },
    { learned: [2, 1], revision: 2 },
    { learned: [9, 10], revision: 10 },
    { learned: [2, 5, 3, 4], revision: 5 },
  ])('is the newest of the revisions $learned', ({ learned, revision }) => {
    for (const each of learned) known.learn(tokens(each))
    expect(known.get('grant')).toEqual(tokens(revision))
  })

  it('is the first of two sets of one revision', () => {
    const first = tokens(1)
    known.learn(first)
    known.learn({ ...first, refreshToken: 'another' })
    expect(known.get('grant')).toBe(first)
  })

  it('is known of each grant by itself', () => {
    known.learn(tokens(2, 'one'))
    known.learn(tokens(1, 'other'))
    known.end('one', 'logged_out')
    expect(known.get('other')).toEqual(tokens(1, 'other'))
    expect(known.ended('other')).toBeUndefined()
  })

  it('is forgotten beyond maxGrants', () => {
    known = new KnownGrants(clock, { maxGrants: 2 })
    for (const grantId of ['one', 'two', 'three']) known.learn(tokens(1, grantId))
    expect(known.get('one')).toBeUndefined()
    expect(known.get('two')).toEqual(tokens(1, 'two'))
    expect(known.get('three')).toEqual(tokens(1, 'three'))
  })

  it('can be learned again, and older, once it is forgotten', () => {
    known = new KnownGrants(clock, { maxGrants: 1 })
    for (const each of [tokens(2, 'one'), tokens(1, 'two'), tokens(1, 'one')]) known.learn(each)
    expect(known.get('one')).toEqual(tokens(1, 'one'))
  })

  it('holds ten thousand grants unless told otherwise', () => {
    for (let i = 0; i <= 10_000; i++) known.learn(tokens(1, `${i}`))
    expect(known.get('0')).toBeUndefined()
    expect(known.get('1')).toEqual(tokens(1, '1'))
  })
})

describe('a grant that has ended', () => {
  it.each(['logged_out', 'replaced'] as const)('is forgotten and not learned of again: %s', (why) => {
    known.learn(tokens(1))
    known.end('grant', why)
    expect(known.get('grant')).toBeUndefined()
    known.learn(tokens(2))
    expect(known.get('grant')).toBeUndefined()
    expect(known.ended('grant')).toBe(why)
  })

  it('keeps the first reason', () => {
    known.end('grant', 'replaced')
    known.end('grant', 'logged_out')
    expect(known.ended('grant')).toBe('replaced')
  })

  it('is remembered for longer than maxGrants grants', () => {
    known = new KnownGrants(clock, { maxGrants: 2 })
    known.end('grant', 'logged_out')
    for (let i = 0; i < 1_000; i++) {
      known.learn(tokens(1, `${i}`))
      known.end(`${i}`, 'replaced')
    }
    known.learn(tokens(1))
    expect(known.ended('grant')).toBe('logged_out')
    expect(known.get('grant')).toBeUndefined()
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
    known.learn(tokens(1))
    for (const [step, ms] of steps) clock[step](ms)
    expect(known.now('grant')).toBe(learnedAt + sinceLearned)
  })

  it('is the clock’s for a grant of which nothing is known', () => {
    clock.jump(-HOUR_MS)
    expect(known.now('grant')).toBe(clock.now())
  })

  it('is the clock’s again when the grant has ended', () => {
    known.learn(tokens(1))
    clock.jump(-HOUR_MS)
    known.end('grant', 'logged_out')
    expect(known.now('grant')).toBe(clock.now())
  })

  it('is counted from the newest tokens', () => {
    known.learn(tokens(1))
    clock.jump(-HOUR_MS)
    known.learn(tokens(2))
    expect(known.now('grant')).toBe(clock.now())
  })

  it('is not counted anew from tokens that are no news', () => {
    known.learn(tokens(2))
    const learnedAt = clock.now()
    clock.jump(-HOUR_MS)
    known.learn(tokens(2))
    known.learn(tokens(1))
    expect(known.now('grant')).toBe(learnedAt)
  })
})

describe('tokens of a grant that is over', () => {
  const error = new TokenError('ERR_REAUTHENTICATION_REQUIRED', 'refused')
  const told: string[] = []

  beforeEach(() => {
    told.length = 0
    known.onOver((grantId) => told.push(grantId))
    known.learn(tokens(1))
    known.learn(tokens(1, 'other'))
  })

  it('are those of a grant that has ended; the refusal of its refresh token is forgotten', () => {
    known.refuse('grant', 'grant 1', error)
    expect(known.refusalOf('grant', 'grant 1')).toBe(error)
    expect(known.refusalOf('grant', 'grant 2')).toBeUndefined()
    expect(known.holdsEndedTokens(tokens(1))).toBe(false)
    known.end('grant', 'logged_out')
    expect(told).toEqual(['grant'])
    expect(known.holdsEndedTokens(tokens(1))).toBe(true)
    expect(known.holdsEndedTokens(tokens(2))).toBe(true)
    expect(known.holdsEndedTokens(tokens(1, 'other'))).toBe(false)
    expect(known.refusalOf('grant', 'grant 1')).toBeUndefined()
  })

  it('are those of a grant that the authorization server has ended', () => {
    const dead = { grantId: 'grant', revision: 2, accessTokens: [] }
    known.learn(dead)
    expect(told).toEqual(['grant'])
    expect(known.holdsEndedTokens(tokens(1))).toBe(true)
    expect(known.holdsEndedTokens(dead)).toBe(false)
    expect(known.holdsEndedTokens(tokens(1, 'other'))).toBe(false)
  })

  it('are those of a session that has left a grant', () => {
    const grantId = grantIdOf('proof')
    const of = (share: string) => ({ ...tokens(1, grantId), share })
    known.learn(tokens(1, grantId))
    known.end(identityOf(of('a')), 'logged_out')
    expect(told).toEqual([grantId])
    expect(known.holdsEndedTokens(of('a'))).toBe(true)
    expect(known.holdsEndedTokens(of('b'))).toBe(false)
  })

  it('are told to a listener until it stops listening', () => {
    const stop = known.onOver((grantId) => told.push(`also ${grantId}`))
    known.end('grant', 'logged_out')
    stop()
    known.end('other', 'logged_out')
    expect(told).toEqual(['grant', 'also grant', 'other'])
  })
})
