import { randomBytes } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import { afterEach, describe, expect, it, jest } from '@jest/globals'
import { LEASE_MS } from '../../lib/concurrency/time-constants.js'
import type { GrantStore } from '../../lib/grants/grant-store.js'
import { memoryGrantStore } from '../../lib/grants/memory-grant-store.js'
import { requireTokens } from '../../lib/index.js'
import type { AnySessionTokensOptions } from '../../lib/middleware/options.js'
import { bearerProxy } from '../../lib/proxy.js'
import { clients } from '../helpers/authorization-server.js'
import type { Browser } from '../helpers/browser.js'
import { stillClock } from '../helpers/clock.js'
import { startTokenEndpoint } from '../helpers/fault-server.js'
import type { Fault } from '../helpers/faults.js'
import { createGate } from '../helpers/gate.js'
import {
  ownProcess,
  recordingGrants,
  type Site,
  type SiteOptions,
  sharedSessions,
  startSite,
} from '../helpers/site.js'
import { sessionIdOf } from '../helpers/stores.js'
import { type ExchangingServer, startExchangingServer, TOKEN_EXCHANGE } from '../helpers/token-exchange.js'
import { json, wireServer } from '../helpers/wire-server.js'

const HOUR_MS = 3_600_000
const EXCHANGES = {
  billing: { audience: 'billing', scope: 'invoices.read' },
  stock: { audience: 'stock' },
} satisfies AnySessionTokensOptions['exchanges']

const closers: (() => Promise<unknown>)[] = []
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close()
})

interface Visit {
  readonly server: ExchangingServer
  readonly site: Site
  readonly browser: Browser
}

/** A user who has logged in at a server that exchanges tokens. */
async function visit({ tokens, ...options }: SiteOptions = {}): Promise<Visit> {
  const server = await startExchangingServer()
  closers.push(server.close)
  const site = await startSite(server, { ...options, tokens: { exchanges: EXCHANGES, ...tokens } })
  closers.push(site.close)
  const browser = site.browser()
  await site.login(browser)
  return { server, site, browser }
}

const tokenOf = async (browser: Browser, exchange?: string): Promise<string> => {
  const { status, json } = await browser.get(`/token${exchange ? `?exchange=${exchange}` : ''}`)
  expect(status).toBe(200)
  return json.token
}

