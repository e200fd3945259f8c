import { randomBytes, randomUUID } from 'node:crypto'
import { withTimeout } from '../../concurrency/with-timeout.js'
import { ConfigurationError } from '../../errors/token-error.js'
import type { Option } from '../../options/option-table.js'
import type { Subscribe } from '../grant-changes.js'
import type { ListeningClient, PoolMethods, PostgresClient } from './client.js'
import { type Names, quoted } from './names.js'
import { channelQuery, newChannelOf } from './sql-parts.js'

/** How long a new connection may take until the first notification has arrived. */
const LISTEN_TIMEOUT_MS = 5_000
/** How often the connection is tested: one that a firewall dropped reports nothing. */
const PING_EVERY_MS = 5_000

/** Begins a notification with which a process tests its connection. */
const TEST = 'test '

/** The option `listenClient`. */
export const listenOption: Option<(() => PostgresClient) | false | undefined> = (value, name) => {
  if (value === undefined || value === false || typeof value === 'function') return value as never
  throw new ConfigurationError(
    `\`${name}\` must be a function that makes a client, or false, e.g. ${name}: () => new Client({ connectionString }).`,
  )
}

/**
 * Subscribes to the channel of a table with a connection of its own, one for a process. Returns `undefined` if no process is to listen.
 *
 * @param notify sends a notification over the pool, to test a new connection. Behind a pooler such as PgBouncer in transaction
 * mode, or on another database, the connection would receive nothing.
 */
export function subscribeWith(
  listenClient: (() => PostgresClient) | false | undefined,
  { Client, options }: PoolMethods,
  names: Names,
  notify: (payload: string) => Promise<unknown>,
): Subscribe | undefined {
  if (listenClient === false) return undefined
  const connect = listenClient ?? (Client && (() => new Client(options)))
  if (connect === undefined) return undefined
  return async (_name, listener, _onSubscribedAgain, _onInterrupted, onLost = () => {}) => {
    const connection = new Connection(connect() as ListeningClient, names, onLost)
    try {
      await withTimeout(LISTEN_TIMEOUT_MS, connection.open(listener, notify), noNotification)
    } catch (error) {
      connection.close()
      throw error
    }
    return () => connection.close()
  }
}

class Connection {
  readonly #client: ListeningClient
  readonly #names: Names
  readonly #onLost: () => void
  /** The name of the channel that it listens to. */
  #channel: unknown
  #ping: NodeJS.Timeout | undefined
  #isOpen = false

  constructor(client: ListeningClient, names: Names, onLost: () => void) {
    this.#client = client
    this.#names = names
    this.#onLost = onLost
  }

  async open(
    listener: (message: string) => void,
    notify: (payload: string) => Promise<unknown>,
  ): Promise<void> {
    const client = this.#client
    client.on('error', () => this.#lost())
    client.on('end', () => this.#lost())
    const test = `${TEST}${randomUUID()}`
    const heard = new Promise<void>((resolve) => {
      client.on('notification', ({ payload = '' }: { readonly payload?: string }) => {
        if (payload === test) resolve()
        else if (!payload.startsWith(TEST)) listener(payload)
      })
    })
    await client.connect()
    const { rows } = await client.query(newChannelOf(this.#names), [randomBytes(24).toString('hex')])
    this.#channel = rows[0]?.tokens
    await client.query(`listen ${quoted(String(this.#channel))}`)
    await notify(test)
    await heard
    this.#isOpen = true
    this.#ping = setInterval(() => void this.#test(), PING_EVERY_MS).unref()
  }

  async #test(): Promise<void> {
    try {
      const asking = this.#client.query(channelQuery(this.#names))
      const { rows } = await withTimeout(PING_EVERY_MS, asking, noNotification)
      // The table may be another one, for example after it was emptied.
      if (rows[0]?.tokens !== this.#channel) this.#lost()
    } catch {
      this.#lost()
    }
  }

  #lost(): void {
    const wasOpen = this.#isOpen
    this.close()
    if (wasOpen) this.#onLost()
  }

  close(): void {
    this.#isOpen = false
    clearInterval(this.#ping)
    // The connection may be gone already.
    this.#client.end().catch(() => {})
  }
}

const noNotification = () => new Error(`PostgreSQL delivered no notification within ${LISTEN_TIMEOUT_MS} ms.`)
