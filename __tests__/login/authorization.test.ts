import { generateKeyPairSync } from 'node:crypto'
import { describe, expect, it } from '@jest/globals'
import express from 'express'
import { decodeJwt, exportJWK, importPKCS8 } from 'jose'
import { type LoginOptions, login } from '../../lib/login.js'
import { LOGIN_CLIENT, type LoginSiteOptions, NAVIGATION, startLoginSite } from '../helpers/login-site.js'

/** Starts a site and begins a login. Resolves with the parameters in the URL of the provider. */
async function sentBy(options: LoginSiteOptions, path = '/login'): Promise<Record<string, string>> {
  const site = await startLoginSite(options)
  try {
    const page = await site.step(site.browser(), path)
    return Object.fromEntries(new URL(page.headers.get('location') ?? 'about:blank').searchParams)
  } finally {
    await site.close()
  }
}

describe('the authorization request', () => {
  it('is pushed where the provider offers it: the URL has a reference alone', async () => {
    expect(await sentBy({})).toEqual({
      client_id: LOGIN_CLIENT.clientId,
      request_uri: expect.stringMatching(/^urn:ietf:params:oauth:request_uri:/),
    })
  })

  it('is pushed in spite of pushedRequests: false where the provider requires it', async () => {
    const required: LoginSiteOptions['provider'] = {
      configure: (it) => ({
        ...it,
        features: {
          ...it.features,
          pushedAuthorizationRequests: { enabled: true, requirePushedAuthorizationRequests: true },
        },
      }),
    }
    const sent = await sentBy({ provider: required, login: { pushedRequests: false } })
    expect(Object.keys(sent).sort()).toEqual(['client_id', 'request_uri'])
  })

  it('is signed with a key, and the provider verifies it', async () => {
    const { privateKey, publicKey } = generateKeyPairSync('ec', {
      namedCurve: 'P-256',
      privateKeyEncoding: { type: 'pkcs8', format: 'pem' },
      publicKeyEncoding: { type: 'spki', format: 'pem' },
    })
    const key = await importPKCS8(privateKey, 'ES256')
    const { createPublicKey } = await import('node:crypto')
    const jwk = { ...(await exportJWK(createPublicKey(publicKey))), kid: 'k1', alg: 'ES256', use: 'sig' }
    const site = await startLoginSite({
      login: { pushedRequests: false, requestObjectKey: { key, kid: 'k1' } },
      provider: {
        configure: (it) => ({ ...it, features: { ...it.features, requestObjects: { enabled: true } } }),
      },
      client: { jwks: { keys: [jwk as never] } },
    })
    try {
      const visitor = site.browser()
      const page = await site.step(visitor, '/login?returnTo=/orders')
      const { request } = Object.fromEntries(new URL(page.headers.get('location')!).searchParams)
      expect(decodeJwt(request!)).toMatchObject({ iss: LOGIN_CLIENT.clientId, code_challenge_method: 'S256' })
      const callback = await site.begin(visitor, page.headers.get('location')!)
      expect((await site.step(visitor, callback)).headers.get('location')).toBe('/orders')
    } finally {
      await site.close()
    }
  })

  it("has what the app's function returns, several resources among it", async () => {
    const site = await startLoginSite({
      login: {
        pushedRequests: false,
        authorization: (async (request: { query: Record<string, string> }) => ({
          scope: 'openid offline_access',
          login_hint: request.query.user,
          max_age: 60,
          resource: ['https://a.example', 'https://b.example'],
          audience: ['a', 'b'],
          acr_values: 2 as never,
          prompt: undefined,
        })) as never,
      },
    })
    try {
      const page = await site.step(site.browser(), '/login?user=bob')
      const { searchParams } = new URL(page.headers.get('location')!)
      expect(searchParams.getAll('resource')).toEqual(['https://a.example', 'https://b.example'])
      expect([searchParams.getAll('audience'), searchParams.get('acr_values')]).toEqual([['a', 'b'], '2'])
      expect([searchParams.get('login_hint'), searchParams.get('max_age')]).toEqual(['bob', '60'])
      expect(searchParams.has('prompt')).toBe(false)
    } finally {
      await site.close()
    }
  })

  it.each([
    [{ state: 'x' }, /must not give `state`/],
    [{ redirect_uri: 'x' }, /must not give `redirect_uri`\. It is `baseUrl` with the path/],
    [{ scope: 'orders.read' }, /`scope` must have `openid`/],
    [{ max_age: '60' as never }, /`max_age` must be a whole number/],
    [{ prompt: { a: 1 } as never }, /`prompt` must be a string/],
    // As Express reads `?prompt=consent&prompt=none`.
    [{ prompt: ['consent', 'none'] }, /`prompt` must be a string or a number;/],
    [{ resource: [['https://a.example']] as never }, /`resource` must be a string or a number;/],
    [{ acr_values: ['mfa'] as never }, /`acr_values` must be a string/],
    [undefined, /`authorization` must be an object, or a function that returns one/],
  ])('is not sent with %j, returned by a function', async (authorization, message) => {
    const site = await startLoginSite({ login: { authorization: () => authorization as never } })
    try {
      const page = await site.step(site.browser(), '/login')
      expect([page.status, page.json.message]).toEqual([500, expect.stringMatching(message)])
    } finally {
      await site.close()
    }
  })
})

