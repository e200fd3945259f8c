import { afterEach, beforeEach, describe, expect, it } from '@jest/globals'
import express, { type Request, type Response } from 'express'
import session from 'express-session'
import { decodeJwt, UnsecuredJWT } from 'jose'
import { requireTokens } from '../../lib/index.js'
import { expressVersions, startApp } from '../helpers/app.js'
import {
  type AuthorizationServer,
  clients,
  startAuthorizationServer,
} from '../helpers/authorization-server.js'
import { type Browser, browser as browserAt } from '../helpers/browser.js'
import { stillClock } from '../helpers/clock.js'
import { startTokenEndpoint } from '../helpers/fault-server.js'
import { createGate } from '../helpers/gate.js'
import { recordingGrants, type Site, type SiteOptions, sharedSessions, startSite } from '../helpers/site.js'
import { recordingStore, type StoreRecording } from '../helpers/stores.js'

const SECOND = 1000
const MINUTE = 60 * SECOND
const HOUR = 60 * MINUTE

let server: AuthorizationServer
let running: { close(): Promise<void> }[]

beforeEach(async () => {
  server = await startAuthorizationServer()
  running = [server]
})
afterEach(async () => {
  for (const part of running.reverse()) await part.close()
})

/** Closes it when the test is over. */
function closing<T extends { close(): Promise<void> }>(part: T): T {
  running.push(part)
  return part
}

async function siteWith(options: SiteOptions = {}): Promise<Site> {
  return closing(await startSite(server, options))
}

/** What express-session and everybody else did to the store meanwhile. */
async function storeCalls(store: StoreRecording<session.Store>, work: () => Promise<unknown>) {
  store.forget()
  await work()
  return store.calls.map(({ method, session }) => ({ method, session }))
}

async function tokensAsked(browser: Browser, times: number, path = '/token'): Promise<string[]> {
  const tokens: string[] = []
  for (let n = 0; n < times; n++) {
    const answer = await browser.get(path)
    expect([answer.status, answer.json.token]).toEqual([200, expect.any(String)])
    tokens.push(answer.json.token)
  }
  return tokens
}

/** An API that shows which token it was called with. */
async function startApi(accepts: (token: string) => boolean = () => true) {
  const seen: string[] = []
  const api = await startApp(() => (request, response) => {
    const token = String(request.headers.authorization).replace(/^Bearer /, '')
    seen.push(token)
    response.writeHead(accepts(token) ? 200 : 401, { 'content-type': 'application/json' })
    response.end(JSON.stringify({ token }))
  })
  return closing({ ...api, seen })
}

function callApi(url: string): Parameters<Site['handle']>[1] {
  return async ({ tokens }) => (await tokens.axios({ baseURL: url }).get('/')).data
}

describe('a token that is valid outside the leeway', () => {
  it.each([
    ['at once', 0],
    ['in the middle of its life', HOUR / 2],
    ['one millisecond outside the leeway', HOUR - MINUTE - 1],
  ])('S1 %s: no call to the authorization server, no store touched, nothing saved', async (_, ageMs) => {
    const clock = stillClock()
    const grants = recordingGrants()
    const site = await siteWith({ clock, surroundings: { grants } })
    site.handle('/plain', () => null)
    site.handle('/thrice', async ({ session, tokens }) => {
      const before = JSON.stringify(session)
      await tokens.getAccessToken()
      await tokens.getAccessToken({ scope: 'orders.read' })
      const { token } = await tokens.getAccessToken({ minValidityMs: MINUTE })
      return { token, untouched: JSON.stringify(session) === before }
    })
    const browser = site.browser()
    const login = await server.login('user')
    await browser.post('/login', login)
    grants.forget()
    clock.advance(ageMs)

    const stored = await site.stored(browser)
    const without = await storeCalls(site.store, () => browser.get('/plain'))
    expect(without.map(({ method }) => method)).toEqual(['get', 'touch'])
    for (const path of ['/token', '/thrice', '/token']) {
      expect(await storeCalls(site.store, () => tokensAsked(browser, 1, path))).toEqual(without)
    }
    const parallel = await storeCalls(site.store, () =>
      Promise.all(Array.from({ length: 20 }, () => browser.get('/token'))),
    )
    expect(parallel.filter(({ method }) => method !== 'get' && method !== 'touch')).toEqual([])
    expect(parallel).toHaveLength(20 * without.length)

    const answer = await browser.get('/thrice')
    expect(answer.json).toEqual({ token: login.access_token, untouched: true })
    expect(await site.stored(browser)).toEqual(stored)
    expect(server.tokenRequests).toEqual([])
    expect(grants.calls).toEqual([])
    expect(site.events).toEqual([])
  })
})

