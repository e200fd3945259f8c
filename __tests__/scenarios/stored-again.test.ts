import { describe, expect, it } from '@jest/globals'
import type { SessionTokensOptions } from '../../lib/index.js'
import { failingGrants } from '../helpers/failing-grants.js'
import { eventually } from '../helpers/fleet-expectations.js'
import { type Site, sharedSessions } from '../helpers/site.js'
import { HOUR_MS, testSites } from '../helpers/test-sites.js'

const { server, start, held, loggedIn, expectNewest } = await testSites()

const TEST_MS = 30_000
const keepStore = {
  keep: 'store',
  encryptionKeys: ['UUa2j3oVjRk0c8Zs9CLtEz3uJgQmA7rS7T1a0YbKx5c='],
} as const
const keeps: [name: string, tokens: Partial<SessionTokensOptions>][] = [
  ["keep: 'session'", {}],
  ["keep: 'store'", keepStore],
]

/** Two processes over shared stores; the user has logged in at the first. */
async function twoProcesses(tokens: Partial<SessionTokensOptions> = {}) {
  const grants = failingGrants()
  const open = sharedSessions()
  const options = () => ({ store: open(), tokens: { grants: grants.store, ...tokens } })
  const [one, other] = [await start(options()), await start(options())]
  const tab = await loggedIn(one)
  const expire = () => {
    for (const site of [one, other]) site.clock.advance(HOUR_MS)
  }
  const { sessions } = open() as unknown as { sessions: Record<string, string> }
  return { one, other, tab, visitor: other.visitorOf(tab), grants, expire, sessions }
}

const told = (site: Site, name: string) => site.events.filter(({ type }) => type === name)

async function untilTold(site: Site, name: string): Promise<void> {
  await eventually(async () => expect(told(site, name).length).toBeGreaterThan(0), TEST_MS)
}

describe.each(keeps)('S58 tokens that no store has stored, %s', (_, tokens) => {
  async function unsaved() {
    const processes = await twoProcesses(tokens)
    const { one, tab, grants, expire } = processes
    expire()
    const answer = held(server.holdAnswer())
    const first = tab.get('/token')
    await answer.reached
    grants.goAway()
    const sessionsAreBack = one.store.failAll('set')
    answer.release()
    const { status, json } = await first
    expect(status).toBe(200)
    await untilTold(one, 'tokens_unsaved')
    return { ...processes, token: json.token, sessionsAreBack }
  }

  it(
    'S58 are stored as soon as the stores are back, and both events are emitted once',
    async () => {
      const { one, visitor, grants, token, sessionsAreBack } = await unsaved()
      grants.comeBack()
      sessionsAreBack()
      await untilTold(one, 'tokens_stored_again')
      expect(told(one, 'tokens_stored_again')).toMatchObject([{ revision: 2, after: 'refused' }])
      expect(told(one, 'tokens_unsaved')).toMatchObject([{ error: { code: 'ERR_GRANT_STORE' } }])
      expect((await visitor.get('/token')).json.token).toBe(token)
    },
    TEST_MS,
  )

  it(
    'S58 are stored by close() if only the grant store is back',
    async () => {
      const { one, visitor, grants, token } = await unsaved()
      grants.comeBack()
      await one.mounted.manager.close()
      expect((await visitor.get('/token')).json.token).toBe(token)
    },
    TEST_MS,
  )

  it(
    'S58 S4 do not come back after a logout, and the end is stored later',
    async () => {
      const { one, tab, visitor, grants, sessionsAreBack } = await unsaved()
      sessionsAreBack()
      expect((await tab.post('/logout')).status).toBe(503)
      grants.comeBack()
      await eventually(async () => {
        const ends = [...(await grants.save()).values()].map(({ ended }) => ended)
        expect(ends).toEqual(['logged_out'])
      }, TEST_MS)
      await one.mounted.manager.close()
      expect((await visitor.get('/token')).json.code).toBe('ERR_NO_TOKENS')
      expect(told(one, 'tokens_stored_again')).toEqual([])
    },
    TEST_MS,
  )
})

