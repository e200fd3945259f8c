import { afterEach, describe, expect, it, jest } from '@jest/globals'
import { decodeJwt } from 'jose'
import {
  allowInsecureRequests,
  authorizationCodeGrant,
  buildAuthorizationUrl,
  ClientSecretPost,
  calculatePKCECodeChallenge,
  discovery,
  PrivateKeyJwt,
  randomPKCECodeVerifier,
  refreshTokenGrant,
} from 'openid-client'
import {
  type AuthorizationServer,
  type AuthorizationServerOptions,
  clients,
  startAuthorizationServer,
} from './authorization-server.js'
import { browser } from './browser.js'

const A = 'https://api-a.example'
const B = 'https://api-b.example'

const running: AuthorizationServer[] = []
async function start(options?: AuthorizationServerOptions): Promise<AuthorizationServer> {
  const server = await startAuthorizationServer(options)
  running.push(server)
  return server
}
afterEach(async () => {
  await Promise.all(running.splice(0).map((server) => server.close()))
})

/** Sends a form as the public client, or as whom the parameters say. */
async function post(endpoint: string, parameters: Record<string, string>, signal?: AbortSignal) {
  const body = new URLSearchParams({ client_id: clients.none.clientId, ...parameters })
  const response = await fetch(endpoint, {
    method: 'POST',
    body,
    redirect: 'manual',
    ...(signal && { signal }),
  })
  const text = await response.text()
  return { status: response.status, headers: response.headers, text, json: () => JSON.parse(text) }
}

function refresh(server: AuthorizationServer, refreshToken: string, more: Record<string, string> = {}) {
  return post(server.tokenEndpoint, { grant_type: 'refresh_token', refresh_token: refreshToken, ...more })
}

describe('startAuthorizationServer(options)', () => {
  it('starts quickly, twice in one process, and says nothing', async () => {
    const spies = (['log', 'info', 'warn', 'error'] as const).map((level) => jest.spyOn(console, level))
    const before = process.cpuUsage()
    const servers = await Promise.all([start(), start()])
    for (const server of servers) {
      const tokens = await server.login('alice', { client: 'none', resource: A })
      await refresh(server, tokens.refresh_token, { resource: A })
      await post(server.revocationEndpoint, { token: tokens.refresh_token })
    }
    const { user, system } = process.cpuUsage(before)
    expect((user + system) / 1000).toBeLessThan(1000)
    expect(new Set(servers.map(({ issuer }) => issuer)).size).toBe(2)
    expect(spies.flatMap((spy) => spy.mock.calls)).toEqual([])
    jest.restoreAllMocks()
  })

  it('publishes metadata that a certified client accepts', async () => {
    const server = await start()
    const config = await discovery(new URL(server.issuer), 'web-post', {}, undefined, {
      execute: [allowInsecureRequests],
    })
    expect(config.serverMetadata()).toMatchObject({
      token_endpoint: server.tokenEndpoint,
      revocation_endpoint: server.revocationEndpoint,
      introspection_endpoint: server.introspectionEndpoint,
      authorization_endpoint: server.authorizationEndpoint,
    })
  })

  it('lets a certified client log in through a browser, and refresh', async () => {
    const server = await start()
    const config = await discovery(
      new URL(server.issuer),
      'web-post',
      {},
      ClientSecretPost(clients.client_secret_post.clientSecret),
      { execute: [allowInsecureRequests] },
    )
    const verifier = randomPKCECodeVerifier()
    const url = buildAuthorizationUrl(config, {
      redirect_uri: 'http://127.0.0.1:1/callback',
      scope: 'openid offline_access orders.read',
      resource: A,
      prompt: 'consent',
      login_hint: 'carol',
      code_challenge: await calculatePKCECodeChallenge(verifier),
      code_challenge_method: 'S256',
    })
    const callback = await callbackOf(server, url.href)
    const tokens = await authorizationCodeGrant(config, new URL(callback), { pkceCodeVerifier: verifier })
    expect(tokens.claims()?.sub).toBe('carol')
    const again = await refreshTokenGrant(config, String(tokens.refresh_token), { resource: A })
    expect(decodeJwt(again.access_token)).toMatchObject({ aud: A, sub: 'carol', scope: 'orders.read' })
  })

  it('gives logins in one browser one grant, and logins of its own making a grant each', async () => {
    const server = await start()
    const tokensOf = async (callback: string, verifier: string) => {
      const parameters = { grant_type: 'authorization_code', redirect_uri: 'http://127.0.0.1:1/callback' }
      const code = String(new URL(callback).searchParams.get('code'))
      return (await post(server.tokenEndpoint, { ...parameters, code, code_verifier: verifier })).json()
    }
    const one = browser(server.issuer)
    const tokens = []
    for (let login = 0; login < 2; login += 1) {
      const verifier = randomPKCECodeVerifier()
      const query = new URLSearchParams({
        client_id: clients.none.clientId,
        response_type: 'code',
        redirect_uri: 'http://127.0.0.1:1/callback',
        scope: 'openid offline_access',
        prompt: 'consent',
        login_hint: 'alice',
        code_challenge: await calculatePKCECodeChallenge(verifier),
        code_challenge_method: 'S256',
      })
      tokens.push(
        await tokensOf(await callbackOf(server, `${server.authorizationEndpoint}?${query}`, one), verifier),
      )
    }
    const other = await server.login('alice', { client: 'none' })
    await post(server.revocationEndpoint, { token: tokens[0].refresh_token })
    expect(await server.isActive(tokens[1].refresh_token)).toBe(false)
    expect(await server.isActive(other.refresh_token)).toBe(true)
  })
})

