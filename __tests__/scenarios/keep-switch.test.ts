import { describe, expect, it } from '@jest/globals'
import type { GrantStore } from '../../lib/grants/grant-store.js'
import { memoryGrantStore, type SessionTokensOptions } from '../../lib/index.js'
import type { Browser } from '../helpers/browser.js'
import { type Site, sharedSessions } from '../helpers/site.js'
import { HOUR_MS, testSites } from '../helpers/test-sites.js'

const { server, start, loggedIn } = await testSites()

const encryptionKeys = ['UUa2j3oVjRk0c8Zs9CLtEz3uJgQmA7rS7T1a0YbKx5c=']
const other = { session: 'store', store: 'session' } as const

/** What a session holds: a copy of tokens takes more than a reference. */
const length = async (site: Site, tab: Browser) => String((await site.stored(tab))?.tokens).length

const cases = (['session', 'store'] as const).flatMap((keep) =>
  (
    [
      ['sealed', { encryptionKeys }],
      ['not sealed', {}],
    ] as const
  ).map(([how, options]) => [keep, other[keep], how, options] as const),
)

describe.each(cases)('a change of keep in a rolling deploy, from %s to %s, %s', (from, to, _, options) => {
  async function fleet(): Promise<{ before: Site; after: Site; grants: GrantStore }> {
    const open = sharedSessions()
    const grants = memoryGrantStore()
    const processOf = (keep: 'session' | 'store') => {
      const tokens: Partial<SessionTokensOptions> = { keep, grants, ...options }
      return start({ store: open(), tokens })
    }
    const [before, after] = [await processOf(from), await processOf(to)]
    return { before, after, grants }
  }
  const later = (...sites: Site[]) => {
    for (const site of sites) site.clock.advance(HOUR_MS)
  }

  it('serves the valid token of a session from before, without a refresh', async () => {
    const { before, after } = await fleet()
    const tab = await loggedIn(before)
    const refreshes = server.refreshes()
    const { json } = await tab.get('/token')
    expect(await after.visitorOf(tab).get('/token')).toMatchObject({
      status: 200,
      json: { token: json.token },
    })
    expect(server.refreshes()).toBe(refreshes)
  })

  it('refreshes a session from before once, and writes it as it is configured', async () => {
    const { before, after } = await fleet()
    const tab = await loggedIn(before)
    const native = await length(after, await loggedIn(after))
    later(before, after)
    const refreshes = server.refreshes()
    expect((await after.visitorOf(tab).get('/token')).status).toBe(200)
    expect(server.refreshes() - refreshes).toBe(1)
    expect(Math.abs((await length(after, tab)) - native)).toBeLessThan(150)
  })

  it('serves requests of both processes, in turn and at once', async () => {
    const { before, after } = await fleet()
    const tab = await loggedIn(before)
    for (const round of [1, 2, 3, 4]) {
      later(before, after)
      const refreshes = server.refreshes()
      const sites = round % 2 === 0 ? [before, after] : [after, before]
      const answers =
        round < 3
          ? [await sites[0]!.visitorOf(tab).get('/token'), await sites[1]!.visitorOf(tab).get('/token')]
          : await Promise.all(sites.map((site) => site.visitorOf(tab).get('/token')))
      expect(answers.map(({ status }) => status)).toEqual([200, 200])
      expect(new Set(answers.map(({ json }) => json.token)).size).toBe(1)
      expect(server.refreshes() - refreshes).toBe(1)
    }
  })

  it.each([0, 1])('S35 a logout in one of the two processes holds in both: %s', async (at) => {
    const { before, after } = await fleet()
    const tab = await loggedIn(before)
    later(before, after)
    expect((await after.visitorOf(tab).get('/token')).status).toBe(200)
    const site = [before, after][at]!
    const revocations = server.revocations.length
    expect((await site.visitorOf(tab).post('/logout', {})).status).toBe(200)
    expect(server.revocations.length - revocations).toBe(1)
    for (const each of [before, after]) expect((await each.visitorOf(tab).get('/token')).status).toBe(401)
  })
})
