import { setImmediate } from 'node:timers/promises'
import { afterAll, afterEach, describe, expect, it } from '@jest/globals'
import cookieSession from 'cookie-session'
import express, { type RequestHandler } from 'express'
import session from 'express-session'
import { getIronSession } from 'iron-session'
import type { GrantStore, Retention } from '../../lib/grants/grant-store.js'
import {
  clientSecretBasic,
  memoryGrantStore,
  type SessionTokensOptions,
  type TokenEvent,
} from '../../lib/index.js'
import { composeMiddleware } from '../../lib/middleware/composition.js'
import { middlewareOf } from '../../lib/middleware/express.js'
import { startApp } from '../helpers/app.js'
import { startAuthorizationServer } from '../helpers/authorization-server.js'
import { type Browser, browser } from '../helpers/browser.js'
import { type TestClock, testClock } from '../helpers/clock.js'
import { keepingEvents } from '../helpers/events.js'
import { KOA_COOKIE, startKoaSite } from '../helpers/koa-site.js'
import { ownProcess } from '../helpers/site.js'

const HOUR_MS = 3_600_000
const DAY_MS = 24 * HOUR_MS
/** Near the last moment that a `Date` can say, as apps have it for a cookie that never expires. */
const END_OF_TIME = new Date(8.6e15)
const encryptionKeys = ['UUa2j3oVjRk0c8Zs9CLtEz3uJgQmA7rS7T1a0YbKx5c=']
const password = 'a password of iron-session with more than 32 characters'

const server = await startAuthorizationServer()
const running: { close(): Promise<unknown> }[] = []
afterEach(async () => {
  await Promise.all(running.splice(0).map((it) => it.close()))
  expect(server.reuses()).toBe(0)
})
afterAll(() => server.close())

/** A grant store that notes for how long it is asked to remember. */
function noting() {
  const store = memoryGrantStore()
  const asked: Record<'commit' | 'end', (number | undefined)[]> = { commit: [], end: [] }
  const grants: GrantStore = {
    lease: (grantId, request) => store.lease(grantId, request),
    renew: (grantId, owner, ttlMs) => store.renew(grantId, owner, ttlMs),
    release: (grantId, owner) => store.release(grantId, owner),
    read: (grantId) => store.read(grantId),
    commit(grantId, owner, record, retention?: Retention) {
      asked.commit.push(retention?.ttlMs)
      return store.commit(grantId, owner, record, retention)
    },
    end(grantId, why, retention?: Retention) {
      asked.end.push(retention?.ttlMs)
      return store.end(grantId, why, retention)
    },
  }
  return { grants, asked }
}

interface Site {
  readonly clock: TestClock
  readonly events: readonly TokenEvent[]
  browser(): Browser
}

const { clientId, clientSecret } = server.clients.client_secret_basic

/** An app of Express in a process of its own. */
async function startExpress(layer: RequestHandler, tokens: Partial<SessionTokensOptions>): Promise<Site> {
  const clock = testClock()
  const events: TokenEvent[] = []
  const options = {
    ...{ tokenEndpoint: server.tokenEndpoint, revocationEndpoint: server.revocationEndpoint, clientId },
    clientAuthentication: clientSecretBasic(clientSecret),
    encryptionKeys,
    onEvent: keepingEvents(events),
    ...tokens,
  } as SessionTokensOptions
  const middleware = middlewareOf(composeMiddleware(options, ownProcess(clock)))
  const app = express().set('env', 'test').use(layer, middleware, express.json())
  app.get('/token', async ({ tokens }, response) => void response.json(await tokens.getAccessToken()))
  app.post('/login', async ({ tokens, body }, response) => void response.json(await tokens.set(body)))
  app.post('/logout', async ({ tokens }, response) => void response.json(await tokens.clear()))
  app.use(((error, _request, response, _next) => {
    response.status(error.status ?? 500).json({ code: error.code })
  }) as express.ErrorRequestHandler)
  const { url, close } = await startApp(() => app)
  running.push({ close }, middleware)
  return { clock, events, browser: () => browser(url) }
}

const iron =
  (ttl?: number): RequestHandler =>
  async (request, response, next) => {
    const options = { password, cookieName: 'iron', cookieOptions: { secure: false } }
    const session = await getIronSession(request, response, { ...options, ...(ttl !== undefined && { ttl }) })
    Object.assign(request, { session })
    next()
  }

const expressSession = (cookie: session.CookieOptions) =>
  session({ secret: 'test', resave: false, saveUninitialized: false, cookie })

type Start = (tokens: Partial<SessionTokensOptions>) => Promise<Site>

const inExpress =
  (layer: () => RequestHandler): Start =>
  (tokens) =>
    startExpress(layer(), tokens)

