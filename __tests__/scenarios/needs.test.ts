import { inspect } from 'node:util'
import { afterEach, describe, expect, it } from '@jest/globals'
import { StepUpError, type TokenEvent } from '../../lib/index.js'
import { clients } from '../helpers/authorization-server.js'
import type { Browser } from '../helpers/browser.js'
import { stillClock } from '../helpers/clock.js'
import { type FaultServer, startTokenEndpoint } from '../helpers/fault-server.js'
import type { Fault } from '../helpers/faults.js'
import { type Site, type SiteOptions, startSite } from '../helpers/site.js'

const MINUTE_MS = 60_000
const HOUR_MS = 60 * MINUTE_MS
const LOGIN = {
  access_token: 'at0',
  token_type: 'Bearer',
  expires_in: 3600,
  refresh_token: 'rt0',
  scope: 'a b c',
}

const closers: (() => Promise<unknown>)[] = []
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close()
})

interface Visit {
  readonly site: Site
  readonly browser: Browser
  /** The scopes and resources that were asked for, in order; `plain` for none. */
  asked(): string[]
  /** The refresh tokens that were presented. */
  presented(): (string | null)[]
}

/** A user who has logged in, and a token endpoint that `respond` speaks for. It says "yes" where that says nothing. */
async function visit(
  respond: (named: string, index: number) => Fault | undefined,
  { login, ...options }: SiteOptions & { login?: object } = {},
): Promise<Visit> {
  const requests = () => endpoint.requests.filter(({ path }) => path === '/token')
  const endpoint: FaultServer = await startTokenEndpoint(({ path, parameters }) => {
    if (path !== '/token') return { status: 200 }
    const index = requests().length
    const success = {
      access_token: `at${index}`,
      token_type: 'Bearer',
      expires_in: 3600,
      refresh_token: `rt${index}`,
      scope: parameters.get('scope') ?? 'a b c',
    }
    return respond(namedIn(parameters), index) ?? { status: 200, body: success }
  })
  closers.push(endpoint.close)
  const site = await startSite(
    { ...endpoint, clients, login: () => Promise.reject(new Error('Post to /login.')) },
    { clock: stillClock(), ...options },
  )
  closers.push(site.close)
  const browser = site.browser()
  expect((await browser.post('/login', { ...LOGIN, ...login })).status).toBe(200)
  return {
    site,
    browser,
    asked: () => requests().map(({ parameters }) => namedIn(parameters)),
    presented: () => requests().map(({ parameters }) => parameters.get('refresh_token')),
  }
}

function namedIn(parameters: URLSearchParams): string {
  return parameters.get('scope') ?? parameters.get('resource') ?? parameters.get('audience') ?? 'plain'
}

const refusal = (body: object): Fault => ({ status: 400, body })
const typesOf = (events: readonly TokenEvent[]) => events.map(({ type }) => type)

