import { afterEach, beforeEach, describe, expect, it } from '@jest/globals'
import type { Request, RequestHandler } from 'express'
import { requireTokens, StepUpError } from '../../lib/index.js'
import type { AuthorizationServerOptions } from '../helpers/authorization-server.js'
import { type HttpServer, send, serve } from '../helpers/http-server.js'
import { type LoginSite, NAVIGATION, SCOPE, startLoginSite } from '../helpers/login-site.js'

// The helper has imported it without its warning.
const { interactionPolicy } = await import('oidc-provider')

/** A provider that asks the user again for a context class that the session does not have. */
const provider: AuthorizationServerOptions = {
  accessTokenFormat: 'jwt',
  configure(configuration) {
    const policy = interactionPolicy.base()
    const stronger = new interactionPolicy.Check('acr', 'a stronger login is required', ({ oidc }) => {
      const wanted = String(oidc.params?.acr_values ?? '')
      return wanted !== '' && !wanted.split(' ').includes(oidc.session?.acr ?? '')
    })
    policy.get('login')!.checks.add(stronger)
    return {
      ...configuration,
      acrValues: ['pwd', 'mfa'],
      interactions: { ...configuration.interactions, policy },
      extraTokenClaims: ({ oidc }) => ({
        acr: (oidc.entities.AuthorizationCode ?? oidc.entities.RefreshToken)?.acr,
      }),
    }
  },
}

let site: LoginSite
let api: HttpServer
/** How the API answers a token whose `acr` is not `mfa`. */
let challenge: string

beforeEach(async () => {
  challenge = 'Bearer error="insufficient_user_authentication", acr_values="mfa"'
  api = await serve(() => (request, response) => {
    const [, payload = ''] = String(request.headers.authorization).split('.')
    const { acr } = JSON.parse(Buffer.from(payload, 'base64url').toString() || '{}')
    if (acr === 'mfa') send(response, { status: 200, body: { secret: 42 } })
    else send(response, { status: 401, headers: { 'www-authenticate': challenge } })
  })
  site = await startLoginSite({
    provider,
    session: { rolling: true },
    login: {
      authorization: (({ query }: Request) => ({
        scope: SCOPE,
        prompt: 'consent',
        ...(String(query.returnTo).startsWith('/admin') && { acr_values: 'mfa' }),
      })) as never,
    },
    routes(app) {
      app.all('/secret', (request, response, next) => {
        request.session.visits = (request.session.visits ?? 0) + 1
        request.tokens
          .axios({ baseURL: api.url })
          .get('/secret')
          .then(({ data }) => response.json({ ...data, visits: request.session.visits }), next)
      })
      const withMfa: RequestHandler = ({ tokens }, _response, next) => {
        next(tokens.idTokenClaims?.acr === 'mfa' ? undefined : new StepUpError({ acrValues: 'mfa' }))
      }
      app.get('/admin', requireTokens({ loginPath: '/login' }), withMfa, (request, response, next) => {
        request.tokens
          .getAccessToken()
          .then(async ({ token }) => {
            if (request.query.again) await request.tokens.getAccessToken({ rejected: token })
          })
          .then(() => response.json(request.tokens.idTokenClaims?.acr), next)
      })
      app.get('/impossible', () => {
        throw new StepUpError({ acrValues: 'mfa' })
      })
    },
  })
})
afterEach(async () => {
  await site.close()
  await api.down()
})

