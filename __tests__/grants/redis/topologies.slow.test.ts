import { randomUUID } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import { afterAll, afterEach, beforeAll, describe, expect, it } from '@jest/globals'
import { Cluster, Redis } from 'ioredis'
import { Cluster as Cluster5 } from 'ioredis5'
import { createCluster, createSentinel } from 'redis'
import { createCluster as createCluster5, createSentinel as createSentinel5 } from 'redis5'
import { type RedisClient, redisGrantStore } from '../../../lib/redis.js'
import { expectGrantStore } from '../../contract/grant-store.js'
import { describeWithRedisServer, type RedisServer, startRedis } from '../../helpers/redis.js'
import type { ConnectedClient } from '../../helpers/redis-clients.js'
import {
  type RedisTopology,
  startRedisCluster,
  startSentinel,
  withClient,
} from '../../helpers/redis-topologies.js'

const START_MS = 30_000
const request = { ttlMs: 60_000, waitMs: 10_000, revision: 0 }

type Connect = (port: number) => Promise<ConnectedClient>

const ioredis = (
  client: RedisClient & { disconnect(): unknown; on(event: 'error', listener: () => void): unknown },
): ConnectedClient => {
  client.on('error', () => {})
  return { client, close: () => client.disconnect() }
}
const nodeRedis = async (client: RedisClient & { connect(): Promise<unknown>; close(): unknown }) => {
  await client.connect()
  return { client, close: () => client.close() }
}

/** An error event without a listener would end the process. */
const quiet = <T extends { on(event: 'error', listener: () => void): unknown }>(client: T): T => {
  client.on('error', () => {})
  return client
}

const clusters: [name: string, connect: Connect][] = [
  ['ioredis 6', async (port) => ioredis(new Cluster([{ host: '127.0.0.1', port }]))],
  [
    'ioredis 6 with a key prefix',
    async (port) =>
      ioredis(new Cluster([{ host: '127.0.0.1', port }], { redisOptions: { keyPrefix: 'app:' } })),
  ],
  [
    'ioredis 5 with a key prefix',
    async (port) =>
      ioredis(new Cluster5([{ host: '127.0.0.1', port }], { redisOptions: { keyPrefix: 'app:' } })),
  ],
  ['node-redis 6', (port) => nodeRedis(createCluster({ rootNodes: [{ url: `redis://127.0.0.1:${port}` }] }))],
  [
    'node-redis 5',
    (port) => nodeRedis(createCluster5({ rootNodes: [{ url: `redis://127.0.0.1:${port}` }] })),
  ],
]

const sentinels: [name: string, connect: Connect][] = [
  [
    'ioredis 6',
    async (port) => ioredis(new Redis({ sentinels: [{ host: '127.0.0.1', port }], name: 'main' })),
  ],
  [
    'node-redis 6',
    (port) =>
      nodeRedis(quiet(createSentinel({ name: 'main', sentinelRootNodes: [{ host: '127.0.0.1', port }] }))),
  ],
  [
    'node-redis 5',
    (port) =>
      nodeRedis(quiet(createSentinel5({ name: 'main', sentinelRootNodes: [{ host: '127.0.0.1', port }] }))),
  ],
]

const toClose: (() => unknown)[] = []
afterEach(async () => {
  for (const close of toClose.splice(0).reverse()) await close()
})

let redis: RedisServer
let cluster: RedisTopology
let sentinel: RedisTopology

describeWithRedisServer('redisGrantStore(client) over several servers', () => {
  beforeAll(async () => {
    ;[cluster, redis] = await Promise.all([startRedisCluster(), startRedis()])
    sentinel = await startSentinel(redis)
  }, START_MS)
  afterAll(() => Promise.all([cluster?.close(), sentinel?.close(), redis?.close()]))

  describe.each(clusters)('of a cluster, over %s', (_, connect) => {
    const open = () => client(connect, cluster.port)
    theContract(open)
    theNews(open)
  })

  // A cluster of ioredis replaces the connection of a subscription without a sign of it.
  describe.each(clusters.filter(([name]) => name.startsWith('node-redis')))(
    'of a cluster, over %s',
    (_, connect) => {
      const open = () => client(connect, cluster.port)
      theBreak(open, () => cluster.servers)
      theWatch(open)
    },
  )

  describe.each(sentinels)('behind a sentinel, over %s', (name, connect) => {
    const open = () => client(connect, sentinel.port)
    theContract(open)
    theNews(open)
    theBreak(open, () => [redis])
    if (name.startsWith('node-redis')) theWatch(open)
  })

  it('puts grants on all nodes of a cluster', async () => {
    const client = new Cluster([{ host: '127.0.0.1', port: cluster.port }])
    toClose.push(() => client.disconnect())
    const store = redisGrantStore(client, { graceMs: 0 })
    for (let i = 0; i < 50; i++) await store.commit(randomUUID(), 'a', { revision: 1, tokens: '' })
    const sizes = await Promise.all(client.nodes('master').map((node) => node.dbsize()))
    expect(sizes.length).toBe(3)
    expect(Math.min(...sizes)).toBeGreaterThan(0)
  })
})

