import { inspect } from 'node:util'
import { describe, expect, it } from '@jest/globals'
import { memoryGrantStore } from '../../lib/grants/memory-grant-store.js'
import type { GrantStore, SessionTokensOptions, TokenEvent } from '../../lib/index.js'
import type { Browser } from '../helpers/browser.js'
import { destroyed } from '../helpers/session-deeds.js'
import { type Site, type SiteOptions, sharedSessions } from '../helpers/site.js'
import { sessionIdOf } from '../helpers/stores.js'
import { HOUR_MS, testSites } from '../helpers/test-sites.js'

const { server, start, held } = await testSites()

const key = 'UUa2j3oVjRk0c8Zs9CLtEz3uJgQmA7rS7T1a0YbKx5c='
const otherKey = '9pQ2mHc1jvW0Hk8n3sZr5tYb7uXo4aLd6eGfKiJl2wM='

type Tokens = Partial<SessionTokensOptions>

/** A site whose events are all kept, those of logins too. */
async function watched({ tokens, ...options }: SiteOptions = {}) {
  const events: TokenEvent[] = []
  const onEvent = (event: TokenEvent) => void events.push(event)
  const site = await start({ ...options, tokens: { onEvent, ...tokens } })
  site.handle('/id', ({ tokens }) => tokens.grantId ?? null)
  site.handle('/has', ({ tokens }) => tokens.hasTokens())
  site.handle('/clear', ({ tokens }) => tokens.clear())
  site.handle('/destroy', destroyed)
  const of = (type: TokenEvent['type']) => events.filter((event) => event.type === type)
  return { site, events, of }
}

async function loggedIn(site: Site, account = 'alice'): Promise<{ tab: Browser; grantId: string }> {
  const tab = site.browser()
  await site.login(tab, account)
  const { json: grantId } = await tab.get('/id')
  return { tab, grantId }
}

/** Changes the copy in the stored session, as another part of the app would, beside the library. */
async function overwrite(site: Site, tab: Browser, change: (copy: string) => unknown): Promise<void> {
  const { sessions } = site.store.store as unknown as { sessions: Record<string, string> }
  const stored = await site.stored(tab)
  const tokens = change(String(stored?.tokens))
  sessions[sessionIdOf(tab.cookie('connect.sid'))] = JSON.stringify({ ...stored, tokens })
}

/** Ends the grant at the authorization server, which this site is not told. */
async function endAtServer(site: Site, tab: Browser): Promise<void> {
  const { refreshToken = '' } = (await site.storedTokens(tab)) ?? {}
  const token = await server.provider.RefreshToken.find(refreshToken)
  const grant = await server.provider.Grant.find(token?.grantId ?? '')
  await grant?.destroy()
  await token?.destroy()
}

describe('S95 the events of one login', () => {
  it('S95 a login, a refresh and a logout: one event each, with its time and duration', async () => {
    const { site, events } = await watched()
    const { tab, grantId } = await loggedIn(site)
    site.clock.advance(HOUR_MS)
    await Promise.all(Array.from({ length: 20 }, () => tab.get('/token')))
    await tab.get('/logout')
    await tab.get('/logout')
    expect(events).toEqual([
      { type: 'logged_in', grantId, at: expect.any(Number), durationMs: expect.any(Number) },
      expect.objectContaining({ type: 'refreshed', grantId, revision: 2, durationMs: expect.any(Number) }),
      {
        ...{ type: 'ended', grantId, at: expect.any(Number) },
        ...{ reason: 'logged_out', scope: 'grant', isLocal: true },
      },
    ])
    for (const event of events) {
      expect(Number.isInteger(event.at)).toBe(true)
      if ('durationMs' in event) expect(Number.isInteger(event.durationMs)).toBe(true)
    }
    expect(events[1]!.at - events[0]!.at).toBeGreaterThanOrEqual(HOUR_MS)
    expect((await tab.get('/id')).json).toBeNull()
  })

  it('S95 hold no token, as JSON and when they are inspected', async () => {
    const { site, events } = await watched()
    const { tab } = await loggedIn(site)
    const seen = [await site.storedTokens(tab)]
    site.clock.advance(HOUR_MS)
    await tab.get('/token')
    seen.push(await site.storedTokens(tab))
    await endAtServer(site, tab)
    site.clock.advance(HOUR_MS)
    await tab.get('/token')
    const shown = JSON.stringify(events) + inspect(events, { depth: 20 })
    expect(shown).toContain('invalid_grant')
    for (const tokens of seen) {
      for (const secret of [tokens!.refreshToken!, tokens!.accessTokens[0]!.token, tokens!.idToken!]) {
        expect(shown).not.toContain(secret)
      }
    }
    expect(JSON.stringify(events)).not.toContain('.ts:')
  })
})

