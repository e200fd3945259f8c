import { createHash, randomUUID } from 'node:crypto'
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals'
import { Client, Pool } from 'pg'
import { memoryGrantStore } from '../../../lib/index.js'
import { type PostgresGrantStoreOptions, postgresGrantStore } from '../../../lib/postgres.js'
import { describeWithPostgres } from '../../helpers/postgres.js'

const record = { revision: 1, tokens: 'tokens' }

describe('postgresGrantStore(pool, options)', () => {
  const pool = new Pool()
  it.each<[string, object, string]>([
    [
      'a table with its schema',
      { table: 'my_app.grants' },
      "`table` must be one name of at most 48 bytes, without a dot or a dollar sign, e.g. { schema: 'my_app', table: 'session_token_grants' }.",
    ],
    ['a dollar sign', { schema: '$function$' }, '`schema` must be one name of at most 63 bytes'],
    ['a name without letters', { table: '' }, '`table` must be one name'],
    ['a name with a NUL', { table: 'a\0b' }, '`table` must be one name'],
    ['a long name', { table: 'ä'.repeat(25) }, '`table` must be one name'],
    ['the option of another library', { tableName: 'grants' }, 'Did you mean `table`?'],
    [
      'a client that listens already',
      { listenClient: new Client() },
      '`listenClient` must be a function that makes a client, or false',
    ],
    ['a time of 0', { commandTimeoutMs: 0 }, '`commandTimeoutMs` must be'],
    ['an unknown option', { prefix: 'a' }, 'prefix'],
  ])('refuses %s', (_, options, message) => {
    expect(() => postgresGrantStore(pool, options)).toThrow(message)
  })

  it.each<[string, unknown, string]>([
    ['a client', new Client(), 'postgresGrantStore() was given a client'],
    ['nothing', undefined, 'postgresGrantStore() takes a pool of pg'],
    ['another store', memoryGrantStore(), 'postgresGrantStore() takes a pool of pg'],
  ])('refuses %s in place of a pool', (_, given, message) => {
    expect(() => postgresGrantStore(given as Pool)).toThrow(message)
  })
})

describe('postgresGrantStore.migration(options)', () => {
  it('has the version of its functions: raise VERSION in names.ts with each change of this hash after a release', () => {
    const sql = postgresGrantStore.migration()
    expect(createHash('sha256').update(sql).digest('hex').slice(0, 12)).toMatchInlineSnapshot(
      `"c4ceca2a0e31"`,
    )
  })

  it('refuses what the store refuses', () => {
    expect(() => postgresGrantStore.migration({ table: 'a.b' })).toThrow('`table` must be one name')
  })
})

