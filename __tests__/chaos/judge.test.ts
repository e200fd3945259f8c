import { describe, expect, it } from '@jest/globals'
import {
  exchangesOfOlder,
  hadExpired,
  lateIssuesOf,
  lateWritesTo,
  lossOf,
  mayBeServed,
  newestKnownSerial,
  repetitionsOf,
  wronglyRefused,
} from './judge.js'
import type {
  Exchange,
  Grant,
  Incarnation,
  Issue,
  LibraryEvent,
  OlderToken,
  Presentation,
} from './records.js'

function process(details: Partial<Incarnation> = {}): Incarnation {
  return { name: 'p0.1', slot: 0, pauses: [], events: [], ...details }
}

function stored(at: number) {
  return { at, type: 'refreshed', grantId: 'g' }
}

/** What a process had found in a store. */
function told(type: 'stored' | 'heard', at: number, refreshToken = 'r2'): LibraryEvent {
  return { at, type, grantId: 'g', refreshToken }
}

/** A refresh token that came at a time, and was answered ten milliseconds later. */
function presented(at: number, details: Partial<Presentation> = {}): Presentation {
  const answered = { outcome: 'succeeded', judgedAt: at + 5, answeredAt: at + 10, status: 200 } as const
  return { at, sentAt: at - 1, serial: 1, by: process(), ...answered, ...details }
}

function refused(at: number, details: Partial<Presentation> = {}): Presentation {
  return presented(at, { outcome: 'invalid_grant', status: 400, ...details })
}

/** An access token of the login that came at a time to be exchanged, and was answered ten milliseconds later. */
function exchanged(at: number, details: Partial<Exchange> = {}): Exchange {
  const answered = { outcome: 'succeeded', judgedAt: at + 5, answeredAt: at + 10, status: 200 } as const
  return { number: 1, at, sentAt: at - 1, serial: 1, by: process(), ...answered, ...details }
}

function grant(presentations: Presentation[], details: Partial<Grant> = {}): Grant {
  const issues: Issue[] = [{ serial: 1, refreshToken: 'r1', accessToken: 'a1', at: 0 }]
  for (const answers of presentations.filter(({ outcome }) => outcome === 'succeeded')) {
    const serial = issues.length + 1
    issues.push({
      serial,
      refreshToken: `r${serial}`,
      accessToken: `a${serial}`,
      at: answers.judgedAt!,
      answers,
    })
  }
  const records = {
    issues,
    presentations,
    exchanges: [],
    revocations: [],
    olderTokens: [],
    servedAfterEnd: [],
  }
  return { session: 0, login: 1, sub: 'user', libraryId: 'g', ...records, ...details }
}

const KILLED = 'the answer was lost with its process, which was killed'
const PAUSED = 'outcome unknown: the holder was paused longer than its lease'
const ON_ITS_WAY = 'outcome unknown: it was on its way when its process was paused longer than its lease'
const LOST = 'the answer was lost with its connection'

