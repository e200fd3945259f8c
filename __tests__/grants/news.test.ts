import { AsyncLocalStorage } from 'node:async_hooks'
import { setTimeout as delay } from 'node:timers/promises'
import { describe, expect, it, jest } from '@jest/globals'
import type { GrantStore, RecentEnd } from '../../lib/grants/grant-store.js'
import { memoryGrantStore } from '../../lib/grants/memory-grant-store.js'
import { News } from '../../lib/grants/news.js'
import { stillClock } from '../helpers/clock.js'

const requests = new AsyncLocalStorage<string>()

function thrown(): never {
  throw new Error('not connected')
}

describe('the news of the grant store', () => {
  function newsOver(store: Partial<GrantStore>, clock = stillClock()): News {
    return new News({
      store: { ...memoryGrantStore(), ...store } as GrantStore,
      isShared: true,
      clock,
      audience: 'a',
    })
  }

  it('are subscribed to outside of the request that comes first, which they outlive', () => {
    let found: unknown = 'nothing'
    const news = newsOver({
      subscribe() {
        found = requests.getStore()
        return () => {}
      },
    })
    requests.run('the first request', () => news.listen())
    news.close()
    expect(found).toBeUndefined()
  })

  it.each([
    ['is not open yet', false],
    ['is interrupted', true],
  ])('S80 an end is known within a second while the subscription %s', async (_, isInterrupted) => {
    const ends: RecentEnd[] = []
    let interrupt = () => {}
    const news = newsOver({
      subscribe(_listener, onOpen, onInterrupted) {
        if (isInterrupted) onOpen!()
        interrupt = onInterrupted!
        return () => {}
      },
      recentEnds: async () => ends,
    })
    const heard = new Promise<number>((resolve) => (news.onEnd = () => resolve(performance.now())))
    await news.catchUp()
    // As a client that cannot connect again: it reports each attempt.
    const attempts = isInterrupted ? setInterval(interrupt, 50) : undefined
    const endedAt = performance.now()
    ends.push({ grantId: 'a', ended: 'logged_out' })
    expect((await heard) - endedAt).toBeLessThan(1_000)
    clearInterval(attempts)
    news.close()
  })

  it('S80 after the sleep of the host, during which its monotonic clock stands still, all ends since are read', async () => {
    const clock = stillClock()
    const asked: number[] = []
    let onOpen = () => {}
    const news = newsOver(
      {
        subscribe(_listener, opened) {
          onOpen = opened!
          setImmediate(onOpen)
          return () => {}
        },
        async recentEnds(withinMs) {
          asked.push(withinMs)
          return []
        },
      },
      clock,
    )
    await news.catchUp()
    clock.jump(30 * 60_000)
    onOpen()
    await news.catchUp()
    expect(asked.at(-1)).toBe(31 * 60_000)
    clock.jump(-2 * 60 * 60_000)
    clock.advance(1_000)
    onOpen()
    await news.catchUp()
    expect(asked.at(-1)).toBe(61_000)
    news.close()
  })

  it('S80 an end is known within a second although the subscription broke and came back during a read', async () => {
    const ends: RecentEnd[] = []
    let onOpen = () => {}
    let respond = () => {}
    const news = newsOver({
      subscribe(_listener, opened) {
        onOpen = opened!
        return () => {}
      },
      async recentEnds() {
        const found = [...ends]
        await new Promise<void>((resolve) => (respond = resolve))
        return found
      },
    })
    const isHeard = new Promise<boolean>((resolve) => (news.onEnd = () => resolve(true)))
    news.listen()
    onOpen()
    const reading = news.catchUp()
    await delay(0)
    const first = respond
    ends.push({ grantId: 'a', ended: 'logged_out' })
    onOpen()
    first()
    await reading
    const answering = setInterval(() => respond(), 20).unref()
    expect(await Promise.race([isHeard, delay(2_000, false)])).toBe(true)
    clearInterval(answering)
    news.close()
  })

  it('S80 a read of the recent ends without a response does not stop the later ones', async () => {
    jest.useFakeTimers()
    const onEnd = jest.fn()
    let reads = 0
    const news = newsOver({
      recentEnds() {
        reads++
        return reads === 1 ? new Promise(() => {}) : Promise.resolve([{ grantId: 'a', ended: 'logged_out' }])
      },
    })
    news.onEnd = onEnd
    try {
      const caughtUp = news.catchUp()
      await jest.advanceTimersByTimeAsync(1_000)
      await caughtUp
      await jest.advanceTimersByTimeAsync(10_000)
      expect(onEnd).toHaveBeenCalled()
    } finally {
      news.close()
      jest.useRealTimers()
    }
  })

  it.each<[string, Partial<GrantStore>]>([
    ['subscribe() throws', { subscribe: thrown }],
    ['publish() throws', { publish: thrown }],
    ['publish() returns no promise', { publish: (() => {}) as never }],
  ])('fail no request if %s in a grant store of the app', async (_, methods) => {
    const news = newsOver({ recentEnds: async () => [], ...methods })
    await news.catchUp()
    await news.publish('a text')
    expect(news.isCurrent).toBe(true)
    news.close()
  })

  it('are caught up with outside of the request that comes first', async () => {
    const found: unknown[] = []
    const news = newsOver({
      async recentEnds() {
        found.push(requests.getStore())
        return [{ grantId: 'a', ended: 'logged_out' }]
      },
    })
    news.onEnd = () => void found.push(requests.getStore())
    await requests.run('the first request', () => news.catchUp())
    news.close()
    expect(found).toEqual([undefined, undefined])
  })
})
