import { randomBytes } from 'node:crypto'
import cookieSession from 'cookie-session'
import express, { type Express, type Request, type RequestHandler } from 'express'
import { getIronSession, type IronSession, unsealData } from 'iron-session'
import { clientSecretBasic, type SessionTokensOptions, type TokenEvent } from '../../lib/index.js'
import { composeMiddleware } from '../../lib/middleware/composition.js'
import { middlewareOf } from '../../lib/middleware/express.js'
import { seal } from '../../lib/sessions/codec/sealing.js'
import type { Layer } from '../contract/layer-matrix.js'
import type {
  LayerSite,
  LayerSiteOptions,
  SessionLayerDriver,
  Sessions,
  Visit,
} from '../contract/session-layer-driver.js'
import { startApp } from './app.js'
import { type Browser, browser } from './browser.js'
import { cookieLimits } from './cookie-limits.js'
import { keepingEvents } from './events.js'
import { ownProcess } from './site.js'

type Server = Parameters<SessionLayerDriver<Sessions, LayerSite>['start']>[0]
type Data = Record<string, unknown>

/** What one session layer in cookies differs in from another, in an Express app. */
interface CookieLayer {
  readonly name: Layer
  /** What the cookie with the session is called. */
  readonly cookie: string
  /** All its cookies. */
  readonly cookies: readonly string[]
  /** In which configuration it sends back each session, changed or not. */
  readonly eager: string
  middleware(isEager: boolean): RequestHandler
  /** What a handler does with the session of its request. */
  visit(request: Request): Pick<Visit, 'session' | 'save' | 'regenerate' | 'destroy'>
  /** What the app does when a handler is through. */
  after(request: Request): Promise<void>
  decode(cookie: string): Promise<Data>
}

const password = 'a password of iron-session with more than 32 characters'
const ownKeys = [randomBytes(32).toString('base64')]

function expressCookieLayer(layer: CookieLayer): SessionLayerDriver<Sessions, LayerSite> {
  const contentOf = async (tab: Browser): Promise<Data> => {
    const cookie = tab.cookie(layer.cookie) ?? ''
    return cookie === '' ? {} : layer.decode(cookie)
  }
  return {
    name: layer.name,
    layer: layer.name,
    limits: cookieLimits,
    cookies: layer.cookies,
    eager: [layer.eager],
    openSessions: async () => ({ close: async () => {} }),
    async start(server, options) {
      const { open } = seal(options.encryptionKeys ?? ownKeys, `${audienceOf(server)} tokens`)
      const { url, ...site } = await startCookieSite(layer, server, options)
      return {
        ...site,
        browser: (visitor) => withCookies(browser(url), layer.cookies, visitor),
        async stored(tab) {
          const { tokens, ...data } = await contentOf(tab)
          return typeof tokens === 'string' ? { ...data, tokens: open(tokens) } : data
        },
        idOf: (tab) => tab.cookie(layer.cookie) ?? '',
      }
    },
    async remember(_site, _sessions, tab) {
      const then = tab.clone()
      return async () => then.clone()
    },
  }
}

function audienceOf({ clients, tokenEndpoint }: Server): string {
  return `${clients.client_secret_basic.clientId} ${tokenEndpoint}`
}

function withCookies(visiting: Browser, names: readonly string[], visitor?: Browser): Browser {
  for (const name of names) {
    const cookie = visitor?.cookie(name)
    if (cookie !== undefined) visiting.setCookie(name, cookie)
  }
  return visiting
}

