import { GRACE_MS } from '../../concurrency/time-constants.js'
import { withTimeout } from '../../concurrency/with-timeout.js'
import { TokenError } from '../../errors/token-error.js'
import { count, DAY_MS, text } from '../../options/option-kinds.js'
import { checkOptions, type OptionTable } from '../../options/option-table.js'
import { GrantChanges, NEWS } from '../grant-changes.js'
import type {
  EndedGrant,
  GrantEnd,
  GrantRecord,
  GrantState,
  GrantStore,
  LeaseRequest,
  RecentEnd,
  Retention,
} from '../grant-store.js'
import { type Attempt, waitForLease } from '../lease-wait.js'
import { ServerRuns } from '../server-runs.js'
import { type RedisClient, type RedisConnection, redisConnection } from './client.js'
import { GrantIndex } from './grant-index.js'
import { COMMIT, END, LEASE, PUBLISH, READ, RELEASE, RENEW, type RedisScript, RUN } from './scripts.js'

export interface RedisGrantStoreOptions {
  /** The prefix of the keys and of the channel. Default: `'session-tokens:'`. */
  prefix?: string
  /**
   * The least time that a grant is remembered after its last refresh, and an end after the grant has ended, in milliseconds. If
   * the session is known to live longer, both are remembered as long as the session. It must be longer than any request takes.
   * Default: 24 hours.
   */
  grantTtlMs?: number
  /** How long Redis may take to reply to one command, in milliseconds, at most 24 hours. Default: 2,000. */
  commandTimeoutMs?: number
  /**
   * How long only the holder may renew a lease after the lease ran out or Redis lost it, in milliseconds. No other process gets
   * the lease in this time. Leases are renewed every 800 ms. At most 24 hours. Default: 1,800.
   */
  graceMs?: number
}

/** A grant store in Redis. */
export interface RedisGrantStore extends GrantStore {
  /** Closes the subscription connection. The app closes the client that it passed in. */
  close(): Promise<void>
}

const OPTIONS = {
  prefix: text('session-tokens:'),
  grantTtlMs: count(DAY_MS, { least: 1, of: 'milliseconds' }),
  commandTimeoutMs: count(2_000, { least: 1, most: DAY_MS, of: 'milliseconds' }),
  graceMs: count(GRACE_MS, { most: DAY_MS, of: 'milliseconds' }),
} satisfies OptionTable<RedisGrantStoreOptions>

const USAGE = {
  of: 'redisGrantStore()',
  takes:
    "The options of redisGrantStore() must be an object: redisGrantStore(client, { prefix: 'my-app:tokens:' })",
  cures: { ttl: 'Did you mean `grantTtlMs`?', ttlMs: 'Did you mean `grantTtlMs`?' },
}

/**
 * Creates a grant store in Redis, which all processes of an app share: one refresh of a grant at a time over all processes and
 * hosts.
 *
 * The store sends scripts (`EVALSHA`) that Redis runs as one step, each on the one key of a grant. At its first refresh a process
 * opens a second connection for a subscription. A refresh takes two commands, and a valid token takes none. A process that waits
 * for a refresh of another process sends two commands as well, and a third one if the subscription is not open yet.
 *
 * A Redis that started within the last 5 seconds may have lost leases. So it grants a lease only to its previous holder. The same
 * applies for 5 seconds after another server has taken over, for grants that it does not know or that were last changed before;
 * and for 5 seconds after this process has first used Redis, for grants that were last changed before the server took over.
 *
 * @param client a client of ioredis or node-redis, for a single server, Sentinel or Cluster; or an object with a function that
 * sends a command. Requires Redis 6.2 or later, or Valkey.
 * @throws `ConfigurationError` if an option is unknown or out of range
 *
 * @example
 * const client = new Redis(process.env.REDIS_URL!)
 * app.use(sessionTokens({ …, grants: redisGrantStore(client) }))
 */
export function redisGrantStore(client: RedisClient, options: RedisGrantStoreOptions = {}): RedisGrantStore {
  return new RedisGrants(redisConnection(client), checkOptions(options, OPTIONS, USAGE))
}

type Reply = readonly (string | number)[]

class RedisGrants implements RedisGrantStore {
  readonly #connection: RedisConnection
  readonly #options: Required<RedisGrantStoreOptions>
  readonly #changes: GrantChanges
  readonly #index = new GrantIndex((script, key, args) => this.#run(script, key, args))
  /** The method is absent if the client cannot subscribe, such as a pool of node-redis. */
  readonly subscribe?: NonNullable<GrantStore['subscribe']>
  readonly #runs = new ServerRuns(async (grantId) => textOf((await this.#run(RUN, grantId, []))[0]))

  constructor(connection: RedisConnection, options: Required<RedisGrantStoreOptions>) {
    this.#connection = connection
    this.#options = options
    this.#changes = new GrantChanges(`${options.prefix}changes`, connection.subscribe)
    if (connection.subscribe) this.subscribe = (...callbacks) => this.#changes.onNews(...callbacks)
  }

