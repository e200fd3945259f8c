import assert from 'node:assert/strict'
import { setTimeout as sleep } from 'node:timers/promises'
import { apiRows, type Outcome, only, seen, type Trip, tokenRows } from './trip.js'
import type { Visit, Visitor } from './visitor.js'

/** How many calls come at once. */
export const CALLS = 50

export async function logIn({ visitor, news }: Trip): Promise<Outcome> {
  const page = await visitor.get('/login')
  assert.match(page.url, /\/interaction\//, 'the authorization server should ask the user')
  const home = await visitor.post(page.url)
  assert.equal(home.status, 200, 'the login should end at the page')
  assert.equal((await sessionOf(visitor)).user, 'demo user')
  const { accessToken, expiresIn } = only(tokenRows(news()))
  return [seen(news()), `access token ${accessToken}, good for ${expiresIn} s`]
}

export async function letExpire({ visitor }: Pick<Trip, 'visitor'>): Promise<Outcome> {
  const { expiresInMs } = await sessionOf(visitor)
  await sleep(expiresInMs)
  return ['', 'the access token has expired']
}

/** Calls the API many times at once: there is one refresh for all. */
export async function callAtOnce({ visitor, news }: Trip): Promise<{ visits: Visit[]; rotated: string }> {
  const visits = await Promise.all(
    Array.from({ length: CALLS }, () => statusOf(visitor.get('/api/orders'), 200)),
  )
  const { answered, refused, refreshes } = only(apiRows(news()))
  assert.deepEqual({ answered, refused, refreshes }, { answered: CALLS, refused: 0, refreshes: 1 })
  return { visits, rotated: rotated(news) }
}

/** The refresh token that the only refresh of a step presented, and the one that it got. */
export function rotated(news: Trip['news']): string {
  const { presented, refreshToken } = only(tokenRows(news()))
  return `refresh token ${presented} → ${refreshToken}`
}

/** Logs out. Resolves with the refresh token that was revoked. */
export async function logOut({ visitor, news }: Trip): Promise<{ visit: Visit; revoked: string }> {
  const visit = await statusOf(visitor.post('/logout'), 200)
  assert.deepEqual(JSON.parse(visit.text), { revoked: true })
  return { visit, revoked: `refresh token ${only(tokenRows(news())).presented} revoked` }
}

export async function presentOldRefreshToken({ demo, refreshToken, news }: Trip): Promise<Outcome> {
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

export async function statusOf(visit: Promise<Visit>, expected: number): Promise<Visit> {
  const answer = await visit
  const { pathname } = new URL(answer.url)
  assert.equal(answer.status, expected, `${pathname} should answer ${expected}, not ${answer.status}`)
  return answer
}

export async function sessionOf(
  visitor: Visitor,
): Promise<{ user: string; placed: number[]; expiresInMs: number }> {
  return JSON.parse((await statusOf(visitor.get('/api/session'), 200)).text)
}
