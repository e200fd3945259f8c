import { createHash, randomBytes } from 'node:crypto'
import { afterAll, afterEach, beforeAll, expect, it } from '@jest/globals'
import express, { type Request } from 'express'
import session from 'express-session'
import { clientSecretBasic } from '../../lib/index.js'
import { type LoginError, login } from '../../lib/login.js'
import { composeMiddleware } from '../../lib/middleware/composition.js'
import { middlewareOf, type SessionTokensMiddleware } from '../../lib/middleware/express.js'
import { type BetterAuth, startBetterAuth } from '../helpers/better-auth.js'
import { type Browser, browser } from '../helpers/browser.js'
import { testClock } from '../helpers/clock.js'
import { createGate } from '../helpers/gate.js'
import { type HttpServer, serve } from '../helpers/http-server.js'
import { NAVIGATION, withMode } from '../helpers/login-site.js'
import { ownProcess } from '../helpers/site.js'

const HOUR_MS = 3_600_000
const clock = testClock()
const failures: LoginError[] = []
let provider: BetterAuth
let tokens: SessionTokensMiddleware
let site: HttpServer
/** Called when a request has asked for the access token. */
let onTokenRequest = () => {}

beforeAll(async () => {
  site = await serve(async (url) => {
    provider = await startBetterAuth(url)
    return withMode(appAt(url))
  })
})
afterAll(async () => {
  await site.down()
  await tokens.close()
  await provider.close()
})
afterEach(() => {
  failures.length = 0
  onTokenRequest = () => {}
})

function appAt(baseUrl: string): express.Express {
  const client = {
    issuer: provider.issuer,
    clientId: provider.client.clientId,
    clientAuthentication: clientSecretBasic(provider.client.clientSecret),
    encryptionKeys: [randomBytes(32).toString('base64')],
  }
  tokens = middlewareOf(composeMiddleware({ ...client, refreshAheadMs: 0 }, ownProcess(clock)))
  const app = express()
  app.use(session({ secret: 'test', resave: false, saveUninitialized: false }))
  app.use(tokens)
  app.use(
    login({
      ...client,
      baseUrl,
      authorization: ({ query }: Request) => ({
        scope: 'openid offline_access email',
        ...(typeof query.prompt === 'string' && { prompt: query.prompt }),
        ...(typeof query.scope === 'string' && { scope: query.scope }),
      }),
      onFailure: (error) => void failures.push(error),
    }),
  )
  app.get('/token', async (request, response) => {
    const token = request.tokens.getAccessToken()
    onTokenRequest()
    response.json(await token)
  })
  app.get('/me', async (request, response) => {
    const api = request.tokens.axios({ baseURL: provider.issuer })
    response.json((await api.get('/oauth2/userinfo')).data)
  })
  app.use(((error, _request, response, _next) => {
    response.status(error.status ?? 500).json({ code: error.code })
  }) as express.ErrorRequestHandler)
  return app
}

/** Begins a login. Returns where the provider sends the browser: to a page of its own, or to the callback. */
async function begin(visitor: Browser, query = '', change: Record<string, string> = {}): Promise<URL> {
  const url = redirectOf(await visitor.get(`/login?returnTo=/me${query}`, NAVIGATION))
  for (const [name, value] of Object.entries(change)) url.searchParams.set(name, value)
  return redirectOf(await visitor.get(url.href, NAVIGATION))
}

function redirectOf({ headers, url }: { headers: Headers; url: string }): URL {
  return new URL(headers.get('location')!, url)
}

/** Sends what a page of the provider would send. Returns where the provider leads. */
async function submit(visitor: Browser, page: URL, path: string, form: object): Promise<URL> {
  const body = { ...form, oauth_query: page.search.slice(1) }
  const sent = await visitor.post(provider.issuer + path, body, { headers: { origin: page.origin } })
  return new URL(sent.json.url, page)
}

/** Signs in at the provider's page, and consents if the provider asks. Returns the URL of the callback. */
async function signIn(visitor: Browser, page: URL, accept = true): Promise<URL> {
  const { email, password } = provider.user
  const next = await submit(visitor, page, '/sign-in/email', { email, password })
  return next.pathname === '/consent' ? submit(visitor, next, '/oauth2/consent', { accept }) : next
}

async function loggedIn(): Promise<Browser> {
  const visitor = browser(site.url)
  const callback = await signIn(visitor, await begin(visitor))
  const page = await visitor.get(callback.href, NAVIGATION)
  expect([page.status, page.headers.get('location')]).toEqual([303, '/me'])
  return visitor
}

async function tokenOf(visitor: Browser): Promise<string> {
  return (await visitor.get('/token')).json.token
}

/** The tokens of requests that have all asked for one before the provider responds. */
async function inParallel(count: number, visitor: Browser): Promise<string[]> {
  const [asked, held] = [createGate(), provider.hold()]
  onTokenRequest = () => void asked.pass()
  const tokens = Promise.all(Array.from({ length: count }, () => tokenOf(visitor)))
  await Promise.all([asked.reachedBy(count), held.reached])
  held.release()
  return tokens
}

function lastRefreshToken(): string {
  return String(provider.tokenRequests.at(-1)!.response.refresh_token)
}

