import { setTimeout as delay } from 'node:timers/promises'
import type { Chronicle } from './chronicle.js'
import { LONG_PAUSE_MS, type OutsideFault, type Plan } from './plan.js'
import { now, type RedisRestart } from './records.js'
import type { RedisProcess } from './redis-process.js'
import type { SiteProcesses } from './site-processes.js'
import { type AtMoment, nameOf, type TokenDesk } from './token-desk.js'

/** So much later than one restart of Redis comes the next one: for some time after a start it leases nothing. */
const REDIS_REST_MS = 25_000
/** How much a Redis loses that goes back in time. */
const LAG_MS = 500

export interface SabotageContext {
  readonly plan: Plan
  readonly chronicle: Chronicle
  readonly processes: SiteProcesses
  readonly desk: TokenDesk
  readonly grantsRedis: RedisProcess
  /** Whether the sessions are in the Redis of the grants. */
  readonly oneRedis: boolean
  /** How much sooner outside faults come than usual. */
  readonly pace: number
}

/** Has processes killed and paused, and Redis and the authorization server out of reach: one of a kind at a time. */
export class Saboteur {
  readonly redisRestarts: RedisRestart[] = []
  readonly #context: SabotageContext
  readonly #underWay = new Set<Promise<unknown>>()
  readonly #stop = new AbortController()
  #redisBusy = false
  #serverDown = false
  #outside: Promise<void> | undefined

  constructor(context: SabotageContext) {
    this.#context = context
  }

  start(): void {
    this.#outside = this.#goOn().catch((error) => {
      if (!this.#stop.signal.aborted) throw error
    })
  }

  /** Resolves when all that went wrong has been put right. */
  async end(): Promise<void> {
    this.#stop.abort()
    await this.#outside
    await Promise.all(this.#underWay)
    await this.#context.processes.allUp()
  }

  async #goOn(): Promise<void> {
    for (const { afterMs, fault } of this.#context.plan.outsideFaults()) {
      await delay(afterMs, undefined, { signal: this.#stop.signal })
      this.#cause(fault)
    }
  }

  readonly atMoment: AtMoment = (fault, moment, { by }) => {
    const { processes, chronicle } = this.#context
    if (this.#stop.signal.aborted) return
    if (!('moment' in fault)) {
      if (moment === 'asked') chronicle.count(`fault: ${nameOf(fault)}`)
      return
    }
    if (fault.moment !== moment) return
    const when = `during a refresh, when ${moment}`
    if (fault.kind === 'Redis restarted') this.#restartRedis(fault.forMs, when)
    else if (!processes.isRunning(by)) chronicle.count(`left out: ${fault.kind}`)
    else if (fault.kind === 'killed') this.#kill(by.slot, fault.forMs, when)
    else this.#pause(by.slot, fault.forMs, when)
  }

  #cause({ kind, process, forMs }: OutsideFault): void {
    const when = 'at any time'
    if (kind === 'kill') this.#kill(process, forMs, when)
    else if (kind === 'pause') this.#pause(process, forMs, when)
    else if (kind === 'restart Redis') this.#restartRedis(forMs, when)
    else if (kind === 'Redis stays away') this.#restartRedis(forMs, 'and stays away for a minute')
    else if (kind === 'Redis goes back') this.#takeRedisBack(forMs)
    else if (kind === 'freeze Redis') this.#freezeRedis(forMs)
    else this.#serverGoesDown(forMs)
  }

  #kill(slot: number, forMs: number, when: string): void {
    const { processes } = this.#context
    if (!this.#may('killed', !processes.somebodyIsDown, when)) return
    processes.kill(slot, forMs)
  }

  #pause(slot: number, forMs: number, when: string): void {
    const { processes } = this.#context
    const length = forMs < LONG_PAUSE_MS ? 'shortly' : 'longer than a lease'
    if (!this.#may(`paused ${length}`, !processes.somebodyIsPaused, when)) return
    processes.pause(slot, forMs)
  }

  #restartRedis(forMs: number, when: string): void {
    const { grantsRedis, chronicle } = this.#context
    if (!this.#may('Redis restarted', !this.#redisBusy, when)) return
    this.#onRedis(async () => {
      const restart: { downAt: number; upAt?: number } = { downAt: now() }
      this.redisRestarts.push(restart)
      chronicle.note(`Redis was killed, for ${forMs} ms`)
      await grantsRedis.kill()
      await delay(forMs)
      await grantsRedis.start()
      restart.upAt = now()
      chronicle.note('Redis is up again')
    }, REDIS_REST_MS)
  }

  /** It comes back with the state of a moment ago, as a replica that lagged does. */
  #takeRedisBack(forMs: number): void {
    const { grantsRedis, chronicle } = this.#context
    // Where the sessions are there too, the app's own data would go back with them.
    const isPossible = !this.#redisBusy && !this.#context.oneRedis
    if (!this.#may('Redis went back in time', isPossible, 'at any time')) return
    this.#onRedis(async () => {
      const restart: { downAt: number; upAt?: number } = { downAt: now() }
      const onKilled = () => {
        restart.downAt = now()
        this.redisRestarts.push(restart)
        chronicle.note(`Redis was killed, for ${forMs} ms, and goes back by ${LAG_MS} ms`)
      }
      await grantsRedis.goBack({ afterMs: LAG_MS, forMs, onKilled })
      restart.upAt = now()
      chronicle.note('Redis is up again')
    }, REDIS_REST_MS)
  }

  #freezeRedis(forMs: number): void {
    const { grantsRedis, chronicle } = this.#context
    if (!this.#may('Redis frozen', !this.#redisBusy, 'at any time')) return
    this.#onRedis(async () => {
      chronicle.note(`Redis was frozen, for ${forMs} ms`)
      grantsRedis.freeze()
      await delay(forMs)
      grantsRedis.thaw()
      chronicle.note('Redis goes on')
    }, 1_000)
  }

  /** Counts a fault as one that came, or as one that was left out. */
  #may(what: string, possible: boolean, when: string): boolean {
    this.#context.chronicle.count(possible ? `fault: ${what}, ${when}` : `left out: ${what}`)
    return possible
  }

  #onRedis(work: () => Promise<void>, restMs: number): void {
    this.#redisBusy = true
    const done = work()
    this.#during(done)
    void done
      .then(() => delay(restMs / this.#context.pace, undefined, { ref: false }))
      .then(() => (this.#redisBusy = false))
  }

  #serverGoesDown(forMs: number): void {
    const { desk, chronicle } = this.#context
    if (this.#serverDown) return
    this.#serverDown = true
    chronicle.count('fault: authorization server down')
    this.#during(desk.down(forMs).then(() => (this.#serverDown = false)))
  }

  #during(work: Promise<unknown>): void {
    const over = work.finally(() => this.#underWay.delete(over))
    this.#underWay.add(over)
  }
}