describe.each(expressVersions)('a token inside the leeway, on %s', (_, express) => {
  it.each([
    ['the first millisecond of the leeway', HOUR - MINUTE],
    ['the last millisecond of its life', HOUR - 1],
    ['the moment of its expiry', HOUR],
    ['a day later', 25 * HOUR],
  ])('S2 %s: one refresh, and the handler and the API behind it see the new token', async (_, ageMs) => {
    const clock = stillClock()
    const site = await siteWith({ clock, express })
    const api = await startApi()
    const browser = site.browser()
    site.handle('/api', callApi(api.url))
    site.handle('/both', async ({ tokens }) => ({
      before: await tokens.getAccessToken(),
      stored: await site.storedTokens(browser),
      api: (await tokens.axios({ baseURL: api.url }).get('/')).data,
      after: await tokens.getAccessToken(),
    }))
    const login = await server.login('user')
    await browser.post('/login', login)
    clock.advance(ageMs)

    const { json } = await browser.get('/both')
    expect(json.before.token).not.toBe(login.access_token)
    expect(await server.isActive(json.before.token)).toBe(true)
    expect(json.before.expiresAt).toBe(clock.now() + HOUR)
    expect(json.after).toEqual(json.before)
    expect(api.seen).toEqual([json.before.token])

    expect(json.stored).toMatchObject({ revision: 2, accessTokens: [json.before] })
    expect(await tokensAsked(browser, 3)).toEqual(Array(3).fill(json.before.token))
    expect(await tokensAsked(browser, 1, '/api')).toEqual([json.before.token])
    expect(server.tokenRequests.map(({ refreshToken }) => refreshToken)).toEqual([login.refresh_token])
    expect(server.refreshes()).toBe(1)
    expect(site.errors).toEqual([])
  })
})

describe('a token that lives hardly longer than the leeway', () => {
  it.each([
    { expiresIn: 60, leewayMs: MINUTE },
    { expiresIn: 60, leewayMs: HOUR },
    { expiresIn: 61, leewayMs: MINUTE },
    { expiresIn: 1, leewayMs: MINUTE },
    { expiresIn: 300, leewayMs: 5 * MINUTE },
  ])(
    'S3 expires_in $expiresIn and a leeway of $leewayMs ms: ten calls in a row refresh at most once',
    async (row) => {
      const { expiresIn, leewayMs } = row
      const lifetimeMs = expiresIn * SECOND
      const clock = stillClock()
      server.setAccessTokenTtl(expiresIn)
      const site = await siteWith({ clock, tokens: { leewayMs } })
      const browser = site.browser()
      await site.login(browser)
      await tokensAsked(browser, 10)
      expect(server.refreshes()).toBe(0)

      clock.advance(lifetimeMs)
      expect(new Set(await tokensAsked(browser, 10)).size).toBe(1)
      expect(server.refreshes()).toBe(1)

      for (let n = 0; n < 10; n++) {
        clock.advance(lifetimeMs / 20)
        await tokensAsked(browser, 1)
      }
      expect(server.refreshes()).toBe(1)
    },
  )
})

