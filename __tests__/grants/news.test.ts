import { AsyncLocalStorage } from 'node:async_hooks'
import { setTimeout as delay } from 'node:timers/promises'
import { describe, expect, it } from '@jest/globals'
import type { GrantStore, RecentEnd } from '../../lib/grants/grant-store.js'
import { memoryGrantStore } from '../../lib/grants/memory-grant-store.js'
import { News } from '../../lib/grants/news.js'
import { stillClock } from '../helpers/clock.js'

const requests = new AsyncLocalStorage<string>()

describe('the news of the grant store', () => {
  function newsOver(store: Partial<GrantStore>): News {
    return new News({
      store: { ...memoryGrantStore(), ...store } as GrantStore,
      isShared: true,
      clock: stillClock(),
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

  let attempts: NodeJS.Timeout | undefined

  it.each<[string, (onOpen: () => void, onInterrupted: () => void) => void]>([
    ['is not open yet', () => {}],
    [
      'is interrupted',
      (onOpen, onInterrupted) => {
        onOpen()
        // As a client that cannot connect again: it reports each attempt.
        attempts = setInterval(onInterrupted, 50)
      },
    ],
  ])('S80 an end is known within a second while the subscription %s', async (_, subscription) => {
    const ends: RecentEnd[] = []
    const news = newsOver({
      subscribe(_listener, onOpen, onInterrupted) {
        subscription(onOpen!, onInterrupted!)
        return () => {}
      },
      recentEnds: async () => ends,
    })
    const heard = new Promise<number>((resolve) => (news.onEnd = () => resolve(performance.now())))
    await news.catchUp()
    await delay(100)
    const endedAt = performance.now()
    ends.push({ grantId: 'a', ended: 'logged_out' })
    expect((await heard) - endedAt).toBeLessThan(1_000)
    clearInterval(attempts)
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