describe("responseMode: 'form_post'", () => {
  it('takes the callback as a form from the page of the provider, with cookies for it', async () => {
    const site = await startLoginSite({ login: { responseMode: 'form_post' } })
    try {
      const visitor = site.browser()
      let page = await site.step(visitor, '/login?returnTo=/orders')
      expect(page.headers.getSetCookie()[0]).toMatch(/; SameSite=None; Secure; /)
      while (page.headers.has('location')) {
        page = await site.step(visitor, new URL(page.headers.get('location')!, page.url).href)
      }
      const fields = [...page.text.matchAll(/name="(\w+)" value="([^"]*)"/g)].map(
        ([, name = '', value = '']): [string, string] => [name, value.replaceAll('&#x2F;', '/')],
      )
      expect(fields.map(([name]) => name).sort()).toEqual(['code', 'iss', 'state'])
      const headers = { ...NAVIGATION.headers, 'sec-fetch-site': 'cross-site', origin: site.provider.issuer }
      const callback = await visitor.post('/callback', new URLSearchParams(fields), { headers })
      expect([callback.status, callback.headers.get('location')]).toEqual([303, '/orders'])
      expect((await visitor.get('/orders')).json).toMatchObject({ user: 'alice' })
    } finally {
      await site.close()
    }
  })

  it('alone has a callback for POST; else such a request is passed on to the app', async () => {
    const site = await startLoginSite()
    try {
      const page = await site.browser().post('/callback', new URLSearchParams({ code: 'x' }), NAVIGATION)
      expect([page.status, site.failures]).toEqual([404, []])
    } finally {
      await site.close()
    }
  })

  it.each(['state[toString]=x', 'state[a]=b', 'state[]=a&state[]=b'])(
    'a form that a parser has made objects of is of no login: %s',
    async (body) => {
      const withParser = (() => express().use(express.urlencoded({ extended: true }))) as never
      const site = await startLoginSite({ login: { responseMode: 'form_post' }, express: withParser })
      try {
        const headers = { ...NAVIGATION.headers, 'content-type': form }
        expect((await site.browser().post('/callback', body, { headers })).status).toBe(400)
        expect([site.failures, site.errors]).toMatchObject([[{ reason: 'unknown' }], []])
      } finally {
        await site.close()
      }
    },
  )

  const form = 'application/x-www-form-urlencoded'
  it.each([
    ['that is JSON', '{}', 'application/json', `is not ${form}.`],
    ['that is too large', `code=${'x'.repeat(33_000)}`, form, 'is larger than 32 KB.'],
  ])('refuses a form %s, and says so to the operator alone', async (_, body, type, flaw) => {
    const site = await startLoginSite({ login: { responseMode: 'form_post' } })
    try {
      const headers = { ...NAVIGATION.headers, 'content-type': type }
      const page = await site.browser().post('/callback', body, { headers })
      expect([page.status, page.text]).toEqual([400, expect.stringContaining('is not valid.')])
      expect(page.text).not.toContain(flaw)
      const message = `The login failed (invalid). The form of the callback ${flaw}`
      expect(site.failures).toMatchObject([{ reason: 'invalid', message }])
    } finally {
      await site.close()
    }
  })
})

