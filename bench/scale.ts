import { randomBytes, randomUUID } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import type { Redis } from 'ioredis'
import { systemClock } from '../lib/concurrency/clock.js'
import { GrantRegistry } from '../lib/grants/grant-registry.js'
import type { GrantRecord, GrantStore } from '../lib/grants/grant-store.js'
import { memoryGrantStore } from '../lib/index.js'
import { redisGrantStore } from '../lib/redis.js'
import type { TokenSet } from '../lib/tokens/token-set.js'
import type { Benchmark, BenchmarkResult, RunOptions } from './harness/benchmark.js'
import { repeat } from './harness/load.js'
import { infoOf, startRedis } from './harness/redis.js'
import { Browsers } from './load/browsers.js'
import { startSite, startTokenEndpoint } from './load/processes.js'

/** The sizes of the tokens of a grant: about those of a signed access token, and of an opaque refresh token. */
const ACCESS_TOKEN_BYTES = 900
const REFRESH_TOKEN_BYTES = 44
const HOUR_MS = 3_600_000
const ROUNDS = 15

setFlagsFromString('--expose-gc')
const collectGarbage: () => void = runInNewContext('gc')

export const benchmark: Benchmark = {
  name: 'scale',
  title: 'Scale: what a grant takes in memory and in Redis, and what a look-up among many costs',
  run,
}

async function run({ quick, progress }: RunOptions): Promise<BenchmarkResult> {
  const sizes = quick ? [1_000, 10_000] : [1_000, 10_000, 100_000]
  progress('waiting until Redis is old enough')
  const { client, url } = await startRedis()
  const rows: Row[] = []
  for (const grants of sizes) {
    for (const [place, measure] of Object.entries(PLACES)) {
      progress(`${place}, ${grants} grants`)
      rows.push({ place, grants, ...(await measure(grants, client)) })
    }
  }
  progress('refreshes over Redis')
  const refresh = await refreshCosts(client, url, quick ? 50 : 500)
  const kept = rows.every(({ forgotten, grants }) => forgotten === 0 || forgotten === grants)
  return {
    rows: rows.map((row) => ({ ...row, forgotten: row.forgotten || '' })),
    reach: [
      ...Object.keys(PLACES).map((place) => flat(place, rows)),
      { text: 'each grant beyond the limit makes the oldest one be forgotten', holds: kept },
      {
        text: `a refresh takes 2 commands on the grant store: ${refresh.ofGrants.toFixed(2)}`,
        holds: refresh.ofGrants < 2.1,
      },
    ],
    chart: {
      kind: 'lines',
      title: 'Memory of a grant',
      unit: `bytes, of which ${ACCESS_TOKEN_BYTES + REFRESH_TOKEN_BYTES} are the tokens`,
      over: 'grants',
      labels: sizes.map((size) => size.toLocaleString('en')),
      series: Object.keys(PLACES).map((name) => ({
        name,
        values: rows.filter(({ place }) => place === name).map((row) => row['bytes a grant']),
      })),
    },
    notes: [
      `A grant has an access token of ${ACCESS_TOKEN_BYTES} bytes and a refresh token of ${REFRESH_TOKEN_BYTES}.`,
      'look-up: of one grant among all, at random; beside it that in a bare Map of as many entries. In Redis: a read over the network, one at a time, beside a PING.',
      'forgotten: how many grants a full store forgot while as many others were added.',
      `A refresh takes a third command when the write of its session took longer than 50 ms.`,
      `A refresh over Redis, with its session in Redis too: ${refresh.ofGrants.toFixed(1)} commands and ${refresh.ofSessions.toFixed(1)} on the session store; ${Math.round(refresh.inBytes)} bytes to Redis and ${Math.round(refresh.outBytes)} from it, sealed.`,
    ],
  }
}

interface Costs {
  readonly 'bytes a grant': number
  readonly 'look-up µs': number
  /** What the least look-up takes. */
  readonly 'limit µs': number
  /** How many grants a full store forgot while as many others were added. */
  readonly forgotten: number
}

