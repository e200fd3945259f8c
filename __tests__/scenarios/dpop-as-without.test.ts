import { afterEach, beforeEach, describe, expect, it } from '@jest/globals'
import { decodeJwt } from 'jose'
import { memoryGrantStore } from '../../lib/grants/memory-grant-store.js'
import { type AuthorizationServer, startAuthorizationServer } from '../helpers/authorization-server.js'
import type { BrowserAnswer } from '../helpers/browser.js'
import { testClock } from '../helpers/clock.js'
import { dpopLogin, startDpopSite } from '../helpers/dpop-site.js'
import { type Site, type SiteOptions, sharedSessions } from '../helpers/site.js'

const [A, B] = ['https://a.example', 'https://b.example']

let server: AuthorizationServer
let sites: Site[]

beforeEach(async () => {
  // The proofs have the time of the site's clock, which is ahead: the nonces of the server meet that.
  server = await startAuthorizationServer({ dpopNonces: 'required' })
  sites = []
})
afterEach(async () => {
  for (const site of sites) await site.close()
  await server.close()
})

const HOUR_MS = 3_600_000

async function siteWith(options: SiteOptions = {}): Promise<Site> {
  const site = await startDpopSite(server, options)
  sites.push(site)
  return site
}

/** The one token that all responses hold. */
function theToken(answers: BrowserAnswer[]): string {
  const tokens = new Set(
    answers.map(({ json, status }) => (status === 200 ? json.token : `status ${status}`)),
  )
  expect(tokens.size).toBe(1)
  return [...tokens][0]
}

const atOnce = <T>(times: number, ask: () => Promise<T>) => Promise.all(Array.from({ length: times }, ask))

/** No refresh token was refused, and each was spent once: a request that is sent again for a nonce was refused unread. */
function expectOneUse(refreshes: number): void {
  expect(server.refreshes()).toBe(refreshes)
  expect(server.reuses()).toBe(0)
  const read = server.tokenRequests.filter(({ error }) => error !== 'use_dpop_nonce')
  const presented = read.flatMap(({ refreshToken }) => refreshToken ?? [])
  expect(new Set(presented).size).toBe(presented.length)
}

describe('with DPoP, as without', () => {
  it('S10 S101 50 requests at once on an expired token: one refresh, one token', async () => {
    const site = await siteWith()
    const browser = site.browser()
    await dpopLogin(server, browser)
    site.clock.advance(HOUR_MS)
    theToken(await atOnce(50, () => browser.get('/token')))
    expectOneUse(1)
  })

  it('S12 S101 a slow request writes the old session back after a refresh: no further refresh', async () => {
    const clock = testClock()
    const grants = memoryGrantStore()
    const openSessions = sharedSessions()
    const options = { clock, surroundings: { grants }, session: { resave: true } }
    const site = await siteWith({ ...options, store: openSessions() })
    const other = await siteWith({ ...options, store: openSessions() })
    const browser = site.browser()
    await dpopLogin(server, browser)
    const late = other.visitorOf(browser)
    const gate = other.slow('/late', (request) => request.tokens.getAccessToken())
    clock.advance(HOUR_MS)
    const slow = late.get('/late')
    await gate.reached
    const token = theToken([await browser.get('/token')])
    gate.release()
    expect(theToken([await slow])).toBe(token)
    expect(theToken([...(await atOnce(5, () => late.get('/token')))])).toBe(token)
    expectOneUse(1)
  })

  it('S15 S101 two resources at once on one refresh token: each gets its own, bound to the same key', async () => {
    const site = await siteWith()
    const browser = site.browser()
    const thumbprint = await dpopLogin(server, browser, 'user', { resource: [A!, B!] })
    const ask = (resource: string) => browser.get(`/token?resource=${resource}`)
    const answers = await Promise.all([atOnce(10, () => ask(A!)), atOnce(10, () => ask(B!))])
    const claims = answers.map((ofOne) => decodeJwt(theToken(ofOne)))
    expect(claims.map(({ aud }) => aud)).toEqual([A, B])
    expect(claims.map(({ cnf }) => cnf)).toEqual([{ jkt: thumbprint }, { jkt: thumbprint }])
    expectOneUse(2)
  })

  it('S21 S101 a slow request sets views during a refresh: both stay', async () => {
    const site = await siteWith()
    const browser = site.browser()
    const thumbprint = await dpopLogin(server, browser)
    const gate = site.slow('/count', (request) => {
      request.session.views = 7
    })
    const count = browser.get('/count')
    await gate.reached
    site.clock.advance(HOUR_MS)
    const token = theToken([await browser.get('/token')])
    gate.release()
    await count
    expect(await site.stored(browser)).toMatchObject({ views: 7 })
    expect(theToken([await browser.get('/token')])).toBe(token)
    expect((await browser.get('/begin')).json).toBe(thumbprint)
    expectOneUse(1)
  })

  it('S35 S101 revoke() during a refresh: the late tokens are revoked with a proof, and the session stays logged out', async () => {
    let ending = () => {}
    const onEvent = ({ type }: { type: string }) => {
      if (type === 'ended') ending()
    }
    const site = await siteWith({ tokens: { onEvent } })
    const browser = site.browser()
    await dpopLogin(server, browser)
    site.clock.advance(HOUR_MS)
    const gate = server.holdAnswer(({ error }) => error === undefined)
    const token = browser.get('/token')
    await gate.reached
    const clearing = new Promise<void>((resolve) => {
      ending = resolve
    })
    const out = browser.clone().post('/logout')
    await clearing
    gate.release()
    expect((await out).status).toBe(200)
    expect((await token).status).toBe(401)
    expect((await browser.get('/token')).json.code).toBe('ERR_NO_TOKENS')
    expect(server.revocations.at(-1)).toMatchObject({ status: 200, dpop: expect.any(String) })
    expectOneUse(1)
  })
})
