/** Holds whoever passes until it is released. */
export interface Gate {
  /** Resolves when the first one is waiting. */
  readonly reached: Promise<void>
  /** Resolves when so many have come. */
  reachedBy(count: number): Promise<void>
  /** How many are waiting now. */
  readonly waiting: number
  /** Lets everyone pass, those who wait and those who come later. */
  release(): void
  /** Resolves once the gate is released. */
  pass(): Promise<void>
}

/** A closed gate. */
export function createGate(): Gate {
  const arrivals = new Map<number, Deferred>()
  const released = deferred()
  let arrived = 0
  let waiting = 0
  const arrival = (count: number) => {
    const known = arrivals.get(count) ?? deferred()
    arrivals.set(count, known)
    if (arrived >= count) known.resolve()
    return known
  }
  return {
    reached: arrival(1).promise,
    reachedBy: (count) => arrival(count).promise,
    get waiting() {
      return waiting
    },
    release: released.resolve,
    async pass() {
      waiting += 1
      arrived += 1
      arrivals.get(arrived)?.resolve()
      await released.promise
      waiting -= 1
    },
  }
}

interface Deferred {
  readonly promise: Promise<void>
  readonly resolve: () => void
}

function deferred(): Deferred {
  let resolve = () => {}
  const promise = new Promise<void>((settle) => {
    resolve = settle
  })
  return { promise, resolve }
}
