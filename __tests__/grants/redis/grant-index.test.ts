import { randomUUID } from 'node:crypto'
import { afterAll, afterEach, beforeAll, expect, it, jest } from '@jest/globals'
import { Redis } from 'ioredis'
import { createClient } from 'redis'
import { type RedisClient, redisGrantStore } from '../../../lib/redis.js'
import { describeWithRedis, redisUrl } from '../../helpers/redis.js'

const HOUR_MS = 3_600_000

let client: Redis
let prefix: string
const toClose: (() => unknown)[] = []

function storeOver(of: RedisClient = client) {
  prefix = `${randomUUID()}:`
  const store = redisGrantStore(of, { prefix, grantTtlMs: HOUR_MS })
  toClose.push(() => store.close())
  return store
}

const record = (revision: number, labels: string[] = ['user', 'login']) => ({
  revision,
  tokens: 'tokens',
  labels,
})

/** The ids of a label, in the storage. */
const membersOf = (label: string) => client.zrange(`${prefix}label:${label}`, '0', '-1')

describeWithRedis('the labels of grants in Redis', () => {
  beforeAll(async () => {
    client = new Redis(await redisUrl())
  })
  afterEach(async () => {
    for (const close of toClose.splice(0).reverse()) await close()
  })
  afterAll(() => client?.disconnect())

  it('lead to a grant for twice as long as it is remembered, and are written once in that time', async () => {
    const store = storeOver()
    await store.commit('one', 'a', record(1), { ttlMs: 3 * HOUR_MS })
    const ttl = await client.pttl(`${prefix}label:user`)
    expect(ttl).toBeGreaterThan(6 * HOUR_MS - 10_000)
    expect(ttl).toBeLessThanOrEqual(6 * HOUR_MS)
    // A label that was lost shows that the next commit writes none.
    await client.del(`${prefix}label:user`)
    await store.commit('one', 'a', record(2), { ttlMs: 3 * HOUR_MS })
    expect(await store.grantsWith!('user')).toEqual([])
    await client.hset(`${prefix}one`, 'labelled', `${Date.now() + 2 * HOUR_MS}`)
    await store.commit('one', 'a', record(3), { ttlMs: 3 * HOUR_MS })
    expect(await store.grantsWith!('user')).toEqual(['one'])
  })

  it('are written by the next commit if the process died in between', async () => {
    const store = storeOver()
    await store.commit('one', 'a', record(1))
    await client.del(`${prefix}label:user`)
    await client.hdel(`${prefix}one`, 'labelled')
    await store.commit('one', 'a', record(2))
    expect(await store.grantsWith!('user')).toEqual(['one'])
  })

  it('leave the storage with an end, and with the time of their grants', async () => {
    const store = storeOver()
    await store.commit('one', 'a', record(1))
    await store.commit('two', 'a', record(1))
    await store.commit('three', 'a', record(1))
    await store.end('one', 'logged_out')
    expect([...(await store.grantsWith!('user'))].sort()).toEqual(['three', 'two'])
    expect((await membersOf('user')).sort()).toEqual(['three', 'two'])
    await client.zadd(`${prefix}label:user`, Date.now() - 1_000, 'two')
    expect(await store.grantsWith!('user')).toEqual(['three'])
    await store.commit('four', 'a', record(1))
    expect((await membersOf('user')).sort()).toEqual(['four', 'three'])
  })

  it('add nothing to a grant that has ended in between', async () => {
    const store = storeOver()
    await store.end('one', 'logged_out')
    await store.commit('one', 'a', record(1))
    expect(await client.hgetall(`${prefix}one`)).toEqual({ ended: 'logged_out' })
    expect(await store.grantsWith!('user')).toEqual([])
  })

  it('the recent ends are those of the time that is asked for, and of an hour at most', async () => {
    const store = storeOver()
    await store.end('now', 'logged_out')
    await client.zadd(`${prefix}ends`, Date.now() - HOUR_MS / 2, 'earlier replaced')
    await client.zadd(`${prefix}ends`, Date.now() - 2 * HOUR_MS, 'long-ago replaced')
    const now = { grantId: 'now', ended: 'logged_out' }
    expect(await store.recentEnds!(60_000)).toEqual([now])
    expect(await store.recentEnds!(HOUR_MS)).toEqual([{ grantId: 'earlier', ended: 'replaced' }, now])
    await store.end('again', 'logged_out')
    expect(await client.zcard(`${prefix}ends`)).toBe(3)
    expect(await client.pttl(`${prefix}ends`)).toBeGreaterThan(HOUR_MS - 10_000)
  })

  it.each([
    ['ioredis', async (name: string) => new Redis(await redisUrl(), { connectionName: name })],
    ['node-redis', async (name: string) => createClient({ url: await redisUrl(), name }).connect()],
  ])(
    'the listener is told when a subscription of %s breaks, and when it is open again',
    async (_, connect) => {
      const name = randomUUID()
      const own = await connect(name)
      toClose.push(() => ('destroy' in own ? own.destroy() : own.disconnect()))
      const store = storeOver(own)
      const onOpen = jest.fn()
      const opened = (times: number) =>
        new Promise<void>((resolve) => {
          onOpen.mockImplementation(() => onOpen.mock.calls.length >= times && resolve())
        })
      const first = opened(1)
      const onInterrupted = jest.fn()
      store.subscribe!(() => {}, onOpen, onInterrupted)
      await first
      const second = opened(2)
      const subscriptions = (await client.client('LIST')) as string
      const [, id] = new RegExp(`^id=(\\d+) .*name=${name} .*sub=1 `, 'm').exec(subscriptions) ?? []
      await client.client('KILL', 'ID', id!)
      await second
      expect(onInterrupted).toHaveBeenCalled()
      const heard = new Promise((resolve) => store.subscribe!(resolve))
      await store.publish!('a text')
      expect(await heard).toBe('a text')
    },
  )
})
