import { type ChildProcess, spawn } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { Agent } from 'node:http'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { setTimeout as delay } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { dieTogether, gone } from '../helpers/child-process.js'
import type { ProcessSettings } from './chaos-process.js'
import { LONG_PAUSE_MS } from './plan.js'
import type { ProcessFault } from './process-faults.js'
import { type Incarnation, type LibraryEvent, now, type Pause } from './records.js'
import type { RunLog } from './run-log.js'

const PROGRAM = fileURLToPath(new URL('./chaos-process.ts', import.meta.url))
/** A load balancer sends no requests to a process that has not responded for this long. */
const NOTICED_AFTER_MS = 300

/** A paused process needs some time to resume. */
const STALL_TOLERANCE_MS = 1_000
/** SIGCONT may arrive before the process has stopped, so it is sent again after these times. */
const GO_ON_AGAIN_MS = [50, 250, 1_000]

/** A process that serves requests. */
export interface RunningProcess {
  readonly incarnation: Incarnation
  readonly port: number
  /** The connections that browsers have to it. */
  readonly agent: Agent
}

export interface SiteContext {
  /** Where the processes write the events of their libraries. */
  readonly directory: string
  readonly settings: Omit<ProcessSettings, 'name' | 'logFile'>
  /** By name; filled as processes are started. */
  readonly incarnations: Map<string, Incarnation>
  readonly log: RunLog
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
    this.#context.log.note(`${name} is ready`)
  }

  /** Resolves with the port of the process, its first message; its later messages are faults. */
  #listenTo(child: ChildProcess, incarnation: Incarnation): Promise<number | undefined> {
    return new Promise((resolve) => {
      createInterface(child.stdout!).on('line', (line) => {
        const said = JSON.parse(line) as number | ProcessFault
        if (typeof said === 'number') resolve(said)
        else if (incarnation.killedAt === undefined) this.#applyFault(incarnation, said)
      })
      child.once('close', (code, signal) => {
        resolve(undefined)
        if (incarnation.killedAt !== undefined || this.#closing) return
        throw new Error(`${incarnation.name} ended by itself (${code ?? signal})`)
      })
    })
  }

  #applyFault({ name, slot }: Incarnation, { kind, moment, at, forMs }: ProcessFault): void {
    const { log } = this.#context
    const length = kind === 'killed' ? '' : forMs < LONG_PAUSE_MS ? ' shortly' : ' longer than a lease'
    log.count(`fault: ${kind}${length}, ${moment}`)
    log.noteAt(at, `${name} at the moment: ${moment}`)
    if (kind === 'killed') this.kill(slot, forMs, at)
    else this.pause(slot, forMs, at)
  }

  #logFile(name: string): string {
    return join(this.#context.directory, `${name}.log`)
  }

  /** The process to which a load balancer sends a request that was meant for a slot. */
  async serving(slot: number): Promise<RunningProcess> {
    for (;;) {
      const order = this.#slots.map((_, offset) => this.#slots[(slot + offset) % this.count]!)
      const healthy = order.find(({ running }) => running && !isStalled(running.incarnation))
      const any = healthy ?? order.find(({ running }) => running)
      if (any?.running) return any.running
      await delay(20)
    }
  }

  /** The processes that serve and are not paused. */
  get awake(): RunningProcess[] {
    return this.#slots.flatMap(({ running }) => (running && !isPaused(running.incarnation) ? running : []))
  }

  get anyIsDown(): boolean {
    return this.#slots.some(({ running }) => !running)
  }

  get anyIsPaused(): boolean {
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
    this.#context.log.noteAt(at, `${incarnation.name} was killed, for ${downMs} ms`)
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
    this.#context.log.noteAt(at, `${incarnation.name} was paused, for ${ms} ms`)
    const resumed = delay(ms).then(() => {
      if (pause.to !== undefined) return
      pause.to = now()
      child.kill('SIGCONT')
      for (const ms of GO_ON_AGAIN_MS) {
        setTimeout(() => incarnation.pauses.at(-1) === pause && child.kill('SIGCONT'), ms).unref()
      }
      this.#context.log.note(`${incarnation.name} was resumed`)
    })
    this.#resumptions.add(resumed)
    void resumed.then(() => this.#resumptions.delete(resumed))
  }

  /** Switches the faults inside the processes off. */
  calm(): void {
    this.#calm = true
    for (const { child } of this.#slots) if (child?.connected) child.send('calm', ignore)
  }

  /** Resolves when all serve and none is paused. */
  async allUp(): Promise<void> {
    while (this.anyIsDown || this.anyIsPaused) {
      await Promise.all([...this.#slots.map(({ ready }) => ready), ...this.#resumptions])
    }
  }

  /** Reads the events of the libraries of all processes. */
  readEvents(): void {
    for (const incarnation of this.incarnations.values()) {
      const events = linesOf(this.#logFile(incarnation.name)).map((line) => JSON.parse(line) as LibraryEvent)
      incarnation.events = events.filter(({ type }) => type !== 'stalled')
      for (const { at, to } of events.filter(({ type }) => type === 'stalled'))
        this.#noteStall(incarnation, at, to!)
    }
  }

  /** Records a stall as a pause, unless a planned pause explains it: the machine was too busy. */
  #noteStall({ name, pauses }: Incarnation, from: number, to: number): void {
    const meant = pauses.some(
      (pause) => pause.from < to && (pause.to ?? to) > from && isAsLong(pause, from, to),
    )
    if (meant || pauses.some((pause) => pause.from === from)) return
    pauses.push({ from, to })
    const { log } = this.#context
    log.noteAt(from, `${name} stalled for ${(to - from).toFixed(0)} ms without a planned pause`)
    log.count('stalled: a process')
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

/** A process that has just been killed cannot receive the message. */
function ignore(): void {}
