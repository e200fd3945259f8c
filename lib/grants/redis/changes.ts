import type { RedisCommands } from './client.js'

/** After a subscription has failed, the next one is tried this much later. */
const RETRY_MS = 5_000

/** Somebody waits for news of one grant. */
export interface Watch {
  /** Resolves at the next piece of news. */
  next(): Promise<void>
  end(): void
}

/** News of grants from other processes, over one subscription that is opened when it is first needed. */
export class GrantChanges {
  readonly #channel: string
  readonly #subscribe: RedisCommands['subscribe']
  readonly #listeners = new Map<string, Set<() => void>>()
  #opening: Promise<boolean> | undefined
  #unsubscribe: (() => unknown) | undefined
  #closed = false

  constructor(channel: string, subscribe: RedisCommands['subscribe']) {
    this.#channel = channel
    this.#subscribe = subscribe
  }

  get channel(): string {
    return this.#channel
  }

  /** Whether news comes in at this moment. */
  get listening(): boolean {
    return this.#unsubscribe !== undefined
  }

  /** Resolves with whether news comes in. */
  listen(): Promise<boolean> {
    if (this.#closed) return Promise.resolve(false)
    this.#opening ??= this.#open()
    return this.#opening
  }

  async #open(): Promise<boolean> {
    try {
      this.#unsubscribe = await this.#subscribe?.(this.#channel, (grantId) => this.#tell(grantId))
    } catch {
      // Whoever waits asks again and again meanwhile.
    }
    if (!this.listening && this.#subscribe) {
      setTimeout(() => (this.#opening = undefined), RETRY_MS).unref()
    }
    return this.listening
  }

  watch(grantId: string): Watch {
    const listeners = this.#listeners.get(grantId) ?? new Set()
    this.#listeners.set(grantId, listeners)
    let tell = () => {}
    const listener = () => tell()
    listeners.add(listener)
    return {
      next: () => new Promise((resolve) => (tell = resolve)),
      end: () => {
        listeners.delete(listener)
        if (listeners.size === 0 && this.#listeners.get(grantId) === listeners)
          this.#listeners.delete(grantId)
      },
    }
  }

  #tell(grantId: string): void {
    for (const listener of this.#listeners.get(grantId) ?? []) listener()
  }

  async close(): Promise<void> {
    this.#closed = true
    await this.#opening
    const unsubscribe = this.#unsubscribe
    this.#unsubscribe = undefined
    await unsubscribe?.()
  }
}
