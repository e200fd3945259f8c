import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from '@jest/globals'
import { ConfigurationError, requireTokens, type SessionTokens } from '../../lib/index.js'
import { type AuthorizationServer, startAuthorizationServer } from '../helpers/authorization-server.js'
import type { Browser } from '../helpers/browser.js'
import { type Site, startSite } from '../helpers/site.js'

const HOUR_MS = 3_600_000

let server: AuthorizationServer
let site: Site
let browser: Browser

beforeAll(async () => {
  server = await startAuthorizationServer()
})
beforeEach(async () => {
  site = await startSite(server)
  browser = site.browser()
  await site.login(browser)
})
afterEach(() => site.close())
afterAll(() => server.close())

/** What a call in a handler of the site fails with. */
async function failure(call: (tokens: SessionTokens) => unknown): Promise<unknown> {
  let error: unknown
  site.handle('/call', async ({ tokens }) => {
    error = await new Promise((resolve) => resolve(call(tokens))).then(
      () => undefined,
      (error: unknown) => error,
    )
  })
  expect((await browser.get('/call')).status).toBe(200)
  return error
}

async function refused(call: (tokens: SessionTokens) => unknown): Promise<string> {
  const requests = server.tokenRequests.length
  const error = await failure(call)
  expect(error).toBeInstanceOf(ConfigurationError)
  expect(server.tokenRequests).toHaveLength(requests)
  return (error as ConfigurationError).message
}

const lastScope = () => server.tokenRequests.at(-1)?.parameters.get('scope')

describe('tokens.getAccessToken(need)', () => {
  it.each<[string, unknown]>([
    ['null', null],
    ['text', 'orders.read'],
    ['a number', 5],
    ['a function', () => ({})],
  ])('rejects %s instead of a need', async (_, need) => {
    const message = await refused((tokens) => tokens.getAccessToken(need as object))
    expect(message).toBe("The need of a token must be an object, e.g. { scope: 'orders.read' }.")
  })

  it.each<[string, object, string]>([
    ['scopes', { scopes: 'a' }, 'The need of a token has no option `scopes`. Did you mean `scope`?'],
    [
      'constructor',
      { constructor: 1 },
      'Known are scope, resource, audience, exchange, minValidityMs, rejected.',
    ],
  ])('rejects the unknown option %s and names the cure', async (_, need, cure) => {
    expect(await refused((tokens) => tokens.getAccessToken(need))).toContain(cure)
  })

  it.each([
    ['a space around', '  orders.read ', 'orders.read'],
    ['doubled spaces', 'orders.read  orders.write', 'orders.read orders.write'],
    ['line breaks', 'orders.read\n\torders.write', 'orders.read orders.write'],
    ['a scope twice', 'orders.read orders.write orders.read', 'orders.read orders.write'],
  ])('requests a scope with %s in the form that the server expects', async (_, scope, sent) => {
    site.handle('/scope', ({ tokens }) => tokens.getAccessToken({ scope }))
    // What the login's token covers is refreshed without a scope.
    const login = await server.login('user', { scope: 'openid offline_access orders.read orders.write' })
    await browser.post('/login', { ...login, scope: undefined })
    site.clock.advance(HOUR_MS)
    expect((await browser.get('/scope')).status).toBe(200)
    expect(lastScope()).toBe(sent)
  })

  it.each(['', ' ', '   '])('treats the scope %j as no scope', async (scope) => {
    site.handle('/scope', ({ tokens }) => tokens.getAccessToken({ scope }))
    const { token } = (await browser.get('/token')).json
    expect((await browser.get('/scope')).json.token).toBe(token)
    site.clock.advance(HOUR_MS)
    expect((await browser.get('/scope')).status).toBe(200)
    expect(server.tokenRequests.at(-1)?.parameters.has('scope')).toBe(false)
  })

  it('without a scope but spaces has that of the route, as the server wants it', async () => {
    site.app.get(
      '/route',
      requireTokens({ scope: ' orders.read  orders.read ' }),
      (request, response, next) => {
        request.tokens.getAccessToken({ scope: ' ' }).then((token) => response.json(token), next)
      },
    )
    await browser.post('/login', { ...(await server.login('user')), scope: undefined })
    site.clock.advance(HOUR_MS)
    expect((await browser.get('/route')).json.scope).toBe('orders.read')
    expect(lastScope()).toBe('orders.read')
  })
})

describe('tokens.acquire(parameters)', () => {
  it.each<[string, unknown]>([
    ['undefined', undefined],
    ['null', null],
    ['text', 'code'],
  ])('rejects %s instead of parameters', async (_, parameters) => {
    expect(await refused((tokens) => tokens.acquire(parameters as never))).toBe(
      "acquire() takes the parameters of a token request: acquire({ grant_type: 'authorization_code', code }).",
    )
  })

  it.each(['constructor', '__proto__', 'authorisation_code', '', undefined, null, 5, Symbol('x'), {}])(
    'rejects the grant_type %p',
    async (grant_type) => {
      expect(await refused((tokens) => tokens.acquire({ grant_type } as never))).toMatch(
        /^`grant_type` must be one of authorization_code, password, urn:.*, or the URI of another grant/,
      )
    },
  )

  it('sends a grant type of the server', async () => {
    const grant_type = 'urn:example:params:oauth:grant-type:card'
    const error = await failure((tokens) => tokens.acquire({ grant_type, card: '1' }))
    expect(error).toMatchObject({ error: 'unsupported_grant_type' })
    expect(server.tokenRequests.at(-1)?.parameters.get('grant_type')).toBe(grant_type)
  })
})

describe('tokens.set(tokenResponse)', () => {
  it.each<[string, unknown]>([
    ['symbols', [Symbol('a')]],
    ['objects without a prototype', [Object.create(null)]],
  ])('rejects scopes that are %s', async (_, scope) => {
    const error = await failure((tokens) => tokens.set({ access_token: 'at', scope }))
    expect(error).toMatchObject({ code: 'ERR_INVALID_TOKEN_RESPONSE' })
    expect((await browser.get('/token')).status).toBe(200)
  })
})
