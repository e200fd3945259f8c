import { setTimeout as delay } from 'node:timers/promises'
import { describe, expect, it } from '@jest/globals'
import type { Request } from 'express'
import { RACE_WINDOW_MS, RECENT_REFRESH_MS } from '../../lib/concurrency/time-constants.js'
import type { GrantStore } from '../../lib/grants/grant-store.js'
import { memoryGrantStore } from '../../lib/grants/memory-grant-store.js'
import type { SessionTokensOptions } from '../../lib/index.js'
import type { Browser } from '../helpers/browser.js'
import { stillClock } from '../helpers/clock.js'
import { createGate } from '../helpers/gate.js'
import { destroyed, regenerated } from '../helpers/session-deeds.js'
import {
  type RecordingGrants,
  recordingGrants,
  type Site,
  type SiteOptions,
  sharedSessions,
} from '../helpers/site.js'
import { readSession, sessionIdOf } from '../helpers/stores.js'
import { HOUR_MS, testSites } from '../helpers/test-sites.js'

const { server, start, held, loggedIn, expectNewest } = await testSites()

interface Grants {
  grants?: GrantStore
  /** How the other process reaches them. */
  othersGrants?: GrantStore
}

/** A process that refreshes, and another one that saves, logs in or logs out at the same moment. */
async function twoProcesses({ grants = memoryGrantStore(), othersGrants = grants }: Grants = {}) {
  return besideEachOther(grants, { surroundings: { grants } }, { surroundings: { grants: othersGrants } })
}

/** The same with a grant store that is known to be there for several processes. */
async function twoProcessesThatShare(
  { grants = recordingGrants(), othersGrants = grants }: Grants = {},
  options: Partial<SessionTokensOptions> = {},
) {
  return besideEachOther(
    grants,
    { tokens: { ...options, grants } },
    { tokens: { ...options, grants: othersGrants } },
  )
}

async function besideEachOther(grants: GrantStore, ofRefreshing: SiteOptions, ofOther: SiteOptions) {
  const open = sharedSessions()
  const refreshing = await start({ store: open(), clock: stillClock(), ...ofRefreshing })
  const other = await start({ store: open(), clock: stillClock(), ...ofOther })
  const tab = await loggedIn(refreshing)
  if ('forget' in grants) (grants as RecordingGrants).forget()
  for (const site of [refreshing, other]) {
    site.handle('/write', ({ session }) => {
      session.views = 1
    })
  }
  other.handle('/destroy', destroyed)
  return { refreshing, other, tab, visitor: other.visitorOf(tab), grants, open }
}

/** A refresh that has read the session and is about to write it back. */
async function aboutToWrite(site: Site, tab: Browser) {
  site.clock.advance(HOUR_MS)
  return aboutToWriteAtOnce(site, tab, '/token')
}

/** The same without any time that passes. */
async function aboutToWriteAtOnce(site: Site, tab: Browser, path?: string) {
  const rejecting = path ?? `/token?rejected=${(await tab.get('/token')).json.token}`
  const write = held(site.store.hold('set'))
  const answer = tab.get(rejecting)
  await write.reached
  return { write, answer }
}

/** The other process saves what the app has changed, and the refreshing one writes after that: neither is undone. */
async function expectSavedBeside(
  { refreshing, other, tab, visitor }: Awaited<ReturnType<typeof besideEachOther>>,
  { write, answer }: Awaited<ReturnType<typeof aboutToWriteAtOnce>>,
): Promise<void> {
  const saving = visitor.post('/write', {})
  await asked(other, 'set')
  write.release()
  expect((await answer).status).toBe(200)
  expect((await saving).status).toBe(200)
  expect((await refreshing.stored(tab))?.views).toBe(1)
  await expectNewest(refreshing, tab)
}

/** As if the write took long enough to look suspicious, in the time of the one who writes. */
async function late(site: Site): Promise<void> {
  site.clock.advance(RACE_WINDOW_MS)
}

