import { afterEach, beforeEach, describe, expect, it, jest } from '@jest/globals'
import { SessionTurns } from '../../lib/sessions/session-turns.js'

const PATIENCE_MS = 5_000

let turns: SessionTurns
let begun: string[]
let done: Record<string, () => void>

beforeEach(() => {
  jest.useFakeTimers()
  turns = new SessionTurns()
  begun = []
  done = {}
})

afterEach(() => {
  jest.useRealTimers()
  jest.restoreAllMocks()
})

/** Takes turns in the order given: the first letter of a name tells its kind, `s` for shared and `x` for exclusive. */
function take(names: string, sid = 'sid'): void {
  for (const name of names.split(' ')) {
    turns.take(name.startsWith('s') ? 'shared' : 'exclusive', sid, (over) => {
      begun.push(name)
      done[name] = over
    })
  }
}

function end(names: string): void {
  for (const name of names.split(' ')) done[name]?.()
}

describe('turns', () => {
  it.each([
    { taken: 's1', first: 's1' },
    { taken: 'x1', first: 'x1' },
    { taken: 's1 s2 s3', first: 's1 s2 s3' },
    { taken: 'x1 x2 x3', first: 'x1' },
    { taken: 's1 x1', first: 's1' },
    { taken: 'x1 s1 s2', first: 'x1' },
    // A store that saves from within touch must not wait for what waits for touch.
    { taken: 's1 x1 s2', first: 's1 s2' },
  ])('taken as $taken begin at once: $first', ({ taken, first }) => {
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
  ])('taken as $taken go on when $ended are over: $next', ({ taken, ended, next }) => {
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

  it('may be over as soon as they begin, those that waited too', () => {
    const order: string[] = []
    take('x1')
    for (const [i, kind] of (['shared', 'exclusive', 'shared', 'exclusive'] as const).entries()) {
      turns.take(kind, 'sid', (over) => {
        order.push(`${i} begins`)
        over()
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

  it('may be taken within a turn', () => {
    turns.take('shared', 'sid', (over) => {
      take('x1 s1')
      expect(begun).toEqual(['s1'])
      over()
    })
    end('s1')
    expect(begun).toEqual(['s1', 'x1'])
  })

  it('count as over once, however often they say so, later too', () => {
    take('s1 s2')
    end('s1 s1 s2')
    take('x1 x2')
    end('s1 s2 s2')
    expect(begun).toEqual(['s1', 's2', 'x1'])
  })
})

describe('patience', () => {
  it.each([
    { taken: 's1 x1', late: 'x1' },
    { taken: 'x1 s1', late: 's1' },
    { taken: 'x1 x2', late: 'x2' },
    { taken: 'x1 x2 s1 x3', late: 'x2 s1 x3' },
  ])('taken as $taken, and never over, $late begin after five seconds', ({ taken, late }) => {
    take(taken)
    const atOnce = begun.length
    jest.advanceTimersByTime(PATIENCE_MS - 1)
    expect(begun).toHaveLength(atOnce)
    jest.advanceTimersByTime(1)
    expect(begun.slice(atOnce).join(' ')).toBe(late)
  })

  it('is counted for each turn from when it was taken', () => {
    take('x1 s1')
    jest.advanceTimersByTime(3_000)
    take('s2')
    jest.advanceTimersByTime(2_000)
    expect(begun).toEqual(['x1', 's1'])
    jest.advanceTimersByTime(3_000)
    expect(begun).toEqual(['x1', 's1', 's2'])
  })

  it('holds for an exclusive turn however many shared ones keep coming', () => {
    take('s0 x1')
    for (let i = 1; i <= 10; i++) {
      jest.advanceTimersByTime(PATIENCE_MS / 10)
      take(`s${i}`)
      end(`s${i - 1}`)
    }
    expect(begun).toContain('x1')
  })

  it('does not begin a turn twice', () => {
    take('x1 s1 x2')
    end('x1 s1')
    jest.advanceTimersByTime(2 * PATIENCE_MS)
    expect(begun).toEqual(['x1', 's1', 'x2'])
    expect(jest.getTimerCount()).toBe(0)
  })

  it('lost, a turn that is over after all still counts, once', () => {
    take('x1 x2')
    jest.advanceTimersByTime(PATIENCE_MS)
    take('s1')
    end('x1 x1')
    expect(begun).toEqual(['x1', 'x2'])
    end('x2')
    expect(begun).toEqual(['x1', 'x2', 's1'])
  })
})

describe('the line of a session', () => {
  /** The map that the turns keep their lines in: the one that the sid is put into. */
  function lines(sid: string): Map<unknown, unknown> {
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
  ])('is removed when $taken are over', ({ taken, ended }) => {
    const map = lines('sid')
    take(taken)
    end(ended)
    expect(begun).toHaveLength(1 + taken.split(' ').length)
    expect(map.size).toBe(0)
  })

  it('stays while a turn runs or waits', () => {
    const map = lines('sid')
    take('x1 x2')
    end('s0')
    expect(map.size).toBe(1)
    end('x1')
    expect(map.size).toBe(1)
    end('x2')
    expect(map.size).toBe(0)
  })

  it('is removed when what lost its patience, and what it waited for, are over', () => {
    const map = lines('sid')
    take('x1')
    jest.advanceTimersByTime(PATIENCE_MS)
    end('x1')
    expect(map.size).toBe(1)
    end('s0')
    expect(map.size).toBe(0)
  })

  it('is left alone by a turn of the line before that is over once more', () => {
    const map = lines('sid')
    end('s0')
    take('x1')
    end('s0')
    expect(map.size).toBe(1)
    take('s1')
    expect(begun).toEqual(['s0', 'x1'])
  })
})