describe('S95 the end of a grant', () => {
  const ended = (reason: string, more = {}) => ({ reason, scope: 'grant', isLocal: true, ...more })

  it.each<[string, string, string]>([
    ['revoke()', '/logout', 'logged_out'],
    ['clear()', '/clear', 'logged_out'],
    ['the destruction of the session', '/destroy', 'logged_out'],
  ])('S95 by %s: once', async (_, path, reason) => {
    const { site, of } = await watched()
    const { tab, grantId } = await loggedIn(site)
    await tab.get(path)
    for (let n = 0; n < 3; n++) await tab.get('/token')
    expect(of('ended')).toMatchObject([{ grantId, ...ended(reason) }])
  })

  it.each([
    ['the same user', 'alice', 'replaced'],
    ['another user', 'bob', 'logged_out'],
  ])('S95 by the login of %s: once', async (_, account, reason) => {
    const { site, of } = await watched()
    const { tab, grantId } = await loggedIn(site, 'alice')
    await site.login(tab, account)
    expect(of('ended')).toMatchObject([{ grantId, ...ended(reason) }])
    expect(of('logged_in')).toHaveLength(2)
  })

  it('S95 at the authorization server: once, however many requests find it', async () => {
    const { site, of } = await watched()
    const { tab, grantId } = await loggedIn(site)
    await endAtServer(site, tab)
    site.clock.advance(HOUR_MS)
    for (let n = 0; n < 3; n++) await Promise.all([tab.get('/token'), tab.get('/token')])
    expect(of('ended')).toMatchObject([{ grantId, ...ended('invalid_grant') }])
  })

  it.each(['/token', '/has'])('S95 by expiry without a refresh token, found by %s: once', async (path) => {
    const { site, of } = await watched()
    const tab = site.browser()
    await tab.post('/login', { access_token: 'of-alice', expires_in: 3_600 })
    const { json: grantId } = await tab.get('/id')
    await tab.get(path)
    expect(of('ended')).toEqual([])
    site.clock.advance(HOUR_MS)
    for (let n = 0; n < 3; n++) await tab.get(path)
    expect(of('ended')).toMatchObject([{ grantId, ...ended('expired') }])
  })

  it('S95 of one of its sessions: scope session, then grant with the last one', async () => {
    const { site, of } = await watched()
    const login = await server.login('alice')
    const [one, other] = [site.browser(), site.browser()]
    for (const tab of [one, other]) await tab.post('/login', login)
    const { json: grantId } = await one.get('/id')
    await one.get('/clear')
    expect(of('ended')).toMatchObject([{ grantId, ...ended('logged_out', { scope: 'session' }) }])
    await other.get('/clear')
    expect(of('ended').slice(1)).toMatchObject([{ grantId, ...ended('logged_out') }])
  })

  it.each<[string, (site: Site, tab: Browser) => Promise<unknown>, string]>([
    ['a logout', (_, tab) => tab.get('/logout'), 'logged_out'],
    [
      'the authorization server',
      async (site, tab) => {
        await endAtServer(site, tab)
        site.clock.advance(HOUR_MS)
        await tab.get('/token')
      },
      'invalid_grant',
    ],
  ])('S95 by %s in another process: each process tells it once', async (_, end, reason) => {
    const grants = sharedByProcesses()
    const open = sharedSessions()
    const [here, there] = [
      await watched({ store: open(), tokens: { grants } as Tokens }),
      await watched({ store: open(), tokens: { grants } as Tokens }),
    ]
    const { tab, grantId } = await loggedIn(here.site)
    const visitor = there.site.browser(tab)
    await visitor.get('/token')
    // A request there has loaded the session before it ends here.
    const gate = held(there.site.slow('/slow', ({ tokens }) => tokens.getAccessToken({ rejected: 'any' })))
    const slow = Promise.all([visitor.get('/slow'), gate.reached])
    await gate.reached
    await end(here.site, tab)
    there.site.clock.advance(HOUR_MS)
    gate.release()
    expect((await slow)[0].status).toBe(401)
    expect(here.of('ended')).toMatchObject([{ grantId, ...ended(reason) }])
    expect(there.of('ended')).toMatchObject([{ grantId, ...ended(reason, { isLocal: false }) }])
  })
})

/** A grant store that counts as shared. */
function sharedByProcesses() {
  const store = memoryGrantStore()
  const methods = ['lease', 'renew', 'commit', 'release', 'read', 'end'] as const
  const bound = methods.map((method) => [method, store[method].bind(store)])
  return Object.fromEntries(bound) as GrantStore
}

