import { inspect } from 'node:util'
import { describe, expect, it } from '@jest/globals'
import cookieSession from 'cookie-session'
import express, { type Request } from 'express'
import { memoryGrantStore } from '../../lib/grants/memory-grant-store.js'
import { clientSecretBasic, type GrantRecord, type GrantStore } from '../../lib/index.js'
import { composeMiddleware } from '../../lib/middleware/composition.js'
import { middlewareOf } from '../../lib/middleware/express.js'
import { startApp } from '../helpers/app.js'
import type { LoginRequest, TokenResponse } from '../helpers/authorization-server.js'
import { type Browser, browser } from '../helpers/browser.js'
import { testClock } from '../helpers/clock.js'
import { ownProcess, recordingGrants, type Site, type SiteOptions, sharedSessions } from '../helpers/site.js'
import { HOUR_MS, testSites } from '../helpers/test-sites.js'

const { server, start, closing, held, expectNewest } = await testSites()

/** What an app has kept in its sessions since before it used this library. */
const own = (request: Request) =>
  (request.session as unknown as { own?: { oauth: unknown } } | undefined)?.own

/** A site whose app keeps tokens of its own, in `session.own`. */
async function startOwn({ tokens, ...options }: SiteOptions = {}): Promise<Site> {
  const site = await start({
    ...options,
    tokens: { adopt: (request: Request) => own(request)?.oauth, ...tokens },
  })
  site.handle('/own', ({ session, body }) => Object.assign(session, { own: body }) && undefined)
  site.handle('/has', ({ tokens }) => ({ has: tokens.hasTokens(), sub: tokens.idTokenClaims?.sub }))
  site.handle('/clear', ({ tokens }) => tokens.clear())
  return site
}

const stamped = ({ expires_in, ...response }: TokenResponse) => ({
  ...response,
  expires_at: Math.floor(Date.now() / 1000) + expires_in,
})

async function handedOver(account = 'alice', request?: LoginRequest) {
  return stamped(await server.login(account, request))
}

/** A browser whose session has the app's own tokens, and none of ours. */
async function withOwn(site: Site, oauth: unknown): Promise<Browser> {
  const tab = site.browser()
  await keeps(tab, oauth)
  site.store.forget()
  return tab
}

/** The app puts tokens of its own into the session, as at a login that this library knows nothing of. */
async function keeps(tab: Browser, oauth: unknown): Promise<void> {
  expect((await tab.post('/own', { oauth, cart: ['book'] })).status).toBe(200)
}

const ask = async (tab: Browser) => {
  const { status, json } = await tab.get('/token')
  return status === 200 ? json.token : json.code
}

const ownStored = async (site: Site, tab: Browser) =>
  (await site.stored(tab))?.own as { oauth: unknown; cart: unknown } | undefined

