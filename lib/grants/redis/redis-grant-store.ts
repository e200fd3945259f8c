import { within } from '../../deadline.js'
import { ConfigurationError, TokenError } from '../../errors.js'
import { ownOptions } from '../../own-options.js'
import type {
  EndedGrant,
  GrantEnd,
  GrantRecord,
  GrantState,
  GrantStore,
  LeaseRequest,
  Retention,
} from '../grant-store.js'
import { GrantChanges, type Watch } from './changes.js'
import { type RedisClient, type RedisConnection, redisConnection } from './client.js'
import { COMMIT, END, LEASE, READ, RELEASE, RENEW, type RedisScript, RUN } from './scripts.js'
import { ServerRuns } from './server-runs.js'

export interface RedisGrantStoreOptions {
  /** What the keys begin with, and the name of the channel. Default: `'session-tokens:'`. */
  prefix?: string
  /**
   * For how long a grant is remembered after its last refresh, and an ended one after its end, in milliseconds, at least:
   * where it is known that the session lives for longer, it is for as long as the session. It must be longer than any
   * request takes. Default: 24 hours.
   */
  grantTtlMs?: number
  /** How long Redis may take to answer one command, in milliseconds, at most 24 hours. Default: 2,000. */
  commandTimeoutMs?: number
  /**
   * For how long a lease remains its holder's to renew after it ran out, or after Redis has lost it, in milliseconds.
   * Leases are renewed every 400 ms. At most 24 hours. Default: 1,000.
   */
  graceMs?: number
}

/** A grant store in Redis. */
export interface RedisGrantStore extends GrantStore {
  /** Ends the connection on which it hears of changes. The client that it was given is the app's to close. */
  close(): Promise<void>
}

const DEFAULTS = {
  prefix: 'session-tokens:',
  grantTtlMs: 86_400_000,
  commandTimeoutMs: 2_000,
  graceMs: 1_000,
}
const LEAST = { grantTtlMs: 1, commandTimeoutMs: 1, graceMs: 0 }
/** Whoever waits does so for 24 hours at most. A timer of Node's that is given more than 24 days fires at once. */
const MOST: ReadonlyMap<string, number> = new Map([
  ['commandTimeoutMs', 86_400_000],
  ['graceMs', 86_400_000],
])
/** How often to ask while no news can be heard. */
const POLL_MS = 50
/** How often to ask all the same: a message may get lost when a connection breaks. */
const SAFETY_MS = 1_000

/**
 * Keeps grants in Redis, where all processes that serve a session agree: one refresh per session, however many processes
 * and hosts there are.
 *
 * It sends scripts that run as one step (`EVALSHA`), each on one key, the grant's, and opens a second connection to hear
 * of changes when a process first has to wait for another. A refresh takes two commands, a valid token none; a process
 * that waits for another's refresh sends two as well, and a third when it first has to.
 *
 * A Redis that has started within the last 5 seconds grants no lease but to whoever had it: it may have forgotten some. The
 * same holds for 5 seconds after another server has taken the place of one, for the grants that it does not know or has from before.
 *
 * @param client ioredis, node-redis, single server, Sentinel or Cluster; or a function that sends a command. Redis must
 * be version 6.2 or later, or Valkey.
 * @throws `ConfigurationError` when an option is unknown or out of range
 *
 * @example
 * const client = new Redis(process.env.REDIS_URL!)
 * app.use(sessionTokens({ …, grants: redisGrantStore(client) }))
 */
export function redisGrantStore(client: RedisClient, options: RedisGrantStoreOptions = {}): RedisGrantStore {
  return new RedisGrants(redisConnection(client), checkedOptions(options))
}

type Reply = readonly (string | number)[]

class RedisGrants implements RedisGrantStore {
  readonly #connection: RedisConnection
  readonly #options: Required<RedisGrantStoreOptions>
  readonly #changes: GrantChanges
  readonly #runs = new ServerRuns(async (grantId) => textOf((await this.#run(RUN, grantId, []))[0]))

  constructor(connection: RedisConnection, options: Required<RedisGrantStoreOptions>) {
    this.#connection = connection
    this.#options = options
    this.#changes = new GrantChanges(`${options.prefix}changes`, connection.subscribe)
  }

  async lease(grantId: string, request: LeaseRequest): Promise<GrantState & { granted: boolean }> {
    const watch = this.#changes.watch(grantId)
    try {
      return await this.#lease(grantId, request, watch)
    } finally {
      watch.end()
    }
  }

