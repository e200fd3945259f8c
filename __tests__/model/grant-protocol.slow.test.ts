import { describe, expect, it } from '@jest/globals'
import {
  afterLogin,
  afterStandstill,
  type Configuration,
  type Flaw,
  forgotten,
  remembered,
  withStaleCopy,
} from './configuration.js'
import { type Exploration, explore } from './explore.js'
import { grantProtocol } from './grant-protocol.js'
import type { State } from './protocol-state.js'

type Start = (configuration: Configuration) => State

const staleAndRemembered: Start = (configuration) => withStaleCopy(configuration, remembered)
const staleAndForgotten: Start = (configuration) => withStaleCopy(configuration, forgotten)

function explored(configuration: Configuration, ...starts: Start[]): Exploration {
  const initial = (starts.length > 0 ? starts : [afterLogin]).map((start) => start(configuration))
  return explore(grantProtocol(configuration, initial))
}

function found({ violation }: Exploration): string {
  return violation ? [violation.what, ...violation.trace].join('\n  ') : 'nothing wrong'
}

const two = { processes: 2, sessions: 'compare and set' } as const

interface Row {
  readonly name: string
  readonly configuration: Configuration
  readonly starts?: readonly Start[]
  /** How many states there are. Another number tells that the model has changed. */
  readonly states: number
}

describe('in every order of things the invariants hold', () => {
  const rows: Row[] = [
    {
      name: 'one process, with everything that can happen to it',
      configuration: {
        processes: 1,
        sessions: 'read, then write',
        saves: true,
        left: { requests: 3, expiries: 1, logouts: 1, crashes: 1, breaks: 1, sessionFailures: 1 },
        allows: ['the outcome of a use is lost', 'a refresh token comes again for a grant that is over'],
      },
      states: 41673,
    },
    {
      name: 'two processes that refresh, save sessions and crash, connections that break, a session store that fails',
      configuration: {
        processes: 2,
        sessions: 'read, then write',
        saves: true,
        left: { requests: 3, expiries: 1, crashes: 1, breaks: 1, sessionFailures: 1 },
        allows: ['the outcome of a use is lost', 'a refresh token comes again for a grant that is over'],
      },
      states: 66067,
    },
    {
      name: 'the same with an authorization server that refuses reuse without ending the grant',
      configuration: {
        processes: 2,
        sessions: 'read, then write',
        reuse: 'is refused',
        left: { requests: 3, expiries: 1, crashes: 1, breaks: 1, sessionFailures: 1 },
        allows: ['the outcome of a use is lost'],
      },
      states: 14343,
    },
    {
      name: 'a logout among refreshes, crashes and broken connections',
      configuration: {
        ...two,
        left: { requests: 2, expiries: 1, crashes: 1, breaks: 1, logouts: 1 },
        allows: ['the outcome of a use is lost', 'a refresh token comes again for a grant that is over'],
      },
      states: 31177,
    },
    {
      name: 'a logout with a session store that cannot compare and set',
      configuration: {
        processes: 2,
        sessions: 'read, then write',
        saves: true,
        left: { requests: 2, crashes: 1, logouts: 1 },
        allows: [
          'the outcome of a use is lost',
          'a refresh token comes again for a grant that is over',
          'a session that is being written while it is cleared has its tokens back',
        ],
      },
      states: 42902,
    },
    {
      name: 'the same when the logout comes in a process that does not know of the refresh',
      configuration: {
        processes: 3,
        sessions: 'read, then write',
        saves: true,
        left: { requests: 1, expiries: 1, logouts: 1 },
        allows: ['a refresh token comes again for a grant that is over'],
      },
      states: 5485,
    },
    {
      name: 'three processes that refresh and crash',
      configuration: {
        processes: 3,
        sessions: 'read, then write',
        left: { requests: 3, expiries: 1, crashes: 1 },
        allows: ['the outcome of a use is lost'],
      },
      states: 21380,
    },
    {
      name: 'three processes and a logout',
      configuration: {
        processes: 3,
        sessions: 'compare and set',
        left: { requests: 3, logouts: 1 },
        allows: ['a refresh token comes again for a grant that is over'],
      },
      states: 24585,
    },
    {
      name: 'a request that has held the refresh token before the last for long',
      configuration: {
        processes: 2,
        sessions: 'read, then write',
        saves: true,
        left: { requests: 2, expiries: 1, crashes: 1 },
        allows: ['the outcome of a use is lost'],
      },
      starts: [staleAndRemembered, staleAndForgotten],
      states: 18120,
    },
    {
      name: 'a process that stands still for longer than its lease holds',
      configuration: {
        processes: 2,
        sessions: 'read, then write',
        left: { requests: 3, expiries: 1, stalls: 1, sessionFailures: 1 },
        allows: [
          'a process stands still for longer than its lease holds',
          'a refresh token comes again for a grant that is over',
        ],
      },
      states: 22844,
    },
    {
      name: 'a grant store that does not respond',
      configuration: {
        ...two,
        left: { requests: 3, expiries: 1, outages: 1, sessionFailures: 1 },
        allows: [
          'the lease runs out while a commit fails',
          'tokens that no store takes are known to one process only',
          'a refresh token comes again for a grant that is over',
        ],
      },
      states: 17028,
    },
    {
      name: 'a logout with a grant store that does not respond',
      configuration: {
        ...two,
        left: { requests: 2, outages: 1, logouts: 1 },
        allows: [
          'the lease runs out while a commit fails',
          'a refresh token comes again for a grant that is over',
          'a logout does not revoke tokens that only the session holds',
        ],
      },
      states: 24468,
    },
    {
      name: 'a grant store that loses everything',
      configuration: {
        ...two,
        left: { requests: 3, expiries: 1, losses: 1, sessionFailures: 1 },
        allows: [
          'tokens that the session does not hold are lost with the grant store',
          'a refresh token comes again for a grant that is over',
        ],
      },
      states: 11356,
    },
    {
      name: 'a logout with a grant store that loses everything',
      configuration: {
        ...two,
        left: { requests: 2, losses: 1, logouts: 1 },
        allows: [
          'tokens that the session does not hold are lost with the grant store',
          'a grant store that loses everything forgets a logout',
          'a refresh token comes again for a grant that is over',
        ],
      },
      states: 20498,
    },
  ]

  it.each(rows)('$name: $states states', ({ configuration, starts = [], states }) => {
    const exploration = explored(configuration, ...starts)
    expect(found(exploration)).toBe('nothing wrong')
    expect(exploration.states).toBe(states)
  })
})