interface Row extends Costs {
  readonly place: string
  readonly grants: number
}

const PLACES: Record<string, (grants: number, redis: Redis) => Promise<Costs>> = {
  'what a process knows': async (grants) => {
    const registry = new GrantRegistry(systemClock, { maxGrants: grants })
    const fill = () => fillWith(grants, (id) => void registry.learn(tokenSet(id)))
    const { ids, bytes } = await bytesOf(fill)
    const map = mapOf(ids)
    const lookUp = (id: string) => registry.tokensOf(id)?.revision
    const times = await timesOf(ids, lookUp, (id) => map.get(id)?.index)
    await fill()
    const forgotten = ids.filter((id) => registry.peek(id) === undefined).length
    return { 'bytes a grant': bytes, ...times, forgotten }
  },
  'memoryGrantStore()': async (grants) => {
    let forgotten = 0
    const store = memoryGrantStore({ maxGrants: grants })
    const retention = { ttlMs: HOUR_MS, onEvicted: () => void forgotten++ }
    const fill = () => fillWith(grants, (id) => store.commit(id, 'bench', recordOf(id), retention))
    const { ids, bytes } = await bytesOf(fill)
    const map = mapOf(ids)
    const limit = async (id: string) => map.get(id)?.index
    const times = await timesOf(ids, (id) => store.read(id), limit)
    await fill()
    return { 'bytes a grant': bytes, ...times, forgotten }
  },
  'redisGrantStore()': async (grants, redis) => {
    await redis.flushall()
    const before = await infoOf(redis, 'used_memory')
    const store = redisGrantStore(redis)
    const ids = await fillRedis(store, grants)
    const bytes = ((await infoOf(redis, 'used_memory')) - before) / grants
    const some = ids.slice(0, 200)
    const times = await timesOf(
      some,
      (id) => store.read(id),
      () => redis.ping(),
    )
    await store.close()
    return { 'bytes a grant': bytes, ...times, forgotten: 0 }
  },
}

/** What one refresh costs Redis: a request that refreshes, without what a request with a valid token costs. */
async function refreshCosts(redis: Redis, redisUrl: string, sessions: number) {
  // The tokens of the login have expired when the last session has logged in.
  const endpoint = await startTokenEndpoint({ latencyMs: 20, lifetimeMs: 1_000 })
  const site = await startSite(endpoint, {}, redisUrl)
  const browsers = new Browsers([site.port])
  await browsers.logIn(sessions)
  await delay(1_000)
  await endpoint.ask('set', { lifetimeMs: HOUR_MS })
  // Redis gets to know the scripts.
  const [first, ...others] = browsers.all
  await browsers.ask(first!)
  const costOfAll = async () => {
    const before = await countsOf(redis)
    const asked = await browsers.askAll(10, others)
    if (asked.some(({ status }) => status !== 200)) throw new Error('A refresh failed.')
    const after = await countsOf(redis)
    return after.map((count, index) => (count - before[index]!) / others.length)
  }
  const refreshing = await costOfAll()
  const valid = await costOfAll()
  browsers.close()
  const [ofGrants = 0, ofSessions = 0, inBytes = 0, outBytes = 0] = refreshing.map(
    (cost, index) => cost - valid[index]!,
  )
  return { ofGrants, ofSessions, inBytes, outBytes }
}

/** How many commands and bytes Redis has had: commands of the grant store, those of sessions, bytes in, bytes out. */
async function countsOf(redis: Redis): Promise<number[]> {
  const stats = await redis.info('commandstats')
  const calls = (pattern: RegExp) =>
    [...stats.matchAll(pattern)].reduce((sum, [, count]) => sum + Number(count), 0)
  const ofGrants = calls(/^cmdstat_eval(?:sha)?:calls=(\d+)/gm)
  const ofSessions = calls(/^cmdstat_(?:get|set|expire):calls=(\d+)/gm)
  const bytes = ['total_net_input_bytes', 'total_net_output_bytes'].map((name) => infoOf(redis, name))
  return [ofGrants, ofSessions, ...(await Promise.all(bytes))]
}

