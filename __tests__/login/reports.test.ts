import { inspect } from 'node:util'
import { afterEach, beforeEach, describe, expect, it, jest } from '@jest/globals'
import Koa from 'koa'
import koaSession from 'koa-session'
import { customFetch } from 'openid-client'
import { sessionTokens } from '../../lib/koa.js'
import { login } from '../../lib/login.js'
import { send, serve } from '../helpers/http-server.js'
import { koaMemoryStore } from '../helpers/koa-stores.js'
import { type LoginSite, type LoginSiteOptions, startLoginSite } from '../helpers/login-site.js'

let site: LoginSite
let printed: jest.Spied<typeof console.error>
beforeEach(() => {
  printed = jest.spyOn(console, 'error').mockImplementation(() => {})
})
afterEach(async () => {
  printed.mockRestore()
  await site.close()
})

/** Without `onFailure`. */
const start = async ({ login = {}, ...options }: LoginSiteOptions = {}) => {
  site = await startLoginSite({ ...options, login: { onFailure: undefined, ...login } as never })
}

/** Finishes a login with an error response of the provider, or with an empty one. */
async function failsWith(error: string | undefined) {
  const visitor = site.browser()
  const callback = new URL(await site.begin(visitor))
  callback.searchParams.delete('code')
  if (error !== undefined) callback.searchParams.set('error', error)
  const { status } = await site.step(visitor, callback.href)
  return { state: callback.searchParams.get('state')!, status }
}

const rejectedWith = (message: RegExp) =>
  expect.objectContaining({
    reason: 'rejected',
    cause: expect.objectContaining({ message: expect.stringMatching(message) }),
  })

describe('a login that fails, without onFailure', () => {
  it.each([
    ['rejected', 'invalid_request'],
    ['unavailable', 'temporarily_unavailable'],
    ['invalid', undefined],
  ])('is printed on stderr, once, for the reason %s', async (reason, error) => {
    await start()
    const { state } = await failsWith(error)
    expect(printed.mock.calls).toEqual([[expect.objectContaining({ name: 'LoginError', reason })]])
    expect(inspect(printed.mock.calls, { depth: 9 })).not.toContain(state)
  })

  it.each([
    ['access_denied', 403],
    ['login_required', 401],
    ['unmet_authentication_requirements', 403],
  ])('is not printed for %s, which a user brings about', async (error, status) => {
    await start()
    expect(await failsWith(error)).toMatchObject({ status })
    expect(printed).not.toHaveBeenCalled()
  })

  it('is not printed for a request of a stranger, which fits no login', async () => {
    await start({ login: { responseMode: 'form_post' } })
    const stranger = site.browser()
    const { status } = await site.step(stranger, '/callback?code=x&state=y')
    const responses = [status]
    for (const body of [{}, new URLSearchParams({ code: 'x'.repeat(33_000) })]) {
      responses.push((await stranger.post('/callback', body)).status)
    }
    expect(responses).toEqual([400, 400, 400])
    expect(printed).not.toHaveBeenCalled()
  })

  it('is printed without the query of the page', async () => {
    await start()
    const visitor = site.browser()
    const callback = new URL(await site.begin(visitor, '/login?returnTo=/orders?invitation=hush'))
    callback.searchParams.delete('code')
    const page = await site.step(visitor, callback.href)
    expect([page.status, page.text]).toEqual([400, expect.stringContaining('hush')])
    expect(printed.mock.calls).toEqual([[expect.objectContaining({ reason: 'invalid' })]])
    expect(inspect(printed.mock.calls, { depth: 9 })).not.toContain('hush')
    expect(JSON.stringify(printed.mock.calls)).not.toContain('hush')
  })

  it('is printed with its cause when userinfo refuses the token', async () => {
    const withoutUserinfo: typeof fetch = async (url, init) =>
      String(url).endsWith('/me') ? new Response('', { status: 403 }) : fetch(url, init)
    const configure = (it: object) => void Object.assign(it, { [customFetch]: withoutUserinfo })
    await start({ login: { userinfo: true, configure } })
    const visitor = site.browser()
    expect((await site.step(visitor, await site.begin(visitor))).status).toBe(502)
    expect(printed.mock.calls).toEqual([[rejectedWith(/unexpected HTTP response status code/)]])
  })

  it('is printed with its cause when the metadata names another issuer', async () => {
    const other = await serve(() => (_, response) => {
      send(response, { status: 200, body: { issuer: 'https://idp.example.com' } })
    })
    await start({ login: { issuer: other.url } })
    expect((await site.step(site.browser(), '/login')).status).toBe(502)
    await other.down()
    expect(printed.mock.calls).toEqual([[rejectedWith(/issuer does not match the expected issuer/)]])
  })

  it('is the event `error` of a Koa app', async () => {
    const reported: unknown[] = []
    await start({
      app({ tokens, login: given }) {
        const app = new Koa()
        app.keys = ['test']
        app.on('error', (error, ctx) => reported.push([error.reason, ctx.path]))
        app.use(koaSession({ store: koaMemoryStore() }, app))
        app.use(sessionTokens(tokens))
        app.use(login(given as never))
        return app.callback()
      },
    })
    expect(await failsWith('invalid_request')).toMatchObject({ status: 502 })
    expect(await failsWith('access_denied')).toMatchObject({ status: 403 })
    expect(reported).toEqual([['rejected', '/callback']])
    expect(printed).not.toHaveBeenCalled()
  })
})

it('is not printed when the app has onFailure', async () => {
  await start({ login: { onFailure: () => undefined } })
  expect(await failsWith('invalid_request')).toMatchObject({ status: 502 })
  expect(printed).not.toHaveBeenCalled()
})
