import { testSlowAndKilledProcesses } from '../contract/several-processes-end.js'
import { describeWithRedisServer } from '../helpers/redis.js'
import { startRedisGrants } from '../helpers/redis-grants.js'

describeWithRedisServer('processes that are slow, killed and restarted, on one Redis', () =>
  testSlowAndKilledProcesses(startRedisGrants),
)
