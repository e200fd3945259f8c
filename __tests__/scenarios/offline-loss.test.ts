import { describe, expect, it } from '@jest/globals'
import type { GrantStore } from '../../lib/grants/grant-store.js'
import { eventually } from '../helpers/fleet-expectations.js'
import { recordingGrants, type Site, sharedSessions } from '../helpers/site.js'
import { HOUR_MS, testSites } from '../helpers/test-sites.js'

const { server, start, loggedIn, expectNewest } = await testSites()

/** A grant store that can lose all that it knows. */
function losingGrants() {
  let held = recordingGrants()
  const ask = <Name extends 'lease' | 'renew' | 'commit' | 'release' | 'read' | 'end'>(name: Name) =>
    ((...args: never[]) => (held[name] as (...args: never[]) => unknown)(...args)) as GrantStore[Name]
  const store: GrantStore = {
    lease: ask('lease'),
    renew: ask('renew'),
    commit: ask('commit'),
    release: ask('release'),
    read: ask('read'),
    end: ask('end'),
  }
  const lose = () => {
    held = recordingGrants()
  }
  return { store, lose }
}

/** Processes of one app: each has its own memory; they share the sessions and a grant store. */
async function processes(count: number) {
  const grants = losingGrants()
  const open = sharedSessions()
  const begin = async () => {
    const site = await start({ store: open(), tokens: { grants: grants.store } })
    site.handle('/reference', ({ tokens }) => tokens.offlineReference())
    return site
  }
  const sites = await Promise.all(Array.from({ length: count }, begin))
  return { sites: sites as [Site, Site], grants, begin }
}

async function loggedInWithReference(site: Site) {
  const tab = await loggedIn(site)
  const { json: reference } = await tab.get('/reference')
  return { tab, reference: reference as unknown as string }
}

const expired = (...sites: readonly Site[]) => {
  for (const { clock } of sites) clock.advance(HOUR_MS)
}

describe('a grant store that loses the tokens of a reference', () => {
  it('S84 what a job gets in another process is in the session at once', async () => {
    const { sites, grants } = await processes(2)
    const [web, other] = sites
    const { tab, reference } = await loggedInWithReference(web)
    // By its first request a process knows the session store.
    expect((await other.visitorOf(tab).get('/token')).status).toBe(200)
    expired(web, other)
    const { token } = await other.middleware.offline(reference).getAccessToken()
    expect((await web.storedTokens(tab))?.accessTokens[0]?.token).toBe(token)
    grants.lose()
    expired(web)
    expect((await tab.get('/token')).status).toBe(200)
    await expectNewest(web, tab)
  })

  it('S84 a job whose process knows the session looks into it', async () => {
    const { sites, grants, begin } = await processes(2)
    const [web, other] = sites
    const { tab, reference } = await loggedInWithReference(web)
    const job = web.middleware.offline(reference)
    expired(web, other)
    const { json } = await other.visitorOf(tab).get('/token')
    await other.close()
    grants.lose()
    expect((await job.getAccessToken()).token).toBe(json.token)
    const third = await begin()
    third.clock.advance(2 * HOUR_MS)
    expect((await third.visitorOf(tab).get('/token')).status).toBe(200)
  })

  it('S84 a job without the session presents no refresh token that it knows from before', async () => {
    const { sites, grants, begin } = await processes(2)
    const [web, worker] = sites
    const { tab, reference } = await loggedInWithReference(web)
    const job = worker.middleware.offline(reference)
    await job.getAccessToken()
    expired(web, worker)
    expect((await tab.get('/token')).status).toBe(200)
    await web.close()
    grants.lose()
    expired(worker)
    for (let attempt = 1; attempt <= 3; attempt++)
      await expect(job.getAccessToken()).rejects.toMatchObject({ code: 'ERR_GRANT_STORE', retryable: true })
    const later = await begin()
    later.clock.advance(2 * HOUR_MS)
    const { json } = await later.visitorOf(tab).get('/token')
    expect(await server.isActive(json.token)).toBe(true)
    expect((await job.getAccessToken()).token).toBe(json.token)
  })

  it('S84 a request that waits for the refresh of such a job refreshes with the copy in its session', async () => {
    const { sites, grants } = await processes(2)
    const [web, worker] = sites
    const { tab, reference } = await loggedInWithReference(web)
    await web.close()
    grants.lose()
    expired(worker)
    const failed = expect(worker.middleware.offline(reference).getAccessToken()).rejects.toMatchObject({
      code: 'ERR_GRANT_STORE',
    })
    const request = worker.visitorOf(tab).get('/token')
    await failed
    expect((await request).status).toBe(200)
    await expectNewest(worker, tab)
  })

  it('S84 a process stores the newest tokens of the session again, not those that it has', async () => {
    const { sites, grants } = await processes(2)
    const [web, other] = sites
    const { tab, reference } = await loggedInWithReference(web)
    expired(web, other)
    const { json } = await other.visitorOf(tab).get('/token')
    await other.close()
    grants.lose()
    const { grantId } = web.middleware.offline(reference)
    await eventually(async () => {
      const { record } = await grants.store.read(grantId!)
      expect(record?.tokens).toContain(json.token)
    })
  })
})
