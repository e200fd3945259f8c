/** Holds whoever passes until it is released. */
export interface Gate {
  /** Resolves when the first one is waiting. */
  readonly reached: Promise<void>
  /** How many are waiting now. */
  readonly waiting: number
  /** Lets everyone pass, those who wait and those who come later. */
  release(): void
  /** Resolves once the gate is released. */
  pass(): Promise<void>
}

/** A closed gate. */
export function createGate(): Gate {
  const reached = deferred()
  const released = deferred()
  let waiting = 0
  return {
    reached: reached.promise,
    get waiting() {
      return waiting
    },
    release: released.resolve,
    async pass() {
      waiting += 1
      reached.resolve()
      await released.promise
      waiting -= 1
    },
  }
}

function deferred(): { promise: Promise<void>; resolve: () => void } {
  let resolve = () => {}
  const promise = new Promise<void>((settle) => {
    resolve = settle
  })
  return { promise, resolve }
}
