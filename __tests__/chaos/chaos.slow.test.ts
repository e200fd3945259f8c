import { expect, it } from '@jest/globals'
import { postgresPrograms } from '../helpers/postgres-server.js'
import { describeWithRedisServer } from '../helpers/redis.js'
import { reportOf, violationsOf } from './report.js'
import { type ChaosOptions, runChaos } from './run.js'

const SHORT = { sessions: 16, parallel: 16, processes: 3, steps: [2, 3], pace: 2 } as const

describeWithRedisServer('npm run chaos', () => {
  // At the same time, as they mostly wait.
  it.concurrent.each([
    { seed: 'one', oneRedis: false },
    { seed: 'two', oneRedis: true },
    { seed: 'four', oneRedis: false, dpop: true, exchange: true, sessions: 10, processes: 2 },
    ...(postgresPrograms() ? [{ seed: 'three', oneRedis: false, grants: 'postgres' as const }] : []),
  ])(
    '$seed: no user is logged out without a reason',
    async (variant) => {
      const options: ChaosOptions = { ...SHORT, ...variant }
      const result = await runChaos(options)
      if (result.log.violations.length > 0) {
        throw new Error(`${reportOf(options, result)}\n\n${violationsOf(result)}`)
      }
      // With fewer refreshes the run would prove nothing.
      expect(result.refreshes).toBeGreaterThan(10)
    },
    120_000,
  )
})