async function client(connect: Connect, port: number): Promise<RedisClient> {
  const { client, close } = await connect(port)
  toClose.push(close)
  return client
}

function theContract(open: () => Promise<RedisClient>): void {
  it('meets the contract of grant stores', async () => {
    const client = await open()
    await expectGrantStore(async () => {
      const store = redisGrantStore(client, { graceMs: 0 })
      return { store, close: () => store.close() }
    })
  }, 20_000)
}

/** The nodes of a cluster pass on what is published. */
function theNews(open: () => Promise<RedisClient>): void {
  it('is notified of changes to any grant', async () => {
    const store = redisGrantStore(await open(), { prefix: `${randomUUID()}:`, graceMs: 0 })
    toClose.push(() => store.close())
    await hasListened(store)
    const grants = Array.from({ length: 12 }, () => randomUUID())
    for (const grant of grants) await store.lease(grant, { ...request, owner: 'a' })
    const waiting = grants.map((grant) => store.lease(grant, { ...request, owner: 'b' }))
    await Promise.all(grants.map((grant) => store.lease(grant, { ...request, owner: 'c', waitMs: 0 })))
    const start = performance.now()
    await Promise.all(grants.map((grant) => store.release(grant, 'a')))
    for (const answer of await Promise.all(waiting)) expect(answer).toEqual({ granted: true })
    // Much less than the second after which it would ask all the same.
    expect(performance.now() - start).toBeLessThan(800)
  })
}

/** The connection of the subscription breaks, and comes back. */
function theBreak(open: () => Promise<RedisClient>, servers: () => readonly RedisServer[]): void {
  it('reports a subscription that breaks, each time, and when the texts arrive again', async () => {
    const store = redisGrantStore(await open(), { prefix: `${randomUUID()}:`, graceMs: 0 })
    toClose.push(() => store.close())
    const happened: string[] = []
    const has = async (...expected: string[]) => {
      while (happened.length < expected.length) await delay(5)
      expect(happened.splice(0)).toEqual(expected)
    }
    const noteOnce = (what: string) => void (happened.at(-1) !== what && happened.push(what))
    store.subscribe!(
      (text) => noteOnce(text),
      () => noteOnce('open'),
      () => noteOnce('interrupted'),
    )
    await has('open')
    for (const text of ['first', 'second']) {
      for (const server of servers()) {
        await withClient(server, (redis) => redis.call('CLIENT', 'KILL', 'TYPE', 'pubsub'))
      }
      await has('interrupted', 'open')
      await store.publish!(text)
      await has(text)
    }
  }, 20_000)
}

/** A cluster or a sentinel of node-redis has the listeners of this library, which are on its own client. */
function theWatch(open: () => Promise<RedisClient>): void {
  it('is watched by one listener for any number of stores, which is gone when they are closed', async () => {
    const client = (await open()) as RedisClient & { listenerCount(event: string): number }
    const count = () => ['error', 'node-disconnect', 'topology-change'].map((of) => client.listenerCount(of))
    const before = count()
    const stores = Array.from({ length: 12 }, () =>
      redisGrantStore(client, { prefix: `${randomUUID()}:`, graceMs: 0 }),
    )
    await Promise.all(stores.map(hasListened))
    expect(count()).toEqual(before.map((listeners) => listeners + 1))
    await Promise.all(stores.map((store) => store.close()))
    expect(count()).toEqual(before)
  }, 20_000)
}

/** Resolves when a store has waited for a lease: it listens since. */
async function hasListened(store: ReturnType<typeof redisGrantStore>): Promise<void> {
  const grant = randomUUID()
  await store.lease(grant, { ...request, owner: 'a' })
  await store.lease(grant, { ...request, owner: 'b', waitMs: 300 })
}
