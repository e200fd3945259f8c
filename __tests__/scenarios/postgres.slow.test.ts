import { setTimeout as delay } from 'node:timers/promises'
import { afterAll, afterEach, beforeAll, describe, expect, it } from '@jest/globals'
import { decodeJwt } from 'jose'
import { Pool } from 'pg'
import { type AuthorizationServer, startAuthorizationServer } from '../helpers/authorization-server.js'
import { type Fleet, type FleetProcess, startFleet, type Visitor } from '../helpers/fleet.js'
import {
  eventually,
  expectNewest,
  expiredSession,
  refreshUnderWay,
  timesPresented,
  tokenOf,
  tokenOnceBack,
} from '../helpers/fleet-expectations.js'
import { startPostgresGrants } from '../helpers/grant-servers.js'
import { describeWithPostgresServer } from '../helpers/postgres.js'
import type { PostgresServer } from '../helpers/postgres-server.js'
import { type RedisServer, startRedis } from '../helpers/redis.js'

const START_MS = 180_000
const TEST_MS = 150_000
const A = 'https://api-a.example'
const B = 'https://api-b.example'

let server: AuthorizationServer
let sessions: RedisServer
let grants: PostgresServer
let fleet: Fleet
let admin: Pool

const unavailable = { status: 503, json: { code: 'ERR_GRANT_STORE', retryable: true } }

/** So many requests, spread over the processes. */
function spread(visitor: Visitor, count: number, path = '/token') {
  const { processes } = fleet
  const requests = Array.from({ length: count }, (_, i) =>
    visitor.at(processes[i % processes.length]!).get(path),
  )
  return Promise.all(requests.map(tokenOf))
}

async function expectRefreshedOnce(visitor: Visitor, used: string): Promise<void> {
  const tokens = await Promise.all(fleet.processes.map((process) => tokenOnceBack(process, visitor)))
  expect(new Set(tokens).size).toBe(1)
  expect(timesPresented(server, used)).toBe(1)
  await expectNewest(server, visitor)
}

const terminateConnections = () =>
  admin.query(
    `select pg_terminate_backend(pid) from pg_stat_activity
     where pid <> pg_backend_pid() and backend_type = 'client backend'`,
  )

/** Ends all connections, again and again. No other test meets the last time: this resolves after it. */
async function terminateUntil(signal: AbortSignal): Promise<void> {
  while (!signal.aborted) {
    await delay(150)
    await terminateConnections()
  }
}