  lease(grantId: string, request: LeaseRequest): Promise<GrantState & { granted: boolean }> {
    return waitForLease(this.#changes, grantId, request, () => this.#tryLease(grantId, request))
  }

  async #tryLease(grantId: string, { owner, ttlMs, revision, idleMs = 0 }: LeaseRequest): Promise<Attempt> {
    const { graceMs, grantTtlMs } = this.#options
    // Redis has forgotten a grant that was idle for so long, so no lease of it was lost.
    const graceOfUnknown = idleMs > grantTtlMs ? 0 : graceMs
    const holdOffOfEarlier = Math.ceil(this.#runs.holdOffOfEarlierMs)
    const holdOffOfUnknown = graceOfUnknown === 0 ? 0 : Math.ceil(this.#runs.holdOffMs)
    const times = [graceMs, graceOfUnknown, holdOffOfEarlier, holdOffOfUnknown]
    const args = [owner, Math.ceil(ttlMs), revision, ...times].map(String)
    const onLateReply = (reply: Reply) => {
      this.#runs.noteRun(textOf(reply[5]), grantId)
      if (String(reply[0]) === 'granted') this.release(grantId, owner).catch(ignore)
    }
    const reply = await this.#run(LEASE, grantId, args, onLateReply)
    const [outcome, retryMs, heldRevision, tokens, ended, run] = reply
    const result = textOf(outcome)
    this.#runs.noteRun(textOf(run), grantId)
    const state = stateOf(ended, heldRevision, tokens)
    return { isGranted: result === 'granted', isHeld: result === 'held', retryMs: Number(retryMs), state }
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
    const { revision, tokens, labels = [], isStoredAgain } = record
    const ttl = this.#ttlOf(retention)
    const hasMoved = this.#runs.hasJustChanged ? '1' : '0'
    const args = [
      owner,
      String(revision),
      tokens,
      ttl,
      this.#changes.channel,
      grantId,
      hasMoved,
      labels.join(' '),
      isStoredAgain ? String(this.#options.graceMs) : '',
    ]
    const [ended, newerRevision, newerTokens, run, isToBeLabelled] = await this.#run(COMMIT, grantId, args)
    this.#runs.noteRun(textOf(run), grantId)
    // After a failure the next commit tries again.
    if (Number(isToBeLabelled) === 1) await this.#index.label(grantId, labels, 2 * Number(ttl)).catch(ignore)
    const state = stateOf(ended, newerRevision, newerTokens)
    return state.ended || state.record ? state : { record: { revision, tokens } }
  }

  async release(grantId: string, owner: string): Promise<void> {
    await this.#run(RELEASE, grantId, [owner, this.#changes.channel, grantId])
  }

  async read(grantId: string): Promise<GrantState> {
    const [ended, revision, tokens, run] = await this.#run(READ, grantId, [])
    this.#runs.noteRun(textOf(run), grantId)
    return stateOf(ended, revision, tokens)
  }

  async end(grantId: string, why: GrantEnd, retention?: Retention): Promise<EndedGrant | undefined> {
    const args = [why, this.#ttlOf(retention), this.#changes.channel, grantId]
    const ending = this.#run(END, grantId, args)
    // Both are sent together, so that no crash comes between. Without the note, other processes learn of the end later.
    const noting = this.#index.noteEnd(grantId, why).catch(ignore)
    const [revision, tokens, owner, labels] = await ending
    await noting
    await this.#index.unlabel(grantId, textOf(labels).split(' ').filter(Boolean)).catch(ignore)
    const { record } = stateOf('', revision, tokens)
    return record && { ...record, ...(String(owner ?? '') !== '' && { isLeased: true }) }
  }

  onLoss(listener: () => void): () => void {
    return this.#runs.onLoss(listener)
  }

  async publish(text: string): Promise<void> {
    await this.#run(PUBLISH, NEWS, [this.#changes.channel, `${NEWS}${text}`])
  }

  grantsWith(label: string): Promise<string[]> {
    return this.#index.grantsWith(label)
  }

  recentEnds(withinMs: number): Promise<RecentEnd[]> {
    return this.#index.recentEnds(withinMs)
  }

  async close(): Promise<void> {
    await this.#changes.close()
  }

  #ttlOf(retention: Retention | undefined): string {
    return String(Math.ceil(Math.max(this.#options.grantTtlMs, retention?.ttlMs ?? 0)))
  }

  /** Runs a script on the key of a grant, or another key. Calls `onLateReply` with a reply that arrives after the time-out. */
  async #run(
    script: RedisScript,
    key: string,
    args: readonly string[],
    onLateReply: (reply: Reply) => void = ignore,
  ): Promise<Reply> {
    const { prefix, commandTimeoutMs } = this.#options
    const startedAt = performance.now()
    const tooLate = () =>
      new TokenError(
        'ERR_GRANT_STORE',
        `Redis did not reply within ${commandTimeoutMs} ms (commandTimeoutMs). Check its connection.`,
      )
    const reply = this.#connection.run(script, `${prefix}${key}`, args).then((received) => {
      // If the process was suspended or blocked, the reply may arrive before the timer fires, although it is out of date.
      if (performance.now() - startedAt < commandTimeoutMs) return received as Reply
      onLateReply(received as Reply)
      throw tooLate()
    })
    return withTimeout(commandTimeoutMs, reply, tooLate)
  }
}

type Field = string | number | undefined

/** Returns a field of a reply as a string; '' for a missing field. Some clients are configured to return buffers. */
function textOf(field: Field): string {
  return String(field ?? '')
}

function stateOf(ended: Field, revision: Field, tokens: Field): GrantState {
  const why = textOf(ended)
  if (why !== '') return { ended: why as GrantEnd }
  const number = Number(revision ?? '')
  return number > 0 ? { record: { revision: number, tokens: String(tokens) } } : {}
}

function ignore(): void {}