/** Each of them is reached: an allowance that nothing needs would hide something else. */
describe('faults that the protocol does not prevent', () => {
  const over = 'a refresh token comes again for a grant that is over'
  const rows: { name: string; configuration: Configuration; violation: string; starts?: Start[] }[] = [
    {
      name: 'I1: a refresh token is presented again after a crash lost the response',
      configuration: { ...two, left: { requests: 2, crashes: 1 } },
      violation: 'I1: rt1 was presented twice',
    },
    {
      name: 'I1: … after the connection broke before the response',
      configuration: { ...two, left: { requests: 2, breaks: 1 } },
      violation: 'I1: rt1 was presented twice',
    },
    {
      name: 'I1: … by another process while its presenter stands still',
      configuration: { ...two, left: { requests: 2, stalls: 1 } },
      violation: 'I1: rt1 was presented twice',
    },
    {
      name: 'I1: … when a commit fails and the lease runs out before the session is written',
      configuration: { ...two, left: { requests: 2, outages: 1 } },
      violation: 'I1: rt1 was presented twice',
    },
    {
      name: 'I1: … when a commit and the session write after it fail',
      configuration: {
        ...two,
        left: { requests: 2, outages: 1, sessionFailures: 1 },
        allows: ['the lease runs out while a commit fails'],
      },
      violation: 'I2: one process knows rt2, and no other will find it',
    },
    {
      name: 'I1: … when the grant store loses everything before the session is written',
      configuration: { ...two, left: { requests: 2, losses: 1 } },
      violation: 'I1: rt1 was presented twice',
    },
    {
      name: 'I2: when the grant store loses everything, tokens that could not be written into the session',
      configuration: { ...two, left: { requests: 1, losses: 1, sessionFailures: 1 } },
      violation: 'I2: one process knows rt2, and no other will find it',
    },
    {
      name: 'I4: a logout is forgotten when the grant store loses everything',
      configuration: { ...two, left: { logouts: 1, losses: 1 } },
      violation: 'I4: the grant store has forgotten the logout',
    },
    {
      name: 'I1: a refresh token is presented again while its grant is being logged out',
      configuration: { ...two, left: { requests: 2, logouts: 1 } },
      violation: 'I1: rt1 was presented twice, the second time for a grant that is over',
    },
    {
      name: 'I4: tokens that a failed commit left only in the session are cleared, and not revoked',
      configuration: {
        ...two,
        left: { requests: 1, outages: 1, logouts: 1 },
        allows: ['the lease runs out while a commit fails', over],
      },
      violation: 'I4: rt2 is not revoked after the logout',
    },
    {
      name: 'I4: a session that is cleared by a process that knows the tokens, while another writes them, has them back',
      configuration: {
        ...two,
        sessions: 'read, then write',
        left: { requests: 2, logouts: 1 },
        allows: [over],
      },
      violation: 'I4: the session has tokens again after the logout',
    },
    {
      name: 'I2: tokens that a failed commit left only in the session are overwritten by a slow process',
      configuration: {
        ...two,
        sessions: 'read, then write',
        left: { requests: 2, expiries: 1, outages: 1 },
        allows: ['the lease runs out while a commit fails'],
      },
      violation: 'I2: revision 2 took the place of 3',
    },
    {
      name: 'I6: a refused refresh token ends the grant while a process that stood still has the next one',
      configuration: {
        ...two,
        reuse: 'is refused',
        left: { requests: 2, stalls: 1 },
        allows: ['a process stands still for longer than its lease holds'],
      },
      violation: 'I6: the grant was ended, and rt2 is good',
    },
  ]

  it.each(rows)('$name', ({ configuration, violation }) => {
    expect(explored(configuration).violation?.what).toBe(violation)
  })
})

