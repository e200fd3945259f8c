/**
 * Clients of Redis as docs/redis.md shows them, for one server, Sentinel and Cluster. This file is only type-checked.
 */
import { Cluster, Redis } from 'ioredis'
import { createClient, createCluster, createSentinel } from 'redis'
import { redisGrantStore } from 'session-token-manager/redis'

const url = process.env.REDIS_URL!
const logError = (error: Error) => console.error(error.message)

export function overIoredis() {
  const client = new Redis(url, { socketTimeout: 3_000 })
  client.on('error', logError)
  return redisGrantStore(client)
}

export function overIoredisAndSentinel() {
  const client = new Redis({
    sentinels: [
      { host: 'sentinel-1', port: 26379 },
      { host: 'sentinel-2', port: 26379 },
      { host: 'sentinel-3', port: 26379 },
    ],
    name: 'mymaster',
    failoverDetector: true,
    socketTimeout: 3_000,
  })
  client.on('error', logError)
  return redisGrantStore(client)
}

export function overIoredisAndCluster() {
  const client = new Cluster([{ host: 'node-1', port: 6379 }], {
    redisOptions: { socketTimeout: 3_000 },
  })
  client.on('error', logError)
  return redisGrantStore(client)
}

export async function overNodeRedis() {
  const client = createClient({ url, pingInterval: 1_000, socket: { socketTimeout: 3_000 } })
  client.on('error', logError)
  return redisGrantStore(await client.connect())
}

export async function overNodeRedisAndSentinel() {
  const sentinel = createSentinel({
    name: 'mymaster',
    sentinelRootNodes: [
      { host: 'sentinel-1', port: 26379 },
      { host: 'sentinel-2', port: 26379 },
      { host: 'sentinel-3', port: 26379 },
    ],
    scanInterval: 1_000,
    nodeClientOptions: { pingInterval: 1_000, socket: { socketTimeout: 3_000 } },
  })
  sentinel.on('error', logError)
  return redisGrantStore(await sentinel.connect())
}

export async function overNodeRedisAndCluster() {
  const cluster = createCluster({
    rootNodes: [{ url: 'redis://node-1:6379' }],
    defaults: { pingInterval: 1_000, socket: { socketTimeout: 3_000 } },
  })
  cluster.on('error', logError)
  return redisGrantStore(await cluster.connect())
}
