import { afterEach, describe, expect, it, jest } from '@jest/globals'
import cookieSession from 'cookie-session'
import type { Request } from 'express'
import express from 'express'
import { memoryGrantStore, publicClient, sessionTokens } from '../../lib/index.js'
import type { AnySessionTokensOptions } from '../../lib/middleware/options.js'
import { startApp } from '../helpers/app.js'
import { browser } from '../helpers/browser.js'
import { startKoaSite } from '../helpers/koa-site.js'
import { sharedSessions } from '../helpers/site.js'
import { HOUR_MS, testSites } from '../helpers/test-sites.js'

const { server, start, loggedIn, closing } = await testSites()

const encryptionKeys = ['UUa2j3oVjRk0c8Zs9CLtEz3uJgQmA7rS7T1a0YbKx5c=']
const change = { encryptionKeys, acceptUnsealed: true }

const options = {
  tokenEndpoint: server.tokenEndpoint,
  clientId: 'web',
  clientAuthentication: publicClient(),
} as const

afterEach(() => {
  jest.restoreAllMocks()
})

// The first of this file, since a process is warned once.
it('warns once, with a code, while it is on', () => {
  const warn = jest.spyOn(process, 'emitWarning').mockImplementation(() => {})
  for (let n = 0; n < 2; n++) sessionTokens({ ...options, ...change })
  expect(warn.mock.calls).toEqual([
    [expect.stringContaining('acceptUnsealed'), { code: 'SESSION_TOKENS_ACCEPT_UNSEALED' }],
  ])
})

describe.each(['session', 'store'] as const)(
  "sealing is switched on with acceptUnsealed, keep: '%s'",
  (keep) => {
    async function changed(tokens: Partial<AnySessionTokensOptions>) {
      const open = sharedSessions()
      const grants = memoryGrantStore()
      const before = await start({ store: open(), tokens: { keep, grants } })
      const after = await start({ store: open(), tokens: { keep, grants, ...tokens } })
      const tab = await loggedIn(before)
      const copy = async () => String((await after.stored(tab))?.tokens)
      return { before, after, grants, tab, copy }
    }

    it('an earlier session is still accepted, and its next refresh seals it', async () => {
      const { before, after, grants, tab, copy } = await changed(change)
      expect(await copy()).toMatch(/^\{/)
      const { token } = (await tab.get('/token')).json
      expect((await after.visitorOf(tab).get('/token')).json.token).toBe(token)
      for (const site of [before, after]) site.clock.advance(HOUR_MS)
      const refreshes = server.refreshes()
      expect((await after.visitorOf(tab).get('/token')).status).toBe(200)
      expect(server.refreshes() - refreshes).toBe(1)
      await after.middleware.close()
      expect(await copy()).not.toMatch(/^\{/)
      // The option is taken out again.
      const sealed = await start({
        store: after.store.store,
        clock: after.clock,
        tokens: { keep, grants, encryptionKeys },
      })
      expect((await sealed.visitorOf(tab).get('/token')).status).toBe(200)
    })

    it('a logout ends it', async () => {
      const { after, tab } = await changed(change)
      expect((await after.visitorOf(tab).post('/logout', {})).status).toBe(200)
      expect((await after.visitorOf(tab).get('/token')).status).toBe(401)
    })

    it('without the option it counts as logged out', async () => {
      const { after, tab } = await changed({ encryptionKeys })
      expect((await after.visitorOf(tab).get('/token')).status).toBe(401)
    })
  },
)

describe('acceptUnsealed', () => {
  it.each<[string, object, RegExp]>([
    ['without encryptionKeys', { acceptUnsealed: true }, /give `encryptionKeys` as well/],
    ['with a custom session layer', { ...change, session: () => undefined }, /does not go with `session`/],
    ['that is no boolean', { encryptionKeys, acceptUnsealed: 'yes' }, /must be true or false/],
  ])('is rejected %s', (_, more, message) => {
    expect(() => sessionTokens({ ...options, ...more })).toThrow(message)
  })

  it('is rejected in cookies, of cookie-session and of koa-session', async () => {
    const app = express()
    const codes: unknown[] = []
    app.use(cookieSession({ keys: ['k'] }), sessionTokens({ ...options, ...change }))
    app.get('/token', async ({ tokens }: Request, response) => {
      await tokens.getAccessToken().catch(({ code, message }) => codes.push(code, message))
      response.end()
    })
    const site = closing(await startApp(() => app))
    await browser(site.url).get('/token')
    expect(codes).toEqual(['ERR_CONFIGURATION', expect.stringMatching(/is for sessions in a store/)])

    const koa = closing(await startKoaSite(server, { inCookies: true, tokens: change }))
    expect((await koa.browser().get('/token')).json).toMatchObject({ code: 'ERR_CONFIGURATION' })
  })
})