/** Follows an authorization request up to the redirect to the client, where nobody listens. */
async function callbackOf(
  server: AuthorizationServer,
  url: string,
  tab = browser(server.issuer),
): Promise<string> {
  let location = url
  while (location.startsWith(server.issuer)) {
    const page = await tab.get(location)
    const next = page.headers.get('location')
    if (next === null) throw new Error(`no redirect: ${page.status} ${page.text}`)
    location = new URL(next, location).href
  }
  return location
}

describe('login(accountId, request)', () => {
  const methods = Object.keys(clients) as (keyof typeof clients)[]

  it.each(methods)('logs in to a client that authenticates with %s', async (client) => {
    const server = await start()
    const tokens = await server.login('alice', { client })
    expect(tokens).toMatchObject({
      token_type: 'Bearer',
      expires_in: 3600,
      scope: 'openid offline_access orders.read orders.write',
    })
    expect(decodeJwt(tokens.id_token)).toMatchObject({ sub: 'alice', iss: server.issuer })
    expect(server.tokenRequests).toEqual([])
  })

  it.each([
    ['client_secret_post', ClientSecretPost(clients.client_secret_post.clientSecret)],
    ['private_key_jwt', undefined],
  ] as const)('yields tokens that the client %s can refresh', async (client, authentication) => {
    const server = await start()
    const key = await crypto.subtle.importKey(
      'jwk',
      clients.private_key_jwt.privateJwk,
      { name: 'ECDSA', namedCurve: 'P-256' },
      false,
      ['sign'],
    )
    const config = await discovery(
      new URL(server.issuer),
      clients[client].clientId,
      {},
      authentication ?? PrivateKeyJwt(key),
      { execute: [allowInsecureRequests] },
    )
    const tokens = await server.login('alice', { client })
    const again = await refreshTokenGrant(config, tokens.refresh_token)
    expect(again.refresh_token).not.toBe(tokens.refresh_token)
    expect(server.refreshes()).toBe(1)
  })

  it('is not held, failed or stopped by what clients meet', async () => {
    const server = await start()
    server.hold()
    server.failNext(500)
    await server.down()
    await expect(server.login('alice')).resolves.toMatchObject({ token_type: 'Bearer' })
  })

  it('grants resources, of which a refresh gets the one it asks for, as a JWT', async () => {
    const server = await start()
    const tokens = await server.login('alice', { client: 'none', resource: [A, B] })
    const a = (await refresh(server, tokens.refresh_token, { resource: A, scope: 'orders.read' })).json()
    const b = (await refresh(server, a.refresh_token, { resource: B })).json()
    const none = (await refresh(server, b.refresh_token)).json()
    expect(decodeJwt(a.access_token)).toMatchObject({ aud: A, scope: 'orders.read' })
    expect(decodeJwt(b.access_token)).toMatchObject({ aud: B, scope: 'orders.read orders.write' })
    expect(none.access_token).not.toContain('.')
    const refused = await refresh(server, none.refresh_token, { resource: 'https://api-c.example' })
    expect(refused.json()).toMatchObject({ error: 'invalid_target' })
  })

  it('yields JWTs without a resource too, when told so', async () => {
    const server = await start({ accessTokenFormat: 'jwt', accessTokenTtl: 60 })
    const tokens = await server.login('alice', { client: 'none', resource: A })
    const again = (await refresh(server, tokens.refresh_token)).json()
    for (const { access_token, expires_in } of [tokens, again]) {
      const { exp = 0, iat = 0, aud } = decodeJwt(access_token)
      expect({ aud, lifetime: exp - iat, expires_in }).toEqual({
        aud: 'https://api.example',
        lifetime: 60,
        expires_in: 60,
      })
    }
  })

  it('yields tokens that live as long as the server was last told', async () => {
    const server = await start({ accessTokenTtl: 60 })
    const tokens = await server.login('alice', { client: 'none' })
    server.setAccessTokenTtl(5)
    expect((await refresh(server, tokens.refresh_token)).json()).toMatchObject({ expires_in: 5 })
  })
})