describe('tokens that the app has in its session', () => {
  it('are adopted when a token is requested: kept by the library from then on, and the data of the app is unchanged', async () => {
    const site = await startOwn()
    const oauth = await handedOver()
    const tab = await withOwn(site, oauth)
    expect(await ask(tab)).toBe(oauth.access_token)
    expect(await site.storedTokens(tab)).toMatchObject({ revision: 1, refreshToken: oauth.refresh_token })
    expect(await ownStored(site, tab)).toEqual({ oauth, cart: ['book'] })
    site.store.forget()
    expect(await ask(tab)).toBe(oauth.access_token)
    expect(site.store.count('set')).toBe(0)
  })

  it('are refreshed once, and the tokens that the app keeps are not adopted again', async () => {
    const site = await startOwn()
    const oauth = await handedOver()
    const tab = await withOwn(site, oauth)
    site.clock.advance(HOUR_MS)
    const before = server.refreshes()
    const first = await ask(tab)
    expect(first).not.toBe(oauth.access_token)
    for (let call = 0; call < 3; call++) expect(await ask(tab)).toBe(first)
    expect(server.refreshes() - before).toBe(1)
    site.clock.advance(HOUR_MS)
    expect(await ask(tab)).not.toBe(first)
    await expectNewest(site, tab)
    expect(await ownStored(site, tab)).toEqual({ oauth, cart: ['book'] })
  })

  it('S10 50 requests at once adopt them together: 1 refresh, 50 responses', async () => {
    const grants = recordingGrants()
    const site = await startOwn({ surroundings: { grants } })
    const tab = await withOwn(site, await handedOver())
    site.clock.advance(HOUR_MS)
    const before = server.refreshes()
    const answers = await Promise.all(Array.from({ length: 50 }, () => ask(tab)))
    expect(server.refreshes() - before).toBe(1)
    expect(new Set(answers).size).toBe(1)
    await expectNewest(site, tab)
    // The adoption is told and asked about once; then there is one refresh.
    expect(grants.calls.slice(0, 4)).toEqual(['commit', 'read', 'lease', 'commit'])
    expect(grants.calls.filter((call) => call === 'lease' || call === 'commit')).toHaveLength(3)
  })

  it.each([
    ['resave: false', false],
    ['resave: true', true],
  ])(
    'S20 S21 a request that came before, with the session as it was, saves it after: %s',
    async (_, resave) => {
      const site = await startOwn({ session: { resave } })
      const tab = await withOwn(site, await handedOver())
      const gate = held(
        site.slow('/slow', ({ session }) => Object.assign(session, resave ? {} : { views: 1 }) && undefined),
      )
      const slow = tab.get('/slow')
      await gate.reached
      site.clock.advance(HOUR_MS)
      const token = await ask(tab)
      gate.release()
      await slow
      expect((await site.storedTokens(tab))?.revision).toBe(2)
      expect(await ask(tab)).toBe(token)
      await expectNewest(site, tab)
    },
  )

  it('S47 in a second session are stored as the newest ones, and again: the grant store may have lost them', async () => {
    const grants = memoryGrantStore()
    const committed: GrantRecord[] = []
    const commit = grants.commit.bind(grants)
    grants.commit = (grantId, owner, record, retention) => {
      committed.push(record)
      return commit(grantId, owner, record, retention)
    }
    const site = await startOwn({ surroundings: { grants } })
    const oauth = await handedOver()
    const tab = await withOwn(site, oauth)
    site.clock.advance(HOUR_MS)
    const token = await ask(tab)
    const second = await withOwn(site, oauth)
    expect(await ask(second)).toBe(token)
    expect(committed.map(({ revision, isStoredAgain }) => [revision, isStoredAgain])).toEqual([
      [1, undefined],
      [2, undefined],
      [2, true],
    ])
  })

  it('a request that began before the refresh requests a token after it: it gets the newest, without a refresh', async () => {
    const site = await startOwn()
    const tab = await withOwn(site, await handedOver())
    const gate = held(site.slow('/slow', ({ tokens }) => tokens.getAccessToken()))
    const slow = tab.get('/slow')
    await gate.reached
    site.clock.advance(HOUR_MS)
    const token = await ask(tab)
    const before = server.refreshes()
    gate.release()
    expect((await slow).json.token).toBe(token)
    expect(server.refreshes()).toBe(before)
    await expectNewest(site, tab)
  })

  it('are seen by hasTokens() and idTokenClaims before, without a call of any store', async () => {
    const grants = recordingGrants()
    const site = await startOwn({ surroundings: { grants } })
    const tab = await withOwn(site, await handedOver())
    expect((await tab.get('/has')).json).toEqual({ has: true, sub: 'alice' })
    expect(grants.calls).toEqual([])
    expect(site.store.calls.map(({ method }) => method)).toEqual(['get', 'touch'])
    expect((await site.browser().get('/has')).json).toEqual({ has: false })
  })

  it('are not looked at when set() has put others there', async () => {
    const site = await startOwn()
    const tab = await withOwn(site, await handedOver())
    await site.login(tab, 'bob')
    expect((await tab.get('/has')).json.sub).toBe('bob')
    const token = await ask(tab)
    expect((await site.storedTokens(tab))?.accessTokens[0]?.token).toBe(token)
    expect((await site.storedTokens(tab))?.grantId).not.toMatch(/^adopted-/)
  })

  it('S37 of another user are not adopted over a login by set() that came first', async () => {
    // As with a login library whose tokens are in a cookie of their own.
    const oauth = await handedOver('alice')
    const site = await startOwn({
      tokens: { adopt: (request: Request) => (request.headers['x-own'] ? oauth : undefined) },
    })
    const tab = await withOwn(site, {})
    const gate = held(site.slow('/slow', ({ tokens }) => tokens.getAccessToken()))
    const slow = tab.get('/slow', { headers: { 'x-own': 'alice' } })
    await gate.reached
    await site.login(tab, 'bob')
    gate.release()
    expect((await slow).json.code).toBe('ERR_NO_TOKENS')
    expect((await tab.get('/has')).json.sub).toBe('bob')
    await expectNewest(site, tab)
  })

  it('with another refresh token are a new login: its tokens replace the adopted ones', async () => {
    const site = await startOwn()
    const alices = await handedOver('alice')
    const tab = await withOwn(site, alices)
    await ask(tab)
    const bobs = await handedOver('bob')
    await keeps(tab, bobs)
    expect((await tab.get('/has')).json.sub).toBe('bob')
    expect(await ask(tab)).toBe(bobs.access_token)
    expect((await site.storedTokens(tab))?.refreshToken).toBe(bobs.refresh_token)
    await keeps(tab, alices)
    expect(await ask(tab)).toBe('ERR_NO_TOKENS')
  })

  it('in a session that is not stored yet serve the request that made it, and are adopted by the next', async () => {
    const site = await startOwn()
    const oauth = await handedOver()
    site.handle('/callback', async (request) => {
      Object.assign(request.session, { own: { oauth } })
      return request.tokens.getAccessToken()
    })
    const tab = site.browser()
    expect((await tab.get('/callback')).json.token).toBe(oauth.access_token)
    expect(await ask(tab)).toBe(oauth.access_token)
    expect((await site.storedTokens(tab))?.refreshToken).toBe(oauth.refresh_token)
  })

  it('with expires_in as the only expiry are refreshed first, since the start of that time is unknown', async () => {
    const site = await startOwn()
    const oauth = await server.login('alice')
    const tab = await withOwn(site, oauth)
    expect(await ask(tab)).not.toBe(oauth.access_token)
    await expectNewest(site, tab)
  })

  it.each<[string, object]>([
    ['no refresh token, with expires_in', { access_token: 'alone', expires_in: 3600 }],
    ['no refresh token, with nothing', { accessToken: 'alone' }],
  ])('with %s serve as they are', async (_, oauth) => {
    const site = await startOwn()
    const tab = await withOwn(site, oauth)
    expect(await ask(tab)).toBe('alone')
    expect((await site.storedTokens(tab))?.accessTokens[0]?.token).toBe('alone')
  })
})

