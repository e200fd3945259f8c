import { describe, expect, it } from '@jest/globals'
import type { GrantStore } from '../../lib/grants/grant-store.js'
import {
  ConfigurationError,
  memoryGrantStore,
  type OfflineTokens,
  offlineTokens,
  publicClient,
  type SessionTokensOptions,
} from '../../lib/index.js'
import type { AnySessionTokensOptions } from '../../lib/middleware/options.js'
import type { Browser } from '../helpers/browser.js'
import { startKoaSite } from '../helpers/koa-site.js'
import { recordingGrants, type Site, sharedSessions } from '../helpers/site.js'
import { HOUR_MS, testSites } from '../helpers/test-sites.js'

const DAY_MS = 24 * HOUR_MS
const key = 'UUa2j3oVjRk0c8Zs9CLtEz3uJgQmA7rS7T1a0YbKx5c='
const otherKey = 'h0nO3yTuh2kTjnm2rS7T1a0YbKx5cUUa2j3oVjRk0c8='

const { server, start, closing, loggedIn, expectNewest } = await testSites()

type Options = Partial<AnySessionTokensOptions>

/** Processes of one app: each has its own memory; they share the sessions and the grant store. */
async function processes(count: number, tokens: Options = {}, grants: GrantStore = recordingGrants()) {
  const open = sharedSessions()
  const sites = await Promise.all(
    Array.from({ length: count }, () => start({ store: open(), tokens: { grants, ...tokens } })),
  )
  for (const site of sites) serveReferences(site)
  return sites as [Site, Site, Site]
}

function serveReferences(site: Site): void {
  site.handle('/reference', ({ query, tokens }) =>
    tokens.offlineReference(query.ttlMs ? { ttlMs: Number(query.ttlMs) } : {}),
  )
  site.handle('/clear', ({ tokens }) => tokens.clear())
}

async function referenceOf(tab: Browser, query = ''): Promise<string> {
  const { status, json } = await tab.get(`/reference${query}`)
  expect([status, typeof json]).toEqual([200, 'string'])
  return json as unknown as string
}

const laterAt = (sites: readonly Site[], ms = HOUR_MS) => {
  for (const { clock } of sites) clock.advance(ms)
}

const errorOf = (promise: Promise<unknown>) =>
  promise.then(
    () => undefined,
    (error) => error,
  )

