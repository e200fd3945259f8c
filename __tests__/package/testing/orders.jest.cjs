const assert = require('node:assert/strict')
const { loggedIn, tokenEndpoint } = require('session-token-manager/testing')
const request = require('supertest')
const { createApp } = require('./app.cjs')

test('a guarded route past expiry: 50 requests, one refresh', async () => {
  const idp = await tokenEndpoint()
  const app = createApp({ issuer: idp.issuer, login: loggedIn(() => idp.tokens()) })
  const server = app.listen(0)
  const agent = request.agent(server)
  await agent.get('/orders').expect(200)
  idp.expire()
  const responses = await Promise.all(Array.from({ length: 50 }, () => agent.get('/orders').expect(200)))
  assert(responses.every(({ body }) => idp.isValid(body.token)))
  assert.deepEqual([idp.refreshes, idp.reuses], [1, 0])
  server.close()
  await idp.close()
})

test('without a login: 401', async () => {
  const idp = await tokenEndpoint()
  const { body } = await request(createApp({ issuer: idp.issuer }))
    .get('/orders')
    .expect(401)
  assert.equal(body.code, 'ERR_NO_TOKENS')
  await idp.close()
})

test('the login can be loaded', () => {
  assert.equal(typeof require('session-token-manager/login').login, 'function')
})
