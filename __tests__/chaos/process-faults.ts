import { randomFrom } from './random.js'
import { now } from './records.js'

/** The moment at which a fault is injected into a process. */
export type Moment =
  | 'lease taken'
  | 'about to commit'
  | 'committed'
  | 'session read'
  | 'session about to be written'

/** The message of a process before it stops. */
export interface ProcessFault {
  readonly kind: 'killed' | 'paused'
  readonly moment: Moment
  readonly at: number
  readonly forMs: number
}

/** How often in a thousand times it is killed, paused for longer than a lease, or paused shortly. */
const PER_THOUSAND: Record<Moment, readonly [killed: number, long: number, short: number]> = {
  'lease taken': [1.5, 0.8, 2],
  'about to commit': [0.7, 0.4, 2],
  committed: [1.5, 0.6, 2],
  'session read': [0.1, 0.05, 0.4],
  // A process that is paused here writes an old session when it is resumed, which no library can prevent.
  'session about to be written': [0.3, 0, 0],
}

/**
 * Kills or pauses its own process at an exact moment. A signal from outside would be too late for steps that take less than
 * a millisecond. The parent process gets a message first, and resumes the process.
 */
export class ProcessFaults {
  /** Whether faults are switched off. */
  calm = false
  readonly #seed: string
  readonly #tell: (fault: ProcessFault) => void
  readonly #counts = new Map<Moment, number>()

  constructor(seed: string, tell: (fault: ProcessFault) => void) {
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
    const kind = signal === 'SIGKILL' ? 'killed' : 'paused'
    this.#tell({ kind, moment, at: now(), forMs })
    process.kill(process.pid, signal)
  }
}
