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
  await site.step(visitor, callback.href)
  return callback.searchParams.get('state')!
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
    const state = await failsWith(error)
    expect(printed.mock.calls).toEqual([[expect.objectContaining({ name: 'LoginError', reason })]])
    expect(inspect(printed.mock.calls, { depth: 9 })).not.toContain(state)
  })

  it.each(['access_denied', 'login_required', 'unmet_authentication_requirements'])(
    'is not printed for %s, which a user brings about',
    async (error) => {
      await start()
      await failsWith(error)
      await site.step(site.browser(), '/callback?code=x&state=y')
      expect(printed).not.toHaveBeenCalled()
    },
  )

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
    await failsWith('invalid_request')
    await failsWith('access_denied')
    expect(reported).toEqual([['rejected', '/callback']])
    expect(printed).not.toHaveBeenCalled()
  })
})

it('is not printed when the app has onFailure', async () => {
  await start({ login: { onFailure: () => undefined } })
  await failsWith('invalid_request')
  expect(printed).not.toHaveBeenCalled()
})
