const assert = require('node:assert/strict')
const { describe, it } = require('node:test')
const { memoryGrantStore } = require('session-token-manager')
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