describe.each<[string, Options]>([
  ['without encryption keys', {}],
  ['with encryption keys', { encryptionKeys: [key] }],
  ["with keep: 'store'", { keep: 'store' }],
  ["with keep: 'store' and encryption keys", { keep: 'store', encryptionKeys: [key] }],
])('a reference %s', (_, options) => {
  it('S84 a job and fifty requests of the same user at once: one refresh, and both have the newest tokens', async () => {
    const [web, other, worker] = await processes(3, options)
    const tab = await loggedIn(web)
    const user = worker.middleware.offline(await referenceOf(tab))
    for (let round = 1; round <= 3; round++) {
      laterAt([web, other, worker])
      const refreshes = server.refreshes()
      const visitors = [web, other].flatMap((site) => Array.from({ length: 25 }, () => site.visitorOf(tab)))
      const [job, ...answers] = await Promise.all([
        user.getAccessToken(),
        ...visitors.map((visitor) => visitor.get('/token')),
      ])
      expect(answers.map(({ status }) => status)).toEqual(Array(50).fill(200))
      expect(new Set([job.token, ...answers.map(({ json }) => json.token)]).size).toBe(1)
      expect(server.refreshes() - refreshes).toBe(1)
    }
  })

  it('S84 a request gets what a job has refreshed in another process, and a job what a request has refreshed', async () => {
    const [web, worker] = await processes(2, options)
    const tab = await loggedIn(web)
    const user = worker.middleware.offline(await referenceOf(tab))
    laterAt([web, worker])
    const { token } = await user.getAccessToken()
    const refreshes = server.refreshes()
    expect((await tab.get('/token')).json.token).toBe(token)
    expect(server.refreshes()).toBe(refreshes)
    laterAt([web, worker])
    const { json } = await tab.get('/token')
    expect((await user.getAccessToken()).token).toBe(json.token)
    expect(server.refreshes()).toBe(refreshes + 1)
  })

  it('S84 the job runs on after the session has gone', async () => {
    const [web, worker] = await processes(2, options)
    const tab = await loggedIn(web)
    const user = worker.middleware.offline(await referenceOf(tab))
    // The session store drops it without a call of the app, as at the end of its time.
    const { sessions } = web.store.store as unknown as { sessions: Record<string, string> }
    for (const sid of Object.keys(sessions)) delete sessions[sid]
    expect((await tab.get('/token')).status).toBe(401)
    for (let round = 1; round <= 3; round++) {
      laterAt([web, worker])
      expect(await server.isActive((await user.getAccessToken()).token)).toBe(true)
    }
  })

  it('S84 a logout in the session ends the job, with the reason', async () => {
    for (const path of ['/logout', '/clear']) {
      const [web, worker] = await processes(2, options)
      const tab = await loggedIn(web)
      const user = worker.middleware.offline(await referenceOf(tab))
      expect((await tab.post(path, {})).status).toBe(200)
      const error = await errorOf(user.getAccessToken())
      expect(error).toMatchObject({ code: 'ERR_REAUTHENTICATION_REQUIRED', reason: 'logged_out' })
      expect(user.hasTokens()).toBe(false)
    }
  })

  it('S84 revoke() of the job logs the session out, and revokes the refresh token', async () => {
    const [web, worker] = await processes(2, options)
    const tab = await loggedIn(web)
    const user = worker.middleware.offline(await referenceOf(tab))
    const revocations = server.revocations.length
    laterAt([web, worker])
    await user.revoke()
    expect(server.revocations.length).toBe(revocations + 1)
    expect((await tab.get('/token')).status).toBe(401)
    await expect(user.getAccessToken()).rejects.toMatchObject({ reason: 'logged_out' })
  })

  it('S84 clear() of the job logs the session out', async () => {
    const [web, worker] = await processes(2, options)
    const tab = await loggedIn(web)
    const user = worker.middleware.offline(await referenceOf(tab))
    await user.clear()
    laterAt([web, worker])
    expect((await tab.get('/token')).status).toBe(401)
  })

  it('S84 invalid_grant ends it, with the reason', async () => {
    const [web, worker] = await processes(2, options)
    const tab = await loggedIn(web)
    const user = worker.middleware.offline(await referenceOf(tab))
    laterAt([web, worker])
    server.failNext({ status: 400, body: { error: 'invalid_grant' } })
    const error = await errorOf(user.getAccessToken())
    expect(error).toMatchObject({ code: 'ERR_REAUTHENTICATION_REQUIRED', reason: 'invalid_grant' })
    await expect(user.getAccessToken()).rejects.toMatchObject({ reason: 'invalid_grant' })
    expect((await tab.get('/token')).status).toBe(401)
  })

  it('S85 with a changed byte it is worth nothing', async () => {
    const [web, worker] = await processes(2, options)
    const tab = await loggedIn(web)
    const reference = await referenceOf(tab)
    const refreshes = server.refreshes()
    laterAt([web, worker])
    for (let at = 0; at < reference.length; at++) {
      const changed = reference[at] === 'A' ? 'B' : 'A'
      await expectNothing(
        worker.middleware.offline(reference.slice(0, at) + changed + reference.slice(at + 1)),
      )
    }
    for (const text of ['', '.', `${reference}.`, `${reference}=`, ` ${reference}`, reference.slice(1)]) {
      await expectNothing(worker.middleware.offline(text))
    }
    expect(server.refreshes()).toBe(refreshes)
    await worker.middleware.offline(reference).getAccessToken()
  })

  it.each<[string, Options]>([
    ['another client', { clientId: 'web-public', clientAuthentication: publicClient() }],
    ['another mount', { sessionKey: 'other' }],
    ['another key', { encryptionKeys: [otherKey] }],
  ])('S85 in the hands of %s it is worth nothing', async (_name, difference) => {
    const grants = recordingGrants()
    const [web] = await processes(1, options, grants)
    const [stranger] = await processes(1, { ...options, ...difference }, grants)
    const tab = await loggedIn(web)
    const reference = await referenceOf(tab)
    await expectNothing(stranger.middleware.offline(reference))
  })

  it('S85 the id of the grant is of no use, and the reference shows no token', async () => {
    const [web, worker] = await processes(2, options)
    const tab = await loggedIn(web)
    const reference = await referenceOf(tab)
    const { grantId } = worker.middleware.offline(reference)
    expect(grantId).toMatch(/^[\w-]{43}$/)
    const { token } = (await tab.get('/token')).json
    for (const text of [
      reference,
      ...reference.split('.').map((part) => Buffer.from(part, 'base64url').toString()),
    ]) {
      expect(text).not.toContain(token)
    }
    const forged = { version: 1, audience: 'a', grantId, keepMs: 1, keptUntil: Date.now() + DAY_MS }
    for (const text of [
      grantId!,
      JSON.stringify(forged),
      Buffer.from(JSON.stringify(forged)).toString('base64url'),
    ]) {
      await expectNothing(worker.middleware.offline(text))
    }
  })

  it('S85 a session copy is no reference, and a reference no session copy', async () => {
    const [web, worker] = await processes(2, options)
    const tab = await loggedIn(web)
    const reference = await referenceOf(tab)
    await expectNothing(worker.middleware.offline((await web.stored(tab))!.tokens as string))
    web.handle('/put', ({ session }) => {
      session.tokens = reference
    })
    const thief = web.browser()
    await thief.post('/put', {})
    expect((await thief.get('/token')).status).toBe(401)
  })
})

