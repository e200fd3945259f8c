import { describe, expect, it } from '@jest/globals'
import { type RefreshOver, refreshes } from '../../lib/tokens/diagnostics.js'
import { stillClock } from '../helpers/clock.js'
import { createGate } from '../helpers/gate.js'
import { recordingGrants, sharedSessions } from '../helpers/site.js'
import { readSession, sessionIdOf } from '../helpers/stores.js'
import { HOUR_MS, testSites } from '../helpers/test-sites.js'

const { server, start, held, loggedIn } = await testSites()

/** A process that refreshes, and another one, both with tokens that have expired. */
async function twoProcesses() {
  const grants = recordingGrants()
  const ownGrants = { ...grants }
  const open = sharedSessions()
  const options = () => ({ store: open(), clock: stillClock() })
  const refreshing = await start({ ...options(), surroundings: { grants: ownGrants } })
  const other = await start({ ...options(), surroundings: { grants } })
  const tab = await loggedIn(refreshing)
  for (const site of [refreshing, other]) site.clock.advance(HOUR_MS)
  return { refreshing, other, tab, visitor: other.visitorOf(tab), grants, ownGrants, open }
}

const noConnection = () => Promise.reject(new Error('no connection'))

describe('a refresh whose result no store has stored', () => {
  async function unsaved() {
    const processes = await twoProcesses()
    const { refreshing, tab, ownGrants } = processes
    const { commit } = ownGrants
    const answer = held(server.holdAnswer())
    const first = tab.get('/token')
    await answer.reached
    ownGrants.commit = noConnection
    const sessionsAreBack = refreshing.store.failAll('set')
    answer.release()
    const { status, json } = await first
    expect(status).toBe(200)
    const grantsAreBack = () => {
      ownGrants.commit = commit
    }
    return { ...processes, token: json.token, sessionsAreBack, grantsAreBack }
  }

  it.each(['the grant store', 'the session store'])(
    'S47 is saved in %s as soon as that is back, and no refresh token is spent twice',
    async (which) => {
      const { refreshing, visitor, token, grantsAreBack, sessionsAreBack } = await unsaved()
      if (which === 'the grant store') grantsAreBack()
      else sessionsAreBack()
      // Resolves when everything has been saved.
      await refreshing.mounted.manager.close()
      expect(await visitor.get('/token')).toMatchObject({ status: 200, json: { token } })
      expect(server.presentedAgain()).toEqual([])
    },
  )

  it('S42 S47 is still used in its process, although the refresh token of another process was rejected before', async () => {
    const { refreshing, tab, visitor, token, grantsAreBack, sessionsAreBack } = await unsaved()
    server.failNext('invalid_grant')
    expect((await visitor.get('/token')).status).toBe(401)
    expect((await refreshing.storedTokens(tab))?.refreshToken).toBeUndefined()
    expect(await tab.get('/token')).toMatchObject({ status: 200, json: { token } })
    grantsAreBack()
    sessionsAreBack()
  })
})

describe('a refresh token that was rejected while no store could say whether there is a newer one', () => {
  async function refused() {
    const processes = await twoProcesses()
    const { tab, ownGrants, refreshing } = processes
    const { refreshToken } = (await refreshing.storedTokens(tab))!
    const { read } = ownGrants
    ownGrants.read = noConnection
    server.failNext('invalid_grant')
    expect(await tab.get('/token')).toMatchObject({ status: 503, json: { code: 'ERR_GRANT_STORE' } })
    ownGrants.read = read
    const presented = () =>
      server.tokenRequests.filter((request) => request.refreshToken === refreshToken).length
    return { ...processes, presented }
  }

  it('S42 is not presented again once the stores respond that there is no newer one', async () => {
    const { tab, presented } = await refused()
    const { status, json } = await tab.get('/token')
    expect([status, json.code]).toEqual([401, 'ERR_REAUTHENTICATION_REQUIRED'])
    expect(presented()).toBe(1)
  })

  it('S42 is replaced by the newer one', async () => {
    const { tab, visitor, refreshing, other } = await refused()
    const { token } = (await visitor.get('/token')).json
    expect(await tab.get('/token')).toMatchObject({ status: 200, json: { token } })
    for (const site of [refreshing, other]) site.clock.advance(HOUR_MS)
    expect((await tab.get('/token')).status).toBe(200)
  })
})