describe('repetitionsOf(grant)', () => {
  const excuses = (presentations: Presentation[]) =>
    repetitionsOf(grant(presentations)).map(({ excuse }) => excuse ?? 'none')

  it('finds none where each refresh token came once', () => {
    expect(excuses([presented(100), presented(200, { serial: 2 })])).toEqual([])
  })

  it.each<[string, Presentation, string]>([
    ['was answered', presented(100), 'none'],
    ['is under way', { at: 100, sentAt: 99, serial: 1, by: process() }, 'none'],
    [
      'was refused for its proof, which had no nonce',
      presented(100, { outcome: 'other', status: 400 }),
      'it had not been used',
    ],
    [
      'was answered with 503, unseen',
      { ...presented(100), outcome: undefined!, status: 503 },
      'it had not been used',
    ],
    ['lost its answer', presented(100, { lostAt: 150 }), LOST],
    ['lost its answer later', presented(100, { lostAt: 5_000 }), 'none'],
    ['is of a process that was killed', presented(100, { by: process({ killedAt: 120 }) }), KILLED],
    ['is of a process that was killed later', presented(100, { by: process({ killedAt: 5_000 }) }), 'none'],
    [
      'is of a process that was killed when it had stored the answer',
      presented(100, { by: process({ killedAt: 200, events: [stored(190)] }) }),
      'none',
    ],
    [
      'is of a process that was killed when no store had taken the answer',
      presented(100, {
        by: process({
          killedAt: 200,
          events: [{ at: 160, type: 'session_write_failed', grantId: 'g' }, stored(190)],
        }),
      }),
      KILLED,
    ],
    [
      'is of a process that was paused longer than its lease',
      presented(100, { by: process({ pauses: [{ from: 105, to: 6_105 }] }) }),
      PAUSED,
    ],
    [
      'is of a process that was paused shortly',
      presented(100, { by: process({ pauses: [{ from: 105, to: 1_105 }] }) }),
      'none',
    ],
    [
      'is of a process that was paused when it had stored the answer',
      presented(100, { by: process({ pauses: [{ from: 112, to: 6_112 }], events: [stored(111)] }) }),
      'none',
    ],
    [
      'is of a process that had stored earlier tokens again, and was paused then',
      presented(100, {
        by: process({
          pauses: [{ from: 104, to: 6_104 }],
          events: [{ at: 102, type: 'committed', grantId: 'g' }],
        }),
      }),
      PAUSED,
    ],
    [
      'is of a process that was killed when it had stored an exchanged token beside the earlier refresh token',
      presented(100, {
        lostAt: 105,
        by: process({
          killedAt: 200,
          events: [
            { at: 150, type: 'committed', grantId: 'g', refreshToken: 'r1' },
            { at: 160, type: 'refreshed', grantId: 'g', refreshToken: 'r1' },
          ],
        }),
      }),
      KILLED,
    ],
    [
      'is of a process that was killed when it had stored the answer, and named its refresh token',
      presented(100, {
        by: process({
          killedAt: 200,
          events: [{ at: 150, type: 'committed', grantId: 'g', refreshToken: 'r2' }],
        }),
      }),
      'none',
    ],
  ])('judges one that %s', (_, earlier, excuse) => {
    expect(excuses([earlier, refused(4_000)])).toEqual([excuse])
  })

  it('judges both presentations of one refresh that was repeated with a nonce', () => {
    const withoutNonce = (at: number) => presented(at, { outcome: 'other', status: 400 })
    const [first, again, last] = [presented(100), withoutNonce(200), refused(210)]
    expect(excuses([withoutNonce(90), first])).toEqual(['it had not been used'])
    expect(excuses([first, again, last])).toEqual(['none', 'none'])
    expect(excuses([presented(100, { lostAt: 105 }), again, last])).toEqual([LOST, LOST])
  })

  it('has no excuse for a token whose successor was presented', () => {
    const first = presented(100, { lostAt: 150 })
    expect(excuses([first, presented(200, { serial: 2 }), refused(300)])).toEqual(['none'])
  })

  it('has no excuse for a process that goes on after a pause without asking again', () => {
    const late = refused(9_000, { by: process({ pauses: [{ from: 1_000, to: 8_990 }] }) })
    expect(excuses([presented(7_000), late])).toEqual(['none'])
  })

  describe('and one that was on its way when its process was paused', () => {
    const paused = process({ name: 'p1.1', pauses: [{ from: 1_000, to: 9_000 }] })
    const onItsWay = { by: paused, sentAt: 998 }

    it.each<[string, Presentation[], string]>([
      ['excuses it', [presented(7_000), refused(9_001, onItsWay)], ON_ITS_WAY],
      [
        'excuses it though the next one has been presented meanwhile',
        [presented(7_000), presented(8_000, { serial: 2 }), refused(9_001, onItsWay)],
        ON_ITS_WAY,
      ],
      [
        'excuses who had the lease by then, and was slower all the same',
        [presented(9_001, onItsWay), refused(9_003, { sentAt: 7_000 })],
        ON_ITS_WAY,
      ],
    ])('%s', (_, presentations, excuse) => {
      expect(excuses(presentations)).toEqual([excuse])
    })

    it.each<[string, Presentation[]]>([
      [
        'it was sent off after the pause',
        [presented(7_000), refused(9_001, { by: paused, sentAt: 9_000.5 })],
      ],
      ['the other was sent off before a lease lapses', [presented(3_000), refused(9_001, onItsWay)]],
      ['the other was sent off when the pause was over', [presented(9_500), refused(9_600, { by: paused })]],
      [
        'it was another process that was paused',
        [presented(7_000), refused(9_001, { sentAt: 998, by: process({ name: 'p2.1' }) })],
      ],
      ['the same process had presented it', [presented(900, { by: paused }), refused(9_001, onItsWay)]],
      [
        'it had arrived before',
        [presented(900, onItsWay), presented(7_000, { serial: 2 }), refused(9_100, { sentAt: 9_099 })],
      ],
      [
        'the pause was short',
        [
          presented(3_000),
          refused(4_001, {
            sentAt: 998,
            by: process({ name: 'p1.1', pauses: [{ from: 1_000, to: 4_000 }] }),
          }),
        ],
      ],
    ])('has no excuse when %s', (_, presentations) => {
      expect(excuses(presentations)).toEqual(['none'])
    })
  })
})