const inKoa =
  (options: Parameters<typeof startKoaSite>[1]): Start =>
  async (tokens) => {
    const site = await startKoaSite(server, { ...options, tokens: { encryptionKeys, ...tokens } })
    running.push(site)
    return site
  }

/** The first request of an own session layer that a test needs no store for. */
function ownLayer(): Partial<SessionTokensOptions> {
  let text: string | undefined
  const session = {
    read: () => text,
    write(value: string) {
      text = value
    },
    clear() {
      text = undefined
    },
  }
  return { session: () => session }
}

const passing: RequestHandler = (_request, _response, next) => next()
const remember: RequestHandler = (request, _response, next) => {
  const { sessionOptions } = request as unknown as { sessionOptions: { maxAge: number } }
  sessionOptions.maxAge = 90 * DAY_MS
  next()
}

/** What is asked for, in days; `null` where the grant store decides. */
type Row = [
  name: string,
  start: Start,
  options: Partial<SessionTokensOptions>,
  grant: number | null,
  end: number,
]

const rows: Row[] = [
  ['cookie-session, maxAge', inExpress(() => cookieSession({ keys: ['k'], maxAge: 7 * DAY_MS })), {}, 7, 7],
  [
    'cookie-session, expires',
    inExpress(() => cookieSession({ keys: ['k'], expires: new Date(Date.now() + 60 * DAY_MS) })),
    {},
    60,
    60,
  ],
  [
    'cookie-session, maxAge of this request',
    inExpress(() => {
      const layer = cookieSession({ keys: ['k'], maxAge: DAY_MS })
      return express().use(layer, remember) as unknown as RequestHandler
    }),
    {},
    90,
    90,
  ],
  [
    'cookie-session, until the browser is closed',
    inExpress(() => cookieSession({ keys: ['k'] })),
    {},
    30,
    30,
  ],
  [
    'cookie-session, sessionMaxAgeMs',
    inExpress(() => cookieSession({ keys: ['k'] })),
    { sessionMaxAgeMs: 3 * DAY_MS },
    3,
    3,
  ],
  [
    'cookie-session, its maxAge before sessionMaxAgeMs',
    inExpress(() => cookieSession({ keys: ['k'], maxAge: 7 * DAY_MS })),
    { sessionMaxAgeMs: 3 * DAY_MS },
    7,
    7,
  ],
  ['iron-session, its own 14 days', inExpress(() => iron()), {}, 14, 14],
  ['iron-session, ttl', inExpress(() => iron((45 * DAY_MS) / 1000)), {}, 45, 45],
  ['iron-session, for ever', inExpress(() => iron(0)), {}, 30, 30],
  ['express-session, maxAge', inExpress(() => expressSession({ maxAge: 2 * DAY_MS })), {}, 2, 2],
  [
    'express-session, expires',
    inExpress(() => expressSession({ expires: new Date(Date.now() + 5 * DAY_MS) })),
    {},
    5,
    5,
  ],
  ...[
    ['express-session', () => expressSession({ expires: END_OF_TIME })] as const,
    ['cookie-session', () => cookieSession({ keys: ['k'], expires: END_OF_TIME })] as const,
  ].map(([name, layer]): Row => [`${name}, for ever`, inExpress(layer), {}, 3_650, 3_650]),
  ['express-session, until the browser is closed', inExpress(() => expressSession({})), {}, null, 30],
  ["express-session, keep: 'store'", inExpress(() => expressSession({})), { keep: 'store' }, 30, 30],
  ['koa-session in cookies, maxAge', inKoa({ inCookies: true, session: { maxAge: 9 * DAY_MS } }), {}, 9, 9],
  [
    'koa-session in cookies, until the browser is closed',
    inKoa({ inCookies: true, session: { maxAge: 'session' } }),
    {},
    30,
    30,
  ],
  ['koa-session in a store, maxAge', inKoa({ session: { maxAge: 9 * DAY_MS } }), {}, 9, 9],
  ['an own layer', inExpress(() => passing), ownLayer(), 30, 30],
  [
    'an own layer, sessionMaxAgeMs',
    inExpress(() => passing),
    { ...ownLayer(), sessionMaxAgeMs: HOUR_MS },
    1 / 24,
    1 / 24,
  ],
]

const shown = (ms: number | undefined) => (ms === undefined ? null : Math.round((ms / DAY_MS) * 100) / 100)
const rounded = (days: number | null) => (days === null ? null : Math.round(days * 100) / 100)

describe('a grant is remembered for as long as its session could come back', () => {
  it.each(rows)('%s', async (_, start, options, grant, end) => {
    const { grants, asked } = noting()
    const site = await start({ grants, ...options })
    const tab = site.browser()
    expect((await tab.post('/login', await server.login('alice'))).status).toBeLessThan(300)
    site.clock.advance(HOUR_MS)
    expect((await tab.get('/token')).status).toBe(200)
    expect(asked.commit.length).toBeGreaterThanOrEqual(2)
    expect(shown(asked.commit.at(-1))).toBe(rounded(grant))
    expect((await tab.post('/logout', {})).status).toBeLessThan(300)
    expect(asked.end.map(shown)).toEqual([rounded(end)])
  })
})