describe('an expires_in that says nothing', () => {
  const DEFAULT = 10 * MINUTE
  const JWT = 30 * MINUTE

  interface Row {
    name: string
    expiresIn?: unknown
    /** The claim of a JWT access token, `now` being seconds since the epoch; opaque without. */
    exp?: (now: number) => unknown
    lifetimeMs: number
  }
  const inHalfAnHour = (now: number) => now + JWT / SECOND

  it.each<Row>([
    { name: 'missing, and an opaque token: the default', lifetimeMs: DEFAULT },
    { name: 'missing, and a JWT: its exp', exp: inHalfAnHour, lifetimeMs: JWT },
    { name: '"3600": the number', expiresIn: '3600', lifetimeMs: HOUR },
    { name: '"3600", and a JWT: the number', expiresIn: '3600', exp: inHalfAnHour, lifetimeMs: HOUR },
    { name: '0: the default', expiresIn: 0, lifetimeMs: DEFAULT },
    { name: '0, and a JWT: its exp', expiresIn: 0, exp: inHalfAnHour, lifetimeMs: JWT },
    { name: '"0": the default', expiresIn: '0', lifetimeMs: DEFAULT },
    { name: 'negative: the default', expiresIn: -3600, lifetimeMs: DEFAULT },
    { name: 'negative, and a JWT: its exp', expiresIn: -1, exp: inHalfAnHour, lifetimeMs: JWT },
    { name: '"-1": the default', expiresIn: '-1', lifetimeMs: DEFAULT },
    { name: 'not a number: the default', expiresIn: 'soon', lifetimeMs: DEFAULT },
    { name: 'not a number, and a JWT: its exp', expiresIn: 'soon', exp: inHalfAnHour, lifetimeMs: JWT },
    { name: 'NaN in a string: the default', expiresIn: 'NaN', lifetimeMs: DEFAULT },
    { name: 'null: the default', expiresIn: null, lifetimeMs: DEFAULT },
    { name: 'empty: the default', expiresIn: '', lifetimeMs: DEFAULT },
    { name: 'an object: the default', expiresIn: { seconds: 3600 }, lifetimeMs: DEFAULT },
    { name: 'a list: the default', expiresIn: [3600], lifetimeMs: DEFAULT },
    { name: 'true: the default', expiresIn: true, lifetimeMs: DEFAULT },
    {
      name: 'missing, and a JWT whose exp has passed: the default',
      exp: (now) => now - 1,
      lifetimeMs: DEFAULT,
    },
    { name: 'missing, and a JWT whose exp is now: the default', exp: (now) => now, lifetimeMs: DEFAULT },
    { name: 'missing, and a JWT whose exp is 0: the default', exp: () => 0, lifetimeMs: DEFAULT },
    { name: 'missing, and a JWT whose exp is text: the default', exp: () => 'soon', lifetimeMs: DEFAULT },
  ])('S4 $name; never a refresh per request, and a 401 is recovered from', async (row) => {
    const clock = stillClock()
    let issued = 0
    const answer = () => {
      issued++
      const claims = { jti: String(issued), exp: row.exp?.(clock.now() / SECOND) as number }
      return {
        access_token: row.exp ? new UnsecuredJWT(claims).encode() : `opaque-${issued}`,
        token_type: 'Bearer',
        refresh_token: `refresh-${issued}`,
        ...('expiresIn' in row && { expires_in: row.expiresIn }),
      }
    }
    const endpoint = closing(
      await startTokenEndpoint(({ parameters }) =>
        parameters.get('refresh_token') === `refresh-${issued}`
          ? { status: 200, body: answer() }
          : 'invalid_grant',
      ),
    )
    const { login } = server
    const site = closing(
      await startSite({ ...endpoint, clients, login }, { clock, tokens: { defaultLifetimeMs: DEFAULT } }),
    )
    const browser = site.browser()
    const first = answer()
    await browser.post('/login', first)
    const usableMs = row.lifetimeMs - MINUTE

    expect(await tokensAsked(browser, 10)).toEqual(Array(10).fill(first.access_token))
    clock.advance(usableMs - 1)
    expect(await tokensAsked(browser, 10)).toEqual(Array(10).fill(first.access_token))
    expect(endpoint.requests).toHaveLength(0)
    clock.advance(1)
    const [second, ...rest] = await tokensAsked(browser, 10)
    expect(second).not.toBe(first.access_token)
    expect(rest).toEqual(Array(9).fill(second))
    expect(endpoint.requests).toHaveLength(1)
    clock.advance(usableMs - 1)
    expect(await tokensAsked(browser, 10)).toEqual(Array(10).fill(second))
    expect(endpoint.requests).toHaveLength(1)

    const api = await startApi((token) => token !== second)
    site.handle('/api', callApi(api.url))
    const [third] = await tokensAsked(browser, 1, '/api')
    expect(api.seen).toEqual([second, third])
    expect(await tokensAsked(browser, 10)).toEqual(Array(10).fill(third))
    expect(endpoint.requests).toHaveLength(2)
  })
})

