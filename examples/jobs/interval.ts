/** A job at an interval, without a queue: it runs for each user with a reference, in one process or in several. */
import { setTimeout as delay } from 'node:timers/promises'
import { type OfflineTokens, type OfflineTokensFactory, TokenError } from 'session-token-manager'

/** Where the app keeps the references, such as a table with one row for each user. */
export interface References {
  all(): Promise<readonly { readonly user: string; readonly reference: string }[]>
  delete(user: string): Promise<void>
}

/** Runs a job for all users, one after the other. A failure of one user stops no other. */
export async function runForAll(
  references: References,
  { offline }: Pick<OfflineTokensFactory, 'offline'>,
  run: (user: OfflineTokens) => Promise<unknown>,
): Promise<void> {
  for (const { user, reference } of await references.all()) {
    try {
      await run(offline(reference))
    } catch (error) {
      if (!(error instanceof TokenError)) throw error
      console.error(
        `The job of ${user} has failed (${error.code}, ${error.reason ?? 'no reason'}): ${error.message}`,
      )
      // The user has logged out, or must log in again: the next login makes another reference.
      if (error.code === 'ERR_REAUTHENTICATION_REQUIRED') await references.delete(user)
    }
  }
}

/** Runs the job, and again so many milliseconds after each end, until `signal` aborts. */
export async function runAtInterval(
  ms: number,
  signal: AbortSignal,
  job: () => Promise<void>,
): Promise<void> {
  while (!signal.aborted) {
    await job()
    await delay(ms, undefined, { signal }).catch(() => {})
  }
}
