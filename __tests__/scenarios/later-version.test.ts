import { describe, expect, it } from '@jest/globals'
import { memoryGrantStore, type SessionTokensOptions } from '../../lib/index.js'
import { seal } from '../../lib/sessions/codec/sealing.js'
import type { Browser } from '../helpers/browser.js'
import { type Site, sharedSessions } from '../helpers/site.js'
import { readSession, sessionIdOf } from '../helpers/stores.js'
import { HOUR_MS, testSites } from '../helpers/test-sites.js'

const { server, start, loggedIn } = await testSites()

const key = 'UUa2j3oVjRk0c8Zs9CLtEz3uJgQmA7rS7T1a0YbKx5c='
const { clientId } = server.clients.client_secret_basic
const audience = `${clientId} ${server.tokenEndpoint}`
/** What a later version may have written, in a format that this one does not know. */
const later = JSON.stringify({ version: 3, audience, whatever: ['is', 'in', 'it'] })
const left = { status: 503, json: { code: 'ERR_SESSION_STORE' } }

const formats: [string, Partial<SessionTokensOptions>, string][] = [
  ['not sealed', {}, later],
  ['sealed', { encryptionKeys: [key] }, seal([key], `${audience} tokens`).seal(later)],
  ["with keep: 'store'", { keep: 'store', grants: memoryGrantStore() }, later],
]

describe.each(formats)('a session that a later version has written, %s', (_, tokens, copy) => {
  async function upgraded(): Promise<{ site: Site; tab: Browser; stored(): Promise<unknown> }> {
    const open = sharedSessions()
    const site = await start({ store: open(), tokens })
    const tab = site.browser()
    site.handle('/begin', ({ session }) => Object.assign(session, { views: 1 }) && null)
    await tab.post('/begin', {})
    const sid = sessionIdOf(tab.cookie('connect.sid'))
    const session = { ...(await readSession(open(), sid))!, tokens: copy }
    await new Promise((resolve) => open().set(sid, session as never, resolve))
    return {
      site,
      tab,
      stored: async () => ((await readSession(open(), sid)) as { tokens?: unknown })?.tokens,
    }
  }

  it('fails with a typed error that passes, and stays as it is', async () => {
    const { site, tab, stored } = await upgraded()
    site.handle('/has', ({ tokens }) => tokens.hasTokens())
    expect(await tab.get('/token')).toMatchObject(left)
    expect((await tab.get('/has')).json).toBe(true)
    expect(await stored()).toBe(copy)
  })

  it('is not logged out by a process that cannot read it, and the error says so', async () => {
    const { site, tab, stored } = await upgraded()
    site.handle('/clear', ({ tokens }) => tokens.clear())
    expect(await tab.post('/clear', {})).toMatchObject(left)
    expect(await tab.post('/logout', {})).toMatchObject(left)
    expect(await stored()).toBe(copy)
  })

  it('is not changed by a request that saves something else', async () => {
    const { site, tab, stored } = await upgraded()
    site.handle('/views', ({ session }) => Object.assign(session, { views: 7 }) && null)
    await tab.post('/views', {})
    expect(await stored()).toBe(copy)
    expect(await site.stored(tab)).toMatchObject({ views: 7 })
  })

  it('is replaced by a login', async () => {
    const { site, tab } = await upgraded()
    await site.login(tab)
    expect((await tab.get('/token')).status).toBe(200)
  })
})

describe('a slow request with tokens that a later version has refreshed since', () => {
  it('does not change the tokens in the session, whatever else it saves', async () => {
    const open = sharedSessions()
    const site = await start({ store: open() })
    const tab = await loggedIn(site)
    const sid = sessionIdOf(tab.cookie('connect.sid'))
    const gate = site.slow('/slow', ({ session }) => Object.assign(session, { views: 7 }) && null)
    const slow = tab.get('/slow')
    await gate.reached
    const session = { ...(await readSession(open(), sid))!, tokens: later }
    await new Promise((resolve) => open().set(sid, session as never, resolve))
    gate.release()
    await slow
    expect(await site.stored(tab)).toMatchObject({ tokens: later, views: 7 })
  })
})

describe('a record that a later version has written', () => {
  it.each([1, 2])('is not changed, and no refresh token is spent: revision %s', async (revision) => {
    const grants = memoryGrantStore()
    const site = await start({ tokens: { grants } })
    const tab = await loggedIn(site)
    const { grantId } = (await site.storedTokens(tab))!
    const record = { revision, tokens: later }
    const read = grants.read.bind(grants)
    const lease = grants.lease.bind(grants)
    if (revision === 1) {
      // The same revision as this process has, in the other format.
      grants.lease = async (id, request) => ({ ...(await lease(id, request)), record })
    } else await grants.commit(grantId, 'later', record)
    site.clock.advance(HOUR_MS)
    const refreshes = server.refreshes()
    expect(await tab.get('/token')).toMatchObject({ status: 503, json: { code: 'ERR_GRANT_STORE' } })
    expect(server.refreshes()).toBe(refreshes)
    if (revision === 2) expect(await read(grantId)).toEqual({ record })
    expect((await site.storedTokens(tab))?.grantId).toBe(grantId)
  })
})
