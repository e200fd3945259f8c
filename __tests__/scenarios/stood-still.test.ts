import { afterEach, expect, it, jest } from '@jest/globals'
import { LEASE_MS } from '../../lib/grants/lease.js'
import { createGate } from '../helpers/gate.js'
import { recordingGrants, sharedSessions } from '../helpers/site.js'
import { HOUR_MS, testSites } from '../helpers/test-sites.js'

const { server, start, held, loggedIn } = await testSites()

afterEach(() => {
  jest.restoreAllMocks()
})

/** Time passes for leases. */
function pass(ms: number): void {
  const now = performance.now.bind(performance)
  jest.spyOn(performance, 'now').mockImplementation(() => now() + ms)
}

/** A process that has the lease, and stands still for a while before it spends the refresh token. */
async function standsStill(ms: number) {
  const grants = recordingGrants()
  const open = sharedSessions()
  const [still, other] = [
    await start({ store: open(), surroundings: { grants } }),
    await start({ store: open(), surroundings: { grants } }),
  ]
  const tab = await loggedIn(still)
  const slow = held(still.slow('/slow', ({ tokens }) => tokens.getAccessToken()))
  const answer = tab.get('/slow')
  await slow.reached
  for (const site of [still, other]) site.clock.advance(HOUR_MS)
  const reading = held(still.store.holdAnswer('get'))
  grants.forget()
  const refreshes = server.refreshes()
  slow.release()
  await reading.reached
  expect(grants.calls).toContain('lease')
  pass(ms)
  return {
    answer,
    reading,
    visitor: other.visitorOf(tab),
    grants,
    refreshed: () => server.refreshes() - refreshes,
  }
}

it('S21 a process that stood still for longer than its lease lasts takes what another has got meanwhile', async () => {
  const { answer, reading, visitor, refreshed } = await standsStill(LEASE_MS + 1)
  const { status, json } = await visitor.get('/token')
  expect(status).toBe(200)
  reading.release()
  expect(await answer).toMatchObject({ status: 200, json: { token: json.token } })
  expect(refreshed()).toBe(1)
})

it('S21 a process that stood still for long asks for its lease before it spends the refresh token', async () => {
  const { answer, reading, grants, refreshed } = await standsStill(LEASE_MS / 2 + 1)
  const spend = held(server.hold())
  reading.release()
  await spend.reached
  expect(grants.calls).toContain('renew')
  spend.release()
  expect((await answer).status).toBe(200)
  expect(refreshed()).toBe(1)
})

it('S21 a process that stood still when the lease was granted to it waits for whoever has it by now', async () => {
  const grants = recordingGrants()
  const granted = createGate()
  const late: typeof grants.lease = async (...request) => {
    const answer = await grants.lease(...request)
    await granted.pass()
    return answer
  }
  const open = sharedSessions()
  const [still, other] = [
    await start({ store: open(), surroundings: { grants: { ...grants, lease: late } } }),
    await start({ store: open(), surroundings: { grants } }),
  ]
  const tab = await loggedIn(still)
  const visitor = other.visitorOf(tab)
  const onward = () => {
    for (const site of [still, other]) site.clock.advance(HOUR_MS)
  }
  onward()
  const refreshes = server.refreshes()
  const answer = tab.get('/token')
  await granted.reached
  pass(LEASE_MS + 1)
  expect((await visitor.get('/token')).status).toBe(200)
  onward()
  const spend = held(server.hold())
  const others = visitor.get('/token')
  await spend.reached
  grants.forget()
  granted.release()
  while (!grants.calls.includes('lease') && server.refreshes() - refreshes < 3)
    await new Promise(setImmediate)
  spend.release()
  const { json } = await others
  expect(await answer).toMatchObject({ status: 200, json: { token: json.token } })
  expect(server.refreshes() - refreshes).toBe(2)
})
