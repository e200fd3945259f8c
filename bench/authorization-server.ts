/**
 * A small authorization server for benchmarks, in a process of its own: it rotates refresh tokens, and the second use of
 * one ends the grant (RFC 9700 §4.14.2). A real one would be measured instead of its clients.
 */
import { randomBytes } from 'node:crypto'
import type { IncomingMessage, RequestListener, ServerResponse } from 'node:http'
import { setTimeout as delay } from 'node:timers/promises'
import { exportJWK, generateKeyPair, SignJWT } from 'jose'
import { type BenchServer, serve, startServer } from './harness/servers.js'

export interface TokenServerOptions {
  /** How long access tokens live, in seconds. */
  readonly expiresIn: number
  /** How long the token endpoint takes for a refresh, and `/slow` for a call, in milliseconds. */
  readonly delayMs: number
}

/** The authorization server's process. */
export interface TokenServer {
  readonly issuer: string
  /** How many refreshes have been asked for since the last question, and how many grants have ended. */
  counts(): Promise<{ refreshes: number; ended: number }>
  stop(): Promise<void>
}

export const CLIENT_ID = 'bench'
export const CLIENT_SECRET = 'a secret of thirty-two characters'

export async function startTokenServer(options: TokenServerOptions): Promise<TokenServer> {
  const server: BenchServer = await startServer(import.meta.url, ['serve', JSON.stringify(options)])
  return {
    issuer: `http://127.0.0.1:${server.port}`,
    counts: () => server.ask('counts'),
    stop: server.stop,
  }
}

interface Grant {
  refreshToken: string
  ended: boolean
}

async function tokenServer({ expiresIn, delayMs }: TokenServerOptions) {
  const { privateKey, publicKey } = await generateKeyPair('RS256')
  const jwk = { ...(await exportJWK(publicKey)), alg: 'RS256', use: 'sig', kid: '1' }
  const grants = new Map<string, Grant>()
  const nonces = new Map<string, string | null>()
  let counted = { refreshes: 0, ended: 0 }

  const idToken = (issuer: string, nonce: string | null | undefined) =>
    new SignJWT({
      email: `${random(12)}@example.com`,
      email_verified: true,
      name: 'User',
      ...(nonce && { nonce }),
    })
      .setProtectedHeader({ alg: 'RS256', kid: '1' })
      .setIssuer(issuer)
      .setSubject(random(12))
      .setAudience(CLIENT_ID)
      .setIssuedAt()
      .setExpirationTime('1h')
      .sign(privateKey)

  function tokens(grant: Grant) {
    grant.refreshToken = `r${random(48)}`
    grants.set(grant.refreshToken, grant)
    return {
      access_token: `a${random(675)}`,
      token_type: 'Bearer',
      expires_in: expiresIn,
      refresh_token: grant.refreshToken,
      scope: 'openid offline_access',
    }
  }

  async function token(issuer: string, form: URLSearchParams) {
    if (form.get('grant_type') !== 'refresh_token') {
      const response = tokens({ refreshToken: '', ended: false })
      return { ...response, id_token: await idToken(issuer, nonces.get(form.get('code') ?? '')) }
    }
    counted.refreshes++
    const presented = form.get('refresh_token') ?? ''
    const grant = grants.get(presented)
    const isNewest = grant?.ended === false && grant.refreshToken === presented
    if (grant !== undefined && !isNewest && !grant.ended) {
      grant.ended = true
      counted.ended++
    }
    const response = isNewest ? tokens(grant) : undefined
    await delay(delayMs)
    return response
  }

  const listener: RequestListener = async (request, response) => {
    const issuer = `http://${request.headers.host}`
    const { pathname, searchParams } = new URL(request.url ?? '/', issuer)
    if (pathname === '/token') {
      const body = await token(issuer, new URLSearchParams(await textOf(request)))
      sendJson(response, body === undefined ? 400 : 200, body ?? { error: 'invalid_grant' })
    } else if (pathname === '/slow') {
      await delay(delayMs)
      sendJson(response, 200, {})
    } else if (pathname === '/authorize') {
      const code = random(24)
      nonces.set(code, searchParams.get('nonce'))
      const callback = new URL(searchParams.get('redirect_uri') ?? '')
      callback.search = String(
        new URLSearchParams({ code, state: searchParams.get('state') ?? '', iss: issuer }),
      )
      response.writeHead(302, { location: callback.href }).end()
    } else if (pathname === '/jwks') sendJson(response, 200, { keys: [jwk] })
    else sendJson(response, 200, metadataOf(issuer))
  }
  const counts = () => {
    const before = counted
    counted = { refreshes: 0, ended: 0 }
    return before
  }
  return { listener, counts }
}

function metadataOf(issuer: string) {
  return {
    issuer,
    authorization_endpoint: `${issuer}/authorize`,
    token_endpoint: `${issuer}/token`,
    jwks_uri: `${issuer}/jwks`,
    response_types_supported: ['code'],
    response_modes_supported: ['query'],
    subject_types_supported: ['public'],
    id_token_signing_alg_values_supported: ['RS256'],
    token_endpoint_auth_methods_supported: ['client_secret_basic', 'client_secret_post'],
    authorization_response_iss_parameter_supported: true,
  }
}

function sendJson(response: ServerResponse, status: number, body: object): void {
  const headers = { 'content-type': 'application/json', 'cache-control': 'no-store' }
  response.writeHead(status, headers).end(JSON.stringify(body))
}

async function textOf(request: IncomingMessage): Promise<string> {
  let text = ''
  for await (const chunk of request) text += chunk
  return text
}

function random(bytes: number): string {
  return randomBytes(bytes).toString('base64url')
}

if (process.argv[2] === 'serve' && process.argv[1]?.includes('authorization-server')) {
  const { listener, counts } = await tokenServer(JSON.parse(process.argv[3]!))
  await serve(listener, { counts })
}