/** Returns how much the memory grows for each of the grants that are added. */
async function bytesOf(fill: () => Promise<string[]>): Promise<{ ids: string[]; bytes: number }> {
  const before = await heapUsed()
  const ids = await fill()
  // The list of the ids is not part of it; the ids are.
  const list = ids.length * 8
  return { ids, bytes: ((await heapUsed()) - before - list) / ids.length }
}

async function heapUsed(): Promise<number> {
  for (let round = 0; round < 3; round++) {
    // Objects that one turn of the event loop has used can be collected in the next turn only.
    await delay(20)
    collectGarbage()
  }
  return process.memoryUsage().heapUsed
}

async function fillWith(grants: number, add: (id: string) => unknown): Promise<string[]> {
  const ids: string[] = []
  for (let index = 0; index < grants; index++) {
    const id = randomUUID()
    await add(id)
    ids.push(id)
  }
  return ids
}

async function fillRedis(store: GrantStore, grants: number): Promise<string[]> {
  const ids: string[] = []
  await repeat(grants, 200, async () => {
    const id = randomUUID()
    await store.commit(id, 'bench', recordOf(id))
    ids.push(id)
  })
  return ids
}

type LookUp = (id: string) => unknown

/** Measures a look-up and its limit in turns. The fastest of all rounds counts: it was disturbed least. */
async function timesOf(ids: readonly string[], lookUp: LookUp, limit: LookUp) {
  const shuffled = ids.toSorted(() => Math.random() - 0.5)
  const times: Pick<Costs, 'look-up µs' | 'limit µs'>[] = []
  for (let round = 0; round < ROUNDS; round++)
    times.push({ 'look-up µs': await timeOf(shuffled, lookUp), 'limit µs': await timeOf(shuffled, limit) })
  const least = (name: 'look-up µs' | 'limit µs') => Math.min(...times.map((time) => time[name]))
  return { 'look-up µs': least('look-up µs'), 'limit µs': least('limit µs') }
}

/** The time of one look-up, in microseconds. */
async function timeOf(ids: readonly string[], lookUp: LookUp): Promise<number> {
  const startedAt = performance.now()
  for (const id of ids) {
    const found = lookUp(id)
    if (found instanceof Promise) await found
  }
  return ((performance.now() - startedAt) * 1000) / ids.length
}

function mapOf(ids: readonly string[]): Map<string, { index: number }> {
  return new Map(ids.map((id, index) => [id, { index }]))
}

function tokenSet(grantId: string): TokenSet {
  const obtainedAt = Date.now()
  return {
    grantId,
    proof: randomBytes(24).toString('base64url'),
    revision: 1,
    refreshToken: randomText(REFRESH_TOKEN_BYTES),
    accessTokens: [
      {
        token: randomText(ACCESS_TOKEN_BYTES),
        tokenType: 'Bearer',
        obtainedAt,
        expiresAt: obtainedAt + HOUR_MS,
      },
    ],
  }
}

function recordOf(grantId: string): GrantRecord {
  return { revision: 1, tokens: JSON.stringify(tokenSet(grantId)) }
}

function randomText(length: number): string {
  return randomBytes(Math.ceil((length * 3) / 4))
    .toString('base64url')
    .slice(0, length)
}

/** Whether a place takes as much for each of many grants as for each of few, and finds them as quickly as its limit allows. */
function flat(place: string, rows: readonly Row[]) {
  const ofPlace = rows.filter((row) => row.place === place)
  const [few, many] = [ofPlace[0]!, ofPlace.at(-1)!]
  const bytes = many['bytes a grant'] / few['bytes a grant']
  const ratio = ({ 'look-up µs': lookUp, 'limit µs': limit }: Row) => lookUp / limit
  const time = ratio(many) / ratio(few)
  const text = `${place}: among ${many.grants.toLocaleString('en')} grants a grant takes ${bytes.toFixed(2)} times the bytes, and a look-up ${time.toFixed(2)} times as long beside its limit`
  return { text, holds: bytes < 1.25 && time < 3 }
}
