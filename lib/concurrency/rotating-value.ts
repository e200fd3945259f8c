import { RELOAD_AFTER_MS, RELOAD_PAUSE_MS, RELOAD_TIMEOUT_MS } from './time-constants.js'
import { withTimeout } from './with-timeout.js'

/**
 * Makes the error for a failed call of the function, and tells the operator. `hasLast`: whether an earlier call has returned a
 * value. That value is used until a call succeeds.
 */
export type OnRotationFailure = (cause: unknown, hasLast: boolean) => Error

/**
 * A value that a function returns and that may change while the process runs, such as a secret in a vault. All callers share one call.
 *
 * When the function fails, the last good value goes on being used.
 */
export class RotatingValue<T> {
  readonly #load: () => unknown
  readonly #check: (given: unknown) => T
  readonly #waitAfterMs: number
  #current: { readonly value: T } | undefined
  #failure: Error | undefined
  #calledAt = 0
  #loading: Promise<void> | undefined

  /**
   * @param check returns the value to use, and throws for a value that cannot be used
   * @param waitAfterMs the age of a value, in milliseconds, from which on a caller waits for a new value
   */
  constructor(load: () => unknown, check: (given: unknown) => T, waitAfterMs = RELOAD_AFTER_MS) {
    this.#load = load
    this.#check = check
    this.#waitAfterMs = waitAfterMs
  }

  /** The last good value. */
  get value(): T | undefined {
    return this.#current?.value
  }

  /**
   * Calls the function if the value is old. Returns a promise if the caller has to wait: there is no value yet, or it is too old. The
   * promise rejects only if there is no value.
   *
   * @param now milliseconds since some moment
   */
  prepare(now: number, onFailure: OnRotationFailure): Promise<void> | undefined {
    const age = now - this.#calledAt
    // The clock may have been set back.
    const isWithin = (ms: number) => age >= 0 && age < ms
    if (this.#current && isWithin(RELOAD_AFTER_MS)) return undefined
    if (!this.#current && this.#failure && isWithin(RELOAD_PAUSE_MS)) return Promise.reject(this.#failure)
    this.#loading ??= this.#call(now, onFailure)
    return this.#current && isWithin(this.#waitAfterMs) ? undefined : this.#loading
  }

  async #call(now: number, onFailure: OnRotationFailure): Promise<void> {
    try {
      const given = await withTimeout(RELOAD_TIMEOUT_MS, this.#given(), tooSlow)
      this.#current = { value: this.#check(given) }
      this.#failure = undefined
    } catch (cause) {
      this.#failure = onFailure(cause, this.#current !== undefined)
      if (!this.#current) throw this.#failure
    } finally {
      this.#calledAt = now
      this.#loading = undefined
    }
  }

  async #given(): Promise<unknown> {
    return this.#load()
  }
}

const tooSlow = () => new TypeError(`It took more than ${RELOAD_TIMEOUT_MS} ms.`)
