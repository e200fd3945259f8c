import { afterEach, beforeEach, describe, expect, it, jest } from '@jest/globals'
import { GrantChanges } from '../../lib/grants/redis/changes.js'
import { redisConnection } from '../../lib/grants/redis/client.js'
import type { RedisCommands } from '../../lib/redis.js'

type Subscribe = NonNullable<RedisCommands['subscribe']>

beforeEach(() => {
  jest.useFakeTimers()
})
afterEach(() => {
  jest.useRealTimers()
})

describe('news of grants', () => {
  it('comes over one subscription, however many listen', async () => {
    const subscribe = jest.fn<Subscribe>(async () => () => {})
    const changes = new GrantChanges('channel', subscribe)
    expect(await Promise.all([changes.listen(), changes.listen()])).toEqual([true, true])
    expect(await changes.listen()).toBe(true)
    expect(subscribe.mock.calls).toEqual([['channel', expect.any(Function)]])
  })

  it('is subscribed to again 5 s after that has failed, and not before', async () => {
    const subscribe = jest.fn<Subscribe>(async () => () => {}).mockRejectedValueOnce(new Error('NOPERM'))
    const changes = new GrantChanges('channel', subscribe)
    expect(await changes.listen()).toBe(false)
    jest.advanceTimersByTime(4_999)
    expect(await changes.listen()).toBe(false)
    expect(subscribe).toHaveBeenCalledTimes(1)
    jest.advanceTimersByTime(1)
    expect(await changes.listen()).toBe(true)
    expect(subscribe).toHaveBeenCalledTimes(2)
  })

  it('is never subscribed to where that cannot be done, nor after the end', async () => {
    expect(await new GrantChanges('channel', undefined).listen()).toBe(false)
    const subscribe = jest.fn<Subscribe>(async () => () => {})
    const changes = new GrantChanges('channel', subscribe)
    await changes.close()
    expect(await changes.listen()).toBe(false)
    expect(subscribe).not.toHaveBeenCalled()
    expect(jest.getTimerCount()).toBe(0)
  })

  it('reaches everybody who waits for news of that grant, and nobody who has stopped', async () => {
    let tell = (_: string) => {}
    const changes = new GrantChanges('channel', async (_, listener) => {
      tell = listener
      return () => {}
    })
    await changes.listen()
    const heard: string[] = []
    const watch = (name: string, grantId: string) => {
      const watching = changes.watch(grantId)
      watching.next().then(() => heard.push(name))
      return watching
    }
    const [, second] = [
      watch('first', 'one'),
      watch('second', 'one'),
      watch('third', 'one'),
      watch('other', 'two'),
    ]
    second!.end()
    tell('one')
    await jest.advanceTimersByTimeAsync(0)
    expect(heard).toEqual(['first', 'third'])
    tell('nobody')
  })
})

describe('the subscription of a client of any kind that does not come about', () => {
  const changesOver = (subscribe: Subscribe) =>
    new GrantChanges('channel', redisConnection({ send: async () => '', subscribe }).subscribe)

  it('is given up after 5 s, and so close() ends', async () => {
    const changes = changesOver(() => new Promise(() => {}))
    const listening = changes.listen()
    let isClosed = false
    const closed = changes.close().then(() => (isClosed = true))
    await jest.advanceTimersByTimeAsync(4_999)
    expect(isClosed).toBe(false)
    await jest.advanceTimersByTimeAsync(1)
    expect(isClosed).toBe(true)
    await closed
    expect(await listening).toBe(false)
  })

  it('is ended when it comes about later', async () => {
    let succeed = (_: () => void) => {}
    const changes = changesOver(() => new Promise((resolve) => (succeed = resolve)))
    const listening = changes.listen()
    await jest.advanceTimersByTimeAsync(5_000)
    expect(await listening).toBe(false)
    const end = jest.fn()
    succeed(end)
    await jest.advanceTimersByTimeAsync(0)
    expect(end).toHaveBeenCalledTimes(1)
    expect(changes.listening).toBe(false)
  })

  it('may fail, at once or after it was given up', async () => {
    const refused = changesOver(() => {
      throw new Error('NOPERM')
    })
    expect(await refused.listen()).toBe(false)
    let fail = (_: Error) => {}
    const late = changesOver(() => new Promise((_, reject) => (fail = reject)))
    const listening = late.listen()
    await jest.advanceTimersByTimeAsync(5_000)
    fail(new Error('NOPERM'))
    expect(await listening).toBe(false)
  })
})
