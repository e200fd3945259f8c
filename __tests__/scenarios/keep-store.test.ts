import { describe, expect, it } from '@jest/globals'
import type { GrantStore } from '../../lib/grants/grant-store.js'
import { memoryGrantStore } from '../../lib/index.js'
import type { AnySessionTokensOptions } from '../../lib/middleware/options.js'
import type { Browser } from '../helpers/browser.js'
import { createGate } from '../helpers/gate.js'
import { recordingGrants, type Site, sharedSessions } from '../helpers/site.js'
import { HOUR_MS, testSites } from '../helpers/test-sites.js'

const { server, start, held, loggedIn } = await testSites()

const key = 'UUa2j3oVjRk0c8Zs9CLtEz3uJgQmA7rS7T1a0YbKx5c='

async function processes(count: number, tokens: Partial<AnySessionTokensOptions> = {}, grants?: GrantStore) {
  const open = sharedSessions()
  const shared = grants ?? memoryGrantStore()
  const options = { keep: 'store', grants: shared, ...tokens } as const
  return Promise.all(Array.from({ length: count }, () => start({ store: open(), tokens: options })))
}

const reference = async (site: Site, browser: Browser) => (await site.stored(browser))?.tokens as string

describe.each([
  ['without encryption keys', {}],
  ['with encryption keys', { encryptionKeys: [key] }],
])("keep: 'store' %s", (_, tokens) => {
  it('stores an id and a key in the session; the session or the grant store by itself is of no use', async () => {
    const records: string[] = []
    const grants = memoryGrantStore()
    const commit = grants.commit.bind(grants)
    grants.commit = (grantId, owner, record) => {
      records.push(record.tokens)
      return commit(grantId, owner, record)
    }
    const [site] = await processes(1, tokens, grants)
    const browser = await loggedIn(site!)
    const { token } = (await browser.get('/token')).json
    const stored = await reference(site!, browser)
    expect(stored.length).toBeLessThan(400)
    expect(records).toHaveLength(1)
    for (const text of [stored, ...records]) expect(text).not.toContain(token)
  })

  it('S10 S13 refreshes once, and does not change the session', async () => {
    const [one, two] = await processes(2, tokens)
    const browser = await loggedIn(one!)
    const before = await reference(one!, browser)
    for (let round = 1; round <= 3; round++) {
      for (const site of [one!, two!]) site.clock.advance(HOUR_MS)
      const refreshes = server.refreshes()
      const visitors = [one!, two!].flatMap((site) =>
        Array.from({ length: 10 }, () => site.visitorOf(browser)),
      )
      const answers = await Promise.all(visitors.map((visitor) => visitor.get('/token')))
      expect(answers.map(({ status }) => status)).toEqual(Array(20).fill(200))
      expect(new Set(answers.map(({ json }) => json.token)).size).toBe(1)
      expect(server.refreshes() - refreshes).toBe(1)
    }
    expect(await reference(one!, browser)).toBe(before)
  })

  it('reads the grant store once for tokens that this process does not know', async () => {
    const grants = recordingGrants()
    const [one, two] = await processes(2, tokens, grants)
    const browser = await loggedIn(one!)
    grants.forget()
    await browser.get('/token')
    expect(grants.calls).toEqual([])
    const visitor = two!.visitorOf(browser)
    for (let n = 0; n < 3; n++) expect((await visitor.get('/token')).status).toBe(200)
    expect(grants.calls).toEqual(['lease'])
  })

  it('S35 a logout in one process holds in the other, and revokes', async () => {
    const [one, two] = await processes(2, tokens)
    const browser = await loggedIn(one!)
    const visitor = two!.visitorOf(browser)
    const revocations = server.revocations.length
    expect((await visitor.post('/logout', {})).status).toBe(200)
    expect(server.revocations.length - revocations).toBe(1)
    expect((await browser.get('/token')).status).toBe(401)
  })

  it('S36 a slow request that saves its old session after the logout brings no tokens back', async () => {
    const [one, two] = await processes(2, tokens)
    const browser = await loggedIn(one!)
    const gate = held(createGate())
    two!.handle('/slow', async ({ session }) => {
      await gate.pass()
      session.views = 1
    })
    const slow = two!.visitorOf(browser).post('/slow', {})
    await gate.reached
    await browser.post('/logout', {})
    gate.release()
    await slow
    expect((await browser.get('/token')).status).toBe(401)
    expect((await two!.visitorOf(browser).get('/token')).status).toBe(401)
  })

  it('sends the user to the login when the grant store has forgotten the grant', async () => {
    const [one] = await processes(1, tokens)
    const browser = await loggedIn(one!)
    const [other] = await Promise.all([
      start({ store: one!.store.store, tokens: { keep: 'store', grants: memoryGrantStore(), ...tokens } }),
    ])
    const answer = await other!.visitorOf(browser).get('/token')
    expect([answer.status, answer.json.code]).toEqual([401, 'ERR_REAUTHENTICATION_REQUIRED'])
  })

  it('rejects a login that the grant store does not store', async () => {
    const grants = { ...recordingGrants(), commit: () => Promise.reject(new Error('no connection')) }
    const [site] = await processes(1, tokens, grants)
    const browser = site!.browser()
    const answer = await browser.post('/login', await server.login('alice'))
    expect([answer.status, answer.json.code]).toEqual([503, 'ERR_GRANT_STORE'])
    expect((await browser.get('/token')).status).toBe(401)
  })
})

it.each<[string, Partial<AnySessionTokensOptions>, RegExp]>([
  ['without a grant store', {}, /needs `grants`/],
  ['together with adopt', { grants: memoryGrantStore(), adopt: () => undefined }, /does not go with `adopt`/],
])("keep: 'store' is rejected %s", async (_, options, message) => {
  await expect(start({ tokens: { keep: 'store', ...options } })).rejects.toThrow(message)
})