describe('stepUp()', () => {
  it("S112 an API's challenge leads through the login and back to the page, with the session's data and another id", async () => {
    const visitor = await site.loggedIn()
    const before = visitor.cookie('connect.sid')
    const page = await site.open(visitor, '/secret?a=1')
    expect([page.url, page.json]).toEqual([`${site.url}/secret?a=1`, { secret: 42, visits: 2 }])
    expect(visitor.cookie('connect.sid')).not.toBe(before)
  })

  it('S112 a script gets 401 and the path of a login that asks for it', async () => {
    const visitor = await site.loggedIn()
    const refused = await visitor.get('/secret')
    expect([refused.status, refused.headers.get('content-type')]).toEqual([401, 'application/problem+json'])
    expect(refused.json).toMatchObject({
      code: 'ERR_STEP_UP_REQUIRED',
      error: 'insufficient_user_authentication',
      login: expect.stringMatching(/^\/login\?stepUp=up-[\w-]{16}$/),
    })
    const page = await site.open(visitor, `${refused.json.login}&returnTo=/secret`)
    expect(page.json).toMatchObject({ secret: 42 })
  })

  it('S112 of a form leads back to the page with the form', async () => {
    const visitor = await site.loggedIn()
    const headers = { ...NAVIGATION.headers, referer: `${site.url}/orders?page=3` }
    const sent = await visitor.post('/secret', undefined, { headers })
    const callback = await site.begin(visitor, sent.headers.get('location')!)
    expect((await site.step(visitor, callback)).headers.get('location')).toBe('/orders?page=3')
  })

  it('S112 a login that is weaker than what was asked for is refused, and the user stays logged in', async () => {
    const weak = await startLoginSite({
      routes(app) {
        app.get('/secret', () => {
          throw new StepUpError({ acrValues: 'mfa' })
        })
      },
    })
    try {
      const visitor = await weak.loggedIn()
      const page = await weak.open(visitor, '/secret')
      expect([page.status, page.text]).toEqual([403, expect.stringContaining('A stronger login is needed')])
      expect(weak.failures).toMatchObject([{ reason: 'unmet', returnTo: '/secret' }])
      expect((await visitor.get('/orders')).json).toMatchObject({ user: 'alice' })
    } finally {
      await weak.close()
    }
  })

  it('S112 a guard asks a user for the stronger login who came to the page by another one, and no other user', async () => {
    const throughThePage = site.browser()
    const callback = await site.begin(throughThePage, '/login?returnTo=/admin')
    await site.step(throughThePage, callback)
    const direct = await site.step(throughThePage, '/admin')
    expect([direct.status, direct.json]).toEqual([200, 'mfa'])

    const another = await site.loggedIn('/login?returnTo=/orders')
    expect((await site.step(another, '/admin')).headers.get('location')).toMatch(/^http.*request_uri/)
    expect((await site.open(another, '/admin?again=1')).json).toBe('mfa')
    // The ID token is that of a refresh.
    expect((await site.step(another, '/admin')).status).toBe(200)
  })

  it('S112 claims that fit into no cookie lead a script to no login, which could not ask for them', async () => {
    const claims = JSON.stringify({ id_token: { acr: { essential: true, value: 'x'.repeat(2_500) } } })
    challenge = `Bearer error="insufficient_user_authentication", claims="${Buffer.from(claims).toString('base64url')}"`
    const visitor = await site.loggedIn()
    const refused = await visitor.get('/secret')
    expect([refused.status, refused.json.code]).toEqual([401, 'ERR_STEP_UP_REQUIRED'])
    expect(refused.headers.getSetCookie().filter((cookie) => cookie.includes('login-'))).toEqual([])
    site.errors.length = 0
  })

  it('S112 an API that repeats its requirement right after the login gets no second login', async () => {
    const visitor = await site.loggedIn()
    const page = await site.open(visitor, '/impossible')
    expect([page.url, page.status]).toEqual([`${site.url}/impossible`, 401])
    expect(site.errors).toMatchObject([{ code: 'ERR_STEP_UP_REQUIRED' }])
  })

  it('S112 a name that was not noted for this browser changes nothing of the request', async () => {
    const first = await site.loggedIn()
    const { json } = await first.get('/secret')
    const plain = await startLoginSite({ login: { pushedRequests: false } })
    try {
      const page = await plain.step(plain.browser(), json.login)
      const sent = new URL(page.headers.get('location')!).searchParams
      expect([sent.get('acr_values'), sent.get('scope')]).toEqual([null, SCOPE])
    } finally {
      await plain.close()
    }
  })
})

declare module 'express-session' {
  interface SessionData {
    visits?: number
  }
}