describe('S55 the authorization server rejects a need', () => {
  const claims = '{"access_token":{"acrs":{"essential":true,"value":"c1"}}}'

  it.each<[string, object]>([
    ['interaction_required', { error: 'interaction_required', claims }],
    ['login_required', { error: 'login_required' }],
    ['consent_required', { error: 'consent_required' }],
    ['mfa_required', { error: 'mfa_required' }],
  ])('S55 %s: a StepUpError, once; the base token and other needs go on', async (error, body) => {
    const { site, browser, asked } = await visit((named) => (named === 'mfa' ? refusal(body) : undefined))
    for (let call = 0; call < 5; call++) expect((await browser.get('/token?scope=mfa')).status).toBe(401)
    expect(asked()).toEqual(['mfa'])
    for (const failure of site.errors) {
      expect(failure).toBeInstanceOf(StepUpError)
      expect(failure).toMatchObject({
        code: 'ERR_STEP_UP_REQUIRED',
        error,
        ...('claims' in body && { claims }),
      })
    }
    expect(site.events).toMatchObject([{ type: 'need_refused', error: { error } }])

    expect((await browser.get('/token')).json.token).toBe('at0')
    expect((await browser.get('/token?scope=d')).json.token).toBe('at2')
    site.clock.advance(HOUR_MS)
    expect((await browser.get('/token')).json.token).toBe('at3')
  })

  it.each([
    ['scope', 'invalid_scope'],
    ['resource', 'invalid_target'],
    ['audience', 'invalid_target'],
    ['resource', 'invalid_resource'],
  ])(
    'S55 of a %s with %s: 403, requested again after a minute, then after two, up to 15',
    async (name, error) => {
      const { site, browser, asked } = await visit(() => refusal({ error }))
      const call = () => browser.get(`/token?${name}=urn:api`)
      expect([(await call()).status, (await call()).status]).toEqual([403, 403])
      expect(site.errors).toMatchObject([
        { code: 'ERR_INSUFFICIENT_SCOPE', error },
        { code: 'ERR_INSUFFICIENT_SCOPE', error },
      ])
      let calls = 1
      for (const minutes of [1, 2, 4, 8, 15, 15]) {
        site.clock.advance(minutes * MINUTE_MS * 0.74)
        expect((await call()).status).toBe(403)
        expect(asked()).toHaveLength(calls)
        site.clock.advance(minutes * MINUTE_MS * 0.26)
        expect((await call()).status).toBe(403)
        calls += 1
        expect(asked()).toHaveLength(calls)
      }
      expect(new Set(typesOf(site.events))).toEqual(new Set(['need_refused']))
    },
  )

  describe('with invalid_grant', () => {
    it('S55 and the plain refresh under the same lease succeeds: only the need fails', async () => {
      const { site, browser, asked, presented } = await visit((named) =>
        named === 'plain' ? undefined : refusal({ error: 'invalid_grant' }),
      )
      for (let call = 0; call < 5; call++) expect((await browser.get('/token?scope=d')).status).toBe(401)
      expect(site.errors[0]).toBeInstanceOf(StepUpError)
      expect(site.errors[0]).toMatchObject({ error: 'invalid_grant', scope: 'd' })
      expect(asked()).toEqual(['d', 'plain'])
      expect(presented()).toEqual(['rt0', 'rt0'])
      expect(typesOf(site.events)).toEqual(['refreshed', 'need_refused'])
      expect((await browser.get('/token')).json.token).toBe('at2')
      expect((await site.storedTokens(browser))?.refreshToken).toBe('rt2')
    })

    it('S55 and the plain refresh is rejected too: the grant has ended', async () => {
      const { site, browser, asked } = await visit(() => refusal({ error: 'invalid_grant' }))
      expect((await browser.get('/token?scope=d')).status).toBe(401)
      expect(site.errors).toMatchObject([{ code: 'ERR_REAUTHENTICATION_REQUIRED' }])
      expect((await browser.get('/token')).status).toBe(401)
      expect(asked()).toEqual(['d', 'plain'])
      expect((await site.storedTokens(browser))?.refreshToken).toBeUndefined()
    })

    it('S55 and the plain refresh fails otherwise: nothing is decided, nothing is lost', async () => {
      const { site, browser, asked } = await visit((named, index) =>
        index > 2 ? undefined : named === 'plain' ? { status: 503 } : refusal({ error: 'invalid_grant' }),
      )
      expect((await browser.get('/token?scope=d')).status).toBe(503)
      expect(asked()).toEqual(['d', 'plain'])
      expect((await browser.get('/token')).json.token).toBe('at0')
      site.clock.advance(1_000)
      expect((await browser.get('/token?scope=d')).json.token).toBe('at3')
    })
  })

  it('S55 a valid token for the need is still served', async () => {
    const { site, browser } = await visit((named, index) =>
      named === 'd' && index > 1 ? refusal({ error: 'interaction_required' }) : undefined,
    )
    expect((await browser.get('/token?scope=d')).json.token).toBe('at1')
    site.clock.advance(HOUR_MS - 30_000)
    expect((await browser.get('/token?scope=d')).json.token).toBe('at1')
    site.clock.advance(30_000)
    expect((await browser.get('/token?scope=d')).status).toBe(401)
  })

  it('S55 a plain refresh that requires the user sends the user to the login, and the session stays', async () => {
    const { site, browser, asked } = await visit((_, index) =>
      index < 2 ? refusal({ error: 'interaction_required', claims }) : undefined,
    )
    site.clock.advance(HOUR_MS)
    for (let call = 0; call < 3; call++) expect((await browser.get('/token')).status).toBe(401)
    expect(site.errors[0]).toMatchObject({
      code: 'ERR_REAUTHENTICATION_REQUIRED',
      error: 'interaction_required',
      cause: { claims },
    })
    expect(asked()).toEqual(['plain'])
    site.clock.advance(MINUTE_MS)
    expect((await browser.get('/token')).json.token).toBe('at2')
  })

  it('S55 invalid_scope of a plain refresh is for the operator: a failed refresh', async () => {
    const { site, browser } = await visit(() => refusal({ error: 'invalid_scope' }))
    site.clock.advance(HOUR_MS)
    expect((await browser.get('/token')).status).toBe(502)
    expect(typesOf(site.events)).toEqual(['refresh_failed'])
    expect((await site.storedTokens(browser))?.refreshToken).toBe('rt0')
  })
})