describe('repetitionsOf(grant, redisRestarts)', () => {
  const excuse = (earlier: Presentation, downAt: number) => {
    const [found] = repetitionsOf(grant([earlier, refused(4_000)]), [{ downAt, upAt: downAt + 1 }])
    return found!.excuse ?? 'none'
  }

  it('takes what Redis has committed for stored, until Redis forgets', () => {
    const committed = { at: 120, type: 'committed', grantId: 'g' }
    const answered = presented(100, { by: process({ killedAt: 130, events: [committed] }) })
    expect(excuse(answered, 90)).toBe('none')
    expect(excuse(answered, 200)).toBe(KILLED)
    expect(excuse(answered, 5_000)).toBe('none')
  })

  it('excuses who presents a token that was refused when Redis was out of reach', () => {
    expect(excuse(refused(100), 200)).toBe('it had been refused, and Redis was out of reach')
    expect(excuse(refused(100), 5_000)).toBe('none')
  })
})

describe('repetitionsOf(grant, redisRestarts, incarnations)', () => {
  describe('of a token whose successor was presented, and was in Redis alone', () => {
    const committed = { at: 120, type: 'committed', grantId: 'g' }
    /** The first one is killed when Redis has its tokens; the second has them from there, and is killed as well. */
    const excuse = (downAt: number, events: { other?: LibraryEvent[]; last?: LibraryEvent[] } = {}) => {
      const first = process({ killedAt: 130, events: [committed] })
      const second = process({ name: 'p1.1', killedAt: 900, events: [told('heard', 700)] })
      const other = process({ name: 'p2.1', events: events.other ?? [] })
      const last = process({ name: 'p3.1', events: events.last ?? [] })
      const presentations = [
        presented(100, { by: first }),
        presented(800, { by: second, serial: 2 }),
        refused(9_000, { by: last }),
      ]
      const restarts = [{ downAt, upAt: downAt + 1 }]
      const [found] = repetitionsOf(grant(presentations), restarts, [first, second, other, last])
      return found!.excuse ?? 'none'
    }

    it('excuses who comes when Redis has forgotten it', () => {
      expect(excuse(5_000)).toBe(KILLED)
      expect(excuse(5_000, { other: [told('heard', 750)] })).toBe(KILLED)
    })

    it('has no excuse while Redis knows it', () => {
      expect(excuse(9_500)).toBe('none')
      expect(excuse(400)).toBe('none')
    })

    it('has no excuse when anybody has found it in the session', () => {
      expect(excuse(5_000, { other: [told('stored', 750)] })).toBe('none')
      expect(excuse(5_000, { other: [told('stored', 850, 'r3')] })).toBe('none')
    })

    it('has no excuse for who had heard of it', () => {
      expect(excuse(5_000, { last: [told('heard', 750)] })).toBe('none')
    })
  })

  describe('after a logout', () => {
    const logout = { kind: 'destroy', began: 105, ended: 140, failures: [] }
    const excuse = (
      downAt: number,
      upAt: number,
      { events = [], details = {} }: { events?: LibraryEvent[]; details?: Partial<Grant> } = {},
    ) => {
      const later = refused(9_000, { by: process({ name: 'p1.1', events }) })
      const [found] = repetitionsOf(grant([presented(100), later], { logout, ...details }), [
        { downAt, upAt },
      ])
      return found!.excuse ?? 'none'
    }
    const FORGOTTEN = 'it had been logged out, and Redis was out of reach or had forgotten that'

    it('excuses who could not hear of it, as Redis had forgotten it', () => {
      expect(excuse(5_000, 5_100)).toBe(FORGOTTEN)
      expect(excuse(90, 110)).toBe(FORGOTTEN)
    })

    it('has no excuse when Redis had known of it all the time', () => {
      expect(excuse(90, 100)).toBe('none')
      expect(excuse(9_500, 9_600)).toBe('none')
    })

    it('has no excuse for who had heard of it', () => {
      expect(excuse(5_000, 5_100, { events: [{ at: 4_000, type: 'end heard', grantId: 'g' }] })).toBe('none')
      const another = [{ at: 4_000, type: 'end heard', grantId: 'h' }]
      expect(excuse(5_000, 5_100, { events: another })).toBe(FORGOTTEN)
    })

    it('has no excuse while nobody has logged out', () => {
      expect(excuse(5_000, 5_100, { details: { logout: { ...logout, ended: 9_100 } } })).toBe('none')
      expect(excuse(5_000, 5_100, { details: { logout: { kind: 'clear', began: 105, failures: [] } } })).toBe(
        'none',
      )
    })
  })
})

