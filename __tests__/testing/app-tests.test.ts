import { randomBytes } from 'node:crypto'
import { afterEach, describe, expect, it } from '@jest/globals'
import express from 'express'
import session from 'express-session'
import Koa from 'koa'
import koaSession from 'koa-session'
import request from 'supertest'
import {
  publicClient,
  requireTokens,
  type SessionTokens,
  StepUpError,
  sessionTokens,
  tokenErrors,
} from '../../lib/index.js'
import * as onKoa from '../../lib/koa.js'
import {
  type FakeTokensOptions,
  fakeTokens,
  loggedIn,
  type TestTokenEndpoint,
  tokenEndpoint,
} from '../../lib/testing.js'

const closing: (() => Promise<void>)[] = []
afterEach(async () => {
  for (const close of closing.splice(0)) await close()
})

async function startEndpoint(options?: Parameters<typeof tokenEndpoint>[0]): Promise<TestTokenEndpoint> {
  const endpoint = await tokenEndpoint(options)
  closing.push(() => endpoint.close())
  return endpoint
}

const optionsFor = ({ issuer }: TestTokenEndpoint) => ({
  issuer,
  clientId: 'test',
  clientAuthentication: publicClient(),
  encryptionKeys: false as const,
})

function expressApp(endpoint: TestTokenEndpoint, tokens?: Parameters<typeof loggedIn>[0]) {
  const app = express()
  app.use(session({ secret: 'test', resave: false, saveUninitialized: false }))
  app.use(sessionTokens(optionsFor(endpoint)))
  app.use(loggedIn(tokens))
  app.get('/orders', requireTokens(), async (req, res) => {
    const { token } = await req.tokens.getAccessToken()
    res.json({ valid: endpoint.isValid(token), token })
  })
  app.post('/logout', async (req, res) => {
    await req.tokens.revoke()
    res.json({ loggedIn: req.tokens.hasTokens() })
  })
  app.use(tokenErrors({ onError() {} }))
  return app
}

describe('tokenEndpoint() and loggedIn()', () => {
  it('50 requests past an expiry on Express: one refresh, no reuse, and all have a valid token', async () => {
    const endpoint = await startEndpoint()
    const agent = request.agent(expressApp(endpoint, () => endpoint.tokens()).listen(0))
    await agent.get('/orders').expect(200)
    endpoint.expire()
    const responses = await Promise.all(Array.from({ length: 50 }, () => agent.get('/orders')))
    for (const { body } of responses) expect(body).toMatchObject({ valid: true })
    expect([endpoint.refreshes, endpoint.reuses]).toEqual([1, 0])
  })

  it('50 requests past an expiry on Koa', async () => {
    const endpoint = await startEndpoint()
    const app = new Koa()
    app.keys = ['test']
    app.use(koaSession(app))
    app.use(onKoa.sessionTokens({ ...optionsFor(endpoint), encryptionKeys: [randomBytes(32)] }))
    app.use(loggedIn(() => endpoint.tokens()) as Koa.Middleware)
    app.use(async (ctx) => {
      ctx.body = { valid: endpoint.isValid((await ctx.tokens.getAccessToken()).token) }
    })
    const agent = request.agent(app.listen(0))
    await agent.get('/').expect(200)
    endpoint.expire()
    const responses = await Promise.all(Array.from({ length: 50 }, () => agent.get('/')))
    for (const { body } of responses) expect(body).toEqual({ valid: true })
    expect([endpoint.refreshes, endpoint.reuses]).toEqual([1, 0])
  })

  it('fails on request, by an OAuth error and by a status', async () => {
    const endpoint = await startEndpoint()
    const agent = request.agent(expressApp(endpoint, () => endpoint.tokens()).listen(0))
    await agent.get('/orders').expect(200)
    endpoint.expire()
    endpoint.fail(503)
    const unavailable = await agent.get('/orders').expect(503)
    expect(unavailable.body).toMatchObject({ code: 'ERR_TOKEN_ENDPOINT_UNAVAILABLE' })
  })

  it('ends the grant of a refresh token that is presented again', async () => {
    const endpoint = await startEndpoint()
    const { refresh_token } = endpoint.tokens()
    const refresh = (refresh_token: string) =>
      fetch(`${endpoint.issuer}/token`, {
        method: 'POST',
        body: new URLSearchParams({ grant_type: 'refresh_token', refresh_token }),
      })
    const next = (await (await refresh(refresh_token)).json()) as {
      access_token: string
      refresh_token: string
    }
    expect((await refresh(refresh_token)).status).toBe(400)
    expect((await refresh(next.refresh_token)).status).toBe(400)
    expect(endpoint.isValid(next.access_token)).toBe(false)
    expect([endpoint.refreshes, endpoint.reuses]).toEqual([1, 1])
  })

  it('a user whose grant has ended gets 401, and a logout revokes', async () => {
    const endpoint = await startEndpoint()
    const issued = endpoint.tokens()
    const agent = request.agent(expressApp(endpoint, issued).listen(0))
    await agent.get('/orders').expect(200)
    expect((await agent.post('/logout')).body).toEqual({ loggedIn: false })
    expect(endpoint.isValid(issued.access_token)).toBe(false)
  })

  it('loggedIn() without tokens brings an access token for an hour', async () => {
    const endpoint = await startEndpoint()
    const { body } = await request(expressApp(endpoint)).get('/orders').expect(200)
    expect(body).toMatchObject({ token: 'test-access-token' })
  })

  it('loggedIn() says where to mount it', async () => {
    const app = express()
    app.use(loggedIn())
    app.use(
      tokenErrors({
        onError: (error) =>
          closing.push(async () => expect(error.message).toContain('Mount sessionTokens()')),
      }),
    )
    await request(app).get('/').expect(500)
  })
})

