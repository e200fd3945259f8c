import { randomBytes } from 'node:crypto'
import type { IncomingMessage, Server, ServerResponse } from 'node:http'
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals'
import Koa from 'koa'
import koaSession from 'koa-session'
import request from 'supertest'
import { publicClient } from '../../lib/index.js'
import { requireTokens, sessionTokens } from '../../lib/koa.js'
import { login } from '../../lib/login.js'
import { bearerProxy } from '../../lib/proxy.js'
import { loggedIn, type TestTokenEndpoint, tokenEndpoint } from '../../lib/testing.js'
import { type HttpServer, serve } from '../helpers/http-server.js'

/** What koa-mount does: removes the prefix from the path, and puts it back for the middleware behind it. */
function mount(prefix: string, middleware: Koa.Middleware): Koa.Middleware {
  return async (ctx, next) => {
    const before = ctx.path
    const after = below(prefix, before)
    if (after === undefined) return next()
    ctx.path = after
    await middleware(ctx, async () => {
      ctx.path = before
      await next()
      ctx.path = after
    })
    ctx.path = before
  }
}

function below(prefix: string, path: string): string | undefined {
  if (!path.startsWith(prefix)) return undefined
  const rest = path.slice(prefix.length) || '/'
  return prefix.endsWith('/') || rest.startsWith('/') ? rest : undefined
}

let idp: TestTokenEndpoint
let api: HttpServer
const asked: IncomingMessage[] = []
const servers: Server[] = []
/** The path that middleware behind the mounts sees. */
const behind: string[] = []

beforeAll(async () => {
  idp = await tokenEndpoint()
  api = await serve(() => (req: IncomingMessage, res: ServerResponse) => {
    asked.push(req)
    res.end('[]')
  })
})
afterAll(async () => {
  for (const server of servers) server.close()
  await Promise.all([idp.close(), api.down()])
})

/** An app, all of it below a path: the library, a login, a guard and a proxy. */
function appAt(prefix: string, { isLoggedIn = true, proxyAt = `${prefix}/orders` } = {}) {
  const app = new Koa()
  app.keys = ['test']
  const client = {
    issuer: idp.issuer,
    clientId: 'web',
    encryptionKeys: [randomBytes(32)],
    clientAuthentication: publicClient(),
  }
  const baseUrl = `http://127.0.0.1:3000${prefix}`
  app.use(mount(prefix, koaSession(app)))
  app.use(mount(prefix, sessionTokens(client)))
  app.use(mount(prefix, login({ ...client, baseUrl }) as Koa.Middleware))
  if (isLoggedIn)
    app.use(mount(prefix, loggedIn(() => idp.tokens({ scope: 'orders.read' })) as Koa.Middleware))
  app.use(mount(`${prefix}/orders`, requireTokens({ scope: 'orders.read', loginPath: `${prefix}/login` })))
  app.use(mount(proxyAt, bearerProxy({ target: `${api.url}/v1/orders` })))
  app.use((ctx) => {
    behind.push(ctx.path)
    ctx.body = 'behind'
  })
  servers.push(app.listen(0))
  return request.agent(servers.at(-1))
}

describe('a Koa app below a path of koa-mount', () => {
  it('50 requests past an expiry: one refresh, and the API gets the path below the mount', async () => {
    const agent = appAt('/shop')
    await agent.get('/shop/orders/7?all=1').expect(200)
    idp.expire()
    asked.length = 0
    const before = idp.refreshes
    await Promise.all(Array.from({ length: 50 }, () => agent.get('/shop/orders/7?all=1').expect(200)))
    expect([idp.refreshes - before, idp.reuses]).toEqual([1, 0])
    expect(new Set(asked.map(({ url }) => url))).toEqual(new Set(['/v1/orders/7?all=1']))
    expect(asked.every(({ headers }) => idp.isValid(headers.authorization!.slice('Bearer '.length)))).toBe(
      true,
    )
  })

  it.each([
    ['/shop/orders', '/v1/orders'],
    ['/shop/orders/', '/v1/orders/'],
    ['/shop/orders?all=1', '/v1/orders?all=1'],
    ['/shop/orders//7', '/v1/orders//7'],
  ])('%s is %s at the API', async (path, atApi) => {
    asked.length = 0
    await appAt('/shop').get(path).expect(200)
    expect(asked.map(({ url }) => url)).toEqual([atApi])
  })

  it.each(['/shop/orders/../admin', '/shop/orders/%2e%2e/admin'])('no path leads out: %s', async (path) => {
    asked.length = 0
    await appAt('/shop').get(path)
    expect(asked).toEqual([])
  })

  it('a mount that ends with a slash takes none from the path that the guards have seen', async () => {
    asked.length = 0
    await appAt('/shop', { proxyAt: '/shop/orders/' }).get('/shop/orders//admin').expect(400)
    expect(asked).toEqual([])
  })

  it('middleware behind the mounts sees the whole path', async () => {
    behind.length = 0
    await appAt('/shop').get('/shop/other').expect(200)
    expect(behind).toEqual(['/shop/other'])
  })

  it('the login comes back to the whole path, and its own paths are below that of baseUrl', async () => {
    const agent = appAt('/shop', { isLoggedIn: false })
    const { headers } = await agent.get('/shop/orders/7?all=1').set('Accept', 'text/html').expect(302)
    expect(headers.location).toBe('/shop/login?returnTo=%2Fshop%2Forders%2F7%3Fall%3D1')
    const begun = await agent.get(headers.location!)
    expect(begun.status).not.toBe(404)
    expect(begun.text).not.toBe('behind')
    await agent.get('/login').expect(200, 'behind')
  })
})
