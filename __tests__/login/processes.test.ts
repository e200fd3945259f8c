import { afterEach, expect, it } from '@jest/globals'
import express from 'express'
import session from 'express-session'
import { type GrantStore, sessionTokens } from '../../lib/index.js'
import { type LoginError, login } from '../../lib/login.js'
import { type LoginSite, NAVIGATION, startLoginSite } from '../helpers/login-site.js'
import { recordingGrants } from '../helpers/site.js'

let site: LoginSite
const reasons: string[] = []
const closers: (() => Promise<unknown>)[] = []
afterEach(async () => {
  await site.close()
  for (const close of closers.splice(0)) await close()
  reasons.length = 0
})

/** A site of two processes: a request names its own by a header. They share the sessions and the grant store. */
async function start(grants: GrantStore): Promise<void> {
  const store = new session.MemoryStore()
  site = await startLoginSite({
    app(settings) {
      const processes = ['one', 'two'].map(() => {
        const app = express()
        app.use(session({ secret: 'test', resave: false, saveUninitialized: false, store }))
        const tokens = sessionTokens({ ...settings.tokens, grants })
        closers.push(() => tokens.close())
        app.use(tokens)
        const onFailure = ({ reason }: LoginError) => void reasons.push(reason)
        app.use(login({ ...settings.login, onFailure } as never))
        app.get('/', (request, response) => void response.json({ loggedIn: request.tokens.hasTokens() }))
        return app
      })
      return (request, response) =>
        processes[request.headers['x-process'] === 'two' ? 1 : 0]!(request, response)
    },
  })
}

const onTwo = { headers: { ...NAVIGATION.headers, 'x-process': 'two' } }

it('S110 a callback that comes twice, in two processes at once, presents its code once: the login is kept', async () => {
  await start(recordingGrants())
  const visitor = site.browser()
  const again = visitor.clone()
  const callback = await site.begin(visitor)
  const copy = visitor.clone()
  const before = site.provider.tokenRequests.length
  const response = site.provider.holdAnswer()
  const first = site.step(visitor, callback)
  await response.reached
  const second = await copy.get(callback, onTwo)
  expect([second.status, reasons]).toEqual([400, ['used']])
  response.release()
  expect((await first).headers.get('location')).toBe('/orders')
  expect(site.provider.tokenRequests.length - before).toBe(1)
  expect(site.provider.endedGrants).toEqual([])
  expect((await visitor.get('/', onTwo)).json).toEqual({ loggedIn: true })
  expect((await again.get('/')).json).toEqual({ loggedIn: false })
})

it('a login goes on while the grant store fails to note it', async () => {
  const grants = recordingGrants()
  let calls = 0
  const commit: GrantStore['commit'] = (...args) =>
    calls++ === 0 ? Promise.reject(new Error('down')) : grants.commit(...args)
  await start({ ...grants, commit })
  const visitor = await site.loggedIn()
  expect((await visitor.get('/')).json).toEqual({ loggedIn: true })
  expect(calls).toBeGreaterThan(1)
})