describe('two processes adopt the same refresh token at the same moment', () => {
  async function twoProcesses(grants: GrantStore = memoryGrantStore()) {
    const open = sharedSessions()
    const one = await startOwn({ store: open(), surroundings: { grants } })
    const two = await startOwn({ store: open(), surroundings: { grants } })
    const tab = await withOwn(one, await handedOver())
    return { one, two, tab, visitor: two.visitorOf(tab) }
  }

  it('S11 50 requests to both: 1 refresh, and the newest tokens are stored', async () => {
    const { one, two, tab, visitor } = await twoProcesses()
    for (const { clock } of [one, two]) clock.advance(HOUR_MS)
    const before = server.refreshes()
    const answers = await Promise.all(
      Array.from({ length: 50 }, (_, index) => ask(index % 2 ? tab : visitor)),
    )
    expect(new Set(answers).size).toBe(1)
    expect(server.refreshes() - before).toBe(1)
    expect(await ask(tab)).toBe(answers[0])
    await expectNewest(one, tab)
  })

  it('S12 a process with the earlier session adopts the tokens that the other process has refreshed', async () => {
    const { one, two, tab, visitor } = await twoProcesses()
    for (const { clock } of [one, two]) clock.advance(HOUR_MS)
    const gate = held(two.slow('/slow', ({ tokens }) => tokens.getAccessToken()))
    const slow = visitor.get('/slow')
    await gate.reached
    const token = await ask(tab)
    const before = server.refreshes()
    gate.release()
    expect((await slow).json.token).toBe(token)
    expect(server.refreshes()).toBe(before)
  })

  it('S13 and it gets the newest tokens, though those of the app would still be valid', async () => {
    const { two, tab, visitor } = await twoProcesses()
    const gate = held(two.slow('/slow', ({ tokens }) => tokens.getAccessToken()))
    const slow = visitor.get('/slow')
    await gate.reached
    const rejected = await ask(tab)
    const { token } = (await tab.get(`/token?rejected=${rejected}`)).json
    expect(token).not.toBe(rejected)
    gate.release()
    expect((await slow).json.token).toBe(token)
  })

  it('S21 a process saves the session as it was before the other adopted: the next request finds the newest', async () => {
    const { one, two, tab, visitor } = await twoProcesses()
    for (const { clock } of [one, two]) clock.advance(HOUR_MS)
    const gate = held(two.slow('/slow', ({ session }) => Object.assign(session, { views: 1 }) && undefined))
    const slow = visitor.get('/slow')
    await gate.reached
    const token = await ask(tab)
    gate.release()
    await slow
    expect(await two.storedTokens(visitor)).toBeUndefined()
    expect(await ask(visitor)).toBe(token)
    expect((await two.storedTokens(visitor))?.revision).toBe(2)
    for (const browser of [visitor, tab]) expect(await ask(browser)).toBe(token)
    await expectNewest(one, tab)
  })

  it.each(['/logout', '/clear'])('S35 one logs out by %s: the other adopts no tokens', async (path) => {
    const { tab, visitor, two } = await twoProcesses()
    const gate = held(two.slow('/slow', ({ tokens }) => tokens.getAccessToken()))
    const slow = visitor.get('/slow')
    await gate.reached
    await ask(tab)
    expect((await tab.post(path, {})).status).toBe(200)
    two.store.forget()
    gate.release()
    expect((await slow).json.code).toBe('ERR_NO_TOKENS')
    expect(two.store.count('set')).toBe(0)
    expect(await ask(visitor)).toBe('ERR_NO_TOKENS')
    expect(await two.storedTokens(visitor)).toBeUndefined()
  })

  it('S35 one logs out while the other is about to store the adopted tokens: they are removed again', async () => {
    const { one, two, tab, visitor } = await twoProcesses()
    const write = held(one.store.hold('set'))
    const asking = ask(tab)
    await write.reached
    expect((await visitor.post('/logout', {})).status).toBe(200)
    write.release()
    expect(await asking).toBe('ERR_NO_TOKENS')
    expect(await two.storedTokens(visitor)).toBeUndefined()
  })
})