describe('S103 a token by exchange', () => {
  it('S103 is requested with the own token of the session, once, and kept beside the others', async () => {
    const { server, site, browser } = await visit()
    const own = await tokenOf(browser)
    const { json } = await browser.get('/token?exchange=billing')
    expect(json).toMatchObject({ tokenType: 'Bearer', scope: 'invoices.read' })
    expect(await tokenOf(browser, 'billing')).toBe(json.token)
    expect(json.token).not.toBe(own)
    expect(await tokenOf(browser)).toBe(own)
    expect(server.exchanges().map((it) => Object.fromEntries(it))).toEqual([
      {
        grant_type: TOKEN_EXCHANGE,
        subject_token: own,
        subject_token_type: 'urn:ietf:params:oauth:token-type:access_token',
        scope: 'invoices.read',
        audience: 'billing',
      },
    ])
    expect(server.refreshes()).toBe(0)
    expect(site.errors).toEqual([])
  })

  it('S103 50 callers share one exchange, and another exchange has a token of its own', async () => {
    const { server, browser } = await visit()
    const tokens = await Promise.all(Array.from({ length: 50 }, () => tokenOf(browser, 'billing')))
    expect(new Set(tokens).size).toBe(1)
    expect(server.exchanges()).toHaveLength(1)
    expect(tokens).not.toContain(await tokenOf(browser, 'stock'))
    expect(server.exchanges()).toHaveLength(2)
  })

  it('S103 50 callers in two processes share one exchange', async () => {
    const server = await startExchangingServer()
    closers.push(server.close)
    const grants = memoryGrantStore()
    const sessions = sharedSessions()
    const start = async () => {
      const site = await startSite(server, {
        store: sessions(),
        surroundings: ownProcess(undefined, { grants }),
        tokens: { exchanges: EXCHANGES },
      })
      closers.push(site.close)
      return site
    }
    const [one, two] = [await start(), await start()]
    const browser = one.browser()
    await one.login(browser)
    const other = two.visitorOf(browser)
    const calls = Array.from({ length: 50 }, (_, index) => tokenOf(index % 2 ? browser : other, 'billing'))
    expect(new Set(await Promise.all(calls)).size).toBe(1)
    expect(server.exchanges()).toHaveLength(1)
  })

  it('S10 S103 50 parallel requests on an expired session: 1 refresh, 1 exchange with the new token', async () => {
    const { server, site, browser } = await visit()
    site.clock.advance(2 * HOUR_MS)
    const calls = Array.from({ length: 50 }, (_, index) =>
      tokenOf(browser, index % 2 ? 'billing' : undefined),
    )
    const tokens = await Promise.all(calls)
    expect(new Set(tokens).size).toBe(2)
    expect([server.refreshes(), server.exchanges().length]).toEqual([1, 1])
    expect(server.exchanges()[0]?.get('subject_token')).toBe(await tokenOf(browser))
    expect(server.presentedAgain()).toEqual([])
  })

  it('S103 is renewed when it expires, after a refresh of the own token', async () => {
    const { server, site, browser } = await visit()
    const first = await tokenOf(browser, 'billing')
    site.clock.advance(2 * HOUR_MS)
    const second = await tokenOf(browser, 'billing')
    expect(second).not.toBe(first)
    expect([server.refreshes(), server.exchanges().length]).toEqual([1, 2])
    expect((await site.storedTokens(browser))?.refreshToken).toBeDefined()
    expect(await server.isActive(second)).toBe(true)
  })

  it('S103 is renewed ahead of its expiry, beside the request', async () => {
    const { server, site, browser } = await visit({
      tokens: { exchanges: EXCHANGES, refreshAheadMs: 600_000, leewayMs: 0 },
    })
    const first = await tokenOf(browser, 'billing')
    site.clock.advance(HOUR_MS - 60_000)
    const gate = server.hold(({ grantType }) => grantType === TOKEN_EXCHANGE)
    expect(await tokenOf(browser, 'billing')).toBe(first)
    await gate.reached
    gate.release()
    await site.middleware.close()
    expect(await tokenOf(browser, 'billing')).not.toBe(first)
    expect(server.exchanges()).toHaveLength(2)
  })

  it('S103 an API that rejects it gets another one; the own token stays', async () => {
    const { server, site, browser } = await visit()
    const sent: string[] = []
    const api = await wireServer((request, response) => {
      sent.push(request.headers.authorization ?? '')
      const challenge = sent.length === 1 && { 'www-authenticate': 'Bearer error="invalid_token"' }
      json(response, {}, challenge ? 401 : 200, challenge || {})
    })
    closers.push(api.close)
    const [own, first] = [await tokenOf(browser), await tokenOf(browser, 'billing')]
    site.handle('/call', async (request) => {
      const { status } = await request.tokens
        .axios({ baseURL: api.url, need: { exchange: 'billing' } })
        .get('/')
      return status
    })
    expect((await browser.get('/call')).json).toBe(200)
    expect(sent).toEqual([`Bearer ${first}`, `Bearer ${await tokenOf(browser, 'billing')}`])
    expect(server.exchanges()).toHaveLength(2)
    expect(await tokenOf(browser)).toBe(own)
    expect(server.refreshes()).toBe(0)
  })

  it('S103 ends with the grant: nothing is left in the session, nor valid at the server', async () => {
    const { server, site, browser } = await visit()
    const token = await tokenOf(browser, 'billing')
    expect(await server.isActive(token)).toBe(true)
    expect((await browser.post('/logout')).status).toBe(200)
    expect((await browser.get('/token?exchange=billing')).status).toBe(401)
    expect(JSON.stringify((await site.stored(browser)) ?? {})).not.toContain(token)
    expect(await server.isActive(token)).toBe(false)
  })

  it('S35 S103 a logout during an exchange: the user stays logged out', async () => {
    const { server, browser } = await visit()
    const gate = server.holdAnswer(({ grantType }) => grantType === TOKEN_EXCHANGE)
    const call = browser.get('/token?exchange=billing')
    await gate.reached
    const logout = browser.post('/logout')
    gate.release()
    expect((await call).status).toBe(401)
    expect((await logout).status).toBe(200)
    expect((await browser.get('/token')).status).toBe(401)
    expect(server.presentedAgain()).toEqual([])
  })

  it('S21 S103 a slow request sets `views` during an exchange: both are in the session', async () => {
    const { server, site, browser } = await visit()
    const slow = site.slow('/views', (request) => Object.assign(request.session, { views: 1 }))
    const write = browser.post('/views')
    await slow.reached
    const token = await tokenOf(browser, 'billing')
    slow.release()
    expect((await write).status).toBe(200)
    expect(await site.stored(browser)).toMatchObject({ views: 1 })
    expect(await tokenOf(browser, 'billing')).toBe(token)
    expect(server.exchanges()).toHaveLength(1)
  })

  it('S12 S103 a request with the session from before the exchange arrives after it: no second one', async () => {
    const { server, site, browser } = await visit()
    const before = JSON.stringify(await site.stored(browser))
    const token = await tokenOf(browser, 'billing')
    for (let call = 0; call < 3; call++) {
      const id = sessionIdOf(browser.cookie('connect.sid'))!
      await new Promise((resolve) => site.store.store.set(id, JSON.parse(before), resolve))
      expect(await tokenOf(browser, 'billing')).toBe(token)
    }
    expect(server.exchanges()).toHaveLength(1)
  })

  it('S15 S103 a resource, an exchange and the own token at once on one refresh token: each gets its own', async () => {
    const server = await startExchangingServer()
    closers.push(server.close)
    const site = await startSite(server, { tokens: { exchanges: EXCHANGES } })
    closers.push(site.close)
    const browser = site.browser()
    await site.login(browser, 'user', { resource: 'https://api.example/a' })
    site.clock.advance(2 * HOUR_MS)
    const paths = ['/token', '/token?exchange=billing', '/token?resource=https://api.example/a']
    const responses = await Promise.all([...paths, ...paths].map((path) => browser.get(path)))
    expect(responses.map(({ status }) => status)).toEqual(Array(6).fill(200))
    expect(new Set(responses.map(({ json }) => json.token)).size).toBe(3)
    expect(server.reuses()).toBe(0)
    expect(server.exchanges()).toHaveLength(1)
  })

  it('S103 is for a route: requireTokens({ exchange }) makes it the default of calls', async () => {
    const { server, site, browser } = await visit()
    const guard = requireTokens({ exchange: 'billing' })
    site.handle('/route', async (request, response) => {
      await new Promise<void>((resolve, reject) =>
        guard(request, response, (error) => (error ? reject(error) : resolve())),
      )
      return (await request.tokens.getAccessToken()).token
    })
    expect((await browser.get('/route')).json).toBe(await tokenOf(browser, 'billing'))
    expect(server.exchanges()).toHaveLength(1)
  })

  it('S103 is for a proxy: bearerProxy({ need: { exchange } })', async () => {
    const { site, browser } = await visit()
    const api = await wireServer((request, response) => json(response, request.headers.authorization))
    closers.push(api.close)
    site.app.get('/api/total', bearerProxy({ target: api.url, need: { exchange: 'billing' } }))
    expect((await browser.get('/api/total')).json).toBe(`Bearer ${await tokenOf(browser, 'billing')}`)
  })

  it('S103 an unknown name is a ConfigurationError with the right one', async () => {
    const { server, site, browser } = await visit()
    expect((await browser.get('/token?exchange=biling')).status).toBe(500)
    expect(site.errors).toMatchObject([
      { code: 'ERR_CONFIGURATION', message: expect.stringMatching(/Did you mean `billing`\?$/) },
    ])
    expect(server.tokenRequests).toHaveLength(0)
  })

  it('S103 without a refresh token the own token is exchanged while it is valid', async () => {
    const { server, site, browser } = await visit()
    const login = await server.login('user')
    await browser.post('/login', { ...login, refresh_token: undefined })
    const token = await tokenOf(browser, 'billing')
    site.clock.advance(2 * HOUR_MS)
    expect((await browser.get('/token?exchange=billing')).status).toBe(401)
    expect(site.errors.at(-1)).toMatchObject({ code: 'ERR_REAUTHENTICATION_REQUIRED' })
    expect(token).not.toBe(login.access_token)
  })
})

