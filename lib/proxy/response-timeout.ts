/** The error when the API has sent nothing for too long. */
export class UpstreamTimeoutError extends Error {
  override readonly name = 'UpstreamTimeoutError'
}

/** Calls back when the API has neither received nor sent anything for a time. */
export class IdleTimer {
  #timer: NodeJS.Timeout | undefined

  /** @param ms 0 waits for ever */
  constructor(ms: number, onIdle: (error: UpstreamTimeoutError) => void) {
    if (ms > 0) this.#timer = setTimeout(() => onIdle(new UpstreamTimeoutError()), ms)
  }

  /** Starts the time again. */
  readonly restart = (): void => {
    this.#timer?.refresh()
  }

  stop(): void {
    clearTimeout(this.#timer)
    // A timer that has been cleared would run again once it is refreshed.
    this.#timer = undefined
  }
}
