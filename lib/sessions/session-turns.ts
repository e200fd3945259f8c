/** For how long a turn waits for others before it goes ahead all the same: a store that never calls back stalls nobody for good. */
const PATIENCE_MS = 5_000

interface Turn {
  readonly exclusive: boolean
  readonly start: () => void
}

interface Line {
  shared: number
  exclusive: number
  readonly waiting: Set<Turn>
}

/**
 * Orders what happens to one session in its store within this process.
 *
 * What the app does (save, touch) takes shared turns, which never wait for each other: a store may well call its own
 * `set` from within `touch`. What must not be interrupted (read, change, write back) takes an exclusive turn: it waits
 * for the running turns to end, and while it runs all others wait. What happens to all sessions at once (clear) waits for
 * the running turns of every session, and while it waits or runs no session begins anything.
 */
export class SessionTurns {
  readonly #lines = new Map<string, Line>()
  /** What waits to happen to all sessions, and how much of it is running. */
  readonly #alone = { waiting: new Set<() => void>(), running: 0 }

  /** Calls `start` when it may, at once if nobody is in the way; `done` must be called when the work is over. */
  take(kind: 'shared' | 'exclusive', sid: string, start: (done: () => void) => void): void {
    const exclusive = kind === 'exclusive'
    const line = this.#lines.get(sid) ?? { shared: 0, exclusive: 0, waiting: new Set() }
    this.#lines.set(sid, line)

    const begin = () => {
      if (exclusive) line.exclusive++
      else line.shared++
      let over = false
      start(() => {
        if (over) return
        over = true
        if (exclusive) line.exclusive--
        else line.shared--
        this.#admit(sid, line)
      })
    }
    if (this.#mayBegin(line, exclusive)) begin()
    else this.#wait(line, exclusive, begin)
  }

  /** Does something in an exclusive turn. Settles as it does. */
  exclusively<T>(sid: string, work: () => Promise<T>): Promise<T> {
    return new Promise((resolve, reject) => {
      this.take('exclusive', sid, (done) => void work().then(resolve, reject).finally(done))
    })
  }

  /** Does something while nothing happens to any session. Settles as it does. */
  alone<T>(work: () => Promise<T>): Promise<T> {
    return new Promise((resolve, reject) => {
      const start = () => {
        clearTimeout(timer)
        if (!this.#alone.waiting.delete(start)) return
        this.#alone.running++
        void work().then(resolve, reject).finally(over)
      }
      const over = () => {
        this.#alone.running--
        for (const [sid, line] of this.#lines) this.#admit(sid, line)
      }
      const timer = setTimeout(start, PATIENCE_MS)
      this.#alone.waiting.add(start)
      this.#startAlone()
    })
  }

  #startAlone(): void {
    if (this.#alone.running > 0) return
    for (const line of this.#lines.values()) if (line.shared + line.exclusive > 0) return
    const [start] = this.#alone.waiting
    start?.()
  }

  /** A turn within another one of its session begins all the same: the other one waits for it. */
  #mayBegin(line: Line, exclusive: boolean): boolean {
    const isHeld = this.#alone.running + this.#alone.waiting.size > 0
    return mayBegin(line, exclusive) && (!isHeld || (line.shared > 0 && this.#alone.running === 0))
  }

  #wait(line: Line, exclusive: boolean, begin: () => void): void {
    const start = () => {
      clearTimeout(timer)
      line.waiting.delete(turn)
      begin()
    }
    const turn: Turn = { exclusive, start }
    const timer = setTimeout(start, PATIENCE_MS)
    line.waiting.add(turn)
  }

  #admit(sid: string, line: Line): void {
    for (const turn of line.waiting) if (this.#mayBegin(line, turn.exclusive)) turn.start()
    if (line.shared + line.exclusive + line.waiting.size === 0 && this.#lines.get(sid) === line) {
      this.#lines.delete(sid)
    }
    this.#startAlone()
  }
}

function mayBegin(line: Line, exclusive: boolean): boolean {
  return line.exclusive === 0 && (!exclusive || line.shared === 0)
}
