import { afterAll, beforeAll, describe, expect, it } from '@jest/globals'
import { Redis } from 'ioredis'
import { type AuthorizationServer, startAuthorizationServer } from '../helpers/authorization-server.js'
import { type Fleet, type FleetProcess, startFleet, type Visitor } from '../helpers/fleet.js'
import {
  type Expired,
  eventually,
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
const TEST_MS = 30_000
/** How soon somebody must be told that there is no token to be had. */
const BOUND_MS = 5_000

const unavailable = { status: 503, json: { code: 'ERR_GRANT_STORE', retryable: true } }

let server: AuthorizationServer
let sessions: RedisServer
let grants: RedisServer
let fleet: Fleet
let one: FleetProcess
let two: FleetProcess

describeWithRedisServer('S47 the Redis of the grants fails', () => {
  beforeAll(async () => {
    ;[server, sessions, grants] = await Promise.all([
      startAuthorizationServer(),
      startRedis({ fresh: true }),
      startRedis({ fresh: true }),
    ])
    // Who has asked before an outage may still wait after it.
    const tokens = { timeoutMs: 2 * TEST_MS }
    fleet = await startFleet({ processes: 2, server, redis: grants, sessions, tokens })
    ;[one, two] = fleet.processes as [FleetProcess, FleetProcess]
    await grants.settled()
  }, START_MS)
  afterAll(async () => {
    await fleet?.close()
    await Promise.all([sessions?.close(), grants?.close()])
    await server?.close()
  })

  describe('killed in the middle of refreshes', () => {
    let valid: Visitor
    let expired: Expired
    let answeredMeanwhile: UnderWay
    let answeredLater: UnderWay

    beforeAll(async () => {
      valid = await fleet.login('valid')
      expired = await expiredSession(fleet)
      answeredMeanwhile = await refreshUnderWay(fleet, server)
      answeredLater = await refreshUnderWay(fleet, server)
      await grants.kill()
    })

    together(TEST_MS, {
      'S47 valid tokens go on being served': () => expectServedByAll(valid),
      'S47 where a refresh is needed it is 503, no refresh token is spent, and the session stays': () =>
        expectRefusedByAll(expired),
      'S47 a refresh in flight ends, and both processes have its result': () => expectKept(answeredMeanwhile),
    })

    describe('and restarted, empty', () => {
      beforeAll(() => grants.restart({ fresh: true }))

      it(
        'S47 a grant whose refresh was in flight all the time is not refreshed by another process',
        async () => {
          const waiting = tokenOnceBack(two, answeredLater.visitor)
          waiting.catch(() => {})
          // By now it leases grants that it does not know; and whoever waits has asked since.
          await grants.settled()
          await untilAskedAgain(answeredLater.visitor)
          answeredLater.answer.release()
          expect(await waiting).toBe(await tokenOf(answeredLater.request))
          expect(timesPresented(server, answeredLater.used)).toBe(1)
          await expectNewest(server, answeredLater.visitor)
        },
        TEST_MS,
      )

      it(
        'S47 a grant that could not be refreshed is refreshed once',
        () => expectRefreshedOnce(expired),
        TEST_MS,
      )
    })
  })

  describe('does not respond for a while', () => {
    let valid: Visitor
    let expired: Expired
    let answeredMeanwhile: UnderWay

    beforeAll(async () => {
      valid = await fleet.login('valid')
      expired = await expiredSession(fleet)
      answeredMeanwhile = await refreshUnderWay(fleet, server)
      grants.pause()
    })
    afterAll(() => grants.resume())

    together(TEST_MS, {
      'S47 valid tokens go on being served': () => expectServedByAll(valid),
      'S47 where a refresh is needed it is 503, no refresh token is spent, and the session stays': () =>
        expectRefusedByAll(expired),
      'S47 a refresh in flight ends, and both processes have its result': () => expectKept(answeredMeanwhile),
    })

    it(
      'S47 once it responds again, a grant that could not be refreshed is refreshed once',
      async () => {
        grants.resume()
        await expectRefreshedOnce(expired)
      },
      TEST_MS,
    )
  })

  describe.each([
    ['a grant is evicted', (client: Redis, grantId: string) => client.del(keyOf(grantId))],
    ['everything is flushed', (client: Redis) => client.flushall()],
  ])('%s', (_, forget) => {
    let client: Redis

    beforeAll(() => {
      client = new Redis(grants.url)
    })
    afterAll(() => client.disconnect())

    it('S47 between two refreshes: the next one uses the tokens of the session', async () => {
      const { visitor } = await expiredSession(fleet)
      const first = await tokenOf(visitor.at(one).get('/token'))
      const { grantId, refreshToken } = (await visitor.storedTokens())!
      await forget(client, grantId)
      expect(await tokenOf(visitor.at(two).get('/token'))).toBe(first)
      const next = await tokenOf(visitor.at(two).get(`/token?rejected=${first}`))
      expect(next).not.toBe(first)
      expect(await tokenOf(visitor.at(one).get(`/token?rejected=${first}`))).toBe(next)
      expect(timesPresented(server, refreshToken!)).toBe(1)
      await expectNewest(server, visitor)
    })

    it(
      'S47 during a refresh: its lease is taken again, and other processes wait for it',
      async () => {
        const { visitor, used, request, answer } = await refreshUnderWay(fleet, server)
        const { grantId } = (await visitor.storedTokens())!
        await forget(client, grantId)
        await eventually(async () => expect(await client.exists(keyOf(grantId))).toBe(1))
        const waiting = tokenOf(visitor.at(two).get('/token'))
        await untilAskedAgain(visitor)
        answer.release()
        expect(await waiting).toBe(await tokenOf(request))
        expect(timesPresented(server, used)).toBe(1)
        await expectNewest(server, visitor)
      },
      TEST_MS,
    )
  })
})

async function expectServedByAll(visitor: Visitor): Promise<void> {
  const { accessTokens } = (await visitor.storedTokens())!
  for (const process of [one, two]) {
    expect(await tokenOf(visitor.at(process).get('/token'))).toBe(accessTokens[0]!.token)
  }
}

async function expectRefusedByAll({ visitor, used }: Expired): Promise<void> {
  const stored = await visitor.stored()
  const askedAt = Date.now()
  const answers = await Promise.all([one, two].map((process) => visitor.at(process).get('/token')))
  expect(answers).toMatchObject([unavailable, unavailable])
  expect(Date.now() - askedAt).toBeLessThan(BOUND_MS)
  expect(timesPresented(server, used)).toBe(0)
  expect(await visitor.stored()).toEqual(stored)
}

async function expectKept({ visitor, used, request, answer }: UnderWay): Promise<void> {
  const failed = one.told('grant_store_failed')
  answer.release()
  const token = await tokenOf(request)
  await failed
  await expectNewest(server, visitor)
  expect(await tokenOf(visitor.at(two).get('/token'))).toBe(token)
  expect(timesPresented(server, used)).toBe(1)
}

async function expectRefreshedOnce({ visitor, used }: Expired): Promise<void> {
  const tokens = await Promise.all([one, two, one, two].map((process) => tokenOnceBack(process, visitor)))
  expect(new Set(tokens).size).toBe(1)
  expect(timesPresented(server, used)).toBe(1)
  await expectNewest(server, visitor)
}

/** Resolves when a process has asked for the lease of the session's grant, and was told to wait. */
async function untilAskedAgain(visitor: Visitor): Promise<void> {
  const key = keyOf((await visitor.storedTokens())!.grantId)
  const client = new Redis(grants.url)
  try {
    await client.hdel(key, 'waiting')
    await eventually(async () => expect(await client.hget(key, 'waiting')).toBe('1'))
  } finally {
    client.disconnect()
  }
}

function keyOf(grantId: string): string {
  return `session-tokens:${grantId}`
}
