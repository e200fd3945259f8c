// Fastify with @fastify/session. `options` are those of sessionTokens(); `login` takes the place of a login in the test.
import cookie from '@fastify/cookie'
import fastifySession from '@fastify/session'
import fastify from 'fastify'
import { requireTokens, sessionTokens } from 'session-token-manager'

/** A hook of Fastify over a middleware of Express. Fastify's own request takes the place of Node's. */
const hook = (middleware) => (request, reply, done) => void middleware(request, reply.raw, done)

/** Where the tokens are: in the session of @fastify/session. */
const tokensOf = ({ session }) => ({
  read: () => session.get('tokens'),
  write: (text) => save(session, text),
  clear: () => save(session, undefined),
})

async function save(session, text) {
  session.set('tokens', text)
  await session.save()
}

export function createApp({ options, login, secret }) {
  const app = fastify()
  app.register(cookie)
  app.register(fastifySession, { secret, cookie: { secure: 'auto' }, saveUninitialized: false })
  app.register(async (routes) => {
    routes.addHook('onRequest', hook(sessionTokens({ ...options, session: tokensOf })))
    routes.addHook('onRequest', hook(login)) // yours
    routes.get('/orders', { preHandler: hook(requireTokens()) }, async (request) => {
      const { token } = await request.tokens.getAccessToken()
      return { token }
    })
    routes.register(furtherRoutes) // they have these hooks, too
  })
  return app
}

async function furtherRoutes(routes) {
  // Fastify responds with the status of a TokenError, and with its message.
  routes.get('/bills', async (request) => request.tokens.getAccessToken({ scope: 'bills.read' }))
  routes.post('/logout', async (request) => {
    await request.tokens.revoke()
    return {}
  })
}
