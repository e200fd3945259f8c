import { afterAll, beforeAll, expect, it } from '@jest/globals'
import { Redis } from 'ioredis'
import { type AuthorizationServer, startAuthorizationServer } from '../helpers/authorization-server.js'
import { type Fleet, startFleet, type Visitor } from '../helpers/fleet.js'
import { expectNewest, tokenOf } from '../helpers/fleet-expectations.js'
import { type OfflineWorker, startOfflineWorker } from '../helpers/offline-worker.js'
import { describeWithRedisServer, type RedisServer, startRedis } from '../helpers/redis.js'
import { sessionIdOf } from '../helpers/stores.js'

const START_MS = 60_000
const TEST_MS = 30_000

let server: AuthorizationServer
let redis: RedisServer
let fleet: Fleet
let worker: OfflineWorker
let otherWorker: OfflineWorker

describeWithRedisServer('web processes and workers on one Redis', () => {
  beforeAll(async () => {
    ;[server, redis] = await Promise.all([startAuthorizationServer(), startRedis({ fresh: true })])
    ;[fleet, worker, otherWorker] = await Promise.all([
      startFleet({ processes: 2, server, redis }),
      startOfflineWorker(server, redis),
      startOfflineWorker(server, redis),
    ])
    await redis.settled()
  }, START_MS)
  afterAll(async () => {
    expect(await worker?.terminate()).toBe(0)
    await otherWorker?.kill()
    await fleet?.close()
    await redis?.close()
    expect(server.reuses()).toBe(0)
    await server?.close()
  })

  it(
    'S84 jobs in two workers and fifty requests at two processes at once: one refresh, and all have its token',
    async () => {
      const { visitor, reference } = await loggedIn()
      const refreshes = server.refreshes()
      const answer = server.holdAnswer()
      const allAsked = Promise.all(fleet.processes.map((process) => process.asked(25)))
      const requests = fleet.processes.flatMap((process) =>
        Array.from({ length: 25 }, () => visitor.at(process).get('/token')),
      )
      const jobs = [worker, otherWorker].flatMap((one) =>
        Array.from({ length: 5 }, () => one.token(reference)),
      )
      await Promise.all([answer.reached, allAsked])
      answer.release()
      const tokens = await Promise.all([
        ...requests.map(tokenOf),
        ...jobs.map(async (job) => (await job).token),
      ])
      expect(tokens).toHaveLength(60)
      expect(new Set(tokens).size).toBe(1)
      expect(await server.isActive(tokens[0]!)).toBe(true)
      expect(server.refreshes() - refreshes).toBe(1)
    },
    TEST_MS,
  )

  it(
    'S84 the session gets what a worker has refreshed, with the next request',
    async () => {
      const { visitor, reference } = await loggedIn()
      const { token } = await worker.token(reference)
      const refreshes = server.refreshes()
      for (const process of fleet.processes) {
        expect(await tokenOf(visitor.at(process).get('/token'))).toBe(token)
      }
      expect(server.refreshes()).toBe(refreshes)
    },
    TEST_MS,
  )

  it(
    'S84 the session has gone, and the jobs run on until the end of the grant',
    async () => {
      const { reference, cookie } = await loggedIn()
      const client = new Redis(redis.url)
      await client.del(`sess:${sessionIdOf(cookie)}`)
      await client.quit()
      const { token } = await worker.token(reference)
      expect(await server.isActive(token!)).toBe(true)
      expect((await otherWorker.token(reference)).token).toBe(token)
      expect(await worker.revoke(reference)).not.toHaveProperty('error')
      expect(await server.isActive(token!)).toBe(false)
      expect((await worker.token(reference)).error).toMatchObject({
        code: 'ERR_REAUTHENTICATION_REQUIRED',
        reason: 'logged_out',
      })
    },
    TEST_MS,
  )

  it(
    'S84 a logout at a web process ends the jobs of a worker that has not used the grant yet',
    async () => {
      const { visitor, reference } = await loggedIn()
      expect((await visitor.at(fleet.processes[0]!).post('/logout')).status).toBe(200)
      expect((await worker.token(reference)).error).toMatchObject({ reason: 'logged_out' })
    },
    TEST_MS,
  )

  it(
    'S85 a worker with another session key, or with keys, gets nothing',
    async () => {
      const { reference } = await loggedIn()
      const strangers = await Promise.all([
        startOfflineWorker(server, redis, { sessionKey: 'other' }),
        startOfflineWorker(server, redis, {
          encryptionKeys: ['UUa2j3oVjRk0c8Zs9CLtEz3uJgQmA7rS7T1a0YbKx5c='],
        }),
      ])
      for (const stranger of strangers) {
        expect((await stranger.token(reference)).error).toMatchObject({ code: 'ERR_NO_TOKENS' })
        await stranger.kill()
      }
    },
    TEST_MS,
  )
})

/** A user whose access token has expired, and a reference to the grant. */
async function loggedIn(): Promise<{ visitor: Visitor; reference: string; cookie: string }> {
  const visitor = await fleet.login('alice', { expired: true })
  const tab = visitor.at(fleet.processes[0]!)
  const { json } = await tab.get('/reference')
  await expectNewest(server, visitor)
  return { visitor, reference: json as unknown as string, cookie: tab.cookie('connect.sid')! }
}
