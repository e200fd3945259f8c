import { withTimeout } from '../../concurrency/with-timeout.js'
import { ConfigurationError } from '../../errors/token-error.js'
import { hasField } from '../../options/own-properties.js'
import { watchBreaks } from './connection-breaks.js'
import type { RedisScript } from './scripts.js'

type AnyFunction = (...args: never[]) => unknown

/** A client of ioredis 5 or 6: `Redis` (with Sentinel as well) or `Cluster`. */
export interface IoredisClient {
  readonly evalsha: AnyFunction
  readonly eval: AnyFunction
  readonly duplicate: AnyFunction
}

/**
 * A client of node-redis 4 or later: `createClient()`, `createCluster()`, `createSentinel()` or `createClientPool()`. A pool
 * takes no subscription, so a process that waits for another process asks Redis twenty times a second.
 */
export interface NodeRedisClient {
  readonly evalSha: AnyFunction
  readonly eval: AnyFunction
}

/** Any other client. */
export interface RedisCommands {
  /**
   * Sends one command and resolves with its reply. `key` is the key that the command works on; a cluster finds the node by it. If
   * the reply is an error, the promise rejects with an error whose `message` is the text of Redis.
   */
  send(command: readonly string[], key: string): Promise<unknown>
  /**
   * Subscribes to a channel on a separate connection, and subscribes again after a reconnection. Resolves, once subscribed, with a
   * function that ends the subscription; rejects if it fails.
   *
   * Calls `onInterrupted` when the connection breaks, and `onSubscribedAgain` after a reconnection, if the client notices them.
   * Without this method, a process that waits for another process asks Redis twenty times a second.
   */
  subscribe?(
    channel: string,
    listener: (message: string) => void,
    onSubscribedAgain?: () => void,
    onInterrupted?: () => void,
  ): Promise<() => unknown>
}

export type RedisClient = IoredisClient | NodeRedisClient | RedisCommands

/** The part of a client that the grant store uses. */
export interface RedisConnection {
  run(script: RedisScript, key: string, args: readonly string[]): Promise<unknown>
  readonly subscribe: RedisCommands['subscribe'] | undefined
}

/** Adapts the client of the app. */
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
    async subscribe(channel, listener, onSubscribedAgain = ignore, onInterrupted = ignore) {
      const subscriber = client.isCluster ? duplicateOfCluster(client) : client.duplicate(IOREDIS_OVERRIDES)
      subscriber.on('error', ignore)
      subscriber.on('message', (_channel, message) => listener(message!))
      const end = await subscribed(
        () => subscriber.subscribe(channel),
        () => subscriber.disconnect(),
      )
      // The reply to a second subscription says that Redis has received the one that ioredis has sent again.
      const again = () => void subscriber.subscribe(channel).then(onSubscribedAgain, ignore)
      subscriber.on('ready', again)
      subscriber.on('close', onInterrupted)
      return end
    },
  }
}

const IOREDIS_OVERRIDES = {
  // ioredis would prefix the channel of the subscription, but not the channel that a script publishes to.
  keyPrefix: '',
  // The subscriber subscribes before it is connected. After a reconnection it subscribes again.
  enableOfflineQueue: true,
  autoResubscribe: true,
}

function duplicateOfCluster(client: IoredisMethods): IoredisMethods {
  // ioredis takes the key prefix of a cluster from both objects.
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
  off(event: string, listener: () => void): unknown
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

/** A client may try to connect for ever. After this time a client that has not subscribed is closed, and another is tried later. */
const SUBSCRIBE_TIMEOUT_MS = 5_000

/** Resolves with a function that ends the subscription once the attempt has succeeded. If it fails, ends the subscription. */
async function subscribed(attempt: () => Promise<unknown>, end: () => unknown): Promise<() => unknown> {
  // The app or the client itself may have ended the subscription already, so an error is ignored.
  const ended = async () => void (await Promise.resolve().then(end).catch(ignore))
  try {
    await withTimeout(SUBSCRIBE_TIMEOUT_MS, attempt(), noSubscription)
    return ended
  } catch (error) {
    await ended()
    throw error
  }
}

/** Whether a client has connections for subscriptions: a cluster and a sentinel do, a pool does not. */
function subscribesByItself(client: object): boolean {
  return hasField(client, 'slots') || hasField(client, 'acquire')
}

/** How long after a test of the subscription that failed the next one begins. */
const TEST_AGAIN_MS = 500

function viaClient(client: NodeRedisMethods): RedisCommands['subscribe'] {
  const subscribe = (channel: string, listener: (message: string) => void) =>
    subscribed(
      () => client.subscribe!(channel, listener),
      () => client.unsubscribe(channel, listener),
    )
  return async (channel, listener, onSubscribedAgain = ignore, onInterrupted = ignore) => {
    const unsubscribe = await subscribe(channel, listener)
    let isOver = false
    let tests = 0
    let isTested = false
    /** The client subscribes again by itself, before another subscription succeeds. */
    const test = async () => {
      if (isOver) return
      const endOfTest = await subscribe(`${channel}:${++tests}`, ignore).catch(ignore)
      if (!endOfTest) return void setTimeout(() => void test(), TEST_AGAIN_MS).unref()
      void endOfTest()
      isTested = false
      if (!isOver) onSubscribedAgain()
    }
    const onBreak = () => {
      onInterrupted()
      if (isTested) return
      isTested = true
      void test()
    }
    const stopWatching = watchBreaks(client, onBreak)
    return () => {
      isOver = true
      stopWatching()
      return unsubscribe()
    }
  }
}

function viaDuplicate(client: NodeRedisMethods): RedisCommands['subscribe'] {
  if (typeof client.subscribe !== 'function') return undefined
  return async (channel, listener, onSubscribedAgain = ignore, onInterrupted = ignore) => {
    const subscriber = client.duplicate()
    // After a reconnection the subscriber subscribes again by itself, before it is ready.
    subscriber.on('error', ignore)
    const end = await subscribed(
      () => subscriber.connect().then(() => subscriber.subscribe!(channel, listener)),
      () => (subscriber.destroy ? subscriber.destroy() : subscriber.disconnect?.()),
    )
    subscriber.on('ready', onSubscribedAgain)
    subscriber.on('reconnecting', onInterrupted)
    return end
  }
}

function commandsConnection(client: RedisCommands): RedisConnection {
  return {
    run: (script, key, args) =>
      withFallback(
        () => client.send(['EVALSHA', script.sha1, '1', key, ...args], key),
        () => client.send(['EVAL', script.source, '1', key, ...args], key),
      ),
    subscribe: client.subscribe && ((...args) => inTime(client.subscribe!(...args))),
  }
}

/** Resolves with a subscription that succeeds in time. A later one is ended. */
async function inTime(subscription: Promise<() => unknown>): Promise<() => unknown> {
  try {
    return await withTimeout(SUBSCRIBE_TIMEOUT_MS, subscription, noSubscription)
  } catch (error) {
    void subscription.then((end) => end()).catch(ignore)
    throw error
  }
}

/** Sends the hash of a script. If the server does not know the script, sends the script itself. */
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

/** Replaces the error of node-redis, which says that the client is closed even if it was never opened. */
const notOpen = () =>
  new ConfigurationError(
    'The client of node-redis is not connected. Connect it when the app starts: await client.connect().',
  )

const noSubscription = () =>
  new Error(`Redis did not accept a subscription within ${SUBSCRIBE_TIMEOUT_MS} ms.`)

function ignore(): void {}