describe('authorize(accountId, request)', () => {
  it('yields parameters that the token endpoint accepts once', async () => {
    const server = await start()
    const grant = await server.authorize('alice', { client: 'none' })
    const first = await post(server.tokenEndpoint, { ...grant })
    expect(first.json()).toMatchObject({ token_type: 'Bearer' })
    expect((await post(server.tokenEndpoint, { ...grant })).json()).toMatchObject({ error: 'invalid_grant' })
    expect(server.tokenRequests.map(({ grantType, status }) => [grantType, status])).toEqual([
      ['authorization_code', 200],
      ['authorization_code', 400],
    ])
  })
})

describe('the token endpoint', () => {
  it('rotates the refresh token, and logs what it saw', async () => {
    const server = await start()
    const tokens = await server.login('alice', { client: 'none' })
    const again = (await refresh(server, tokens.refresh_token, { scope: 'orders.read' })).json()
    expect(await server.isActive(tokens.refresh_token)).toBe(false)
    expect(await server.isActive(again.refresh_token)).toBe(true)
    expect(server.tokenRequests).toMatchObject([
      {
        grantType: 'refresh_token',
        refreshToken: tokens.refresh_token,
        scope: 'orders.read',
        resource: undefined,
        authorization: undefined,
        status: 200,
      },
    ])
  })

  it('keeps the access tokens from before a refresh alive', async () => {
    const server = await start()
    const tokens = await server.login('alice', { client: 'none' })
    await refresh(server, tokens.refresh_token)
    expect(await server.isActive(tokens.access_token)).toBe(true)
  })

  it('ends the whole grant, and no other, when a refresh token is used again', async () => {
    const server = await start()
    const jwt = { client: 'none', resource: A } as const
    const tokens = await server.login('alice', jwt)
    const other = await server.login('alice', jwt)
    const again = (await refresh(server, tokens.refresh_token, { resource: A })).json()
    const reuse = await refresh(server, tokens.refresh_token)
    expect(reuse.json()).toMatchObject({ error: 'invalid_grant' })
    expect((await refresh(server, again.refresh_token)).json()).toMatchObject({ error: 'invalid_grant' })
    expect(server.reuses()).toBe(1)
    expect(server.refreshes()).toBe(1)
    expect(server.presentedAgain()).toEqual([tokens.refresh_token])
    expect(server.endedGrants).toHaveLength(1)
    const dead = [tokens.access_token, tokens.refresh_token, again.access_token, again.refresh_token]
    expect(await Promise.all(dead.map(server.isActive))).toEqual([false, false, false, false])
    expect(await server.isActive(other.refresh_token)).toBe(true)
  })

  it('sees a reuse even when 50 refreshes reach it at the same moment', async () => {
    const server = await start()
    const tokens = await server.login('alice', { client: 'none' })
    const gate = server.hold()
    const answers = Array.from({ length: 50 }, () => refresh(server, tokens.refresh_token))
    await gate.reachedBy(50)
    gate.release()
    expect((await Promise.all(answers)).filter(({ status }) => status === 200)).toHaveLength(1)
    expect(server.refreshes()).toBe(1)
    expect(server.reuses()).toBe(49)
  })

  it('refuses a client that authenticates wrongly', async () => {
    const server = await start()
    const tokens = await server.login('alice', { client: 'none' })
    const answer = await refresh(server, tokens.refresh_token, { client_id: 'nobody' })
    expect([answer.status, answer.json().error]).toEqual([401, 'invalid_client'])
    expect(await server.isActive(tokens.refresh_token)).toBe(true)
  })
})

