import { randomUUID } from 'node:crypto'
import { afterAll, beforeAll, expect, it } from '@jest/globals'
import { postgresGrantStore } from '../../../lib/postgres.js'
import { describeGrantStore } from '../../contract/grant-store.js'
import { describeLostLease } from '../../contract/lost-lease.js'
import { expectHeardByAll } from '../../contract/publishing.js'
import { describeWithPostgres } from '../../helpers/postgres.js'

const GRACE_MS = 300

await describeWithPostgres(
  'postgresGrantStore(pool)',
  (pool) => {
    const table = `grants_${randomUUID().replaceAll('-', '').slice(0, 12)}`
    beforeAll(() => postgresGrantStore(pool, { table }).migrate())
    afterAll(() => pool.query(`drop table ${table} cascade`))

    describeGrantStore('over pg', async () => {
      const store = postgresGrantStore(pool, { table, graceMs: 0 })
      return { store, close: () => store.close() }
    })

    describeLostLease(() => ({
      store: postgresGrantStore(pool, { table, graceMs: GRACE_MS }),
      graceMs: GRACE_MS,
      lose: (grant) => pool.query(`delete from ${table} where grant_id = $1`, [grant]),
    }))

    it('sends what a process publishes to all processes', async () => {
      const stores = [1, 2].map(() => postgresGrantStore(pool, { table }))
      await expectHeardByAll(stores)
      await Promise.all(stores.map((store) => store.close()))
    })

    it('S80 a role without rights to the table neither hears what processes publish nor sends them anything', async () => {
      const [one, two] = [1, 2].map(() => postgresGrantStore(pool, { table }))
      const heard: string[] = []
      const ours = new Promise<void>((resolve) => {
        one!.subscribe!(
          (text) => void heard.push(text) === undefined && text === 'ours' && resolve(),
          () => void attack().then(() => two!.publish!('ours')),
        )
      })
      const role = `stranger_${randomUUID().slice(0, 8)}`
      const stranger = await pool.connect()
      const overheard: unknown[] = []
      const attack = async () => {
        await stranger.query(`create role ${role}`)
        await stranger.query(`set role ${role}`)
        stranger.on('notification', (notification) => overheard.push(notification))
        // What the role can read: the names of tables, the texts of functions, and what runs.
        const { rows } = await stranger.query(`
          select schemaname || '.' || tablename as name from pg_tables union all select tablename from pg_tables
          union all select m[1] from pg_proc, regexp_matches(prosrc, '([0-9a-f]{40,})', 'g') m
          union all select m[1] from pg_stat_activity, regexp_matches(query, 'listen "([^"]*)"', 'gi') m`)
        expect(rows.length).toBeGreaterThan(50)
        await expect(stranger.query(`select * from ${table}`)).rejects.toThrow('permission denied')
        for (const { name } of rows) {
          await stranger.query(`listen "${name}"`)
          await stranger.query('select pg_notify($1, $2)', [name, 'news forged'])
        }
        overheard.length = 0
      }
      try {
        await ours
        await stranger.query('select 1')
        expect([heard, overheard]).toEqual([['ours'], []])
      } finally {
        await stranger.query('reset role')
        await stranger.query(`drop role ${role}`)
        stranger.release(true)
        await Promise.all([one!.close(), two!.close()])
      }
    })

    it('listens again when the table has another channel, for example since it was emptied', async () => {
      const [one, two] = [1, 2].map(() => postgresGrantStore(pool, { table }))
      const heard: string[] = []
      let opened = () => {}
      const open = () => new Promise<void>((resolve) => (opened = resolve))
      const first = open()
      one!.subscribe!(
        (text) => void heard.push(text),
        () => opened(),
      )
      await first
      const again = open()
      await pool.query(`delete from ${table} where grant_id = 'channel'`)
      await again
      const arrived = new Promise<void>((resolve) => one!.subscribe!(() => resolve()))
      await two!.publish!('after')
      await arrived
      expect(heard).toEqual(['after'])
      await Promise.all([one!.close(), two!.close()])
    }, 15_000)
  },
  { max: 20 },
)
