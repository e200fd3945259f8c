import { randomUUID } from 'node:crypto'
import { afterAll, beforeAll, expect, it } from '@jest/globals'
import { postgresGrantStore } from '../../../lib/postgres.js'
import { describeGrantStore } from '../../contract/grant-store.js'
import { describeWithPostgres } from '../../helpers/postgres.js'

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

    it('sends what a process publishes to all processes', async () => {
      const stores = [1, 2].map(() => postgresGrantStore(pool, { table }))
      const heard = stores.map((store) => new Promise((resolve) => store.subscribe!(resolve)))
      // A subscription takes a moment.
      const publishing = setInterval(() => void stores[0]!.publish!('a text'), 10)
      expect(await Promise.all(heard)).toEqual(['a text', 'a text'])
      clearInterval(publishing)
      await Promise.all(stores.map((store) => store.close()))
    })
  },
  { max: 20 },
)
