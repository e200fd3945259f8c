import assert from 'node:assert/strict'
import { setTimeout as sleep } from 'node:timers/promises'
import { type Demo, startDemo } from './demo.js'
import type { ApiRow, Row, TokenRow } from './timeline.js'
import { type Visit, type Visitor, visitor } from './visitor.js'

const CALLS = 50
const ACCESS_TOKEN_SECONDS = 4

/** What the steps of the tour share. */
interface Trip {
  readonly demo: Demo
  readonly visitor: Visitor
  /** The warehouse confirms the order that waits for it. */
  confirm(): void
  /** The newest refresh token, as the authorization server issued it. */
  refreshToken(): string
  /** The rows of the time line since the step began. */
  news(): Row[]
}

/** What is printed of a step: what the authorization server saw, and what became of it. */
type Outcome = readonly [authorizationServer: string, outcome: string]
type Step = readonly [name: string, run: (trip: Trip) => Promise<Outcome>]

const steps: readonly Step[] = [
  ['log in', logIn],
  ['call the API', callOnce],
  ['let it expire', letExpire],
  [`${CALLS} calls at once`, callAtOnce],
  ["the API's view", viewOfApi],
  ['slow order', overlapRefresh],
  ['log out', logOut],
  ['call the API', callLoggedOut],
  ['old refresh token', presentOldRefreshToken],
]

/** Goes through the demo without a browser and prints what happens. Resolves with whether all went as it should. */
export async function tour(): Promise<boolean> {
  const startedAt = performance.now()
  const print = (step: string, ...[authorizationServer, outcome]: Outcome) => {
    const seconds = ((performance.now() - startedAt) / 1000).toFixed(2)
    const columns = [`${seconds.padStart(5)} s`, step.padEnd(17), authorizationServer.padEnd(29), outcome]
    console.log(columns.join('  '))
  }
  const { trip, begin } = await startTrip()
  try {
    for (const [name, run] of steps) {
      begin()
      try {
        print(name, ...(await run(trip)))
      } catch (error) {
        const [what = ''] = (error as Error).message.split('\n')
        print(name, 'WENT WRONG', what)
        return false
      }
    }
    return true
  } finally {
    trip.confirm()
    await trip.demo.close()
  }
}

async function startTrip(): Promise<{ trip: Trip; begin: () => void }> {
  const { promise: confirmed, resolve: confirm } = deferred()
  const demo = await startDemo({
    port: 0,
    accessTokenSeconds: ACCESS_TOKEN_SECONDS,
    warehouse: () => confirmed,
  })
  let refreshToken = ''
  demo.provider.on('grant.success', (ctx) => {
    refreshToken = (ctx.body as { refresh_token: string }).refresh_token
  })
  let first = 0
  const trip: Trip = {
    demo,
    visitor: visitor(demo.url),
    confirm,
    refreshToken: () => refreshToken,
    news: () => demo.timeline.rows.slice(first),
  }
  return {
    trip,
    begin: () => {
      first = demo.timeline.rows.length
    },
  }
}