describe('S56 a need that the scope of the login covers', () => {
  it('S56 refreshes plainly: guards for a, b, c and no scope share one refresh, also at once', async () => {
    const { site, browser, asked } = await visit(() => undefined)
    site.clock.advance(HOUR_MS)
    for (const scope of ['a', 'b', 'c', '', 'c%20a']) {
      expect((await browser.get(`/token?scope=${scope}`)).json.token).toBe('at1')
    }
    expect(asked()).toEqual(['plain'])

    site.clock.advance(HOUR_MS)
    const calls = ['a', 'b', 'c', ''].map((scope) => browser.get(`/token?scope=${scope}`))
    for (const { json } of await Promise.all(calls)) expect(json.token).toBe('at2')
    expect(asked()).toEqual(['plain', 'plain'])
  })

  it.each([
    ['another scope in addition', 'a d', 'a d'],
    ['another scope', 'd', 'd'],
  ])('S56 is not covered with %s: it is requested by its name', async (_, scope, named) => {
    const { browser, asked } = await visit(() => undefined)
    expect((await browser.get(`/token?scope=${encodeURIComponent(scope)}`)).status).toBe(200)
    expect(asked()).toEqual([named])
  })

  it('S56 is covered where its scopes are separated by commas', async () => {
    const { browser, asked } = await visit(() => undefined, { login: { scope: 'repo,gist' } })
    for (const scope of ['repo,gist', 'gist', 'repo, gist']) {
      expect((await browser.get(`/token?scope=${encodeURIComponent(scope)}`)).json.token).toBe('at0')
    }
    expect((await browser.get('/token?scope=repo,admin')).json.token).toBe('at1')
    expect(asked()).toEqual(['repo,admin'])
  })

  it('S56 of a resource is requested by its name', async () => {
    const { site, browser, asked } = await visit(() => undefined)
    site.clock.advance(HOUR_MS)
    await browser.get('/token?scope=a&resource=urn:api')
    expect(asked()).toEqual(['a'])
  })

  it('S56 and that the server omits from a plain refresh is requested by its name', async () => {
    const { site, browser, asked } = await visit((named, index) =>
      named === 'plain'
        ? { status: 200, body: { access_token: `at${index}`, expires_in: 3600, scope: 'a' } }
        : undefined,
    )
    site.clock.advance(HOUR_MS)
    const [ofA, ofB] = await Promise.all([browser.get('/token?scope=a'), browser.get('/token?scope=b')])
    expect([ofA.json.token, ofB.json.token]).toEqual(['at1', 'at2'])
    expect(asked()).toEqual(['plain', 'b'])
  })

  it('S56 is requested by its name in the same call if the plain refresh omits it', async () => {
    const { site, browser, asked } = await visit((named, index) =>
      named === 'plain'
        ? { status: 200, body: { access_token: `at${index}`, expires_in: 3600, scope: 'a' } }
        : undefined,
    )
    site.clock.advance(HOUR_MS)
    expect((await browser.get('/token?scope=b')).json.token).toBe('at2')
    expect(asked()).toEqual(['plain', 'b'])
  })

  it('S56 is requested by its name if the scope of the login is not known', async () => {
    const { site, browser, asked } = await visit(() => undefined, { login: { scope: undefined } })
    site.clock.advance(HOUR_MS)
    expect((await browser.get('/token?scope=a')).status).toBe(200)
    expect(asked()).toEqual(['a'])
  })
})

describe('an access token without an expiry', () => {
  const LATER_MS = 365 * 24 * HOUR_MS

  it('and without a refresh token is served until an API rejects it', async () => {
    const login = { expires_in: undefined, refresh_token: undefined }
    const { site, browser, asked } = await visit(() => undefined, { login })
    site.clock.advance(LATER_MS)
    expect((await browser.get('/token')).json.token).toBe('at0')
    expect((await browser.get('/token?scope=a')).json.token).toBe('at0')
    const refused = await browser.get('/token?rejected=at0')
    expect([refused.status, refused.json.code]).toEqual([401, 'ERR_REAUTHENTICATION_REQUIRED'])
    expect(asked()).toEqual([])
  })

  it('but with a refresh token is refreshed after defaultLifetimeMs', async () => {
    const { site, browser } = await visit(() => undefined, { login: { expires_in: undefined } })
    site.clock.advance(5 * MINUTE_MS)
    expect((await browser.get('/token')).json.token).toBe('at1')
  })
})

