import { ConfigurationError } from '../../errors/token-error.js'

type AnyFunction = (...args: never[]) => unknown

/** A pool of `pg` 8: `new Pool({ connectionString })`, or one with the same methods. */
export interface PostgresPool {
  readonly connect: AnyFunction
  readonly query: AnyFunction
  readonly totalCount: number
}

/** A client of `pg` 8 that is not connected yet: `new Client({ connectionString })`. */
export interface PostgresClient {
  readonly connect: AnyFunction
  readonly query: AnyFunction
  readonly end: AnyFunction
  readonly on: AnyFunction
}

export type Row = Readonly<Record<string, unknown>>

/** The methods of a client that the grant store uses. */
export interface ClientMethods {
  query(text: string, values?: readonly unknown[]): Promise<{ readonly rows: readonly Row[] }>
  on(event: string, listener: (...args: never[]) => void): unknown
  removeListener(event: string, listener: (...args: never[]) => void): unknown
}

export interface PooledClient extends ClientMethods {
  /** Returns the client to the pool, or closes it. */
  release(destroy?: boolean): void
}

/** The methods of a pool that the grant store uses. */
export interface PoolMethods {
  connect(callback: (error: unknown, client: PooledClient | undefined) => void): unknown
  readonly totalCount: number
  readonly waitingCount?: number
  readonly options?: object
  readonly Client?: new (options: object | undefined) => ListeningClient
}

/** A client that listens for notifications. */
export interface ListeningClient extends ClientMethods {
  connect(): Promise<unknown>
  end(): Promise<unknown>
}

/** Checks the pool of the app. */
export function poolMethods(pool: PostgresPool): PoolMethods {
  const { connect, query, totalCount } = (pool ?? {}) as Partial<PostgresPool>
  if (typeof connect === 'function' && typeof query === 'function') {
    if (typeof totalCount === 'number') return pool as unknown as PoolMethods
    throw new ConfigurationError(
      'postgresGrantStore() was given a client, which runs one statement at a time and does not connect again. Give it a pool: ' +
        'postgresGrantStore(new Pool({ connectionString })).',
    )
  }
  throw new ConfigurationError(
    'postgresGrantStore() takes a pool of pg: postgresGrantStore(new Pool({ connectionString })).',
  )
}
