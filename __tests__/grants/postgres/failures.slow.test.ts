import { randomUUID } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from '@jest/globals'
import { Client, Pool, type PoolConfig } from 'pg'
import { HOLD_OFF_MS } from '../../../lib/concurrency/time-constants.js'
import { Lease } from '../../../lib/grants/lease.js'
import { type PostgresGrantStore, postgresGrantStore } from '../../../lib/postgres.js'
import { eventually } from '../../helpers/fleet-expectations.js'
import { describeWithPostgresServer } from '../../helpers/postgres.js'
import { type PostgresServer, startPostgres } from '../../helpers/postgres-server.js'

const START_MS = 60_000
const request = { ttlMs: 60_000, waitMs: 20_000, revision: 0 }
const record = (revision: number) => ({ revision, tokens: `tokens ${revision}` })
/** How long a server must have run until it leases what it does not know. */
const YOUNG_MS = 5_000

let server: PostgresServer
let startedAt: number
let admin: Pool
let grant: string
const toClose: (() => unknown)[] = []

interface Process {
  readonly pool: Pool
  readonly store: PostgresGrantStore
}

/** What a process has: a pool and a store over it. */
function process(options = {}, config: PoolConfig = {}): Process {
  const pool = new Pool({ connectionString: server.url, ...config })
  pool.on('error', () => {})
  const store = postgresGrantStore(pool, { graceMs: 0, ...options })
  toClose.push(async () => {
    await store.close()
    await pool.end()
  })
  return { pool, store }
}

const lease = (store: PostgresGrantStore, owner: string, more = {}) =>
  store.lease(grant, { ...request, owner, ...more })

const pending = async (promise: Promise<unknown>) =>
  expect(await Promise.race([promise, delay(20, 'pending')])).toBe('pending')

/** Ends every connection but that of the administrator. */
const terminateAll = (who = 'true') =>
  admin.query(
    `select pg_terminate_backend(pid) from pg_stat_activity
     where pid <> pg_backend_pid() and backend_type = 'client backend' and ${who}`,
  )

const settled = () => delay(Math.max(0, startedAt + YOUNG_MS - Date.now()))

const listeners = async () => {
  const { rows } = await admin.query(
    "select pid from pg_stat_activity where query ilike 'listen%' or query ilike 'select tokens from %'",
  )
  return rows.length
}

beforeEach(() => {
  grant = randomUUID()
})
afterEach(async () => {
  for (const close of toClose.splice(0).reverse()) await close()
})

