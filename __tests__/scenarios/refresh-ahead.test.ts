import { describe, expect, it, jest } from '@jest/globals'
import cookieSession from 'cookie-session'
import express from 'express'
import { clientSecretBasic, type SessionTokensOptions } from '../../lib/index.js'
import { composeMiddleware } from '../../lib/middleware/composition.js'
import { middlewareOf } from '../../lib/middleware/express.js'
import { startApp } from '../helpers/app.js'
import { browser } from '../helpers/browser.js'
import { testClock } from '../helpers/clock.js'
import { createGate } from '../helpers/gate.js'
import { ownProcess, recordingGrants, type SiteOptions, sharedSessions } from '../helpers/site.js'
import { HOUR_MS, testSites } from '../helpers/test-sites.js'

const MINUTE_MS = 60_000
/** Within the minute before the expiry, and after the longest jitter. */
const DUE_MS = HOUR_MS - 50_000

const { server, start, held, loggedIn } = await testSites()

/** The defaults of the library. */
const steady = (options: SiteOptions = {}): SiteOptions => ({
  ...options,
  tokens: { leewayMs: 10_000, refreshAheadMs: MINUTE_MS, ...options.tokens } as never,
})

/** Waits until a site has emitted so many events of a type. */
async function emitted(site: Awaited<ReturnType<typeof start>>, type: string, count = 1): Promise<void> {
  while (site.events.filter((event) => event.type === type).length < count) {
    await new Promise((resolve) => setImmediate(resolve))
  }
}

describe('S7 a token that expires within refreshAheadMs', () => {
  it('S7 is served at once, and refreshed beside the requests, once', async () => {
    const site = await start(steady())
    const tab = await loggedIn(site)
    const { token } = (await tab.get('/token')).json
    site.clock.advance(DUE_MS)
    const before = server.refreshes()
    const gate = held(server.hold())
    const polls = await Promise.all(Array.from({ length: 10 }, () => tab.clone().get('/token')))
    expect(polls.map(({ json }) => json.token)).toEqual(polls.map(() => token))
    await gate.reached
    gate.release()
    await emitted(site, 'refreshed')
    expect(server.refreshes() - before).toBe(1)
    expect(site.events).toContainEqual(
      expect.objectContaining({ type: 'refreshed', reason: 'ahead', waiting: 0 }),
    )
    const next = (await tab.get('/token')).json.token
    expect(next).not.toBe(token)
    expect(await server.isActive(next)).toBe(true)
  })

  it.each([
    ['before refreshAheadMs', HOUR_MS - MINUTE_MS - 1, 1, 0],
    ['at refreshAheadMs, without a jitter', HOUR_MS - MINUTE_MS, 0, 1],
    ['at refreshAheadMs, with the longest jitter', HOUR_MS - MINUTE_MS, 1, 0],
    ['before the end of the longest jitter', HOUR_MS - MINUTE_MS + 3_900, 1, 0],
    ['at the end of the longest jitter', HOUR_MS - MINUTE_MS + 5_000, 1, 1],
  ])('S7 %s: a tenth of the time to leewayMs at most', async (_, ageMs, jitter, refreshes) => {
    const random = jest.spyOn(Math, 'random').mockReturnValue(jitter)
    try {
      const site = await start(steady())
      const tab = await loggedIn(site)
      site.clock.advance(ageMs)
      const before = server.refreshes()
      await tab.get('/token')
      await site.close()
      expect(server.refreshes() - before).toBe(refreshes)
    } finally {
      random.mockRestore()
    }
  })

  it('S7 a caller within leewayMs joins the refresh that began ahead', async () => {
    const site = await start(steady())
    const tab = await loggedIn(site)
    const { token } = (await tab.get('/token')).json
    site.clock.advance(DUE_MS)
    const gate = held(server.hold())
    const asked = held(createGate())
    site.handle('/waiting', ({ tokens }) => {
      const token = tokens.getAccessToken()
      void asked.pass()
      return token
    })
    const before = server.refreshes()
    await tab.get('/token')
    await gate.reached
    site.clock.advance(50_000)
    const waiting = tab.get('/waiting')
    await asked.reached
    gate.release()
    expect((await waiting).json.token).not.toBe(token)
    expect(server.refreshes() - before).toBe(1)
    expect(site.events).toContainEqual(
      expect.objectContaining({ type: 'refreshed', reason: 'ahead', waiting: 1 }),
    )
  })

  it.each([
    ['minValidityMs', '/token?minValidityMs=120000'],
    ['a rejected token', '/rejected'],
  ])('S7 a caller with %s waits', async (_, path) => {
    const site = await start(steady())
    site.handle('/rejected', async ({ tokens }) => {
      const { token } = await tokens.getAccessToken()
      return tokens.getAccessToken({ rejected: token })
    })
    const tab = await loggedIn(site)
    const { token } = (await tab.get('/token')).json
    site.clock.advance(DUE_MS)
    const { json } = await tab.get(path)
    expect([json.token === token, await server.isActive(json.token)]).toEqual([false, true])
  })

  it('S7 a failed refresh ahead is an event, not an error of a request, and the grant rests', async () => {
    const site = await start(steady())
    const tab = await loggedIn(site)
    const { token } = (await tab.get('/token')).json
    site.clock.advance(DUE_MS)
    const before = server.tokenRequests.length
    server.failNext(500)
    expect((await tab.get('/token')).json.token).toBe(token)
    await emitted(site, 'refresh_failed')
    for (let call = 0; call < 5; call++) expect((await tab.get('/token')).json.token).toBe(token)
    expect(server.tokenRequests.length - before).toBe(1)
    expect(site.events).toContainEqual(expect.objectContaining({ type: 'refresh_failed', reason: 'ahead' }))
  })

  it('S7 a logout ends it: its tokens are revoked, and the session stays logged out', async () => {
    const site = await start(steady())
    const tab = await loggedIn(site)
    site.clock.advance(DUE_MS)
    const gate = held(server.hold())
    await tab.get('/token')
    await gate.reached
    const out = tab.post('/logout')
    gate.release()
    expect((await out).status).toBe(200)
    await emitted(site, 'late_tokens_revoked')
    expect((await tab.get('/token')).status).toBe(401)
  })

  it('S7 refreshAheadMs: 0 switches it off', async () => {
    const site = await start(steady({ tokens: { refreshAheadMs: 0 } as never }))
    const tab = await loggedIn(site)
    site.clock.advance(DUE_MS)
    const before = server.refreshes()
    await tab.get('/token')
    await site.close()
    expect(server.refreshes() - before).toBe(0)
  })

  it('S7 several processes: one refresh, and one command on the grant store for each other process that asks', async () => {
    const grants = recordingGrants()
    const open = sharedSessions()
    const process = async () => start(steady({ store: open(), tokens: { grants: { ...grants } } as never }))
    const [one, two, three] = [await process(), await process(), await process()]
    const tab = await loggedIn(one)
    const { token } = (await tab.get('/token')).json
    for (const site of [one, two, three]) site.clock.advance(DUE_MS)
    const before = server.refreshes()
    const gate = held(server.hold())
    grants.forget()
    await tab.get('/token')
    await gate.reached
    expect(grants.calls.filter((call) => call !== 'renew')).toEqual(['lease'])
    for (const site of [two, three]) {
      for (let call = 0; call < 5; call++) {
        expect((await site.visitorOf(tab).get('/token')).json.token).toBe(token)
      }
    }
    expect(grants.calls.filter((call) => call !== 'renew')).toEqual(['lease', 'lease', 'lease'])
    gate.release()
    await emitted(one, 'refreshed')
    const next = (await two.visitorOf(tab).get('/token')).json.token
    expect([next === token, server.refreshes() - before]).toEqual([false, 1])
  })
})

