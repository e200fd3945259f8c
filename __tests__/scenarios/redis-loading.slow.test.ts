import { setTimeout as delay } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals'
import { Redis } from 'ioredis'
import { type AuthorizationServer, startAuthorizationServer } from '../helpers/authorization-server.js'
import { type Fleet, type FleetProcess, startFleet, type Visitor } from '../helpers/fleet.js'
import {
  type Expired,
  expectNewest,
  expiredSession,
  refreshUnderWay,
  timesPresented,
  together,
  tokenOf,
  tokenOnceBack,
  type UnderWay,
} from '../helpers/fleet-expectations.js'
import { describeWithRedisServer, type RedisServer, startRedis } from '../helpers/redis.js'

const START_MS = 60_000
const TEST_MS = 40_000
/** One key takes it a millisecond. It is still loading when it is too old for a server that has just started. */
const KEYS = 9_000
const SLOWLY = { 'key-load-delay': '1000', 'loading-process-events-interval-bytes': '1024' }

let server: AuthorizationServer
let sessions: RedisServer
let grants: RedisServer
let fleet: Fleet
let one: FleetProcess
let two: FleetProcess
let client: Redis
let restarted: Promise<void>

describeWithRedisServer('S47 the Redis of the grants restarts, and answers LOADING for a while', () => {
  let valid: Visitor
  let expired: Expired
  let leavesEarly: UnderWay
  let leavesLate: UnderWay

  beforeAll(async () => {
    ;[server, sessions, grants] = await Promise.all([
      startAuthorizationServer(),
      startRedis({ fresh: true }),
      startRedis({ settings: SLOWLY }),
    ])
    const tokens = { timeoutMs: 2 * TEST_MS, refreshTimeoutMs: TEST_MS }
    fleet = await startFleet({ processes: 2, server, redis: grants, sessions, tokens })
    ;[one, two] = fleet.processes as [FleetProcess, FleetProcess]
    client = new Redis(grants.url, { enableReadyCheck: false })
    client.on('error', () => {})
    await client.eval(`for key = 1, ${KEYS} do redis.call('SET', 'filler ' .. key, key) end`, 0)

    valid = await fleet.login('valid')
    expired = await expiredSession(fleet)
    const sessionsUnderWay = [await expiredSession(fleet), await expiredSession(fleet)] as const
    // What comes from here on Redis will have forgotten: the leases.
    await client.save()
    leavesEarly = await refreshUnderWay(fleet, server, sessionsUnderWay[0])
    leavesLate = await refreshUnderWay(fleet, server, sessionsUnderWay[1])
    restarted = grants.restart({ fresh: true })
    while (!(await isLoading())) await delay(10)
  }, START_MS)
  afterAll(async () => {
    await restarted
    client?.disconnect()
    await fleet?.close()
    await Promise.all([sessions?.close(), grants?.close()])
    await server?.close()
  })

  describe('while it does', () => {
    // They are over long before it has loaded all.
    together(TEST_MS, {
      'S47 valid tokens go on being served': whileLoading(async () => {
        const { accessTokens } = (await valid.storedTokens())!
        for (const process of [one, two]) {
          expect(await tokenOf(valid.at(process).get('/token'))).toBe(accessTokens[0]!.token)
        }
      }),
      'S47 where a refresh is needed it is 503, to be tried again; no refresh token is spent, and the session stays':
        whileLoading(async () => {
          const { visitor, used } = expired
          const stored = await visitor.stored()
          const answers = await Promise.all([one, two].map((process) => visitor.at(process).get('/token')))
          const unavailable = { status: 503, json: { code: 'ERR_GRANT_STORE', retryable: true } }
          expect(answers).toMatchObject([unavailable, unavailable])
          expect(timesPresented(server, used)).toBe(0)
          expect(await visitor.stored()).toEqual(stored)
        }),
      'S47 a refresh in flight ends, and both processes have its result': whileLoading(async () => {
        const { visitor, used, request, answer } = leavesEarly
        answer.release()
        const token = await tokenOf(request)
        expect(await tokenOf(visitor.at(two).get('/token'))).toBe(token)
        expect(timesPresented(server, used)).toBe(1)
        await expectNewest(server, visitor)
      }),
    })
  })

  describe('and when it has loaded', () => {
    beforeAll(() => restarted, START_MS)

    it(
      'S47 a grant whose refresh was in flight all the time is not refreshed by another process',
      async () => {
        const { visitor, used, request, answer } = leavesLate
        const second = tokenOnceBack(two, visitor)
        await delay(2_000)
        answer.release()
        expect(await second).toBe(await tokenOf(request))
        expect(timesPresented(server, used)).toBe(1)
        await expectNewest(server, visitor)
      },
      TEST_MS,
    )

    it(
      'S47 a grant that could not be refreshed is refreshed once',
      async () => {
        const { visitor, used } = expired
        const tokens = await Promise.all(
          [one, two, one, two].map((process) => tokenOnceBack(process, visitor)),
        )
        expect(new Set(tokens).size).toBe(1)
        expect(timesPresented(server, used)).toBe(1)
        await expectNewest(server, visitor)
      },
      TEST_MS,
    )

    it(
      'S47 no refresh of that time is lost',
      async () => {
        const { visitor } = leavesEarly
        const token = await tokenOf(visitor.at(one).get('/token'))
        const { refreshToken } = (await visitor.storedTokens())!
        const next = await tokenOf(visitor.at(two).get(`/token?rejected=${token}`))
        expect(next).not.toBe(token)
        expect(timesPresented(server, refreshToken!)).toBe(1)
        await expectNewest(server, visitor)
      },
      TEST_MS,
    )
  })
})

async function isLoading(): Promise<boolean> {
  const info = await client.info('persistence').catch(() => '')
  return info.includes('loading:1')
}

/** A test of what holds while the server loads: it must still do so in the end. */
function whileLoading(test: () => Promise<void>): () => Promise<void> {
  return async () => {
    await test()
    expect(await isLoading()).toBe(true)
  }
}
