import Koa, { type Context } from 'koa'
import session from 'koa-session'
import { clientSecretBasic } from 'session-token-manager'
import { sessionTokens } from 'session-token-manager/koa'
import { CLIENT_ID, CLIENT_SECRET } from '../authorization-server.js'
import type { BuildSite, SiteOptions } from './contenders.js'
import { LOGIN, RESPONSE } from './work.js'

export const limit: BuildSite = () => {
  const app = appWithSessions()
  app.use((_context, next) => next())
  return respondWith(app, {
    logIn: (context) => {
      context.session.data = 'a'.repeat(1200)
    },
    handle: () => Promise.resolve(),
  })
}

export const mounted: BuildSite = (options) =>
  respondWith(appWithTokens(options), { logIn, handle: () => undefined })

export const token: BuildSite = (options) =>
  respondWith(appWithTokens(options), { logIn, handle: (context) => context.tokens.getAccessToken() })

function logIn(context: Context): Promise<void> {
  return context.tokens.acquire({ grant_type: 'password', ...LOGIN })
}

function respondWith(
  app: Koa,
  { logIn, handle }: { logIn(context: Context): unknown; handle(context: Context): unknown },
) {
  app.use(async (context) => {
    await (context.path === '/login' ? logIn(context) : handle(context))
    context.body = RESPONSE
  })
  return app.callback()
}

function appWithTokens({ issuer }: SiteOptions): Koa {
  const app = appWithSessions()
  return app.use(
    sessionTokens({
      issuer,
      clientId: CLIENT_ID,
      clientAuthentication: clientSecretBasic(CLIENT_SECRET),
      encryptionKeys: false,
    }),
  )
}

/** As express-session's MemoryStore does, it keeps the text of a session. */
function appWithSessions(): Koa {
  const app = new Koa()
  app.keys = ['bench']
  const sessions = new Map<string, string>()
  const store = {
    get: async (key: string) => JSON.parse(sessions.get(key) ?? 'null'),
    set: async (key: string, data: unknown) => void sessions.set(key, JSON.stringify(data)),
    destroy: async (key: string) => void sessions.delete(key),
  }
  return app.use(session({ store }, app))
}
