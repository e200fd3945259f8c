import { Agent } from 'node:http'
import { Socket } from 'node:net'
import { afterEach, describe, expect, it } from '@jest/globals'
import type { FaultServer } from '../helpers/fault-server.js'
import { startTokenEndpoint } from '../helpers/fault-server.js'
import type { Fault } from '../helpers/faults.js'
import { eventually } from '../helpers/fleet-expectations.js'
import { createGate } from '../helpers/gate.js'
import { recordingGrants, type Site, type SiteOptions, sharedSessions, startSite } from '../helpers/site.js'

const HOUR_MS = 3_600_000
const closers: (() => unknown)[] = []

afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close()
})

const never = new Promise<never>(() => {})
const unavailable = [503, 'ERR_TOKEN_ENDPOINT_UNAVAILABLE']

/** A token endpoint whose responses a test sets. */
async function scriptedServer() {
  let issued = 0
  const state: { respond: (refreshToken: string) => Fault | Promise<Fault> | undefined } = {
    respond: () => undefined,
  }
  const success = () => {
    issued++
    return {
      status: 200,
      body: {
        access_token: `new-access-${issued}`,
        refresh_token: `new-refresh-${issued}`,
        expires_in: 3600,
        token_type: 'Bearer',
      },
    }
  }
  const endpoint = await startTokenEndpoint(async ({ parameters }) => {
    return (await state.respond(String(parameters.get('refresh_token')))) ?? success()
  })
  closers.push(endpoint.close)
  return Object.assign(state, { endpoint })
}

async function siteAt(
  { tokenEndpoint, revocationEndpoint }: Pick<FaultServer, 'tokenEndpoint' | 'revocationEndpoint'>,
  options: SiteOptions = {},
): Promise<Site> {
  const client = { clientId: 'web', clientSecret: 'a secret of the client' }
  const server = { tokenEndpoint, revocationEndpoint, clients: { client_secret_basic: client } }
  const site = await startSite(server as never, options)
  closers.push(site.close)
  return site
}

/** Browsers whose users have logged in, with tokens of an hour. */
async function users(site: Site, count: number) {
  const tabs = Array.from({ length: count }, () => site.browser())
  for (const [index, tab] of tabs.entries()) {
    const tokens = { access_token: `access-${index}`, refresh_token: `refresh-${index}`, expires_in: 3600 }
    await tab.post('/login', tokens)
  }
  return tabs
}

const statusesOf = async (tabs: Awaited<ReturnType<typeof users>>) =>
  Promise.all(tabs.map((tab) => tab.get('/token').then(({ status }) => status)))

/** Callers may get their 503 a moment before the request that opens the breaker counts as silent. */
async function breakerOpened({ events }: Site): Promise<void> {
  const opened = expect.objectContaining({ type: 'breaker_opened', of: 'authorization_server' })
  await eventually(async () => expect(events).toContainEqual(opened))
}

