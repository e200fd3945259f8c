import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { createInterface } from 'node:readline'
import { setTimeout as after } from 'node:timers/promises'
import { afterAll, expect, it } from '@jest/globals'
import { authorizationServer } from '../../examples/demo/authorization-server.js'
import { ordersApi } from '../../examples/demo/orders-api.js'
import { listen } from '../../examples/demo/server.js'
import { setStage } from '../../examples/demo/stage.js'
import { timeline } from '../../examples/demo/timeline.js'
import { browser } from '../helpers/browser.js'
import { firstUrl, killCommands, run } from './commands.js'

const LIFETIME_SECONDS = 8

const closing: (() => Promise<void>)[] = []

afterAll(async () => {
  killCommands()
  for (const close of closing) await close()
})

it("the README's app runs: a login, 50 requests past an expiry, a logout", async () => {
  const port = await freePort()
  const siteUrl = `http://localhost:${port}`
  const stage = await setStage({ siteUrl, accessTokenSeconds: LIFETIME_SECONDS })
  closing.push(() => stage.close())
  const { bff, timeline } = stage
  const refreshes: number[] = []
  timeline.follow((row) => {
    if (row.kind === 'token' && row.request === 'refresh_token') refreshes.push(row.status)
  })
  const child = run(process.execPath, ['--import', 'tsx', 'examples/first-app.js'], {
    // On the sources: another test may be building the package.
    TSX_TSCONFIG_PATH: '__tests__/tsconfig.json',
    ISSUER: bff.issuer,
    CLIENT_ID: bff.clientId,
    CLIENT_SECRET: bff.clientSecret,
    API: bff.api,
    SCOPE: 'openid offline_access orders.read',
    SESSION_SECRET: 'a secret for the cookie',
    SESSION_KEY: randomBytes(32).toString('base64'),
    PORT: `${port}`,
  })
  child.stderr.pipe(process.stderr)
  const line = once(createInterface(child.stdout), 'line').then(([text]) => text)
  const exit = once(child, 'exit').then(([code]) => `ended with ${code}`)
  expect(await Promise.race([line, exit])).toBe(`Open ${siteUrl}`)

  const visitor = browser(siteUrl)
  const loginPage = await visitor.visit('/login')
  const pressed = await visitor.post(loginPage.url)
  const page = await visitor.visit(pressed.headers.get('location') ?? '')
  expect([page.url, page.json.length]).toEqual([`${siteUrl}/`, 3])

  // It is another process: there is no clock to set.
  await after(LIFETIME_SECONDS * 1000)
  const pages = await Promise.all(Array.from({ length: 50 }, () => visitor.get('/')))
  expect(pages.map(({ status }) => status)).toEqual(pages.map(() => 200))
  expect(refreshes).toEqual([200])

  await visitor.post('/logout')
  expect((await visitor.get('/')).status).toBe(401)
}, 60_000)

it('examples/quick-start.ts runs without a build, with an issuer at http://localhost', async () => {
  const port = await freePort()
  const siteUrl = `http://localhost:${port}`
  const [idp, api] = [await listen(0), await listen(0)]
  closing.push(idp.close, api.close)
  const issuer = idp.url.replace('127.0.0.1', 'localhost')
  const client = {
    id: 'web',
    secret: 'hush',
    redirectUris: [`${siteUrl}/callback`],
    authentication: 'client_secret_basic',
  } as const
  const apis = [{ resource: api.url, scope: 'orders.read' }] as const
  const events = timeline()
  idp.use(authorizationServer({ issuer, client, apis, accessTokenSeconds: 60, timeline: events }).listener)
  api.use(ordersApi({ issuer, audience: api.url, warehouse: async () => {} }))
  const child = run(process.execPath, ['--import', 'tsx', 'examples/quick-start.ts'], {
    TSX_TSCONFIG_PATH: '__tests__/tsconfig.json',
    ISSUER: issuer,
    CLIENT_ID: client.id,
    CLIENT_SECRET: client.secret,
    API: api.url,
    SCOPE: 'openid offline_access orders.read',
    SESSION_SECRET: 'a secret for the cookie',
    SESSION_KEY: randomBytes(32).toString('base64'),
    PORT: `${port}`,
  })
  child.stderr.pipe(process.stderr)
  expect(await firstUrl(child.stdout)).toBe(`${siteUrl}/orders`)

  const visitor = browser(siteUrl)
  const loginPage = await visitor.visit('/login?returnTo=/orders')
  expect(new URL(loginPage.url).origin).toBe(issuer)
  const pressed = await visitor.post(loginPage.url)
  const page = await visitor.visit(pressed.headers.get('location') ?? '')
  expect([page.url, page.json.length]).toEqual([`${siteUrl}/orders`, 3])
}, 60_000)

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  server.close()
  await once(server, 'close')
  return port
}
