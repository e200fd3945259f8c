import { afterAll, beforeAll, describe, expect, it } from '@jest/globals'
import { Redis } from 'ioredis'
import { LEASE_MS } from '../../lib/grants/lease.js'
import { type AuthorizationServer, startAuthorizationServer } from '../helpers/authorization-server.js'
import type { BrowserAnswer } from '../helpers/browser.js'
import { type Fleet, type FleetProcess, startFleet } from '../helpers/fleet.js'
import {
  eventually,
  expectNewest,
  expiredSession,
  timesPresented,
  together,
  tokenOf,
} from '../helpers/fleet-expectations.js'
import { describeWithRedisServer, type RedisServer, startRedis } from '../helpers/redis.js'

const START_MS = 60_000
const TEST_MS = 30_000
/** How long others may be held up by a process that died with the lease. */
const BOUND_MS = LEASE_MS + 3_000

const dead = { status: 401, json: { code: 'ERR_REAUTHENTICATION_REQUIRED' } }

let server: AuthorizationServer
let redis: RedisServer
let fleet: Fleet

describeWithRedisServer('processes that are slow, killed and restarted', () => {
  beforeAll(async () => {
    ;[server, redis] = await Promise.all([startAuthorizationServer(), startRedis({ fresh: true })])
    fleet = await startFleet({ processes: 6, server, redis })
    await redis.settled()
  }, START_MS)
  afterAll(async () => {
    await fleet?.close()
    await redis?.close()
    await server?.close()
  })

  describe('a lease ends or does not', () => {
    together(TEST_MS, {
      async 'S16 the authorization server takes longer than the lease: 1 refresh'() {
        const [refresher, other] = fleet.processes as [FleetProcess, FleetProcess]
        const { visitor, used } = await expiredSession(fleet)
        const answer = server.holdAnswer(presenting(used))
        const first = visitor.at(refresher).get('/token')
        await answer.reached
        const second = visitor.at(other).get('/token')
        // What is leased while the first lease goes on runs out after it would have without renewal.
        await untilLeaseHasRunOut()
        answer.release()
        expect(await tokenOf(second)).toBe(await tokenOf(first))
        expect(timesPresented(server, used)).toBe(1)
        await expectNewest(server, visitor)
      },

      async 'S17 killed before the authorization server was asked: another process refreshes'() {
        const [, other, victim] = fleet.processes as [FleetProcess, FleetProcess, FleetProcess]
        const { visitor, used } = await expiredSession(fleet)
        const leased = await victim.hold('leased')
        const lost = expectNoAnswer(visitor.at(victim).get('/token'))
        await leased.reached
        await tokenAfterKill(victim, visitor.at(other).get('/token'))
        await lost
        expect(timesPresented(server, used)).toBe(1)
        await expectNewest(server, visitor)
      },

      async 'S17 killed before the authorization server has used the refresh token: another process refreshes'() {
        const [, other, , victim] = fleet.processes as FleetProcess[]
        const { visitor, used } = await expiredSession(fleet)
        const request = server.hold(firstOf(presenting(used)))
        const lost = expectNoAnswer(visitor.at(victim!).get('/token'))
        await request.reached
        await tokenAfterKill(victim!, visitor.at(other!).get('/token'))
        await lost
        // The first one is still waiting there.
        expect(timesPresented(server, used)).toBe(2)
        await expectNewest(server, visitor)
      },

      async 'S17 killed with the only answer: the others are told that the user must log in, and do not ask again'() {
        const [, other, , , victim] = fleet.processes as FleetProcess[]
        const { visitor, used } = await expiredSession(fleet)
        const commit = await victim!.hold('commit')
        const lost = expectNoAnswer(visitor.at(victim!).get('/token'))
        await commit.reached
        const waiting = visitor.at(other!).get('/token')
        const killedAt = Date.now()
        await victim!.kill()
        expect(await waiting).toMatchObject(dead)
        expect(Date.now() - killedAt).toBeLessThan(BOUND_MS)
        await lost
        expect(await visitor.at(other!).get('/token')).toMatchObject(dead)
        expect(await visitor.at(fleet.processes[0]!).get('/token')).toMatchObject(dead)
        expect(timesPresented(server, used)).toBe(2)
        await fleet.login('alice', { at: other! }).then((again) => tokenOf(again.at(other!).get('/token')))
      },

      async 'S17 killed between the grant store and the session store: the others have the result at once'() {
        const [idle, other, , , , victim] = fleet.processes as FleetProcess[]
        const { visitor, used } = await expiredSession(fleet)
        const answer = server.holdAnswer(presenting(used))
        const committed = await victim!.hold('committed')
        const lost = expectNoAnswer(visitor.at(victim!).get('/token'))
        await answer.reached
        const waiting = visitor.at(other!).get('/token')
        answer.release()
        await committed.reached
        const token = await tokenAfterKill(victim!, waiting)
        await lost
        expect(await tokenOf(visitor.at(idle!).get('/token'))).toBe(token)
        expect(await tokenOf(visitor.at(other!).get('/token'))).toBe(token)
        expect(timesPresented(server, used)).toBe(1)
        // Whoever is asked next heals the session.
        await eventually(() => expectNewest(server, visitor))
      },
    })
  })

  it(
    'S30 all processes restart: the tokens are the newest, even where the grant store has forgotten them',
    async () => {
      const [one, two] = fleet.processes as [FleetProcess, FleetProcess]
      const sessions = [await expiredSession(fleet), await expiredSession(fleet)] as const
      const tokens = await Promise.all(sessions.map(({ visitor }) => tokenOf(visitor.at(one).get('/token'))))
      await forget((await sessions[1].visitor.storedTokens())!.grantId)
      await Promise.all(fleet.processes.map((process) => process.kill()))
      await Promise.all([one.restart(), two.restart()])

      for (const [index, { visitor, used }] of sessions.entries()) {
        expect(await tokenOf(visitor.at(one).get('/token'))).toBe(tokens[index])
        expect(await tokenOf(visitor.at(two).get('/token'))).toBe(tokens[index])
        expect(timesPresented(server, used)).toBe(1)
        const next = (await visitor.storedTokens())!.refreshToken!
        const fresh = await tokenOf(visitor.at(two).get(`/token?rejected=${tokens[index]}`))
        expect(fresh).not.toBe(tokens[index])
        expect(await tokenOf(visitor.at(one).get(`/token?rejected=${tokens[index]}`))).toBe(fresh)
        expect(timesPresented(server, next)).toBe(1)
        await expectNewest(server, visitor)
      }
    },
    TEST_MS,
  )

  describe('S51 SIGTERM during a refresh', () => {
    it(
      'S51 who waits is answered, in this process and in another, and the process ends by itself',
      async () => {
        const [ending, other] = fleet.processes as [FleetProcess, FleetProcess]
        const { visitor, used } = await expiredSession(fleet, other)
        const answer = server.holdAnswer(presenting(used))
        const here = visitor.at(ending).get('/token')
        await answer.reached
        const there = visitor.at(other).get('/token')
        const exit = ending.terminate()
        await untilNobodyListens(ending)
        expect(ending.exited).toBe(false)
        answer.release()
        expect(await tokenOf(here)).toBe(await tokenOf(there))
        expect(await exit).toBe(0)
        expect(timesPresented(server, used)).toBe(1)
        await expectNewest(server, visitor)
      },
      TEST_MS,
    )

    it(
      'S51 nobody waits any more: the result is kept before the process ends',
      async () => {
        const [, ending] = fleet.processes as [FleetProcess, FleetProcess]
        const { visitor, used } = await expiredSession(fleet, ending)
        const answer = server.holdAnswer(presenting(used))
        const client = new AbortController()
        const lost = expectNoAnswer(visitor.at(ending).get('/token', { signal: client.signal }))
        await answer.reached
        client.abort()
        await lost
        const exit = ending.terminate()
        await untilNobodyListens(ending)
        expect(ending.exited).toBe(false)
        answer.release()
        expect(await exit).toBe(0)
        expect(timesPresented(server, used)).toBe(1)
        await expectNewest(server, visitor)
      },
      TEST_MS,
    )
  })
})

