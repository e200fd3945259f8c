/**
 * A process that is the token endpoint of an authorization server. A refresh token may be used once; its second use ends the
 * grant.
 */
import { randomBytes } from 'node:crypto'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { setTimeout as delay } from 'node:timers/promises'
import { serve } from '../harness/servers.js'

export interface TokenEndpointState {
  /** `down` responds with 503 at once. `silent` accepts connections and requests, and responds to none of these. */
  readonly mode: 'up' | 'down' | 'silent'
  /** How long a response takes while the server is up, in milliseconds. */
  readonly latencyMs: number
  /** The lifetime of access tokens, in milliseconds. */
  readonly lifetimeMs: number
  /** When all access tokens expire, instead of a lifetime, in milliseconds since the epoch. */
  readonly expiresAt?: number
}

/** What has happened since the last reset. */
export interface TokenEndpointCounts {
  /** Refresh requests, by the second in which they arrived. */
  readonly bySecond: readonly number[]
  /** Refresh tokens that came again after their use. */
  readonly reused: number
  /** The most connections that were open at a time. */
  readonly mostConnections: number
}

interface Grant {
  current: string
  hasEnded: boolean
}

const grants = new Map<string, Grant>()
let state: TokenEndpointState = { mode: 'up', latencyMs: 0, lifetimeMs: 3_600_000 }
let serial = 0
let connections = 0
let counts: { bySecond: number[]; reused: number; mostConnections: number }
let countedSince: number

function reset(): void {
  counts = { bySecond: [], reused: 0, mostConnections: connections }
  countedSince = performance.now()
}

reset()
const server = await serve((request, response) => void respond(request, response), {
  set: (change: Partial<TokenEndpointState>) => {
    state = { ...state, ...change }
  },
  reset,
  counts: () => ({ ...counts, bySecond: Array.from(counts!.bySecond, (count) => count ?? 0) }),
})
server.on('connection', (socket) => {
  connections++
  counts.mostConnections = Math.max(counts.mostConnections, connections)
  socket.once('close', () => connections--)
})

async function respond(request: IncomingMessage, response: ServerResponse): Promise<void> {
  let body = ''
  for await (const chunk of request) body += chunk
  const refreshToken = new URLSearchParams(body).get('refresh_token')
  if (refreshToken !== null) countRequest()
  if (state.mode === 'silent') return
  if (state.mode === 'down') return json(response, 503, { error: 'temporarily_unavailable' })
  await delay(state.latencyMs)
  if (refreshToken === null) return json(response, 200, issue({ current: '', hasEnded: false }))
  const grant = grants.get(refreshToken)
  if (grant && grant.current !== refreshToken) {
    counts.reused++
    grant.hasEnded = true
  }
  if (!grant || grant.hasEnded) return json(response, 400, { error: 'invalid_grant' })
  return json(response, 200, issue(grant))
}

function countRequest(): void {
  const second = Math.floor((performance.now() - countedSince) / 1000)
  counts.bySecond[second] = (counts.bySecond[second] ?? 0) + 1
}

/** Issues new tokens. The access token begins with a serial number, and is about as long as a signed one. */
function issue(grant: Grant): object {
  grant.current = `${++serial}.${randomBytes(32).toString('base64url')}`
  grants.set(grant.current, grant)
  const { expiresAt, lifetimeMs } = state
  return {
    token_type: 'Bearer',
    access_token: `${serial}.${randomBytes(600).toString('base64url')}`,
    refresh_token: grant.current,
    expires_in: (expiresAt === undefined ? lifetimeMs : expiresAt - Date.now()) / 1000,
  }
}

function json(response: ServerResponse, status: number, body: object): void {
  response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body))
}
