import { afterEach, describe, expect, it } from '@jest/globals'
import cookieSession from 'cookie-session'
import express, { type Express, type Request } from 'express'
import Koa from 'koa'
import koaSession from 'koa-session'
import { sessionTokens } from '../../lib/index.js'
import { sessionTokens as koaTokens } from '../../lib/koa.js'
import { login } from '../../lib/login.js'
import type { Browser } from '../helpers/browser.js'
import { koaMemoryStore } from '../helpers/koa-stores.js'
import { type LoginSite, type LoginSiteOptions, SCOPE, startLoginSite } from '../helpers/login-site.js'

let site: LoginSite
afterEach(() => site.close())

/** Pages that a visitor may open, too. */
function routes(app: Express): void {
  app.get('/fill', ({ session }: Request, response) => {
    response.json(Object.assign(session as object, { cart: ['book'], notes: 'mine' }))
  })
  app.get('/data', ({ session }: Request, response) => {
    const { cart, notes } = session as { cart?: unknown; notes?: unknown }
    response.json({ cart, notes })
  })
  app.get('/forget', ({ tokens }: Request, response, next) => {
    tokens.clear().then(() => response.json(null), next)
  })
}

const options: LoginSiteOptions = {
  routes,
  login: {
    keepFields: ['cart', 'id', 'cookie', 'login'],
    authorization: (({ query }: Request) => ({
      scope: SCOPE,
      prompt: 'login consent',
      login_hint: query.user as string,
    })) as never,
  },
}

async function enter(visitor: Browser, user: string): Promise<void> {
  const page = await site.step(visitor, await site.begin(visitor, `/login?user=${user}&returnTo=/data`))
  expect([page.status, page.headers.get('location')]).toEqual([303, '/data'])
}

describe('keepFields', () => {
  it('keeps the named fields of a visitor, in a session with another id', async () => {
    site = await startLoginSite(options)
    const visitor = site.browser()
    await visitor.get('/fill')
    const before = visitor.cookie('connect.sid')
    await enter(visitor, 'alice')
    expect((await visitor.get('/data')).json).toEqual({ cart: ['book'] })
    expect(visitor.cookie('connect.sid')).not.toBe(before)
    expect((await visitor.get('/session')).json.user).toEqual({ sub: 'alice' })
  })

  it('keeps nothing without the option', async () => {
    site = await startLoginSite({ ...options, login: { ...options.login!, keepFields: [] } })
    const visitor = site.browser()
    await visitor.get('/fill')
    await enter(visitor, 'alice')
    expect((await visitor.get('/data')).json).toEqual({})
  })

  it('keeps everything for the user who is logged in', async () => {
    site = await startLoginSite(options)
    const visitor = site.browser()
    await enter(visitor, 'alice')
    await visitor.get('/fill')
    await enter(visitor, 'alice')
    expect((await visitor.get('/data')).json).toEqual({ cart: ['book'], notes: 'mine' })
  })

  it.each([
    ['is logged in', []],
    ['was logged in, and whose tokens are gone', ['/forget']],
  ])('keeps nothing of another user who %s', async (_, paths) => {
    site = await startLoginSite(options)
    const visitor = site.browser()
    await enter(visitor, 'alice')
    await visitor.get('/fill')
    for (const path of paths) await visitor.get(path)
    // The same session, and no login at the provider.
    const other = site.browser()
    other.setCookie('connect.sid', visitor.cookie('connect.sid')!)
    expect((await other.get('/data')).json).toEqual({ cart: ['book'], notes: 'mine' })
    await enter(other, 'bob')
    expect((await other.get('/data')).json).toEqual({})
    expect((await other.get('/session')).json.user).toEqual({ sub: 'bob' })
  })

  it('keeps nothing of a session whose tokens are not of login()', async () => {
    site = await startLoginSite({
      ...options,
      routes(app) {
        routes(app)
        app.get('/hand-over', ({ tokens }: Request, response, next) => {
          tokens.set({ access_token: 'x', expires_in: 600 }).then(() => response.json(null), next)
        })
      },
    })
    const visitor = site.browser()
    await visitor.get('/fill')
    await visitor.get('/hand-over')
    await enter(visitor, 'alice')
    expect((await visitor.get('/data')).json).toEqual({})
  })

  it.each([
    ['alice', 'who has logged in before'],
    ['carol', 'who has not'],
  ])('keeps nothing of a user whom the app has put into the session: %s logs in, %s', async (next) => {
    site = await startLoginSite({
      ...options,
      routes(app) {
        routes(app)
        app.get('/become-bob', ({ tokens }: Request, response, next) => {
          const bob = site.provider.login('bob')
          bob.then((given) => tokens.set(given)).then(() => response.json(null), next)
        })
      },
    })
    const visitor = site.browser()
    await enter(visitor, 'alice')
    await visitor.get('/become-bob')
    await visitor.get('/fill')
    const other = site.browser()
    other.setCookie('connect.sid', visitor.cookie('connect.sid')!)
    await enter(other, next)
    expect((await other.get('/data')).json).toEqual({})
  })

  const koa = ({ tokens, login: given }: Parameters<NonNullable<LoginSiteOptions['app']>>[0]) => {
    const app = new Koa()
    app.keys = ['test']
    app.use(koaSession({ store: koaMemoryStore() }, app))
    app.use(koaTokens(tokens))
    app.use(login(given as never))
    app.use((ctx) => {
      if (ctx.path === '/fill') Object.assign(ctx.session!, { cart: ['book'], notes: 'mine' })
      const { cart, notes } = ctx.session!
      ctx.body = { cart, notes }
    })
    return app.callback()
  }
  const inCookie = ({ tokens, login: given }: Parameters<NonNullable<LoginSiteOptions['app']>>[0]) => {
    const app = express()
    app.use(cookieSession({ keys: ['test'] }))
    app.use(sessionTokens(tokens))
    app.use(login(given as never))
    routes(app)
    return app
  }
  it.each([
    ['koa-session with a store', koa],
    ['cookie-session', inCookie],
  ])('keeps the named fields over %s', async (_, app) => {
    site = await startLoginSite({ ...options, app })
    const visitor = site.browser()
    await visitor.get('/fill')
    await enter(visitor, 'alice')
    expect((await visitor.get('/data')).json).toEqual({ cart: ['book'] })
  })
})
