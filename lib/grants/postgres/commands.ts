import { withTimeout } from '../../concurrency/with-timeout.js'
import { TokenError } from '../../errors/token-error.js'
import type { PooledClient, PoolMethods, Row } from './client.js'
import { breaksConnection, isConflict, postgresError } from './errors.js'

/** How many times a statement runs at most, if each time a concurrent transaction makes it fail. */
const MOST_ATTEMPTS = 5

type OnLateReply = (rows: readonly Row[]) => void

interface RunOptions {
  /** Called with the rows of a reply that arrives after the time-out: the statement has run, though its caller got an error. */
  readonly onLateReply?: OnLateReply
  readonly timeoutMs?: number
  /** Whether the statement may run twice, if its connection broke and so it is not known whether it ran. Default: `true`. */
  readonly isRepeatable?: boolean
}

/** Runs statements on the clients of a pool, each in one round trip, and bounds how long each takes. */
export class Commands {
  readonly #pool: PoolMethods
  readonly #timeoutMs: number

  constructor(pool: PoolMethods, timeoutMs: number) {
    this.#pool = pool
    this.#timeoutMs = timeoutMs
  }

  /**
   * Runs a statement. Rejects with `ERR_GRANT_STORE`.
   *
   * If no connection is free in time, the statement is never sent. A connection without a reply after twice the time is closed,
   * so that a server that hangs does not use up the pool.
   */
  async run(
    text: string,
    values: readonly unknown[] = [],
    { onLateReply = ignore, timeoutMs = this.#timeoutMs, isRepeatable = true }: RunOptions = {},
  ): Promise<readonly Row[]> {
    const command = new Command(text, values, { onLateReply, timeoutMs, isRepeatable })
    return withTimeout(timeoutMs, command.runOn(this.#pool), () => command.tooLate(this.#pool))
  }
}

class Command {
  readonly #text: string
  readonly #values: readonly unknown[]
  readonly #onLateReply: OnLateReply
  readonly #timeoutMs: number
  readonly #startedAt = performance.now()
  #isSent = false

  readonly #isRepeatable: boolean

  constructor(
    text: string,
    values: readonly unknown[],
    { onLateReply, timeoutMs, isRepeatable }: Required<RunOptions>,
  ) {
    this.#isRepeatable = isRepeatable
    this.#text = text
    this.#values = values
    this.#onLateReply = onLateReply
    this.#timeoutMs = timeoutMs
  }

  /** Whether the time is over. If the process was suspended or blocked, a late reply may arrive before the timer fires. */
  get #isLate(): boolean {
    return performance.now() - this.#startedAt >= this.#timeoutMs
  }

  /** Runs the statement, and once more if its connection has broken. */
  async runOn(pool: PoolMethods): Promise<readonly Row[]> {
    try {
      return await this.#runOnce(pool)
    } catch (error) {
      const { cause } = error as TokenError
      if ((this.#isSent && !this.#isRepeatable) || !cause || !breaksConnection(cause) || this.#isLate)
        throw error
      return this.#runOnce(pool)
    }
  }

  async #runOnce(pool: PoolMethods): Promise<readonly Row[]> {
    const client = await connected(pool).catch((error) => {
      throw this.#failed(error, pool)
    })
    if (this.#isLate) {
      giveBack(client, false)
      throw this.tooLate(pool)
    }
    this.#isSent = true
    const rows = await this.#send(client)
    if (!this.#isLate) return rows
    this.#onLateReply(rows)
    throw this.tooLate(pool)
  }

  async #send(client: PooledClient): Promise<readonly Row[]> {
    let isReleased = false
    const release = (destroy: boolean) => {
      if (isReleased) return
      isReleased = true
      clearTimeout(timer)
      giveBack(client, destroy)
    }
    const timer = setTimeout(() => release(true), 2 * this.#timeoutMs)
    try {
      const rows = await this.#attempt(client)
      release(false)
      return rows
    } catch (error) {
      release(breaksConnection(error))
      throw postgresError(error)
    }
  }

  /** Runs the statement again if it met another transaction, which happens if the default isolation is not READ COMMITTED. */
  async #attempt(client: PooledClient): Promise<readonly Row[]> {
    for (let attempt = 1; ; attempt++) {
      try {
        return (await client.query(this.#text, this.#values)).rows
      } catch (error) {
        if (!isConflict(error) || attempt === MOST_ATTEMPTS || this.#isLate) throw error
      }
    }
  }

  #failed(error: unknown, pool: PoolMethods): TokenError {
    const { message } = (error ?? {}) as { message?: unknown }
    // The message of pg if its own connectionTimeoutMillis is over.
    const isFull = message === 'timeout exceeded when trying to connect'
    return isFull ? noConnection(pool, 'in time') : postgresError(error)
  }

  tooLate(pool: PoolMethods): TokenError {
    const within = `within ${this.#timeoutMs} ms (commandTimeoutMs)`
    if (!this.#isSent && (pool.waitingCount ?? 0) > 0) return noConnection(pool, within)
    return new TokenError('ERR_GRANT_STORE', `PostgreSQL did not reply ${within}. Check its connection.`)
  }
}

/**
 * Takes a client out of the pool. Its errors are handled from the first moment on: a connection that is ended as soon as it is open
 * reports that before a promise could be awaited, and an error without a listener ends the process.
 */
function connected(pool: PoolMethods): Promise<PooledClient> {
  return new Promise((resolve, reject) => {
    pool.connect((error, client) => {
      if (!client) return reject(error)
      // A connection that breaks also rejects its query.
      client.on('error', ignore)
      resolve(client)
    })
  })
}

function giveBack(client: PooledClient, destroy: boolean): void {
  client.release(destroy)
  client.removeListener('error', ignore)
}

function noConnection({ totalCount }: PoolMethods, within: string): TokenError {
  return new TokenError(
    'ERR_GRANT_STORE',
    `The pool had no free connection ${within}: all ${totalCount} were in use. Give the grant store a pool of its own, or raise max.`,
  )
}

function ignore(): void {}