it(
  'S58 tokens that the session store rejects are stored later, also in a single process: its grants end with it',
  async () => {
    const open = sharedSessions()
    const site = await start({ store: open() })
    const tab = await loggedIn(site)
    site.clock.advance(HOUR_MS)
    const sessionsAreBack = site.store.failAll('set')
    const { token } = (await tab.get('/token')).json
    await untilTold(site, 'tokens_unsaved')
    sessionsAreBack()
    await untilTold(site, 'tokens_stored_again')
    await expectNewest(site, tab)
    const next = await start({ store: open(), clock: site.clock })
    expect((await next.visitorOf(tab).get('/token')).json.token).toBe(token)
  },
  TEST_MS,
)

describe.each(keeps)('S58 stores that come back with the state of a moment ago, %s', (_, tokens) => {
  it(
    'S58 get the tokens again from the process that has them, and no refresh token is presented twice',
    async () => {
      const { one, tab, visitor, grants, expire, sessions } = await twoProcesses(tokens)
      expire()
      const before = { grants: await grants.save(), sessions: { ...sessions } }
      const { token } = (await tab.get('/token')).json
      await grants.goBackTo(before.grants)
      Object.assign(sessions, before.sessions)
      await untilTold(one, 'tokens_stored_again')
      expect(told(one, 'tokens_stored_again')).toMatchObject([{ revision: 2, after: 'lost' }])
      if (tokens.keep === undefined) await eventually(() => expectNewest(one, tab))
      expect((await visitor.get('/token')).json.token).toBe(token)
    },
    TEST_MS,
  )

  it(
    'S58 get the end of a grant again, and the session holds no tokens any more',
    async () => {
      const { one, other, tab, visitor, grants, sessions } = await twoProcesses(tokens)
      const before = { grants: await grants.save(), sessions: { ...sessions } }
      expect((await tab.post('/logout')).status).toBe(200)
      await grants.goBackTo(before.grants)
      Object.assign(sessions, before.sessions)
      await eventually(async () => {
        expect([...(await grants.save()).values()]).toMatchObject([{ ended: 'logged_out' }])
        expect((await one.stored(tab))?.tokens).toBeUndefined()
      }, TEST_MS)
      expect((await visitor.get('/token')).json.code).toBe('ERR_NO_TOKENS')
      expect(told(other, 'tokens_stored_again')).toEqual([])
    },
    TEST_MS,
  )

  it(
    'S58 get nothing of a grant that has ended elsewhere',
    async () => {
      const { one, other, tab, visitor, grants, expire } = await twoProcesses(tokens)
      const second = await loggedIn(one)
      const before = await grants.save()
      expire()
      expect((await second.get('/token')).status).toBe(200)
      expect((await visitor.post('/logout')).status).toBe(200)
      await grants.goBackTo(before)
      await untilTold(one, 'tokens_stored_again')
      await eventually(async () => {
        const ends = [...(await grants.save()).values()].map(({ ended }) => ended)
        expect(ends.sort()).toEqual(['logged_out', undefined])
      }, TEST_MS)
      // Its end may have been told after the first process had looked at it.
      await eventually(async () => expect((await tab.get('/token')).status).toBe(401), TEST_MS)
      expect(told(other, 'tokens_stored_again')).toEqual([])
    },
    TEST_MS,
  )
})

it(
  'S58 a grant store that has lost many grants gets them a few at a time',
  async () => {
    const GRANTS = 60
    const { one, grants } = await twoProcesses()
    const before = await grants.save()
    const tabs = await Promise.all(Array.from({ length: GRANTS }, () => loggedIn(one)))
    await grants.goBackTo(before)
    grants.forget()
    await eventually(async () => expect(told(one, 'tokens_stored_again')).toHaveLength(GRANTS), TEST_MS)
    expect(tabs).toHaveLength(GRANTS)
    expect(grants.atOnce).toBeLessThanOrEqual(8)
  },
  TEST_MS,
)

it(
  'S58 a response that shows an older record than was committed is noticed at once',
  async () => {
    const { one, tab, grants, expire } = await twoProcesses()
    const second = await loggedIn(one)
    const before = await grants.save()
    expire()
    const { token } = (await tab.get('/token')).json
    expect((await second.get('/token')).status).toBe(200)
    await grants.goBackTo(before)
    expect((await tab.get(`/token?rejected=${token}`)).status).toBe(200)
    // The other grant too, and sooner than a record is read every two seconds.
    await eventually(async () => expect(told(one, 'tokens_stored_again').length).toBeGreaterThan(0), 1_000)
    await expectNewest(one, tab)
  },
  TEST_MS,
)
