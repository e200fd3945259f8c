import { spawn } from 'node:child_process'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { Redis } from 'ioredis'
import { dieTogether, gone } from './child-process.js'
import { freePort, type RedisServer, startRedis } from './redis.js'

const SLOTS = 16_384

/** Several servers that are one to a client. */
export interface RedisTopology {
  /** Where a client may ask for the others. */
  readonly port: number
  readonly servers: readonly RedisServer[]
  close(): Promise<void>
}

/** Starts a Redis Cluster of three nodes without replicas. */
export async function startRedisCluster(): Promise<RedisTopology> {
  const nodes = await Promise.all([1, 2, 3].map(startNode))
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

async function startNode(): Promise<ClusterNode> {
  const busPort = await freePort()
  const settings = { 'cluster-enabled': 'yes', 'cluster-port': String(busPort) }
  return { server: await startRedis({ fresh: true, settings }), busPort }
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

/** Starts a sentinel that watches a server under the name `main`. */
export async function startSentinel(server: RedisServer): Promise<RedisTopology> {
  const directory = await mkdtemp(join(tmpdir(), 'sentinel-'))
  const port = await freePort()
  const file = join(directory, 'sentinel.conf')
  await writeFile(file, `port ${port}\nbind 127.0.0.1\nsentinel monitor main 127.0.0.1 ${server.port} 1\n`)
  const child = spawn('redis-server', [file, '--sentinel'], { stdio: 'ignore' })
  dieTogether(child)
  const client = new Redis(port, { retryStrategy: () => 20 })
  client.on('error', () => {})
  await client.call('SENTINEL', 'get-master-addr-by-name', 'main')
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