describe('after a logout', () => {
  it.each(['/logout', '/clear'])(
    'by %s, the tokens that the app still has are not adopted again',
    async (path) => {
      const site = await startOwn()
      const oauth = await handedOver()
      const tab = await withOwn(site, oauth)
      site.clock.advance(HOUR_MS)
      await ask(tab)
      expect((await tab.post(path, {})).status).toBe(200)
      for (let call = 0; call < 2; call++) expect(await ask(tab)).toBe('ERR_NO_TOKENS')
      expect((await tab.get('/has')).json).toEqual({ has: false })
      expect(await ownStored(site, tab)).toMatchObject({ oauth })
      expect(await site.storedTokens(tab)).toBeUndefined()
    },
  )

  it.each(['/logout', '/clear'])('by %s before any token was requested: the same', async (path) => {
    const site = await startOwn()
    const oauth = await handedOver()
    const tab = await withOwn(site, oauth)
    expect((await tab.post(path, {})).status).toBe(200)
    expect(await ask(tab)).toBe('ERR_NO_TOKENS')
    const revoked = server.revocations.map(({ token }) => token).includes(oauth.refresh_token)
    expect(revoked).toBe(path === '/logout')
  })

  it.each(['/logout', '/clear'])(
    'by %s of tokens from set(): the tokens that the app also keeps are not adopted',
    async (path) => {
      const grants = recordingGrants()
      const site = await startOwn({ surroundings: { grants } })
      const tab = site.browser()
      const oauth = await handedOver()
      await tab.post('/login', oauth)
      await keeps(tab, oauth)
      expect(await ask(tab)).toBe(oauth.access_token)
      expect((await tab.post(path, {})).status).toBe(200)
      expect(await ask(tab)).toBe('ERR_NO_TOKENS')
      expect(grants.calls.filter((call) => call === 'end')).toHaveLength(2)
    },
  )

  it('a logout without tokens of the library ends the grant in the grant store once', async () => {
    const grants = recordingGrants()
    const site = await startOwn({ surroundings: { grants } })
    const tab = await withOwn(site, await handedOver())
    await tab.post('/clear', {})
    expect(grants.calls).toEqual(['end'])
  })

  it('a new login of the app’s is adopted', async () => {
    const site = await startOwn()
    const tab = await withOwn(site, await handedOver())
    await ask(tab)
    await tab.post('/logout', {})
    const oauth = await handedOver('bob')
    await keeps(tab, oauth)
    expect(await ask(tab)).toBe(oauth.access_token)
    await expectNewest(site, tab)
  })

  it('S42 when the authorization server has ended the grant, it is not begun again with the old tokens', async () => {
    const site = await startOwn()
    const tab = await withOwn(site, await handedOver())
    site.clock.advance(HOUR_MS)
    server.failNext('invalid_grant')
    const before = server.tokenRequests.length
    for (let call = 0; call < 3; call++) expect(await ask(tab)).toBe('ERR_REAUTHENTICATION_REQUIRED')
    expect(server.tokenRequests.length - before).toBe(1)
    expect((await tab.get('/has')).json.has).toBe(false)
  })
})