describe('a save in one process races with the write of a refresh in another', () => {
  it('S21 S22 which comes after it, with the earlier session: the saved data is saved again', async () => {
    const processes = await twoProcesses()
    const writing = await aboutToWrite(processes.refreshing, processes.tab)
    await expectSavedBeside(processes, writing)
  })

  it('S21 S22 which comes after it: a value named like the cookie or the tokens, inside of another value, is saved again', async () => {
    const processes = await twoProcesses()
    const { other, refreshing, tab } = processes
    let changes = 0
    const change: Parameters<Site['handle']>[1] = ({ session }) => {
      changes += 1
      Object.assign(session, { views: 1, shop: { cookie: changes, tokens: changes, __typename: changes } })
    }
    refreshing.handle('/write', change)
    other.handle('/write', change)
    await tab.get('/write')
    await expectSavedBeside(processes, await aboutToWrite(refreshing, tab))
    expect(await refreshing.stored(tab)).toMatchObject({ shop: { cookie: 2, tokens: 2, __typename: 2 } })
  })

  it('S21 which came before it, and is undone by it: the newest tokens are put back', async () => {
    const { refreshing, other, tab, visitor } = await twoProcesses()
    const save = held(other.store.hold('set'))
    const saving = visitor.post('/write', {})
    await save.reached
    refreshing.clock.advance(HOUR_MS)
    expect((await tab.get('/token')).status).toBe(200)
    save.release()
    expect((await saving).status).toBe(200)
    expect((await refreshing.stored(tab))?.views).toBe(1)
    await expectNewest(refreshing, tab)
  })

  it('S21 which came before it: the newest tokens are back before any time has passed', async () => {
    const { refreshing, other, tab, visitor } = await twoProcesses()
    const save = held(other.store.hold('set'))
    const saving = visitor.post('/write', {})
    await save.reached
    const { token } = (await tab.get('/token')).json
    expect((await tab.get(`/token?rejected=${token}`)).status).toBe(200)
    const { revision } = (await refreshing.storedTokens(tab))!
    save.release()
    let stored: number | undefined
    for (let turns = 0; stored !== revision && turns < MANY_TURNS; turns++) {
      await new Promise(setImmediate)
      if (other.store.count('set') > 1) stored = (await refreshing.storedTokens(tab))?.revision
    }
    expect(stored).toBe(revision)
    await saving
    expect((await refreshing.stored(tab))?.views).toBe(1)
  })

  it('S22 which comes after it, and long after the commit, as the refreshing process is busy: the saved data is saved again', async () => {
    const processes = await twoProcesses()
    const { other, refreshing, tab, visitor } = processes
    const writing = await aboutToWrite(refreshing, tab)
    other.clock.advance(HOUR_MS)
    expect((await visitor.get('/token')).status).toBe(200)
    await other.mounted.manager.close()
    other.clock.advance(RECENT_REFRESH_MS / 2)
    other.store.forget()
    await expectSavedBeside(processes, writing)
  })

  it('S22 which comes after it, when this process has refreshed as well meanwhile: the saved data is saved again', async () => {
    const processes = await twoProcesses()
    const { other, refreshing, tab, visitor } = processes
    const writing = await aboutToWrite(refreshing, tab)
    other.clock.advance(HOUR_MS)
    const { token } = (await visitor.get('/token')).json
    expect((await visitor.get(`/token?rejected=${token}`)).status).toBe(200)
    await other.mounted.manager.close()
    other.store.forget()
    await expectSavedBeside(processes, writing)
  })

  it('S22 S47 which comes after it, when the grant store does not respond: the saved data is saved again', async () => {
    const grants = memoryGrantStore()
    const othersGrants = { ...methodsOf(grants), read: noConnection }
    const processes = await twoProcesses({ grants, othersGrants })
    const writing = await aboutToWrite(processes.refreshing, processes.tab)
    await expectSavedBeside(processes, writing)
  })

  it('S21 S47 which came before it, when the grant store has just begun to respond again: the newest tokens are restored', async () => {
    const grants = memoryGrantStore()
    const othersGrants = methodsOf(grants)
    const { refreshing, other, tab, visitor } = await twoProcesses({ grants, othersGrants })
    const { read } = othersGrants
    othersGrants.read = noConnection
    other.handle('/write-before', ({ session }) => {
      session.views = 2
    })
    await visitor.post('/write-before', {})
    othersGrants.read = read
    const save = held(other.store.hold('set'))
    const saving = visitor.post('/write', {})
    await save.reached
    refreshing.clock.advance(HOUR_MS)
    expect((await tab.get('/token')).status).toBe(200)
    save.release()
    expect((await saving).status).toBe(200)
    expect((await refreshing.stored(tab))?.views).toBe(1)
    await expectNewest(refreshing, tab)
  })

  it('S21 S22 and a third save comes then: it stays', async () => {
    const { refreshing, other, tab, visitor } = await twoProcesses()
    other.handle('/write-again', ({ session }) => {
      session.views = 2
    })
    const { write, answer } = await aboutToWrite(refreshing, tab)
    const saving = visitor.post('/write', {})
    await asked(other, 'set')
    write.release()
    await answer
    await visitor.post('/write-again', {})
    await saving
    expect((await refreshing.stored(tab))?.views).toBe(2)
    await expectNewest(refreshing, tab)
  })
})

