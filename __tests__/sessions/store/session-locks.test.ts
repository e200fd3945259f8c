import { afterEach, beforeEach, describe, expect, it, jest } from '@jest/globals'
import { LOCK_TIMEOUT_MS } from '../../../lib/concurrency/time-constants.js'
import { SessionLocks } from '../../../lib/sessions/store/session-locks.js'

let locks: SessionLocks
let begun: string[]
let done: Record<string, () => void>

beforeEach(() => {
  jest.useFakeTimers()
  locks = new SessionLocks()
  begun = []
  done = {}
})

afterEach(() => {
  jest.useRealTimers()
  jest.restoreAllMocks()
})

/** Acquires locks in this order. The first letter of a name is the kind of the lock: `s` for shared, `x` for exclusive. */
function take(names: string, sid = 'sid'): void {
  for (const name of names.split(' ')) {
    locks.acquire(name.startsWith('s') ? 'shared' : 'exclusive', sid, (release) => {
      begun.push(name)
      done[name] = release
    })
  }
}

function end(names: string): void {
  for (const name of names.split(' ')) done[name]?.()
}

describe('locks', () => {
  it.each([
    { taken: 's1', first: 's1' },
    { taken: 'x1', first: 'x1' },
    { taken: 's1 s2 s3', first: 's1 s2 s3' },
    { taken: 'x1 x2 x3', first: 'x1' },
    { taken: 's1 x1', first: 's1' },
    { taken: 'x1 s1 s2', first: 'x1' },
    // A store that saves from within touch must not wait for what waits for touch.
    { taken: 's1 x1 s2', first: 's1 s2' },
  ])('acquired as $taken begin at once: $first', ({ taken, first }) => {
    take(taken)
    expect(begun.join(' ')).toBe(first)
  })

  it.each([
    { taken: 's1 s2 x1', ended: 's1', next: '' },
    { taken: 's1 s2 x1', ended: 's1 s2', next: 'x1' },
    { taken: 's1 s2 x1', ended: 's1 s1', next: '' },
    { taken: 's1 x1 s2', ended: 's1', next: '' },
    { taken: 's1 x1 s2', ended: 's1 s2', next: 'x1' },
    { taken: 's1 x1 x2', ended: 's1', next: 'x1' },
    { taken: 's1 x1 x2', ended: 's1 x1', next: 'x1 x2' },
    { taken: 'x1 x2 x3', ended: 'x1', next: 'x2' },
    { taken: 'x1 x2 x3', ended: 'x1 x1', next: 'x2' },
    { taken: 'x1 x2 x3', ended: 'x1 x2', next: 'x2 x3' },
    { taken: 'x1 s1 s2', ended: 'x1', next: 's1 s2' },
    { taken: 'x1 s1 x2 s2', ended: 'x1', next: 's1 s2' },
    { taken: 'x1 s1 x2 s2', ended: 'x1 s1', next: 's1 s2' },
    { taken: 'x1 s1 x2 s2', ended: 'x1 s1 s2', next: 's1 s2 x2' },
    { taken: 'x1 x2 s1', ended: 'x1', next: 'x2' },
    { taken: 'x1 x2 s1', ended: 'x1 x2', next: 'x2 s1' },
  ])('acquired as $taken continue when $ended are released: $next', ({ taken, ended, next }) => {
    take(taken)
    const atOnce = begun.length
    end(ended)
    expect(begun.slice(atOnce).join(' ')).toBe(next)
  })

  it('of other sessions are not affected', () => {
    take('x1', 'one')
    take('x2 s2', 'two')
    take('s3', 'three')
    expect(begun).toEqual(['x1', 'x2', 's3'])
    end('x1')
    expect(begun).toEqual(['x1', 'x2', 's3'])
    end('x2')
    expect(begun).toEqual(['x1', 'x2', 's3', 's2'])
  })

  it('may be released as soon as they begin, also if they had to wait', () => {
    const order: string[] = []
    take('x1')
    for (const [i, kind] of (['shared', 'exclusive', 'shared', 'exclusive'] as const).entries()) {
      locks.acquire(kind, 'sid', (release) => {
        order.push(`${i} begins`)
        release()
        order.push(`${i} has ended`)
      })
    }
    end('x1')
    expect(order.filter((each) => each.endsWith('begins')).sort()).toEqual(
      [0, 1, 2, 3].map((i) => `${i} begins`),
    )
    take('x2')
    expect(begun).toEqual(['x1', 'x2'])
  })

  it('may be acquired while a lock of the session is held', () => {
    locks.acquire('shared', 'sid', (release) => {
      take('x1 s1')
      expect(begun).toEqual(['s1'])
      release()
    })
    end('s1')
    expect(begun).toEqual(['s1', 'x1'])
  })

  it('are released once, however often release is called, also later', () => {
    take('s1 s2')
    end('s1 s1 s2')
    take('x1 x2')
    end('s1 s2 s2')
    expect(begun).toEqual(['s1', 's2', 'x1'])
  })
})