describe('lossOf(grant)', () => {
  it('names the reason', () => {
    const { reason } = lossOf(grant([presented(100, { lostAt: 110 }), refused(4_000)]))
    expect(reason).toBe(LOST)
  })

  it.each<[string, Presentation[]]>([
    ['the authorization server had never refused it', [presented(100)]],
    ['the authorization server refused a token that had not been used', [refused(100)]],
    ['1/1 was used by p0.1 and presented again by p0.1', [presented(100), refused(200)]],
  ])('has none when %s', (explanation, presentations) => {
    expect(lossOf(grant(presentations))).toEqual({ grant: expect.anything(), explanation })
  })
})

describe('lossOf(grant) of a refresh that was repeated with a nonce', () => {
  it('has a reason only if the refresh token had been used before', () => {
    const withoutNonce = presented(200, { outcome: 'other', status: 400 })
    expect(lossOf(grant([withoutNonce, refused(210)])).reason).toBeUndefined()
    expect(lossOf(grant([presented(100, { lostAt: 110 }), withoutNonce, refused(210)])).reason).toBe(LOST)
  })
})

describe('wronglyRefused(grant)', () => {
  const judged = (exchange: Exchange, presentations: Presentation[] = [], details: Partial<Grant> = {}) =>
    wronglyRefused(grant(presentations, { exchanges: [exchange], ...details })).length

  it('finds a refusal of a token that had not expired, of a login that was not over', () => {
    const isRefused = { outcome: 'refused', status: 400 } as const
    expect(judged(exchanged(100, isRefused))).toBe(1)
    expect(judged(exchanged(490, isRefused))).toBe(1)
    expect(judged(exchanged(1_200, { ...isRefused, serial: 2 }), [presented(1_000)])).toBe(1)
  })

  it('leaves a token that may have expired, as the server counts whole seconds', () => {
    expect(judged(exchanged(500, { outcome: 'refused' }))).toBe(0)
    expect(judged(exchanged(1_200, { outcome: 'refused' }), [presented(1_000)])).toBe(0)
  })

  it('leaves a login that was over', () => {
    const isRefused = { outcome: 'refused' } as const
    expect(judged(exchanged(300, isRefused), [presented(100), refused(200)])).toBe(0)
    expect(judged(exchanged(300, isRefused), [presented(100), refused(400)])).toBe(1)
    const revocations = [{ at: 200, serial: 1, by: process(), processed: true }]
    expect(judged(exchanged(300, isRefused), [], { revocations })).toBe(0)
  })

  it('leaves one that was refused for its proof alone, and one that was exchanged', () => {
    expect(judged(exchanged(100, { outcome: 'other' }))).toBe(0)
    expect(judged(exchanged(100))).toBe(0)
  })
})