describe('a forged seal of iron-session', () => {
  it.each(['8640000000000000', '1e300', 'Infinity', '99999999999999.5', '0x1fffffffffffff', 'NaN', '-1'])(
    'that expires at %s changes the time for no other user, and stays a time that a store can count',
    async (expiry) => {
      const { grants, asked } = noting()
      const site = await inExpress(() => iron())({ grants })
      const [user, other] = [site.browser(), site.browser()]
      await user.post('/login', await server.login('alice'))
      other.setCookie('forged', `Fe26.2*1*a*b*c*${expiry}*d*e`)
      await other.post('/login', await server.login('bob'))
      for (const ms of asked.commit) {
        expect(Number.isSafeInteger(ms)).toBe(true)
        expect(ms).toBeLessThanOrEqual(3_650 * DAY_MS)
      }
      site.clock.advance(HOUR_MS)
      expect((await user.get('/token')).status).toBe(200)
      expect(shown(asked.commit.at(-1))).toBe(14)
      expect((await user.post('/logout', {})).status).toBe(200)
      expect(asked.end.map(shown)).toEqual([14])
    },
  )
})

describe('a cookie from before a refresh or a logout', () => {
  const cookies: [name: string, start: Start, names: string[]][] = [
    [
      'cookie-session',
      inExpress(() => cookieSession({ keys: ['k'], maxAge: 7 * DAY_MS })),
      ['session', 'session.sig'],
    ],
    ['iron-session', inExpress(() => iron()), ['iron']],
    ['koa-session in cookies', inKoa({ inCookies: true }), [KOA_COOKIE, `${KOA_COOKIE}.sig`]],
  ]

  /** Other users, each with a login and, if it says so, a logout. */
  async function others(grants: GrantStore, count: number, leave: boolean): Promise<void> {
    for (let n = 0; n < count; n++) {
      await grants.commit(`other ${n}`, 'other', { revision: 1, tokens: 'tokens' }, { ttlMs: DAY_MS })
      if (leave) await grants.end(`other ${n}`, 'logged_out', { ttlMs: DAY_MS })
      if (n % 1_000 === 0) await setImmediate()
    }
  }

  function withCookies(site: Site, tab: Browser, names: string[]): Browser {
    const visitor = site.browser()
    for (const name of names) visitor.setCookie(name, tab.cookie(name)!)
    return visitor
  }

  it.each(cookies)('%s: is good after 20,000 other logins', async (_, start, names) => {
    const grants = memoryGrantStore()
    const site = await start({ grants })
    const tab = site.browser()
    await tab.post('/login', await server.login('alice'))
    const old = withCookies(site, tab, names)
    site.clock.advance(HOUR_MS)
    expect((await tab.get('/token')).status).toBe(200)
    await others(grants, 20_000, false)
    const refreshes = server.refreshes()
    site.clock.advance(HOUR_MS)
    expect((await old.get('/token')).status).toBe(200)
    expect(server.refreshes() - refreshes).toBe(1)
  })

  it.each(cookies)(
    'S68 %s: gets nothing after a logout, in any process',
    async (_, start, names) => {
      const grants = memoryGrantStore()
      // Each has a memory of its own: a process.
      const [here, there, late] = [await start({ grants }), await start({ grants }), await start({ grants })]
      const tab = here!.browser()
      await tab.post('/login', await server.login('alice'))
      const before = withCookies(here!, tab, names)
      await tab.post('/logout', {})
      // Its access token is valid still.
      for (const site of [here!, there!]) {
        expect((await withCookies(site, before, names).get('/token')).status).toBe(401)
      }
      await others(grants, 100_000, true)
      for (const site of [here!, there!, late!]) {
        expect((await withCookies(site, before, names).get('/token')).status).toBe(401)
      }
    },
    60_000,
  )
})

describe('a grant that memory has no room for', () => {
  it.each([
    ['in cookies an event is emitted', inExpress(() => cookieSession({ keys: ['k'] })), 1],
    [
      'in a store has a copy, and no event is emitted',
      inExpress(() => expressSession({ maxAge: DAY_MS })),
      0,
    ],
  ])('%s', async (_, start, told) => {
    const site = await start({ grants: memoryGrantStore({ maxGrants: 1 }) })
    for (let n = 0; n < 2; n++) await site.browser().post('/login', await server.login('alice'))
    const evictions = site.events.filter(({ type }) => type === 'grant_evicted')
    expect(evictions).toHaveLength(told)
    expect(evictions).toMatchObject(
      Array(told).fill({ type: 'grant_evicted', grantId: expect.any(String), ended: false }),
    )
  })
})
