import { spawn } from 'node:child_process'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { Redis } from 'ioredis'
import { dieTogether, gone } from './child-process.js'
import { freePort } from './free-port.js'
import { type RedisServer, startRedis } from './redis.js'

const SLOTS = 16_384

/** Several servers that are one to a client. */
export interface RedisTopology {
  /** Where a client may ask for the others. */
  readonly port: number
  readonly servers: readonly RedisServer[]
  close(): Promise<void>
}

/** Starts a Redis Cluster of three nodes without replicas. */
export async function startRedisCluster(settings: Record<string, string> = {}): Promise<RedisTopology> {
  const nodes = await Promise.all([1, 2, 3].map(() => startNode(settings)))
  await Promise.all(nodes.map((node, index) => joinCluster(node, index, nodes)))
  await Promise.all(nodes.map(({ server }) => server.settled()))
  const servers = nodes.map(({ server }) => server)
  return {
    port: servers[0]!.port,
    servers,
    close: async () => void (await Promise.all(servers.map((server) => server.close()))),
  }
}

interface ClusterNode {
  readonly server: RedisServer
  readonly busPort: number
}

async function startNode(further: Record<string, string>): Promise<ClusterNode> {
  const busPort = await freePort()
  const settings = { 'cluster-enabled': 'yes', 'cluster-port': String(busPort), ...further }
  return { server: await startRedis({ fresh: true, settings }), busPort }
}

/** Starts a replica of the first node of a cluster. Resolves when it is in step with it and the others know of it. */
export async function startClusterReplica(
  { servers: [master] }: RedisTopology,
  settings: Record<string, string>,
): Promise<RedisServer> {
  const { server: replica } = await startNode(settings)
  await withClient(master!, async (client) => {
    const bus = await busPortOf(client)
    const id = String(await client.call('CLUSTER', 'MYID'))
    await withClient(replica, async (own) => {
      await own.call('CLUSTER', 'MEET', '127.0.0.1', master!.port, bus)
      while (!(await own.call('CLUSTER', 'REPLICATE', id).catch(() => undefined))) await delay(50)
      await inStep(own)
      const replicaId = String(await own.call('CLUSTER', 'MYID'))
      while (!String(await client.call('CLUSTER', 'REPLICAS', id)).includes(replicaId)) await delay(50)
    })
  })
  return replica
}

/** Its own line of CLUSTER NODES names a node `id host:port@bus myself,…`. */
async function busPortOf(node: Redis): Promise<number> {
  const nodes = String(await node.call('CLUSTER', 'NODES'))
  const [, bus] = /@(\d+)\S* myself/.exec(nodes) ?? []
  return Number(bus)
}

/** Starts a replica of a server. Resolves when it is in step with it. */
export async function startReplica(master: RedisServer): Promise<RedisServer> {
  const replica = await startRedis({ fresh: true })
  await withClient(replica, async (client) => {
    await client.call('REPLICAOF', '127.0.0.1', master.port)
    await inStep(client)
  })
  return replica
}

async function inStep(replica: Redis): Promise<void> {
  while (!(await replica.info('replication')).includes('master_link_status:up')) await delay(20)
}

/** From now on a replica gets nothing of its master's any more, and keeps what it has. */
export async function fallBehind(replica: RedisServer, master: RedisServer): Promise<void> {
  await withClient(replica, async (client) => {
    await client.call('CONFIG', 'SET', 'masteruser', 'nobody')
    await client.call('CONFIG', 'SET', 'masterauth', 'nothing')
    await withClient(master, (of) => of.call('CLIENT', 'KILL', 'TYPE', 'replica'))
    while ((await client.info('replication')).includes('master_link_status:up')) await delay(5)
  })
}

export async function withClient<T>(
  { url }: Pick<RedisServer, 'url'>,
  work: (client: Redis) => Promise<T>,
): Promise<T> {
  const client = new Redis(url)
  client.on('error', () => {})
  try {
    return await work(client)
  } finally {
    client.disconnect()
  }
}

/** Gives a node its third of the slots and has it meet the first. Resolves when it knows who has the others. */
async function joinCluster(
  { server }: ClusterNode,
  index: number,
  nodes: readonly ClusterNode[],
): Promise<void> {
  const client = new Redis(server.url)
  const [first] = nodes
  const from = Math.ceil((index * SLOTS) / nodes.length)
  const to = Math.ceil(((index + 1) * SLOTS) / nodes.length) - 1
  await client.cluster('ADDSLOTSRANGE', from, to)
  await client.call('CLUSTER', 'MEET', '127.0.0.1', first!.server.port, first!.busPort)
  while (!(await client.cluster('INFO')).includes('cluster_state:ok')) await delay(50)
  client.disconnect()
}

/**
 * Starts a sentinel that watches a server under the name `main`. Half a second after that has gone it has a replica take
 * its place, if there is one.
 */
export async function startSentinel(server: RedisServer, replicas = 0): Promise<RedisTopology> {
  const directory = await mkdtemp(join(tmpdir(), 'sentinel-'))
  const port = await freePort()
  const file = join(directory, 'sentinel.conf')
  const lines = [
    `port ${port}`,
    'bind 127.0.0.1',
    `sentinel monitor main 127.0.0.1 ${server.port} 1`,
    'sentinel down-after-milliseconds main 500',
    'sentinel failover-timeout main 4000',
  ]
  await writeFile(file, `${lines.join('\n')}\n`)
  const child = spawn('redis-server', [file, '--sentinel'], { stdio: 'ignore' })
  dieTogether(child)
  const client = new Redis(port, { retryStrategy: () => 20 })
  client.on('error', () => {})
  await client.call('SENTINEL', 'get-master-addr-by-name', 'main')
  while (((await client.call('SENTINEL', 'REPLICAS', 'main')) as unknown[]).length < replicas) await delay(50)
  client.disconnect()
  return {
    port,
    servers: [server],
    async close() {
      child.kill('SIGKILL')
      await gone(child)
      await rm(directory, { recursive: true, force: true })
    },
  }
}
