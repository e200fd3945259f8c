import { randomUUID } from 'node:crypto'
import { afterAll, beforeAll, expect, it } from '@jest/globals'
import { type PostgresGrantStore, postgresGrantStore } from '../../../lib/postgres.js'
import { describeWithPostgres } from '../../helpers/postgres.js'

const TEST_MS = 60_000
const WORKERS = 12

await describeWithPostgres(
  'postgresGrantStore(pool) under many commands on one grant at once',
  (pool) => {
    const table = `stress_${randomUUID().slice(0, 8)}`
    let store: PostgresGrantStore
    beforeAll(async () => {
      store = postgresGrantStore(pool, { table, graceMs: 0 })
      await store.migrate()
    })
    afterAll(async () => {
      await store.close()
      await pool.query(`drop table ${table} cascade`)
    })

    const workers = <T>(work: (worker: number) => Promise<T>) =>
      Promise.all(Array.from({ length: WORKERS }, (_, worker) => work(worker)))
    const record = (revision: number, tokens = `tokens ${revision}`) => ({ revision, tokens })

    it(
      'one of two first commits at once is kept, and the other learns of it',
      async () => {
        for (let round = 0; round < 60; round++) {
          const grant = randomUUID()
          const states = await workers((worker) =>
            store.commit(grant, `${worker}`, record(1, `by ${worker}`)),
          )
          const kept = new Set(states.map((state) => state.record!.tokens))
          expect([...kept]).toEqual([(await store.read(grant)).record!.tokens])
        }
      },
      TEST_MS,
    )

    it(
      'an end against a commit: nothing is kept, and whoever came later knows of the end',
      async () => {
        for (let round = 0; round < 60; round++) {
          const grant = randomUUID()
          if (round % 2) await store.commit(grant, 'before', record(1))
          const [ended, ...states] = await Promise.all([
            store.end(grant, 'logged_out'),
            ...[2, 3, 4].map((revision) => store.commit(grant, `${revision}`, record(revision))),
          ])
          expect(await store.read(grant)).toEqual({ ended: 'logged_out' })
          const kept = states.filter((state) => state.record).map((state) => state.record!.revision)
          // What was kept before the end, the end has returned.
          expect(ended?.revision ?? 0).toBe(Math.max(0, round % 2, ...kept))
        }
      },
      TEST_MS,
    )

    it(
      'one of two ends at once has the record',
      async () => {
        for (let round = 0; round < 40; round++) {
          const grant = randomUUID()
          await store.commit(grant, 'a', record(7))
          const ended = await workers((worker) => store.end(grant, worker % 2 ? 'logged_out' : 'replaced'))
          expect(ended.filter(Boolean)).toEqual([record(7)])
        }
      },
      TEST_MS,
    )

    it(
      'a lease has one holder at a time, and each refresh goes on from the one before',
      async () => {
        const grant = randomUUID()
        let holders = 0
        let refreshes = 0
        const used = new Set<string>()
        await workers(async (worker) => {
          for (let round = 0; round < 8; round++) {
            const owner = `${worker}/${round}`
            const request = { owner, ttlMs: 20_000, waitMs: 40_000, revision: Number.MAX_SAFE_INTEGER }
            const { granted, record: held } = await store.lease(grant, request)
            expect([granted, ++holders]).toEqual([true, 1])
            const presented = held?.tokens ?? 'the login'
            expect(used.has(presented)).toBe(false)
            used.add(presented)
            const revision = (held?.revision ?? 0) + 1
            holders--
            refreshes++
            expect(await store.commit(grant, owner, record(revision, owner))).toEqual({
              record: record(revision, owner),
            })
          }
        })
        expect((await store.read(grant)).record!.revision).toBe(refreshes)
      },
      TEST_MS,
    )

    it(
      'rows that have expired are deleted beside all that, in steps, and no other',
      async () => {
        const old = Array.from({ length: 450 }, () => randomUUID())
        await Promise.all(old.map((grant) => store.commit(grant, 'a', record(1))))
        await pool.query(
          `update ${table} set expires_at = now() - interval '1 second' where grant_id = any($1)`,
          [old],
        )
        const others = (await pool.query(`select count(*)::int as n from ${table} where expires_at > now()`))
          .rows[0].n
        const { Sweep } = await import('../../../lib/grants/postgres/sweep.js')
        const { Commands } = await import('../../../lib/grants/postgres/commands.js')
        const { namesOf } = await import('../../../lib/grants/postgres/names.js')
        const sweep = new Sweep(new Commands(pool as never, 2_000), namesOf({ schema: 'public', table }))
        expect(await Promise.all([sweep.step(), sweep.step()])).toEqual([200, 200])
        expect(await sweep.step()).toBe(50)
        const { rows } = await pool.query(`select count(*)::int as n from ${table}`)
        expect(rows[0].n).toBe(others)
      },
      TEST_MS,
    )
  },
  { max: WORKERS },
)