describe('S103 another process has refreshed while a process stood still during an exchange', () => {
  afterEach(() => {
    jest.restoreAllMocks()
  })

  /** A grant store whose second commit, that of the exchange, waits at a gate. */
  function lateCommit() {
    const gate = createGate()
    let commits = 0
    const altered = (grants: GrantStore): Partial<GrantStore> => ({
      async commit(...record) {
        if (commits++ === 1) await gate.pass()
        return grants.commit(...record)
      },
    })
    return { gate, altered }
  }

  /** Two processes with one session. The grant store of the first one is altered. */
  async function twoProcesses(
    altered: (grants: GrantStore) => Partial<GrantStore> = () => ({}),
    { ofStill, ofOther }: { readonly ofStill?: string[]; readonly ofOther?: string[] } = {},
  ) {
    const server = await startExchangingServer()
    closers.push(server.close)
    const grants = recordingGrants()
    const sessions = sharedSessions()
    const start = async (store: GrantStore, encryptionKeys: string[] | undefined) => {
      const site = await startSite(server, {
        store: sessions(),
        surroundings: { grants: store },
        tokens: { exchanges: EXCHANGES, ...(encryptionKeys && { encryptionKeys }) },
      })
      closers.push(site.close)
      return site
    }
    const still = await start({ ...grants, ...altered(grants) }, ofStill)
    const other = await start(grants, ofOther)
    const browser = still.browser()
    await still.login(browser)
    const elsewhere = other.visitorOf(browser)
    const stoodStill = () => {
      const { now } = performance
      const later = (): number => now.call(performance) + LEASE_MS + 1
      jest.spyOn(performance, 'now').mockImplementation(later)
    }
    return {
      server,
      browser,
      still,
      other,
      elsewhere,
      /** Time passes for tokens. */
      onward() {
        for (const site of [still, other]) site.clock.advance(2 * HOUR_MS)
      },
      /** The lease of the first process lapses. */
      stoodStill,
      /** The lease lapses, and the other process refreshes. Resolves with its response. */
      async refreshElsewhere() {
        stoodStill()
        const rejected = await tokenOf(elsewhere)
        return elsewhere.get(`/token?rejected=${encodeURIComponent(rejected)}`)
      },
    }
  }

  type Parts = Awaited<ReturnType<typeof twoProcesses>>

  async function expectServed({ browser, elsewhere }: Parts, newest: string) {
    for (const each of [elsewhere, browser]) expect(await tokenOf(each)).toBe(newest)
  }

  /** Every process goes on with the refresh token of the other process. */
  async function expectRefreshed({ server, browser, elsewhere, onward }: Parts) {
    for (const each of [browser, elsewhere]) {
      onward()
      await tokenOf(each)
    }
    expect(server.presentedAgain()).toEqual([])
  }

  it('S103 before it committed: the newer refresh token stays, and the token is kept beside it', async () => {
    const { gate, altered } = lateCommit()
    const parts = await twoProcesses(altered)
    const call = tokenOf(parts.browser, 'billing')
    await gate.reached
    const { json } = await parts.refreshElsewhere()
    gate.release()
    expect(await tokenOf(parts.elsewhere, 'billing')).toBe(await call)
    expect(parts.server.exchanges()).toHaveLength(1)
    await expectServed(parts, json.token)
    await expectRefreshed(parts)
  })

  it('S103 before it committed, and it cannot read the newer tokens: they stay', async () => {
    const { gate, altered } = lateCommit()
    const [newKey, oldKey] = [randomBytes(32).toString('base64'), randomBytes(32).toString('base64')]
    const parts = await twoProcesses(altered, { ofStill: [oldKey], ofOther: [newKey, oldKey] })
    const call = tokenOf(parts.browser, 'billing')
    await gate.reached
    const { json } = await parts.refreshElsewhere()
    gate.release()
    await call
    expect(await tokenOf(parts.elsewhere)).toBe(json.token)
    for (let refresh = 0; refresh < 2; refresh++) {
      parts.onward()
      await tokenOf(parts.elsewhere)
    }
    expect(parts.server.presentedAgain()).toEqual([])
  })

  it('S103 before the response came: the newer refresh token stays, and its access token is exchanged', async () => {
    const parts = await twoProcesses()
    const gate = parts.server.holdAnswer(({ grantType }) => grantType === TOKEN_EXCHANGE)
    const call = tokenOf(parts.browser, 'billing')
    await gate.reached
    const { json } = await parts.refreshElsewhere()
    gate.release()
    expect(await tokenOf(parts.elsewhere, 'billing')).toBe(await call)
    expect(parts.server.exchanges().at(-1)?.get('subject_token')).toBe(json.token)
    expect(parts.server.exchanges()).toHaveLength(2)
    await expectServed(parts, json.token)
    await expectRefreshed(parts)
  })

  it('S103 before the response came, it cannot commit, and the other one cannot write the session', async () => {
    let fails = false
    const parts = await twoProcesses((grants) => ({
      commit: (...record) => (fails ? Promise.reject(new Error('no commit')) : grants.commit(...record)),
    }))
    const gate = parts.server.holdAnswer(({ grantType }) => grantType === TOKEN_EXCHANGE)
    const call = tokenOf(parts.browser, 'billing')
    await gate.reached
    const writes = parts.other.store.failAll('set')
    expect(await parts.refreshElsewhere()).toMatchObject({ status: 200 })
    expect(parts.other.events.map(({ type }) => type)).toContain('session_write_failed')
    fails = true
    gate.release()
    await call
    fails = false
    writes()
    await expectRefreshed(parts)
  })

  it('S103 before the response came, and no other process has refreshed: no second exchange', async () => {
    const parts = await twoProcesses()
    const gate = parts.server.holdAnswer(({ grantType }) => grantType === TOKEN_EXCHANGE)
    const call = tokenOf(parts.browser, 'billing')
    await gate.reached
    parts.stoodStill()
    gate.release()
    expect(await tokenOf(parts.elsewhere, 'billing')).toBe(await call)
    expect(parts.server.exchanges()).toHaveLength(1)
    await expectRefreshed(parts)
  })

  it('S103 before the response came, and the grant store is down: the callers get the token', async () => {
    let isDown = false
    const failing =
      <A extends unknown[], R>(operation: (...args: A) => Promise<R>) =>
      (...args: A): Promise<R> =>
        isDown ? Promise.reject(new Error('no connection')) : operation(...args)
    const parts = await twoProcesses(({ lease, release, renew, commit, read, end }) => ({
      lease: failing(lease),
      release: failing(release),
      renew: failing(renew),
      commit: failing(commit),
      read: failing(read),
      end: failing(end),
    }))
    const gate = parts.server.holdAnswer(({ grantType }) => grantType === TOKEN_EXCHANGE)
    const call = parts.browser.get('/token?exchange=billing')
    await gate.reached
    isDown = true
    parts.stoodStill()
    gate.release()
    expect(await call).toMatchObject({ status: 200, json: { scope: 'invoices.read' } })
    expect(parts.still.events.map(({ type }) => type)).toContain('grant_store_failed')
    isDown = false
    await tokenOf(parts.browser, 'billing')
    await expectRefreshed(parts)
  })

  it('S103 before it committed, and the login is over: the token brings it back nowhere', async () => {
    const { gate, altered } = lateCommit()
    const { server, browser, elsewhere, other, refreshElsewhere } = await twoProcesses(altered)
    const call = browser.get('/token?exchange=billing')
    await gate.reached
    const { refreshToken } = (await other.storedTokens(elsewhere))!
    await (await server.provider.RefreshToken.find(refreshToken!))!.destroy()
    expect((await refreshElsewhere()).status).toBe(401)
    gate.release()
    expect((await call).status).toBe(401)
    for (const each of [browser, elsewhere])
      expect((await each.get('/token?exchange=billing')).status).toBe(401)
  })
})