it('S42 a rejected refresh token does not end the grant if another process commits a newer one at that moment', async () => {
  const { refreshing, other, tab, visitor, grants, ownGrants } = await twoProcesses()
  const { commit } = ownGrants
  // As if the lease had been lost: both processes refresh.
  ownGrants.lease = async (grantId) => ({ ...(await ownGrants.read(grantId)), granted: true })
  const gate = held(createGate())
  grants.commit = async (...record) => {
    await gate.pass()
    return commit(...record)
  }
  const second = visitor.get('/token')
  await gate.reached
  ownGrants.commit = async (...record) => {
    gate.release()
    await second
    return commit(...record)
  }
  server.failNext('invalid_grant')
  const first = await tab.get('/token')
  const { status, json } = await second
  expect([status, first]).toMatchObject([200, { status: 200, json }])
  expect([...refreshing.events, ...other.events].filter(({ type }) => type === 'ended')).toEqual([])
  for (const site of [refreshing, other]) site.clock.advance(HOUR_MS)
  expect((await tab.get('/token')).status).toBe(200)
})

it('S12 S95 a token that another process got during a refresh that is rejected is not fresh', async () => {
  const { tab, visitor, ownGrants } = await twoProcesses()
  // As if the lease had been lost: the other process gets it, too.
  ownGrants.lease = async (grantId) => ({ ...(await ownGrants.read(grantId)), granted: true })
  const results: unknown[] = []
  const subscribers = { asyncEnd: (message: object) => results.push((message as RefreshOver).result) }
  refreshes.subscribe(subscribers as never)
  let arrived = 0
  const gate = held(server.hold(() => ++arrived === 1))
  server.failNext('invalid_grant')
  const first = tab.get('/token')
  await gate.reached
  const { token } = (await visitor.get('/token')).json
  gate.release()
  expect(await first).toMatchObject({ status: 200, json: { token } })
  refreshes.unsubscribe(subscribers as never)
  expect(results).toEqual([{ fresh: true }, { fresh: false }])
})

it('S21 S47 tokens that only this process has are in the session again before its next refresh takes the lease', async () => {
  const { refreshing, tab, grants, open } = await twoProcesses()
  const died = open()
  const sid = sessionIdOf(tab.cookie('connect.sid'))
  const before = await readSession(died, sid)
  const { token } = (await tab.get('/token')).json
  const { grantId, revision } = (await refreshing.storedTokens(tab))!
  // A process that died then has saved the session from before.
  await new Promise((resolve) => died.set(sid, before as never, resolve))
  await grants.lease(grantId, { owner: 'another', ttlMs: 60_000, waitMs: 0, revision })
  const answer = tab.get(`/token?rejected=${token}`)
  while ((await refreshing.storedTokens(tab))?.revision !== revision) await new Promise(setImmediate)
  await grants.release(grantId, 'another')
  expect((await answer).status).toBe(200)
})

it('S21 S47 of two refreshes under one lease, at a server with a grace period, the later one is kept', async () => {
  const { refreshing, tab, visitor, grants, ownGrants } = await twoProcesses()
  const { lease } = grants
  for (const each of [grants, ownGrants]) each.lease = async () => ({ granted: true })
  for (const name of ['one', 'another']) server.failNext({ status: 200, body: tokenResponse(name) })
  let isLate = true
  const late = held(server.hold(() => isLate))
  const second = visitor.get('/token')
  await late.reached
  isLate = false
  expect((await tab.get('/token')).status).toBe(200)
  late.release()
  const { status, json } = await second
  expect(status).toBe(200)
  ownGrants.lease = lease

  const stored = (await refreshing.storedTokens(tab))!
  expect(stored).toMatchObject({ revision: 3, accessTokens: [{ token: json.token }] })
  const { record } = await grants.read(stored.grantId)
  expect(JSON.parse(record!.tokens)).toMatchObject({ revision: 3, refreshToken: stored.refreshToken })
  refreshing.clock.advance(2 * HOUR_MS)
  server.failNext({ status: 200, body: tokenResponse('a third') })
  expect((await tab.get('/token')).status).toBe(200)
  expect(server.tokenRequests.at(-1)?.refreshToken).toBe(stored.refreshToken)
})

const tokenResponse = (name: string) => ({
  access_token: `the access token of ${name}`,
  token_type: 'Bearer',
  expires_in: 3600,
  refresh_token: `the refresh token of ${name}`,
})

it('S47 tokens that were found in the grant store are written to the session, though their own refresh then fails', async () => {
  const { refreshing, other, tab, visitor } = await twoProcesses()
  refreshing.store.failNext('set', 2)
  expect((await tab.get('/token')).status).toBe(200)
  expect((await refreshing.storedTokens(tab))?.revision).toBe(1)
  other.clock.advance(2 * HOUR_MS)
  server.failNext(503)
  expect((await visitor.get('/token')).status).toBe(503)
  await other.mounted.manager.close()
  expect((await refreshing.storedTokens(tab))?.revision).toBe(2)
})