describe('S7 where the session is not in a store', () => {
  it.each([
    ['a cookie: it is off, since the response is sent before the new tokens are there', undefined, 0],
    ['a cookie, and a shared grant store keeps the new tokens', 'shared', 1],
    ['a custom session that can be written to later', 'custom', 1],
  ])('S7 %s', async (_, kind, refreshes) => {
    const clock = testClock()
    const grants = kind === 'shared' ? { grants: { ...recordingGrants() } } : {}
    let text: string | undefined
    const custom = {
      session: () => ({
        read: () => text,
        write(it: string) {
          text = it
        },
        clear() {
          text = undefined
        },
      }),
    }
    const { clientId, clientSecret } = server.clients.client_secret_basic
    const middleware = composeMiddleware(
      {
        ...{ tokenEndpoint: server.tokenEndpoint, clientId, ...grants, ...(kind === 'custom' && custom) },
        clientAuthentication: clientSecretBasic(clientSecret),
        encryptionKeys: ['UUa2j3oVjRk0c8Zs9CLtEz3uJgQmA7rS7T1a0YbKx5c='],
      } as SessionTokensOptions,
      ownProcess(clock),
    )
    const app = await startApp(() =>
      express()
        .use(cookieSession({ secret: 'test' }), middlewareOf(middleware), express.json())
        .post('/login', (request, response) => request.tokens.set(request.body).then(() => response.json(1)))
        .get('/token', (request, response) =>
          request.tokens.getAccessToken().then((it) => response.json(it)),
        ),
    )
    const tab = browser(app.url)
    await tab.post('/login', await server.login('user'))
    clock.advance(DUE_MS)
    const before = server.refreshes()
    expect((await tab.get('/token')).status).toBe(200)
    await middleware.close()
    expect(server.refreshes() - before).toBe(refreshes)
    await app.close()
  })
})

describe('waitUntil', () => {
  it('gets the work that goes on after the request', async () => {
    const work: Promise<unknown>[] = []
    const site = await start(
      steady({ tokens: { waitUntil: (it: Promise<unknown>) => work.push(it) } as never }),
    )
    const tab = await loggedIn(site)
    site.clock.advance(DUE_MS)
    const before = server.refreshes()
    await tab.get('/token')
    await Promise.all(work)
    expect([work.length > 0, server.refreshes() - before]).toEqual([true, 1])
  })
  it.each<[string, () => unknown]>([
    [
      'throws, as it does outside of a request',
      () => {
        throw new Error('no request')
      },
    ],
    ['rejects', () => Promise.reject(new Error('no request'))],
  ])('fails no request when it %s', async (_, waitUntil) => {
    const site = await start(steady({ tokens: { waitUntil } as never }))
    const tab = await loggedIn(site)
    site.clock.advance(DUE_MS)
    expect((await tab.get('/token')).status).toBe(200)
    site.clock.advance(HOUR_MS)
    expect((await tab.get('/token')).status).toBe(200)
  })
})