describe('a request that uses no token', () => {
  const garbage: [name: string, value: unknown][] = [
    ['nothing', undefined],
    ['null', null],
    ['text', 'tokens'],
    ['the empty string', ''],
    ['a number', 42],
    ['true', true],
    ['a list', [1, 2, 3]],
    ['an empty object', {}],
    ['the copy of another version', { version: 2, grantId: 'g', revision: 1, accessTokens: [] }],
    ['a copy with odd parts', { version: 1, audience: 7, grantId: [], revision: 'x', accessTokens: null }],
    ["another library's tokens", { access_token: 'a', refresh_token: 'b', expires_in: 1 }],
    ['an object with a prototype for a key', JSON.parse('{"__proto__":{"version":1},"constructor":1}')],
  ]
  const remember = (value: unknown) => (request: Request, response: Response) => {
    if (value !== undefined) Object.assign(request.session, { tokens: value })
    Object.assign(request.session, { cart: ['apple'] })
    response.json(null)
  }

  /** The same app without us. */
  async function bareSite(value: unknown) {
    const store = recordingStore()
    const app = express()
    app.use(session({ secret: 'test', resave: false, saveUninitialized: false, store: store.store }))
    app.get('/remember', remember(value))
    app.get('/plain', (_, response) => void response.json(null))
    const { url } = closing(await startApp(() => app))
    return { store, browser: browserAt(url) }
  }

  it.each(garbage)('S5 costs no more than without the library, with %s in the session', async (_, value) => {
    const bare = await bareSite(value)
    const grants = recordingGrants()
    const site = await siteWith({ surroundings: { grants } })
    site.handle('/remember', remember(value))
    site.handle('/plain', () => null)
    const browser = site.browser()
    const get = (browser: Browser, path: string) => async () => {
      expect((await browser.get(path)).status).toBe(200)
    }
    for (const path of ['/remember', '/plain', '/plain']) {
      const expected = await storeCalls(bare.store, get(bare.browser, path))
      expect(await storeCalls(site.store, get(browser, path))).toEqual(expected)
    }
    expect(await site.stored(browser)).toMatchObject({ cart: ['apple'] })
    expect((await site.stored(browser))?.tokens).toEqual(value)
    expect([grants.calls, server.tokenRequests, site.events, site.errors]).toEqual([[], [], [], []])

    expect((await browser.get('/token')).json).toMatchObject({ code: 'ERR_NO_TOKENS' })
    expect((await site.stored(browser))?.tokens).toEqual(value)
    expect([grants.calls, server.tokenRequests]).toEqual([[], []])
  })

  it('S5 does not change an expired token', async () => {
    const grants = recordingGrants()
    const site = await siteWith({ surroundings: { grants } })
    site.handle('/plain', () => null)
    const browser = site.browser()
    await site.login(browser)
    grants.forget()
    const stored = await site.stored(browser)
    site.clock.advance(2 * HOUR)
    for (let n = 0; n < 5; n++) {
      const calls = await storeCalls(site.store, () => browser.get('/plain'))
      expect(calls.map(({ method }) => method)).toEqual(['get', 'touch'])
    }
    expect(await site.stored(browser)).toEqual(stored)
    expect([grants.calls, server.tokenRequests, site.events]).toEqual([[], [], []])
  })
})

