import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createServer } from 'node:http'
import { after, it } from 'node:test'
import { publicClient } from 'session-token-manager'
import { loggedIn, tokenEndpoint } from 'session-token-manager/testing'

const idp = await tokenEndpoint()
const api = createServer((req, res) => {
  const token = req.headers.authorization?.replace('Bearer ', '') ?? ''
  res.writeHead(idp.isValid(token) ? 200 : 401).end(idp.isValid(token) ? 'three orders' : 'refused')
}).listen(0, '127.0.0.1')
await once(api, 'listening')
process.env.API = `http://127.0.0.1:${api.address().port}`

const { createApp } = await import('./server.js')
const { app, close } = await createApp({
  options: {
    issuer: idp.issuer,
    clientId: 'web',
    clientAuthentication: publicClient(),
    encryptionKeys: false,
  },
  login: loggedIn(() => idp.tokens()),
  secret: 'only for the tests of these examples, no secret at all',
})
const server = app.listen(0, '127.0.0.1')
await once(server, 'listening')
const url = `http://127.0.0.1:${server.address().port}`
after(async () => {
  server.closeAllConnections()
  server.close()
  api.close()
  await close()
  await idp.close()
})

for (const path of ['/orders', '/invoices']) {
  it(`${path}: 50 requests past an expiry make one refresh`, async () => {
    const first = await fetch(url + path)
    assert.equal(first.status, 200)
    const [cookie] = first.headers.getSetCookie()[0].split(';')
    const before = idp.refreshes
    idp.expire()
    const get = async () => (await fetch(url + path, { headers: { cookie } })).text()
    const bodies = await Promise.all(Array.from({ length: 50 }, get))
    assert(bodies.every((body) => body.includes('three orders')))
    assert.deepEqual([idp.refreshes - before, idp.reuses], [1, 0])
  })
}
