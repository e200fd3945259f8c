import { setTimeout as delay } from 'node:timers/promises'
import { LONG_PAUSE_MS, type OutsideFault, type Plan } from './plan.js'
import { now, type Pause, type RedisRestart } from './records.js'
import type { RedisProcess } from './redis-process.js'
import type { RunLog } from './run-log.js'
import type { SiteProcesses } from './site-processes.js'
import { type AtMoment, nameOf, type TokenEndpoint } from './token-endpoint.js'

/** The time between two restarts of Redis: for some time after a start it grants no lease. */
const REDIS_REST_MS = 25_000
/** How much a Redis loses when it goes back in time. */
const LAG_MS = 500

export interface FaultInjectorContext {
  readonly plan: Plan
  readonly log: RunLog
  readonly processes: SiteProcesses
  readonly endpoint: TokenEndpoint
  readonly grantsRedis: RedisProcess
  /** Whether the sessions are in the Redis of the grants. */
  readonly oneRedis: boolean
  /** How much more often outside faults happen than usual. */
  readonly pace: number
}

/** Kills and pauses processes, and stops Redis and the authorization server: one fault of a kind at a time. */
export class FaultInjector {
  readonly redisRestarts: RedisRestart[] = []
  /** The times in which Redis did not respond, without a loss of data. */
  readonly redisFreezes: Pause[] = []
  readonly #context: FaultInjectorContext
  readonly #underWay = new Set<Promise<unknown>>()
  readonly #stop = new AbortController()
  #redisBusy = false
  #serverDown = false
  #outside: Promise<void> | undefined

  constructor(context: FaultInjectorContext) {
    this.#context = context
  }

  start(): void {
    this.#outside = this.#goOn().catch((error) => {
      if (!this.#stop.signal.aborted) throw error
    })
  }

  /** Resolves when every fault has ended. */
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
    const { processes, log } = this.#context
    if (this.#stop.signal.aborted) return
    if (!('moment' in fault)) {
      if (moment === 'asked') log.count(`fault: ${nameOf(fault)}`)
      return
    }
    if (fault.moment !== moment) return
    const when = `during a refresh, when ${moment}`
    if (fault.kind === 'Redis restarted') this.#restartRedis(fault.forMs, when)
    else if (!processes.isRunning(by)) log.count(`left out: ${fault.kind}`)
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
    if (!this.#may('killed', !processes.anyIsDown, when)) return
    processes.kill(slot, forMs)
  }

  #pause(slot: number, forMs: number, when: string): void {
    const { processes } = this.#context
    const length = forMs < LONG_PAUSE_MS ? 'shortly' : 'longer than a lease'
    if (!this.#may(`paused ${length}`, !processes.anyIsPaused, when)) return
    processes.pause(slot, forMs)
  }

  #restartRedis(forMs: number, when: string): void {
    const { grantsRedis, log } = this.#context
    if (!this.#may('Redis restarted', !this.#redisBusy, when)) return
    this.#onRedis(async () => {
      const restart: { downAt: number; upAt?: number } = { downAt: now() }
      this.redisRestarts.push(restart)
      log.note(`Redis was killed, for ${forMs} ms`)
      await grantsRedis.kill()
      await delay(forMs)
      await grantsRedis.start()
      restart.upAt = now()
      log.note('Redis is up again')
    }, REDIS_REST_MS)
  }

  /** Restarts Redis with the state of a moment ago, like the promotion of a slow replica. */
  #takeRedisBack(forMs: number): void {
    const { grantsRedis, log } = this.#context
    // Where the sessions are there too, the app's own data would go back with them.
    const isPossible = !this.#redisBusy && !this.#context.oneRedis
    if (!this.#may('Redis went back in time', isPossible, 'at any time')) return
    this.#onRedis(async () => {
      const restart: { downAt: number; upAt?: number } = { downAt: now() }
      const onKilled = () => {
        restart.downAt = now()
        this.redisRestarts.push(restart)
        log.note(`Redis was killed, for ${forMs} ms, and goes back by ${LAG_MS} ms`)
      }
      await grantsRedis.goBack({ afterMs: LAG_MS, forMs, onKilled })
      restart.upAt = now()
      log.note('Redis is up again')
    }, REDIS_REST_MS)
  }

  #freezeRedis(forMs: number): void {
    const { grantsRedis, log } = this.#context
    if (!this.#may('Redis frozen', !this.#redisBusy, 'at any time')) return
    this.#onRedis(async () => {
      log.note(`Redis was frozen, for ${forMs} ms`)
      const freeze: Pause = { from: now() }
      this.redisFreezes.push(freeze)
      grantsRedis.freeze()
      await delay(forMs)
      grantsRedis.thaw()
      freeze.to = now()
      log.note('Redis goes on')
    }, 1_000)
  }

  /** Counts a fault as injected, or as left out. */
  #may(what: string, possible: boolean, when: string): boolean {
    this.#context.log.count(possible ? `fault: ${what}, ${when}` : `left out: ${what}`)
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
    const { endpoint, log } = this.#context
    if (this.#serverDown) return
    this.#serverDown = true
    log.count('fault: authorization server down')
    this.#during(endpoint.down(forMs).then(() => (this.#serverDown = false)))
  }

  #during(work: Promise<unknown>): void {
    const done = work.finally(() => this.#underWay.delete(done))
    this.#underWay.add(done)
  }
}