describe('S52 the authorization server accepts connections and is silent', () => {
  it('S52 a valid token is served within patienceMs, and at once while the same refresh is silent', async () => {
    const server = await scriptedServer()
    server.respond = () => never
    const site = await siteAt(server.endpoint, {
      tokens: { patienceMs: 200, refreshTimeoutMs: 5_000 } as never,
    })
    const [tab] = await users(site, 1)
    site.clock.advance(HOUR_MS - 30_000)
    const since = performance.now()
    expect((await tab!.get('/token')).json.token).toBe('access-0')
    expect(performance.now() - since).toBeGreaterThanOrEqual(190)
    site.clock.advance(200)
    for (let call = 0; call < 5; call++) expect((await tab!.get('/token')).json.token).toBe('access-0')
    expect(performance.now() - since).toBeLessThan(5_000)
    expect(server.endpoint.requests).toHaveLength(1)
  })

  it('S52 others get 503 with retryAfterMs; when it works again, the next request has a token', async () => {
    const server = await scriptedServer()
    server.respond = () => never
    const site = await siteAt(server.endpoint, {
      tokens: { timeoutMs: 200, refreshTimeoutMs: 60_000 } as never,
    })
    const tabs = await users(site, 5)
    site.clock.advance(HOUR_MS)
    expect(await statusesOf(tabs.slice(0, 3))).toEqual([503, 503, 503])
    await breakerOpened(site)
    const refused = await tabs[3]!.get('/token')
    expect([refused.status, refused.json.code, refused.json.retryAfterMs]).toEqual([
      ...unavailable,
      expect.any(Number),
    ])
    expect(server.endpoint.requests).toHaveLength(3)

    server.respond = () => undefined
    site.clock.advance(1_000)
    expect((await tabs[4]!.get('/token')).status).toBe(200)
    expect(site.events).toContainEqual(
      expect.objectContaining({ type: 'breaker_closed', of: 'authorization_server' }),
    )
    expect((await tabs[3]!.get('/token')).status).toBe(200)
    // The silent requests are aborted, so their refresh tokens are presented again.
    await eventually(async () => {
      site.clock.advance(1_000)
      expect(await statusesOf(tabs.slice(0, 3))).toEqual([200, 200, 200])
    })
  })
})

describe('S52 requests without a response take all the room of maxConcurrentRefreshes', () => {
  it('S52 a probe goes out all the same, and others get 503 at once', async () => {
    const server = await scriptedServer()
    const gate = createGate()
    server.respond = () => gate.pass() as Promise<never>
    const site = await siteAt(server.endpoint, {
      tokens: { maxConcurrentRefreshes: 3, timeoutMs: 200, refreshTimeoutMs: 60_000 } as never,
    })
    const tabs = await users(site, 5)
    site.clock.advance(HOUR_MS)
    expect(await statusesOf(tabs.slice(0, 3))).toEqual([503, 503, 503])
    await breakerOpened(site)
    site.clock.advance(1_000)
    const probe = statusesOf([tabs[3]!])
    await gate.reachedBy(4)
    expect(server.endpoint.requests).toHaveLength(4)
    const refused = await tabs[4]!.get('/token')
    expect([refused.status, refused.json.retryAfterMs > 0]).toEqual([503, true])
    expect(await probe).toEqual([503])

    server.respond = () => undefined
    site.clock.advance(3_000)
    expect((await tabs[4]!.get('/token')).status).toBe(200)
    // The silent requests are aborted, so their refresh tokens are presented again.
    await eventually(async () => {
      site.clock.advance(1_000)
      expect(await statusesOf(tabs)).toEqual([200, 200, 200, 200, 200])
    })
  })
})

describe('S53 many sessions expire while the server is down', () => {
  it('S53 one probe a second, callers with a valid token get it, and nobody is logged out', async () => {
    const server = await scriptedServer()
    const site = await siteAt(server.endpoint, { tokens: { maxConcurrentRefreshes: 5 } as never })
    const tabs = await users(site, 60)
    const late = await users(site, 1)
    server.respond = () => ({ status: 503 })
    site.clock.advance(HOUR_MS)
    await statusesOf(tabs)
    const atFirst = server.endpoint.requests.length
    expect(atFirst).toBeLessThanOrEqual(3 + 5)
    for (let second = 1; second <= 30; second++) {
      site.clock.advance(1_000)
      await statusesOf(tabs)
    }
    expect(server.endpoint.requests.length - atFirst).toBeLessThanOrEqual(30)
    server.respond = () => undefined
    site.clock.advance(10_000)
    await statusesOf(tabs)
    site.clock.advance(10_000)
    expect(new Set(await statusesOf([...tabs, ...late]))).toEqual(new Set([200]))
    expect(site.events.filter(({ type }) => type === 'breaker_opened')).toHaveLength(1)
    expect(site.events.filter(({ type }) => type === 'breaker_closed')).toHaveLength(1)
  })

  it('S53 refreshes at a time are bounded, and the others wait', async () => {
    const server = await scriptedServer()
    const gate = createGate()
    server.respond = () => gate.pass() as Promise<never>
    const site = await siteAt(server.endpoint, { tokens: { maxConcurrentRefreshes: 4 } as never })
    const tabs = await users(site, 20)
    site.clock.advance(HOUR_MS)
    const asking = statusesOf(tabs)
    await gate.reachedBy(4)
    for (let turn = 0; turn < 200; turn++) await new Promise((resolve) => setImmediate(resolve))
    expect(server.endpoint.requests).toHaveLength(4)
    gate.release()
    expect(new Set(await asking)).toEqual(new Set([200]))
  })
})

