import { spawn } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import type { AuthorizationServer } from './authorization-server.js'
import { dieTogether, gone } from './child-process.js'
import type { WorkerOptions, WorkerOrder, WorkerResult } from './offline-worker-process.js'

/** A process with `offlineTokens()` and without HTTP. */
export interface OfflineWorker {
  /** Gets a token for a reference. */
  token(reference: string): Promise<WorkerResult>
  revoke(reference: string): Promise<WorkerResult>
  /** Has it end in its own time (SIGTERM). Resolves with the exit code when it has. */
  terminate(): Promise<number | null>
  /** Ends it at once (SIGKILL). */
  kill(): Promise<void>
}

const PROGRAM = fileURLToPath(new URL('./offline-worker-process.ts', import.meta.url))

/** Starts a worker over the Redis of a fleet. `tokens` are options that survive JSON. */
export async function startOfflineWorker(
  server: Pick<AuthorizationServer, 'tokenEndpoint' | 'revocationEndpoint' | 'clients'>,
  redis: { readonly url: string },
  tokens: object = {},
): Promise<OfflineWorker> {
  const { tokenEndpoint, revocationEndpoint } = server
  const settings: WorkerOptions = {
    grantsUrl: redis.url,
    tokenEndpoint,
    revocationEndpoint,
    ...server.clients.client_secret_basic,
    tokens,
  }
  const child = spawn(process.execPath, ['--import', 'tsx', PROGRAM], {
    env: { ...process.env, WORKER_PROCESS: JSON.stringify(settings) },
    stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
  })
  dieTogether(child)
  const waiting = new Map<number, (result: WorkerResult) => void>()
  const result = (id: number) => new Promise<WorkerResult>((resolve) => void waiting.set(id, resolve))
  child.on('message', (message: WorkerResult) => waiting.get(message.id)?.(message))
  const failed = gone(child).then(() => Promise.reject(new Error('the worker has ended')))
  failed.catch(() => {})
  await Promise.race([result(0), failed])

  let orders = 0
  const order = (act: WorkerOrder['act'], reference: string): Promise<WorkerResult> => {
    const id = ++orders
    const outcome = result(id)
    child.send({ id, reference, act } satisfies WorkerOrder)
    return Promise.race([outcome, failed])
  }
  return {
    token: (reference) => order('token', reference),
    revoke: (reference) => order('revoke', reference),
    async terminate() {
      child.kill('SIGTERM')
      await gone(child)
      return child.exitCode
    },
    async kill() {
      child.kill('SIGKILL')
      await gone(child)
    },
  }
}
