import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { createClient } from 'redis'

/** How a client of node-redis finds it. */
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

/** There is no Redis; the message says what to do about it. */
export class RedisMissing extends Error {}

const PAUSE_MS = 20
const STARTS_WITHIN_MS = 10_000
const NOT_FOUND = 127

/** The Redis that REDIS_URL names, or else one of our own. */
export function openRedis(): Promise<Redis> {
  const { REDIS_URL } = process.env
  return REDIS_URL ? redisAt(REDIS_URL) : throwAwayRedis()
}

async function redisAt(url: string): Promise<Redis> {
  const client = await connected({ url }, 0).catch((error) => {
    // The URL may have a password in it.
    throw new RedisMissing(`No Redis answers at REDIS_URL: ${error.message || error.code}`)
  })
  return { name: 'the Redis at REDIS_URL', address: { url }, ...talk(client), close: () => client.close() }
}

/** A redis-server that keeps nothing, and that nobody else on this machine can reach. */
async function throwAwayRedis(): Promise<Redis> {
  const directory = await mkdtemp(join(tmpdir(), 'demo-redis-'))
  const path = join(directory, 'socket')
  const server = start(['--port', '0', '--unixsocket', path, '--dir', directory, '--save', ''])
  const end = async () => {
    server.stdin.end()
    if (server.exitCode === null) await once(server, 'exit')
    await rm(directory, { recursive: true, force: true })
  }
  const address = { socket: { path, tls: false } } as const
  const failed = once(server, 'exit').then(([code]) => {
    throw new RedisMissing(
      code === NOT_FOUND
        ? 'There is no redis-server on PATH. Install Redis (apt install redis-server, brew install redis), or set REDIS_URL.'
        : 'redis-server ended before it answered.',
    )
  })
  try {
    const client = await Promise.race([connected(address, STARTS_WITHIN_MS / PAUSE_MS), failed])
    failed.catch(() => {})
    const close = async () => {
      await client.close()
      await end()
    }
    return { name: 'a redis-server of its own', address, ...talk(client), close }
  } catch (error) {
    await end()
    throw error
  }
}

/**
 * Starts redis-server. It ends when the pipe to it is closed, which happens however this process ends, and not by the
 * Ctrl-C that ends this process: workers still need it then.
 */
function start(options: readonly string[]) {
  const script = `command -v redis-server >/dev/null || exit ${NOT_FOUND}
    redis-server "$@" <&- & read -r _; kill $!; wait`
  return spawn('/bin/sh', ['-c', script, 'sh', ...options], {
    detached: true,
    stdio: ['pipe', 'ignore', 'inherit'],
  })
}

async function connected(address: RedisAddress, retries: number) {
  const reconnectStrategy = (tried: number, cause: Error) => (tried < retries ? PAUSE_MS : cause)
  const client = createClient(
    'url' in address
      ? { ...address, socket: { reconnectStrategy } }
      : { socket: { ...address.socket, reconnectStrategy } },
  )
  client.on('error', () => {})
  return await client.connect()
}

function talk(client: Awaited<ReturnType<typeof connected>>): Pick<Redis, 'uptimeSeconds'> {
  return {
    async uptimeSeconds() {
      const [, seconds] = /uptime_in_seconds:(\d+)/.exec(await client.info('server')) ?? []
      return Number(seconds)
    },
  }
}

/** Resolves when a Redis has been running for so long. */
export async function untilUp(redis: Redis, seconds: number): Promise<void> {
  while ((await redis.uptimeSeconds()) < seconds) await sleep(PAUSE_MS)
}
