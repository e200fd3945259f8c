import { describe, expect, it } from '@jest/globals'
import type { Browser } from '../helpers/browser.js'
import { recordingGrants, type Site, sharedSessions } from '../helpers/site.js'
import { HOUR_MS, testSites } from '../helpers/test-sites.js'

const { server, start, held, loggedIn } = await testSites()

const before = 'UUa2j3oVjRk0c8Zs9CLtEz3uJgQmA7rS7T1a0YbKx5c='
const after = '9pQ2mHc1jvW0Hk8n3sZr5tYb7uXo4aLd6eGfKiJl2wM='

const unreadable = (code: string) => ({
  status: 503,
  json: {
    code,
    message: expect.stringMatching(
      /^Another process has stored newer tokens that this process cannot read\./,
    ),
  },
})

describe('S61 a process that seals with a new key too soon, while another one does not have the key', () => {
  /** The user has logged in where the new key is not known yet. */
  async function twoProcesses() {
    const grants = recordingGrants()
    const open = sharedSessions()
    const options = () => ({ store: open(), surroundings: { grants } })
    const ahead = await start({ ...options(), tokens: { encryptionKeys: [after, before] } })
    const behind = await start({
      ...options(),
      tokens: { encryptionKeys: [before], timeoutMs: 1_000, refreshTimeoutMs: 1_000 },
    })
    const tab = await loggedIn(behind)
    for (const site of [ahead, behind]) site.clock.advance(HOUR_MS)
    return { ahead, behind, tab, visitor: ahead.visitorOf(tab), grants }
  }

  it('refreshes: a process that waits for it gets an error, and does not ask repeatedly', async () => {
    const { tab, visitor, grants } = await twoProcesses()
    const { lease } = grants
    let leases = 0
    grants.lease = async (...asked) => {
      leases += 1
      // As a network would, it leaves the others their turn.
      await new Promise(setImmediate)
      return lease(...asked)
    }
    const refreshes = server.refreshes()
    const answer = held(server.holdAnswer())
    const ahead = visitor.get('/token')
    await answer.reached
    const behind = tab.get('/token')
    while (leases < 2) await new Promise(setImmediate)
    answer.release()
    expect((await ahead).status).toBe(200)
    expect(await behind).toMatchObject(unreadable('ERR_GRANT_STORE'))
    expect(leases).toBe(2)
    expect(server.refreshes() - refreshes).toBe(1)
  })

  it('refreshes, and the grant store forgets it: a process with the earlier session spends no refresh token', async () => {
    const { behind, tab, visitor, grants } = await twoProcesses()
    const refreshes = server.refreshes()
    const slow = held(behind.slow('/slow', ({ tokens }) => tokens.getAccessToken()))
    const late = tab.get('/slow')
    await slow.reached
    expect((await visitor.get('/token')).status).toBe(200)
    Object.assign(grants, recordingGrants())
    slow.release()
    expect(await late).toMatchObject(unreadable('ERR_SESSION_STORE'))
    expect(server.presentedAgain()).toEqual([])
    expect(server.refreshes() - refreshes).toBe(1)
  })
})

it('S61 a new key that is first added at the end everywhere, then moved to the front, logs no user out', async () => {
  const grants = recordingGrants()
  const open = sharedSessions()
  const deploy = (...encryptionKeys: string[]) =>
    start({ store: open(), surroundings: { grants }, tokens: { encryptionKeys } })
  const expectRefresh = async (site: Site, user: Browser) => {
    // A token that an API refuses is replaced at once three times a minute.
    site.clock.advance(61_000)
    const visitor = site.visitorOf(user)
    const { token } = (await visitor.get('/token')).json
    const refreshed = await visitor.get(`/token?rejected=${token}`)
    expect(refreshed).toMatchObject({ status: 200, json: { token: expect.not.stringMatching(token) } })
  }

  let [one, two] = [await deploy(before), await deploy(before)]
  const [often, seldom] = [await loggedIn(one), await loggedIn(two)]
  for (const [isOne, keys] of [
    [true, [before, after]],
    [false, [before, after]],
    [true, [after, before]],
    [false, [after, before]],
  ] as const) {
    if (isOne) one = await deploy(...keys)
    else two = await deploy(...keys)
    for (const site of [one, two, one]) await expectRefresh(site, often)
  }
  for (const site of [one, two]) await expectRefresh(site, seldom)
  one = await deploy(after)
  for (const site of [one, two]) for (const user of [often, seldom]) await expectRefresh(site, user)
})
