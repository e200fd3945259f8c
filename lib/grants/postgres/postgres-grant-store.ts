import { TokenError } from '../../errors/token-error.js'
import { type Checked, checkOptions } from '../../options/option-table.js'
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
import { type PoolMethods, type PostgresPool, poolMethods, type Row } from './client.js'
import { Commands } from './commands.js'
import { isMissing } from './errors.js'
import { subscribeWith } from './listener.js'
import { grantsWithOf, installedQuery, migrationLock, migrationOf, recentEndsOf } from './migration.js'
import { callOf, type Method, type Names, namesOf } from './names.js'
import {
  MIGRATION_USAGE,
  OPTIONS,
  type PostgresGrantStoreOptions,
  type PostgresTableOptions,
  TABLE_OPTIONS,
  USAGE,
} from './options.js'
import { notificationOf } from './sql-parts.js'
import { Sweep } from './sweep.js'

/** A grant store in PostgreSQL. */
export interface PostgresGrantStore extends GrantStore {
  /** Creates the table and its functions, unless they are there. Several processes may call it at the same time. */
  migrate(): Promise<void>
  /** Closes the connection that listens. The app ends the pool that it passed in. */
  close(): Promise<void>
}

/** How long the migration may take: it may have to wait for that of another process. */
const MIGRATION_TIMEOUT_MS = 60_000
/** How long after a broken connection another one listens at the latest. */
const LISTEN_AGAIN_MS = 1_000
/** The most bytes of a notification are 8,000, with its end. */
const MOST_BYTES = 7_999

/**
 * Creates a grant store in PostgreSQL, which all processes of an app share: one refresh of a grant at a time over all processes
 * and hosts.
 *
 * Its table and functions are created by the migration. Each method calls one function, so it is atomic and one round trip. A
 * refresh takes two, and a valid token takes none. A process that waits for a refresh of another process is notified. Rows that
 * have expired are deleted in small steps, between other commands.
 *
 * A PostgreSQL that started within the last 5 seconds may have lost leases. So it grants a lease only to its previous holder. The
 * same applies for 5 seconds after another server has taken over, for grants that it does not know or that were last changed
 * before; and for 5 seconds after this process has first used PostgreSQL, for grants that were last changed before the server took
 * over.
 *
 * @param pool a pool of `pg` 8 for a primary server. Requires PostgreSQL 12 or later.
 * @throws `ConfigurationError` if an option is unknown or out of range
 *
 * @example
 * const grants = postgresGrantStore(new Pool({ connectionString: process.env.DATABASE_URL }))
 * await grants.migrate()
 * app.use(sessionTokens({ …, grants }))
 */
export function postgresGrantStore(
  pool: PostgresPool,
  options: PostgresGrantStoreOptions = {},
): PostgresGrantStore {
  return new PostgresGrants(poolMethods(pool), checkOptions(options, OPTIONS, USAGE))
}

/**
 * Returns the SQL of the migration, for a tool or a person with the right to create tables. `migrate()` runs the same. The SQL
 * may be run again, also after that of an earlier version: processes of that version go on using their own functions.
 */
postgresGrantStore.migration = (options: PostgresTableOptions = {}): string =>
  migrationOf(namesOf(checkOptions(options, TABLE_OPTIONS, MIGRATION_USAGE)))

type Options = Checked<PostgresGrantStoreOptions, typeof OPTIONS>

class PostgresGrants implements PostgresGrantStore {
  readonly #options: Options
  readonly #names: Names
  readonly #commands: Commands
  readonly #changes: GrantChanges
  readonly #sweep: Sweep
  /** The method is absent with `listenClient: false`, and for a pool without a `Client`. */
  readonly subscribe?: NonNullable<GrantStore['subscribe']>
  /** Whether the app has called `migrate()`. If so, this process migrates again when the database has lost the table. */
  #migrates = false
  readonly #runs = new ServerRuns(async (grantId) => (await this.#ask('read', grantId)).run)