describeWithPostgresServer('postgresGrantStore(pool) on a PostgreSQL in trouble', () => {
  beforeAll(async () => {
    server = await startPostgres({ max_connections: '60' })
    startedAt = Date.now()
    admin = new Pool({ connectionString: server.url, max: 1 })
    admin.on('error', () => {})
    await process().store.migrate()
    await settled()
  }, START_MS)
  afterAll(async () => {
    await admin?.end()
    await server?.close()
  })

  describe('whose connections are ended', () => {
    it('connects again for the next command', async () => {
      const { store } = process()
      expect(await lease(store, 'a')).toEqual({ granted: true })
      await terminateAll()
      await eventually(async () =>
        expect(await store.commit(grant, 'a', record(1))).toEqual({ record: record(1) }),
      )
    })

    it('sends a command under way again, apart from an end, whose record would be lost', async () => {
      const { store } = process()
      const blocker = await admin.connect()
      const lockWaits = () => blocker.query("select pid from pg_stat_activity where wait_event_type = 'Lock'")
      const killedWhileItWaits = async (command: Promise<unknown>) => {
        command.catch(() => {})
        let pids: number[] = []
        await eventually(async () => {
          pids = (await lockWaits()).rows.map(({ pid }) => pid)
          expect(pids).toHaveLength(1)
        })
        await blocker.query('select pg_terminate_backend($1)', pids)
        await eventually(async () => expect((await lockWaits()).rows).not.toEqual([{ pid: pids[0] }]))
        await blocker.query('rollback')
        return command
      }
      const lockGrant = async () => {
        await blocker.query('begin')
        await blocker.query('select 1 from session_token_grants where grant_id = $1 for update', [grant])
      }
      await store.commit(grant, 'a', record(1))
      await lockGrant()
      expect(await killedWhileItWaits(store.commit(grant, 'a', record(2)))).toEqual({ record: record(2) })
      await lockGrant()
      await expect(killedWhileItWaits(store.end(grant, 'logged_out'))).rejects.toThrow(
        /^PostgreSQL refused a command \(57P01\)\. The server was stopped/,
      )
      expect(await store.end(grant, 'logged_out')).toEqual(record(2))
      blocker.release()
    })

    it('at once after they are open, again and again: no error is left without a listener', async () => {
      const { store } = process({}, { max: 3, maxUses: 1 })
      const until = Date.now() + 2_000
      let ended = 0
      while (Date.now() < until) {
        const commands = Array.from({ length: 6 }, () => store.read(grant).catch(() => undefined))
        await Promise.all([terminateAll(), terminateAll(), ...commands])
        ended += commands.length
      }
      expect(ended).toBeGreaterThan(0)
      await eventually(async () => expect(await store.read(grant)).toEqual({}))
    })

    it('listens again, wakes those who wait meanwhile, and hears what is published', async () => {
      const [one, two] = [process(), process()]
      const heard: string[] = []
      two.store.subscribe!((text) => heard.push(text))
      await lease(one.store, 'a')
      const waiting = lease(two.store, 'b')
      await pending(waiting)
      await eventually(async () => expect(await listeners()).toBe(1))
      await terminateAll("(query ilike 'listen%' or query ilike 'select tokens from %')")
      await one.store.release(grant, 'a')
      expect(await waiting).toEqual({ granted: true })
      await eventually(async () => {
        await one.store.publish!('a text')
        expect(heard).toContain('a text')
      })
    })
  })

  describe('whose pool has no free connection', () => {
    it('rejects in time, says so, and never sends the command', async () => {
      const { pool, store } = process({ commandTimeoutMs: 200 }, { max: 2 })
      const busy = await Promise.all([pool.connect(), pool.connect()])
      await expect(lease(store, 'a')).rejects.toThrow(
        'The pool had no free connection within 200 ms (commandTimeoutMs): all 2 were in use. ' +
          'Give the grant store a pool of its own, or raise max.',
      )
      for (const client of busy) client.release()
      expect(await store.read(grant)).toEqual({})
      const { rows } = await admin.query('select 1 from session_token_grants where grant_id = $1', [grant])
      expect(rows).toEqual([])
    })

    it('says so as well if the pool gives up first', async () => {
      const { pool, store } = process({}, { max: 1, connectionTimeoutMillis: 1_000 })
      const busy = await pool.connect()
      await expect(lease(store, 'a')).rejects.toThrow(
        'The pool had no free connection in time: all 1 were in use.',
      )
      busy.release()
      expect(await lease(store, 'a')).toEqual({ granted: true })
    })

    it('needs one connection for any number of waiters', async () => {
      const { store } = process({}, { max: 1 })
      await lease(store, 'a')
      const waiting = Array.from({ length: 20 }, (_, i) => lease(store, `waiter ${i}`))
      await Promise.all(waiting.map(pending))
      await store.commit(grant, 'a', record(1))
      for (const response of await Promise.all(waiting))
        expect(response).toEqual({ granted: false, record: record(1) })
    })
  })

  describe('that stands still', () => {
    it('rejects in time, gives the connections up, and serves again when it goes on', async () => {
      const { pool, store } = process({ commandTimeoutMs: 300 }, { max: 2 })
      await store.read(grant)
      server.pause()
      try {
        for (let times = 0; times < 4; times++)
          await expect(store.read(grant)).rejects.toThrow(/within 300 ms \(commandTimeoutMs\)/)
        await eventually(async () => expect(pool.idleCount).toBe(0))
      } finally {
        server.resume()
      }
      await eventually(async () => expect(await store.read(grant)).toEqual({}))
    })

    it('releases a lease whose reply came too late', async () => {
      const { store } = process({ commandTimeoutMs: 1_000 }, { max: 1 })
      const other = process().store
      await store.commit(grant, 'a', record(1))
      server.pause()
      const late = lease(store, 'late', { revision: 1 })
      late.catch(() => {})
      await delay(1_050)
      server.resume()
      await expect(late).rejects.toThrow('PostgreSQL did not reply')
      expect(await lease(other, 'b', { revision: 1, waitMs: 5_000 })).toMatchObject({ granted: true })
    })
  })

  describe('with settings of the app', () => {
    const withOptions = (options: string) => process({}, { options })

    it('that limit the time of a statement: the error says so', async () => {
      const { store } = withOptions('-c statement_timeout=100')
      const blocker = await admin.connect()
      await blocker.query('begin')
      await store.commit(grant, 'a', record(1))
      await blocker.query('select 1 from session_token_grants where grant_id = $1 for update', [grant])
      await expect(store.commit(grant, 'a', record(2))).rejects.toThrow(
        'PostgreSQL refused a command (57014). The statement took longer than statement_timeout, or was cancelled.',
      )
      await blocker.query('rollback')
      blocker.release()
      expect(await store.commit(grant, 'a', record(2))).toEqual({ record: record(2) })
    })

    it.each(['repeatable\\ read', 'serializable'])(
      'with %s as the default isolation: conflicts run again',
      async (isolation) => {
        const stores = [1, 2, 3, 4].map(
          () => withOptions(`-c default_transaction_isolation=${isolation}`).store,
        )
        for (let round = 1; round <= 20; round++) {
          const commits = stores.map((store, i) => store.commit(grant, 'a', record(4 * round + i)))
          for (const state of await Promise.all(commits))
            expect(state.record!.revision).toBeGreaterThan(4 * round - 1)
          expect(await stores[0]!.read(grant)).toEqual({ record: record(4 * round + 3) })
        }
      },
    )

    it('that give up the wait for the disk: leases, records and ends wait all the same', async () => {
      const client = new Client(`${server.url}?options=-c%20synchronous_commit%3Doff`)
      await client.connect()
      const settingAfter = async (call: string) => {
        await client.query('begin')
        await client.query(`select * from session_token_grants_${call}`)
        const { rows } = await client.query('show synchronous_commit')
        await client.query('commit')
        return rows[0].synchronous_commit
      }
      expect(await settingAfter(`read_v1('${grant}')`)).toBe('off')
      expect(await settingAfter(`commit_v1('${grant}', 'a', 1, 'tokens', 60000, false, null, null)`)).toBe(
        'local',
      )
      expect(await settingAfter(`lease_v1('${grant}', 'a', 60000, 1, 0, 0, 0, 0)`)).toBe('local')
      expect(await settingAfter(`end_v1('${grant}', 'logged_out', 60000)`)).toBe('local')
      await client.end()
    })
  })

  it('names the rights that are missing, and the migration that was not run', async () => {
    await admin.query('create role poor login')
    const poor = process({}, { connectionString: server.url.replace('postgres@', 'poor@') })
    await expect(poor.store.read(grant)).rejects.toThrow(
      'PostgreSQL refused a command (42501). Check the rights of its role: see the grants in docs/postgresql.md.',
    )
    const { store } = process({ table: 'nowhere' })
    await expect(store.read(grant)).rejects.toThrow(
      'PostgreSQL refused a command (42883). The table or its functions are missing: run the migration, for example with `await store.migrate()`.',
    )
  })

  it('shows no value of a parameter in an error', async () => {
    const { store } = process()
    const error = await store
      .commit(grant, 'a', { revision: 1.5, tokens: 'a secret' })
      .catch((error) => error)
    expect(error.message).toBe('PostgreSQL refused a command (22P02). Check its log.')
    expect(error.cause.message).toBe('(message left out, as it may hold tokens)')
  })

  describe('that is a replica', () => {
    it('is refused, and the connection is given up, so that the next one may reach the primary', async () => {
      const { pool, store } = process({}, { options: '-c default_transaction_read_only=on', max: 1 })
      await expect(store.commit(grant, 'a', record(1))).rejects.toThrow(
        'PostgreSQL refused a command (25006). The pool is connected to a server that takes no writes, such as a replica.',
      )
      expect(pool.totalCount).toBe(0)
    })

    it(
      'is refused for questions as well, since it may not know the latest logins and ends yet',
      async () => {
        const { pool, store } = process({}, { max: 1 })
        await store.commit(grant, 'a', record(1))
        const goBack = await server.backUp()
        await server.becomeReplica()
        for (const ask of [() => store.grantsWith!('label'), () => store.recentEnds!(60_000)]) {
          await expect(ask()).rejects.toThrow('takes no writes, such as a replica')
          expect(pool.totalCount).toBe(0)
        }
        await goBack()
        startedAt = Date.now()
        await settled()
      },
      START_MS,
    )
  })

  describe('that was restarted', () => {
    it(
      'keeps records and leases, is noticed, and leases what was known before after the hold-off',
      async () => {
        const { store } = process()
        await store.commit(grant, 'a', record(1))
        await lease(store, 'a', { revision: 1 })
        let losses = 0
        store.onLoss!(() => losses++)
        await server.restart()
        startedAt = Date.now()
        await eventually(async () => expect(await store.read(grant)).toEqual({ record: record(1) }))
        await eventually(async () => expect(losses).toBe(1))
        expect(await store.renew(grant, 'a', 60_000)).toBe(true)
        await store.release(grant, 'a')
        const noticedAt = Date.now()
        expect(await lease(store, 'b', { revision: 1 })).toMatchObject({ granted: true })
        expect(Date.now() - noticedAt).toBeGreaterThan(1_000)
        expect(Date.now() - noticedAt).toBeLessThan(HOLD_OFF_MS + 2_000)
      },
      START_MS,
    )
  })

  describe('that was replaced', () => {
    it(
      'by an empty one: a process that has migrated does so again, is told of the loss, and its lease is taken again',
      async () => {
        const { store } = process()
        await store.migrate()
        let losses = 0
        store.onLoss!(() => losses++)
        const held = new Lease(store, grant)
        expect(await held.take(0, 0)).toEqual({ granted: true })
        await server.replaceByEmpty()
        await eventually(async () => expect(await store.read(randomUUID())).toEqual({}), START_MS)
        await eventually(async () => expect(losses).toBe(1))
        expect(await held.renew()).toBe(true)
        const other = process()
        const waiting = lease(other.store, 'b')
        await pending(waiting)
        await held.commit(record(1))
        expect(await waiting).toEqual({ granted: false, record: record(1) })
      },
      START_MS,
    )

    it(
      'by an older one: the loss is told, and what was known before waits for the hold-off',
      async () => {
        const { store } = process()
        await eventually(async () =>
          expect(await store.commit(grant, 'a', record(1))).toEqual({ record: record(1) }),
        )
        const goBack = await server.backUp()
        await store.commit(grant, 'a', record(2))
        let losses = 0
        store.onLoss!(() => losses++)
        await goBack()
        await eventually(async () => expect(await store.read(grant)).toEqual({ record: record(1) }), START_MS)
        await eventually(async () => expect(losses).toBe(1))
        const waiting = lease(store, 'b', { revision: 1 })
        await pending(waiting)
        // The process that knows more stores it again.
        await store.commit(grant, 'c', record(2))
        expect(await waiting).toEqual({ granted: false, record: record(2) })
      },
      START_MS,
    )
  })
})
