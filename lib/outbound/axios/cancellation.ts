import { CanceledError, type CancelToken, type InternalAxiosRequestConfig } from 'axios'
import { type Abortable, raceAbort } from '../../concurrency/abortable.js'

/** Waits for the work, but no longer than the caller does. The work itself goes on. */
export function untilCancelled<T>(work: Promise<T>, config: InternalAxiosRequestConfig): Promise<T> {
  const { signal, cancelToken } = config
  const wait = cancelToken ? raceAbort(work, signalOf(cancelToken), () => cancelToken.reason) : work
  return signal ? raceAbort(wait, signal as Abortable, () => new CanceledError(undefined, config)) : wait
}

function signalOf(cancelToken: CancelToken): Abortable {
  return {
    aborted: cancelToken.reason !== undefined,
    addEventListener: (_, listener) => cancelToken.subscribe(listener),
    removeEventListener: (_, listener) => cancelToken.unsubscribe(listener),
  }
}

/** Ends a call that was cancelled between two requests. axios itself looks only once, before the first request. */
export function throwIfCancelled(config: InternalAxiosRequestConfig): void {
  config.cancelToken?.throwIfRequested()
  if (config.signal?.aborted) throw new CanceledError(undefined, config)
}
