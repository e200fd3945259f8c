import { within } from '../../deadline.js'
import { ConfigurationError } from '../../errors.js'
import { hasField } from '../../own-properties.js'
import type { RedisScript } from './scripts.js'

type AnyFunction = (...args: never[]) => unknown

/** A client of ioredis 5 or 6: `Redis` (with Sentinel as well) or `Cluster`. */
export interface IoredisClient {
  readonly evalsha: AnyFunction
  readonly eval: AnyFunction
  readonly duplicate: AnyFunction
}

/**
 * A client of node-redis 4 or later: `createClient()`, `createCluster()` or `createSentinel()`; or `createClientPool()`,
 * which takes no subscription, so that processes that wait for one another ask twenty times a second.
 */
export interface NodeRedisClient {
  readonly evalSha: AnyFunction
  readonly eval: AnyFunction
}

/** Any other client. */
export interface RedisCommands {
  /**
   * Sends one command and resolves with its reply. `key` is the key that the command works on, by which a cluster
   * finds the node. A reply of Redis that is an error rejects, with Redis' text in its `message`.
   */
  send(command: readonly string[], key: string): Promise<unknown>
  /**
   * Listens to a channel on a connection of its own, over reconnections. Resolves when it does, with a function that
   * ends it, and rejects when it can't. Without it processes that wait for one another ask Redis twenty times a second.
   */
  subscribe?(channel: string, listener: (message: string) => void): Promise<() => unknown>
}

export type RedisClient = IoredisClient | NodeRedisClient | RedisCommands

/** What the grant store needs of a client. */
export interface RedisConnection {
  run(script: RedisScript, key: string, args: readonly string[]): Promise<unknown>
  readonly subscribe: RedisCommands['subscribe'] | undefined
}

/** Adapts whatever client the app has. */
export function redisConnection(client: RedisClient): RedisConnection {
  const { evalsha, evalSha, send } = (client ?? {}) as Partial<
    IoredisClient & NodeRedisClient & RedisCommands
  >
  if (typeof evalsha === 'function') return ioredisConnection(client as IoredisMethods)
  if (typeof evalSha === 'function') return nodeRedisConnection(client as NodeRedisMethods)
  if (typeof send === 'function') return commandsConnection(client as RedisCommands)
  if (typeof (client as Partial<Promise<unknown>> | undefined)?.then === 'function') {
    throw new ConfigurationError(
      'redisGrantStore() was given the promise of a client. Await it: redisGrantStore(await createClient({ url }).connect()).',
    )
  }
  throw new ConfigurationError(
    'redisGrantStore() takes a Redis client: new Redis() of ioredis, createClient() of node-redis, ' +
      'or { send: (command, key) => … } over any other.',
  )
}

interface IoredisMethods extends IoredisClient {
  readonly isCluster?: boolean
  readonly options?: { readonly redisOptions?: object }
  evalsha(sha1: string, keys: number, ...args: string[]): Promise<unknown>
  eval(source: string, keys: number, ...args: string[]): Promise<unknown>
  duplicate(...overrides: unknown[]): IoredisMethods
  on(event: string, listener: (...args: string[]) => void): unknown
  subscribe(channel: string): Promise<unknown>
  disconnect(): void
}

function ioredisConnection(client: IoredisMethods): RedisConnection {
  return {
    run: (script, key, args) =>
      withFallback(
        () => client.evalsha(script.sha1, 1, key, ...args),
        () => client.eval(script.source, 1, key, ...args),
      ),
    async subscribe(channel, listener) {
      const subscriber = client.isCluster ? duplicateOfCluster(client) : client.duplicate(IOREDIS_OVERRIDES)
      subscriber.on('error', ignore)
      subscriber.on('message', (_channel, message) => listener(message!))
      return subscribed(
        () => subscriber.subscribe(channel),
        () => subscriber.disconnect(),
      )
    },
  }
}

const IOREDIS_OVERRIDES = {
  // It would be put before the channel as well, but not before the one that a script publishes to.
  keyPrefix: '',
  // It subscribes before it is connected, reconnects by itself, and then subscribes again.
  enableOfflineQueue: true,
  autoResubscribe: true,
}

function duplicateOfCluster(client: IoredisMethods): IoredisMethods {
  // ioredis takes a cluster's key prefix from either place.
  const redisOptions = { ...client.options?.redisOptions, keyPrefix: '' }
  return client.duplicate([], { ...IOREDIS_OVERRIDES, redisOptions })
}

