import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import Koa from 'koa'
import session from 'koa-session'
import { clientSecretBasic, type SessionTokens, type ValidAccessToken } from 'session-token-manager'
import { requireTokens, sessionTokens } from 'session-token-manager/koa'
import { bearerProxy, upgradesThrough } from 'session-token-manager/proxy'

const sessions = new Map<string, object>()
const store = {
  get: async (key: string) => sessions.get(key),
  set: async (key: string, data: object) => void sessions.set(key, data),
  destroy: async (key: string) => void sessions.delete(key),
}

const app = new Koa()
app.keys = ['for this check alone']
const server = createServer().listen(0, '127.0.0.1')
await once(server, 'listening')
const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`

app.use(async (ctx, next) => {
  if (ctx.path === '/token') ctx.body = { access_token: 'fresh', token_type: 'Bearer', expires_in: 3600 }
  else await next()
})
app.use(session({ store }, app))
app.use(
  sessionTokens({
    tokenEndpoint: `${url}/token`,
    clientId: 'web',
    clientAuthentication: clientSecretBasic('for this check alone'),
    encryptionKeys: false,
    // What an app is given is a context as Koa types it.
    adopt: (ctx) => (ctx.hostname === 'nobody.example' ? ctx.session : undefined),
  }),
)
app.use(async (ctx, next) => {
  if (ctx.path !== '/') return next()
  const tokens: SessionTokens = ctx.tokens
  await tokens.set({ access_token: 'stale', token_type: 'Bearer', refresh_token: 'once', expires_in: 3600 })
  const { token }: ValidAccessToken = await ctx.tokens.getAccessToken({ rejected: 'stale' })
  ctx.body = { token, inSession: ctx.session.tokens !== undefined }
})
app.use(requireTokens({ scope: 'orders.read' }))
app.use(bearerProxy({ target: 'https://api.example.com' }))

server.on('request', app.callback())
server.on('upgrade', upgradesThrough(app.callback()))
const answer = await fetch(url)
assert.deepEqual(await answer.json(), { token: 'fresh', inSession: true })
assert.equal((await fetch(`${url}/guarded`)).status, 401)
server.close()
server.closeAllConnections()
