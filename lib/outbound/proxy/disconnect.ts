/** Tells that the browser no longer waits for its response. Each request has one; an AbortSignal costs several times as much. */
export class Disconnect {
  #hasHappened = false
  #listener: (() => void) | undefined

  get hasHappened(): boolean {
    return this.#hasHappened
  }

  /** Is called once when it happens, in place of an earlier listener. */
  set listener(listener: (() => void) | undefined) {
    this.#listener = listener
  }

  happen(): void {
    this.#hasHappened = true
    this.#listener?.()
  }
}
