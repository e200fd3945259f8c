// Hono on Node, with express-session. `options` are those of sessionTokens(); `login` takes the place of a login in the test.
import { RESPONSE_ALREADY_SENT } from '@hono/node-server/utils/response'
import session from 'express-session'
import { Hono } from 'hono'
import { requireTokens, sessionTokens, tokenErrors } from 'session-token-manager'

/** A middleware of Hono over one of Express. It ends the request if the middleware has responded. */
const express = (middleware) => async (c, next) => {
  const { incoming, outgoing } = c.env
  const passes = await new Promise((resolve, reject) => {
    outgoing.once('finish', () => resolve(false))
    middleware(incoming, outgoing, (error) => (error ? reject(error) : resolve(true)))
  })
  if (!passes) return RESPONSE_ALREADY_SENT
  c.set('tokens', incoming.tokens)
  await next()
}

export function createApp({ options, login, secret }) {
  const app = new Hono()
  app.use(express(session({ secret, resave: false, saveUninitialized: false })))
  app.use(express(sessionTokens(options)))
  app.use(express(login))
  app.get('/orders', express(requireTokens()), async (c) => {
    const { token } = await c.get('tokens').getAccessToken()
    return c.json({ token })
  })
  app.get('/bills', async (c) => c.json(await c.get('tokens').getAccessToken({ scope: 'bills.read' })))
  app.post('/logout', async (c) => {
    await c.get('tokens').revoke()
    return c.json({})
  })
  const respond = tokenErrors()
  app.onError((error, c) => {
    const { incoming, outgoing } = c.env
    return new Promise((resolve, reject) => {
      outgoing.once('finish', () => resolve(RESPONSE_ALREADY_SENT))
      respond(error, incoming, outgoing, reject) // other errors are for Hono
    })
  })
  return app
}
