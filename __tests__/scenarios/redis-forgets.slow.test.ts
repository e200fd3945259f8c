import { setTimeout as delay } from 'node:timers/promises'
import { afterAll, afterEach, beforeAll, beforeEach, expect, it } from '@jest/globals'
import { Redis } from 'ioredis'
import { type AuthorizationServer, startAuthorizationServer } from '../helpers/authorization-server.js'
import { type Fleet, type FleetProcess, startFleet } from '../helpers/fleet.js'
import { eventually, expectNewest, refreshUnderWay, timesPresented } from '../helpers/fleet-expectations.js'
import { describeWithRedisServer, type RedisServer, startRedis } from '../helpers/redis.js'

const TEST_MS = 60_000
let server: AuthorizationServer
let sessions: RedisServer
let grants: RedisServer
let fleet: Fleet
let two: FleetProcess
let client: Redis

describeWithRedisServer(
  'a lease that Redis has lost while its holder waits for the authorization server',
  () => {
    beforeAll(async () => {
      ;[server, sessions, grants] = await Promise.all([
        startAuthorizationServer(),
        startRedis({ fresh: true }),
        startRedis({ fresh: true }),
      ])
      fleet = await startFleet({
        processes: 2,
        server,
        redis: grants,
        sessions,
        tokens: { timeoutMs: TEST_MS },
      })
      two = fleet.processes[1]!
      await grants.settled()
    }, TEST_MS)
    afterAll(async () => {
      await fleet?.close()
      await Promise.all([sessions?.close(), grants?.close()])
      await server?.close()
    })
    beforeEach(() => {
      client = new Redis(grants.url)
    })
    afterEach(() => client.disconnect())

    async function leasedKey() {
      const underWay = await refreshUnderWay(fleet, server)
      const { grantId } = (await underWay.visitor.storedTokens())!
      return { ...underWay, key: `session-tokens:${grantId}` }
    }
    const forgets = [
      ['DEL', (key: string) => client.del(key)],
      ['FLUSHALL', () => client.flushall()],
    ] as const

    it.each(forgets)(
      'S47 %s, and another process requests the lease before it is renewed: no refresh token is spent twice',
      async (_, forget) => {
        const { visitor, used, request, answer, key } = await leasedKey()
        await forget(key)
        const second = visitor.at(two).get('/token')
        await delay(500)
        answer.release()
        const answers = await Promise.all([request, second])
        expect(answers.map(({ status }) => status)).toEqual([200, 200])
        expect(timesPresented(server, used)).toBe(1)
        await expectNewest(server, visitor)
      },
      TEST_MS,
    )

    it(
      'S47 DEL, while another process waits: no refresh token is spent twice',
      async () => {
        const { visitor, used, request, answer, key } = await leasedKey()
        const second = visitor.at(two).get('/token')
        await eventually(async () => expect(await client.hget(key, 'waiting')).toBe('1'))
        await client.del(key)
        await delay(3_000)
        answer.release()
        const answers = await Promise.all([request, second])
        expect(answers.map(({ status }) => status)).toEqual([200, 200])
        expect(timesPresented(server, used)).toBe(1)
        await expectNewest(server, visitor)
      },
      TEST_MS,
    )

    it(
      'S47 Redis stands still for longer than the lease lasts: no refresh token is spent twice',
      async () => {
        const { visitor, used, request, answer } = await leasedKey()
        grants.pause()
        await delay(5_500)
        const second = visitor.at(two).get('/token')
        await delay(100)
        grants.resume()
        await delay(1_000)
        answer.release()
        const answers = await Promise.all([request, second])
        expect(answers.map(({ status }) => status)).toEqual([200, 200])
        expect(timesPresented(server, used)).toBe(1)
        await expectNewest(server, visitor)
      },
      TEST_MS,
    )

    it(
      'S47 Redis restarts with a snapshot from before the lease: no refresh token is spent twice',
      async () => {
        const { visitor, used, request, answer, key } = await leasedKey()
        // As replication would have left it: the grant is known, from the refresh before, and the lease is not.
        await grants.restart({ fresh: true })
        await client.hset(key, { revision: 0 })
        const second = visitor.at(two).get('/token')
        await delay(500)
        answer.release()
        const answers = await Promise.all([request, second])
        expect(answers.map(({ status }) => status)).toEqual([200, 200])
        expect(timesPresented(server, used)).toBe(1)
        await expectNewest(server, visitor)
      },
      TEST_MS,
    )
  },
)
