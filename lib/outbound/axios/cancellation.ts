import { CanceledError, type InternalAxiosRequestConfig } from 'axios'

/** Waits for the work, but no longer than the caller does. The work itself goes on. */
export function whileWanted<T>(work: Promise<T>, config: InternalAxiosRequestConfig): Promise<T> {
  const { signal, cancelToken } = config
  if (!signal && !cancelToken) return work
  return new Promise((resolve, reject) => {
    const leave = () => reject(cancelToken?.reason ?? new CanceledError(undefined, config))
    const stay = () => {
      signal?.removeEventListener?.('abort', leave)
      cancelToken?.unsubscribe(leave)
    }
    signal?.addEventListener?.('abort', leave)
    cancelToken?.subscribe(leave)
    if (signal?.aborted) leave()
    work.then(resolve, reject).finally(stay)
  })
}

/** Sends nothing more for a caller that has left. axios itself looks only once, before the first request. */
export function requireWanted(config: InternalAxiosRequestConfig): void {
  config.cancelToken?.throwIfRequested()
  if (config.signal?.aborted) throw new CanceledError(undefined, config)
}