describe('the time-out of a lock', () => {
  it.each([
    { taken: 's1 x1', late: 'x1' },
    { taken: 'x1 s1', late: 's1' },
    { taken: 'x1 x2', late: 'x2' },
    { taken: 'x1 x2 s1 x3', late: 'x2 s1 x3' },
  ])('acquired as $taken and never released, $late begin after five seconds', ({ taken, late }) => {
    take(taken)
    const atOnce = begun.length
    jest.advanceTimersByTime(LOCK_TIMEOUT_MS - 1)
    expect(begun).toHaveLength(atOnce)
    jest.advanceTimersByTime(1)
    expect(begun.slice(atOnce).join(' ')).toBe(late)
  })

  it('is counted for each lock from the moment at which it was requested', () => {
    take('x1 s1')
    jest.advanceTimersByTime(3_000)
    take('s2')
    jest.advanceTimersByTime(2_000)
    expect(begun).toEqual(['x1', 's1'])
    jest.advanceTimersByTime(3_000)
    expect(begun).toEqual(['x1', 's1', 's2'])
  })

  it('holds for an exclusive lock, however many shared locks are acquired in the meantime', () => {
    take('s0 x1')
    for (let i = 1; i <= 10; i++) {
      jest.advanceTimersByTime(LOCK_TIMEOUT_MS / 10)
      take(`s${i}`)
      end(`s${i - 1}`)
    }
    expect(begun).toContain('x1')
  })

  it('begins an operation once', () => {
    take('x1 s1 x2')
    end('x1 s1')
    jest.advanceTimersByTime(2 * LOCK_TIMEOUT_MS)
    expect(begun).toEqual(['x1', 's1', 'x2'])
    expect(jest.getTimerCount()).toBe(0)
  })

  it('a lock that is released after the time-out still counts, once', () => {
    take('x1 x2')
    jest.advanceTimersByTime(LOCK_TIMEOUT_MS)
    take('s1')
    end('x1 x1')
    expect(begun).toEqual(['x1', 'x2'])
    end('x2')
    expect(begun).toEqual(['x1', 'x2', 's1'])
  })
})

describe('the entry of a session', () => {
  /** The map of the entries: the one that the sid is put into. */
  function entries(sid: string): Map<unknown, unknown> {
    const set = jest.spyOn(Map.prototype, 'set')
    take('s0', sid)
    const i = set.mock.calls.findIndex(([key]) => key === sid)
    const map = set.mock.contexts[i] as Map<unknown, unknown>
    set.mockRestore()
    expect([...map.keys()]).toEqual([sid])
    return map
  }

  it.each([
    { taken: 's1', ended: 's0 s1' },
    { taken: 's1', ended: 's1 s0' },
    { taken: 'x1', ended: 's0 x1' },
    { taken: 'x1 s1 x2', ended: 's0 s1 x1 x2' },
  ])('is removed when $taken are released', ({ taken, ended }) => {
    const map = entries('sid')
    take(taken)
    end(ended)
    expect(begun).toHaveLength(1 + taken.split(' ').length)
    expect(map.size).toBe(0)
  })

  it('stays while a lock is held or waited for', () => {
    const map = entries('sid')
    take('x1 x2')
    end('s0')
    expect(map.size).toBe(1)
    end('x1')
    expect(map.size).toBe(1)
    end('x2')
    expect(map.size).toBe(0)
  })

  it('is removed when the lock that timed out, and the lock that it waited for, are released', () => {
    const map = entries('sid')
    take('x1')
    jest.advanceTimersByTime(LOCK_TIMEOUT_MS)
    end('x1')
    expect(map.size).toBe(1)
    end('s0')
    expect(map.size).toBe(0)
  })

  it('is not changed by a lock of an earlier entry that is released again', () => {
    const map = entries('sid')
    end('s0')
    take('x1')
    end('s0')
    expect(map.size).toBe(1)
    take('s1')
    expect(begun).toEqual(['s0', 'x1'])
  })
})
