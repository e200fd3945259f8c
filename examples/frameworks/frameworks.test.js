import assert from 'node:assert/strict'
import { after, describe, it } from 'node:test'
import { serve } from '@hono/node-server'
import { publicClient } from 'session-token-manager'
import { loggedIn, tokenEndpoint } from 'session-token-manager/testing'
import { createApp as fastify } from './fastify.js'
import { createApp as hono } from './hono.js'
import { createApp as nest } from './nest.js'

const secret = 'only for the tests of these examples, no secret at all'

/** Starts an app on a free port. Resolves with its address and how to stop it. */
const frameworks = {
  async fastify(parts) {
    const app = fastify(parts)
    return { url: await app.listen({ host: '127.0.0.1', port: 0 }), close: () => app.close() }
  },
  async hono(parts) {
    const { fetch } = hono(parts)
    return new Promise((resolve) => {
      const server = serve({ fetch, hostname: '127.0.0.1', port: 0 }, ({ port }) =>
        resolve({
          url: `http://127.0.0.1:${port}`,
          close: () => server.closeAllConnections() ?? server.close(),
        }),
      )
    })
  },
  async nest(parts) {
    const app = await nest(parts)
    await app.listen(0, '127.0.0.1')
    return { url: await app.getUrl(), close: () => app.close() }
  },
}

for (const [name, start] of Object.entries(frameworks)) {
  describe(name, async () => {
    const idp = await tokenEndpoint()
    let isVisitor = false
    const login = loggedIn(() => idp.tokens({ scope: 'orders.read' }))
    const app = await start({
      options: {
        issuer: idp.issuer,
        clientId: 'web',
        clientAuthentication: publicClient(),
        encryptionKeys: false,
      },
      login: (req, res, next) => (isVisitor ? next() : login(req, res, next)),
      secret,
    })
    after(() => Promise.all([app.close(), idp.close()]))

    it('50 requests past an expiry: one refresh, and all have a valid token', async () => {
      const first = await fetch(`${app.url}/orders`)
      assert.equal(first.status, 200)
      const [cookie] = first.headers.getSetCookie()[0].split(';')
      const get = async () => (await fetch(`${app.url}/orders`, { headers: { cookie } })).json()
      idp.expire()
      const bodies = await Promise.all(Array.from({ length: 50 }, get))
      assert(bodies.every(({ token }) => idp.isValid(token)))
      assert.deepEqual([idp.refreshes, idp.reuses], [1, 0])
      await fetch(`${app.url}/logout`, { method: 'POST', headers: { cookie } })
      isVisitor = true
      const { status } = await fetch(`${app.url}/orders`, { headers: { cookie } })
      assert.equal(status, 401)
    })

    it('a visitor gets 401, and a problem body or at least no endpoint', async () => {
      isVisitor = true
      for (const path of ['/orders', '/bills']) {
        const response = await fetch(app.url + path)
        const body = await response.json()
        assert.equal(response.status, 401)
        assert.equal(body.code, 'ERR_NO_TOKENS')
        assert(!JSON.stringify(body).includes('127.0.0.1'))
      }
    })
  })
}