describe('a grant rests after a failed refresh', () => {
  it.each<[string, Fault, number, string]>([
    ['429', { status: 429 }, 503, 'ERR_TOKEN_ENDPOINT_UNAVAILABLE'],
    ['503', { status: 503 }, 503, 'ERR_TOKEN_ENDPOINT_UNAVAILABLE'],
    ['no connection', 'reset', 503, 'ERR_TOKEN_ENDPOINT_UNAVAILABLE'],
    ['garbage', 'garbage', 502, 'ERR_INVALID_TOKEN_RESPONSE'],
    ['invalid_client', 'invalid_client', 500, 'ERR_CLIENT_REJECTED'],
    ['invalid_scope', { status: 400, body: { error: 'invalid_scope' } }, 502, 'ERR_TOKEN_ENDPOINT'],
  ])('%s: 50 calls ask once, and get the same error with retryAfterMs', async (_, fault, status, code) => {
    const { site, browser, asked } = await visit((_named, index) => (index === 1 ? fault : undefined))
    site.clock.advance(HOUR_MS)
    expect((await browser.get('/token')).json).toMatchObject({ code })
    for (let call = 1; call < 50; call++) {
      const { json, status: got } = await browser.get(call % 2 ? '/token' : '/token?scope=d')
      expect([got, json.code]).toEqual([status, code])
      expect(json.retryAfterMs).toBeGreaterThan(0)
      expect(json.retryAfterMs).toBeLessThanOrEqual(1_000)
    }
    expect(asked()).toHaveLength(1)
    expect(typesOf(site.events)).toEqual(['refresh_failed'])
    site.clock.advance(1_000)
    expect((await browser.get('/token')).json.token).toBe('at2')
  })

  it('S60 and the error shows no token of the session that the server quotes', async () => {
    const { site, browser } = await visit(
      () => refusal({ error: 'x', error_description: 'The token access-token-of-ada is bad.' }),
      { login: { access_token: 'access-token-of-ada' } },
    )
    site.clock.advance(HOUR_MS)
    expect((await browser.get('/token')).status).toBe(502)
    expect(site.errors).toMatchObject([{ errorDescription: 'The token [redacted] is bad.' }])
    expect(inspect([site.errors, site.events], { depth: 9 })).not.toContain('of-ada')
  })

  it('a caller with a valid token gets no error, and the server gets no request', async () => {
    const { site, browser, asked } = await visit(() => ({ status: 503 }))
    site.clock.advance(HOUR_MS - 30_000)
    for (let call = 0; call < 20; call++) expect((await browser.get('/token')).json.token).toBe('at0')
    expect(asked()).toHaveLength(1)
  })

  it('but no longer than until the refresh of another grant succeeds', async () => {
    let isDown = true
    const { site, browser, asked } = await visit(() => (isDown ? { status: 503 } : undefined))
    const other = site.browser()
    await other.post('/login', { ...LOGIN, refresh_token: 'other' })
    site.clock.advance(HOUR_MS)
    for (let failures = 0; failures < 6; failures++) {
      expect((await browser.get('/token')).status).toBe(503)
      site.clock.advance(10_000)
    }
    expect((await browser.get('/token')).status).toBe(503)
    isDown = false
    expect((await browser.get('/token')).status).toBe(503)
    const before = asked().length
    site.clock.advance(1)
    expect((await other.get('/token')).status).toBe(200)
    expect((await browser.get('/token')).status).toBe(200)
    expect(asked()).toHaveLength(before + 2)
  })

  it('for five minutes at most where the server said Retry-After, and so do all other grants after a 503', async () => {
    const down: Fault = { status: 503, headers: { 'retry-after': '3600' } }
    const { site, browser } = await visit((_named, index) => (index === 1 ? down : undefined))
    const other = site.browser()
    await other.post('/login', { ...LOGIN, refresh_token: 'other' })
    site.clock.advance(HOUR_MS)
    expect((await browser.get('/token')).json.retryAfterMs).toBe(HOUR_MS)
    expect((await browser.get('/token')).status).toBe(503)
    site.clock.advance(299_999)
    expect((await other.get('/token')).status).toBe(503)
    site.clock.advance(1)
    expect((await other.get('/token')).status).toBe(200)
    expect((await browser.get('/token')).status).toBe(200)
  })

  it('and once: a grant that fails alone while others succeed is tried only a few times', async () => {
    let fails = true
    const { site, browser, presented } = await visit((named) =>
      fails && named === 'plain' ? { status: 500 } : undefined,
    )
    site.clock.advance(HOUR_MS)
    for (let call = 0; call < 12; call++) {
      fails = true
      expect((await browser.get('/token')).status).toBe(503)
      fails = false
      const other = site.browser()
      await other.post('/login', { ...LOGIN, refresh_token: `other${call}`, expires_at: 1 })
      expect((await other.get('/token')).status).toBe(200)
      site.clock.advance(10)
    }
    expect(presented().filter((token) => token === 'rt0')).toHaveLength(2)
    site.clock.advance(2_000)
    expect((await browser.get('/token')).status).toBe(200)
  })

  it.each<[string, Fault, string]>([
    ['access_denied', { status: 403, body: { error: 'access_denied' } }, 'ERR_TOKEN_ENDPOINT'],
    ['invalid_request', { status: 400, body: { error: 'invalid_request' } }, 'ERR_TOKEN_ENDPOINT'],
    ['unauthorized_client', 'unauthorized_client', 'ERR_CLIENT_REJECTED'],
    ['a page that says Forbidden', { status: 403, body: '<h1>Forbidden</h1>' }, 'ERR_INVALID_TOKEN_RESPONSE'],
  ])('S55 for one need: after %s the plain refresh and other needs go on', async (_, fault, code) => {
    const { site, browser, asked } = await visit((named) => (named === 'bad' ? fault : undefined))
    site.clock.advance(HOUR_MS)
    for (let call = 0; call < 3; call++) {
      expect((await browser.get('/token?scope=bad')).json).toMatchObject({ code })
    }
    expect((await browser.get('/token?scope=d')).json.token).toBe('at2')
    expect((await browser.get('/token')).json.token).toBe('at3')
    expect((await browser.get('/token?scope=bad')).json).toMatchObject({ code })
    expect(asked()).toEqual(['bad', 'd', 'plain'])
  })

  it.each<[string, Fault]>([
    ['429', { status: 429 }],
    ['invalid_client', 'invalid_client'],
  ])('for as long as it has to after %s, which is about this grant', async (_, fault) => {
    const { site, browser } = await visit((_named, index) => (index === 1 ? fault : undefined))
    const other = site.browser()
    await other.post('/login', { ...LOGIN, refresh_token: 'other' })
    site.clock.advance(HOUR_MS)
    const { status } = await browser.get('/token')
    expect((await other.get('/token')).status).toBe(200)
    expect((await browser.get('/token')).status).toBe(status)
  })
})