  constructor(pool: PoolMethods, options: Options) {
    this.#options = options
    this.#names = namesOf(options)
    this.#commands = new Commands(pool, options.commandTimeoutMs)
    const subscribe = subscribeWith(options.listenClient, pool, this.#names, (text) => this.#notify(text))
    this.#changes = new GrantChanges(this.#names.lock, subscribe, LISTEN_AGAIN_MS)
    if (subscribe) this.subscribe = (...callbacks) => this.#changes.onNews(...callbacks)
    this.#sweep = new Sweep(this.#commands, this.#names)
  }

  async migrate(): Promise<void> {
    this.#migrates = true
    const [found] = await this.#commands.run(installedQuery(this.#names))
    if (found?.installed) return
    const sql = `${migrationLock(this.#names)}${migrationOf(this.#names)}`
    await this.#commands.run(sql, undefined, { timeoutMs: MIGRATION_TIMEOUT_MS })
  }

  lease(grantId: string, request: LeaseRequest): Promise<GrantState & { granted: boolean }> {
    return waitForLease(this.#changes, grantId, request, () => this.#tryLease(grantId, request))
  }

  async #tryLease(grantId: string, { owner, ttlMs, revision, idleMs = 0 }: LeaseRequest): Promise<Attempt> {
    const { graceMs, grantTtlMs } = this.#options
    // The database has forgotten a grant that was idle for so long, so no lease of it was lost.
    const graceOfUnknown = idleMs > grantTtlMs ? 0 : graceMs
    const holdOffOfUnknown = graceOfUnknown === 0 ? 0 : this.#runs.holdOffMs
    const times = [graceMs, graceOfUnknown, this.#runs.holdOffOfEarlierMs, holdOffOfUnknown]
    const onLateReply = (reply: Reply) => {
      if (reply.outcome === 'granted') this.release(grantId, owner).catch(ignore)
    }
    const { outcome, waitMs, state } = await this.#ask(
      'lease',
      grantId,
      [owner, ttlMs, revision, ...times],
      onLateReply,
    )
    return { isGranted: outcome === 'granted', isHeld: outcome === 'held', retryMs: waitMs, state }
  }

  async renew(grantId: string, owner: string, ttlMs: number): Promise<boolean> {
    const [row] = await this.#call('renew', [grantId, owner, ttlMs])
    return row?.renewed === true
  }

  async commit(
    grantId: string,
    owner: string,
    { revision, tokens, labels = [], isStoredAgain }: GrantRecord,
    retention?: Retention,
  ): Promise<GrantState> {
    const { state } = await this.#ask('commit', grantId, [
      owner,
      revision,
      tokens,
      this.#ttlOf(retention),
      this.#runs.hasJustChanged,
      labels.length > 0 ? labels : null,
      isStoredAgain ? this.#options.graceMs : null,
    ])
    this.#sweep.soon()
    return state.ended || state.record ? state : { record: { revision, tokens } }
  }

  async release(grantId: string, owner: string): Promise<void> {
    await this.#call('release', [grantId, owner])
  }

  async read(grantId: string): Promise<GrantState> {
    return (await this.#ask('read', grantId)).state
  }

  async end(grantId: string, why: GrantEnd, retention?: Retention): Promise<EndedGrant | undefined> {
    const [row] = await this.#call('end', [grantId, why, this.#ttlOf(retention)])
    this.#sweep.soon()
    const { record } = stateOf(row)
    return record && { ...record, ...(row?.is_leased === true && { isLeased: true }) }
  }

  onLoss(listener: () => void): () => void {
    return this.#runs.onLoss(listener)
  }

  async publish(text: string): Promise<void> {
    await this.#notify(`${NEWS}${text}`)
  }

  async grantsWith(label: string): Promise<string[]> {
    const rows = await this.#list(grantsWithOf(this.#names), label)
    return rows.map((row) => String(row.grant_id))
  }

  async recentEnds(withinMs: number): Promise<RecentEnd[]> {
    const rows = await this.#list(recentEndsOf(this.#names), withinMs)
    return rows.map((row) => ({ grantId: String(row.grant_id), ended: row.ended as GrantEnd }))
  }

  async #list(statement: string, value: unknown): Promise<readonly Row[]> {
    const rows = await this.#commands.run(statement, [value])
    return rows.filter(({ grant_id }) => grant_id !== null)
  }

  async close(): Promise<void> {
    await this.#changes.close()
  }

  #ttlOf(retention: Retention | undefined): number {
    return Math.max(this.#options.grantTtlMs, retention?.ttlMs ?? 0)
  }

  /** Calls a function that returns the state of a grant and the run of the server. */
  async #ask(
    method: Method,
    grantId: string,
    args: readonly unknown[] = [],
    onLateReply: (reply: Reply) => void = ignore,
  ): Promise<Reply> {
    const late = (rows: readonly Row[]) => onLateReply(replyOf(rows[0]))
    const reply = replyOf((await this.#call(method, [grantId, ...args], late))[0])
    this.#runs.noteRun(reply.run, grantId)
    return reply
  }

  async #call(
    method: Method,
    args: readonly unknown[],
    onLateReply?: (rows: readonly Row[]) => void,
  ): Promise<readonly Row[]> {
    const text = callOf(this.#names, method)
    // Only the first end returns the record, whose tokens are to be revoked.
    const isRepeatable = method !== 'end'
    const run = () => this.#commands.run(text, args, { isRepeatable, ...(onLateReply && { onLateReply }) })
    try {
      return await run()
    } catch (error) {
      if (!this.#migrates || !isMissing(error)) throw error
      await this.migrate()
      return await run()
    }
  }

  async #notify(payload: string): Promise<void> {
    const bytes = Buffer.byteLength(payload)
    if (bytes > MOST_BYTES) {
      const message = `A notification of PostgreSQL has ${MOST_BYTES} bytes at most, and this one would have ${bytes}.`
      throw new TokenError('ERR_GRANT_STORE', message)
    }
    await this.#commands.run(`select ${notificationOf(this.#names, '$1')}`, [payload])
  }
}

interface Reply {
  readonly outcome: string
  readonly waitMs: number
  readonly run: string
  readonly state: GrantState
}

function replyOf(row: Row = {}): Reply {
  const { outcome, wait_ms, server_run } = row
  return {
    outcome: String(outcome),
    waitMs: Number(wait_ms ?? 0),
    run: String(server_run ?? ''),
    state: stateOf(row),
  }
}

function stateOf({ end_reason, of_revision, of_tokens }: Row = {}): GrantState {
  if (typeof end_reason === 'string') return { ended: end_reason as GrantEnd }
  // The driver returns a bigint as text.
  const revision = Number(of_revision ?? 0)
  return revision > 0 ? { record: { revision, tokens: String(of_tokens) } } : {}
}

function ignore(): void {}