describe('the options of login()', () => {
  const right: LoginOptions = {
    issuer: 'https://idp.example.com',
    clientId: 'web',
    clientAuthentication: () => ({}),
    encryptionKeys: false,
    transactions: 'session',
    baseUrl: 'https://app.example.com',
  }

  it.each<[object, RegExp]>([
    [{ baseUrl: undefined }, /`baseUrl` must be the https URL/],
    [{ baseUrl: 'http://app.example.com' }, /`baseUrl` must be the https URL/],
    [{ baseURL: 'https://app.example.com' }, /has no option `baseURL`\. Did you mean `baseUrl`\?/],
    [{ issuerBaseURL: 'x' }, /Did you mean `issuer`\?/],
    [{ issuer: 'http://idp.example.com' }, /`issuer` must use https/],
    [{ transactions: 'cookie' }, /login\(\) seals its cookies\. Give it the `encryptionKeys`/],
    [{ responseMode: 'form_post' }, /does not go with transactions: 'session'/],
    [{ routes: { logIn: '/x' } }, /`routes` has no option `logIn`\. Did you mean `login`\?/],
    [{ routes: { login: 'login' } }, /`routes\.login` must be a path such as '\/login'/],
    [{ routes: { callback: false } }, /`routes\.callback` cannot be left out/],
    [{ routes: { login: '/callback' } }, /Two of the `routes` have the same path/],
    [{ afterLogin: 'https://evil.example' }, /`afterLogin` must be a path of the app/],
    [{ visitorStatus: 204 }, /`visitorStatus` must be 401, or 200/],
    [{ sessionClaims: 'sub' }, /`sessionClaims` must be a list of names/],
    [{ keepFields: [1] }, /`keepFields` must be a list of names/],
    [{ keepFields: ['cart'], regenerate() {} }, /`keepFields` has no meaning with `regenerate`/],
    [{ authorization: { response_type: 'code' } }, /must not give `response_type`\. It is always `code`/],
    [{ authorization: { response_mode: 'form_post' } }, /Use the option `responseMode`/],
    [{ authorization: { scope: 'orders.read' } }, /`scope` must have `openid`/],
    [{ authorization: 'openid' }, /`authorization` must be an object, or a function that returns one/],
    [{ afterCallback() {} }, /Did you mean `onLogin`\?/],
    [{ session: {} }, /The session is your own: mount express-session before login\(\)/],
    [{ attemptSilentLogin: true }, /Send prompt: 'none' with `authorization`/],
    [{ pushedAuthorizationRequests: true }, /Did you mean `pushedRequests`\?/],
    [{ allowedOrigins: '*' }, /`allowedOrigins` must be an array of origins/],
    [
      { sessionKey: 'tokens' },
      /`sessionKey` must not be 'tokens': express-session or sessionTokens\(\) uses this key of the session\. Choose another, e\.g\. 'login'/,
    ],
    [{ sessionKey: 'cookie' }, /`sessionKey` must not be 'cookie'/],
    [{ sessionKey: 'save' }, /`sessionKey` must not be 'save'/],
    [{ clientAuthentication: undefined }, /`clientAuthentication` is missing/],
  ])('are checked at once: %j', (wrong, message) => {
    expect(() => login({ ...right, ...wrong } as LoginOptions)).toThrow(message)
  })

  it('leave paths out, and move them under the path of the app', async () => {
    const site = await startLoginSite({
      base: '/shop',
      login: { routes: { login: '/enter', session: false } },
    })
    try {
      const visitor = site.browser()
      const callback = await site.begin(visitor, '/shop/enter?returnTo=/shop/')
      expect(callback).toMatch(new RegExp(`^${site.url}/shop/callback\\?`))
      expect((await site.step(visitor, callback)).headers.get('location')).toBe('/shop/')
      expect((await visitor.get('/shop/session')).status).toBe(404)
      expect((await visitor.get('/callback')).status).toBe(404)
    } finally {
      await site.close()
    }
  })
})
