import { setTimeout as delay } from 'node:timers/promises'
import { beforeAll, expect, it } from '@jest/globals'
import type { AuthorizationServer } from './authorization-server.js'
import type { BrowserAnswer } from './browser.js'
import type { Fleet, FleetProcess, Visitor } from './fleet.js'

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