describe('the wall clock jumps', () => {
  const JUMP = 10 * MINUTE
  const jumps: [name: string, jumpsMs: number[]][] = [
    ['forward', [JUMP]],
    ['back', [-JUMP]],
    ['forward and back again', [JUMP, -JUMP]],
    ['back and forward again', [-JUMP, JUMP]],
  ]
  const processes = ['one process', 'a process started after', 'a process started before', 'two processes']
  const rows = [5 * MINUTE, HOUR].flatMap((lifetimeMs) =>
    jumps.flatMap(([jump, jumpsMs]) =>
      processes.flatMap((process) =>
        [0, lifetimeMs / 2].map((ageMs) => ({ jump, jumpsMs, lifetimeMs, ageMs, process })),
      ),
    ),
  )

  it.each(rows)(
    'S6 10 minutes $jump, tokens of $lifetimeMs ms, $ageMs ms old, $process: no loop, nothing stale for long',
    async ({ jump, jumpsMs, lifetimeMs, ageMs, process }) => {
      server.setAccessTokenTtl(lifetimeMs / SECOND)
      const clock = stillClock()
      const open = sharedSessions()
      const grants = process === 'two processes' ? recordingGrants() : undefined
      const start = () => siteWith({ clock, store: open(), ...(grants && { surroundings: { grants } }) })
      const site = await start()
      const browser = site.browser()
      const login = await server.login('user')
      await browser.post('/login', login)
      const obtainedAt = new Map([[login.access_token, clock.monotonic()]])
      let stalestMs = Number.NEGATIVE_INFINITY
      const ask = async (browser: Browser) => {
        const [token = ''] = await tokensAsked(browser, 1)
        if (!obtainedAt.has(token)) obtainedAt.set(token, clock.monotonic())
        stalestMs = Math.max(stalestMs, clock.monotonic() - obtainedAt.get(token)! - lifetimeMs)
      }
      clock.advance(ageMs)

      const started: Browser[] = process === 'one process' ? [browser] : []
      if (process === 'two processes') started.push(browser, (await start()).browser(browser))
      if (process === 'a process started before') {
        started.push((await start()).browser(browser))
        await ask(started[0]!)
      }
      for (const jumpMs of jumpsMs) {
        clock.jump(jumpMs)
        if (started.length === 0) started.push((await start()).browser(browser))
        for (let n = 0; n < 10; n++) await ask(started[n % started.length]!)
      }
      const extra = jumpsMs.length * started.length
      expect(server.refreshes()).toBeLessThanOrEqual(extra)
      for (let n = 0; n < 20; n++) {
        clock.advance(lifetimeMs / 10)
        await ask(started[n % started.length]!)
      }
      const usual = Math.floor(clock.monotonic() / (lifetimeMs - MINUTE))
      expect(server.refreshes()).toBeLessThanOrEqual(usual + extra)
      // All that a process has to go by which started after the login is the wall clock, and a token that is older
      // than the jump then seems to be younger than it is.
      const seemsYounger = process.startsWith('a process') && jump === 'back' && ageMs > JUMP
      expect(stalestMs).toBeLessThan(seemsYounger ? JUMP - MINUTE : 0)
      expect(server.presentedAgain()).toEqual([])
    },
  )
})