describe('tokens that the app has in a session cookie', () => {
  async function startCookies() {
    const clock = testClock()
    const { clientId, clientSecret } = server.clients.client_secret_basic
    const tokens = middlewareOf(
      composeMiddleware(
        {
          tokenEndpoint: server.tokenEndpoint,
          revocationEndpoint: server.revocationEndpoint,
          clientId,
          clientAuthentication: clientSecretBasic(clientSecret),
          encryptionKeys: ['UUa2j3oVjRk0c8Zs9CLtEz3uJgQmA7rS7T1a0YbKx5c='],
          adopt: (request) => own(request as Request)?.oauth,
        },
        ownProcess(clock),
      ),
    )
    const app = express()
    app.use(cookieSession({ keys: ['test'] }), tokens, express.json())
    app.post(
      '/own',
      ({ session, body }, response) => void response.json(Object.assign(session!, { own: body })),
    )
    app.all('/:deed', (request, response) => {
      const { params, tokens } = request
      if (params.deed === 'late') response.write(' ')
      const done = params.deed === 'logout' ? tokens.revoke() : tokens.getAccessToken()
      if (params.deed === 'away') Object.assign(request, { session: null })
      done.then(
        (result) => response.end(JSON.stringify(result ?? null)),
        ({ code }) => response.end(JSON.stringify({ code })),
      )
    })
    const running = closing(await startApp(() => app))
    const tab = browser(running.url)
    const oauth = { ...(await handedOver()), id_token: undefined }
    await keeps(tab, oauth)
    const visit = async (path = '/token', by = tab) => {
      const { token, code } = (await by.get(path)).json ?? {}
      return token ?? code
    }
    return { clock, oauth, tab, visit }
  }

  it('are adopted into the cookie', async () => {
    const { oauth, tab, visit } = await startCookies()
    const before = tab.cookie('session')!.length
    expect(await visit()).toBe(oauth.access_token)
    expect(tab.cookie('session')!.length).toBeGreaterThan(before)
    expect(await visit()).toBe(oauth.access_token)
  })

  it('S10 S12 are refreshed once for all requests with the earlier cookie, then and later', async () => {
    const { clock, tab, visit } = await startCookies()
    clock.advance(HOUR_MS)
    const before = server.refreshes()
    const visitors = Array.from({ length: 20 }, () => tab.clone())
    const answers = await Promise.all([tab, ...visitors].map((by) => visit('/token', by)))
    expect(new Set([...answers, await visit('/token', tab.clone())]).size).toBe(1)
    expect(server.refreshes() - before).toBe(1)
  })

  it('I4 are not adopted into a session that the app discards at the same time', async () => {
    const { tab, visit } = await startCookies()
    await visit('/away')
    expect(tab.cookie('session') || undefined).toBeUndefined()
    expect(await visit()).toBe('ERR_NO_TOKENS')
  })

  it('S27 serve after the headers of the response were sent; the next request adopts them', async () => {
    const { oauth, tab, visit } = await startCookies()
    const before = tab.cookie('session')!.length
    expect(await visit('/late')).toBe(oauth.access_token)
    expect(tab.cookie('session')!.length).toBe(before)
    expect(await visit()).toBe(oauth.access_token)
    expect(tab.cookie('session')!.length).toBeGreaterThan(before)
  })

  it('S27 are not refreshed then, as nothing could be sent back', async () => {
    const { clock, visit } = await startCookies()
    clock.advance(HOUR_MS)
    const before = server.refreshes()
    expect(await visit('/late')).toBe('ERR_HEADERS_SENT')
    expect(server.refreshes()).toBe(before)
  })

  it('after a logout are not adopted again, from a cookie from before neither', async () => {
    const { tab, visit } = await startCookies()
    const then = tab.clone()
    await visit()
    await visit('/logout')
    expect(await visit()).toBe('ERR_NO_TOKENS')
    expect(await visit('/token', then)).toBe('ERR_NO_TOKENS')
  })
})

