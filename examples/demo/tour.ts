import assert from 'node:assert/strict'
import { type Demo, startDemo } from './demo.js'
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
} from './steps.js'
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
} from './trip.js'

const ACCESS_TOKEN_SECONDS = 4

interface DemoTrip extends Trip {
  /** Confirms the waiting order. */
  confirm(): void
}

const steps: readonly Step<DemoTrip>[] = [
  ['log in', logIn],
  ['call the API', callOnce],
  ['let it expire', letExpire],
  [`${CALLS} calls at once`, callOften],
  ["the API's view", viewOfApi],
  ['slow order', overlapRefresh],
  ['log out', logOutForGood],
  ['call the API', callLoggedOut],
  ['old refresh token', presentOldRefreshToken],
]

/** Runs the demo without a browser and prints each step. Resolves with whether all steps succeeded. */
export async function tour(): Promise<boolean> {
  const { promise: confirmed, resolve: confirm } = deferred()
  const demo = await startDemo({
    port: 0,
    accessTokenSeconds: ACCESS_TOKEN_SECONDS,
    warehouse: () => confirmed,
  })
  try {
    return await take(steps, { ...tripThrough(demo), confirm })
  } finally {
    confirm()
    await demo.close()
  }
}

async function callOnce({ visitor, news }: Trip): Promise<Outcome> {
  await statusOf(visitor.get('/api/orders'), 200)
  assert.deepEqual(tokenRows(news()), [], 'a valid token should cost no token request')
  return [seen(news()), `1 call answered, access token ${only(apiRows(news())).accessTokens}`]
}

async function callOften(trip: Trip): Promise<Outcome> {
  const { visits, rotated } = await callAtOnce(trip)
  return [seen(trip.news()), `${visits.length} calls answered, 1 refresh, ${rotated}`]
}

async function viewOfApi({ demo }: Trip): Promise<Outcome> {
  const [before, after] = apiRows(demo.timeline.rows)
  assert.equal(before?.accessTokens.length, 1)
  assert.equal(after?.accessTokens.length, 1, `the ${CALLS} calls should bring one access token`)
  assert.notDeepEqual(before?.accessTokens, after?.accessTokens, 'the calls should bring a new access token')
  return ['', `access token ${before?.accessTokens} → ${after?.accessTokens}, one for all ${CALLS} calls`]
}

/** A request loads its session before a refresh and saves it afterwards: the changes of both must stay. */
async function overlapRefresh({ demo, visitor, confirm, news }: DemoTrip): Promise<Outcome> {
  const order = statusOf(visitor.post('/api/orders'), 201)
  await Promise.race([nextRow(demo), order])
  await letExpire({ visitor })
  await statusOf(visitor.get('/api/orders'), 200)
  assert.equal(tokenRows(news()).length, 1, 'there should be one refresh while the order is under way')
  confirm()
  await order
  await statusOf(visitor.get('/api/orders'), 200)
  const { placed } = await sessionOf(visitor)
  assert.deepEqual(placed, [1004], 'the session should hold the order')
  return [seen(news()), `the order is in the session, ${rotated(news)}`]
}

async function logOutForGood(trip: Trip): Promise<Outcome> {
  const { revoked } = await logOut(trip)
  return [seen(trip.news()), revoked]
}

async function callLoggedOut({ visitor, news }: Trip): Promise<Outcome> {
  await statusOf(visitor.get('/api/orders'), 401)
  assert.deepEqual(news(), [], 'nothing should be sent for someone who is logged out')
  return [seen(news()), '401, and the API saw nothing']
}

function nextRow({ timeline }: Demo): Promise<void> {
  return new Promise((resolve) => {
    const unfollow = timeline.follow(() => {
      unfollow()
      resolve()
    })
  })
}

function deferred(): { promise: Promise<void>; resolve: () => void } {
  let resolve = () => {}
  const promise = new Promise<void>((done) => {
    resolve = done
  })
  return { promise, resolve }
}