async function expectNothing(user: OfflineTokens): Promise<void> {
  expect([user.hasTokens(), user.grantId]).toEqual([false, undefined])
  for (const use of [() => user.getAccessToken(), () => user.revoke(), () => user.clear()]) {
    await expect(use()).rejects.toMatchObject({ code: 'ERR_NO_TOKENS' })
  }
}

describe('what a reference costs', () => {
  it('one command at its making, one at the first use in a process, and none for a valid token', async () => {
    const grants = recordingGrants()
    const [web, worker] = await processes(2, {}, grants)
    const tab = await loggedIn(web)
    grants.forget()
    const reference = await referenceOf(tab)
    expect(grants.calls).toEqual(['commit'])
    grants.forget()
    const user = worker.middleware.offline(reference)
    await user.getAccessToken()
    expect(grants.calls).toEqual(['lease'])
    for (let n = 0; n < 10; n++) await worker.middleware.offline(reference).getAccessToken()
    expect(grants.calls).toEqual(['lease'])
    // The session has been written, so no later request repairs it.
    await tab.get('/token')
    expect(web.events.map(({ type }) => type)).not.toContain('session_repaired')
  })

  it('the grant store keeps the grant for ttlMs, or for as long as the session could come back', async () => {
    const asked: (number | undefined)[] = []
    const recording = recordingGrants()
    const grants: GrantStore = {
      ...recording,
      commit(grantId, owner, record, retention) {
        asked.push(retention?.ttlMs)
        return recording.commit(grantId, owner, record, retention)
      },
    }
    const [web, worker] = await processes(2, {}, grants)
    const tab = await loggedIn(web)
    asked.splice(0)
    const month = await referenceOf(tab)
    const year = await referenceOf(tab, `?ttlMs=${365 * DAY_MS}`)
    expect(asked).toEqual([30 * DAY_MS, 365 * DAY_MS])
    for (const [reference, ms] of [
      [month, 30 * DAY_MS],
      [year, 365 * DAY_MS],
    ] as const) {
      laterAt([web, worker])
      await worker.middleware.offline(reference).getAccessToken()
      expect(asked.at(-1)).toBe(ms)
    }
  })

  it('a refresh at the same moment in another process loses nothing', async () => {
    const [web, other] = await processes(2)
    const tab = await loggedIn(web)
    laterAt([web, other])
    const answer = server.holdAnswer()
    const refresh = other.visitorOf(tab).get('/token')
    await answer.reached
    const reference = await referenceOf(tab)
    answer.release()
    const { token } = (await refresh).json
    expect((await web.middleware.offline(reference).getAccessToken()).token).toBe(token)
    expect((await tab.get('/token')).json.token).toBe(token)
    await expectNewest(web, tab)
  })
})

