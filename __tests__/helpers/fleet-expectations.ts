import { setTimeout as delay } from 'node:timers/promises'
import { beforeAll, expect, it } from '@jest/globals'
import type { AuthorizationServer } from './authorization-server.js'
import type { BrowserAnswer } from './browser.js'
import type { Fleet, FleetProcess, Visitor } from './fleet.js'
import type { Gate } from './gate.js'

/** A session whose access token has expired, and the refresh token that is to be used. */
export interface Expired {
  readonly visitor: Visitor
  readonly used: string
}

/** Logs a user in with an access token that has expired already, at the first process unless another is named. */
export async function expiredSession(fleet: Fleet, at?: FleetProcess): Promise<Expired> {
  const visitor = await fleet.login('alice', { expired: true, ...(at && { at }) })
  return { visitor, used: (await visitor.storedTokens())!.refreshToken! }
}

/** The access token that was answered. */
export async function tokenOf(request: BrowserAnswer | Promise<BrowserAnswer>): Promise<string> {
  const { status, json } = await request
  expect([status, json.code]).toEqual([200, undefined])
  return json.token
}

/** A refresh whose response the authorization server holds back. */
export interface UnderWay extends Expired {
  readonly request: Promise<BrowserAnswer>
  /** Where the response of the authorization server waits. */
  readonly answer: Gate
}

/** Has a process, the first one unless another is named, begin the refresh of a session. */
export async function refreshUnderWay(
  fleet: Fleet,
  server: AuthorizationServer,
  session?: Expired,
): Promise<UnderWay> {
  const { visitor, used } = session ?? (await expiredSession(fleet))
  const answer = server.holdAnswer(({ refreshToken }) => refreshToken === used)
  const request = visitor.at(fleet.processes[0]!).get('/token')
  // A failure is told to the test that waits for the request.
  request.catch(() => {})
  const tooEarly = request.then(({ status, text }) => {
    throw new Error(`A response came before the authorization server was asked: ${status} ${text}`)
  })
  await Promise.race([answer.reached, tooEarly])
  tooEarly.catch(() => {})
  return { visitor, used, request, answer }
}

/** Asks a process for the token, again and again while it cannot reach the grant store. */
export async function tokenOnceBack(process: FleetProcess, visitor: Visitor): Promise<string> {
  for (;;) {
    const response = await visitor.at(process).get('/token')
    if (response.status !== 503) return tokenOf(response)
    expect(response).toMatchObject({ json: { code: 'ERR_GRANT_STORE', retryable: true } })
    await delay(20)
  }
}

/** The stored session has the refresh token that the authorization server accepts. */
export async function expectNewest(server: AuthorizationServer, visitor: Visitor): Promise<void> {
  expect(await server.isActive((await visitor.storedTokens())?.refreshToken ?? 'none')).toBe(true)
}

/** How often the authorization server has seen a refresh token. */
export function timesPresented(server: AuthorizationServer, refreshToken: string): number {
  return server.tokenRequests.filter((request) => request.refreshToken === refreshToken).length
}

/** Tries again until it is so. */
export async function eventually(isSo: () => Promise<void>, withinMs = 5_000): Promise<void> {
  const until = Date.now() + withinMs
  for (;;) {
    try {
      return await isSo()
    } catch (error) {
      if (Date.now() > until) throw error
      await delay(5)
    }
  }
}

/** Tests that mostly wait, and none for another: they do it at the same time. */
export function together(timeoutMs: number, tests: Record<string, () => Promise<void>>): void {
  const outcomes = new Map<string, Promise<void>>()
  beforeAll(() => {
    for (const [name, test] of Object.entries(tests)) {
      const outcome = test()
      // Told when its turn comes.
      outcome.catch(() => {})
      outcomes.set(name, outcome)
    }
  })
  for (const name of Object.keys(tests)) it(name, () => outcomes.get(name), timeoutMs)
}
