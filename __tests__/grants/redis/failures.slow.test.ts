import { randomUUID } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from '@jest/globals'
import { Redis } from 'ioredis'
import { HOLD_OFF_MS } from '../../../lib/concurrency/time-constants.js'
import { grantStoreError } from '../../../lib/grants/grant-store-error.js'
import { Lease } from '../../../lib/grants/lease.js'
import { type RedisCommands, type RedisGrantStore, redisGrantStore } from '../../../lib/redis.js'
import { describeWithRedisServer, type RedisServer, startRedis } from '../../helpers/redis.js'
import { type RedisCounts, redisCounts } from '../../helpers/redis-counts.js'

const START_MS = 30_000
const request = { ttlMs: 60_000, waitMs: 20_000, revision: 0 }
const record = (revision: number) => ({ revision, tokens: `tokens ${revision}` })
const channel = 'session-tokens:changes'

let redis: RedisServer
let counts: RedisCounts
let grant: string
const toClose: (() => unknown)[] = []

interface Process {
  readonly client: Redis
  readonly store: RedisGrantStore
}

/** What a process has: a client and a store over it. */
function process(options = {}, url = redis.url): Process {
  const client = new Redis(url)
  client.on('error', () => {})
  const store = redisGrantStore(client, { graceMs: 0, ...options })
  toClose.push(async () => {
    await store.close()
    client.disconnect()
  })
  return { client, store }
}

/** A store over a client of which the library sees two functions. */
function storeOver(subscribe: RedisCommands['subscribe']): RedisGrantStore {
  const { client } = process()
  const store = redisGrantStore({
    send: ([name, ...args]) => client.call(name!, ...args),
    subscribe: subscribe!,
  })
  toClose.push(() => store.close())
  return store
}

const lease = (store: RedisGrantStore, owner: string, more = {}) =>
  store.lease(grant, { ...request, owner, ...more })

/** How long something takes, in milliseconds. */
async function timeOf(promise: Promise<unknown>): Promise<number> {
  const start = performance.now()
  await promise
  return performance.now() - start
}

/** Whether a server answers, and says so. */
async function isLoading(client: Redis): Promise<boolean> {
  const info = await client.info('persistence').catch(() => '')
  return info.includes('loading:1')
}

const pending = async (promise: Promise<unknown>) =>
  expect(await Promise.race([promise, delay(20, 'pending')])).toBe('pending')

beforeEach(() => {
  grant = randomUUID()
})
afterEach(async () => {
  for (const close of toClose.splice(0).reverse()) await close()
})