describe('the model notices', () => {
  const over = 'a refresh token comes again for a grant that is over'
  const refreshes: Configuration = { ...two, left: { requests: 2 } }
  const crashes: Configuration = {
    ...two,
    left: { requests: 2, crashes: 1 },
    allows: ['the outcome of a use is lost'],
  }
  const standstill: Configuration = {
    ...two,
    left: { requests: 3, stalls: 1, sessionFailures: 1 },
    allows: ['a process stands still for longer than its lease holds', over],
  }
  const outages: Configuration = {
    ...two,
    left: { requests: 3, expiries: 1, outages: 1, sessionFailures: 1 },
    allows: [
      'the lease runs out while a commit fails',
      'tokens that no store takes are known to one process only',
      over,
    ],
  }
  const logout: Configuration = { ...two, left: { requests: 2, logouts: 1 }, allows: [over] }
  const crossing: Configuration = {
    ...two,
    sessions: 'read, then write',
    left: { requests: 1, logouts: 1 },
    allows: [over],
  }
  const wakesUp: Configuration = { ...two, reuse: 'is refused', left: {} }

  const rows: [flaw: Flaw, configuration: Configuration, violation: string, ...Start[]][] = [
    ['no lease', refreshes, 'I1: rt1 was presented twice'],
    ['the session is not read again', refreshes, 'I1: rt1 was presented twice', staleAndForgotten],
    ['a waiter presents the token that it had before it waited', refreshes, 'I1: rt1 was presented twice'],
    ['a commit overwrites whatever is there', outages, 'I2: revision 2 took the place of 3'],
    ['the lease is not renewed', refreshes, 'I1: rt1 was presented twice'],
    [
      'only the holder of the lease may commit',
      standstill,
      'I2: one process knows rt2, and no other will find it',
    ],
    ['any process may release the lease', standstill, 'I1: rt1 was presented twice'],
    ['a crashed holder keeps the lease', crashes, 'deadlock: nothing is due'],
    ['the session is overwritten whatever its revision', outages, 'I2: revision 2 took the place of 3'],
    [
      'the session is written even if it holds no tokens',
      logout,
      'I4: the session has tokens again after the logout',
    ],
    [
      'invalid_grant is believed at once',
      wakesUp,
      'I6: the grant was ended, and rt3 is good',
      afterStandstill,
    ],
    ['no process asks after a slow write', crossing, 'I4: the session has tokens again after the logout'],
    ['a logout clears the session once', crossing, 'I4: the session has tokens again after the logout'],
    ['a logout leaves no tombstone', logout, 'I4: the grant store has forgotten the logout'],
    ['a logout revokes the tokens that it knows itself', logout, 'I4: rt2 is not revoked after the logout'],
    ['late tokens are not revoked', logout, 'I4: rt2 is not revoked after the logout'],
  ]

  it.each(rows)('that %s', (flaw, configuration, violation, ...starts) => {
    expect(found(explored(configuration, ...starts))).toBe('nothing wrong')
    expect(explored({ ...configuration, flaw }, ...starts).violation?.what).toBe(violation)
  })
})