describe('the revocation endpoint', () => {
  it.each(['refresh_token', 'access_token'] as const)(
    'ends the refresh token of a revoked %s',
    async (kind) => {
      const server = await start()
      const tokens = await server.login('alice', { client: 'none' })
      const answer = await post(server.revocationEndpoint, { token: tokens[kind], token_type_hint: kind })
      expect(answer.status).toBe(200)
      expect(server.revocations).toMatchObject([{ token: tokens[kind], hint: kind, status: 200 }])
      expect(await server.isActive(tokens.refresh_token)).toBe(false)
      expect(await server.isActive(tokens.access_token)).toBe(false)
      expect((await refresh(server, tokens.refresh_token)).json()).toMatchObject({ error: 'invalid_grant' })
      expect(server.endedGrants).toHaveLength(kind === 'refresh_token' ? 1 : 0)
    },
  )

  it('ends the grant of a refresh token that a refresh has used up', async () => {
    const server = await start()
    const tokens = await server.login('alice', { client: 'none' })
    const again = (await refresh(server, tokens.refresh_token)).json()
    await post(server.revocationEndpoint, { token: tokens.refresh_token })
    expect(await server.isActive(again.refresh_token)).toBe(false)
  })

  it('refuses a JWT', async () => {
    const server = await start({ accessTokenFormat: 'jwt' })
    const tokens = await server.login('alice', { client: 'none' })
    const answer = await post(server.revocationEndpoint, { token: tokens.access_token })
    expect([answer.status, answer.json().error]).toEqual([400, 'unsupported_token_type'])
    expect(await server.isActive(tokens.access_token)).toBe(true)
  })

  it('fails when told so', async () => {
    const server = await start()
    const tokens = await server.login('alice', { client: 'none' })
    server.failNextRevocation(503)
    expect((await post(server.revocationEndpoint, { token: tokens.refresh_token })).status).toBe(503)
    expect(await server.isActive(tokens.refresh_token)).toBe(true)
  })
})

describe('hold()', () => {
  it('keeps token requests from the server until it is released', async () => {
    const server = await start()
    const tokens = await server.login('alice', { client: 'none' })
    const gate = server.hold()
    const answer = refresh(server, tokens.refresh_token)
    await gate.reached
    expect(await server.isActive(tokens.refresh_token)).toBe(true)
    expect(gate.waiting).toBe(1)
    gate.release()
    expect((await answer).status).toBe(200)
    expect(gate.waiting).toBe(0)
  })

  it('keeps those alone that match', async () => {
    const server = await start()
    const [alice, bob] = await Promise.all(['alice', 'bob'].map((id) => server.login(id, { client: 'none' })))
    const gate = server.hold(({ refreshToken }) => refreshToken === alice?.refresh_token)
    const held = refresh(server, String(alice?.refresh_token))
    expect((await refresh(server, String(bob?.refresh_token))).status).toBe(200)
    gate.release()
    expect((await held).status).toBe(200)
  })

  it('lets the server do its work although the client has gone', async () => {
    const server = await start()
    const tokens = await server.login('alice', { client: 'none' })
    const gate = server.holdAnswer()
    const client = new AbortController()
    const parameters = { grant_type: 'refresh_token', refresh_token: tokens.refresh_token }
    const answer = post(server.tokenEndpoint, parameters, client.signal)
    await gate.reached
    client.abort()
    await expect(answer).rejects.toThrow('aborted')
    gate.release()
    expect(await server.isActive(tokens.refresh_token)).toBe(false)
    expect(server.refreshes()).toBe(1)
  })
})

describe('holdAnswer()', () => {
  it('keeps the answer after the refresh token has been rotated', async () => {
    const server = await start()
    const tokens = await server.login('alice', { client: 'none' })
    const gate = server.holdAnswer()
    const answer = refresh(server, tokens.refresh_token)
    await gate.reached
    expect(await server.isActive(tokens.refresh_token)).toBe(false)
    expect(server.refreshes()).toBe(1)
    gate.release()
    expect((await answer).json()).toMatchObject({ token_type: 'Bearer' })
  })
})

