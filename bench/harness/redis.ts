import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import type { AddressInfo } from 'node:net'
import { createServer } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import { Redis } from 'ioredis'
import { atTheEnd } from './cleanup.js'

/** A Redis that keeps nothing on disk. It ends with its benchmark. */
export interface BenchRedis {
  readonly url: string
  readonly client: Redis
  stop(): Promise<void>
}

/** A Redis that started within this time, in seconds, grants no lease of a grant that it does not know. */
const SETTLED_SECONDS = 6

/** Starts the `redis-server` that is on PATH, on a free port. Resolves when it is old enough to grant leases. */
export async function startRedis(): Promise<BenchRedis> {
  const port = await freePort()
  const settings = { port, bind: '127.0.0.1', save: '', appendonly: 'no' }
  const args = Object.entries(settings).flatMap(([name, value]) => [`--${name}`, String(value)])
  const child = spawn('redis-server', args, { stdio: 'ignore' })
  const end = () => void child.kill('SIGKILL')
  process.once('exit', end)
  const missing = new Promise<never>((_, reject) => {
    child.once('error', (cause) => reject(new Error('The benchmark needs redis-server on PATH.', { cause })))
  })
  const url = `redis://127.0.0.1:${port}`
  const client = new Redis(url, { maxRetriesPerRequest: null, retryStrategy: () => 50 })
  client.on('error', () => {})
  await Promise.race([missing, settled(client)])
  const stop = async () => {
    client.disconnect()
    process.off('exit', end)
    await ended(child)
  }
  atTheEnd(stop)
  return { url, client, stop }
}

/** Returns a number of the `INFO` of a Redis. */
export async function infoOf(client: Redis, name: string): Promise<number> {
  const [, value] = new RegExp(`^${name}:(\\d+)`, 'm').exec(await client.info()) ?? []
  return Number(value)
}

async function settled(client: Redis): Promise<void> {
  while ((await infoOf(client, 'uptime_in_seconds')) < SETTLED_SECONDS) await delay(100)
}

async function ended(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return
  if (child.exitCode !== null || child.signalCode !== null) return
  const exit = once(child, 'exit')
  child.kill('SIGKILL')
  await exit
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  server.close()
  await once(server, 'close')
  return port
}
