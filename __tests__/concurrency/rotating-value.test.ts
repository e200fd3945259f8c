import { describe, expect, it, jest } from '@jest/globals'
import { RotatingValue } from '../../lib/concurrency/rotating-value.js'

/** A function that a test lets return, or fail, and the failures that were told. */
function rotating({ waitAfterMs }: { readonly waitAfterMs?: number } = {}) {
  const load = jest.fn<() => string | number | undefined | Promise<string>>()
  const failures: [unknown, boolean][] = []
  const check = (given: unknown) => {
    if (typeof given !== 'string') throw new TypeError('no text')
    return given.toUpperCase()
  }
  const value = new RotatingValue(load, check, waitAfterMs)
  const prepare = (now: number) =>
    value.prepare(now, (cause, hasLast) => {
      failures.push([cause, hasLast])
      return new Error('told')
    })
  return { failures, load, prepare, value }
}

describe('prepare(now, onFailure)', () => {
  it('fifty callers share one call, and the value is used for a minute', async () => {
    const { load, prepare, value } = rotating()
    load.mockReturnValue('one')
    await Promise.all(Array.from({ length: 50 }, () => prepare(5)))
    expect(value.value).toBe('ONE')
    expect(prepare(60_004)).toBeUndefined()
    expect(load).toHaveBeenCalledTimes(1)
    load.mockResolvedValue('two')
    await prepare(60_005)
    expect(value.value).toBe('TWO')
  })

  it.each([
    ['throws', () => Promise.reject(new Error('vault'))],
    ['returns another kind', () => 5],
    ['returns nothing', () => undefined],
  ])(
    'a function that %s: the last value is used for another minute, and the failure is told',
    async (_, fail) => {
      const { failures, load, prepare, value } = rotating()
      load.mockReturnValue('one')
      await prepare(0)
      load.mockImplementation(fail)
      await prepare(60_000)
      expect(value.value).toBe('ONE')
      expect(failures).toEqual([[expect.any(Error), true]])
      expect(prepare(119_999)).toBeUndefined()
      load.mockReturnValue('two')
      await prepare(120_000)
      expect(value.value).toBe('TWO')
    },
  )

  it('without a value a failure rejects, and the function is left alone for a second', async () => {
    const { failures, load, prepare, value } = rotating()
    load.mockRejectedValue(new Error('vault'))
    await expect(prepare(0)).rejects.toThrow('told')
    await expect(prepare(999)).rejects.toThrow('told')
    expect(load).toHaveBeenCalledTimes(1)
    expect(failures).toEqual([[expect.objectContaining({ message: 'vault' }), false]])
    load.mockResolvedValue('one')
    await prepare(1_000)
    expect(value.value).toBe('ONE')
  })

  it('no caller waits for the next value before the given age', async () => {
    const { load, prepare, value } = rotating({ waitAfterMs: 300_000 })
    load.mockReturnValue('one')
    await prepare(0)
    load.mockReturnValue('two')
    expect(prepare(299_999)).toBeUndefined()
    await new Promise(setImmediate)
    expect(value.value).toBe('TWO')
    load.mockReturnValue('three')
    await prepare(599_999)
    expect(value.value).toBe('THREE')
  })

  it('a clock that is set back has the function called', async () => {
    const { load, prepare, value } = rotating()
    load.mockReturnValue('one')
    await prepare(1_000_000)
    load.mockReturnValue('two')
    await prepare(10)
    expect(value.value).toBe('TWO')
  })

  it('a function that does not return has failed after five seconds', async () => {
    jest.useFakeTimers()
    try {
      const { load, prepare } = rotating()
      load.mockReturnValue(new Promise(() => {}))
      const waiting = expect(prepare(0)).rejects.toThrow('told')
      await jest.advanceTimersByTimeAsync(5_000)
      await waiting
    } finally {
      jest.useRealTimers()
    }
  })
})