describe('an API that rejects every token', () => {
  it('has three tokens replaced at once, then one after a second: the caller keeps its token', async () => {
    const { site, browser, asked } = await visit(() => undefined)
    let token = 'at0'
    for (const next of ['at1', 'at2', 'at3', 'at3', 'at3']) {
      token = (await browser.get(`/token?rejected=${token}`)).json.token
      expect(token).toBe(next)
    }
    expect(asked()).toHaveLength(3)
    site.clock.advance(1_000)
    expect((await browser.get('/token?rejected=at3')).json.token).toBe('at4')
    expect((await browser.get('/token?rejected=at4')).json.token).toBe('at4')
  })

  it('counts no token that could not be replaced, since the server was down', async () => {
    const { site, browser } = await visit((_named, index) => (index === 1 ? { status: 503 } : undefined))
    for (let call = 0; call < 5; call++) expect((await browser.get('/token?rejected=at0')).status).toBe(503)
    site.clock.advance(10_000)
    expect((await browser.get('/token?rejected=at0')).json.token).not.toBe('at0')
  })

  it('does not slow down another need', async () => {
    const { browser } = await visit(() => undefined)
    let token = 'at0'
    for (let call = 0; call < 4; call++) token = (await browser.get(`/token?rejected=${token}`)).json.token
    expect(token).toBe('at3')
    expect((await browser.get('/token?scope=d')).json.token).toBe('at4')
    expect((await browser.get('/token?scope=d&rejected=at4')).json.token).toBe('at5')
  })
})
