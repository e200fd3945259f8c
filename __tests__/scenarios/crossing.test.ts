import { describe, expect, it } from '@jest/globals'
import { CROSSING_MS } from '../../lib/crossing.js'
import type { GrantStore } from '../../lib/grants/grant-store.js'
import { memoryGrantStore } from '../../lib/grants/memory.js'
import type { Browser } from '../helpers/browser.js'
import { stillClock } from '../helpers/clock.js'
import { destroyed } from '../helpers/session-deeds.js'
import { type RecordingGrants, recordingGrants, type Site, sharedSessions } from '../helpers/site.js'
import { HOUR_MS, testSites } from '../helpers/test-sites.js'

const { server, start, held, loggedIn, expectNewest } = await testSites()

/** A process that refreshes, and another one that saves, logs in or logs out at the same moment. */
async function twoProcesses({ grants = memoryGrantStore() as GrantStore } = {}) {
  const open = sharedSessions()
  const refreshing = await start({ store: open(), clock: stillClock(), surroundings: { grants } })
  const other = await start({ store: open(), clock: stillClock(), surroundings: { grants } })
  const tab = await loggedIn(refreshing)
  if ('forget' in grants) (grants as RecordingGrants).forget()
  other.handle('/write', ({ session }) => {
    session.views = 1
  })
  other.handle('/destroy', destroyed)
  return { refreshing, other, tab, visitor: other.visitorOf(tab), grants }
}

/** A refresh that has read the session and is about to write it back. */
async function aboutToWrite(site: Site, tab: Browser) {
  const write = held(site.store.hold('set'))
  site.clock.advance(HOUR_MS)
  const answer = tab.get('/token')
  await write.reached
  return { write, answer }
}

/** As if the write took long enough to look suspicious, in the time of the one who writes. */
async function late(site: Site): Promise<void> {
  site.clock.advance(CROSSING_MS)
}

describe('a save in one process crosses with the write of a refresh in another', () => {
  it('S21 S22 which comes after it, with the session from before: what was saved is saved again', async () => {
    const { refreshing, other, tab, visitor } = await twoProcesses()
    const { write, answer } = await aboutToWrite(refreshing, tab)
    const saving = visitor.post('/write', {})
    await asked(other, 'set')
    write.release()
    expect((await answer).status).toBe(200)
    expect((await saving).status).toBe(200)
    expect((await refreshing.stored(tab))?.views).toBe(1)
    await expectNewest(refreshing, tab)
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

describe('a logout in one process crosses with the write of a refresh in another', () => {
  it.each([
    ['logs out', '/logout'],
    ['destroys the session', '/destroy'],
  ])('S35 S36 which is prompt: whoever %s looks again', async (_, path) => {
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
  ])('S35 S36 which is late: it asks again, when somebody %s', async (_, path) => {
    const { refreshing, tab, visitor } = await twoProcesses()
    const { write, answer } = await aboutToWrite(refreshing, tab)
    await visitor.post(path, {})
    await late(refreshing)
    write.release()
    expect((await answer).status).toBe(401)
    expect(await refreshing.storedTokens(tab)).toBeUndefined()
    expect(server.revocations.length).toBeGreaterThan(0)
  })

  it('S35 which is prompt, and the one who logs out has been given its result: looks again all the same', async () => {
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

  it('S35 whoever logs out with an old copy revokes the newest refresh token that was stored', async () => {
    const grants = { ...recordingGrants(), commit: () => Promise.reject(new Error('no connection')) }
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

  it('S36 a slow save that comes after the logout takes the tokens out again', async () => {
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

it('S37 a login in one process crosses with the write of a refresh in another: the login stays', async () => {
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

describe('what is asked of the grant store', () => {
  it('by the save of a session with tokens is one question, and none by others', async () => {
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

  it('without an answer holds a save up for a second, and the next ones not at all', async () => {
    const grants = { ...recordingGrants(), read: () => new Promise<never>(() => {}) }
    const { visitor, other } = await twoProcesses({ grants })
    const first = await timed(visitor.post('/write', {}))
    expect(first).toBeGreaterThanOrEqual(990)
    other.handle('/again', ({ session }) => {
      session.views = 3
    })
    expect(await timed(visitor.post('/again', {}))).toBeLessThan(990)
    expect((await other.stored(visitor))?.views).toBe(3)
  })
})

async function timed(work: Promise<unknown>): Promise<number> {
  const start = performance.now()
  await work
  return performance.now() - start
}

/** Resolves when a store was asked for something, and has done it: a MemoryStore does it at once. */
async function asked(site: Site, method: 'set' | 'destroy'): Promise<void> {
  while (site.store.count(method) === 0) await new Promise(setImmediate)
}
