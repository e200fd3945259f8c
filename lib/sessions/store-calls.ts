import { within } from '../deadline.js'

/** How express-session's stores answer. */
export type Callback = (error?: unknown, result?: unknown) => void

/** How long a store may take for one operation of ours. */
const STORE_TIMEOUT_MS = 10_000

/** Starts an operation; whichever way it ends, `done` is called, and the callback once. */
export function finishing(
  operation: (done: Callback) => unknown,
  callback: Callback | undefined,
  done: () => void,
): unknown {
  let settled = false
  const settle: Callback = (...results) => {
    if (settled) return
    settled = true
    done()
    callback?.(...results)
  }
  try {
    const returned = operation(settle)
    if (returned instanceof Promise) returned.then(done, settle)
    return returned
  } catch (error) {
    if (!callback) {
      done()
      throw error
    }
    settle(error)
    return undefined
  }
}

/** Tells a callback how some work ended. */
export async function reporting(done: Callback, work: () => Promise<void>): Promise<void> {
  try {
    await work()
  } catch (error) {
    done(error)
    throw error
  }
  done()
}

/** Resolves when a store operation is over, which is when it has called back or the promise it returned has settled. */
export function over(operation: (callback: Callback) => unknown): Promise<unknown> {
  return new Promise((resolve, reject) => {
    const returned = operation((error, result) => (error ? reject(error) : resolve(result)))
    if (returned instanceof Promise) returned.then(resolve, reject)
  })
}

/** Calls a store's method and waits for its callback, for as long as is reasonable. */
export function called<T>(operation: (callback: Callback) => unknown): Promise<T> {
  const answer = new Promise<T>((resolve, reject) => {
    const returned = operation((error, result) => (error ? reject(error) : resolve(result as T)))
    // A store may report a failure through its promise alone.
    if (returned instanceof Promise) returned.catch(reject)
  })
  return inTime(answer)
}

/** Waits for a store, for as long as is reasonable. */
export function inTime<T>(answer: Promise<T>): Promise<T> {
  return within(STORE_TIMEOUT_MS, answer, () => new Error('The session store did not answer in time.'))
}

export function replaceMethod(store: object, name: string, method: (...args: never[]) => unknown): void {
  Object.defineProperty(store, name, { value: method, configurable: true, writable: true, enumerable: false })
}
