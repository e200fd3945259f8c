import { afterAll, afterEach, beforeAll, describe, expect, it, jest } from '@jest/globals'
import type { Request } from 'express'
import { customFetch } from 'openid-client'
import { LOGIN_CLIENT, type LoginSite, NAVIGATION, SCOPE, startLoginSite } from '../helpers/login-site.js'

let site: LoginSite
let other: LoginSite
beforeAll(async () => {
  site = await startLoginSite()
  other = await startLoginSite()
})
afterAll(() => Promise.all([site.close(), other.close()]))
afterEach(() => {
  site.failures.length = 0
  expect(site.errors.splice(0)).toEqual([])
})

describe('S111 an attacker', () => {
  it("cannot log the victim in as the attacker, with the attacker's callback", async () => {
    const callback = await site.begin(site.browser())
    const victim = site.browser()
    await site.begin(victim)
    const before = site.provider.tokenRequests.length
    expect((await site.step(victim, callback)).status).toBe(400)
    expect((await victim.get('/')).json).toEqual({ loggedIn: false })
    expect(site.provider.tokenRequests).toHaveLength(before)
  })

  it('cannot finish a login that the user before has begun, though logins are noted in the session', async () => {
    const authorization = (({ query }: Request) => ({
      scope: SCOPE,
      prompt: 'login consent',
      login_hint: query.user as string,
    })) as never
    const shared = await startLoginSite({ login: { transactions: 'session', authorization } })
    try {
      const alice = shared.browser()
      await shared.step(alice, await shared.begin(alice, '/login?user=alice&returnTo=/orders'))
      const unfinished = await shared.begin(alice, '/login?user=alice&returnTo=/orders?of=alice')
      const bob = shared.browser()
      bob.setCookie('connect.sid', alice.cookie('connect.sid')!)
      await shared.step(bob, await shared.begin(bob, '/login?user=bob&returnTo=/orders'))
      const page = await shared.step(bob, unfinished)
      expect(page.headers.get('location')).toBe('/')
      expect((await bob.get('/session')).json.user).toEqual({ sub: 'bob' })
    } finally {
      await shared.close()
    }
  })

  it('cannot make the victim finish a login of a planted session, after the victim has logged in there', async () => {
    const shared = await startLoginSite({
      login: { transactions: 'session', authorization: { scope: SCOPE, prompt: 'login consent' } },
    })
    try {
      const attacker = shared.browser()
      const callback = await shared.begin(attacker, '/login?returnTo=/orders')
      const victim = shared.browser()
      victim.setCookie('connect.sid', attacker.cookie('connect.sid')!)
      await shared.step(victim, await shared.begin(victim))
      const { user } = (await victim.get('/session')).json
      const session = victim.cookie('connect.sid')
      const exchanged = shared.provider.tokenRequests.length
      const page = await shared.step(victim, callback)
      expect([page.status, page.headers.get('location')]).toEqual([303, '/orders'])
      expect(victim.cookie('connect.sid')).toBe(session)
      expect((await victim.get('/session')).json.user).toEqual(user)
      expect(shared.provider.tokenRequests).toHaveLength(exchanged)
    } finally {
      await shared.close()
    }
  })

  it("cannot do so in a browser whose user has logged in: it stays the victim's session", async () => {
    const victim = await site.loggedIn('/login?returnTo=/orders')
    const session = victim.cookie('connect.sid')
    const page = await site.step(victim, await site.begin(site.browser()))
    expect([page.status, page.headers.get('location')]).toEqual([303, '/'])
    expect(victim.cookie('connect.sid')).toBe(session)
  })

  it("cannot inject a stolen code into a transaction of the attacker's", async () => {
    const victim = site.browser()
    const stolen = new URL(await site.begin(victim)).searchParams.get('code')!
    const attacker = site.browser()
    const callback = new URL(await site.begin(attacker))
    callback.searchParams.set('code', stolen)
    expect((await site.step(attacker, callback.href)).status).toBe(400)
    expect(site.failures).toMatchObject([{ reason: 'invalid', error: 'invalid_grant' }])
    expect((await attacker.get('/')).json).toEqual({ loggedIn: false })
  })

  it('cannot use a session id from before the login', async () => {
    const victim = site.browser()
    // The attacker's session, which the attacker has got by a login of their own.
    const planted = (await site.loggedIn()).cookie('connect.sid')!
    victim.setCookie('connect.sid', planted)
    await site.step(victim, await site.begin(victim))
    expect((await victim.get('/')).json).toEqual({ loggedIn: true })
    expect(victim.cookie('connect.sid')).not.toBe(planted)
    const attacker = site.browser()
    attacker.setCookie('connect.sid', planted)
    expect((await attacker.get('/')).json).toEqual({ loggedIn: false })
  })

  it.each([
    ['of another issuer', (issuer: string) => `${issuer}/evil`],
    ['without a value', () => ''],
  ])('cannot mix up providers: a callback with an iss %s sends nothing', async (_, issOf) => {
    const visitor = site.browser()
    const callback = new URL(await site.begin(visitor))
    callback.searchParams.set('iss', issOf(site.provider.issuer))
    const before = site.provider.tokenRequests.length
    expect((await site.step(visitor, callback.href)).status).toBe(400)
    expect(site.provider.tokenRequests).toHaveLength(before)
    expect(site.failures).toMatchObject([{ reason: 'invalid' }])
  })

  it('cannot leave out the iss, since the metadata says that it is sent', async () => {
    const visitor = site.browser()
    const callback = new URL(await site.begin(visitor))
    callback.searchParams.delete('iss')
    expect((await site.step(visitor, callback.href)).status).toBe(400)
  })

  it.each(['code', 'state', 'iss', 'error'])('cannot send two values of %s', async (name) => {
    const visitor = site.browser()
    const callback = new URL(await site.begin(visitor))
    callback.searchParams.append(name, 'another')
    callback.searchParams.append(name, 'third')
    const before = site.provider.tokenRequests.length
    expect((await site.step(visitor, callback.href)).status).toBe(400)
    expect(site.provider.tokenRequests).toHaveLength(before)
  })

  it.each([
    ['has one that is too old', true, 'unmet', 403],
    ['has none', false, 'invalid', 400],
  ])('cannot take max_age out of the request: the ID token %s', async (_, requiresTime, reason, status) => {
    const client = { require_auth_time: requiresTime }
    const login = { pushedRequests: false, authorization: { scope: SCOPE, max_age: 300, prompt: 'consent' } }
    const strict = await startLoginSite({ client, login })
    try {
      const user = await strict.loggedIn()
      const session = user.cookie('connect.sid')
      const later = Date.now() + 10 * 60_000
      jest.spyOn(Date, 'now').mockReturnValue(later)
      const asked = new URL((await strict.step(user, '/login')).headers.get('location')!)
      expect(asked.searchParams.get('max_age')).toBe('300')
      asked.searchParams.delete('max_age')
      const page = await strict.step(user, await strict.begin(user, asked.href))
      expect([page.status, strict.failures]).toMatchObject([status, [{ reason }]])
      // The user stays logged in as before.
      expect((await user.get('/')).json).toEqual({ loggedIn: true })
      expect(user.cookie('connect.sid')).toBe(session)
    } finally {
      jest.restoreAllMocks()
      await strict.close()
    }
  })

  it.each([
    [['mfa'], 403],
    ['pwd', 403],
    [undefined, 403],
    ['mfa', 303],
  ])('cannot pass a wrong acr off as an accepted one: %j gets %i', async (acr, status) => {
    const strict = await startLoginSite({
      login: {
        pushedRequests: false,
        verifySignature: false,
        // 'undefined' is what a missing acr is as a text.
        authorization: { scope: SCOPE, prompt: 'consent', acr_values: 'undefined mfa' },
        configure(configuration) {
          configuration[customFetch] = async (url, { body, headers, method }) => {
            const response = await fetch(url, { body: (body as string) ?? null, headers, method })
            if (new URL(url).pathname !== '/token') return response
            const tokens = (await response.json()) as { id_token: string }
            const [header, payload = '', signature] = tokens.id_token.split('.')
            const claims = { ...JSON.parse(Buffer.from(payload, 'base64url').toString()), acr }
            const edited = Buffer.from(JSON.stringify(claims)).toString('base64url')
            return Response.json({ ...tokens, id_token: [header, edited, signature].join('.') })
          }
        },
      },
    })
    try {
      const visitor = strict.browser()
      expect((await strict.step(visitor, await strict.begin(visitor))).status).toBe(status)
    } finally {
      await strict.close()
    }
  })

  it.each([
    'https://evil.example/',
    '//evil.example/',
    '/\\evil.example/',
    '/%09/evil.example/',
    '\t//evil.example',
    'javascript:alert(1)',
    '/orders\r\nset-cookie: a=b',
    '/login',
    '/callback?code=1',
    '/logout',
  ])('cannot have a login lead to %j', async (returnTo) => {
    const visitor = site.browser()
    const path = `/login?${new URLSearchParams({ returnTo })}`
    const page = await site.step(visitor, await site.begin(visitor, path))
    const location = new URL(page.headers.get('location')!, site.url)
    expect([page.status, location.origin]).toEqual([303, site.url])
    expect(['/login', '/callback', '/logout']).not.toContain(location.pathname)
  })

  it('cannot put parameters into the authorization request by the query', async () => {
    const bad = {
      scope: 'openid admin',
      prompt: 'none',
      redirect_uri: 'https://evil.example/',
      acr_values: 'low',
      max_age: '99999',
      client_id: 'another',
      state: 'fixed',
      nonce: 'fixed',
      code_challenge: 'fixed',
      resource: 'https://evil.example/',
      login_hint: 'mallory',
      stepUp: 'up-0123456789abcdef',
    }
    const plain = await startLoginSite({ login: { pushedRequests: false } })
    try {
      const page = await plain.step(plain.browser(), `/login?${new URLSearchParams(bad)}`)
      const sent = Object.fromEntries(new URL(page.headers.get('location')!).searchParams)
      expect(sent).toEqual({
        scope: 'openid offline_access orders.read',
        prompt: 'consent',
        response_type: 'code',
        client_id: LOGIN_CLIENT.clientId,
        redirect_uri: `${plain.url}/callback`,
        state: expect.stringMatching(/^[\w-]{43}$/),
        nonce: expect.stringMatching(/^[\w-]{43}$/),
        code_challenge: expect.stringMatching(/^[\w-]{43}$/),
        code_challenge_method: 'S256',
      })
    } finally {
      await plain.close()
    }
  })

  it("cannot toss a cookie: one of another app, a forged one, and the victim's own under another name are ignored", async () => {
    const attacker = other.browser()
    await other.begin(attacker)
    const victim = site.browser()
    const callback = await site.begin(victim)
    const [name = '', value = ''] = loginCookies(await cookiesOf(site, '/login'))[0]!
    const state = new URL(callback).searchParams.get('state')!
    const own = `${name.slice(0, -16)}${state.slice(0, 16)}`
    for (const tossed of [value, `${value.slice(0, -2)}AA`, 'x', '']) {
      const fooled = site.browser()
      fooled.setCookie(own, tossed)
      expect((await site.step(fooled, callback)).status).toBe(400)
    }
    const twice = await fetch(callback, {
      headers: { cookie: `${own}=${value}; ${own}=${victim.cookie(own)}`, ...NAVIGATION.headers },
      redirect: 'manual',
    })
    expect(twice.status).toBe(400)
    // Without the attacker's cookie the login goes on.
    expect((await site.step(victim, callback)).headers.get('location')).toBe('/orders')
  })

  it('cannot evade the prefix of a cookie by a no-break space in front of its name', async () => {
    // To a browser that is another name, without a prefix, so a neighbour of the site may set it.
    const attacker = site.browser()
    const callback = await site.begin(attacker)
    const [name = ''] = loginCookies(await cookiesOf(site, '/login'))[0]!
    const own = `${name.slice(0, -16)}${new URL(callback).searchParams.get('state')!.slice(0, 16)}`
    const statusWith = async (tossed: string) => {
      const headers = { cookie: `a=b; ${tossed}=${attacker.cookie(own)}`, ...NAVIGATION.headers }
      return (await fetch(callback, { headers, redirect: 'manual' })).status
    }
    expect(await statusWith(`\u00a0${own}`)).toBe(400)
    expect(await statusWith(own)).toBe(303)
  })

  it('cannot have a page of another origin log the user out', async () => {
    const victim = await site.loggedIn()
    for (const headers of [
      { origin: 'https://evil.example' },
      { 'sec-fetch-site': 'cross-site', origin: 'null' },
      { 'sec-fetch-site': 'same-site', origin: 'https://neighbour.example' },
    ]) {
      expect((await victim.post('/logout', undefined, { headers })).status).toBe(403)
    }
    await site.step(victim, '/logout')
    expect((await victim.get('/')).json).toEqual({ loggedIn: true })
  })
})