describe('S54 Retry-After', () => {
  const down = (status: number): Fault => ({ status, headers: { 'retry-after': '30' } })

  it('S54 of a 503 holds for the server', async () => {
    const server = await scriptedServer()
    const site = await siteAt(server.endpoint)
    const tabs = await users(site, 3)
    site.clock.advance(HOUR_MS)
    server.respond = () => down(503)
    await statusesOf([tabs[0]!])
    server.respond = () => undefined
    site.clock.advance(28_000)
    expect(await statusesOf(tabs)).toEqual([503, 503, 503])
    expect(server.endpoint.requests).toHaveLength(1)
    site.clock.advance(2_000)
    expect((await tabs[1]!.get('/token')).status).toBe(200)
  })

  it.each([
    ['a 503 holds for the server', 503, [503, 503]],
    ['a 429 holds for its grant', 429, [503, 200]],
  ] as const)('S54 %s in every process that shares the grant store', async (_, status, statuses) => {
    const server = await scriptedServer()
    const listeners = new Set<(text: string) => void>()
    const grants = {
      ...recordingGrants(),
      async publish(text: string) {
        for (const listener of listeners) listener(text)
      },
      subscribe(listener: (text: string) => void) {
        listeners.add(listener)
        return () => void listeners.delete(listener)
      },
    }
    const open = sharedSessions()
    const process = () => siteAt(server.endpoint, { store: open(), tokens: { grants } as never })
    const [one, other] = [await process(), await process()]
    const tabs = await users(one, 2)
    const visitors = tabs.map((tab) => other.visitorOf(tab))
    for (const site of [one, other]) site.clock.advance(HOUR_MS)
    // Each process listens from its first refresh on.
    expect(await statusesOf(visitors)).toEqual([200, 200])
    for (const site of [one, other]) site.clock.advance(HOUR_MS)
    server.respond = () => down(status)
    expect((await tabs[0]!.get('/token')).status).toBe(503)
    server.respond = () => undefined
    const before = server.endpoint.requests.length
    const refused = await visitors[0]!.get('/token')
    expect([refused.status, refused.json.retryAfterMs > 28_000]).toEqual([503, true])
    expect([refused.status, (await visitors[1]!.get('/token')).status]).toEqual(statuses)
    expect(server.endpoint.requests.length - before).toBe(statuses.filter((it) => it === 200).length)
    for (const site of [one, other]) site.clock.advance(30_000)
    for (const visitor of visitors) expect((await visitor.get('/token')).status).toBe(200)
  })

  it('S54 of a 429 holds for its grant, and for the server once three grants had one', async () => {
    const server = await scriptedServer()
    const site = await siteAt(server.endpoint)
    const tabs = await users(site, 5)
    site.clock.advance(HOUR_MS)
    server.respond = (refreshToken) => (refreshToken === 'refresh-4' ? undefined : down(429))
    expect(await statusesOf(tabs.slice(0, 2))).toEqual([503, 503])
    expect((await tabs[4]!.get('/token')).status).toBe(200)
    expect((await tabs[2]!.get('/token')).status).toBe(503)
    expect((await tabs[3]!.get('/token')).status).toBe(503)
    expect(server.endpoint.requests).toHaveLength(4)
  })
})

