import { expect, it } from '@jest/globals'
import { GrantRegistry } from '../../lib/grants/grant-registry.js'
import { serverHealth } from '../../lib/manager/server-health.js'
import { testClock } from '../helpers/clock.js'

it('the health of a server is shared, and that of servers that were used long ago is forgotten', () => {
  const clock = testClock()
  const registry = new GrantRegistry(clock)
  const healthOf = (server: string) => serverHealth(registry, server, clock, 1)
  const first = healthOf('https://first.example')
  const used = healthOf('https://used.example')
  for (let n = 0; n < 10_000; n++) {
    healthOf(`https://tenant-${n}.example`)
    expect(healthOf('https://used.example')).toBe(used)
  }
  expect(healthOf('https://first.example')).not.toBe(first)
})
