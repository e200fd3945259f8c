import { Redis } from 'ioredis'
import { Redis as Redis5 } from 'ioredis5'
import { createClient, createClientPool, RESP_TYPES } from 'redis'
import { createClient as createClient5 } from 'redis5'
import type { RedisClient, RedisCommands } from '../../lib/redis.js'

/** A client that is connected. */
export interface ConnectedClient {
  readonly client: RedisClient
  close(): unknown
}

export interface KindOfClient {
  readonly name: string
  /** Whether a store hears of changes with it, or has to ask. */
  readonly listens: boolean
  connect(url: string): Promise<ConnectedClient>
}

/** Every kind of client of a single server that an app may have. */
export const kindsOfClients: readonly KindOfClient[] = [
  kind('ioredis 6', async (url) => ioredis(new Redis(url))),
  kind('ioredis 5', async (url) => ioredis(new Redis5(url))),
  kind('ioredis with a key prefix', async (url) => ioredis(new Redis(url, { keyPrefix: 'app:' }))),
  kind('ioredis that queues nothing and resubscribes to nothing', async (url) => {
    const client = new Redis(url, { enableOfflineQueue: false, autoResubscribe: false, lazyConnect: true })
    await client.connect()
    return ioredis(client)
  }),
  kind('node-redis 6', async (url) => nodeRedis(await createClient({ url }).connect())),
  kind('node-redis 5', async (url) => nodeRedis(await createClient5({ url }).connect())),
  kind('node-redis that hands over buffers', async (url) => {
    const client = await createClient({ url }).connect()
    const buffers = client.withTypeMapping({ [RESP_TYPES.BLOB_STRING]: Buffer })
    return { client: buffers, close: () => client.close() }
  }),
  {
    ...kind('a pool of node-redis', async (url) => {
      const pool = createClientPool({ url })
      await pool.connect()
      return nodeRedis(pool)
    }),
    listens: false,
  },
  { ...kind('{ send }', async (url) => sending(new Redis(url))), listens: false },
  kind('{ send, subscribe }', async (url) => sending(new Redis(url), subscribing(url))),
]

function kind(name: string, connect: KindOfClient['connect']): KindOfClient {
  return { name, listens: true, connect }
}

function ioredis(client: Redis | Redis5): ConnectedClient {
  return { client, close: () => client.disconnect() }
}

function nodeRedis(client: RedisClient & { close(): unknown }): ConnectedClient {
  return { client, close: () => client.close() }
}

/** A client of which the library sees two functions. */
function sending(redis: Redis, subscribe?: RedisCommands['subscribe']): ConnectedClient {
  const send: RedisCommands['send'] = ([name, ...args]) => redis.call(name!, ...args)
  return { client: subscribe ? { send, subscribe } : { send }, close: () => redis.disconnect() }
}

function subscribing(url: string): RedisCommands['subscribe'] {
  return async (channel, listener) => {
    const subscriber = new Redis(url)
    subscriber.on('message', (_, message) => listener(message))
    await subscriber.subscribe(channel)
    return () => subscriber.disconnect()
  }
}
