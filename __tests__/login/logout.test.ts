import { afterEach, beforeEach, describe, expect, it } from '@jest/globals'
import { type LoginSite, NAVIGATION, startLoginSite } from '../helpers/login-site.js'

let site: LoginSite
beforeEach(async () => {
  site = await startLoginSite({
    routes: (app) =>
      void app.get('/who', ({ tokens }, response) => {
        response.json({ idTokenClaims: tokens.idTokenClaims })
      }),
  })
})
afterEach(() => site.close())

describe('POST /logout', () => {
  it("logs out here, revokes the tokens, and leads to the provider's logout, with the hint", async () => {
    const visitor = await site.loggedIn()
    const copy = visitor.clone()
    const page = await visitor.post('/logout', undefined, NAVIGATION)
    const url = new URL(page.headers.get('location')!)
    expect([page.status, url.origin + url.pathname]).toEqual([303, `${site.provider.issuer}/session/end`])
    expect(Object.fromEntries(url.searchParams)).toEqual({
      client_id: 'login-app',
      post_logout_redirect_uri: `${site.url}/`,
      state: expect.stringMatching(/^[\w-]{22}$/),
      id_token_hint: expect.stringMatching(/^eyJ/),
    })
    expect((await visitor.get('/orders')).status).toBe(401)
    expect((await copy.get('/orders')).status).toBe(401)
    expect(site.provider.revocations).toMatchObject([{ hint: 'refresh_token', status: 200 }])
  })

  it('gives a script the URL, without the ID token', async () => {
    const visitor = await site.loggedIn()
    const { json, status } = await visitor.post('/logout')
    const url = new URL(json.logoutUrl)
    expect([status, url.searchParams.get('client_id')]).toEqual([200, 'login-app'])
    expect(url.searchParams.has('id_token_hint')).toBe(false)
  })

  it('works with the provider down', async () => {
    const visitor = await site.loggedIn()
    await site.provider.down()
    const page = await visitor.post('/logout', undefined, NAVIGATION)
    expect([page.status, page.headers.get('location')]).toEqual([
      303,
      expect.stringContaining('/session/end'),
    ])
    expect((await visitor.get('/orders')).status).toBe(401)
    await site.provider.up()
  })

  it('works without a login', async () => {
    expect((await site.browser().post('/logout', undefined, NAVIGATION)).status).toBe(303)
  })

  it("leaves nothing of the session's data", async () => {
    const visitor = await site.loggedIn()
    await visitor.post('/logout')
    const { sessions } = site.store as unknown as { sessions: Record<string, string> }
    expect(Object.values(sessions)).toEqual([])
  })
})

it('leaves the hint out with idTokenHint: false, and a provider without a logout leads to the start page', async () => {
  const quiet = await startLoginSite({ login: { idTokenHint: false, afterLogout: '/bye' } })
  const without = await startLoginSite({
    provider: {
      configure: (it) => ({ ...it, features: { ...it.features, rpInitiatedLogout: { enabled: false } } }),
    },
    login: { afterLogout: '/bye' },
  })
  const locations = await Promise.all(
    [quiet, without].map(async (each) => {
      const page = await (await each.loggedIn()).post('/logout', undefined, NAVIGATION)
      return page.headers.get('location')!
    }),
  )
  expect(new URL(locations[0]!).searchParams.has('id_token_hint')).toBe(false)
  expect(new URL(locations[0]!).searchParams.get('post_logout_redirect_uri')).toBe(`${quiet.url}/bye`)
  expect(locations[1]).toBe(`${without.url}/bye`)
  await Promise.all([quiet.close(), without.close()])
})

describe('POST /backchannel-logout', () => {
  it('S82 ends the logins of a user whom the provider logs out', async () => {
    const visitor = await site.loggedIn()
    const { idTokenClaims } = (await visitor.get('/who')).json
    const client = (await site.provider.provider.Client.find('login-app'))!
    Object.assign(client, { backchannelLogoutUri: `${site.url}/backchannel-logout` })
    const send = client.backchannelLogout as (sub: string, sid: string) => Promise<void>
    await send.call(client, idTokenClaims.sub, 'any')
    expect((await visitor.get('/orders')).status).toBe(401)
  })

  it('refuses a request without a logout token, from whatever origin', async () => {
    const headers = { origin: 'https://elsewhere.example', 'sec-fetch-site': 'cross-site' }
    const response = await fetch(`${site.url}/backchannel-logout`, {
      method: 'POST',
      headers,
      body: new URLSearchParams({ logout_token: 'a.b.c' }),
    })
    expect([response.status, response.headers.get('cache-control')]).toEqual([400, 'no-store'])
    expect(await response.json()).toMatchObject({ error: 'invalid_request' })
  })

  it('is left out with false', async () => {
    const without = await startLoginSite({ login: { routes: { backchannelLogout: false } } })
    const response = await fetch(`${without.url}/backchannel-logout`, { method: 'POST' })
    expect(response.status).toBe(404)
    await without.close()
  })
})