async function logIn({ visitor, news }: Trip): Promise<Outcome> {
  const page = await visitor.get('/login')
  assert.match(page.url, /\/interaction\//, 'the authorization server should ask the user')
  const home = await visitor.post(page.url)
  assert.equal(home.status, 200, 'the login should end at the page')
  assert.equal((await sessionOf(visitor)).user, 'demo user')
  const { accessToken, expiresIn } = only(tokenRows(news()))
  return [seen(news()), `access token ${accessToken}, good for ${expiresIn} s`]
}

async function callOnce({ visitor, news }: Trip): Promise<Outcome> {
  await statusOf(visitor.get('/api/orders'), 200)
  assert.deepEqual(tokenRows(news()), [], 'a valid token should cost no token request')
  return [seen(news()), `1 call answered, access token ${only(apiRows(news())).accessTokens}`]
}

async function letExpire({ visitor }: Pick<Trip, 'visitor'>): Promise<Outcome> {
  const { expiresInMs } = await sessionOf(visitor)
  await sleep(expiresInMs)
  return ['', 'the access token has expired']
}

async function callAtOnce({ visitor, news }: Trip): Promise<Outcome> {
  await Promise.all(Array.from({ length: CALLS }, () => statusOf(visitor.get('/api/orders'), 200)))
  const { answered, refused, refreshes } = only(apiRows(news()))
  assert.deepEqual({ answered, refused, refreshes }, { answered: CALLS, refused: 0, refreshes: 1 })
  const { presented, refreshToken } = only(tokenRows(news()))
  return [seen(news()), `${answered} calls answered, 1 refresh, refresh token ${presented} → ${refreshToken}`]
}

async function viewOfApi({ demo }: Trip): Promise<Outcome> {
  const [before, after] = apiRows(demo.timeline.rows)
  assert.equal(before?.accessTokens.length, 1)
  assert.equal(after?.accessTokens.length, 1, `the ${CALLS} calls should bring one access token`)
  assert.notDeepEqual(before?.accessTokens, after?.accessTokens, 'the calls should bring a new access token')
  return ['', `access token ${before?.accessTokens} → ${after?.accessTokens}, one for all ${CALLS} calls`]
}

/** A request that has loaded its session before the refresh saves it after: nothing that either wrote may get lost. */
async function overlapRefresh({ demo, visitor, confirm, news }: Trip): Promise<Outcome> {
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
  const { presented, refreshToken } = only(tokenRows(news()))
  return [seen(news()), `the order is in the session, refresh token ${presented} → ${refreshToken}`]
}

async function logOut({ visitor, news }: Trip): Promise<Outcome> {
  const { text } = await statusOf(visitor.post('/logout'), 200)
  assert.deepEqual(JSON.parse(text), { revoked: true })
  return [seen(news()), `refresh token ${only(tokenRows(news())).presented} revoked`]
}

async function callLoggedOut({ visitor, news }: Trip): Promise<Outcome> {
  await statusOf(visitor.get('/api/orders'), 401)
  assert.deepEqual(news(), [], 'nothing should be sent for someone who is logged out')
  return [seen(news()), '401, and the API saw nothing']
}

async function presentOldRefreshToken({ demo, refreshToken, news }: Trip): Promise<Outcome> {
  const { id, secret } = demo.client
  const answer = await fetch(`${demo.provider.issuer}/token`, {
    method: 'POST',
    headers: { Authorization: `Basic ${Buffer.from(`${id}:${secret}`).toString('base64')}` },
    body: new URLSearchParams({ grant_type: 'refresh_token', refresh_token: refreshToken() }),
  })
  assert.equal(answer.status, 400)
  const { presented, error } = only(tokenRows(news()))
  assert.equal(error, 'invalid_grant')
  return [seen(news()), `refresh token ${presented} is no longer accepted: ${error}`]
}

/** What the authorization server saw of a step. */
function seen(rows: readonly Row[]): string {
  const requests = tokenRows(rows).map(({ request, status }) => `${request} → ${status}`)
  return requests.join(', ') || 'nothing'
}

function tokenRows(rows: readonly Row[]): TokenRow[] {
  return rows.filter((row) => row.kind === 'token')
}

function apiRows(rows: readonly Row[]): ApiRow[] {
  return rows.filter((row) => row.kind === 'api')
}

function only<T>(rows: readonly T[]): T {
  assert.equal(rows.length, 1, `the time line should have 1 row of this kind, not ${rows.length}`)
  return rows[0] as T
}

async function statusOf(visit: Promise<Visit>, expected: number): Promise<Visit> {
  const answer = await visit
  const { pathname } = new URL(answer.url)
  assert.equal(answer.status, expected, `${pathname} should answer ${expected}, not ${answer.status}`)
  return answer
}

async function sessionOf(visitor: Visitor): Promise<{ user: string; placed: number[]; expiresInMs: number }> {
  return JSON.parse((await statusOf(visitor.get('/api/session'), 200)).text)
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
