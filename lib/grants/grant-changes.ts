/**
 * Subscribes to a channel. Resolves, once subscribed, with a function that ends the subscription; rejects if it fails.
 *
 * A broken connection has one of two results. Either the function calls `onInterrupted`, subscribes again and calls
 * `onSubscribedAgain`. Or the subscription has ended, and the function calls `onLost`.
 */
export type Subscribe = (
  channel: string,
  listener: (message: string) => void,
  onSubscribedAgain?: () => void,
  onInterrupted?: () => void,
  onLost?: () => void,
) => Promise<() => unknown>

interface NewsCallbacks {
  readonly onOpen?: (() => void) | undefined
  readonly onInterrupted?: (() => void) | undefined
}

/** How long after a failed subscription the next one is tried, in milliseconds. */
const RETRY_MS = 5_000

/** The wait for changes of one grant. */
export interface Watch {
  /** Resolves at the next change. */
  next(): Promise<void>
  end(): void
}

/** Begins a text for all processes. Other messages on the channel are the ids of grants. */
export const NEWS = 'news '

/**
 * Receives the changes of grants in other processes, and the texts that these processes publish, over one subscription. The
 * subscription is opened when it is first needed.
 */
export class GrantChanges {
  readonly #channel: string
  readonly #subscribe: Subscribe | undefined
  readonly #listeners = new Map<string, Set<() => void>>()
  readonly #newsListeners = new Map<(text: string) => void, NewsCallbacks>()
  #opening: Promise<boolean> | undefined
  #unsubscribe: (() => unknown) | undefined
  #closed = false
  readonly #retryMs: number

  constructor(channel: string, subscribe: Subscribe | undefined, retryMs = RETRY_MS) {
    this.#channel = channel
    this.#subscribe = subscribe
    this.#retryMs = retryMs
  }

  get channel(): string {
    return this.#channel
  }

  /** Whether the subscription is open. */
  get isListening(): boolean {
    return this.#unsubscribe !== undefined
  }

  /** Opens the subscription. Resolves with whether it is open. */
  listen(): Promise<boolean> {
    if (this.#closed) return Promise.resolve(false)
    this.#opening ??= this.#open()
    return this.#opening
  }

  async #open(): Promise<boolean> {
    try {
      this.#unsubscribe = await this.#subscribe?.(
        this.#channel,
        (message) => this.#notify(message),
        () => this.#notifyOpen(),
        () => this.#notifyInterrupted(),
        () => this.#lost(),
      )
      if (this.isListening) this.#notifyOpen()
    } catch {
      // Until the next attempt, waiting processes ask Redis at short intervals instead.
    }
    if (!this.isListening && this.#subscribe) {
      setTimeout(() => this.#openAgain(), this.#retryMs).unref()
    }
    return this.isListening
  }

  /** Opens the subscription again. Each waiting process asks the database, as a message may have been lost. */
  #lost(): void {
    if (this.#closed) return
    this.#unsubscribe = undefined
    this.#notifyInterrupted()
    this.#openAgain()
    for (const listeners of this.#listeners.values()) for (const wake of listeners) wake()
  }

  #openAgain(): void {
    this.#opening = undefined
    if (this.#newsListeners.size > 0) void this.listen()
  }

  /**
   * Subscribes to the news, and calls the listener with each text. Calls `onOpen` each time the subscription opens, also when it
   * opens again after a break. Calls `onInterrupted` when it breaks. Returns a function that stops all these calls.
   */
  onNews(listener: (text: string) => void, onOpen?: () => void, onInterrupted?: () => void): () => void {
    this.#newsListeners.set(listener, { onOpen, onInterrupted })
    if (this.isListening) onOpen?.()
    else void this.listen()
    return () => void this.#newsListeners.delete(listener)
  }

  #notifyOpen(): void {
    for (const { onOpen } of this.#newsListeners.values()) onOpen?.()
  }

  #notifyInterrupted(): void {
    if (this.#closed) return
    for (const { onInterrupted } of this.#newsListeners.values()) onInterrupted?.()
  }

  watch(grantId: string): Watch {
    const listeners = this.#listeners.get(grantId) ?? new Set()
    this.#listeners.set(grantId, listeners)
    let wake = () => {}
    const listener = () => wake()
    listeners.add(listener)
    return {
      next: () => new Promise((resolve) => (wake = resolve)),
      end: () => {
        listeners.delete(listener)
        if (listeners.size === 0 && this.#listeners.get(grantId) === listeners)
          this.#listeners.delete(grantId)
      },
    }
  }

  #notify(message: string): void {
    for (const listener of this.#listeners.get(message) ?? []) listener()
    if (!message.startsWith(NEWS)) return
    for (const listener of this.#newsListeners.keys()) listener(message.slice(NEWS.length))
  }

  async close(): Promise<void> {
    this.#closed = true
    await this.#opening
    const unsubscribe = this.#unsubscribe
    this.#unsubscribe = undefined
    await unsubscribe?.()
  }
}
