import { TokenError } from '../errors.js'

/** Settles as the promise does, or rejects once the signal is aborted; the work behind the promise goes on. */
export function untilAborted<T>(promise: Promise<T>, signal: AbortSignal, what: string): Promise<T> {
  return new Promise((resolve, reject) => {
    const giveUp = () => reject(abortedError(signal, what))
    promise.then(resolve, reject).finally(() => signal.removeEventListener('abort', giveUp))
    if (signal.aborted) giveUp()
    else signal.addEventListener('abort', giveUp, { once: true })
  })
}

/** What a caller gets whose signal was aborted. */
export function abortedError(signal: AbortSignal, what: string): TokenError {
  // Of AbortSignal.timeout(), or of an app's own making.
  const timedOut = (signal.reason as { name?: unknown } | undefined)?.name === 'TimeoutError'
  const why = timedOut ? 'did not answer in time' : 'was given up, as its signal was aborted'
  return new TokenError('ERR_TOKEN_ENDPOINT_UNAVAILABLE', `${what} ${why}. Try again later.`)
}