describe('S95 a session that this process cannot use', () => {
  const rows: [string, Tokens, Tokens, RegExp][] = [
    [
      'unknown_key',
      { encryptionKeys: [key] },
      { encryptionKeys: [otherKey] },
      /a key that this process does not have/,
    ],
    ['not_sealed', {}, { encryptionKeys: [key] }, /are not sealed, and this process has encryptionKeys/],
    ['sealed', { encryptionKeys: [key] }, {}, /are sealed, and this process has no encryptionKeys/],
    ['other_client', {}, { clientId: 'web2' }, /belong to another clientId or issuer/],
    [
      'other_keep',
      { keep: 'store', grants: memoryGrantStore() } as Tokens,
      {},
      /are kept in a grant store \(keep: 'store'\), and this process has none/,
    ],
  ]

  it.each(rows)(
    'S95 %s: one event for each session, and an error that says so',
    async (reason, before, now, message) => {
      const open = sharedSessions()
      const { site: earlier } = await watched({ store: open(), tokens: before })
      const { site, of } = await watched({ store: open(), tokens: now })
      const visitors: Browser[] = []
      for (const account of ['alice', 'bob']) {
        const { tab } = await loggedIn(earlier, account)
        visitors.push(site.browser(tab))
      }
      for (const visitor of visitors) {
        for (let n = 0; n < 3; n++) {
          expect((await visitor.get('/has')).json).toBe(false)
          expect(await visitor.get('/token')).toMatchObject({
            status: 401,
            json: { code: 'ERR_NO_TOKENS', message: expect.stringMatching(message) },
          })
        }
      }
      expect(of('session_ignored')).toMatchObject([{ reason }, { reason }])
      for (const visitor of visitors) await site.login(visitor)
      expect((await visitors[0]!.get('/token')).status).toBe(200)
      expect(of('session_ignored')).toHaveLength(2)
    },
  )

  it.each<[string, (copy: string) => unknown, Tokens?]>([
    ['a value of the app', () => ({ theme: 'dark' })],
    ['a text of the app', () => 'dark'],
    ['a sealed copy that was changed', (copy) => `${copy.slice(0, -9)}AAAAAAAAA`, { encryptionKeys: [key] }],
    ['an unsealed copy that was changed', (copy) => copy.replace('"proof":"', '"proof":"x')],
  ])('S95 %s: malformed', async (_, change, tokens = {}) => {
    const { site, of } = await watched({ tokens })
    const { tab } = await loggedIn(site)
    await overwrite(site, tab, change)
    for (let n = 0; n < 3; n++) expect((await tab.get('/token')).status).toBe(401)
    expect(of('session_ignored')).toMatchObject([{ reason: 'malformed' }])
  })

  it('S95 of a later version: 503, and one event', async () => {
    const { site, of } = await watched()
    const { tab, grantId } = await loggedIn(site)
    await overwrite(site, tab, (copy) => copy.replace('"version":2', '"version":3'))
    for (let n = 0; n < 3; n++) expect((await tab.get('/token')).status).toBe(503)
    expect(of('session_ignored')).toMatchObject([{ reason: 'other_version', grantId }])
  })

  it('S95 while the app hands over tokens to adopt: the event comes all the same', async () => {
    const open = sharedSessions()
    const { site: earlier } = await watched({ store: open(), tokens: { encryptionKeys: [key] } })
    const { tab } = await loggedIn(earlier)
    const own = await server.login('alice')
    const { site, of } = await watched({
      store: open(),
      tokens: { encryptionKeys: [otherKey], adopt: () => own } as Tokens,
    })
    expect((await site.browser(tab).get('/token')).status).toBe(200)
    expect(of('session_ignored')).toMatchObject([{ reason: 'unknown_key' }])
  })
})

describe('S95 other events', () => {
  it('S95 tokens that were adopted: once', async () => {
    const own = await server.login('alice')
    const { site, of } = await watched({ tokens: { adopt: () => own } as Tokens })
    const tab = site.browser()
    site.handle('/begin', ({ session }) => {
      session.user = 'alice'
    })
    await tab.get('/begin')
    for (let n = 0; n < 3; n++) await Promise.all([tab.get('/token'), tab.get('/token')])
    const { json: grantId } = await tab.get('/id')
    expect(of('adopted')).toEqual([
      { type: 'adopted', grantId, at: expect.any(Number), durationMs: expect.any(Number) },
    ])
  })

  it('S95 a stale copy that was repaired: once for each revision', async () => {
    const { site, of } = await watched()
    const { tab, grantId } = await loggedIn(site)
    const { tokens: old } = (await site.stored(tab))!
    site.clock.advance(HOUR_MS)
    await tab.get('/token')
    await overwrite(site, tab, () => old)
    await tab.get('/token')
    await tab.get('/token')
    expect(of('session_repaired')).toMatchObject([{ grantId, revision: 2 }])
  })
})
