/**
 * Servers of a benchmark run in processes of their own, so that their CPU time is theirs alone: neither the load nor
 * another contender counts in.
 */
import { type ChildProcess, fork } from 'node:child_process'
import { createServer, type RequestListener, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { fileURLToPath } from 'node:url'
import { atTheEnd } from './cleanup.js'

/** A server in a process of its own. */
export interface BenchServer {
  readonly port: number
  /** The CPU time that the process has used so far, in microseconds. */
  cpuTime(): Promise<number>
  /** Asks a server that was started with `asks` for something, with an argument in JSON. One question at a time. */
  ask<T = unknown>(question: string, argument?: unknown): Promise<T>
  /** Ends the process. It also ends with its benchmark. */
  stop(): Promise<void>
}

/**
 * Starts a module of `bench/` as a process, with arguments. The module calls `serve()`.
 *
 * @param url the module's `import.meta.url`
 * @param flags further flags of Node.js
 */
export async function startServer(
  url: string,
  args: readonly string[],
  env: NodeJS.ProcessEnv = {},
  flags: readonly string[] = [],
): Promise<BenchServer> {
  const child = fork(fileURLToPath(url), args, {
    env: { ...process.env, NODE_ENV: 'bench', ...env },
    execArgv: [...process.execArgv, ...flags],
  })
  const ended = new Promise<void>((resolve) => child.once('exit', () => resolve()))
  const port = await messageOf<number>(child)
  const stop = () => {
    if (child.connected) child.disconnect()
    return ended
  }
  atTheEnd(stop)
  return {
    port,
    cpuTime: () => messageOf(child, { question: 'cpu' }),
    ask: (question, argument) => messageOf(child, { question, argument }),
    stop,
  }
}

interface Question {
  readonly question: string
  readonly argument?: unknown
}

/** Serves in a process that `startServer()` has started, on any port, until the benchmark ends. Returns the server. */
export async function serve(
  listener: RequestListener,
  asks: Record<string, (argument: never) => unknown> = {},
): Promise<Server> {
  const server = createServer({ keepAliveTimeout: 60_000 }, listener)
  process.on('message', async ({ question, argument }: Question) => {
    const result = question === 'cpu' ? cpuTime() : asks[question]?.(argument as never)
    process.send?.((await result) ?? null)
  })
  process.on('disconnect', () => process.exit())
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', 16_384, resolve))
  process.send?.((server.address() as AddressInfo).port)
  return server
}

function cpuTime(): number {
  const { user, system } = process.cpuUsage()
  return user + system
}

function messageOf<T>(child: ChildProcess, question?: Question): Promise<T> {
  return new Promise((resolve, reject) => {
    const ended = () =>
      reject(new Error(`a server of the benchmark ended: ${child.spawnargs.slice(-2).join(' ')}`))
    child.once('exit', ended)
    child.once('message', (message) => {
      child.off('exit', ended)
      resolve(message as T)
    })
    if (question !== undefined) child.send(question)
  })
}