describeWithPostgresServer('PostgreSQL as grant store of four processes', () => {
  beforeAll(async () => {
    const [started, redis, postgres] = await Promise.all([
      startAuthorizationServer(),
      startRedis({ fresh: true }),
      startPostgresGrants(),
    ])
    server = started
    sessions = redis
    grants = postgres
    admin = new Pool({ connectionString: grants.url, max: 1 })
    admin.on('error', () => {})
    const tokens = { timeoutMs: TEST_MS }
    fleet = await startFleet({ processes: 4, server, redis: sessions, grants, tokens })
    await postgres.settled()
  }, START_MS)
  afterEach(() => {
    expect(server.reuses()).toBe(0)
    expect(server.presentedAgain()).toEqual([])
  })
  afterAll(async () => {
    await fleet?.close()
    await admin?.end()
    await Promise.all([sessions?.close(), grants?.close()])
    await server?.close()
  })

  describe('one use', () => {
    it('S90 S10 50 requests at once on one expired session: 1 refresh', async () => {
      const { visitor, used } = await expiredSession(fleet)
      expect(new Set(await spread(visitor, 50)).size).toBe(1)
      expect(timesPresented(server, used)).toBe(1)
      await expectNewest(server, visitor)
    })

    it('S90 S12 S18 20 requests report the same token as rejected, at once and after the refresh: 1 refresh', async () => {
      const visitor = await fleet.login('alice')
      const { refreshToken, accessTokens } = (await visitor.storedTokens())!
      const rejected = `/token?rejected=${accessTokens[0]!.token}`
      const tokens = new Set(await spread(visitor, 20, rejected))
      for (let round = 0; round < 3; round++)
        for (const token of await spread(visitor, 4, rejected)) tokens.add(token)
      expect(tokens.size).toBe(1)
      expect(timesPresented(server, refreshToken!)).toBe(1)
      await expectNewest(server, visitor)
    })

    it('S90 S13 a request that knows the token before the previous one gets the newest', async () => {
      const [one, two, three, four] = fleet.processes as FleetProcess[]
      const visitor = await fleet.login('alice')
      const grandparent = await tokenOf(visitor.at(three!).get('/token'))
      const parent = await tokenOf(visitor.at(one!).get(`/token?rejected=${grandparent}`))
      const newest = await tokenOf(visitor.at(two!).get(`/token?rejected=${parent}`))
      const refreshes = server.refreshes()
      for (const process of [three!, four!])
        expect(await tokenOf(visitor.at(process).get(`/token?rejected=${grandparent}`))).toBe(newest)
      expect(server.refreshes()).toBe(refreshes)
      await expectNewest(server, visitor)
    })

    it('S90 S14 two users at once: two refreshes, and neither affects the other', async () => {
      const users = await Promise.all([expiredSession(fleet), expiredSession(fleet)])
      const tokens = await Promise.all(users.map(({ visitor }) => spread(visitor, 12)))
      expect(tokens.map((of) => new Set(of).size)).toEqual([1, 1])
      expect(tokens[0]![0]).not.toBe(tokens[1]![0])
      for (const { visitor, used } of users) {
        expect(timesPresented(server, used)).toBe(1)
        await expectNewest(server, visitor)
      }
    })

    it('S90 S15 two resources at once in different processes: each gets its own token, one refresh at a time', async () => {
      const visitor = await fleet.login('alice', { login: { resource: [A, B] } })
      const refreshes = server.refreshes()
      const [forA, forB] = await Promise.all(
        [A, B].map((resource) => spread(visitor, 8, `/token?resource=${resource}`)),
      )
      const tokens = [...new Set(forA), ...new Set(forB)]
      expect(tokens.map((token) => decodeJwt(token).aud)).toEqual([A, B])
      expect(server.refreshes() - refreshes).toBe(2)
      await expectNewest(server, visitor)
    })
  })

  describe('a PostgreSQL in trouble', () => {
    it(
      'S90 S47 every connection is killed while a refresh is in flight: it completes, and is kept',
      async () => {
        const { visitor, used, answer, request } = await refreshUnderWay(fleet, server)
        const waiting = tokenOnceBack(fleet.processes[1]!, visitor)
        await terminateConnections()
        answer.release()
        const token = await tokenOf(request)
        expect(await waiting).toBe(token)
        expect(timesPresented(server, used)).toBe(1)
        await eventually(() => expectNewest(server, visitor))
      },
      TEST_MS,
    )

    it(
      'S90 S47 connections are killed again and again under load: each refresh token is used once',
      async () => {
        const users = await Promise.all(Array.from({ length: 6 }, () => expiredSession(fleet)))
        const stop = new AbortController()
        const killing = terminateUntil(stop.signal)
        try {
          await Promise.all(users.map(({ visitor, used }) => expectRefreshedOnce(visitor, used)))
        } finally {
          stop.abort()
          await killing
        }
      },
      TEST_MS,
    )

    it(
      'S90 S47 it is down: valid tokens are served, a refresh that is needed is 503; when it is back, there is one refresh',
      async () => {
        const valid = await fleet.login('valid')
        const { token } = (await valid.storedTokens())!.accessTokens[0]!
        const { visitor, used } = await expiredSession(fleet)
        const under = await refreshUnderWay(fleet, server)
        await grants.kill()
        const stored = await visitor.stored()
        for (const process of fleet.processes) {
          expect(await tokenOf(valid.at(process).get('/token'))).toBe(token)
          expect(await visitor.at(process).get('/token')).toMatchObject(unavailable)
        }
        expect(timesPresented(server, used)).toBe(0)
        expect(await visitor.stored()).toEqual(stored)
        await grants.restart()
        const waiting = tokenOnceBack(fleet.processes[1]!, under.visitor)
        await expectRefreshedOnce(visitor, used)
        under.answer.release()
        expect(await waiting).toBe(await tokenOf(under.request))
        expect(timesPresented(server, under.used)).toBe(1)
        await expectNewest(server, under.visitor)
      },
      TEST_MS,
    )

    it(
      'S90 S47 an empty database takes its place: a refresh in flight is kept, what it lost is stored again, no token is used twice',
      async () => {
        const { visitor, used } = await expiredSession(fleet)
        const first = await tokenOf(visitor.at(fleet.processes[0]!).get('/token'))
        const loggedOut = await fleet.login('gone')
        await loggedOut.at(fleet.processes[2]!).post('/logout')
        const under = await refreshUnderWay(fleet, server)
        await grants.replaceByEmpty()
        const waiting = tokenOnceBack(fleet.processes[1]!, under.visitor)
        under.answer.release()
        expect(await waiting).toBe(await tokenOf(under.request))
        expect(timesPresented(server, under.used)).toBe(1)
        const { grantId, refreshToken, revision } = (await visitor.storedTokens())!
        await eventually(async () => {
          const { rows } = await admin.query(
            'select revision from session_token_grants where grant_id = $1',
            [grantId],
          )
          expect(rows).toEqual([{ revision: String(revision) }])
        }, 20_000)
        expect(await spread(visitor, 8)).toEqual(Array(8).fill(first))
        const next = new Set(await spread(visitor, 8, `/token?rejected=${first}`))
        expect(next.size).toBe(1)
        expect(timesPresented(server, used)).toBe(1)
        expect(timesPresented(server, refreshToken!)).toBe(1)
        await expectNewest(server, visitor)
        for (const process of fleet.processes)
          expect(await loggedOut.at(process).get('/token')).toMatchObject({ status: 401 })
      },
      TEST_MS,
    )

    it(
      'S90 S30 all processes and the database restart: the tokens are the newest',
      async () => {
        const { visitor, used } = await expiredSession(fleet)
        const token = await tokenOf(visitor.at(fleet.processes[3]!).get('/token'))
        await Promise.all([grants.restart(), ...fleet.processes.map((process) => process.kill())])
        await Promise.all(fleet.processes.map((process) => process.restart()))
        expect(await spread(visitor, 8)).toEqual(Array(8).fill(token))
        expect(timesPresented(server, used)).toBe(1)
        const next = new Set(await spread(visitor, 8, `/token?rejected=${token}`))
        expect(next.size).toBe(1)
        await expectNewest(server, visitor)
      },
      TEST_MS,
    )
  })
})
