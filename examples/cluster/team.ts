import cluster, { type Worker } from 'node:cluster'
import { EventEmitter, once } from 'node:events'
import { join } from 'node:path'
import type { WorkerOptions } from './worker.js'

/** The workers. A worker that dies is replaced. */
export interface Team {
  /** The names of the running workers. */
  names(): string[]
  pids(): number[]
  /** Calls the listener with the names now, and whenever they change, until the function returned is called. */
  follow(listener: (names: string[]) => void): () => void
  /** Ends a worker at once (SIGKILL), and resolves when it is gone. A new worker takes its place as soon as it is ready. */
  kill(name: string): Promise<void>
  /** Replaces all workers in turn: a new worker serves before an old one stops. */
  restart(): Promise<void>
  /** Resolves when the full number of workers is running. */
  complete(): Promise<void>
  close(): Promise<void>
}

export async function startTeam(size: number, options: WorkerOptions): Promise<Team> {
  cluster.setupPrimary({ exec: join(import.meta.dirname, 'worker.ts') })
  const serving = new Map<string, Worker>()
  const replacements = new Set<Promise<void>>()
  const changes = new EventEmitter<{ change: [names: string[]] }>()
  const byAge = () => [...serving.values()].sort((a, b) => a.id - b.id)
  const names = () => byAge().map(nameOf)
  const tell = () => changes.emit('change', names())

  async function start(): Promise<void> {
    const worker = cluster.fork({ WORKER_OPTIONS: JSON.stringify(options) })
    const ended = once(worker, 'exit').then(() =>
      Promise.reject(new Error(`${nameOf(worker)} ended too soon`)),
    )
    await Promise.race([once(worker, 'listening'), ended])
    serving.set(nameOf(worker), worker)
    tell()
    worker.once('exit', () => {
      // A worker that was asked to stop no longer serves.
      if (serving.delete(nameOf(worker))) replace()
      tell()
    })
  }

  function replace(): void {
    const replacement = start().catch((error) => console.error(error.message))
    replacements.add(replacement)
    void replacement.finally(() => replacements.delete(replacement))
  }

  async function stop(worker: Worker): Promise<void> {
    if (!serving.delete(nameOf(worker))) return
    // It may have died just now.
    worker.send('stop', () => {})
    await once(worker, 'exit')
  }

  await Promise.all(Array.from({ length: size }, start))
  return {
    names,
    pids: () => byAge().map(({ process }) => process.pid!),
    follow(listener) {
      listener(names())
      changes.on('change', listener)
      return () => void changes.off('change', listener)
    },
    async kill(name) {
      const worker = serving.get(name)
      worker?.process.kill('SIGKILL')
      if (worker) await once(worker, 'exit')
    },
    async restart() {
      for (const worker of byAge()) {
        await start()
        await stop(worker)
      }
    },
    complete: async () => void (await Promise.all(replacements)),
    async close() {
      await Promise.all(replacements)
      await Promise.all([...serving.values()].map(stop))
    },
  }
}

function nameOf({ id }: Worker): string {
  return `worker ${id}`
}