it('logs in with state, nonce and PKCE, and the provider takes the access token', async () => {
  const visitor = browser(site.url)
  const page = await begin(visitor)
  const sent = Object.fromEntries(page.searchParams)
  expect(page.href).toMatch(/\/sign-in\?/)
  expect(sent).toMatchObject({
    state: expect.stringMatching(/^[\w-]{43}$/),
    nonce: expect.stringMatching(/^[\w-]{43}$/),
    code_challenge_method: 'S256',
  })
  const callback = await signIn(visitor, page)
  expect(Object.fromEntries(callback.searchParams)).toEqual({
    code: expect.any(String),
    state: sent.state,
    iss: provider.issuer,
  })
  expect((await visitor.get(callback.href, NAVIGATION)).headers.get('location')).toBe('/me')
  const { parameters } = provider.tokenRequests.at(-1)!
  const challenge = createHash('sha256').update(parameters.code_verifier!).digest('base64url')
  expect(challenge).toBe(sent.code_challenge)
  expect((await visitor.get('/me')).json).toMatchObject({ sub: provider.user.id, email: provider.user.email })
  expect((await visitor.get('/session')).json).toMatchObject({ user: { sub: provider.user.id } })
})

it('refreshes an expired access token once for parallel requests, and presents the rotated token next', async () => {
  const visitor = await loggedIn()
  const presented = [lastRefreshToken()]
  const served = [await tokenOf(visitor)]
  const before = provider.tokenRequests.length
  for (let round = 0; round < 2; round++) {
    clock.advance(HOUR_MS)
    served.push(...new Set(await inParallel(8, visitor)))
    presented.push(lastRefreshToken())
  }
  expect(provider.tokenRequests.slice(before).map(({ parameters }) => parameters)).toEqual([
    { grant_type: 'refresh_token', refresh_token: presented[0] },
    { grant_type: 'refresh_token', refresh_token: presented[1] },
  ])
  expect([served.length, new Set(served).size]).toEqual([3, 3])
  expect((await visitor.get('/me')).json.sub).toBe(provider.user.id)
})

it('ends every session of the user after a refresh token was used twice elsewhere', async () => {
  const visitors = [await loggedIn(), await loggedIn()]
  const stolen = lastRefreshToken()
  expect((await provider.refresh(stolen)).status).toBe(200)
  expect((await provider.refresh(stolen)).status).toBe(400)
  clock.advance(HOUR_MS)
  for (const visitor of visitors) {
    const ended = await visitor.get('/token')
    expect([ended.status, ended.json]).toEqual([401, { code: 'ERR_REAUTHENTICATION_REQUIRED' }])
    expect((await visitor.get('/session')).status).toBe(401)
  }
})

it.each([
  ['state', 'unknown', 400, undefined],
  ['nonce', 'invalid', 400, 200],
  // RFC 7636 §4.6 has `invalid_grant` with 400. This provider sends `invalid_request` with 401.
  ['code_challenge', 'rejected', 502, 401],
])('does not log in when the provider got another %s', async (name, reason, status, tokenStatus) => {
  const visitor = browser(site.url)
  const page = await begin(visitor, '', { [name]: randomBytes(32).toString('base64url') })
  const callback = await signIn(visitor, page)
  const before = provider.tokenRequests.length
  const shown = await visitor.get(callback.href, NAVIGATION)
  expect([shown.status, shown.headers.get('location'), failures]).toMatchObject([status, null, [{ reason }]])
  expect(provider.tokenRequests[before]?.status).toBe(tokenStatus)
  expect((await visitor.get('/session')).status).toBe(401)
})

it.each(['https://other.example', null])('sends no code when the callback has the issuer %s', async (iss) => {
  const visitor = browser(site.url)
  const callback = await signIn(visitor, await begin(visitor))
  callback.searchParams.delete('iss')
  if (iss) callback.searchParams.set('iss', iss)
  const before = provider.tokenRequests.length
  const shown = await visitor.get(callback.href, NAVIGATION)
  expect([shown.status, failures]).toMatchObject([400, [{ reason: 'invalid' }]])
  expect(provider.tokenRequests).toHaveLength(before)
})

it.each([
  ['login_required', '&prompt=none', 401, 'login_required'],
  ['invalid_scope', '&scope=openid%20unknown', 502, 'rejected'],
])('shows a page for the error response %s', async (error, query, status, reason) => {
  const visitor = browser(site.url)
  const callback = await begin(visitor, query)
  const shown = await visitor.get(callback.href, NAVIGATION)
  expect([shown.status, failures]).toMatchObject([status, [{ error, reason, returnTo: '/me' }]])
})

it('shows a page when the user does not consent', async () => {
  const visitor = browser(site.url)
  const callback = await signIn(visitor, await begin(visitor, '&prompt=consent'), false)
  const shown = await visitor.get(callback.href, NAVIGATION)
  expect(shown.text).toContain('<h1>The login was cancelled</h1>')
  expect([shown.status, failures]).toMatchObject([403, [{ error: 'access_denied', reason: 'denied' }]])
})

it('logs out here and at the provider, and revokes the refresh token', async () => {
  const visitor = await loggedIn()
  const refreshToken = lastRefreshToken()
  const toProvider = redirectOf(await visitor.post('/logout', undefined, NAVIGATION))
  expect((await visitor.get('/session')).status).toBe(401)
  const { response, status } = await provider.refresh(refreshToken)
  expect([status, response.error]).toEqual([400, 'invalid_grant'])
  const back = redirectOf(await visitor.get(toProvider.href, NAVIGATION))
  const state = toProvider.searchParams.get('state')
  expect(back.href).toBe(`${site.url}/?state=${state}`)
  expect((await begin(visitor)).pathname).toBe('/sign-in')
})

it('gives a script the URL of the logout, where the provider asks the user to confirm', async () => {
  const visitor = await loggedIn()
  const { logoutUrl } = (await visitor.post('/logout')).json
  const asked = await visitor.get(logoutUrl, NAVIGATION)
  expect([asked.status, asked.text]).toEqual([200, expect.stringContaining('Confirm logout')])
})
