import type { ConfigurationError } from '../errors.js'
import type { SessionAdapter } from './session-adapter.js'

/** What a request has whose session is of no use: whoever needs it is told why. */
export class UnusableSession implements SessionAdapter {
  readonly isInAnswer = false
  readonly maxAgeMs = undefined
  readonly seen = undefined
  readonly #error: () => ConfigurationError

  constructor(error: () => ConfigurationError) {
    this.#error = error
  }

  read(): never {
    throw this.#error()
  }

  checkStorable(): never {
    throw this.#error()
  }

  async reread(): Promise<never> {
    throw this.#error()
  }

  async save(): Promise<never> {
    throw this.#error()
  }

  async replace(): Promise<never> {
    throw this.#error()
  }

  async clear(): Promise<never> {
    throw this.#error()
  }
}
