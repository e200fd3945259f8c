import { afterAll, afterEach, beforeAll, describe, expect, it } from '@jest/globals'
import { memoryGrantStore, type SessionTokensOptions } from '../../lib/index.js'
import { type AuthorizationServer, startAuthorizationServer } from '../helpers/authorization-server.js'
import type { Browser } from '../helpers/browser.js'
import { type Site, type SiteOptions, sharedSessions, startSite } from '../helpers/site.js'

const key = 'UUa2j3oVjRk0c8Zs9CLtEz3uJgQmA7rS7T1a0YbKx5c='
const newKey = '9pQ2mHc1jvW0Hk8n3sZr5tYb7uXo4aLd6eGfKiJl2wM='

describe('S61 with encryption keys', () => {
  let server: AuthorizationServer
  const sites: Site[] = []
  beforeAll(async () => {
    server = await startAuthorizationServer()
  })
  afterAll(() => server.close())
  afterEach(() => Promise.all(sites.splice(0).map((site) => site.close())))

  const start = async (tokens: Partial<SessionTokensOptions>, options: Omit<SiteOptions, 'tokens'> = {}) => {
    const site = await startSite(server, { ...options, tokens: { encryptionKeys: [key], ...tokens } })
    sites.push(site)
    return site
  }
  const copyOf = async (site: Site, browser: Browser) => (await site.stored(browser))?.tokens as string

  it('S61 neither the stored session nor the grant store has a token to be read', async () => {
    const records: string[] = []
    const grants = memoryGrantStore()
    const commit = grants.commit.bind(grants)
    grants.commit = (grantId, owner, record) => {
      records.push(record.tokens)
      return commit(grantId, owner, record)
    }
    const site = await start({ grants })
    const browser = site.browser()
    await site.login(browser)
    const first = (await browser.get('/token')).json.token
    const second = (await browser.get(`/token?rejected=${first}`)).json.token
    const stored = JSON.stringify(await site.stored(browser))
    const { refreshToken, idToken } = site.mounted.manager.tokensOf({
      read: () => JSON.parse(stored).tokens,
    } as never)!
    expect(records).toHaveLength(2)
    for (const text of [stored, ...records]) {
      for (const secret of [first, second, refreshToken!, idToken!]) expect(text).not.toContain(secret)
      for (const part of text.split('.')) {
        expect(Buffer.from(part, 'base64url').toString('latin1')).not.toContain(refreshToken)
      }
    }
  })

  it('S61 with a rotated key, earlier copies are opened, and the next refresh seals with the new key', async () => {
    const open = sharedSessions()
    const before = await start({}, { store: open() })
    const browser = before.browser()
    await before.login(browser)
    const after = await start({ encryptionKeys: [newKey, key] }, { store: open() })
    const visitor = after.visitorOf(browser)
    const first = await visitor.get('/token')
    expect(first.status).toBe(200)
    await visitor.get(`/token?rejected=${first.json.token}`)
    const without = await start({ encryptionKeys: [newKey] }, { store: open() })
    expect((await without.visitorOf(browser).get('/token')).status).toBe(200)
  })

  it.each<[string, Partial<SessionTokensOptions>]>([
    ['with another key', { encryptionKeys: [newKey] }],
    ['for another client', { clientId: 'another' }],
    ['for another mount', { sessionKey: 'other' }],
    ['by an app without keys', { encryptionKeys: undefined } as never],
  ])('S61 a copy that was sealed %s counts as logged out', async (_, tokens) => {
    const open = sharedSessions()
    const other = await start(tokens, { store: open() })
    const browser = other.browser()
    await other.login(browser)
    const site = await start({}, { store: open() })
    const visitor = site.visitorOf(browser)
    site.handle('/move', ({ session }) => {
      session.tokens ??= (session as unknown as { other: string }).other
    })
    await visitor.post('/move', {})
    expect(await visitor.get('/token')).toMatchObject({ status: 401, json: { code: 'ERR_NO_TOKENS' } })
    await site.login(visitor)
    expect((await visitor.get('/token')).status).toBe(200)
  })

  it('S61 a copy that was tampered with counts as logged out', async () => {
    const open = sharedSessions()
    const store = open()
    const site = await start({}, { store })
    const browser = site.browser()
    await site.login(browser)
    const copy = await copyOf(site, browser)
    const middle = Math.floor(copy.length / 2)
    const { sessions } = store as unknown as { sessions: Record<string, string> }
    for (const sid of Object.keys(sessions)) {
      const changed = copy.slice(0, middle) + (copy[middle] === 'A' ? 'B' : 'A') + copy.slice(middle + 1)
      sessions[sid] = sessions[sid]!.replace(copy, changed)
    }
    expect((await browser.get('/token')).status).toBe(401)
  })

  it('S61 a session that is regenerated with its data carried over keeps its tokens', async () => {
    const site = await start({})
    const browser = site.browser()
    await site.login(browser)
    site.handle('/regenerate', async (request) => {
      const { session } = request
      const { cookie: _, ...data } = session
      await new Promise((resolve) => session.regenerate(resolve))
      Object.assign(request.session, data)
    })
    const before = await copyOf(site, browser)
    await browser.post('/regenerate', {})
    expect(await copyOf(site, browser)).toBe(before)
    expect((await browser.get('/token')).status).toBe(200)
  })
})
