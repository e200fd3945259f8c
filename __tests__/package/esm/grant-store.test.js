import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { memoryGrantStore } from 'session-token-manager'
import { postgresGrantStore } from 'session-token-manager/postgres'
import { redisGrantStore } from 'session-token-manager/redis'
import { grantStoreContract } from 'session-token-manager/testing'

const open = async () => ({ store: memoryGrantStore(), close: async () => {} })

describe('a grant store', () => {
  for (const { title, run } of grantStoreContract(open)) it(title, run)
})

it('redisGrantStore() works over a function that sends commands', async () => {
  const commands = []
  const store = redisGrantStore({ send: async (command) => commands.push(command) && ['', '7', 'sealed'] })
  assert.deepEqual(await store.read('grant'), { record: { revision: 7, tokens: 'sealed' } })
  assert.deepEqual(
    commands.map(([name]) => name),
    ['EVALSHA'],
  )
  await store.close()
})

it('postgresGrantStore() works over a pool, and prints its migration', async () => {
  const rows = [{ of_revision: '7', of_tokens: 'sealed' }]
  const client = { query: async () => ({ rows }), release() {}, on() {}, removeListener() {} }
  const pool = { connect: (done) => done(undefined, client), query() {}, totalCount: 1 }
  const store = postgresGrantStore(pool)
  assert.deepEqual(await store.read('grant'), { record: { revision: 7, tokens: 'sealed' } })
  assert.match(postgresGrantStore.migration({ schema: 'app' }), /create table if not exists "app"/)
  await store.close()
})