describe('fakeTokens(options)', () => {
  const guarded = (tokens: unknown) => {
    const app = express()
    app.use((req, _res, next) => {
      req.tokens = tokens as SessionTokens
      next()
    })
    app.get('/orders', requireTokens({ scope: 'orders.read' }), async (req, res) => {
      res.json(await req.tokens.getAccessToken())
    })
    app.use(tokenErrors({ onError: (error) => messages.push(error.message) }))
    return request(app).get('/orders')
  }
  const messages: string[] = []

  it('is accepted by a guard', async () => {
    const { body } = await guarded(fakeTokens()).expect(200)
    expect(body).toEqual({ token: 'fake-access-token', tokenType: 'Bearer', expiresAt: expect.any(Number) })
  })

  it.each<[FakeTokensOptions, number, string]>([
    [{ loggedIn: false }, 401, 'ERR_NO_TOKENS'],
    [{ scope: 'bills.read' }, 403, 'ERR_INSUFFICIENT_SCOPE'],
    [{ error: 'ERR_GRANT_STORE' }, 503, 'ERR_GRANT_STORE'],
    [{ error: new StepUpError({ acrValues: 'mfa' }) }, 401, 'ERR_STEP_UP_REQUIRED'],
  ])('%j: %i', async (options, status, code) => {
    expect((await guarded(fakeTokens(options)).expect(status)).body).toMatchObject({ code })
  })

  it('logs in and out', async () => {
    const tokens = fakeTokens({ idTokenClaims: { sub: 'ann' } })
    expect([tokens.hasTokens(), tokens.idTokenClaims?.sub]).toEqual([true, 'ann'])
    await tokens.revoke()
    expect([tokens.hasTokens(), tokens.grantId, tokens.idTokenClaims]).toEqual([false, undefined, undefined])
    await tokens.set({})
    expect(tokens.hasTokens()).toBe(true)
  })

  it('its calls carry the token', async () => {
    const api = express().get('/', (req, res) => void res.json(req.headers.authorization))
    const server = api.listen(0, '127.0.0.1')
    closing.push(async () => void server.close())
    await new Promise((resolve) => server.once('listening', resolve))
    const baseURL = `http://127.0.0.1:${(server.address() as { port: number }).port}`
    const tokens = fakeTokens({ token: 'mine' })
    expect(await (await tokens.fetch({ baseURL })('/')).json()).toBe('Bearer mine')
    expect((await tokens.axios({ baseURL }).get('/')).data).toBe('Bearer mine')
  })

  it('a stub of an app is called foreign, and a missing one missing', async () => {
    await guarded({ getAccessToken: async () => ({ token: 'x' }) }).expect(500)
    await guarded(undefined).expect(500)
    expect(messages.slice(-2)).toEqual([
      expect.stringMatching(/^req\.tokens is foreign: .* use fakeTokens\(\)/),
      expect.stringMatching(/^req\.tokens is missing\. Mount sessionTokens\(\)/),
    ])
  })

  it('checks its options', () => {
    expect(() => fakeTokens({ accessToken: 'x' } as object)).toThrow('Did you mean `token`?')
  })
})