it('S21 a process that knows of the refresh of a slow one leaves the session to it: nothing is stored over it', async () => {
  const { refreshing, other, tab, visitor } = await twoProcessesThatShare()
  other.clock.advance(HOUR_MS)
  const { write, answer } = await aboutToWrite(refreshing, tab)
  const { json } = await visitor.get('/token')
  await delay(3 * RACE_WINDOW_MS)
  const meanwhile = other.store.count('set')
  write.release()
  expect((await answer).json.token).toBe(json.token)
  await delay(RECENT_REFRESH_MS)
  expect([meanwhile, other.store.count('set')]).toEqual([0, 0])
  expect((await other.storedTokens(visitor))?.accessTokens[0]?.token).toBe(json.token)
})

describe('a logout in one process races with the write of a refresh in another', () => {
  it.each([
    ['logs out', '/logout'],
    ['destroys the session', '/destroy'],
  ])('S35 S36 which is fast: the process that %s reads the session again', async (_, path) => {
    const { refreshing, tab, visitor, other } = await twoProcesses()
    const { write, answer } = await aboutToWrite(refreshing, tab)
    other.store.forget()
    const logout = visitor.post(path, {})
    await asked(other, path === '/destroy' ? 'destroy' : 'set')
    write.release()
    await answer
    expect((await logout).status).toBe(200)
    expect(await refreshing.storedTokens(tab)).toBeUndefined()
  })

  it.each([
    ['logs out', '/logout'],
    ['destroys the session', '/destroy'],
  ])('S35 S36 which is late: the writer asks the grant store again, when a process %s', async (_, path) => {
    const { refreshing, tab, visitor } = await twoProcesses()
    const { write, answer } = await aboutToWrite(refreshing, tab)
    await visitor.post(path, {})
    await late(refreshing)
    write.release()
    expect((await answer).status).toBe(401)
    expect(await refreshing.storedTokens(tab)).toBeUndefined()
    expect(server.revocations.length).toBeGreaterThan(0)
  })

  it('S35 which is late, just after a read of the grant store without a response: the writer asks again', async () => {
    const grants = recordingGrants()
    const { read } = grants
    const { refreshing, tab, visitor } = await twoProcesses({ grants })
    grants.read = noConnection
    await tab.post('/write', {})
    grants.read = read
    const { write, answer } = await aboutToWriteAtOnce(refreshing, tab)
    await visitor.post('/logout', {})
    await late(refreshing)
    write.release()
    expect((await answer).status).toBe(401)
    expect(await refreshing.storedTokens(tab)).toBeUndefined()
  })

  it.each<[string, (grants: GrantStore) => GrantStore['end'], told: unknown]>([
    [
      'is lost: reports it, and reads the session again',
      (grants) => async (grantId, why) => {
        await grants.end(grantId, why)
        return noConnection()
      },
      'ERR_GRANT_STORE',
    ],
    [
      'is lost, so that its client sends the command again: reads the session again',
      (grants) => async (grantId, why) => {
        await grants.end(grantId, why)
        return grants.end(grantId, why)
      },
      undefined,
    ],
  ])('S35 which is fast, and the response to the logout %s', async (_, end, told) => {
    const grants = recordingGrants()
    const othersGrants = { ...grants, end: end(grants) }
    const { refreshing, other, tab, visitor } = await twoProcessesThatShare({ grants, othersGrants })
    const { write, answer } = await aboutToWrite(refreshing, tab)
    let failure: Promise<unknown>
    other.handle('/logout', ({ tokens }, response) => {
      // With the answer the session would be saved once more, and be right by that.
      response.end()
      failure = tokens.revoke().catch(({ code }) => code)
    })
    await visitor.post('/logout', {})
    await asked(other, 'set')
    write.release()
    await answer
    expect(await failure!).toBe(told)
    expect(await refreshing.storedTokens(tab)).toBeUndefined()
  })

  it('S35 S36 tokens that were brought back by a process that then died are removed by the process that finds them', async () => {
    const { refreshing, tab, visitor, open } = await twoProcessesThatShare()
    // After a login the process looks at the session again, and would learn of the logout.
    await refreshing.mounted.manager.close()
    const died = open()
    const sid = sessionIdOf(tab.cookie('connect.sid'))
    const session = await readSession(died, sid)
    expect((await visitor.post('/logout', {})).status).toBe(200)
    await new Promise((resolve) => died.set(sid, session as never, resolve))
    refreshing.clock.advance(HOUR_MS)
    for (let request = 1; request <= 2; request++) {
      expect(await refreshing.storedTokens(tab)).toBeDefined()
      expect((await tab.get('/token')).status).toBe(401)
      await refreshing.mounted.manager.close()
    }
    expect(await refreshing.storedTokens(tab)).toBeUndefined()
  })

  it('S35 which is fast, and the logout got the result of the refresh: reads the session again all the same', async () => {
    const { refreshing, other, tab, visitor } = await twoProcesses()
    const { write, answer } = await aboutToWrite(refreshing, tab)
    other.clock.advance(HOUR_MS)
    expect((await visitor.get('/token')).status).toBe(200)
    other.store.forget()
    const logout = visitor.post('/logout', {})
    await asked(other, 'set')
    write.release()
    await answer
    await logout
    expect(await refreshing.storedTokens(tab)).toBeUndefined()
  })

  it('S35 a logout with an old copy revokes the newest refresh token that was stored', async () => {
    const grants = { ...recordingGrants(), commit: noConnection }
    const { refreshing, other, tab, visitor } = await twoProcesses({ grants })
    const slow = held(other.slow('/slow-logout', (request) => request.tokens.revoke()))
    const logout = visitor.post('/slow-logout', {})
    await slow.reached
    refreshing.clock.advance(HOUR_MS)
    expect((await tab.get('/token')).status).toBe(200)
    const { refreshToken } = (await refreshing.storedTokens(tab))!
    slow.release()
    expect((await logout).status).toBe(200)
    expect(server.revocations.map(({ token }) => token)).toContain(refreshToken)
  })

  it.each<[string, (request: Request) => Promise<unknown>, Partial<SessionTokensOptions>]>([
    ['revoke()', ({ tokens }) => tokens.revoke(), {}],
    ['revoke() with references in sessions', ({ tokens }) => tokens.revoke(), { keep: 'store' }],
    ['clear()', ({ tokens }) => tokens.clear(), {}],
    ['destroy()', destroyed, {}],
  ])(
    'S36 a save that has read the session before %s and writes it after: the session ends without tokens',
    async (_, end, options) => {
      const grants = recordingGrants()
      const othersGrants = { ...grants, read: () => new Promise<never>(() => {}) }
      const shared = await twoProcessesThatShare({ grants, othersGrants }, options)
      const { refreshing, other, tab, visitor, open } = shared
      const stored = async () => ownTokens(await readSession(open(), sessionIdOf(tab.cookie('connect.sid'))))
      refreshing.clock.advance(2 * RECENT_REFRESH_MS)
      const save = held(other.store.hold('set'))
      const saved = visitor.post('/write', {})
      await save.reached
      let ended: Promise<unknown>
      refreshing.handle('/end', (request, response) => {
        // With the answer the session would be saved once more, and be right by that.
        response.end()
        ended = end(request)
      })
      await tab.post('/end', {})
      while ((await stored()) !== undefined) await new Promise(setImmediate)
      save.release()
      for (let turns = 0; turns < FEW_TURNS; turns++) await new Promise(setImmediate)
      await ended!
      expect(await stored()).toBeUndefined()
      await saved
    },
  )

  it('S36 a slow save that comes after the logout removes the tokens again', async () => {
    const { refreshing, other, tab, visitor } = await twoProcesses()
    const save = held(other.store.hold('set'))
    const saving = visitor.post('/write', {})
    await save.reached
    expect((await tab.post('/logout', {})).status).toBe(200)
    save.release()
    await saving
    expect(await refreshing.storedTokens(tab)).toBeUndefined()
    expect((await visitor.get('/token')).status).toBe(401)
  })
})

