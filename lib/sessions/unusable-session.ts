import type { ConfigurationError } from '../errors/token-error.js'
import type { SessionAdapter } from './session-adapter.js'

/** The adapter of a session that cannot be used. Each method throws the error that says why. */
export class UnusableSession implements SessionAdapter {
  readonly isCookieBased = false
  readonly canStoreLater = false
  readonly maxAgeMs = undefined
  readonly lastKnown = undefined
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
