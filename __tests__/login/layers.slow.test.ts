import { describe, expect, it } from '@jest/globals'
import cookieSession from 'cookie-session'
import express from 'express'
import session from 'express-session'
import { getIronSession } from 'iron-session'
import Koa, { type Context } from 'koa'
import koaSession from 'koa-session'
import { StepUpError, sessionTokens } from '../../lib/index.js'
import { sessionTokens as koaTokens } from '../../lib/koa.js'
import { login, stepUp } from '../../lib/login.js'
import { expressVersions } from '../helpers/app.js'
import { koaVersions } from '../helpers/koa-site.js'
import { koaMemoryStore } from '../helpers/koa-stores.js'
import { type AppSettings, type LoginSiteOptions, NAVIGATION, startLoginSite } from '../helpers/login-site.js'

const PASSWORD = 'a password of more than thirty-two characters'

/** An Express app over a session layer. */
function expressApp(layer: (app: express.Express) => void, version = express) {
  return ({ tokens, login: options }: AppSettings) => {
    const app = version()
    app.set('env', 'test')
    layer(app)
    app.use(sessionTokens(tokens))
    const auth = login(options)
    app.use(auth)
    app.get('/', (request, response) => void response.json(request.tokens.idTokenClaims?.sub ?? null))
    app.get('/strong', () => {
      throw new StepUpError({ maxAge: 600 })
    })
    app.use(stepUp(auth))
    return app
  }
}

/** A Koa app, with sessions in a store or in cookies. */
function koaApp(version: typeof Koa, optionsOf: () => object) {
  return ({ tokens, login: given }: AppSettings) => {
    const app = new version()
    app.silent = true
    app.keys = ['test']
    app.use(koaSession(optionsOf() as never, app))
    app.use(koaTokens(tokens))
    const auth = login<Context>(given as never)
    app.use(stepUp(auth))
    app.use(auth)
    app.use((ctx) => {
      if (ctx.path === '/strong') throw new StepUpError({ maxAge: 600 })
      ctx.body = JSON.stringify(ctx.tokens.idTokenClaims?.sub ?? null)
    })
    return app.callback()
  }
}

const stored = (app: express.Express) =>
  void app.use(session({ secret: 'test', resave: false, saveUninitialized: false }))

const layers: [string, LoginSiteOptions['app'], cookie: string][] = [
  ...expressVersions.map(([name, version]): [string, LoginSiteOptions['app'], string] => [
    `express-session, ${name}`,
    expressApp(stored, version),
    'connect.sid',
  ]),
  ['cookie-session', expressApp((app) => void app.use(cookieSession({ keys: ['test'] }))), 'session'],
  [
    'iron-session',
    expressApp((app) => {
      app.use(async (request, response, next) => {
        const options = { password: PASSWORD, cookieName: 'iron', cookieOptions: { secure: false } }
        Object.assign(request, { session: await getIronSession(request, response, options) })
        next()
      })
    }),
    'iron',
  ],
  ...koaVersions.map(([name, version]): [string, LoginSiteOptions['app'], string] => [
    `koa-session with a store, ${name}`,
    koaApp(version, () => ({ store: koaMemoryStore() })),
    'koa.sess',
  ]),
  ['koa-session in cookies', koaApp(Koa, () => ({})), 'koa.sess'],
]

describe.each(layers)('login() over %s', (_, app, cookie) => {
  it.each(['cookie', 'session'] as const)(
    'logs in, steps up and logs out; a login that is under way is in a %s',
    async (transactions) => {
      const site = await startLoginSite({ app: app!, login: { transactions } })
      try {
        const visitor = site.browser()
        const callback = await site.begin(visitor, '/login?returnTo=/')
        const before = visitor.cookie(cookie)
        expect((await site.step(visitor, callback)).headers.get('location')).toBe('/')
        expect(visitor.cookie(cookie)).not.toBe(before)
        expect((await visitor.get('/')).json).toBe('alice')
        expect((await visitor.get('/session')).json.user).toEqual({ sub: 'alice' })
        expect((await site.step(visitor, callback)).headers.get('location')).toBe('/')

        const { json, status } = await visitor.get('/strong')
        expect([status, json.login]).toEqual([401, expect.stringMatching(/^\/login\?stepUp=/)])
        const again = await site.step(visitor, await site.begin(visitor, `${json.login}&returnTo=/`))
        expect(again.headers.get('location')).toBe('/')
        const strong = await site.step(visitor, '/strong')
        // The requirement has just been met, so the error is the app's.
        expect([strong.status, strong.headers.get('location')]).toEqual([401, null])

        const page = await visitor.post('/logout', undefined, NAVIGATION)
        expect(page.headers.get('location')).toContain('/session/end')
        expect((await visitor.get('/')).json).toBe(null)
        expect(site.failures).toEqual([])
      } finally {
        await site.close()
      }
    },
  )
})
