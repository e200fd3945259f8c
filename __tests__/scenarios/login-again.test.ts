import { describe, expect, it } from '@jest/globals'
import { clientSecretBasic, memoryGrantStore, type SessionTokensOptions } from '../../lib/index.js'
import { startTokenEndpoint } from '../helpers/fault-server.js'
import { type Site, sharedSessions } from '../helpers/site.js'
import { HOUR_MS, testSites } from '../helpers/test-sites.js'

const { start, closing } = await testSites()

const LOGIN = { access_token: 'login 1', refresh_token: 'the refresh token', expires_in: 3600 }

/** An authorization server that does not rotate refresh tokens: a login that is repeated brings the same one. */
async function scene(processes: number) {
  const requests: string[] = []
  let isUserMissing = false
  const endpoint = closing(
    await startTokenEndpoint(({ path, parameters }) => {
      if (path !== '/token') return { status: 200 }
      const named = parameters.get('resource') ?? 'plain'
      requests.push(named)
      if (isUserMissing) return { status: 400, body: { error: 'login_required' } }
      return { status: 200, body: { access_token: `${named} ${requests.length}`, expires_in: 3600 } }
    }),
  )
  const open = sharedSessions()
  const grants = memoryGrantStore()
  const sites: Site[] = []
  for (let count = 0; count < processes; count++) {
    const tokens = {
      tokenEndpoint: endpoint.tokenEndpoint,
      clientAuthentication: clientSecretBasic('secret'),
      grants,
    } as Partial<SessionTokensOptions>
    sites.push(await start({ store: open(), tokens }))
  }
  const [one] = sites as [Site]
  const other = sites.at(-1)!
  const tab = one.browser()
  await tab.post('/login', LOGIN)
  return {
    tab,
    /** The same browser, as the other process sees it. */
    otherTab: () => other.browser(tab),
    requests,
    wait: () => {
      for (const site of sites) site.clock.advance(HOUR_MS - 30_000)
    },
    requireUser: (isMissing: boolean) => {
      isUserMissing = isMissing
    },
    loginAgain: (more: object = {}) => tab.post('/login', { ...LOGIN, access_token: 'login 2', ...more }),
  }
}

describe.each([1, 2])(
  'S19 a login that brings the same refresh token again, in %i processes',
  (processes) => {
    it('S19 ends the refusal of a need: what the server wanted of the user is done', async () => {
      const { loginAgain, otherTab, requests, requireUser, tab } = await scene(processes)
      requireUser(true)
      for (const visitor of [tab, otherTab(), tab, otherTab()]) {
        expect((await visitor.get('/token?resource=urn:x')).json.code).toBe('ERR_STEP_UP_REQUIRED')
      }
      expect(requests).toHaveLength(processes)
      requireUser(false)
      await loginAgain()
      expect((await otherTab().get('/token?resource=urn:x')).json.token).toMatch(/^urn:x/)
      expect((await tab.get('/token?resource=urn:x')).json.token).toMatch(/^urn:x/)
      expect(requests).toHaveLength(processes + 1)
    })

    it('S19 ends the pause of the grant', async () => {
      const { loginAgain, otherTab, requireUser, tab, wait } = await scene(processes)
      requireUser(true)
      wait()
      for (const visitor of [tab, otherTab()]) {
        expect((await visitor.get('/token?minValidityMs=60000')).status).toBe(200)
      }
      requireUser(false)
      await loginAgain()
      for (const visitor of [otherTab(), tab]) {
        const { status, json } = await visitor.get('/token?rejected=login 2')
        expect([status, json.token]).toEqual([200, expect.stringMatching(/^plain/)])
      }
    })

    it('S19 replaces the access tokens, though the new one may be shorter-lived', async () => {
      const { loginAgain, otherTab, requests, tab } = await scene(processes)
      const { json } = await tab.get('/token?resource=urn:x')
      expect((await otherTab().get('/token')).json.token).toBe('login 1')
      await loginAgain({ expires_in: 300 })
      for (const visitor of [tab, otherTab()]) {
        expect((await visitor.get('/token')).json.token).toBe('login 2')
        // An API may have refused the earlier one, since it wanted this login.
        expect((await visitor.get('/token?resource=urn:x')).json.token).not.toBe(json.token)
      }
      expect(requests).toHaveLength(2)
    })

    it('S19 with tokens that are there already changes nothing', async () => {
      const { otherTab, requests, requireUser, tab } = await scene(processes)
      const { json } = await tab.get('/token?resource=urn:x')
      requireUser(true)
      await tab.get('/token?resource=urn:y')
      await tab.post('/login', LOGIN)
      expect((await tab.get('/token?resource=urn:y')).json.code).toBe('ERR_STEP_UP_REQUIRED')
      for (const visitor of [tab, otherTab()]) {
        expect((await visitor.get('/token?resource=urn:x')).json.token).toBe(json.token)
      }
      expect(requests).toHaveLength(2)
    })

    it('S19 with an access token that has expired keeps the newer one', async () => {
      const { loginAgain, tab } = await scene(processes)
      await loginAgain({ expires_in: undefined, expires_at: 1_000_000_000 })
      expect((await tab.get('/token')).json.token).toBe('login 1')
    })
  },
)
