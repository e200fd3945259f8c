import { randomBytes } from 'node:crypto'
import type { Request } from 'express'
import type { Store } from 'express-session'
import type { Context, Next } from 'koa'
import { seal } from '../../lib/sessions/codec/sealing.js'
import type { Layer, Limits } from '../contract/layer-matrix.js'
import type {
  LayerSite,
  LayerSiteOptions,
  SessionLayerDriver,
  Sessions,
  StoredLayerSite,
  Visit,
} from '../contract/session-layer-driver.js'
import type { Browser } from './browser.js'
import { cookieLimits } from './cookie-limits.js'
import { KOA_COOKIE, type KoaSiteOptions, startKoaSite } from './koa-site.js'
import { koaMemoryStore } from './koa-stores.js'
import { destroyed, regeneratedWithData, saved } from './session-deeds.js'
import { sharedSessions, startSite } from './site.js'
import { readSession, sessionIdOf } from './stores.js'

function tokenOptions({
  encryptionKeys,
  grants,
}: Pick<LayerSiteOptions<Sessions>, 'encryptionKeys' | 'grants'>) {
  return { ...(encryptionKeys && { encryptionKeys: [...encryptionKeys] }), ...(grants && { grants }) }
}

interface ExpressSessions extends Sessions {
  /** A store over the sessions, as another process would open it. */
  open(): Store
}

/** Sessions of express-session, in any store that can be opened several times. */
export function expressSessionLayer(
  layer: Layer,
  openSessions: () => Promise<ExpressSessions>,
  limits: Limits = {},
): SessionLayerDriver<ExpressSessions, StoredLayerSite> {
  const idOf = (tab: Browser) => sessionIdOf(tab.cookie('connect.sid'))
  const resave = 'resave: true'

  async function start(
    server: Parameters<typeof startSite>[0],
    { sessions, clock, surroundings, eager, ...options }: LayerSiteOptions<ExpressSessions>,
  ): Promise<StoredLayerSite> {
    const site = await startSite(server, {
      store: sessions.open(),
      session: { resave: eager === resave },
      clock,
      surroundings,
      tokens: tokenOptions(options),
    })
    return {
      events: site.events,
      handle: (path, handler) =>
        site.handle(path, (request) => answered(request, handler(expressVisit(request)))),
      browser: (visitor) => site.browser(visitor),
      stored: async (tab) => withoutCookie(await readSession(sessions.open(), idOf(tab))),
      idOf,
      close: () => site.close(),
      store: {
        holdWrites: () => site.store.hold('set'),
        holdReads: () => site.store.hold('get'),
        writes: () => site.store.count('set'),
        failNextWrite: () => site.store.failNext('set'),
        failWrites: () => site.store.failAll('set'),
      },
    }
  }

  return {
    name: `express-session with ${layer}`,
    layer,
    limits,
    cookies: ['connect.sid'],
    eager: [resave],
    openSessions,
    start,
    async remember(_site, sessions, tab) {
      const then = await readSession(sessions.open(), idOf(tab))
      return async () => {
        await new Promise((resolve) => sessions.open().set(idOf(tab), then!, resolve))
        return tab
      }
    },
  }
}

/** Ends an answer that has begun; the site answers otherwise. */
async function answered({ res }: Request, result: unknown): Promise<unknown> {
  const value = await result
  if (res!.headersSent) res!.end(JSON.stringify(value ?? null))
  return value
}

/** express-session with its own store in memory. */
export const expressMemoryLayer = expressSessionLayer('MemoryStore', async () => ({
  open: sharedSessions(),
  close: async () => {},
}))

function expressVisit(request: Request): Visit {
  return {
    tokens: request.tokens,
    get session() {
      return request.session as unknown as Record<string, unknown>
    },
    save: () => saved(request),
    regenerate: () => regeneratedWithData(request),
    destroy: () => destroyed(request),
    begin: () => void request.res!.write(' '),
    body: request.body,
  }
}

function withoutCookie(stored: object | undefined): Record<string, unknown> | undefined {
  const { cookie: _, ...data } = (stored ?? {}) as Record<string, unknown>
  return stored && data
}

interface KoaSessions extends Sessions {
  readonly sessions: Map<string, unknown>
}

const koaCookies = [KOA_COOKIE, `${KOA_COOKIE}.sig`]

const koaEager: Record<string, KoaSiteOptions> = {
  'rolling: true': { session: { rolling: true } },
  'renew: true': { session: { renew: true }, before: nearlyExpired },
}

