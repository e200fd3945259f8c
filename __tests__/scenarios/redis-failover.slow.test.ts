import { setTimeout as delay } from 'node:timers/promises'
import { afterEach, beforeEach, describe, expect, it, jest } from '@jest/globals'
import { Cluster, Redis } from 'ioredis'
import { createCluster, createSentinel } from 'redis'
import { HOLD_OFF_MS } from '../../lib/concurrency/time-constants.js'
import { type RedisClient, redisGrantStore } from '../../lib/redis.js'
import { type AuthorizationServer, startAuthorizationServer } from '../helpers/authorization-server.js'
import type { Browser } from '../helpers/browser.js'
import { describeWithRedisServer, type RedisServer, startRedis } from '../helpers/redis.js'
import type { ConnectedClient } from '../helpers/redis-clients.js'
import {
  fallBehind,
  startClusterReplica,
  startRedisCluster,
  startReplica,
  startSentinel,
  withClient,
} from '../helpers/redis-topologies.js'
import { sharedSessions, startSite } from '../helpers/site.js'

const TEST_MS = 60_000
const HOUR_MS = 3_600_000
const USERS = 12
const host = '127.0.0.1'
const keepStore = {
  keep: 'store',
  encryptionKeys: ['UUa2j3oVjRk0c8Zs9CLtEz3uJgQmA7rS7T1a0YbKx5c='],
} as const

type Connect = (port: number) => Promise<ConnectedClient>

const ioredis = (client: Redis | Cluster): ConnectedClient => {
  client.on('error', () => {})
  return { client, close: () => client.disconnect() }
}
const nodeRedis = async (
  client: RedisClient & {
    connect(): Promise<unknown>
    close(): unknown
    on(event: 'error', l: () => void): unknown
  },
) => {
  client.on('error', () => {})
  await client.connect()
  return { client, close: () => client.close() }
}

const sentinelClients: [name: string, connect: Connect][] = [
  ['ioredis', async (port) => ioredis(new Redis({ sentinels: [{ host, port }], name: 'main' }))],
  [
    'node-redis',
    (port) =>
      nodeRedis(createSentinel({ name: 'main', sentinelRootNodes: [{ host, port }], scanInterval: 500 })),
  ],
]
const clusterClients: [name: string, connect: Connect][] = [
  ['ioredis', async (port) => ioredis(new Cluster([{ host, port }]))],
  ['node-redis', (port) => nodeRedis(createCluster({ rootNodes: [{ url: `redis://${host}:${port}` }] }))],
]

const toClose: (() => unknown)[] = []
const closing = <T extends { close(): unknown }>(it: T): T => {
  toClose.push(() => it.close())
  return it
}
let server: AuthorizationServer

/** What a failover is of: where clients connect, the server that goes, and the replica that takes its place. */
interface Topology {
  readonly port: number
  readonly master: RedisServer
  readonly replica: RedisServer
}

async function sentinelTopology(): Promise<Topology> {
  const master = closing(await startRedis())
  const replica = closing(await startReplica(master))
  const { port } = closing(await startSentinel(master, 1))
  return { port, master, replica }
}

async function clusterTopology(): Promise<Topology> {
  const settings = { 'cluster-node-timeout': '1000', 'cluster-replica-validity-factor': '0' }
  const cluster = closing(await startRedisCluster(settings))
  const replica = closing(await startClusterReplica(cluster, settings))
  // Of the other nodes, since the first one goes.
  return { port: cluster.servers[1]!.port, master: cluster.servers[0]!, replica }
}

/** Two processes whose tokens are in the grant store alone, and users who have logged in at the first. */
async function twoProcesses(connect: Connect, port: number) {
  const open = sharedSessions()
  const process = async (connectNow = connect) => {
    const grants = closing(redisGrantStore(await openClient(connectNow, port)))
    return closing(await startSite(server, { store: open(), tokens: { grants, ...keepStore } }))
  }
  const [one, other] = [await process(), await process()]
  const tabs = Array.from({ length: USERS }, () => one.browser())
  for (const tab of tabs) await one.login(tab)
  const visitors = tabs.map((tab) => other.visitorOf(tab))
  const expire = () => {
    for (const site of [one, other]) site.clock.advance(HOUR_MS)
  }
  const startProcess = async (connectNow: Connect) => {
    const site = await process(connectNow)
    site.clock.advance(one.clock.now() - site.clock.now())
    return site
  }
  return { one, other, tabs, visitors, expire, startProcess }
}

async function openClient(connect: Connect, port: number): Promise<RedisClient> {
  const { client, close } = await connect(port)
  toClose.push(close)
  return client
}

/** Resolves when a replica has become the master. */
async function promoted(replica: RedisServer): Promise<void> {
  await withClient(replica, async (client) => {
    while (!(await client.info('replication')).includes('role:master')) await delay(20)
  })
}

/** Asks again while the grant store is out of reach. */
async function tokenOf(visitor: Browser): Promise<string> {
  for (;;) {
    const { status, json } = await visitor.get('/token')
    if (status === 200) return json.token
    expect([status, json.code]).toEqual([503, expect.any(String)])
    await delay(50)
  }
}

const topologies: [name: string, start: () => Promise<Topology>, clients: typeof sentinelClients][] = [
  ['a Sentinel', sentinelTopology, sentinelClients],
  ['a Cluster', clusterTopology, clusterClients],
]