describe('calls', () => {
  it('axios() and fetch() carry the token, and a rejected one is refreshed', async () => {
    const [web, worker] = await processes(2)
    const tab = await loggedIn(web)
    const user = worker.middleware.offline(await referenceOf(tab))
    const seen: (string | undefined)[] = []
    web.handle('/api', (request, response) => {
      seen.push(request.headers.authorization)
      if (seen.length === 1) response.status(401).set('WWW-Authenticate', 'Bearer error="invalid_token"')
      return { ok: true }
    })
    const { data } = await user.axios({ baseURL: web.url }).get('/api')
    expect(data).toEqual({ ok: true })
    const refreshed = (await user.getAccessToken()).token
    expect(seen).toHaveLength(2)
    expect(seen[1]).toBe(`Bearer ${refreshed}`)
    expect(seen[0]).not.toBe(seen[1])
    expect((await user.fetch({ baseURL: web.url })('/api')).status).toBe(200)
    expect(seen[2]).toBe(`Bearer ${refreshed}`)
  })

  it('asks for a scope, as on a request', async () => {
    const [web, worker] = await processes(2)
    const tab = await loggedIn(web)
    const user = worker.middleware.offline(await referenceOf(tab))
    expect((await user.getAccessToken({ scope: 'orders.read' })).scope).toContain('orders.read')
    await expect(user.getAccessToken({ scop: 'orders.read' } as object)).rejects.toThrow(/scop/)
  })
})

describe('Koa', () => {
  it('S84 a job gets the tokens of a session of Koa, and refreshes once with it', async () => {
    const grants = recordingGrants()
    const site = closing(await startKoaSite(server, { tokens: { grants } }))
    const worker = closing(await startKoaSite(server, { tokens: { grants } }))
    site.handle('/reference', async ({ tokens }) => ({ reference: await tokens.offlineReference() }))
    const tab = site.browser()
    await site.login(tab)
    const { reference } = (await tab.get('/reference')).json
    for (const { clock } of [site, worker]) clock.advance(HOUR_MS)
    const refreshes = server.refreshes()
    const user = worker.middleware.offline(reference)
    const [{ token }, answer] = await Promise.all([user.getAccessToken(), tab.get('/token')])
    expect([token, answer.status]).toEqual([answer.json.token, 200])
    expect(server.refreshes() - refreshes).toBe(1)
  })
})

describe('sessions in cookies', () => {
  it('S84 a job refreshes, and the cookie gets the tokens with the next request', async () => {
    const grants = recordingGrants()
    const options = { inCookies: true, tokens: { grants, encryptionKeys: [key] } }
    const site = closing(await startKoaSite(server, options))
    const worker = closing(await startKoaSite(server, options))
    site.handle('/reference', async ({ tokens }) => ({ reference: await tokens.offlineReference() }))
    const tab = site.browser()
    await site.login(tab)
    const { reference } = (await tab.get('/reference')).json
    for (const { clock } of [site, worker]) clock.advance(HOUR_MS)
    const { token } = await worker.middleware.offline(reference).getAccessToken()
    const refreshes = server.refreshes()
    expect((await tab.get('/token')).json.token).toBe(token)
    expect(server.refreshes()).toBe(refreshes)
  })

  it('need a shared grant store', async () => {
    const site = closing(await startKoaSite(server, { inCookies: true, tokens: { encryptionKeys: [key] } }))
    site.handle('/reference', async ({ tokens }) => ({ reference: await tokens.offlineReference() }))
    const tab = site.browser()
    await site.login(tab)
    expect((await tab.get('/reference')).status).toBe(500)
    expect(String(site.errors[0])).toContain('needs a grant store that processes share')
  })
})

describe('tokens that came by adopt', () => {
  const adopting = async (tokens: Options) => {
    const oauth = await server.login('alice')
    const adopt = () => ({ ...oauth, expires_at: Date.now() + HOUR_MS })
    return processes(2, { ...tokens, adopt })
  }

  it('S84 have references where they are sealed', async () => {
    const [web, worker] = await adopting({ encryptionKeys: [key] })
    const tab = web.browser()
    const user = worker.middleware.offline(await referenceOf(tab))
    laterAt([web, worker])
    const { token } = await user.getAccessToken()
    expect((await tab.get('/token')).json.token).toBe(token)
  })

  it('S85 have none where a reference would show a token', async () => {
    const [web] = await adopting({})
    const answer = await web.browser().get('/reference')
    expect([answer.status, answer.json.message]).toEqual([500, expect.stringContaining('encryptionKeys')])
  })
})

