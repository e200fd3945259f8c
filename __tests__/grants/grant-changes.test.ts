import { afterEach, beforeEach, describe, expect, it, jest } from '@jest/globals'
import { GrantChanges, type Subscribe } from '../../lib/grants/grant-changes.js'
import { type RedisCommands, redisConnection } from '../../lib/grants/redis/client.js'

beforeEach(() => {
  jest.useFakeTimers()
})
afterEach(() => {
  jest.useRealTimers()
})

describe('news of grants', () => {
  it('arrives over one subscription for all listeners', async () => {
    const subscribe = jest.fn<Subscribe>(async () => () => {})
    const changes = new GrantChanges('channel', subscribe)
    expect(await Promise.all([changes.listen(), changes.listen()])).toEqual([true, true])
    expect(await changes.listen()).toBe(true)
    const functions = Array(4).fill(expect.any(Function))
    expect(subscribe.mock.calls).toEqual([['channel', ...functions]])
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

  it('reaches every listener of that grant, and no listener that has stopped', async () => {
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

describe('a listener to what processes publish', () => {
  it('is told when the subscription is open, and open again', async () => {
    let again = () => {}
    const changes = new GrantChanges('channel', async (_channel, _listener, onSubscribedAgain) => {
      again = onSubscribedAgain!
      return () => {}
    })
    const [first, second] = [jest.fn(), jest.fn()]
    changes.onNews(() => {}, first)
    expect(first).not.toHaveBeenCalled()
    await changes.listen()
    expect(first).toHaveBeenCalledTimes(1)
    const stop = changes.onNews(() => {}, second)
    expect(second).toHaveBeenCalledTimes(1)
    again()
    expect([first, second].map(({ mock }) => mock.calls.length)).toEqual([2, 2])
    stop()
    again()
    expect([first, second].map(({ mock }) => mock.calls.length)).toEqual([3, 2])
  })
})

describe('a subscription that has ended by itself', () => {
  it('is opened again at once, and each waiting process asks again', async () => {
    const lost: (() => void)[] = []
    const subscribe = jest.fn<Subscribe>(async (_channel, _listener, _onAgain, _onInterrupted, onLost) => {
      lost.push(onLost!)
      return () => {}
    })
    const changes = new GrantChanges('channel', subscribe)
    await changes.listen()
    const change = changes.watch('one').next()
    changes.onNews(() => {})
    lost[0]!()
    expect(changes.isListening).toBe(false)
    await change
    expect(await changes.listen()).toBe(true)
    expect(subscribe).toHaveBeenCalledTimes(2)
  })

  it('is not opened again after the end', async () => {
    let lost = () => {}
    const subscribe = jest.fn<Subscribe>(async (_channel, _listener, _onAgain, _onInterrupted, onLost) => {
      lost = onLost!
      return () => {}
    })
    const changes = new GrantChanges('channel', subscribe)
    changes.onNews(() => {})
    await changes.listen()
    await changes.close()
    lost()
    expect(await changes.listen()).toBe(false)
    expect(subscribe).toHaveBeenCalledTimes(1)
  })

  it('is tried again after the time that was given', async () => {
    const subscribe = jest
      .fn<Subscribe>(async () => () => {})
      .mockRejectedValueOnce(new Error('no connection'))
    const changes = new GrantChanges('channel', subscribe, 1_000)
    changes.onNews(() => {})
    expect(await changes.listen()).toBe(false)
    jest.advanceTimersByTime(999)
    expect(subscribe).toHaveBeenCalledTimes(1)
    jest.advanceTimersByTime(1)
    expect(subscribe).toHaveBeenCalledTimes(2)
  })
})

describe('the subscription of a client of any kind that does not come about', () => {
  const changesOver = (subscribe: NonNullable<RedisCommands['subscribe']>) =>
    new GrantChanges('channel', redisConnection({ send: async () => '', subscribe }).subscribe)

  it('is abandoned after 5 s, and so close() ends', async () => {
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
    expect(changes.isListening).toBe(false)
  })

  it('may fail, at once or after it was abandoned', async () => {
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
