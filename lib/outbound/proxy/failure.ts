/** The API has been silent for too long. */
export class SilentApi extends Error {
  override readonly name = 'SilentApi'
}

/** Waits for somebody to be silent for too long. */
export class Silence {
  #timer: NodeJS.Timeout | undefined

  /** @param ms 0 waits for ever */
  constructor(ms: number, onTooLong: (error: SilentApi) => void) {
    if (ms > 0) this.#timer = setTimeout(() => onTooLong(new SilentApi()), ms)
  }

  /** It starts again. */
  broken(): void {
    this.#timer?.refresh()
  }

  end(): void {
    clearTimeout(this.#timer)
    // A timer that has been cleared would run again once it is refreshed.
    this.#timer = undefined
  }
}
