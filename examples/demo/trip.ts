import assert from 'node:assert/strict'
import type { Demo } from './demo.js'
import type { ApiRow, Row, TokenRow } from './timeline.js'
import { type Visitor, visitor } from './visitor.js'

/** The state that the steps of a tour share. */
export interface Trip {
  readonly demo: Demo
  readonly visitor: Visitor
  /** The newest refresh token, as the authorization server issued it. */
  refreshToken(): string
  /** A step begins. */
  begin(): void
  /** The rows of the time line since the step began. */
  news(): Row[]
}

/** The printed text of a step: the requests to the authorization server, and the result in one line or several. */
export type Outcome = readonly [authorizationServer: string, ...outcome: string[]]
export type Step<T extends Trip> = readonly [name: string, run: (trip: T) => Promise<Outcome>]

/** A run through a demo without a browser. */
export function tripThrough(demo: Demo): Trip {
  let refreshToken = ''
  demo.provider.on('grant.success', (ctx) => {
    refreshToken = (ctx.body as { refresh_token: string }).refresh_token
  })
  let first = 0
  return {
    demo,
    visitor: visitor(demo.url),
    refreshToken: () => refreshToken,
    begin: () => {
      first = demo.timeline.rows.length
    },
    news: () => demo.timeline.rows.slice(first),
  }
}

/** Runs one step after the other and prints the results. Resolves with whether all steps succeeded. */
export async function take<T extends Trip>(steps: readonly Step<T>[], trip: T): Promise<boolean> {
  for (const [name, run] of steps) {
    trip.begin()
    try {
      print(name, ...(await run(trip)))
    } catch (error) {
      const [what = ''] = (error as Error).message.split('\n')
      print(name, 'WENT WRONG', what)
      return false
    }
  }
  return true
}

function print(step: string, ...[authorizationServer, ...outcome]: Outcome): void {
  // Since the process began.
  const seconds = (performance.now() / 1000).toFixed(2)
  const columns = `${seconds.padStart(5)} s  ${step.padEnd(17)}  ${authorizationServer.padEnd(29)}  `
  console.log(columns + outcome.join(`\n${' '.repeat(columns.length)}`))
}

/** The requests of a step to the authorization server. */
export function seen(rows: readonly Row[]): string {
  const requests = tokenRows(rows).map(({ request, status }) => `${request} → ${status}`)
  const counted = [...new Set(requests)].map((request) => {
    const count = requests.filter((other) => other === request).length
    return count === 1 ? request : `${count} × ${request}`
  })
  return counted.join(', ') || 'nothing'
}

export function tokenRows(rows: readonly Row[]): TokenRow[] {
  return rows.filter((row) => row.kind === 'token')
}

export function apiRows(rows: readonly Row[]): ApiRow[] {
  return rows.filter((row) => row.kind === 'api')
}

export function only<T>(rows: readonly T[]): T {
  assert.equal(rows.length, 1, `the time line should have 1 row of this kind, not ${rows.length}`)
  return rows[0] as T
}