describe('tokens.getAccessToken({ minValidityMs })', () => {
  it.each([
    ['half an hour', 30 * MINUTE, 30 * MINUTE],
    ['less than the leeway', SECOND, HOUR - MINUTE],
    ['zero', 0, HOUR - MINUTE],
    ['longer than a token lives, which is cut', 2 * HOUR, 6 * MINUTE],
  ])('refreshes a token that will not be valid for %s', async (_, minValidityMs, usableForMs) => {
    const clock = stillClock()
    const site = await siteWith({ clock })
    const browser = site.browser()
    const login = await server.login('user')
    await browser.post('/login', login)
    const path = `/token?minValidityMs=${minValidityMs}`
    clock.advance(usableForMs - 1)
    expect(await tokensAsked(browser, 3, path)).toEqual(Array(3).fill(login.access_token))
    clock.advance(1)
    const [token] = await tokensAsked(browser, 1, path)
    expect(token).not.toBe(login.access_token)
    expect(await tokensAsked(browser, 10, path)).toEqual(Array(10).fill(token))
    expect(server.refreshes()).toBe(1)
  })

  it('does not refresh the token for callers with a smaller need', async () => {
    const site = await siteWith()
    const browser = site.browser()
    const login = await server.login('user')
    await browser.post('/login', login)
    site.clock.advance(45 * MINUTE)
    expect(await tokensAsked(browser, 2)).toEqual(Array(2).fill(login.access_token))
    expect(server.refreshes()).toBe(0)
  })
})

describe('tokens.hasTokens()', () => {
  interface Row {
    name: string
    /** What the login brought; `undefined` when no user has logged in. */
    login?: Record<string, unknown>
    ageMs: number
    expected: boolean
  }
  const login = { access_token: 'at', token_type: 'Bearer', expires_in: 3600 }

  it.each<Row>([
    { name: 'no user has logged in', ageMs: 0, expected: false },
    { name: 'there is a valid token', login, ageMs: 0, expected: true },
    { name: 'there is a token in its last millisecond', login, ageMs: HOUR - 1, expected: true },
    { name: 'the only token has expired', login, ageMs: HOUR, expected: false },
    {
      name: 'the token has expired and there is a refresh token',
      login: { ...login, refresh_token: 'rt' },
      ageMs: 25 * HOUR,
      expected: true,
    },
    { name: 'there is a refresh token alone', login: { refresh_token: 'rt' }, ageMs: 0, expected: true },
  ])('when $name: $expected, without any I/O', async ({ login, ageMs, expected }) => {
    const clock = stillClock()
    const grants = recordingGrants()
    const site = await siteWith({ clock, surroundings: { grants } })
    site.handle('/has', ({ tokens }) => ({ has: tokens.hasTokens() }))
    site.handle('/plain', () => null)
    const browser = site.browser()
    if (login) expect((await browser.post('/login', login)).status).toBe(200)
    grants.forget()
    clock.advance(ageMs)
    const without = await storeCalls(site.store, () => browser.get('/plain'))
    const asking = await storeCalls(site.store, async () => {
      expect((await browser.get('/has')).json).toEqual({ has: expected })
    })
    expect(asking).toEqual(without)
    expect([grants.calls, server.tokenRequests]).toEqual([[], []])
  })

  it('when the user has logged out: false', async () => {
    const site = await siteWith()
    site.handle('/has', ({ tokens }) => ({ has: tokens.hasTokens() }))
    const browser = site.browser()
    await site.login(browser)
    expect((await browser.get('/has')).json).toEqual({ has: true })
    await browser.post('/logout')
    expect((await browser.get('/has')).json).toEqual({ has: false })
  })

  it('when the grant is dead: false', async () => {
    const site = await siteWith()
    site.handle('/has', ({ tokens }) => ({ has: tokens.hasTokens() }))
    const browser = site.browser()
    await browser.post('/login', { ...(await server.login('user')), refresh_token: 'unknown' })
    expect((await browser.get('/has')).json).toEqual({ has: true })
    site.clock.advance(HOUR)
    expect((await browser.get('/token')).json).toMatchObject({ code: 'ERR_REAUTHENTICATION_REQUIRED' })
    expect((await browser.get('/has')).json).toEqual({ has: false })
  })
})