type TokenRequestMatcher = NonNullable<Parameters<AuthorizationServer['hold']>[0]>

function presenting(refreshToken: string): TokenRequestMatcher {
  return (request) => request.refreshToken === refreshToken
}

function firstOf(matches: TokenRequestMatcher): TokenRequestMatcher {
  let seen = false
  return (request) => {
    if (seen || !matches(request)) return false
    seen = true
    return true
  }
}

/** Kills the process that holds the lease. Resolves with the token that another process gives out within bounded time. */
async function tokenAfterKill(victim: FleetProcess, waiting: Promise<BrowserAnswer>): Promise<string> {
  const killedAt = Date.now()
  await victim.kill()
  const token = await tokenOf(waiting)
  expect(Date.now() - killedAt).toBeLessThan(BOUND_MS)
  return token
}

async function expectNoAnswer(request: Promise<unknown>): Promise<void> {
  await expect(request).rejects.toThrow()
}

/** Resolves when a lease that begins now and is not renewed has run out, by the clock of Redis. */
async function untilLeaseHasRunOut(): Promise<void> {
  await withRedis(async (client) => {
    await client.set('lease', '', 'PX', LEASE_MS)
    await eventually(async () => expect(await client.exists('lease')).toBe(0), 2 * LEASE_MS)
  })
}

async function forget(grantId: string): Promise<void> {
  await withRedis(async (client) => expect(await client.del(`session-tokens:${grantId}`)).toBe(1))
}

async function withRedis(work: (client: Redis) => Promise<void>): Promise<void> {
  const client = new Redis(redis.url)
  try {
    await work(client)
  } finally {
    client.disconnect()
  }
}

async function untilNobodyListens(process: FleetProcess): Promise<void> {
  await eventually(() => expect(fetch(process.url)).rejects.toThrow())
}