describe('hadExpired(exchange, at)', () => {
  it.each<[string, Partial<Exchange>, number, boolean]>([
    ['two seconds and a second to read the response later', {}, 3_110, false],
    ['after that', {}, 3_111, true],
    [
      'as long after the end of a pause',
      { by: process({ pauses: [{ from: 105, to: 5_000 }] }) },
      8_000,
      false,
    ],
    ['longer after the end of a pause', { by: process({ pauses: [{ from: 105, to: 5_000 }] }) }, 8_001, true],
    [
      'after a pause that began later',
      { by: process({ pauses: [{ from: 1_200, to: 5_000 }] }) },
      3_111,
      true,
    ],
  ])('of one that is served %s', (_, details, at, expected) => {
    expect(hadExpired(exchanged(100, details), at)).toBe(expected)
  })
})

describe('exchangesOfOlder(grant, redisRestarts, incarnations)', () => {
  /** Tokens 2 came at 1,000; the access token of the login comes at 3,000 to be exchanged. */
  const judged = (
    events: { by?: LibraryEvent[]; other?: LibraryEvent[] },
    { details, restarts = [] }: { details?: Partial<Exchange>; restarts?: { downAt: number }[] } = {},
  ) => {
    const by = process({ pauses: details?.by?.pauses ?? [], events: events.by ?? [] })
    const other = process({ name: 'p1.1', events: events.other ?? [] })
    const exchanges = [exchanged(3_000, { ...details, by })]
    return exchangesOfOlder(grant([presented(1_000)], { exchanges }), restarts, [by, other]).length
  }

  it('finds one whose process could know the newer token', () => {
    expect(judged({ other: [told('stored', 1_500)] })).toBe(1)
    expect(judged({ by: [told('heard', 1_500)] })).toBe(1)
    expect(judged({ by: [told('heard', 1_500)] }, { details: { isJob: true } })).toBe(1)
  })

  it('leaves one whose process could not', () => {
    expect(judged({})).toBe(0)
    expect(judged({ other: [told('heard', 1_500)] })).toBe(0)
    expect(judged({ other: [told('stored', 2_500)] })).toBe(0)
    expect(judged({ other: [told('stored', 1_500)] }, { details: { isJob: true } })).toBe(0)
    expect(judged({ by: [told('heard', 1_500)] }, { details: { serial: 2 } })).toBe(0)
  })

  it('leaves one whose process was paused, or whose Redis has forgotten', () => {
    const paused = { by: process({ pauses: [{ from: 500, to: 2_500 }] }) }
    const before = { by: process({ pauses: [{ from: 500, to: 1_900 }] }) }
    expect(judged({ other: [told('stored', 1_500)] }, { details: paused })).toBe(0)
    expect(judged({ other: [told('stored', 1_500)] }, { details: before })).toBe(1)
    expect(judged({ other: [told('stored', 1_500)] }, { restarts: [{ downAt: 1_700 }] })).toBe(0)
  })
})

describe('lateIssuesOf(grant, redisRestarts)', () => {
  const logout = { kind: 'clear', began: 50, ended: 60, failures: [] }
  const excuses = (
    answers: Presentation,
    details: Partial<Grant> = {},
    restarts: { downAt: number; upAt: number }[] = [],
  ) => lateIssuesOf(grant([answers], { logout, ...details }), restarts).map(({ excuse }) => excuse ?? 'none')

  it('takes only those that came after the logout', () => {
    expect(excuses(presented(20))).toEqual([])
    expect(excuses(presented(55))).toEqual(['none'])
  })

  it('excuses those that could not be revoked', () => {
    expect(excuses(presented(55, { by: process({ killedAt: 70 }) }))).toEqual(['its process was killed'])
    expect(excuses(presented(55, { lostAt: 70 }))).toEqual(['its answer was lost with its connection'])
    const revocation = { at: 80, serial: 2, by: process(), processed: false }
    expect(excuses(presented(55), { revocations: [revocation] })).toEqual(['the revocation failed'])
    const forgotten = 'Redis was out of reach, or had forgotten the logout'
    expect(excuses(presented(55), {}, [{ downAt: 55, upAt: 62 }])).toEqual([forgotten])
    expect(excuses(presented(55), {}, [{ downAt: 10, upAt: 12 }])).toEqual(['none'])
  })
})

