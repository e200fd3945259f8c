import { type ChildProcess, spawn } from 'node:child_process'
import { mkdtemp, rm } from 'node:fs/promises'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { setTimeout as delay } from 'node:timers/promises'
import { Redis } from 'ioredis'
import { dieTogether, gone } from '../helpers/child-process.js'

/** A throw-away Redis in a process of its own, for a run outside of a test framework. */
export interface RedisProcess {
  readonly url: string
  kill(): Promise<void>
  /** Starts it again: empty, or if it is durable with all that it had acknowledged. */
  start(): Promise<void>
  /** Kills it after some time and starts it with its state from now: what it acknowledges meanwhile is lost. */
  goBack(times: { readonly afterMs: number; readonly forMs: number; onKilled(): void }): Promise<void>
  freeze(): void
  thaw(): void
  close(): Promise<void>
}

export async function startRedisProcess(durable = false): Promise<RedisProcess> {
  const directory = await mkdtemp(join(tmpdir(), 'chaos-redis-'))
  const port = await freePort()
  let child = await launch(port, directory, durable)
  const kill = async () => {
    child.kill('SIGKILL')
    await gone(child)
  }
  return {
    url: `redis://127.0.0.1:${port}`,
    kill,
    async start() {
      child = await launch(port, directory, durable)
    },
    async goBack({ afterMs, forMs, onKilled }) {
      await snapshot(port)
      await delay(afterMs)
      await kill()
      onKilled()
      await delay(forMs)
      child = await launch(port, directory, durable)
      // Otherwise it would be there after the next restart too.
      await rm(join(directory, 'dump.rdb'))
    },
    freeze: () => void child.kill('SIGSTOP'),
    thaw: () => void child.kill('SIGCONT'),
    async close() {
      await kill()
      await rm(directory, { recursive: true, force: true })
    },
  }
}

/** Has the server write what it has to its disk. */
async function snapshot(port: number): Promise<void> {
  const client = new Redis(port)
  await client.call('SAVE')
  client.disconnect()
}

/** Resolves when the server accepts connections. */
async function launch(port: number, dir: string, durable: boolean): Promise<ChildProcess> {
  const appendonly = durable ? 'yes' : 'no'
  const settings = { port, bind: '127.0.0.1', dir, save: '', appendonly, appendfsync: 'always' }
  const args = Object.entries(settings).flatMap(([name, value]) => [`--${name}`, String(value)])
  const child = spawn('redis-server', args, { stdio: ['ignore', 'pipe', 'inherit'] })
  dieTogether(child)
  await new Promise<void>((resolve, reject) => {
    child.once('error', reject)
    child.once('exit', (code) => reject(new Error(`redis-server ended before it was ready (${code})`)))
    createInterface(child.stdout!).on('line', (line) => {
      if (line.includes('Ready to accept connections')) resolve()
    })
  })
  return child
}

async function freePort(): Promise<number> {
  const server = createServer()
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as { port: number }
  await new Promise((resolve) => server.close(resolve))
  return port
}