describe('adopt(request)', () => {
  it.each<[string, unknown]>([
    ['undefined', undefined],
    ['null', null],
    ['an object without a token in its fields', { access_token: undefined, refresh_token: null }],
  ])('may return %s: there are no tokens', async (_, value) => {
    const site = await startOwn({ tokens: { adopt: () => value } })
    expect(await ask(site.browser())).toBe('ERR_NO_TOKENS')
  })

  it.each<[string, unknown, RegExp]>([
    ['text', 'secret-token', /The result of the option adopt is a string/],
    ['an array', ['secret-token'], /is an array/],
    ['something else', { user: 'secret-token' }, /neither an access_token nor a refresh_token/],
    ['an invalid token', { access_token: { token: 'secret-token' } }, /access_token is not a string/],
    ['an OAuth error', { error: 'access_denied' }, /is an OAuth error/],
    [
      'a promise',
      Promise.resolve({ access_token: 'secret-token' }),
      /is a Promise. Return the tokens themselves/,
    ],
  ])('returns %s: the error says so', async (_, value, why) => {
    const site = await startOwn({ tokens: { adopt: () => value } })
    for (const path of ['/token', '/has', '/logout']) {
      const answer = await site.browser().get(path)
      expect([answer.status, answer.json.code]).toEqual([502, 'ERR_INVALID_TOKEN_RESPONSE'])
      expect(answer.json.message).toMatch(why)
    }
    expect(inspect(site.errors, { depth: 9 })).not.toContain('secret-token')
  })

  it('throws: the error says so, without a possible token', async () => {
    const site = await startOwn({
      tokens: {
        adopt: () => JSON.parse('secret-token'),
      },
    })
    const answer = await site.browser().get('/token')
    expect([answer.status, answer.json.code]).toEqual([500, 'ERR_CONFIGURATION'])
    expect(answer.json.message).toMatch(/^`adopt` failed/)
    expect(inspect(site.errors, { depth: 9 })).not.toContain('secret')
  })

  it('returns an object that throws when it is read: the error says so, without a possible token', async () => {
    const lazy = {
      get access_token(): string {
        throw new Error('secret-token')
      },
    }
    const site = await startOwn({ tokens: { adopt: () => lazy } })
    const answer = await site.browser().get('/token')
    expect([answer.status, answer.json.code]).toEqual([500, 'ERR_CONFIGURATION'])
    expect(inspect(site.errors, { depth: 9 })).not.toContain('secret-token')
  })

  it('returns a promise that rejects: the error says so, and the process lives', async () => {
    const unhandled: unknown[] = []
    const note = (reason: unknown) => void unhandled.push(reason)
    process.on('unhandledRejection', note)
    const site = await startOwn({ tokens: { adopt: () => Promise.reject(new Error('no database')) } })
    expect(await ask(site.browser())).toBe('ERR_INVALID_TOKEN_RESPONSE')
    await new Promise(setImmediate)
    process.off('unhandledRejection', note)
    expect(unhandled).toEqual([])
  })

  it.each(['/logout', '/clear'])(
    'I4 fails at %s: the error is reported, and the user is logged out',
    async (path) => {
      const site = await startOwn({ tokens: { adopt: (request: Request) => own(request)!.oauth } })
      const oauth = await handedOver()
      const tab = await withOwn(site, oauth)
      await ask(tab)
      site.handle('/gone', async (request) => {
        // The app logs out by itself first.
        Object.assign(request.session, { own: undefined })
        await (path === '/clear' ? request.tokens.clear() : request.tokens.revoke())
      })
      expect((await tab.get('/gone')).json.code).toBe('ERR_CONFIGURATION')
      expect(await site.storedTokens(tab)).toBeUndefined()
      expect(await server.isActive(oauth.refresh_token)).toBe(path === '/clear')
      await keeps(tab, undefined)
      expect(await ask(tab)).toBe('ERR_NO_TOKENS')
    },
  )

  it('finds that a property is missing: the message names it', async () => {
    const site = await startOwn({ tokens: { adopt: (request: Request) => own(request)!.oauth } })
    await site.browser().get('/token')
    expect(inspect(site.errors)).toContain("reading 'oauth'")
  })

  it('S47 while the grant store is down: a retryable error; with local the adoption succeeds', async () => {
    const down = { ...recordingGrants(), commit: () => Promise.reject(new Error('no connection')) }
    const oauth = await handedOver()
    for (const [onGrantStoreError, outcome] of [
      ['fail', 'ERR_GRANT_STORE'],
      ['local', oauth.access_token],
    ] as const) {
      const site = await startOwn({ tokens: { onGrantStoreError }, surroundings: { grants: down } })
      expect(await ask(await withOwn(site, oauth))).toBe(outcome)
    }
  })

  it('S25 while the session store cannot store them: a retryable error', async () => {
    const site = await startOwn()
    const oauth = await handedOver()
    const tab = await withOwn(site, oauth)
    site.store.failNext('set')
    expect(await ask(tab)).toBe('ERR_SESSION_STORE')
    expect(await ask(tab)).toBe(oauth.access_token)
  })

  it('S61 with encryption keys the stored copy is sealed', async () => {
    const site = await startOwn({
      tokens: { encryptionKeys: ['UUa2j3oVjRk0c8Zs9CLtEz3uJgQmA7rS7T1a0YbKx5c='] },
    })
    const tab = await withOwn(site, await handedOver())
    site.clock.advance(HOUR_MS)
    const token = await ask(tab)
    const { tokens } = (await site.stored(tab)) as { tokens: string }
    expect(tokens).toMatch(/^eyJ/)
    expect(tokens).not.toContain(token)
    expect(await ask(tab)).toBe(token)
  })
})
