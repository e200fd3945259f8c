import type { Commands } from './commands.js'
import { sweepOf } from './migration.js'
import type { Names } from './names.js'

/** How many rows one step deletes at most. */
const ROWS = 200
/** The interval at which a process looks for expired rows, in milliseconds. */
const SWEEP_EVERY_MS = 60_000
/** The pause after a step that deleted as many rows as one step may, in milliseconds. */
const NEXT_STEP_MS = 1_000

/** Deletes expired rows in small steps, between the other work of this process. Several processes may do so at the same time. */
export class Sweep {
  readonly #commands: Commands
  readonly #statement: string
  /** Processes that started together sweep at different times. */
  #nextAt = performance.now() + Math.random() * SWEEP_EVERY_MS

  constructor(commands: Commands, names: Names) {
    this.#commands = commands
    this.#statement = sweepOf(names, ROWS)
  }

  /** Takes a step if one is due. No caller waits for it, and a failed step is taken again later. */
  soon(): void {
    const now = performance.now()
    if (now < this.#nextAt) return
    this.#nextAt = now + SWEEP_EVERY_MS
    this.step().then(
      (deleted) => {
        if (deleted === ROWS) this.#nextAt = performance.now() + NEXT_STEP_MS
      },
      () => {},
    )
  }

  /** Deletes some rows. Resolves with how many. */
  async step(): Promise<number> {
    return (await this.#commands.run(this.#statement)).length
  }
}
