import { afterEach, describe, expect, it, jest } from '@jest/globals'
import { LEASE_MS } from '../../lib/concurrency/time-constants.js'
import type { GrantStore } from '../../lib/grants/grant-store.js'
import { type ClientAuthentication, clientSecretBasic } from '../../lib/index.js'
import { createGate } from '../helpers/gate.js'
import { recordingGrants, sharedSessions } from '../helpers/site.js'
import { HOUR_MS, testSites } from '../helpers/test-sites.js'

const { server, start, held, loggedIn } = await testSites()

afterEach(() => {
  jest.restoreAllMocks()
})

const machineTime = performance.now.bind(performance)

/** Time passes for leases. */
function pass(ms: number): void {
  const passed = performance.now() - machineTime() + ms
  jest.spyOn(performance, 'now').mockImplementation(() => machineTime() + passed)
}

/** A process that has the lease, and stands still for a while before it spends the refresh token. */
async function standsStill(ms: number, altered: (grants: GrantStore) => Partial<GrantStore> = () => ({})) {
  const grants = recordingGrants()
  const open = sharedSessions()
  const [still, other] = [
    await start({ store: open(), surroundings: { grants: { ...grants, ...altered(grants) } } }),
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

it('S21 a process that stood still for longer than its lease lasts uses the tokens that another process got', async () => {
  const { answer, reading, visitor, refreshed } = await standsStill(LEASE_MS + 1)
  const { status, json } = await visitor.get('/token')
  expect(status).toBe(200)
  reading.release()
  expect(await answer).toMatchObject({ status: 200, json: { token: json.token } })
  expect(refreshed()).toBe(1)
})

it('S21 a process that stood still for long renews its lease before it spends the refresh token', async () => {
  const { answer, reading, grants, refreshed } = await standsStill(LEASE_MS / 2 + 1)
  const spend = held(server.hold())
  grants.forget()
  reading.release()
  await spend.reached
  expect(grants.calls).toEqual(['release', 'lease'])
  spend.release()
  expect((await answer).status).toBe(200)
  expect(refreshed()).toBe(1)
})

describe('S21 another process has taken the lease, refreshed and released it while this process stood still', () => {
  /** Renews a lease that no process has, as a grant store may that has forgotten leases. */
  const forgetful = (renewed: () => void) => (grants: GrantStore) => ({
    async renew(grantId: string, owner: string, ttlMs: number) {
      const request = { owner, ttlMs, waitMs: 0, revision: Number.MAX_SAFE_INTEGER }
      const isRenewed =
        (await grants.renew(grantId, owner, ttlMs)) || (await grants.lease(grantId, request)).granted
      renewed()
      return isRenewed
    },
  })

  it.each(['comes first', 'comes later'])('the next renewal %s: the new token is found', async (when) => {
    const renewed = createGate()
    const { answer, reading, visitor, refreshed } = await standsStill(LEASE_MS + 1, forgetful(renewed.pass))
    const { json } = await visitor.get('/token')
    if (when === 'comes first') await renewed.reached
    reading.release()
    expect(await answer).toMatchObject({ status: 200, json: { token: json.token } })
    expect(refreshed()).toBe(1)
  })

  it('while it was authenticating: the new token is found', async () => {
    const authenticated = held(createGate())
    const authenticate = clientSecretBasic(server.clients.client_secret_basic.clientSecret)
    const clientAuthentication: ClientAuthentication = async (request) => {
      await authenticated.pass()
      return authenticate(request)
    }
    const grants = recordingGrants()
    const open = sharedSessions()
    const still = await start({
      store: open(),
      surroundings: { grants },
      tokens: { clientAuthentication },
    })
    const other = await start({ store: open(), surroundings: { grants } })
    const tab = await loggedIn(still)
    for (const site of [still, other]) site.clock.advance(HOUR_MS)
    const refreshes = server.refreshes()
    const answer = tab.get('/token')
    await authenticated.reached
    pass(LEASE_MS + 1)
    const { json } = await other.visitorOf(tab).get('/token')
    authenticated.release()
    expect(await answer).toMatchObject({ status: 200, json: { token: json.token } })
    expect(server.refreshes() - refreshes).toBe(1)
  })

  it('the grant store had said just before that the lease is held: the new token is found', async () => {
    const said = held(createGate())
    const saysLate = (grants: GrantStore) => {
      let leases = 0
      return {
        async renew(...request: Parameters<GrantStore['renew']>) {
          const answer = await grants.renew(...request)
          await said.pass()
          return answer
        },
        async lease(...request: Parameters<GrantStore['lease']>) {
          const answer = await grants.lease(...request)
          if (leases++ > 0) await said.pass()
          return answer
        },
      }
    }
    const { answer, reading, visitor, refreshed } = await standsStill(LEASE_MS / 2 + 1, saysLate)
    reading.release()
    await said.reached
    pass(LEASE_MS + 1)
    const { json } = await visitor.get('/token')
    said.release()
    expect(await answer).toMatchObject({ status: 200, json: { token: json.token } })
    expect(refreshed()).toBe(1)
  })
})

it('S21 a process that stood still when the lease was granted to it waits for the current holder', async () => {
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

describe('S21 a process that stood still while it stored its tokens, and another process refreshed since', () => {
  async function storesLate() {
    const grants = recordingGrants()
    const open = sharedSessions()
    const [still, other] = [
      await start({ store: open(), surroundings: { grants } }),
      await start({ store: open(), surroundings: { grants } }),
    ]
    const tab = await loggedIn(still)
    for (const site of [still, other]) site.clock.advance(HOUR_MS)
    const writing = held(still.store.hold('set'))
    const answer = tab.get('/token')
    await writing.reached
    for (const site of [still, other]) site.clock.advance(HOUR_MS)
    const { json } = await other.visitorOf(tab).get('/token')
    writing.release()
    return { handedOut: (await answer).json.token, newest: json.token, stored: await still.storedTokens(tab) }
  }

  it('hands out the new token', async () => {
    const { handedOut, newest } = await storesLate()
    expect(handedOut).toBe(newest)
  })

  it('brings the new tokens back into the session, which it has overwritten', async () => {
    const { newest, stored } = await storesLate()
    expect(stored?.accessTokens[0]?.token).toBe(newest)
  })
})