describe('failNext(fault)', () => {
  it.each([
    [429, 429],
    [500, 500],
    [503, 503],
    ['html-502', 502],
    ['html-200', 200],
    ['garbage', 200],
    ['cut-off', 200],
    ['empty', 200],
    ['empty-400', 400],
    ['empty-401', 401],
    ['null', 200],
    ['array', 200],
    ['no-access-token', 200],
    ['huge', 200],
    ['redirect', 307],
    ['invalid_client', 401],
    ['invalid_client-400', 400],
    ['unauthorized_client', 400],
    ['invalid_grant', 400],
    ['invalid_scope', 400],
    ['temporarily_unavailable', 400],
  ] as const)('answers %s once, and leaves the refresh token alone', async (fault, status) => {
    const server = await start()
    const tokens = await server.login('alice', { client: 'none' })
    server.failNext(fault)
    const answer = await refresh(server, tokens.refresh_token)
    expect(answer.status).toBe(status)
    expect(answer.headers.get('retry-after')).toBe(fault === 429 || fault === 503 ? '7' : null)
    expect(server.tokenRequests).toMatchObject([{ fault, status }])
    expect(server.refreshes()).toBe(0)
    expect((await refresh(server, tokens.refresh_token)).status).toBe(200)
    expect(server.elsewhere).toEqual([])
  })

  it.each(['reset', 'hangup', 'cut-connection'] as const)('breaks the connection: %s', async (fault) => {
    const server = await start()
    const tokens = await server.login('alice', { client: 'none' })
    server.failNext(fault, 2)
    await expect(refresh(server, tokens.refresh_token)).rejects.toThrow()
    await expect(refresh(server, tokens.refresh_token)).rejects.toThrow()
    expect(server.refreshes()).toBe(0)
    expect((await refresh(server, tokens.refresh_token)).status).toBe(200)
  })

  it('loses the answer after the rotation: reset-after', async () => {
    const server = await start()
    const tokens = await server.login('alice', { client: 'none' })
    server.failNext('reset-after')
    await expect(refresh(server, tokens.refresh_token)).rejects.toThrow()
    expect(server.refreshes()).toBe(1)
    expect(await server.isActive(tokens.refresh_token)).toBe(false)
  })

  it.each(['silence', 'stall', 'silence-after'] as const)('never answers: %s', async (fault) => {
    const server = await start()
    const tokens = await server.login('alice', { client: 'none' })
    server.failNext(fault)
    const gate = server.hold()
    const client = new AbortController()
    const parameters = { grant_type: 'refresh_token', refresh_token: tokens.refresh_token }
    const answer = post(server.tokenEndpoint, parameters, client.signal)
    await gate.reached
    gate.release()
    const others = await server.login('bob', { client: 'none' })
    expect((await refresh(server, others.refresh_token)).status).toBe(200)
    client.abort()
    await expect(answer).rejects.toThrow('aborted')
    expect(server.refreshes()).toBe(fault === 'silence-after' ? 2 : 1)
  })

  it('answers as the test says', async () => {
    const server = await start()
    server.failNext({ status: 503, headers: { 'retry-after': 'Fri, 31 Dec 2100 23:59:59 GMT' } })
    const answer = await refresh(server, 'whatever')
    expect([answer.status, answer.headers.get('retry-after')]).toEqual([503, 'Fri, 31 Dec 2100 23:59:59 GMT'])
  })

  it('sees who follows a redirect', async () => {
    const server = await start()
    server.failNext('redirect')
    await fetch(server.tokenEndpoint, {
      method: 'POST',
      body: new URLSearchParams({ refresh_token: 'secret' }),
    })
    expect(server.elsewhere).toEqual(['refresh_token=secret'])
  })
})

describe('down()', () => {
  it('refuses connections until up(), on the same port, with everything kept', async () => {
    const server = await start()
    const tokens = await server.login('alice', { client: 'none' })
    await server.down()
    await expect(refresh(server, tokens.refresh_token)).rejects.toThrow()
    await server.up()
    expect((await refresh(server, tokens.refresh_token)).status).toBe(200)
  })
})