it('S37 a login in one process races with the write of a refresh in another: the login stays', async () => {
  const { refreshing, other, tab, visitor } = await twoProcesses()
  const { write, answer } = await aboutToWrite(refreshing, tab)
  other.store.forget()
  const login = other.login(visitor, 'bob')
  await asked(other, 'set')
  write.release()
  await answer
  await login
  await expectNewest(other, visitor)
})

describe('S37 a login in one process looks at its session again, and puts its tokens back', () => {
  it('when it races with a logout in another, which removes them', async () => {
    const { refreshing, other, tab, visitor } = await twoProcessesThatShare()
    const write = held(refreshing.store.hold('set'))
    const logout = tab.post('/logout', {})
    await write.reached
    other.store.forget()
    const login = other.login(visitor, 'bob')
    await asked(other, 'set')
    write.release()
    await logout
    await login
    await expectNewest(other, visitor)
  })

  it.each<[string, (session: Record<string, unknown>) => object]>([
    ['with the tokens that it has replaced', (session) => session],
    ['without tokens', ({ tokens: _, ...others }) => others],
  ])('when another process that then died has saved it %s: no request waits for that', async (_, change) => {
    const grants = recordingGrants()
    const { read } = grants
    const { other, tab, visitor, open } = await twoProcessesThatShare({ grants })
    const died = open()
    const sid = sessionIdOf(tab.cookie('connect.sid'))
    const session = change((await readSession(died, sid)) as never)
    const look = held(createGate())
    grants.read = (grantId) => look.pass().then(() => read(grantId))
    await other.login(visitor, 'bob')
    await look.reached
    const { grantId } = (await other.storedTokens(visitor))!
    await new Promise((resolve) => died.set(sid, session as never, resolve))
    look.release()
    await other.mounted.manager.close()
    expect((await other.storedTokens(visitor))?.grantId).toBe(grantId)
    await expectNewest(other, visitor)
  })
})

