import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { memoryGrantStore } from 'session-token-manager'
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
