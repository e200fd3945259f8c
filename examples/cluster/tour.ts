import assert from 'node:assert/strict'
import { setTimeout as sleep } from 'node:timers/promises'
import {
  CALLS,
  callAtOnce,
  letExpire,
  logIn,
  logOut,
  presentOldRefreshToken,
  rotated,
  sessionOf,
  statusOf,
} from '../demo/steps.js'
import {
  apiRows,
  type Outcome,
  only,
  type Step,
  seen,
  type Trip,
  take,
  tokenRows,
  tripThrough,
} from '../demo/trip.js'
import type { Visit } from '../demo/visitor.js'
import { type Cluster, startCluster } from './cluster.js'
import { untilUp } from './redis.js'

const ACCESS_TOKEN_SECONDS = 4
/** The pause between calls during the rolling restart. */
const PAUSE_MS = 20
/** A younger Redis may have forgotten leases in a restart, so it grants no lease of a grant that it does not know. */
const REDIS_SECONDS = 5

interface ClusterTrip extends Trip {
  readonly demo: Cluster
}

const steps: readonly Step<ClusterTrip>[] = [
  ['start', introduce],
  ['log in', logIn],
  ['call the API', callEachWorker],
  ['let it expire', letExpire],
  ['Redis', waitForRedis],
  [`${CALLS} calls at once`, callAllWorkers],
  ['let it expire', letExpire],
  ['kill -9', killRefresher],
  ['rolling restart', restartInTurn],
  ['log out', logOutEverywhere],
  ['old refresh token', presentOldRefreshToken],
]

/** Runs the cluster without a browser and prints each step. Resolves with whether all steps succeeded. */
export async function tour(workers: number): Promise<boolean> {
  const demo = await startCluster({ port: 0, accessTokenSeconds: ACCESS_TOKEN_SECONDS, workers })
  try {
    return await take(steps, { ...tripThrough(demo), demo })
  } finally {
    demo.door.open()
    await demo.close()
  }
}

async function introduce({ demo }: ClusterTrip): Promise<Outcome> {
  const { redis, team } = demo
  return ['', `${redis.name}, and ${team.names().join(', ')}`]
}

async function callEachWorker({ demo, visitor, news }: ClusterTrip): Promise<Outcome> {
  const names = demo.team.names()
  const visits = await Promise.all(names.map(() => statusOf(visitor.get('/api/orders'), 200)))
  assertAllOf(names, visits)
  assert.deepEqual(tokenRows(news()), [], 'a valid token should cost no token request')
  return [seen(news()), `each worker answered, with access token ${only(apiRows(news())).accessTokens}`]
}

async function waitForRedis({ demo }: ClusterTrip): Promise<Outcome> {
  const seconds = await demo.redis.uptimeSeconds()
  await untilUp(demo.redis, REDIS_SECONDS)
  const waited = seconds < REDIS_SECONDS ? `: the tour waited until it was ${REDIS_SECONDS}` : ''
  return [
    '',
    `${seconds} s old${waited}`,
    `A Redis younger than ${REDIS_SECONDS} s may have forgotten leases, so it grants none for grants that it does not know.`,
  ]
}

async function callAllWorkers(trip: ClusterTrip): Promise<Outcome> {
  const { visits, rotated } = await callAtOnce(trip)
  assertAllOf(trip.demo.team.names(), visits)
  return [seen(trip.news()), spread(visits), `1 refresh, by ${trip.demo.door.guests.at(-1)}, ${rotated}`]
}

/** Kills the worker with the lease of the grant just before it presents the refresh token. */
async function killRefresher({ demo, visitor, news }: ClusterTrip): Promise<Outcome> {
  const { door, team } = demo
  door.shut()
  const arrival = door.arrival()
  const call = visitor.get('/api/orders').then(
    ({ status }) => `answered ${status}`,
    () => 'lost',
  )
  const holder = await Promise.race([arrival, call])
  // The next calls go to the other workers, which wait for the lease.
  const others = team.names().filter((name) => name !== holder)
  assert.equal(others.length, team.names().length - 1, 'a worker should come to the token endpoint')
  const calls = Promise.all(others.map(() => statusOf(visitor.get('/api/orders'), 200)))
  const killedAt = performance.now()
  await Promise.all([door.departure(), team.kill(holder)])
  door.open()
  assert.equal(await call, 'lost', `the call that ${holder} had should die with it`)
  const visits = await calls
  const seconds = ((performance.now() - killedAt) / 1000).toFixed(1)
  assertAllOf(others, visits)
  await team.complete()
  return [
    seen(news()),
    `${holder} had the lease, and died at the door of the token endpoint; its call died with it`,
    `${spread(visits)}, after ${seconds} s, when the lease had run out`,
    `1 refresh, by ${door.guests.at(-1)}, ${rotated(news)}`,
    `${team.names().at(-1)} has taken its place`,
    'The refresh token had not been used. Had its answer died with the worker, the user would have to log in again.',
  ]
}

/** Restarts the workers while the user goes on calling the API. */
async function restartInTurn({ demo, visitor, news }: ClusterTrip): Promise<Outcome> {
  const { team } = demo
  const before = team.names()
  const visits: Visit[] = []
  let done = false
  const restarted = team.restart().finally(() => {
    done = true
  })
  while (!done) {
    visits.push(await statusOf(visitor.get('/api/orders'), 200))
    await sleep(PAUSE_MS)
  }
  await restarted
  const after = await Promise.all(team.names().map(() => statusOf(visitor.get('/api/orders'), 200)))
  assertAllOf(team.names(), after)
  assert.equal(before.filter((name) => team.names().includes(name)).length, 0)
  assert.equal((await sessionOf(visitor)).user, 'demo user')
  return [
    seen(news()),
    `${before.join(', ')} → ${team.names().join(', ')}`,
    `${visits.length} calls meanwhile, all answered; still logged in`,
  ]
}

async function logOutEverywhere(trip: ClusterTrip): Promise<Outcome> {
  const { demo, visitor, news } = trip
  // It keeps the cookie that the logout deletes.
  const twin = visitor.twin()
  const calls = apiRows(demo.timeline.rows)
  const { visit, revoked } = await logOut(trip)
  const refused = await Promise.all(demo.team.names().map(() => statusOf(twin.get('/api/orders'), 401)))
  assertAllOf(demo.team.names(), refused)
  assert.deepEqual(apiRows(demo.timeline.rows), calls, 'nothing should be sent for someone who is logged out')
  return [
    seen(news()),
    `in ${answeredBy(visit)}: ${revoked}`,
    `the old cookie gets 401, ${spread(refused)}; the API saw nothing`,
  ]
}

function assertAllOf(names: readonly string[], visits: readonly Visit[]): void {
  assert.deepEqual(
    [...new Set(visits.map(answeredBy))].sort(),
    [...names].sort(),
    'each worker should answer',
  )
}

/** How many calls each worker has handled. */
function spread(visits: readonly Visit[]): string {
  const counts = new Map<string, number>()
  const byNumber = (a: string, b: string) => a.localeCompare(b, 'en', { numeric: true })
  for (const name of visits.map(answeredBy).sort(byNumber)) counts.set(name, (counts.get(name) ?? 0) + 1)
  return `answered by ${[...counts].map(([name, count]) => `${name} (${count})`).join(', ')}`
}

function answeredBy({ headers }: Visit): string {
  return headers.get('x-answered-by') ?? 'no worker'
}