describe('the cookies of a login', () => {
  it('are HttpOnly and Lax, for all paths, and last 30 minutes', async () => {
    const [cookie] = await cookiesOf(site, '/login')
    expect(cookie).toMatch(
      /^login-[\w-]{6}-[\w-]{16}=eyJ[\w-]+\.\.[\w.-]+; Path=\/; HttpOnly; SameSite=Lax; Max-Age=1800$/,
    )
  })

  it('stay below 6,000 bytes for all tabs together, so that no server refuses the header: the newest logins go on', async () => {
    const visitor = site.browser()
    const [name = ''] = loginCookies(await cookiesOf(site, '/login'))[0]!
    const callbacks: string[] = []
    const cookies = () =>
      callbacks.map((callback) => {
        const state = new URL(callback).searchParams.get('state')!
        return visitor.cookie(name.slice(0, -16) + state.slice(0, 16)) ?? ''
      })
    for (let tab = 0; tab < 8; tab++) {
      callbacks.push(await site.begin(visitor, `/login?returnTo=/orders?${'x'.repeat(900)}${tab}`))
    }
    expect(cookies().join('').length).toBeLessThan(6_000)
    expect(cookies().map(Boolean)).toEqual([...Array(5).fill(false), true, true, true])
    for (const tab of [7, 6, 5]) {
      const page = await site.step(visitor, callbacks[tab]!)
      expect(page.headers.get('location')).toMatch(new RegExp(`x${tab}$`))
    }
  })

  it('have the prefix __Host- and Secure where browsers use https', async () => {
    // The request is not pushed, since the provider does not know this redirect URI.
    const login = { baseUrl: 'https://app.example.com', pushedRequests: false }
    const secure = await startLoginSite({ login })
    const [cookie] = await cookiesOf(secure, '/login')
    await secure.close()
    expect(cookie).toMatch(/^__Host-login-.*; Path=\/; HttpOnly; SameSite=Lax; Secure; Max-Age=1800$/)
  })
})

async function cookiesOf(of: LoginSite, path: string): Promise<string[]> {
  return (await of.step(of.browser(), path)).headers.getSetCookie()
}

function loginCookies(cookies: readonly string[]): [name: string, value: string][] {
  return cookies
    .filter((cookie) => cookie.includes('login-'))
    .map((cookie) => {
      const [pair = ''] = cookie.split(';')
      const at = pair.indexOf('=')
      return [pair.slice(0, at), pair.slice(at + 1)]
    })
}