await describeWithPostgres(
  'the migration',
  (pool) => {
    const schemas: string[] = []
    async function newSchema(name = `stm ${randomUUID()}`): Promise<string> {
      await pool.query(`drop schema if exists "${name.replaceAll('"', '""')}" cascade`)
      await pool.query(`create schema "${name.replaceAll('"', '""')}"`)
      schemas.push(name)
      return name
    }
    afterAll(async () => {
      for (const name of schemas) await pool.query(`drop schema "${name.replaceAll('"', '""')}" cascade`)
    })

    it('of eight processes at once is made once, and may be repeated', async () => {
      const options = { schema: await newSchema() }
      const stores = Array.from({ length: 8 }, () => postgresGrantStore(pool, options))
      await Promise.all(stores.map((store) => store.migrate()))
      await stores[0]!.commit('grant', 'a', record)
      await stores[0]!.migrate()
      await pool.query(postgresGrantStore.migration(options))
      expect(await stores[1]!.read('grant')).toEqual({ record })
    })

    it.each([
      ['upper case and spaces', 'My App', 'The Grants'],
      ['quotes of both kinds', `a"b'c`, `d"e'f`],
      ['a backslash, and SQL', 'a\\', `x"; drop table sessions; --`],
      ['letters of other scripts', 'схема', '授权'],
      ['the longest names', 's'.repeat(63), 't'.repeat(48)],
      ['keywords', 'select', 'table'],
    ])('takes names with %s', async (_, schema, table) => {
      const options: PostgresGrantStoreOptions = { schema: await newSchema(schema), table, graceMs: 0 }
      const [one, two] = [postgresGrantStore(pool, options), postgresGrantStore(pool, options)]
      await one.migrate()
      const request = { ttlMs: 20_000, waitMs: 20_000, revision: 0 }
      expect(await one.lease('grant', { ...request, owner: 'a' })).toEqual({ granted: true })
      const waiting = two.lease('grant', { ...request, owner: 'b' })
      await one.commit('grant', 'a', { ...record, labels: ['label'] })
      expect(await waiting).toEqual({ granted: false, record })
      expect(await one.grantsWith!('label')).toEqual(['grant'])
      expect(await one.end('grant', 'logged_out')).toEqual(record)
      expect(await two.recentEnds!(60_000)).toEqual([{ grantId: 'grant', ended: 'logged_out' }])
      await Promise.all([one.close(), two.close()])
    })

    it('is left alone by a role without the right to create, which uses the store with the rights of the documentation', async () => {
      const schema = await newSchema()
      const role = `stm_${randomUUID().slice(0, 8)}`
      await postgresGrantStore(pool, { schema }).migrate()
      const client = await pool.connect()
      try {
        await client.query(`create role ${role}`)
        await client.query(`grant usage on schema "${schema}" to ${role}`)
        await client.query(
          `grant select, insert, update, delete on "${schema}".session_token_grants to ${role}`,
        )
        await client.query(`set role ${role}`)
        const poor = {
          connect: (done: (error: unknown, given: object) => void) =>
            done(undefined, {
              query: client.query.bind(client),
              on() {},
              removeListener() {},
              release() {},
            }),
          query() {},
          totalCount: 1,
        }
        const store = postgresGrantStore(poor, { schema, listenClient: false })
        await store.migrate()
        expect(await store.commit('grant', 'a', record)).toEqual({ record })
        expect(await store.end('grant', 'replaced')).toEqual(record)
      } finally {
        await client.query('reset role')
        await client.query(`drop owned by ${role}`)
        await client.query(`drop role ${role}`)
        client.release()
      }
    })

    it('runs no function and no operator that another role has put into the schema', async () => {
      const schema = await newSchema()
      const of = (name: string) => `"${schema}"."session_token_grants_${name}_v1"`
      const role = `stm_${randomUUID().slice(0, 8)}`
      const settings = { ...pool.options, max: 2, options: `-c search_path="${schema.replace(' ', '\\ ')}"` }
      const ours = new Pool(settings)
      const store = postgresGrantStore(ours, { schema, graceMs: 0 })
      const stranger = await pool.connect()
      try {
        await stranger.query(`create role ${role}`)
        await stranger.query(`grant usage, create on schema "${schema}" to ${role}`)
        const planted = async (signatures: readonly string[], more = '') => {
          await stranger.query(`set role ${role}`)
          for (const signature of signatures) {
            await stranger.query(`create function ${signature} language plpgsql as
              $$ begin raise exception 'a function of another role ran'; end $$`)
          }
          await stranger.query(more)
          await stranger.query('reset role')
        }
        await planted([`"${schema}".hashtextextended(text, integer) returns bigint`])
        await store.migrate()
        const texts = (count: number) => `(${Array(count).fill('text').join(', ')})`
        const counts = { lease: 8, renew: 3, commit: 7, release: 2, end: 3, read: 1 }
        const overloads = Object.entries(counts).flatMap(([name, count]) => [
          ...(count > 2 ? [`${of(name)}${texts(count)} returns setof record`] : []),
          `${of(name)}${texts(count).replaceAll('text', 'varchar')} returns setof record`,
        ])
        await planted(
          [...overloads, `"${schema}".has(text[], text[]) returns boolean`],
          `create operator "${schema}".@> (leftarg = text[], rightarg = text[], procedure = "${schema}".has)`,
        )
        await store.migrate()
        const request = { owner: 'a', ttlMs: 20_000, waitMs: 0, revision: 0 }
        expect(await store.lease('grant', request)).toEqual({ granted: true })
        expect(await store.renew('grant', 'a', 20_000)).toBe(true)
        expect(await store.commit('grant', 'a', { ...record, labels: ['label'] })).toEqual({ record })
        await store.release('grant', 'a')
        expect(await store.read('grant')).toEqual({ record })
        expect(await store.grantsWith!('label')).toEqual(['grant'])
        expect(await store.end('grant', 'logged_out')).toEqual(record)
        expect(await store.recentEnds!(60_000)).toEqual([{ grantId: 'grant', ended: 'logged_out' }])
      } finally {
        await store.close()
        await ours.end()
        await stranger.query('reset role')
        await stranger.query(`drop owned by ${role}`)
        await stranger.query(`drop role ${role}`)
        stranger.release()
      }
    })

    describe('done', () => {
      let options: PostgresGrantStoreOptions
      beforeAll(async () => {
        options = { schema: await newSchema() }
        await postgresGrantStore(pool, options).migrate()
      })

      it('a refresh is two round trips, and another process that waits for it adds two', async () => {
        const sent: string[] = []
        const counting = (name: string) => ({
          query() {},
          totalCount: 1,
          connect(done: (error: unknown, given: object) => void) {
            pool.connect((error, client) =>
              done(error, {
                query: (...args: [string]) => sent.push(name) && client!.query(...args),
                on: client!.on.bind(client),
                removeListener: client!.removeListener.bind(client),
                release: client!.release,
              }),
            )
          },
        })
        const listenClient = () => new Client(pool.options)
        const [one, two] = ['one', 'two'].map((name) =>
          postgresGrantStore(counting(name), { ...options, listenClient }),
        )
        const open = new Promise<void>((resolve) => void two!.subscribe!(() => {}, resolve))
        await open
        sent.length = 0
        const request = { ttlMs: 20_000, waitMs: 20_000, revision: 0 }
        await one!.commit('grant', 'login', record)
        expect(sent.splice(0)).toEqual(['one'])
        await one!.lease('grant', { ...request, owner: 'a', revision: 1 })
        const waiting = two!.lease('grant', { ...request, owner: 'b', revision: 1 })
        // The second process has been told to wait.
        for (let isWaiting = false; !isWaiting; ) {
          const { rows } = await pool.query(
            `select waiting from "${options.schema}".session_token_grants where grant_id = 'grant'`,
          )
          isWaiting = rows[0].waiting
        }
        await one!.commit('grant', 'a', { revision: 2, tokens: 'newer' })
        expect(await waiting).toMatchObject({ granted: false, record: { revision: 2 } })
        expect(sent.filter((name) => name === 'one')).toEqual(['one', 'one'])
        expect(sent.filter((name) => name === 'two')).toEqual(['two', 'two'])
        await Promise.all([one!.close(), two!.close()])
      })

      it('a text that no notification can carry is refused, and says so', async () => {
        const store = postgresGrantStore(pool, options)
        await expect(store.publish!('a'.repeat(8_000))).rejects.toThrow(
          'A notification of PostgreSQL has 7999 bytes at most, and this one would have 8005.',
        )
        await store.publish!('a'.repeat(7_990))
      })
    })
  },
  { max: 10 },
)