describe('S103 an actor that hangs', () => {
  it('S103 fails its exchange alone: the refreshes of other users go on', async () => {
    const hang = () => new Promise<string>(() => {})
    const failed = {
      type: 'refresh_failed',
      error: { code: 'ERR_CONFIGURATION', cause: { message: 'It took more than 5000 ms.' } },
    }
    const { site, browser } = await visit({
      tokens: { exchanges: { billing: { audience: 'billing', actor: hang } }, timeoutMs: 200 },
    })
    const users = [browser, site.browser(), site.browser()]
    for (const user of users.slice(1)) await site.login(user)
    const another = site.browser()
    await site.login(another)
    const calls = users.map((user) => user.get('/token?exchange=billing'))
    expect((await Promise.all(calls)).map(({ status }) => status)).toEqual([503, 503, 503])
    while (site.events.length < 3) await delay(20)
    expect(site.events).toMatchObject([failed, failed, failed])
    site.clock.advance(2 * HOUR_MS)
    await tokenOf(another)
  })
})

describe('S103 a refusal of an exchange is its own', () => {
  interface Scripted {
    readonly site: Site
    readonly browser: Browser
    /** What was requested: `refresh`, or the audience of an exchange with its subject token. */
    asked(): string[]
  }

  /** A server that responds to exchanges as a test tells it to, and refreshes. */
  async function scripted(
    respond: (subject: string, index: number) => Fault,
    login: object = {},
    refreshedTo = (index: number) => `at${index}`,
  ): Promise<Scripted> {
    const asked: string[] = []
    const endpoint = await startTokenEndpoint(({ parameters }) => {
      const subject = parameters.get('subject_token')
      asked.push(subject === null ? 'refresh' : `exchange ${subject}`)
      const index = asked.length
      const success = { access_token: refreshedTo(index), token_type: 'Bearer', expires_in: 3600 }
      if (subject === null) return { status: 200, body: { ...success, refresh_token: `rt${index}` } }
      return respond(subject, index)
    })
    closers.push(endpoint.close)
    const server = { ...endpoint, clients, login: () => Promise.reject(new Error('Post to /login.')) }
    const site = await startSite(server, { clock: stillClock(), tokens: { exchanges: EXCHANGES } })
    closers.push(site.close)
    const browser = site.browser()
    const own = { access_token: 'at0', token_type: 'Bearer', expires_in: 3600, refresh_token: 'rt0' }
    await browser.post('/login', { ...own, ...login })
    return { site, browser, asked: () => asked }
  }

  const refusal = (error: string): Fault => ({ status: 400, body: { error } })

  it.each([
    ['invalid_target', 403, 'ERR_INSUFFICIENT_SCOPE'],
    ['invalid_scope', 403, 'ERR_INSUFFICIENT_SCOPE'],
    ['invalid_request', 502, 'ERR_TOKEN_ENDPOINT'],
    ['unsupported_grant_type', 502, 'ERR_TOKEN_ENDPOINT'],
    ['access_denied', 502, 'ERR_TOKEN_ENDPOINT'],
    ['unauthorized_client', 502, 'ERR_TOKEN_ENDPOINT'],
    // Keycloak sends it for an audience that it does not know.
    ['invalid_client', 502, 'ERR_TOKEN_ENDPOINT'],
  ])('S103 %s: %i, asked once; the own token is served and refreshed', async (error, status, code) => {
    const { site, browser, asked } = await scripted(() => refusal(error))
    for (let call = 0; call < 3; call++)
      expect((await browser.get('/token?exchange=billing')).status).toBe(status)
    expect(site.errors[0]).toMatchObject({ code, error })
    expect(asked()).toEqual(['exchange at0'])
    expect((await browser.get('/token')).json.token).toBe('at0')
    expect((await browser.get('/token?minValidityMs=3590000&scope=')).status).toBe(200)
    site.clock.advance(HOUR_MS)
    expect((await browser.get('/token')).status).toBe(200)
    expect(asked().filter((it) => it === 'refresh')).toHaveLength(1)
    expect(site.events.filter(({ type }) => type === 'ended')).toEqual([])
  })

  it('S103 invalid_grant: the own token is refreshed once and presented again; the user stays logged in', async () => {
    const { site, browser, asked } = await scripted(() => refusal('invalid_grant'))
    for (let call = 0; call < 3; call++)
      expect((await browser.get('/token?exchange=billing')).status).toBe(403)
    expect(asked()).toEqual(['exchange at0', 'refresh', 'exchange at2'])
    expect(site.errors[0]).toMatchObject({ code: 'ERR_INSUFFICIENT_SCOPE', error: 'invalid_grant' })
    expect((await browser.get('/token')).json.token).toBe('at2')
    expect(site.events.filter(({ type }) => type === 'ended')).toEqual([])
  })

  it('S103 invalid_grant, and the refresh returns the same own token: it is presented once more, then the need fails', async () => {
    const { site, browser, asked } = await scripted(
      () => refusal('invalid_grant'),
      {},
      () => 'at0',
    )
    expect((await browser.get('/token?exchange=billing')).status).toBe(403)
    expect(asked()).toEqual(['exchange at0', 'refresh', 'exchange at0'])
    expect((await browser.get('/token')).json.token).toBe('at0')
    expect(site.events.filter(({ type }) => type === 'ended')).toEqual([])
  })

  it('S103 an own token that the server has forgotten is replaced, and the exchange succeeds', async () => {
    const { browser, asked } = await scripted((subject, index) =>
      subject === 'at0'
        ? refusal('invalid_grant')
        : { status: 200, body: { access_token: `ex${index}`, token_type: 'Bearer', expires_in: 60 } },
    )
    expect((await browser.get('/token?exchange=billing')).json.token).toBe('ex3')
    expect(asked()).toEqual(['exchange at0', 'refresh', 'exchange at2'])
  })

  it('S103 invalid_grant without a refresh token: only the exchange fails', async () => {
    const { browser, asked } = await scripted(() => refusal('invalid_grant'), { refresh_token: undefined })
    expect((await browser.get('/token?exchange=billing')).status).toBe(403)
    expect((await browser.get('/token')).json.token).toBe('at0')
    expect(asked()).toEqual(['exchange at0'])
  })

  it('S103 interaction_required: a StepUpError, and the own token is served', async () => {
    const { site, browser } = await scripted(() => refusal('interaction_required'))
    expect((await browser.get('/token?exchange=billing')).status).toBe(401)
    expect(site.errors[0]).toMatchObject({ code: 'ERR_STEP_UP_REQUIRED', error: 'interaction_required' })
    expect((await browser.get('/token')).json.token).toBe('at0')
  })

  it('S103 a refresh token and an ID token in the response are not kept', async () => {
    const { site, browser } = await scripted(() => ({
      status: 200,
      body: {
        access_token: 'ex',
        token_type: 'Bearer',
        expires_in: 60,
        refresh_token: 'foreign',
        id_token: 'x.y.z',
      },
    }))
    expect((await browser.get('/token?exchange=billing')).json.token).toBe('ex')
    expect(await site.storedTokens(browser)).toMatchObject({ refreshToken: 'rt0' })
    expect(JSON.stringify(await site.stored(browser))).not.toMatch(/foreign|x\.y\.z/)
  })

  it('S103 a version without exchanges does not take the token for that of the login', async () => {
    const { site, browser } = await scripted(() => ({
      status: 200,
      body: { access_token: 'ex', expires_in: 60 },
    }))
    expect((await browser.get('/token?exchange=billing')).json.token).toBe('ex')
    const stored = (await site.storedTokens(browser)) as unknown as Record<string, object[]>
    expect(stored.accessTokens).toMatchObject([{ token: 'at0' }])
    expect(stored.exchanged).toMatchObject([{ token: 'ex', exchange: 'billing' }])
  })
})
