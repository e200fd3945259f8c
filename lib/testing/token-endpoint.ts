import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { systemClock } from '../concurrency/clock.js'
import { duration } from '../options/option-kinds.js'
import { checkOptions, type OptionTable } from '../options/option-table.js'
import { type IssuedTokens, TokenIssuer } from './issued-tokens.js'

export interface TokenEndpointOptions {
  /** How long an access token is valid, in milliseconds. Default: 300,000. */
  lifetimeMs?: number
}

const OPTIONS = { lifetimeMs: duration(300_000, { least: 1000 }) } satisfies OptionTable<TokenEndpointOptions>

const USAGE = {
  of: 'tokenEndpoint()',
  takes: 'The options of tokenEndpoint() must be an object: tokenEndpoint({ lifetimeMs: 60_000 })',
}

/** An authorization server for tests, see {@link tokenEndpoint}. */
export interface TestTokenEndpoint {
  /** The address of the server, for the option `issuer`. */
  readonly issuer: string
  /** How many refreshes have succeeded. */
  readonly refreshes: number
  /** How many times a used refresh token was presented again. This ends its grant, as it does at real servers. */
  readonly reuses: number
  /** Returns the token response of a new login, for `loggedIn()` or `set()`. */
  tokens(fields?: { scope?: string }): IssuedTokens
  /** Makes all access tokens that were issued so far expire. It moves the clock of the library in this process forward. */
  expire(): void
  /**
   * Makes the next requests fail: with an OAuth error such as `'invalid_grant'`, or with a status such as 503.
   *
   * @param times how many requests fail; `Infinity` for all, 0 for none. Default: 1.
   */
  fail(failure: string | number, times?: number): void
  /** Whether an API would accept an access token: it was issued here, and has neither expired nor been revoked. */
  isValid(accessToken: string): boolean
  close(): Promise<void>
}

/**
 * Starts an authorization server for tests, on a free port of the loopback interface. It has metadata, a token endpoint that
 * rotates refresh tokens and detects reuse, and a revocation endpoint. It accepts every client and every authorization code, and
 * issues no ID token.
 *
 * @throws `ConfigurationError` when an option is wrong
 *
 * @example
 * const idp = await tokenEndpoint()
 * app.use(sessionTokens({ issuer: idp.issuer, clientId: 'test', clientAuthentication: publicClient(), encryptionKeys: false }))
 */
export async function tokenEndpoint(options: TokenEndpointOptions = {}): Promise<TestTokenEndpoint> {
  const { lifetimeMs } = checkOptions(options, OPTIONS, USAGE)
  const issuer = new TokenIssuer(lifetimeMs)
  const failures: Failures = { failure: 503, times: 0 }
  const server = createServer((request, response) => void respond(request, response, issuer, failures))
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  // A test that forgets close() ends all the same.
  server.unref()
  return {
    issuer: urlOf(server),
    get refreshes() {
      return issuer.refreshes
    },
    get reuses() {
      return issuer.reuses
    },
    tokens: ({ scope } = {}) => issuer.login(scope),
    expire() {
      issuer.expire()
      moveClock(lifetimeMs)
    },
    fail: (failure, times = 1) => void Object.assign(failures, { failure, times }),
    isValid: (accessToken) => issuer.isValid(accessToken),
    close: () => closed(server),
  }
}

interface Failures {
  failure: string | number
  times: number
}

const { now: systemNow } = systemClock
let movedMs = 0

/**
 * Moves the clock that decides whether tokens have expired. The clock is never moved back, since the library must not see that.
 */
function moveClock(ms: number): void {
  movedMs += ms
  systemClock.now = () => systemNow() + movedMs
}

function urlOf(server: Server): string {
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`
}

function closed(server: Server): Promise<void> {
  return new Promise((resolve) => {
    server.close(() => resolve())
    server.closeAllConnections()
  })
}

async function respond(
  request: IncomingMessage,
  response: ServerResponse,
  issuer: TokenIssuer,
  failures: Failures,
): Promise<void> {
  const url = `http://${request.headers.host}`
  const form = await formOf(request)
  if (request.url === '/.well-known/openid-configuration') {
    const endpoints = { token_endpoint: `${url}/token`, revocation_endpoint: `${url}/revoke` }
    return sendJson(response, 200, { issuer: url, ...endpoints })
  }
  if (failures.times > 0) {
    failures.times--
    const { failure } = failures
    if (typeof failure === 'number') return sendJson(response, failure, {})
    return sendJson(response, failure === 'invalid_client' ? 401 : 400, { error: failure })
  }
  if (request.url === '/revoke') {
    issuer.revoke(form.get('token') ?? '')
    return sendJson(response, 200, {})
  }
  if (request.url !== '/token') return sendJson(response, 404, { error: 'not_found' })
  const isRefresh = form.get('grant_type') === 'refresh_token'
  const tokens = isRefresh
    ? issuer.refresh(form.get('refresh_token') ?? '')
    : issuer.login(form.get('scope') ?? undefined)
  return tokens ? sendJson(response, 200, tokens) : sendJson(response, 400, { error: 'invalid_grant' })
}

async function formOf(request: IncomingMessage): Promise<URLSearchParams> {
  let body = ''
  for await (const chunk of request) body += chunk
  return new URLSearchParams(body)
}

function sendJson(response: ServerResponse, status: number, body: object): void {
  response.writeHead(status, { 'content-type': 'application/json', 'cache-control': 'no-store' })
  response.end(JSON.stringify(body))
}