  async #lease(grantId: string, request: LeaseRequest, watch: Watch) {
    const deadline = performance.now() + request.waitMs
    for (;;) {
      const listening = this.#changes.listening
      const news = watch.next()
      const { what, retryMs, state } = await this.#tryLease(grantId, request)
      const left = () => deadline - performance.now()
      if (what !== 'held' || left() <= 0) return { ...state, granted: what === 'granted' }
      if (!listening) {
        await timeout(Math.min(left(), retryMs, SAFETY_MS), this.#changes.listen())
        // What happened before it listened is found out by asking once more.
        if (this.#changes.listening) continue
      }
      await timeout(Math.min(left(), retryMs, listening ? SAFETY_MS : POLL_MS), news)
    }
  }

  async #tryLease(grantId: string, { owner, ttlMs, revision, idleMs = 0 }: LeaseRequest) {
    const { graceMs, grantTtlMs } = this.#options
    // A grant that has rested for so long was forgotten: nobody has lost a lease of it.
    const graceOfUnknown = idleMs > grantTtlMs ? 0 : graceMs
    const holdOffMs = Math.ceil(this.#runs.holdOffMs)
    const holdOffOfUnknown = graceOfUnknown === 0 ? 0 : holdOffMs
    const times = [graceMs, graceOfUnknown, holdOffMs, holdOffOfUnknown]
    const args = [owner, Math.ceil(ttlMs), revision, ...times].map(String)
    const abandoned = (reply: Reply) => {
      this.#runs.hear(textOf(reply[5]), grantId)
      if (String(reply[0]) === 'granted') this.release(grantId, owner).catch(ignore)
    }
    const reply = await this.#run(LEASE, grantId, args, abandoned)
    const [what, retryMs, heldRevision, tokens, ended, run] = reply
    this.#runs.hear(textOf(run), grantId)
    return { what: String(what), retryMs: Number(retryMs), state: stateOf(ended, heldRevision, tokens) }
  }

  async renew(grantId: string, owner: string, ttlMs: number): Promise<boolean> {
    const renewed = await this.#run(RENEW, grantId, [owner, String(Math.ceil(ttlMs))])
    return Number(renewed) === 1
  }

  async commit(
    grantId: string,
    owner: string,
    record: GrantRecord,
    retention?: Retention,
  ): Promise<GrantState> {
    const { revision, tokens } = record
    const args = [owner, String(revision), tokens, this.#ttlOf(retention), this.#changes.channel, grantId]
    const [ended, newerRevision, newerTokens, run] = await this.#run(COMMIT, grantId, args)
    this.#runs.hear(textOf(run), grantId)
    const state = stateOf(ended, newerRevision, newerTokens)
    return state.ended || state.record ? state : { record }
  }

  async release(grantId: string, owner: string): Promise<void> {
    await this.#run(RELEASE, grantId, [owner, this.#changes.channel, grantId])
  }

  async read(grantId: string): Promise<GrantState> {
    const [ended, revision, tokens] = await this.#run(READ, grantId, [])
    return stateOf(ended, revision, tokens)
  }

  async end(grantId: string, why: GrantEnd, retention?: Retention): Promise<EndedGrant | undefined> {
    const args = [why, this.#ttlOf(retention), this.#changes.channel, grantId]
    const [revision, tokens, owner] = await this.#run(END, grantId, args)
    const { record } = stateOf('', revision, tokens)
    return record && { ...record, ...(String(owner ?? '') !== '' && { isLeased: true }) }
  }

  onLoss(listener: () => void): () => void {
    return this.#runs.onLoss(listener)
  }

  async close(): Promise<void> {
    await this.#changes.close()
  }

  #ttlOf(retention: Retention | undefined): string {
    return String(Math.ceil(Math.max(this.#options.grantTtlMs, retention?.ttlMs ?? 0)))
  }

  /** Runs a script. `abandoned` gets the reply if it comes after the time is over. */
  async #run(
    script: RedisScript,
    grantId: string,
    args: readonly string[],
    abandoned: (reply: Reply) => void = ignore,
  ): Promise<Reply> {
    const { prefix, commandTimeoutMs } = this.#options
    const startedAt = performance.now()
    const tooLate = () =>
      new TokenError('ERR_GRANT_STORE', `Redis did not answer within ${commandTimeoutMs} ms.`)
    const reply = this.#connection.run(script, `${prefix}${grantId}`, args).then((answer) => {
      // In a process that stood still the reply may be faster than the timer, and what it says long out of date.
      if (performance.now() - startedAt < commandTimeoutMs) return answer as Reply
      abandoned(answer as Reply)
      throw tooLate()
    })
    return within(commandTimeoutMs, reply, tooLate)
  }
}

type Field = string | number | undefined

/** A client may be set up to hand over buffers. */
function textOf(field: Field): string {
  return String(field ?? '')
}

function stateOf(ended: Field, revision: Field, tokens: Field): GrantState {
  const why = textOf(ended)
  if (why !== '') return { ended: why as GrantEnd }
  const number = Number(revision ?? '')
  return number > 0 ? { record: { revision: number, tokens: String(tokens) } } : {}
}

/** Resolves after a time, or with the promise if that is sooner. */
async function timeout(ms: number, promise: Promise<unknown>): Promise<void> {
  let timer: NodeJS.Timeout | undefined
  // One millisecond more, as a timer may fire a little early.
  const time = new Promise<void>((resolve) => (timer = setTimeout(resolve, Math.max(0, ms) + 1)))
  await Promise.race([promise, time])
  clearTimeout(timer)
}

function checkedOptions(options: RedisGrantStoreOptions): Required<RedisGrantStoreOptions> {
  if (typeof options !== 'object' || options === null) {
    throw new ConfigurationError(
      "The options of redisGrantStore() must be an object: redisGrantStore(client, { prefix: 'my-app:tokens:' }).",
    )
  }
  const own = ownOptions(options, Object.keys(DEFAULTS) as (keyof typeof DEFAULTS)[], 'redisGrantStore()', {
    ttl: 'Did you mean `grantTtlMs`?',
    ttlMs: 'Did you mean `grantTtlMs`?',
  })
  const given = Object.fromEntries(Object.entries(own).filter(([, value]) => value !== undefined))
  const checked = { ...DEFAULTS, ...given }
  if (typeof checked.prefix !== 'string' || checked.prefix === '') {
    throw new ConfigurationError("`prefix` must be a text, e.g. prefix: 'my-app:tokens:'.")
  }
  for (const [name, least] of Object.entries(LEAST) as [keyof typeof LEAST, number][]) {
    const most = MOST.get(name) ?? Number.MAX_SAFE_INTEGER
    if (Number.isSafeInteger(checked[name]) && checked[name] >= least && checked[name] <= most) continue
    const range = `from ${least}${MOST.has(name) ? `, at most ${most}` : ''}`
    throw new ConfigurationError(
      `\`${name}\` must be a whole number of milliseconds ${range}, e.g. ${name}: ${DEFAULTS[name]}.`,
    )
  }
  return checked
}

function ignore(): void {}
