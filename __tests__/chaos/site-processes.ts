import { type ChildProcess, spawn } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { Agent } from 'node:http'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { setTimeout as delay } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { dieTogether, gone } from '../helpers/child-process.js'
import type { ProcessSettings } from './chaos-process.js'
import type { Chronicle } from './chronicle.js'
import type { Mishap } from './mishaps.js'
import { LONG_PAUSE_MS } from './plan.js'
import { type Incarnation, type LibraryEvent, now, type Pause } from './records.js'

const PROGRAM = fileURLToPath(new URL('./chaos-process.ts', import.meta.url))
/** A load balancer sends nothing to a process that has not answered for so long. */
const NOTICED_AFTER_MS = 300

/** A process that was paused takes some time to go on. */
const STALL_TOLERANCE_MS = 1_000
/** A process may be told to go on before it has stopped. */
const GO_ON_AGAIN_MS = [50, 250, 1_000]

/** A process that serves requests. */
export interface RunningProcess {
  readonly incarnation: Incarnation
  readonly port: number
  /** The connections that browsers have to it. */
  readonly agent: Agent
}

export interface SiteContext {
  /** Where the processes write what their libraries tell. */
  readonly directory: string
  readonly settings: Omit<ProcessSettings, 'name' | 'logFile'>
  /** By name; filled as processes are started. */
  readonly incarnations: Map<string, Incarnation>
  readonly chronicle: Chronicle
}

interface Slot {
  starts: number
  child?: ChildProcess
  incarnation?: Incarnation
  running?: RunningProcess
  /** Resolves when it serves again. */
  ready: Promise<void>
}

/** The processes of the site: each is killed and started again, paused and resumed. */
export class SiteProcesses {
  readonly incarnations: Map<string, Incarnation>
  readonly #context: SiteContext
  readonly #slots: Slot[]
  readonly #resumptions = new Set<Promise<void>>()
  #closing = false
  #calm = false

  constructor(count: number, context: SiteContext) {
    this.#context = context
    this.incarnations = context.incarnations
    this.#slots = Array.from({ length: count }, () => ({ starts: 0, ready: Promise.resolve() }))
  }

  get count(): number {
    return this.#slots.length
  }