describe('mayBeServed(grant, older, incarnations)', () => {
  /** Tokens 2 came at 110, tokens 3 at 1,010; tokens 2 are served to a request from 1,030 to 1,040. */
  const judged = (
    events: { by?: LibraryEvent[]; other?: LibraryEvent[] },
    times: Partial<OlderToken> = {},
  ) => {
    const by = process({ events: events.by ?? [] })
    const other = process({ name: 'p1.1', events: events.other ?? [] })
    const older = { by, began: 1_030, at: 1_040, serial: 2, newest: 3, isJob: false, ...times }
    const both = grant([presented(100), presented(1_000, { serial: 2 })], { loggedInAt: 50 })
    return mayBeServed(both, older, [by, other])
  }

  it('lets a valid token be served before the newer one is told', () => {
    expect(judged({})).toBe(true)
    expect(judged({ other: [told('stored', 1_031, 'r3')] })).toBe(true)
    expect(judged({ by: [told('heard', 1_031, 'r3')] })).toBe(true)
    expect(judged({ other: [told('heard', 1_012, 'r3')] })).toBe(true)
    expect(judged({ by: [told('stored', 120, 'r2'), told('heard', 115, 'r2')] })).toBe(true)
  })

  it('does not once anybody has found the newer one in the session', () => {
    expect(judged({ other: [told('stored', 1_030, 'r3')] })).toBe(false)
    expect(judged({ by: [told('stored', 1_020, 'r3')] })).toBe(false)
  })

  it('does not once the process itself has heard of the newer one', () => {
    expect(judged({ by: [told('heard', 1_020, 'r3')] })).toBe(false)
  })

  it('lets a job be served until the process has heard of the newer one: a job reads no session', () => {
    const isJob = true
    expect(judged({ other: [told('stored', 1_020, 'r3')] }, { isJob })).toBe(true)
    expect(judged({ by: [told('heard', 1_020, 'r3')] }, { isJob })).toBe(false)
  })

  it('does not when one in between is told', () => {
    expect(judged({ other: [told('stored', 1_020, 'r2')] }, { serial: 1 })).toBe(false)
  })

  it.each([1_005, 1_011, 1_060])(
    'counts the lifetime from when the process could read: paused at %i',
    (from) => {
      const by = process({ events: [], pauses: [{ from, to: 1_900 }] })
      const late = presented(1_000, { serial: 2, by })
      const both = grant([presented(100), late, presented(2_000, { serial: 3, by })], { loggedInAt: 50 })
      const older = { by, began: 3_800, serial: 3, newest: 4, isJob: false }
      expect(mayBeServed(both, { ...older, at: 3_900 }, [by])).toBe(true)
      expect(mayBeServed(both, { ...older, at: 3_901 }, [by])).toBe(false)
    },
  )

  it.each<[Partial<OlderToken>, boolean]>([
    [{ at: 2_110 }, true],
    [{ at: 2_111 }, false],
    [{ serial: 1, at: 2_050 }, true],
    [{ serial: 1, at: 2_051 }, false],
  ])('does not when it has expired: %j is %s', (times, expected) => {
    expect(judged({}, times)).toBe(expected)
  })
})

describe('newestKnownSerial(grant)', () => {
  it('counts what was stored', () => {
    const first = presented(100, { by: process({ events: [stored(120)] }) })
    const second = presented(200, { serial: 2, lostAt: 205 })
    expect(newestKnownSerial(grant([]))).toBe(1)
    expect(newestKnownSerial(grant([first]))).toBe(2)
    expect(newestKnownSerial(grant([first, second]))).toBe(2)
  })
})

describe('lateWritesTo(grants, incarnations)', () => {
  const long = { at: 100, to: 7_000, type: 'long write', grantId: 'g' }

  it('finds session writes that were under way when their process was paused', () => {
    const paused = process({ pauses: [{ from: 110, to: 6_990 }], events: [long] })
    expect(lateWritesTo([grant([])], [paused])).toEqual([7_000])
    expect(lateWritesTo([grant([], { libraryId: 'another' })], [paused])).toEqual([])
  })

  it('leaves those that were just slow, or began after the pause', () => {
    const slow = process({ events: [long] })
    const after = process({ pauses: [{ from: 90, to: 99 }], events: [long] })
    expect(lateWritesTo([grant([])], [slow, after])).toEqual([])
  })
})