/** koa-session in a store. */
export function koaStoreLayer(
  name: string,
  options: Pick<KoaSiteOptions, 'Koa' | 'koaSession' | 'session'> & { references?: boolean },
): SessionLayerDriver<KoaSessions, StoredLayerSite> {
  const idOf = (tab: Browser) => tab.cookie(KOA_COOKIE) ?? ''
  const openStore = ({ sessions }: KoaSessions) => koaMemoryStore(sessions, options)

  async function start(
    server: Parameters<typeof startKoaSite>[0],
    { sessions, clock, surroundings, eager = '', ...tokens }: LayerSiteOptions<KoaSessions>,
  ): Promise<StoredLayerSite> {
    const { session, ...rest } = koaEager[eager] ?? {}
    const store = openStore(sessions)
    const site = await startKoaSite(server, {
      ...options,
      ...rest,
      session: { ...options.session, ...session },
      store,
      clock,
      surroundings,
      tokens: tokenOptions(tokens),
    })
    return {
      events: site.events,
      handle: (path, handler) => site.handle(path, async (ctx) => handler(await koaVisit(ctx))),
      browser: (visitor) => site.browser(visitor),
      stored: async (tab) => openStore(sessions).peek(idOf(tab)),
      idOf,
      close: () => site.close(),
      store: {
        holdWrites: () => store.hold('set'),
        holdReads: () => store.hold('get'),
        writes: () => store.calls.filter(({ method }) => method === 'set').length,
        failNextWrite: () => store.failNext('set'),
        failWrites: () => store.failAll('set'),
      },
    }
  }

  return {
    name,
    layer: 'koa-session, store',
    limits: {},
    cookies: koaCookies,
    eager: Object.keys(koaEager),
    openSessions: async () => ({ sessions: new Map(), close: async () => {} }),
    start,
    async remember(_site, sessions, tab) {
      const then = structuredClone(openStore(sessions).peek(idOf(tab))!)
      return async () => {
        openStore(sessions).poke(idOf(tab), structuredClone(then))
        return tab
      }
    },
  }
}

/** More than half of the session's lifetime has passed. */
function nearlyExpired(ctx: Context, next: Next): Promise<void> {
  if (!ctx.session.isNew) ctx.session._expire = Date.now() + 1_000
  return next()
}

/** koa-session in cookies. */
export function koaCookieLayer(
  name: string,
  options: Pick<KoaSiteOptions, 'Koa' | 'koaSession'>,
): SessionLayerDriver<Sessions, LayerSite> {
  const ownKeys = [randomBytes(32).toString('base64')]

  async function start(
    server: Parameters<typeof startKoaSite>[0],
    { clock, surroundings, eager = '', encryptionKeys = ownKeys, grants }: LayerSiteOptions<Sessions>,
  ): Promise<LayerSite> {
    const site = await startKoaSite(server, {
      ...options,
      ...koaEager[eager],
      inCookies: true,
      clock,
      surroundings,
      tokens: tokenOptions({ encryptionKeys, ...(grants && { grants }) }),
    })
    const { clientId } = server.clients.client_secret_basic
    const { open } = seal(encryptionKeys, `${clientId} ${server.tokenEndpoint} tokens`)
    return {
      events: site.events,
      handle: (path, handler) => site.handle(path, async (ctx) => handler(await koaVisit(ctx))),
      browser: (visitor) => site.browser(visitor),
      async stored(tab) {
        const { tokens, ...data } = site.stored(tab) ?? {}
        return typeof tokens === 'string' ? { ...data, tokens: open(tokens) } : data
      },
      idOf: (tab) => tab.cookie(KOA_COOKIE) ?? '',
      close: () => site.close(),
    }
  }

  return {
    name,
    layer: 'koa-session, cookies',
    limits: cookieLimits,
    cookies: koaCookies,
    eager: Object.keys(koaEager),
    openSessions: async () => ({ close: async () => {} }),
    start,
    async remember(_site, _sessions, tab) {
      const then = tab.clone()
      return async () => then.clone()
    },
  }
}

async function koaVisit(ctx: Context): Promise<Visit> {
  return {
    tokens: ctx.tokens,
    get session() {
      return ctx.session
    },
    save: () => ctx.session.save(),
    regenerate: () => ctx.session.regenerate(),
    async destroy() {
      ctx.session = null
    },
    begin() {
      ctx.status = 200
      ctx.res.write(' ')
    },
    body: await bodyOf(ctx),
  }
}

async function bodyOf({ req }: Context): Promise<unknown> {
  const chunks = await req.toArray()
  const text = Buffer.concat(chunks).toString()
  return text === '' ? undefined : JSON.parse(text)
}