describe('in one process, without a shared grant store', () => {
  it('works, and the session gets what the job refreshed at once', async () => {
    const site = await start({})
    serveReferences(site)
    const tab = await loggedIn(site)
    const user = site.middleware.offline(await referenceOf(tab))
    site.clock.advance(HOUR_MS)
    const { token } = await user.getAccessToken()
    expect((await site.storedTokens(tab))?.accessTokens[0]?.token).toBe(token)
    await expectNewest(site, tab)
  })

  it('another process gets an error that says so', async () => {
    const site = await start({})
    serveReferences(site)
    const reference = await referenceOf(await loggedIn(site))
    const other = await start({})
    const error = await errorOf(other.middleware.offline(reference).getAccessToken())
    expect(error).toMatchObject({ code: 'ERR_REAUTHENTICATION_REQUIRED' })
    expect(error.message).toContain('only in the process that made it')
  })
})

describe('a grant that the grant store does not know', () => {
  it('before its time counts as lost, and the job may try again', async () => {
    const [web, worker] = await processes(2)
    const tab = await loggedIn(web)
    const reference = await referenceOf(tab)
    const empty = await start({ tokens: { grants: recordingGrants() } })
    const error = await errorOf(empty.middleware.offline(reference).getAccessToken())
    expect(error).toMatchObject({ code: 'ERR_GRANT_STORE', retryable: true })
    await worker.middleware.offline(reference).getAccessToken()
  })

  it('after its time counts as forgotten', async () => {
    const [web] = await processes(1)
    const reference = await referenceOf(await loggedIn(web))
    const empty = await start({ tokens: { grants: recordingGrants() } })
    empty.clock.advance(31 * DAY_MS)
    const error = await errorOf(empty.middleware.offline(reference).getAccessToken())
    expect(error).toMatchObject({ code: 'ERR_REAUTHENTICATION_REQUIRED' })
    expect(error.message).toContain('ttlMs')
  })
})

describe('mistakes', () => {
  it('a session without tokens makes no reference', async () => {
    const [web] = await processes(1)
    const answer = await web.browser().get('/reference')
    expect([answer.status, answer.json.code]).toEqual([401, 'ERR_NO_TOKENS'])
  })

  it.each([undefined, 1, Promise.resolve('text')])('offline(%s) throws', async (value) => {
    const [web] = await processes(1)
    expect(() => web.middleware.offline(value as never)).toThrow(ConfigurationError)
  })

  it('wrong options are named', async () => {
    const [web] = await processes(1)
    web.handle('/wrong', ({ tokens }) => tokens.offlineReference({ ttl: 1 } as object))
    const answer = await (await loggedIn(web)).get('/wrong')
    expect([answer.status, answer.json.message]).toEqual([500, expect.stringContaining('ttl')])
  })

  it('a failing grant store makes no reference', async () => {
    let fails = false
    const recording = recordingGrants()
    const grants: GrantStore = {
      ...recording,
      commit: (...args) => (fails ? Promise.reject(new Error('down')) : recording.commit(...args)),
    }
    const [web] = await processes(1, {}, grants)
    const tab = await loggedIn(web)
    fails = true
    const answer = await tab.get('/reference')
    expect([answer.status, answer.json.code]).toEqual([503, 'ERR_GRANT_STORE'])
    fails = false
    await referenceOf(tab)
  })

  it('offlineTokens() needs `grants`, and serves a process without requests', async () => {
    const options = {
      tokenEndpoint: server.tokenEndpoint,
      clientId: 'web-public',
      clientAuthentication: publicClient(),
      encryptionKeys: false,
    } satisfies SessionTokensOptions
    expect(() => offlineTokens(options)).toThrow(/needs the grant store/)
    const worker = offlineTokens({ ...options, grants: memoryGrantStore() })
    await expectNothing(worker.offline('text'))
    await worker.close()
  })
})