describe('S57 one process of two cannot reach the authorization server', () => {
  /** An agent whose connections are never there. */
  function cutOff(): Agent {
    const agent = new Agent()
    agent.createConnection = () => Object.assign(new Socket(), { connecting: true })
    return agent
  }

  it('S57 it gives the lease up after connectTimeoutMs, and the other process refreshes', async () => {
    const server = await scriptedServer()
    const grants = recordingGrants()
    const open = sharedSessions()
    const process = (more: object) =>
      siteAt(server.endpoint, { store: open(), tokens: { grants: { ...grants }, ...more } as never })
    const [cut, well] = [
      await process({ connectTimeoutMs: 300, http: { httpAgent: cutOff() } }),
      await process({}),
    ]
    const [tab] = await users(cut, 1)
    for (const site of [cut, well]) site.clock.advance(HOUR_MS)
    const since = performance.now()
    const refused = tab!.get('/token')
    while (!grants.calls.includes('lease')) await new Promise((resolve) => setImmediate(resolve))
    const served = await well.visitorOf(tab!).get('/token')
    expect([served.status, (await refused).json.code]).toEqual([200, 'ERR_TOKEN_ENDPOINT_UNAVAILABLE'])
    expect(performance.now() - since).toBeLessThan(5_000)
    expect(JSON.stringify(cut.events)).toContain('ERR_CONNECT_TIMEOUT')
    expect(server.endpoint.requests).toHaveLength(1)
    // The session has the tokens of the other process.
    expect((await tab!.get('/token')).json.token).toBe(served.json.token)
  })
})

describe('a grant store that is down', () => {
  it('costs only the first requests their time; the others get 503 at once, and a probe asks', async () => {
    const server = await scriptedServer()
    const grants = recordingGrants()
    let isDown = false
    let asked = 0
    const store = {
      ...grants,
      lease: (...request: Parameters<typeof grants.lease>) => {
        asked++
        return isDown ? Promise.reject(new Error('down')) : grants.lease(...request)
      },
    }
    const site = await siteAt(server.endpoint, { tokens: { grants: store } as never })
    const tabs = await users(site, 10)
    site.clock.advance(HOUR_MS)
    isDown = true
    for (const tab of tabs) {
      const { status, json } = await tab.get('/token')
      expect([status, json.code]).toEqual([503, 'ERR_GRANT_STORE'])
    }
    expect(asked).toBe(3)
    expect(site.events).toContainEqual(expect.objectContaining({ type: 'breaker_opened', of: 'grant_store' }))
    isDown = false
    site.clock.advance(1_000)
    expect(new Set(await statusesOf(tabs.slice(0, 1)))).toEqual(new Set([200]))
    expect(new Set(await statusesOf(tabs))).toEqual(new Set([200]))
    expect(site.events).toContainEqual(expect.objectContaining({ type: 'breaker_closed', of: 'grant_store' }))
  })

  it('refuses nobody as soon as it responds, also if the first to ask must wait for another process', async () => {
    const server = await scriptedServer()
    const grants = recordingGrants()
    const asked: string[] = []
    let isDown = true
    const store = {
      ...grants,
      lease: (...request: Parameters<typeof grants.lease>) => {
        asked.push(request[0])
        return isDown ? Promise.reject(new Error('down')) : grants.lease(...request)
      },
    }
    const site = await siteAt(server.endpoint, { tokens: { grants: store } as never })
    const tabs = await users(site, 3)
    site.clock.advance(HOUR_MS)
    for (const tab of tabs) expect((await tab.get('/token')).status).toBe(503)
    isDown = false
    site.clock.advance(1_000)
    const [waitingFor] = asked
    const another = { owner: 'another process', ttlMs: 60_000, revision: 9, waitMs: 0 }
    expect(await grants.lease(waitingFor!, another)).toMatchObject({ granted: true })
    const waiting = tabs[0]!.get('/token')
    await eventually(async () => expect(asked.slice(3)).toContain(waitingFor))
    await eventually(async () =>
      expect(site.events).toContainEqual(expect.objectContaining({ type: 'breaker_closed' })),
    )
    expect(await statusesOf(tabs.slice(1))).toEqual([200, 200])
    await grants.release(waitingFor!, another.owner)
    expect((await waiting).status).toBe(200)
  })
})
