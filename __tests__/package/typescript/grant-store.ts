import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { memoryGrantStore } from 'session-token-manager'
import { type PostgresPool, postgresGrantStore } from 'session-token-manager/postgres'
import { type GrantStore, type RedisCommands, redisGrantStore } from 'session-token-manager/redis'
import { grantStoreContract, type OpenGrantStore } from 'session-token-manager/testing'

async function open(): Promise<OpenGrantStore> {
  const store: GrantStore = memoryGrantStore({ maxGrants: 100 })
  return { store, close: async () => {} }
}

describe('a grant store', () => {
  for (const { title, run } of grantStoreContract(open, { shortMs: 100 })) it(title, run)
})

it('redisGrantStore() works over a function that sends commands', async () => {
  const client: RedisCommands = { send: async () => ['', '7', 'sealed'] }
  const store = redisGrantStore(client, { prefix: 'tokens:' })
  assert.deepEqual(await store.read('grant'), { record: { revision: 7, tokens: 'sealed' } })
  await store.close()
})

it('postgresGrantStore() works over a pool, and prints its migration', async () => {
  const rows = [{ of_revision: '7', of_tokens: 'sealed' }]
  const client = { query: async () => ({ rows }), release() {}, on() {}, removeListener() {} }
  const pool: PostgresPool = {
    connect: (done: (error: unknown, given: object) => void) => done(undefined, client),
    query() {},
    totalCount: 1,
  }
  const store = postgresGrantStore(pool)
  assert.deepEqual(await store.read('grant'), { record: { revision: 7, tokens: 'sealed' } })
  assert.match(postgresGrantStore.migration({ schema: 'app' }), /create table if not exists "app"/)
  await store.close()
})
