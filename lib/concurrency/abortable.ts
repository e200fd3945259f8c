import { TokenError } from '../errors/token-error.js'

/** The part of an `AbortSignal` that `raceAbort()` uses. */
export interface Abortable {
  readonly aborted: boolean
  addEventListener?(type: 'abort', listener: () => void): unknown
  removeEventListener?(type: 'abort', listener: () => void): unknown
}

/** Settles as the promise does, or rejects once the signal is aborted; the work of the promise goes on. */
export function raceAbort<T>(promise: Promise<T>, signal: Abortable, reason: () => unknown): Promise<T> {
  return new Promise((resolve, reject) => {
    const giveUp = () => reject(reason())
    promise.then(resolve, reject).finally(() => signal.removeEventListener?.('abort', giveUp))
    if (signal.aborted) giveUp()
    else signal.addEventListener?.('abort', giveUp)
  })
}

/**
 * Returns the error for a caller whose signal was aborted.
 *
 * @param what begins the message
 * @param details a text for the operator alone
 */
export function abortedError(signal: AbortSignal, what: string, details?: string): TokenError {
  // AbortSignal.timeout() makes a TimeoutError, and the app may make one too.
  const timedOut = (signal.reason as { name?: unknown } | undefined)?.name === 'TimeoutError'
  const why = timedOut ? 'did not respond in time' : 'was aborted by its signal'
  return new TokenError('ERR_TOKEN_ENDPOINT_UNAVAILABLE', `${what} ${why}. Try again later.`, { details })
}
