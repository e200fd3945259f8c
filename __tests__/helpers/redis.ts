import { type ChildProcess, spawn } from 'node:child_process'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { setTimeout as delay } from 'node:timers/promises'
import { afterAll, beforeAll } from '@jest/globals'
import { Redis } from 'ioredis'
import { dieTogether, gone, onPath } from './child-process.js'
import { describeIf } from './describe-if.js'
import { freePort } from './free-port.js'

/** By then a server has lived for longer than any lease: it grants leases of grants that it does not know. */
const SETTLED_SECONDS = 5
const STARTS_WITHIN_MS = 20_000

export interface RedisOptions {
  /**
   * Does not wait until the server is old enough to lease what it does not know. A grant store is not granted leases
   * for 5 s by a server that may have forgotten some in a restart. Default: `false`.
   */
  readonly fresh?: boolean
}

export interface NewRedisOptions extends RedisOptions {
  /** Settings of `redis.conf`, e.g. `{ 'cluster-enabled': 'yes' }`. */
  readonly settings?: Readonly<Record<string, string>>
}

/** A throw-away Redis that keeps nothing on disk. */
export interface RedisServer {
  readonly port: number
  readonly url: string
  /** Ends it in its own time (SIGTERM). */
  stop(): Promise<void>
  /** Ends it at once (SIGKILL). */
  kill(): Promise<void>
  /** Starts it again, on the same port, empty; ends it first if it runs. */
  restart(options?: RedisOptions): Promise<void>
  /** Resolves when the server is old enough to lease what it does not know. */
  settled(): Promise<void>
  /** Connections stay open, and nothing is answered (SIGSTOP). */
  pause(): void
  /** Answers everything that has come meanwhile (SIGCONT). */
  resume(): void
  /** Ends it for good, and removes its directory. */
  close(): Promise<void>
}

/** Starts the `redis-server` that is on PATH, on a free port of 127.0.0.1. */
export async function startRedis(options: NewRedisOptions = {}): Promise<RedisServer> {
  const directory = await mkdtemp(join(tmpdir(), 'redis-'))
  const port = await freePort()
  const url = `redis://127.0.0.1:${port}`
  const settings = {
    port,
    bind: '127.0.0.1',
    dir: directory,
    save: '',
    appendonly: 'no',
    ...options.settings,
  }
  let child = await launch(settings)

  const end = async (signal: NodeJS.Signals) => {
    child.kill(signal)
    // Signals wait for a server that is paused, SIGKILL excepted.
    child.kill('SIGCONT')
    await gone(child)
  }
  const settled = () => untilSettled(url)
  if (!options.fresh) await settled()

  return {
    port,
    url,
    stop: () => end('SIGTERM'),
    kill: () => end('SIGKILL'),
    async restart({ fresh = false } = {}) {
      await end('SIGKILL')
      child = await launch(settings)
      if (!fresh) await settled()
    },
    settled,
    pause: () => void child.kill('SIGSTOP'),
    resume: () => void child.kill('SIGCONT'),
    async close() {
      await end('SIGKILL')
      await rm(directory, { recursive: true, force: true })
    },
  }
}

/** Resolves when the server accepts connections. */
async function launch(settings: Record<string, string | number>): Promise<ChildProcess> {
  const args = Object.entries(settings).flatMap(([name, value]) => [`--${name}`, String(value)])
  const child = spawn('redis-server', args, { stdio: ['ignore', 'pipe', 'pipe'] })
  dieTogether(child)
  const said: string[] = []
  await new Promise<void>((resolve, reject) => {
    const failed = (why: string) => reject(new Error([`redis-server ${why}`, ...said].join('\n')))
    child.once('error', (error) => failed(error.message))
    child.once('exit', () => failed('ended before it was ready'))
    for (const output of [child.stdout!, child.stderr!]) {
      createInterface(output).on('line', (line) => {
        said.push(line)
        if (line.includes('Ready to accept connections')) resolve()
      })
    }
  })
  return child
}

async function untilSettled(url: string): Promise<void> {
  const client = new Redis(url)
  // A connection that breaks is told by the command that it breaks.
  client.on('error', () => {})
  try {
    while ((await uptimeSeconds(client)) < SETTLED_SECONDS) await delay(50)
  } finally {
    client.disconnect()
  }
}

async function uptimeSeconds(client: Redis): Promise<number> {
  const [, seconds] = /uptime_in_seconds:(\d+)/.exec(await client.info('server')) ?? []
  return Number(seconds)
}

/** Tests that need no more than a connection, to `redisUrl()`. */
export function describeWithRedis(name: string, tests: () => void): void {
  const available = process.env.REDIS_URL !== undefined || serverOnPath()
  describeIf(available, 'No redis-server on PATH and no REDIS_URL', name, () => {
    beforeAll(redisUrl, STARTS_WITHIN_MS)
    tests()
  })
  if (available) closeSharedAtEnd()
}

/** Tests that start, stop and kill servers of their own with `startRedis()`. */
export function describeWithRedisServer(name: string, tests: () => void): void {
  describeIf(serverOnPath(), 'No redis-server on PATH', name, tests)
}

function serverOnPath(): boolean {
  return onPath('redis-server') !== undefined
}

let shared: Promise<RedisServer> | undefined
let closing = false

/** The Redis at `REDIS_URL`, or one that is started once for the tests of a file in `describeWithRedis()`. */
export async function redisUrl(): Promise<string> {
  if (process.env.REDIS_URL !== undefined) return process.env.REDIS_URL
  shared ??= startRedis()
  return (await shared).url
}

function closeSharedAtEnd(): void {
  if (closing) return
  closing = true
  afterAll(async () => {
    await (await shared)?.close()
    shared = undefined
  })
}