describe('tokens.idToken', () => {
  it('is the newest ID token, also in a request from before the refresh', async () => {
    const site = await siteWith()
    const gate = createGate()
    site.handle('/id', ({ tokens }) => ({ idToken: tokens.idToken }))
    site.handle('/slow', async ({ tokens }) => {
      const before = tokens.idToken
      await gate.pass()
      return { before, after: tokens.idToken }
    })
    const browser = site.browser()
    expect((await browser.get('/id')).json).toEqual({})
    const login = await server.login('user')
    await browser.post('/login', login)
    const slow = browser.get('/slow')
    await gate.reached
    site.clock.advance(HOUR)
    await tokensAsked(browser, 1)
    const { idToken } = (await browser.get('/id')).json
    expect(idToken).not.toBe(login.id_token)
    expect(decodeJwt(idToken).sub).toBe('user')
    gate.release()
    expect((await slow).json).toEqual({ before: login.id_token, after: idToken })
  })
})

describe.each(expressVersions)('requireTokens(need), on %s', (_, express) => {
  const A = 'https://api-a.example'
  const B = 'https://api-b.example'

  it('makes its scope the default of getAccessToken() and axios() in the handler, and nowhere else', async () => {
    const site = await siteWith({ express })
    const api = await startApi()
    site.app.get('/orders', requireTokens({ scope: 'orders.read' }), async ({ tokens }, response) => {
      const { data } = await tokens.axios({ baseURL: api.url }).get('/')
      response.json({ ...(await tokens.getAccessToken()), api: data.token })
    })
    const browser = site.browser()
    await browser.post('/login', { ...(await server.login('user')), scope: undefined })
    site.clock.advance(HOUR)
    const orders = (await browser.get('/orders')).json
    expect(orders.scope).toBe('orders.read')
    expect(orders.api).toBe(orders.token)
    expect(server.tokenRequests.map(({ scope }) => scope)).toEqual(['orders.read'])

    const other = (await browser.get('/token')).json
    expect(other.scope).toBe('openid offline_access orders.read orders.write')
    expect(server.tokenRequests.map(({ scope }) => scope)).toEqual(['orders.read', undefined])
  })

  it('makes its resource the default, and the resource of a need has priority', async () => {
    const site = await siteWith({ express })
    site.app.get('/a', requireTokens({ resource: A }), async ({ tokens }, response) => {
      const own = await tokens.getAccessToken()
      const again = await tokens.getAccessToken({ minValidityMs: MINUTE })
      const other = await tokens.getAccessToken({ resource: B })
      response.json([own, again, other].map(({ token }) => decodeJwt(token).aud))
    })
    const browser = site.browser()
    const login = await server.login('user', { resource: [A, B] })
    await browser.post('/login', login)
    expect((await browser.get('/a')).json).toEqual([A, A, B])
    expect((await browser.get('/a')).json).toEqual([A, A, B])
    expect(server.tokenRequests.map(({ resource }) => resource)).toEqual([A, B])
    expect(await tokensAsked(browser, 1)).toEqual([login.access_token])
  })

  it('has the token refreshed before the handler runs, or keeps the handler from running', async () => {
    const site = await siteWith({ express })
    const ran: string[] = []
    site.app.get('/guarded', requireTokens(), (request, response) => {
      ran.push(request.path)
      response.json(server.refreshes())
    })
    const browser = site.browser()
    expect((await browser.get('/guarded')).status).toBe(401)
    expect(ran).toEqual([])
    await site.login(browser)
    site.clock.advance(HOUR)
    expect((await browser.get('/guarded')).json).toBe(1)
  })
})
