import { randomUUID } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import { afterAll, afterEach, beforeAll, beforeEach, expect, it } from '@jest/globals'
import { Redis } from 'ioredis'
import { type RedisGrantStore, redisGrantStore } from '../../../lib/redis.js'
import { type AuthorizationServer, startAuthorizationServer } from '../../helpers/authorization-server.js'
import type { Browser } from '../../helpers/browser.js'
import { describeWithRedisServer, type RedisServer, startRedis } from '../../helpers/redis.js'
import { type RedisCounts, redisCounts } from '../../helpers/redis-counts.js'
import { type Site, type SiteOptions, sharedSessions, startSite } from '../../helpers/site.js'

const STORM = 200
const START_MS = 30_000
const request = { ttlMs: 60_000, waitMs: 20_000, revision: 0 }
/** A lease of 5 s is renewed three times as often. */
const RENEWAL_MS = 1_600
const channel = 'session-tokens:changes'

let redis: RedisServer
let server: AuthorizationServer
let counts: RedisCounts
const toClose: (() => unknown)[] = []

/** What a process has: a client and a store over it. */
function process(): RedisGrantStore {
  const client = new Redis(redis.url)
  const store = redisGrantStore(client, { graceMs: 0 })
  toClose.push(async () => {
    await store.close()
    client.disconnect()
  })
  return store
}

async function siteOf(options: Partial<SiteOptions> = {}): Promise<Site> {
  const site = await startSite(server, { ...options, tokens: { grants: process() } })
  toClose.push(() => site.close())
  return site
}

const expire = (site: Site) => site.clock.advance(3_600_000)

/** A browser whose user has logged in, and has been served. */
async function loggedIn(site: Site): Promise<Browser> {
  const browser = site.browser()
  await site.login(browser)
  expect((await browser.get('/token')).status).toBe(200)
  return browser
}

describeWithRedisServer('what a refresh costs Redis', () => {
  beforeAll(async () => {
    ;[redis, server] = await Promise.all([startRedis(), startAuthorizationServer()])
  }, START_MS)
  beforeEach(() => {
    counts = redisCounts(redis.url)
  })
  afterEach(async () => {
    for (const close of toClose.splice(0).reverse()) await close()
    counts.close()
  })
  afterAll(() => Promise.all([redis?.close(), server?.close()]))

  it('is two commands, and a valid token costs none', async () => {
    const site = await siteOf()
    const browser = await loggedIn(site)
    // A script that the server does not know yet is sent twice.
    expire(site)
    expect((await browser.get('/token')).status).toBe(200)
    const valid = await costOf(async () => {
      for (let i = 0; i < 10; i++) expect((await browser.get('/token')).status).toBe(200)
    })
    expect(valid.scripts).toBe(0)

    expire(site)
    const expired = await costOf(async () => expect((await browser.get('/token')).status).toBe(200))
    expect(site.events.map(({ type }) => type)).toEqual(['refreshed', 'refreshed'])
    expectCost(expired, 2)
  })

  it(
    `is two commands for ${STORM} requests at once in one process`,
    async () => {
      const site = await siteOf()
      const browser = await loggedIn(site)
      expire(site)
      const cost = await costOf(async () => {
        const answers = await Promise.all(Array.from({ length: STORM }, () => browser.get('/token')))
        expect(new Set(answers.map(({ status }) => status))).toEqual(new Set([200]))
        expect(new Set(answers.map(({ json }) => json.token)).size).toBe(1)
      })
      expectCost(cost, 2)
      // The second connection is for what other processes publish.
      expect(await counts.connections()).toBeLessThanOrEqual(2)
    },
    START_MS,
  )

  it('is two commands and at most three for a process that waits, which listens from then on', async () => {
    const sessions = sharedSessions()
    const [first, second] = [await siteOf({ store: sessions() }), await siteOf({ store: sessions() })]
    const browser = await loggedIn(first)
    const visitor = second.visitorOf(browser)
    for (const site of [first, second]) expire(site)
    const cost = await costOf(async () => {
      const answers = await Promise.all([browser.get('/token'), visitor.get('/token')])
      expect(new Set(answers.map(({ json }) => json.token)).size).toBe(1)
    })
    expect(cost.scripts).toBeLessThanOrEqual(2 + 3 + Math.floor(cost.ms / 500))
    expect(await counts.connections()).toBeLessThanOrEqual(2 * 2)
  })

  it(
    `is for ${STORM} processes: a lease of each, one more of each that was notified, and a commit`,
    async () => {
      const holder = process()
      const waiters = Array.from({ length: STORM }, process)
      // When a process first has to wait it begins to listen, and asks once more lest it missed something.
      expectCost(await costOf(() => storm(holder, waiters, 2)), 1 + 2 * STORM + STORM + 1, STORM)
      expectCost(await costOf(() => storm(holder, waiters, 1)), 1 + STORM + STORM + 1, STORM)
      expect(await counts.connections()).toBe(1 + STORM * 2)
    },
    2 * START_MS,
  )

  it(`is for ${STORM} leases of one store: the same, over two connections`, async () => {
    const store = process()
    const waiters = Array(STORM).fill(store)
    expectCost(await costOf(() => storm(store, waiters, 2)), 1 + 2 * STORM + STORM + 1, STORM)
    expectCost(await costOf(() => storm(store, waiters, 1)), 1 + STORM + STORM + 1, STORM)
    expect(await counts.connections()).toBe(2)
  })
})

interface Cost {
  readonly scripts: number
  readonly ms: number
}

async function costOf(action: () => Promise<unknown>): Promise<Cost> {
  await counts.forget()
  const start = performance.now()
  await action()
  return { scripts: await counts.scripts(), ms: performance.now() - start }
}

/**
 * On a machine that is busy with other things a holder renews its lease, those who wait ask again after a second, and a slow write to
 * the session is followed by a read.
 */
function expectCost({ scripts, ms }: Cost, expected: number, waiters = 0): void {
  const more = Math.floor(ms / RENEWAL_MS) + Math.floor(ms / 1_000) * waiters
  if (more === 0) expect(scripts).toBe(expected)
  else expect(scripts).toBeLessThanOrEqual(expected + more + 1)
}

/** One holds the lease, others wait for it, each with so many scripts; it commits, and they are told. */
async function storm(
  holder: RedisGrantStore,
  waiters: readonly RedisGrantStore[],
  each: number,
): Promise<void> {
  const grant = randomUUID()
  const record = { revision: 1, tokens: 'new' }
  await holder.lease(grant, { ...request, owner: 'holder' })
  const waiting = waiters.map((store, i) => store.lease(grant, { ...request, owner: `${i}` }))
  while ((await counts.scripts()) < 1 + each * waiters.length) await delay(10)
  await counts.subscribers(channel, new Set(waiters).size)
  await holder.commit(grant, 'holder', record)
  for (const answer of await Promise.all(waiting)) expect(answer).toEqual({ granted: false, record })
}