describeWithRedisServer('S58 a master is killed, and a replica takes its place', () => {
  beforeEach(async () => {
    server = await startAuthorizationServer()
  })
  afterEach(async () => {
    for (const close of toClose.splice(0).reverse()) await close()
    expect(server.reuses()).toBe(0)
    await server.close()
  }, TEST_MS)

  describe.each(topologies)('of %s', (_, start, clients) => {
    it.each(clients)(
      'S58 over %s: a lagging replica has lost refreshes, and every user has their tokens',
      async (_, connect) => {
        const { port, master, replica } = await start()
        const { one, tabs, visitors, expire } = await twoProcesses(connect, port)
        // Each process has been in touch with each server.
        expire()
        await Promise.all(visitors.slice(0, USERS / 2).map(tokenOf))
        await fallBehind(replica, master)
        // Of these users the replica has lost two refreshes, each made by another process.
        await Promise.all(visitors.slice(USERS / 2).map(tokenOf))
        expire()
        const tokens = await Promise.all(tabs.map(tokenOf))
        await master.kill()
        expect(await Promise.all(visitors.map(tokenOf))).toEqual(tokens)
        expect(one.events.filter(({ type }) => type === 'tokens_stored_again').length).toBeGreaterThan(0)
      },
      TEST_MS,
    )
  })

  it(
    'S58 a process that starts after the failover presents no refresh token that was used before it',
    async () => {
      const { port, master, replica } = await sentinelTopology()
      // The others need three seconds to find the new master.
      const slow: Connect = async () =>
        ioredis(new Redis({ sentinels: [{ host, port }], name: 'main', retryStrategy: () => 3_000 }))
      const { one, tabs, visitors, expire, startProcess } = await twoProcesses(slow, port)
      expire()
      await Promise.all(visitors.map(tokenOf))
      await fallBehind(replica, master)
      expire()
      const tokens = await Promise.all(tabs.map(tokenOf))
      await replica.settled()
      await master.kill()
      await promoted(replica)
      const late = await startProcess(sentinelClients[0]![1])
      expect(await Promise.all(tabs.map((tab) => tokenOf(late.visitorOf(tab))))).toEqual(tokens)
      expect(one.events.filter(({ type }) => type === 'tokens_stored_again').length).toBeGreaterThan(0)
    },
    TEST_MS,
  )

  it.each(sentinelClients)(
    'S58 over %s: refreshes in flight are kept',
    async (_, connect) => {
      const { port, master } = await sentinelTopology()
      const { tabs, visitors, expire } = await twoProcesses(connect, port)
      expire()
      const answer = server.hold()
      const refreshing = tabs.map(tokenOf)
      await answer.reached
      await master.kill()
      await delay(1_000)
      answer.release()
      const tokens = await Promise.all(refreshing)
      expect(await Promise.all(visitors.map(tokenOf))).toEqual(tokens)
    },
    TEST_MS,
  )

  it.each(clusterClients)(
    'over %s: the grants of a slot that moves to another node stay available during the move',
    async (_, connect) => {
      const cluster = closing(await startRedisCluster())
      const store = closing(redisGrantStore(await openClient(connect, cluster.port), { graceMs: 0 }))
      const grant = 'a-grant-that-moves'
      // In the first five seconds of a process, a grant that was leased at another server waits.
      const now = jest.spyOn(performance, 'now').mockReturnValue(performance.now() - HOLD_OFF_MS)
      const committed = store.commit(grant, 'a', { revision: 1, tokens: 'one' })
      await committed.finally(() => now.mockRestore())
      await move(`session-tokens:${grant}`, cluster.servers, async (revision) => {
        const lease = { owner: 'b', ttlMs: 5_000, waitMs: 0, revision: revision - 1 }
        expect(await store.lease(grant, lease)).toMatchObject({ granted: true })
        await store.commit(grant, 'b', { revision, tokens: `${revision}` })
        expect(await store.read(grant)).toEqual({ record: { revision, tokens: `${revision}` } })
      })
    },
    TEST_MS,
  )
})

/** Moves the slot of a key to another node of a cluster, as `redis-cli --cluster reshard` does; looks after each step. */
async function move(
  key: string,
  servers: readonly RedisServer[],
  look: (revision: number) => Promise<void>,
): Promise<void> {
  const ids = await Promise.all(
    servers.map((server) =>
      withClient(server, async (client) => String(await client.call('CLUSTER', 'MYID'))),
    ),
  )
  const counts = await Promise.all(
    servers.map((server) => withClient(server, (client) => client.exists(key).catch(() => 0))),
  )
  const from = counts.indexOf(1)
  const to = (from + 1) % servers.length
  await withClient(servers[from]!, (source) =>
    withClient(servers[to]!, async (target) => {
      const slot = Number(await source.call('CLUSTER', 'KEYSLOT', key))
      await target.call('CLUSTER', 'SETSLOT', slot, 'IMPORTING', ids[from]!)
      await source.call('CLUSTER', 'SETSLOT', slot, 'MIGRATING', ids[to]!)
      await look(2)
      await source.call('MIGRATE', host, servers[to]!.port, key, 0, 5_000)
      await look(3)
      for (const node of [target, source]) await node.call('CLUSTER', 'SETSLOT', slot, 'NODE', ids[to]!)
      await look(4)
    }),
  )
}
