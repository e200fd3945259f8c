import { afterEach, describe, expect, it } from '@jest/globals'
import express from 'express'
import session from 'express-session'
import type Koa from 'koa'
import koaSession from 'koa-session'
import request from 'supertest'
import { publicClient, sessionTokens, tokenErrors } from '../../lib/index.js'
import * as onKoa from '../../lib/koa.js'
import { type TestTokenEndpoint, tokenEndpoint } from '../../lib/testing.js'
import { expressVersions } from '../helpers/app.js'
import { koaVersions } from '../helpers/koa-site.js'
import { koaMemoryStore } from '../helpers/koa-stores.js'

const closing: (() => Promise<void>)[] = []
afterEach(async () => {
  for (const close of closing.splice(0)) await close()
})

const optionsFor = ({ issuer }: TestTokenEndpoint) => ({
  issuer,
  clientId: 'test',
  clientAuthentication: publicClient(),
  encryptionKeys: false as const,
})

const login = { regenerate: true, keepFields: ['cart', 'tokens', 'none'] }
const parameters = {
  grant_type: 'authorization_code',
  code: 'any',
  redirect_uri: 'http://localhost/callback',
} as const

type MakeApp = (endpoint: TestTokenEndpoint) => NonNullable<Parameters<typeof request.agent>[0]>

const apps: [string, MakeApp][] = [
  ...expressVersions.map(([name, version]): [string, MakeApp] => [
    name,
    (endpoint) => {
      const app = version()
      app.use(session({ secret: 'test', resave: false, saveUninitialized: false }))
      app.use(sessionTokens(optionsFor(endpoint)))
      app.get('/fill', (req, res) => {
        Object.assign(req.session, { cart: [1, 2], visitor: true })
        res.json(req.sessionID)
      })
      app.get('/set', (req, res, next) => {
        const set = async () => {
          await req.tokens.set(endpoint.tokens(), login)
          res.json(req.sessionID)
        }
        set().catch(next)
      })
      app.get('/acquire', (req, res, next) => {
        const acquire = async () => {
          await req.tokens.acquire(parameters, login)
          res.json(req.sessionID)
        }
        acquire().catch(next)
      })
      app.get('/show', (req, res, next) => {
        const { cart, visitor } = req.session as unknown as Record<string, unknown>
        const show = async () =>
          res.json({ cart, visitor, valid: endpoint.isValid((await req.tokens.getAccessToken()).token) })
        show().catch(next)
      })
      app.use(tokenErrors())
      return app
    },
  ]),
  ...koaVersions.map(([name, Version]): [string, MakeApp] => [
    name,
    (endpoint) => {
      const app = new Version()
      app.keys = ['test']
      app.silent = true
      app.use(koaSession({ store: koaMemoryStore() }, app as never) as Koa.Middleware)
      app.use(onKoa.sessionTokens(optionsFor(endpoint)))
      app.use(async (ctx) => {
        if (ctx.path === '/fill') Object.assign(ctx.session!, { cart: [1, 2], visitor: true })
        if (ctx.path === '/set') await ctx.tokens.set(endpoint.tokens(), login)
        if (ctx.path === '/acquire') await ctx.tokens.acquire(parameters, login)
        const { cart, visitor } = ctx.session as unknown as Record<string, unknown>
        ctx.body =
          ctx.path === '/show'
            ? { cart, visitor, valid: endpoint.isValid((await ctx.tokens.getAccessToken()).token) }
            : ''
      })
      return app.callback()
    },
  ]),
]

describe.each(apps)('a login that renews the session id, %s', (_, makeApp) => {
  it.each(['/set', '/acquire'])('%s: the old id is of no use, and the named fields stay', async (path) => {
    const endpoint = await tokenEndpoint()
    closing.push(() => endpoint.close())
    const app = makeApp(endpoint)
    const agent = request.agent(app)
    const cookieOf = ({ headers }: request.Response) =>
      ((headers['set-cookie'] ?? []) as unknown as string[]).map((cookie) => cookie.split(';')[0]).join('; ')
    const before = cookieOf(await agent.get('/fill'))
    const after = cookieOf(await agent.get(path).expect(200))
    expect(after).not.toBe('')
    expect(after).not.toBe(before)
    expect((await agent.get('/show')).body).toEqual({ cart: [1, 2], valid: true })
    expect((await request(app).get('/show').set('Cookie', before)).status).not.toBe(200)

    // A second login ends the grant of the first.
    await agent.get(path).expect(200)
    expect((await agent.get('/show')).body).toEqual({ cart: [1, 2], valid: true })
    expect((await request(app).get('/show').set('Cookie', after)).status).not.toBe(200)
  })
})

describe('the options of set() and acquire()', () => {
  const app = express()
  app.use(
    sessionTokens({
      tokenEndpoint: 'https://idp.example.com/token',
      clientId: 'test',
      clientAuthentication: publicClient(),
      encryptionKeys: false,
      session: () => ({ read: () => undefined, write() {}, clear() {} }),
    }),
  )
  const messages: string[] = []
  app.get('/', async (req) => req.tokens.set({ access_token: 'a' }, JSON.parse(String(req.query.with))))
  app.use(tokenErrors({ onError: ({ message }) => messages.push(message) }))

  it.each<[object, string]>([
    [{ regenerate: true }, 'is not for the option `session`'],
    [{ keepFields: ['cart'] }, 'has no meaning without regenerate: true'],
    [{ regenerate: true, keepFields: 'cart' }, '`keepFields` must be an array of names'],
    [{ regenerate: 'yes' }, '`regenerate` must be true or false'],
    [{ keep: ['cart'] }, 'Did you mean `keepFields`?'],
  ])('%j: %s', async (options, message) => {
    await request(app)
      .get('/')
      .query({ with: JSON.stringify(options) })
      .expect(500)
    expect(messages.at(-1)).toContain(message)
  })
})
