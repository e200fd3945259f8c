import type { Callback } from './original-store.js'

/** Replaces a method of a store. */
export function replaceMethod(store: object, name: string, method: (...args: never[]) => unknown): void {
  Object.defineProperty(store, name, { value: method, configurable: true, writable: true, enumerable: false })
}

/** Calls back with the outcome of some work. An error that the callback throws is no failure of the work: it is unhandled. */
export function reportTo(done: Callback, work: () => Promise<void>): Promise<void> {
  const working = work()
  void working.then(() => done(), done)
  return working
}