async function startCookieSite(
  layer: CookieLayer,
  { clients, revocationEndpoint, tokenEndpoint }: Server,
  { clock, eager, encryptionKeys = ownKeys, grants, surroundings }: LayerSiteOptions<Sessions>,
) {
  const events: TokenEvent[] = []
  const { clientId, clientSecret } = clients.client_secret_basic
  const options: SessionTokensOptions = {
    ...{ tokenEndpoint, revocationEndpoint, clientId },
    clientAuthentication: clientSecretBasic(clientSecret),
    encryptionKeys: [...encryptionKeys],
    onEvent: keepingEvents(events),
    ...(grants && { grants }),
  }
  const middleware = middlewareOf(composeMiddleware(options, ownProcess(clock, surroundings)))
  const handlers = new Map<string, (visit: Visit) => unknown>()
  const app = express()
  app.set('env', 'test')
  app.use(layer.middleware(eager !== undefined), middleware, express.json({ limit: '1mb' }))
  answer(app, layer, handlers)
  const { url, close } = await startApp(() => app)
  return {
    url,
    events,
    handle: (path: string, handler: (visit: Visit) => unknown) => void handlers.set(path, handler),
    async close() {
      await close()
      await middleware.close()
    },
  }
}

function answer(
  app: Express,
  layer: CookieLayer,
  handlers: ReadonlyMap<string, (visit: Visit) => unknown>,
): void {
  app.use(async (request, response, next) => {
    const handler = handlers.get(request.path)
    if (!handler) return next()
    let result: unknown
    try {
      result = await handler(visitOf(request, layer))
    } catch (error) {
      const { status = 500, code, message } = error as { status?: number; code?: string; message: string }
      response.status(status)
      result = { code, message }
    }
    if (response.headersSent) return response.end(JSON.stringify(result ?? null))
    await layer.after(request)
    response.json(result ?? null)
  })
}

function visitOf(request: Request, layer: CookieLayer): Visit {
  const { tokens, body } = request
  const begin = () => void request.res!.write(' ')
  return Object.defineProperties(layer.visit(request), {
    tokens: { value: tokens },
    body: { value: body },
    begin: { value: begin },
  }) as Visit
}

const sessionOf = (request: Request) => (request as unknown as { session: Data }).session

function putSession(request: Request, session: Data | null): void {
  Object.assign(request, { session })
}

/** cookie-session. */
export const cookieSessionLayer = expressCookieLayer({
  name: 'cookie-session',
  cookie: 'session',
  cookies: ['session', 'session.sig'],
  eager: 'changed in each request',
  middleware: (isEager) => (request, response, next) =>
    cookieSession({ keys: ['key'] })(request, response, () => {
      const session = sessionOf(request)
      // As its README has it, to extend the session.
      if (isEager) session.requests = Number(session.requests ?? 0) + 1
      next()
    }),
  visit: (request) => ({
    get session() {
      return sessionOf(request)
    },
    save: async () => {},
    regenerate: async () => putSession(request, { ...sessionOf(request) }),
    destroy: async () => putSession(request, null),
  }),
  after: async () => {},
  decode: async (cookie) => JSON.parse(Buffer.from(cookie, 'base64').toString()),
})

const ironSessionOf = (request: Request) => sessionOf(request) as IronSession<Data>
/** What the sessions of requests held when they came; absent once they are destroyed. */
const asTheyCame = new WeakMap<Request, string>()

/** iron-session, which an app saves when it has changed something. */
export const ironSessionLayer = expressCookieLayer({
  name: 'iron-session',
  cookie: 'iron',
  cookies: ['iron'],
  eager: 'saved in each request',
  middleware: (isEager) => async (request, response, next) => {
    const options = { password, cookieName: 'iron', cookieOptions: { secure: false } }
    const session = await getIronSession<Data>(request, response, options).catch(() => {
      // Of forged cookies it takes some for none, and throws at others.
      delete request.headers.cookie
      return getIronSession<Data>(request, response, options)
    })
    Object.assign(request, { session })
    asTheyCame.set(request, isEager ? '' : JSON.stringify(session))
    next()
  },
  visit: (request) => ({
    session: ironSessionOf(request),
    save: () => ironSessionOf(request).save(),
    regenerate: () => ironSessionOf(request).save(),
    async destroy() {
      ironSessionOf(request).destroy()
      asTheyCame.delete(request)
    },
  }),
  async after(request) {
    const before = asTheyCame.get(request)
    if (before === undefined || before === JSON.stringify(ironSessionOf(request))) return
    await ironSessionOf(request).save()
  },
  decode: (cookie) => unsealData<Data>(decodeURIComponent(cookie), { password }),
})