describe("a save of a visitor's session in one process, and a login in another", () => {
  /** A visitor with a session, and a request of it that is about to change the session in the other process. */
  async function visitorInTwoProcesses() {
    const grants = recordingGrants()
    const open = sharedSessions()
    const login = await start({ store: open(), tokens: { grants } })
    const other = await start({ store: open(), tokens: { grants } })
    for (const site of [login, other]) {
      site.handle('/write', ({ session }) => {
        session.views = 1
      })
    }
    const tab = login.browser()
    await tab.get('/write')
    const slow = held(
      other.slow('/slow', ({ session }) => {
        session.views = 7
      }),
    )
    return { login, other, tab, visitor: other.visitorOf(tab), slow }
  }

  it('S20 a request that began before the login saves after it: the user stays logged in', async () => {
    const { login, tab, visitor, slow } = await visitorInTwoProcesses()
    const saving = visitor.get('/slow')
    await slow.reached
    await login.login(tab)
    slow.release()
    expect((await saving).status).toBe(200)
    expect((await login.stored(tab))?.views).toBe(7)
    await expectNewest(login, tab)
  })

  it('S20 a save that is under way at the login comes after it: the tokens are restored', async () => {
    const { login, other, tab, visitor, slow } = await visitorInTwoProcesses()
    slow.release()
    const save = held(other.store.hold('set'))
    const saving = visitor.get('/slow')
    await save.reached
    await login.login(tab)
    save.release()
    expect((await saving).status).toBe(200)
    await delay(4 * RACE_WINDOW_MS)
    expect((await login.stored(tab))?.views).toBe(7)
    await expectNewest(login, tab)
  })

  it('S23 a regeneration right after the login: the new session gets no tokens by this', async () => {
    const { login, tab } = await visitorInTwoProcesses()
    const response = await server.login('alice')
    login.handle('/login-and-leave', async (request) => {
      await request.tokens.set(response)
      await regenerated(request)
      request.session.views = 2
    })
    expect((await tab.get('/login-and-leave')).status).toBe(200)
    await delay(4 * RACE_WINDOW_MS)
    expect(await login.storedTokens(tab)).toBeUndefined()
    expect((await login.stored(tab))?.views).toBe(2)
  })
})

