import { setTimeout as delay } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals'
import { LEASE_MS } from '../../lib/concurrency/time-constants.js'
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
import type { GrantServer, StartGrants } from '../helpers/grant-servers.js'
import { type RedisServer, startRedis } from '../helpers/redis.js'

const START_MS = 180_000
const TEST_MS = 30_000
/** How long others may be held up by a process that died with the lease. */
const BOUND_MS = LEASE_MS + 3_000

const dead = { status: 401, json: { code: 'ERR_REAUTHENTICATION_REQUIRED' } }

let server: AuthorizationServer
let sessions: RedisServer
let grants: GrantServer
let fleet: Fleet

/** The scenarios of processes that are slow, killed and restarted. */
export function testSlowAndKilledProcesses(start: StartGrants): void {
  beforeAll(async () => {
    ;[server, sessions, grants] = await Promise.all([
      startAuthorizationServer(),
      startRedis({ fresh: true }),
      start(),
    ])
    fleet = await startFleet({ processes: 6, server, redis: sessions, grants })
    await grants.settled()
  }, START_MS)
  afterAll(async () => {
    await fleet?.close()
    await Promise.all([sessions?.close(), grants?.close()])
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
        await delay(LEASE_MS)
        answer.release()
        expect(await tokenOf(second)).toBe(await tokenOf(first))
        expect(timesPresented(server, used)).toBe(1)
        await expectNewest(server, visitor)
      },

      async 'S17 killed before the request to the authorization server: another process refreshes'() {
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

      async 'S17 killed with the only response: the others report that the user must log in, and do not refresh again'() {
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
      const expired = [await expiredSession(fleet), await expiredSession(fleet)] as const
      const tokens = await Promise.all(expired.map(({ visitor }) => tokenOf(visitor.at(one).get('/token'))))
      await grants.forget((await expired[1].visitor.storedTokens())!.grantId)
      await Promise.all(fleet.processes.map((process) => process.kill()))
      await Promise.all([one.restart(), two.restart()])

      for (const [index, { visitor, used }] of expired.entries()) {
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
      'S51 waiting callers get their token, in this process and in another, and the process exits',
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
      'S51 no caller waits any more: the result is kept before the process ends',
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
}

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

async function untilNobodyListens(process: FleetProcess): Promise<void> {
  await eventually(() => expect(fetch(process.url)).rejects.toThrow())
}
