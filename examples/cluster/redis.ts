import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { createClient } from 'redis'

/** The options of a node-redis client. */
export type RedisAddress =
  | { readonly url: string }
  | { readonly socket: { readonly path: string; readonly tls: false } }

export interface Redis {
  readonly name: string
  readonly address: RedisAddress
  /** For how long it has been running, in full seconds. */
  uptimeSeconds(): Promise<number>
  close(): Promise<void>
}

/** No Redis was found; the message says how to get one. */
export class RedisMissing extends Error {}

const NOT_FOUND = 127
const PAUSE_MS = 20
const STARTS_WITHIN_MS = 10_000

/** The Redis that REDIS_URL names, or else a new one. */
export function openRedis(): Promise<Redis> {
  const { REDIS_URL } = process.env
  return REDIS_URL ? redisAt(REDIS_URL) : throwAwayRedis()
}

async function redisAt(url: string): Promise<Redis> {
  const client = createClient({ url, socket: { reconnectStrategy: false } }).on('error', () => {})
  await client.connect().catch((error) => {
    // The URL may have a password in it.
    throw new RedisMissing(`No Redis answers at REDIS_URL (${error.code ?? error.message}).`)
  })
  return {
    name: 'the Redis at REDIS_URL',
    address: { url },
    uptimeSeconds: async () => uptimeIn(await client.info('server')),
    close: () => client.close(),
  }
}

/** A redis-server without persistence, which no other user of this machine can reach. */
async function throwAwayRedis(): Promise<Redis> {
  const directory = await mkdtemp(join(tmpdir(), 'demo-redis-'))
  const path = join(directory, 'socket')
  const server = startServer('--port', '0', '--unixsocket', path, '--dir', directory, '--save', '')
  const exit = once(server, 'exit')
  const reconnectStrategy = (retries: number, cause: Error) =>
    retries < STARTS_WITHIN_MS / PAUSE_MS ? PAUSE_MS : cause
  const client = createClient({ socket: { path, tls: false, reconnectStrategy } }).on('error', () => {})

  async function close(): Promise<void> {
    if (client.isOpen) client.destroy()
    server.stdin.end()
    await exit
    await rm(directory, { recursive: true, force: true })
  }
  const connected = client.connect().catch(() => Promise.reject(notStarted()))
  const ended = exit.then(([code]) => Promise.reject(notStarted(code)))
  await Promise.race([connected, ended]).catch(async (error) => {
    await close()
    throw error
  })
  return {
    name: 'a redis-server of its own',
    address: { socket: { path, tls: false } },
    uptimeSeconds: async () => uptimeIn(await client.info('server')),
    close,
  }
}

/**
 * Starts redis-server. It ends when the pipe to it is closed, so it ends with this process. A terminal's Ctrl-C does not
 * reach it: the workers need it until they have stopped.
 */
function startServer(...options: string[]) {
  const script = `command -v redis-server >/dev/null || exit ${NOT_FOUND}
    redis-server "$@" & read -r _; kill $!; wait`
  return spawn('/bin/sh', ['-c', script, 'sh', ...options], {
    detached: true,
    stdio: ['pipe', 'ignore', 'ignore'],
  })
}

function notStarted(code?: number): RedisMissing {
  return new RedisMissing(
    code === NOT_FOUND
      ? 'There is no redis-server on PATH. Install Redis (apt install redis-server, brew install redis), or name one in REDIS_URL.'
      : 'redis-server did not start. Try it by hand, or name a Redis in REDIS_URL.',
  )
}

function uptimeIn(info: string): number {
  const [, seconds] = /uptime_in_seconds:(\d+)/.exec(info) ?? []
  return Number(seconds)
}

/** Resolves when a Redis has been running for this long. */
export async function untilUp(redis: Redis, seconds: number): Promise<void> {
  while ((await redis.uptimeSeconds()) < seconds) await sleep(PAUSE_MS)
}
