const assert = require('node:assert/strict')
const { describe, it } = require('node:test')
const { memoryGrantStore } = require('session-token-manager')
const { postgresGrantStore } = require('session-token-manager/postgres')
const { redisGrantStore } = require('session-token-manager/redis')
const { grantStoreContract } = require('session-token-manager/testing')

const open = async () => ({ store: memoryGrantStore(), close: async () => {} })

describe('a grant store', () => {
  for (const { title, run } of grantStoreContract(open)) it(title, run)
})

it('redisGrantStore() works over a function that sends commands', async () => {
  const store = redisGrantStore({ send: async () => ['', '7', 'sealed'] })
  assert.deepEqual(await store.read('grant'), { record: { revision: 7, tokens: 'sealed' } })
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