describeWithRedisServer('redisGrantStore(client) on a Redis in trouble', () => {
  beforeAll(async () => {
    redis = await startRedis()
    counts = redisCounts(redis.url)
  }, START_MS)
  afterAll(async () => {
    counts?.close()
    await redis?.close()
  })

  it('sends scripts again that the server has forgotten', async () => {
    const { store } = process()
    const forget = () => counts.redis.script('FLUSH')
    await forget()
    expect(await lease(store, 'a')).toEqual({ granted: true })
    await forget()
    expect(await store.renew(grant, 'a', 60_000)).toBe(true)
    await forget()
    expect(await store.commit(grant, 'a', record(1))).toEqual({ record: record(1) })
    await forget()
    expect(await store.read(grant)).toEqual({ record: record(1) })
    await forget()
    await store.release(grant, 'a')
    await forget()
    expect(await store.end(grant, 'replaced')).toEqual(record(1))
  })

  describe('without memory left', () => {
    const full = () => counts.redis.config('SET', 'maxmemory', '1')
    afterEach(() => counts.redis.config('SET', 'maxmemory', '0'))

    it('rejects a lease and a commit, and still serves commands that need no memory', async () => {
      const { store } = process()
      await store.commit(grant, 'a', record(1))
      await lease(store, 'a', { revision: 1 })
      await full()
      await expect(store.commit(grant, 'a', record(2))).rejects.toThrow(/^OOM/)
      await expect(store.lease(randomUUID(), { ...request, owner: 'a' })).rejects.toThrow(/^OOM/)
      const cause = await store.commit(grant, 'a', record(2)).catch((error) => error)
      expect(grantStoreError('It failed', { cause }).message).toBe(
        'It failed (OOM). Its memory is full. Check maxmemory.',
      )
      expect(await store.read(grant)).toEqual({ record: record(1) })
      await store.release(grant, 'a')
      await counts.redis.config('SET', 'maxmemory', '0')
      expect(await lease(store, 'b', { revision: 1, waitMs: 0 })).toEqual({
        granted: true,
        record: record(1),
      })
    })

    it('ends a grant all the same', async () => {
      const { store } = process()
      await store.commit(grant, 'a', record(1))
      await full()
      expect(await store.end(grant, 'logged_out')).toEqual(record(1))
      expect(await store.read(grant)).toEqual({ ended: 'logged_out' })
    })
  })

  describe('that is a replica', () => {
    let replica: RedisServer
    beforeAll(async () => {
      replica = await startRedis({ fresh: true, settings: { replicaof: `127.0.0.1 ${redis.port}` } })
    }, START_MS)
    afterAll(() => replica?.close())

    it('rejects whatever writes', async () => {
      const { store } = process({}, replica.url)
      for (const refused of [
        lease(store, 'a'),
        store.renew(grant, 'a', 60_000),
        store.commit(grant, 'a', record(1)),
        store.end(grant, 'logged_out'),
      ]) {
        await expect(refused).rejects.toThrow(/^READONLY/)
      }
      expect(await store.read(grant)).toEqual({})
    })
  })

  describe('that lets its user publish no messages', () => {
    const mayNot = '~session-tokens:* resetchannels +@all'
    beforeEach(() => counts.redis.call('ACL', 'SETUSER', 'app', 'on', '>secret', ...mayNot.split(' ')))
    afterEach(() => counts.redis.call('ACL', 'DELUSER', 'app'))

    it.each<[string, (store: RedisGrantStore) => Promise<unknown>, answer: unknown, wakes: unknown]>([
      [
        'keeps a committed record',
        (store) => store.commit(grant, 'a', record(1)),
        { record: record(1) },
        { granted: false, record: record(1) },
      ],
      ['releases', (store) => store.release(grant, 'a'), undefined, { granted: true }],
      ['ends', (store) => store.end(grant, 'logged_out'), undefined, { granted: false, ended: 'logged_out' }],
    ])('%s while a process waits', async (_, change, answer, wakes) => {
      const { store } = process({}, redis.url.replace('//', '//app:secret@'))
      await lease(store, 'a')
      const waiting = lease(store, 'b')
      while (!(await counts.redis.hexists(`session-tokens:${grant}`, 'waiting'))) await delay(1)
      expect(await change(store)).toEqual(answer)
      expect(await waiting).toEqual(wakes)
    })
  })

  describe('whose clock is set back by an hour', () => {
    const HOUR_MS = 3_600_000

    it.each<[string, (until: number) => object]>([
      ['a lease was given', (until) => ({ until: until + HOUR_MS })],
      ['a lease ran out', (until) => ({ until: until - HOUR_MS, free: until + HOUR_MS })],
    ])(
      'after %s whose holder has died: the next process gets it without a further delay',
      async (_, then) => {
        const { client, store } = process({ graceMs: 100 })
        await lease(store, 'gone', { ttlMs: 200 })
        const key = `session-tokens:${grant}`
        await client.hset(key, then(Number(await client.hget(key, 'until'))))
        const answer = lease(store, 'b', { waitMs: 10_000 })
        expect(await timeOf(answer)).toBeLessThan(5_000)
        expect(await answer).toEqual({ granted: true })
      },
    )
  })

  describe('that hangs', () => {
    afterEach(() => redis.resume())

    it('rejects within commandTimeoutMs', async () => {
      const { client, store } = process({ commandTimeoutMs: 300 })
      // On a busy machine a connection takes its time.
      await client.ping()
      await store.read(grant)
      redis.pause()
      const calls = {
        lease: lease(store, 'a'),
        renew: store.renew(grant, 'a', 1),
        commit: store.commit(grant, 'a', record(1)),
        release: store.release(grant, 'a'),
        read: store.read(grant),
        end: store.end(randomUUID(), 'replaced'),
      }
      for (const call of Object.values(calls)) {
        await expect(call).rejects.toThrow('Redis did not reply within 300 ms (commandTimeoutMs).')
      }
      redis.resume()
    })

    it('releases a lease that it grants after the caller has timed out', async () => {
      const [gone, other] = [process({ commandTimeoutMs: 100 }), process()]
      await gone.store.read(grant)
      await other.store.read(grant)
      redis.pause()
      await expect(lease(gone.store, 'a')).rejects.toThrow('100 ms')
      redis.resume()
      expect(await lease(other.store, 'b')).toEqual({ granted: true })
      expect(await gone.store.renew(grant, 'a', 1)).toBe(false)
    })
  })

  describe('that breaks connections', () => {
    const kill = (type: 'normal' | 'pubsub') => counts.redis.call('CLIENT', 'KILL', 'TYPE', type)

    /** A holder of a lease, and another process that waits for it and listens. */
    async function waiting(): Promise<[holder: RedisGrantStore, answer: Promise<unknown>]> {
      const [holder, waiter] = [process().store, process().store]
      await lease(holder, 'a')
      const answer = lease(waiter, 'b')
      await counts.subscribers(channel, 1)
      await pending(answer)
      return [holder, answer]
    }

    it('finds a change that it was not notified of within about a second', async () => {
      const [holder, answer] = await waiting()
      await kill('pubsub')
      await holder.release(grant, 'a')
      expect(await timeOf(answer)).toBeLessThan(2_000)
      expect(await answer).toEqual({ granted: true })
    })

    it('listens again', async () => {
      const [holder, answer] = await waiting()
      await kill('pubsub')
      await counts.subscribers(channel, 0)
      await counts.subscribers(channel, 1)
      await pending(answer)
      await holder.release(grant, 'a')
      expect(await answer).toEqual({ granted: true })
    })

    it('still waits after the connection for commands breaks', async () => {
      const [holder, answer] = await waiting()
      await kill('normal')
      await holder.release(grant, 'a')
      expect(await answer).toEqual({ granted: true })
    })

    it('asks again after a second if a message is lost', async () => {
      const holder = process().store
      const deaf = storeOver(async () => () => {})
      await lease(holder, 'a')
      const answer = lease(deaf, 'b')
      const took = timeOf(answer)
      await pending(answer)
      await holder.release(grant, 'a')
      // It asks every second, however long the release takes.
      expect(await took).toBeGreaterThan(900)
      expect(await took).toBeLessThan(3_000)
      expect(await answer).toEqual({ granted: true })
    })
  })

  describe('that accepts no subscription', () => {
    it.each([
      ['refuses it', () => Promise.reject(new Error('NOPERM'))],
      ['does not respond', () => new Promise<never>(() => {})],
    ])('asks at short intervals instead if it %s', async (_, subscribe) => {
      const holder = process().store
      const { client } = process()
      const store = redisGrantStore({ send: ([name, ...args]) => client.call(name!, ...args), subscribe })
      await lease(holder, 'a')
      const tookMs = await timeOf(lease(store, 'b', { waitMs: 300 }))
      expect(tookMs).toBeGreaterThanOrEqual(290)
      expect(tookMs).toBeLessThan(2_000)
      const answer = lease(store, 'b')
      await pending(answer)
      await holder.release(grant, 'a')
      expect(await timeOf(answer)).toBeLessThan(2_000)
    })

    it('abandons a connection that is not established', async () => {
      const [holder, waiter] = [process(), process()]
      await Promise.all([holder.store.read(grant), waiter.store.read(grant)])
      const connections = await counts.connections()
      await counts.redis.config('SET', 'maxclients', String(connections + 1))
      try {
        await lease(holder.store, 'a')
        const answer = lease(waiter.store, 'b')
        await pending(answer)
        await holder.store.release(grant, 'a')
        expect(await answer).toEqual({ granted: true })
        expect(await timeOf(waiter.store.close())).toBeLessThan(7_000)
      } finally {
        await counts.redis.config('SET', 'maxclients', '10000')
      }
      expect(await counts.connections()).toBe(connections)
    }, 20_000)
  })

  describe('close()', () => {
    it('closes the subscription connection, and waiting works without it', async () => {
      const [holder, waiter] = [process().store, process().store]
      const clients = 2
      await lease(holder, 'a')
      const answer = lease(waiter, 'b')
      await counts.subscribers(channel, 1)
      await waiter.close()
      await counts.subscribers(channel, 0)
      expect(await counts.connections()).toBe(clients)
      await holder.release(grant, 'a')
      expect(await answer).toEqual({ granted: true })

      const third = lease(holder, 'c')
      await pending(third)
      await waiter.release(grant, 'b')
      expect(await third).toEqual({ granted: true })
    })

    it('comes before a subscription that is in flight', async () => {
      const [holder, waiter] = [process().store, process().store]
      await lease(holder, 'a')
      let ended = 0
      const opened = await new Promise<{
        open(end: () => void): void
        answer: Promise<unknown>
        store: { close(): Promise<void> }
      }>((subscribes) => {
        const store = storeOver(() => new Promise((open) => subscribes({ open, answer, store })))
        const answer = lease(store, 'b')
      })
      const { open, answer, store } = opened
      const closed = store.close()
      open(() => ended++)
      await closed
      expect(ended).toBe(1)
      await holder.release(grant, 'a')
      expect(await answer).toEqual({ granted: true })
      await waiter.close()
    })

    it('may come twice, and before or after anything else', async () => {
      const { store, client } = process()
      await store.close()
      expect(await lease(store, 'a')).toEqual({ granted: true })
      expect(await lease(store, 'b', { waitMs: 100 })).toEqual({ granted: false })
      await Promise.all([store.close(), store.close()])
      client.disconnect()
      await store.close()
    })
  })

  describe('that crashes, and comes back as it was before', () => {
    const HOLD_OFF_MS = 5_000

    /** Two leases of grants of one revision: a holder renews its own, the other's is gone. Somebody waits for each. */
    async function twoLeases(revision: number) {
      const [holder, other] = [process().store, process().store]
      const [kept, orphan] = [randomUUID(), randomUUID()]
      for (const each of [kept, orphan]) await holder.commit(each, 'before', record(revision))
      await counts.redis.save()
      return async () => {
        const held = new Lease(holder, kept)
        await held.take(revision, 0)
        await holder.lease(orphan, { ...request, owner: 'dead', revision })
        const take = (grantId: string) => other.lease(grantId, { ...request, owner: randomUUID(), revision })
        return { held, waiting: [take(kept)], takeKept: () => take(kept), heir: take(orphan) }
      }
    }

    it('leaves each lease to its holder, and grants the lease of a dead holder to the next process after 5 s', async () => {
      // Of one grant the server knows nothing at all when it is back, of the other a record.
      const [unknown, recorded] = [await twoLeases(0), await twoLeases(1)]
      const cases = [await unknown(), await recorded()]
      await pending(Promise.race(cases.flatMap(({ waiting, heir }) => [...waiting, heir])))

      await redis.restart({ fresh: true })
      const start = performance.now()
      for (const { waiting, takeKept } of cases) waiting.push(takeKept())
      for (const { heir } of cases) expect(await heir).toMatchObject({ granted: true })
      expect(performance.now() - start).toBeLessThan(HOLD_OFF_MS + 2_000)
      await redis.settled()
      await pending(Promise.race(cases.flatMap(({ waiting }) => waiting)))
      for (const { held, waiting } of cases) {
        expect(await held.commit(record(2))).toEqual({ record: record(2) })
        for (const answer of await Promise.all(waiting)) {
          expect(answer).toEqual({ granted: false, record: record(2) })
        }
      }
    }, 20_000)
  })

  describe.each<[string, (lose: () => Promise<unknown>) => Promise<RedisServer>]>([
    [
      'that took more than 5 s to load its data',
      async (lose) => {
        await counts.redis.save()
        await lose()
        await redis.restart()
        return redis
      },
    ],
    [
      'that is replaced by a replica',
      async (lose) => {
        const replica = await startRedis({ settings: { replicaof: `127.0.0.1 ${redis.port}` } })
        const client = new Redis(replica.url)
        toClose.push(
          () => replica.close(),
          () => client.disconnect(),
        )
        while (!(await client.exists(`session-tokens:${grant}`))) await delay(10)
        await client.replicaof('NO', 'ONE')
        await lose()
        return replica
      },
    ],
  ])('%s', (_, lost) => {
    const options = { graceMs: 1_000 }
    const lastRecord = record(1)
    let holder: RedisGrantStore
    let other: RedisGrantStore
    const ask = (store: RedisGrantStore, owner: string, waitMs = 0) =>
      lease(store, owner, { revision: 1, waitMs })

    beforeEach(async () => {
      const before = process(options).store
      await before.commit(grant, 'login', lastRecord)
      const { url } = await lost(() => ask(before, 'holder'))
      ;[holder, other] = [process(options, url).store, process(options, url).store]
    }, 30_000)

    it('lets the holder renew a lease that it has lost', async () => {
      expect(await ask(other, 'other')).toEqual({ granted: false, record: lastRecord })
      expect(await holder.renew(grant, 'holder', 60_000)).toBe(true)
      expect(await ask(other, 'other', 1_500)).toEqual({ granted: false, record: lastRecord })
      expect(await holder.commit(grant, 'holder', record(2))).toEqual({ record: record(2) })
    })

    it('grants it to a process that has just started after five seconds, if the holder has died, and then delays no other process', async () => {
      const took = await timeOf(ask(other, 'other', 10_000))
      expect(took).toBeGreaterThan(HOLD_OFF_MS - 50)
      expect(took).toBeLessThan(HOLD_OFF_MS + 3_000)
      expect(await holder.renew(grant, 'holder', 60_000)).toBe(false)
      await other.release(grant, 'other')
      expect(await ask(holder, 'next')).toEqual({ granted: true, record: lastRecord })
    })
  })

  describe('that loads its data', () => {
    const KEYS = 3_000
    let loading: RedisServer

    beforeAll(async () => {
      const settings = { 'key-load-delay': '1000', 'loading-process-events-interval-bytes': '1024' }
      loading = await startRedis({ settings })
      const { client } = process({}, loading.url)
      await client.eval(`for key = 1, ${KEYS} do redis.call('SET', 'filler ' .. key, key) end`, 0)
    }, START_MS)
    afterAll(() => loading?.close())

    it('rejects each command, and then serves the grants that it had', async () => {
      const { client, store } = process({}, loading.url)
      await store.commit(grant, 'a', record(1))
      await client.save()
      const impatient = new Redis(loading.url, { enableReadyCheck: false })
      impatient.on('error', () => {})
      toClose.push(() => impatient.disconnect())
      // A busy machine may take its time over an error.
      const asking = redisGrantStore(impatient, { commandTimeoutMs: 10_000 })
      await asking.read(grant)
      const restarted = loading.restart()
      while (!(await isLoading(impatient))) await delay(10)
      for (const refused of [
        lease(asking, 'b'),
        asking.renew(grant, 'b', 60_000),
        asking.commit(grant, 'b', record(2)),
        asking.release(grant, 'b'),
        asking.read(grant),
        asking.end(grant, 'logged_out'),
      ]) {
        await expect(refused).rejects.toThrow(/^LOADING/)
      }
      expect(await isLoading(impatient)).toBe(true)
      await restarted
      expect(await asking.read(grant)).toEqual({ record: record(1) })
      expect(await store.read(grant)).toEqual({ record: record(1) })
    }, 30_000)
  })
})
