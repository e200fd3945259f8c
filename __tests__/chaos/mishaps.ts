import { randomFrom } from './random.js'
import { now } from './records.js'

/** Between which two steps something happens to a process. */
export type Moment =
  | 'lease taken'
  | 'about to commit'
  | 'committed'
  | 'session read'
  | 'session about to be written'

/** What a process says before it stops. */
export interface Mishap {
  readonly mishap: 'killed' | 'paused'
  readonly moment: Moment
  readonly at: number
  readonly forMs: number
}

/** How often in a thousand times it is killed, paused for longer than a lease, paused shortly. */
const PER_THOUSAND: Record<Moment, readonly [killed: number, long: number, short: number]> = {
  'lease taken': [1.5, 0.8, 2],
  'about to commit': [0.7, 0.4, 2],
  committed: [1.5, 0.6, 2],
  'session read': [0.1, 0.05, 0.4],
  // Between the last look at a session and its write nothing can be decided any more.
  'session about to be written': [0.3, 0, 0],
}

/**
 * Has the process it runs in killed or paused at the very moment that it is told of: no signal from outside comes in
 * time for what takes less than a millisecond. Whoever started the process hears of it first, and has it go on.
 */
export class Mishaps {
  /** Nothing goes wrong any more. */
  calm = false
  readonly #seed: string
  readonly #tell: (mishap: Mishap) => void
  readonly #counts = new Map<Moment, number>()

  constructor(seed: string, tell: (mishap: Mishap) => void) {
    this.#seed = seed
    this.#tell = tell
  }

  at(moment: Moment): void {
    const count = this.#counts.get(moment) ?? 0
    this.#counts.set(moment, count + 1)
    if (this.calm) return
    const random = randomFrom(`${this.#seed}/${moment}/${count}`)
    const [killed, long, short] = PER_THOUSAND[moment]
    const draw = random.next() * 1000
    if (draw < killed) this.#stop('SIGKILL', moment, random.int(0, 2_000))
    else if (draw < killed + long) this.#stop('SIGSTOP', moment, random.int(6_000, 8_000))
    else if (draw < killed + long + short) this.#stop('SIGSTOP', moment, random.int(50, 1_500))
  }

  #stop(signal: 'SIGKILL' | 'SIGSTOP', moment: Moment, forMs: number): void {
    const mishap = signal === 'SIGKILL' ? 'killed' : 'paused'
    this.#tell({ mishap, moment, at: now(), forMs })
    process.kill(process.pid, signal)
  }
}
