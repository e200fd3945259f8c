import { testSeveralProcesses } from '../contract/several-processes.js'
import { describeWithRedisServer } from '../helpers/redis.js'
import { startRedisGrants } from '../helpers/redis-grants.js'

describeWithRedisServer('several processes on one Redis', () => testSeveralProcesses(startRedisGrants, 8))
