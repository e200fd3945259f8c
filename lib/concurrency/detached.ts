import { AsyncResource } from 'node:async_hooks'

/** The context in which this library was loaded: that of no request. */
const ofNoRequest = new AsyncResource('session-token-manager')

/**
 * Runs work that outlives the request in which it begins, such as a subscription or a timer. In an `AsyncLocalStorage` it finds
 * nothing of the request, and does not keep the request in memory.
 */
export function detached<T>(work: () => T): T {
  return ofNoRequest.runInAsyncScope(work)
}