it('S22 a request that only reads, during a save and after a login in another process, brings no tokens back', async () => {
  const { refreshing, other, tab, visitor } = await twoProcesses()
  // Here the session still counts as that of the first login.
  await tab.post('/write', {})
  await visitor.post('/logout', {})
  await other.login(visitor, 'bob')
  const { token } = (await visitor.get('/token')).json
  const reading = held(refreshing.slow('/read', ({ tokens }) => tokens.getAccessToken({ rejected: token })))
  const answer = tab.get('/read')
  await reading.reached
  other.handle('/write', ({ session }) => {
    session.views = 2
  })
  await visitor.post('/write', {})
  expect((await visitor.get(`/token?rejected=${token}`)).status).toBe(200)
  refreshing.store.forget()
  reading.release()
  expect((await answer).status).toBe(200)
  expect(refreshing.store.count('touch')).toBe(1)
  expect((await refreshing.stored(tab))?.views).toBe(2)
  await expectNewest(refreshing, tab)
})

describe('the reads of the grant store', () => {
  it('are one for the save of a session with tokens, and none for other saves', async () => {
    const grants = recordingGrants()
    const { visitor } = await twoProcesses({ grants })
    await visitor.post('/write', {})
    expect(grants.calls).toEqual(['read'])
    await visitor.get('/session')
    expect(grants.calls).toEqual(['read'])
  })

  it('by a refresh is a lease and a commit', async () => {
    const grants = recordingGrants()
    const { refreshing, tab } = await twoProcesses({ grants })
    refreshing.clock.advance(HOUR_MS)
    await tab.get('/token')
    expect(grants.calls).toEqual(['lease', 'commit'])
  })

  it('without a response delay a save by a second, and the next ones by a moment', async () => {
    const grants = { ...recordingGrants(), read: () => new Promise<never>(() => {}) }
    const { visitor, other } = await twoProcesses({ grants })
    const first = await timed(visitor.post('/write', {}))
    expect(first).toBeGreaterThanOrEqual(990)
    other.handle('/again', ({ session }) => {
      session.views = 3
    })
    const next: number[] = []
    for (let n = 0; n < 5; n++) next.push(await timed(visitor.post('/again', {})))
    // A busy machine makes some of them longer.
    expect(Math.min(...next)).toBeLessThan(990)
    expect((await other.stored(visitor))?.views).toBe(3)
  })
})

/** Turns of the event loop; all together they take much less than a crossing. */
const MANY_TURNS = 2_000
const FEW_TURNS = 50

/** The copy in a stored session, whatever it is. */
function ownTokens(session: object | undefined): unknown {
  return (session as { tokens?: unknown } | undefined)?.tokens
}

/** A grant store as an object of which single methods can be replaced. */
function methodsOf(grants: GrantStore): GrantStore {
  const names = ['lease', 'renew', 'commit', 'release', 'read', 'end'] as const
  return Object.fromEntries(names.map((name) => [name, grants[name].bind(grants)])) as unknown as GrantStore
}

const noConnection = () => Promise.reject(new Error('no connection'))

async function timed(work: Promise<unknown>): Promise<number> {
  const start = performance.now()
  await work
  return performance.now() - start
}

/** Resolves when a store was asked for something, and has done it: a MemoryStore does it at once. */
async function asked(site: Site, method: 'set' | 'destroy'): Promise<void> {
  while (site.store.count(method) === 0) await new Promise(setImmediate)
}