  async start(): Promise<void> {
    await Promise.all(this.#slots.map((slot) => this.#launch(slot)))
  }

  async #launch(slot: Slot): Promise<void> {
    const number = this.#slots.indexOf(slot)
    const name = `p${number}.${++slot.starts}`
    const incarnation: Incarnation = { name, slot: number, pauses: [], events: [] }
    const settings: ProcessSettings = { ...this.#context.settings, name, logFile: this.#logFile(name) }
    const child = spawn(process.execPath, ['--import', 'tsx', PROGRAM], {
      env: { ...process.env, NODE_OPTIONS: '', CHAOS: JSON.stringify(settings) },
      stdio: ['ignore', 'pipe', 'inherit', 'ipc'],
    })
    dieTogether(child)
    Object.assign(slot, { child, incarnation })
    this.incarnations.set(name, incarnation)
    const port = await this.#listenTo(child, incarnation)
    if (port === undefined) return
    if (this.#calm) child.send('calm', ignore)
    slot.running = { incarnation, port: Number(port), agent: new Agent({ keepAlive: true }) }
    this.#context.chronicle.note(`${name} is ready`)
  }

  /** Resolves with the port at which it serves, the first thing that it says; then come its mishaps. */
  #listenTo(child: ChildProcess, incarnation: Incarnation): Promise<number | undefined> {
    return new Promise((resolve) => {
      createInterface(child.stdout!).on('line', (line) => {
        const said = JSON.parse(line) as number | Mishap
        if (typeof said === 'number') resolve(said)
        else if (incarnation.killedAt === undefined) this.#suffer(incarnation, said)
      })
      child.once('close', (code, signal) => {
        resolve(undefined)
        if (incarnation.killedAt !== undefined || this.#closing) return
        throw new Error(`${incarnation.name} ended by itself (${code ?? signal})`)
      })
    })
  }

  #suffer({ name, slot }: Incarnation, { mishap, moment, at, forMs }: Mishap): void {
    const { chronicle } = this.#context
    const length = mishap === 'killed' ? '' : forMs < LONG_PAUSE_MS ? ' shortly' : ' longer than a lease'
    chronicle.count(`fault: ${mishap}${length}, ${moment}`)
    chronicle.noteAt(at, `${name} at the moment: ${moment}`)
    if (mishap === 'killed') this.kill(slot, forMs, at)
    else this.pause(slot, forMs, at)
  }

  #logFile(name: string): string {
    return join(this.#context.directory, `${name}.log`)
  }

  /** Where a load balancer sends a request that was meant for one of the processes. */
  async serving(slot: number): Promise<RunningProcess> {
    for (;;) {
      const order = this.#slots.map((_, offset) => this.#slots[(slot + offset) % this.count]!)
      const healthy = order.find(({ running }) => running && !isStalled(running.incarnation))
      const any = healthy ?? order.find(({ running }) => running)
      if (any?.running) return any.running
      await delay(20)
    }
  }

  /** Those that serve and are not paused. */
  get awake(): RunningProcess[] {
    return this.#slots.flatMap(({ running }) => (running && !isPaused(running.incarnation) ? running : []))
  }

  get somebodyIsDown(): boolean {
    return this.#slots.some(({ running }) => !running)
  }

  get somebodyIsPaused(): boolean {
    return this.#slots.some(({ incarnation }) => incarnation && isPaused(incarnation))
  }

  isRunning(incarnation: Incarnation): boolean {
    return this.#slots[incarnation.slot]?.running?.incarnation === incarnation
  }

  kill(slotNumber: number, downMs: number, at = now()): void {
    const slot = this.#slots[slotNumber]!
    const { child, incarnation } = slot
    if (!child || !incarnation) return
    child.kill('SIGKILL')
    incarnation.killedAt = at
    const pause = incarnation.pauses.at(-1)
    if (pause) pause.to ??= incarnation.killedAt
    slot.running?.agent.destroy()
    delete slot.running
    this.#context.chronicle.noteAt(at, `${incarnation.name} was killed, for ${downMs} ms`)
    slot.ready = gone(child)
      .then(() => delay(downMs))
      .then(() => (this.#closing ? undefined : this.#launch(slot)))
  }

  pause(slotNumber: number, ms: number, at = now()): void {
    const { child, incarnation } = this.#slots[slotNumber]!
    if (!child || !incarnation) return
    child.kill('SIGSTOP')
    const pause: { from: number; to?: number } = { from: at }
    incarnation.pauses.push(pause)
    this.#context.chronicle.noteAt(at, `${incarnation.name} was paused, for ${ms} ms`)
    const resumed = delay(ms).then(() => {
      if (pause.to !== undefined) return
      pause.to = now()
      child.kill('SIGCONT')
      for (const ms of GO_ON_AGAIN_MS) {
        setTimeout(() => incarnation.pauses.at(-1) === pause && child.kill('SIGCONT'), ms).unref()
      }
      this.#context.chronicle.note(`${incarnation.name} was resumed`)
    })
    this.#resumptions.add(resumed)
    void resumed.then(() => this.#resumptions.delete(resumed))
  }

  /** From now on no process has a mishap of its own. */
  calm(): void {
    this.#calm = true
    for (const { child } of this.#slots) if (child?.connected) child.send('calm', ignore)
  }

  /** Resolves when all serve and none is paused. */
  async allUp(): Promise<void> {
    while (this.somebodyIsDown || this.somebodyIsPaused) {
      await Promise.all([...this.#slots.map(({ ready }) => ready), ...this.#resumptions])
    }
  }

  /** Reads what the libraries of all processes told. */
  readEvents(): void {
    for (const incarnation of this.incarnations.values()) {
      const events = linesOf(this.#logFile(incarnation.name)).map((line) => JSON.parse(line) as LibraryEvent)
      incarnation.events = events.filter(({ type }) => type !== 'stalled')
      for (const { at, to } of events.filter(({ type }) => type === 'stalled'))
        this.#stood(incarnation, at, to!)
    }
  }

  /** A process that stood still was paused, whether somebody had meant it to be or the machine was too busy. */
  #stood({ name, pauses }: Incarnation, from: number, to: number): void {
    const meant = pauses.some(
      (pause) => pause.from < to && (pause.to ?? to) > from && isAsLong(pause, from, to),
    )
    if (meant || pauses.some((pause) => pause.from === from)) return
    pauses.push({ from, to })
    const { chronicle } = this.#context
    chronicle.noteAt(
      from,
      `${name} stood still for ${(to - from).toFixed(0)} ms, which nobody had meant it to`,
    )
    chronicle.count('stalled: a process')
  }

  async close(): Promise<void> {
    this.#closing = true
    await Promise.all(
      this.#slots.map(async ({ child, running }) => {
        running?.agent.destroy()
        if (!child) return
        child.kill('SIGKILL')
        await gone(child)
      }),
    )
  }
}

function isPaused({ pauses }: Incarnation): boolean {
  const pause = pauses.at(-1)
  return pause !== undefined && pause.to === undefined
}

function isStalled(incarnation: Incarnation): boolean {
  return isPaused(incarnation) && now() - incarnation.pauses.at(-1)!.from > NOTICED_AFTER_MS
}

function isAsLong(pause: Pause, from: number, to: number): boolean {
  return (pause.to ?? to) - pause.from > to - from - STALL_TOLERANCE_MS
}

function linesOf(file: string): string[] {
  try {
    // A process that is killed may leave half a line.
    return readFileSync(file, 'utf8').split('\n').slice(0, -1)
  } catch {
    return []
  }
}

/** A process that has just been killed hears of nothing any more. */
function ignore(): void {}
