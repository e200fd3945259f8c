import type { Callback } from './original-store.js'

/** Replaces a method of a store. */
export function replaceMethod(store: object, name: string, method: (...args: never[]) => unknown): void {
  Object.defineProperty(store, name, { value: method, configurable: true, writable: true, enumerable: false })
}

/** Calls back with the outcome of some work. */
export async function reportTo(done: Callback, work: () => Promise<void>): Promise<void> {
  try {
    await work()
  } catch (error) {
    done(error)
    throw error
  }
  done()
}
