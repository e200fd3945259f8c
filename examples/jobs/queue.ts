/**
 * A queue with BullMQ: a handler adds a job with a reference, and a worker in another process runs it with the user's tokens.
 *
 * A job that may succeed later is tried again, with growing pauses. A job whose user must log in again is not.
 */
import { type ConnectionOptions, type Job, type Queue, UnrecoverableError, Worker } from 'bullmq'
import {
  type OfflineTokens,
  type OfflineTokensFactory,
  type SessionTokens,
  TokenError,
} from 'session-token-manager'

/** What is in the queue. The reference takes the place of tokens. */
export interface UserJob {
  readonly reference: string
  readonly month: string
}

/** Called in a request: adds a job for its user. */
export async function addJob(queue: Queue<UserJob>, tokens: SessionTokens, month: string): Promise<void> {
  const reference = await tokens.offlineReference()
  await queue.add(
    'export',
    { reference, month },
    { attempts: 5, backoff: { type: 'exponential', delay: 1_000 } },
  )
}

/** Starts a worker. `run` does the work of a job with the tokens of its user. */
export function startWorker(
  name: string,
  connection: ConnectionOptions,
  { offline }: Pick<OfflineTokensFactory, 'offline'>,
  run: (user: OfflineTokens, job: UserJob) => Promise<unknown>,
): Worker<UserJob> {
  return new Worker<UserJob>(
    name,
    async ({ data }: Job<UserJob>) => {
      try {
        return await run(offline(data.reference), data)
      } catch (error) {
        if (error instanceof TokenError && !error.retryable) throw new UnrecoverableError(error.message)
        throw error
      }
    },
    { connection, concurrency: 10 },
  )
}