interface ScriptArguments {
  readonly keys: string[]
  readonly arguments: string[]
}

interface NodeRedisMethods extends NodeRedisClient {
  readonly isOpen?: boolean
  evalSha(sha1: string, options: ScriptArguments): Promise<unknown>
  eval(source: string, options: ScriptArguments): Promise<unknown>
  subscribe?(channel: string, listener: (message: string) => void): Promise<unknown>
  unsubscribe(channel: string, listener: (message: string) => void): Promise<unknown>
  duplicate(): NodeRedisMethods
  connect(): Promise<unknown>
  destroy?(): void
  disconnect?(): Promise<unknown>
  on(event: string, listener: () => void): unknown
}

function nodeRedisConnection(client: NodeRedisMethods): RedisConnection {
  return {
    run: (script, key, args) => {
      const options = { keys: [key], arguments: [...args] }
      if (client.isOpen === false) return Promise.reject(notOpen())
      return withFallback(
        () => client.evalSha(script.sha1, options),
        () => client.eval(script.source, options),
      )
    },
    subscribe: subscribesByItself(client) ? viaClient(client) : viaDuplicate(client),
  }
}

/** A client may try for ever to connect. One that has not subscribed by then is given up, and replaced later. */
const SUBSCRIBE_TIMEOUT_MS = 5_000

/** Resolves with how to end the subscription when the attempt has succeeded; ends it when that failed. */
async function subscribed(attempt: () => Promise<unknown>, end: () => unknown): Promise<() => unknown> {
  // What the app or the client itself has ended already needs no further end.
  const ended = async () => void (await Promise.resolve().then(end).catch(ignore))
  try {
    await within(SUBSCRIBE_TIMEOUT_MS, attempt(), noSubscription)
    return ended
  } catch (error) {
    await ended()
    throw error
  }
}

/** Clusters and sentinels keep connections for subscriptions beside the others; a pool has none. */
function subscribesByItself(client: object): boolean {
  return hasField(client, 'slots') || hasField(client, 'acquire')
}

function viaClient(client: NodeRedisMethods): RedisCommands['subscribe'] {
  return (channel, listener) =>
    subscribed(
      () => client.subscribe!(channel, listener),
      () => client.unsubscribe(channel, listener),
    )
}

function viaDuplicate(client: NodeRedisMethods): RedisCommands['subscribe'] {
  if (typeof client.subscribe !== 'function') return undefined
  return async (channel, listener) => {
    const subscriber = client.duplicate()
    // It reconnects by itself, and then subscribes again.
    subscriber.on('error', ignore)
    return subscribed(
      () => subscriber.connect().then(() => subscriber.subscribe!(channel, listener)),
      () => (subscriber.destroy ? subscriber.destroy() : subscriber.disconnect?.()),
    )
  }
}

function commandsConnection(client: RedisCommands): RedisConnection {
  return {
    run: (script, key, args) =>
      withFallback(
        () => client.send(['EVALSHA', script.sha1, '1', key, ...args], key),
        () => client.send(['EVAL', script.source, '1', key, ...args], key),
      ),
    subscribe: client.subscribe && ((channel, listener) => inTime(client.subscribe!(channel, listener))),
  }
}

/** A subscription in time; one that comes later is ended. */
async function inTime(subscription: Promise<() => unknown>): Promise<() => unknown> {
  try {
    return await within(SUBSCRIBE_TIMEOUT_MS, subscription, noSubscription)
  } catch (error) {
    void subscription.then((end) => end()).catch(ignore)
    throw error
  }
}

/** Sends the script's hash; and the script itself to a server that does not know it yet, or not any more. */
async function withFallback(
  byHash: () => Promise<unknown>,
  bySource: () => Promise<unknown>,
): Promise<unknown> {
  try {
    return await byHash()
  } catch (error) {
    if (!String((error as Error | undefined)?.message).startsWith('NOSCRIPT')) throw error
    return await bySource()
  }
}

/** node-redis itself says that it is closed, to those who have never opened it too. */
const notOpen = () =>
  new ConfigurationError(
    'The client of node-redis is not connected. Connect it when the app starts: await client.connect().',
  )

const noSubscription = () => new Error(`Redis took no subscription within ${SUBSCRIBE_TIMEOUT_MS} ms.`)

function ignore(): void {}
