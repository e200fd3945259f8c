import { randomUUID } from 'node:crypto'
import express, { type Request, type RequestHandler } from 'express'
import { clientSecretBasic, type SessionTokensOptions, type TokenEvent } from '../../lib/index.js'
import { composeMiddleware } from '../../lib/middleware/composition.js'
import { middlewareOf } from '../../lib/middleware/express.js'
import type { Limits } from '../contract/layer-matrix.js'
import type {
  LayerSiteOptions,
  OwnLayerSite,
  SessionLayerDriver,
  Sessions,
  Visit,
} from '../contract/session-layer-driver.js'
import { startApp } from './app.js'
import { type Browser, browser } from './browser.js'
import { keepingEvents } from './events.js'
import { ownProcess } from './site.js'

const COOKIE = 'own'

type Data = Record<string, unknown>
/** A session as it is stored: each of its fields by itself, as a hash in Redis or a table of a database has them. */
type Row = Map<string, string>

interface OwnSessions extends Sessions {
  readonly rows: Map<string, Row>
}

/** The session of one request. */
interface Loaded {
  id: string
  data: Data
  /** The fields as they are stored, as far as this request knows. */
  stored: Row
  isNew: boolean
}

const repairs =
  'The next request that asks for a token gets the newest, without a refresh, and repairs the session.'

const limits: Limits = {
  S20: { holds: 'partly', why: `A layer that saves whole sessions brings the old tokens back. ${repairs}` },
  S24: {
    holds: 'partly',
    why: `Where the app carries the data over to another session, it carries the tokens that its request came with. ${repairs}`,
  },
  S36: {
    holds: 'partly',
    why:
      'After `revoke()` or `clear()` no tokens come back. When the app has only discarded the session, ' +
      'requests that began before go on with its tokens.',
  },
}

/** A custom session layer, which stores each field of a session separately. */
export const ownSessionLayer: SessionLayerDriver<OwnSessions, OwnLayerSite> = {
  name: 'own `session`',
  layer: 'own `session`',
  limits,
  cookies: [COOKIE],
  eager: ['saved whole in each request'],
  async openSessions() {
    const rows = new Map<string, Row>()
    return { rows, close: async () => rows.clear() }
  },
  start,
  async remember(_site, { rows }, tab) {
    const id = tab.cookie(COOKIE)!
    const then = new Map(rows.get(id))
    return async () => {
      rows.set(id, new Map(then))
      return tab
    }
  },
}

async function start(
  { clients, revocationEndpoint, tokenEndpoint }: Parameters<typeof ownSessionLayer.start>[0],
  { clock, eager, encryptionKeys, grants, sessions, surroundings }: LayerSiteOptions<OwnSessions>,
): Promise<OwnLayerSite> {
  const table = fieldsOf(sessions.rows)
  const events: TokenEvent[] = []
  const { clientId, clientSecret } = clients.client_secret_basic
  const options: SessionTokensOptions = {
    ...{ tokenEndpoint, revocationEndpoint, clientId },
    clientAuthentication: clientSecretBasic(clientSecret),
    encryptionKeys: false,
    onEvent: keepingEvents(events),
    session: (request) => tokensIn(loadedOf(request as Request), table),
    ...(encryptionKeys && { encryptionKeys: [...encryptionKeys] }),
    ...(grants && { grants }),
  }
  const middleware = middlewareOf(composeMiddleware(options, ownProcess(clock, surroundings)))
  const handlers = new Map<string, (visit: Visit) => unknown>()
  const app = express()
  app.set('env', 'test')
  app.use(loading(sessions.rows), middleware, express.json({ limit: '1mb' }))
  app.use(async (request, response, next) => {
    const handler = handlers.get(request.path)
    if (!handler) return next()
    let result: unknown
    try {
      result = await handler(visitOf(request, table))
    } catch (error) {
      const { status = 500, code, message } = error as { status?: number; code?: string; message: string }
      response.status(status)
      result = { code, message }
    }
    await table.save(loadedOf(request), eager !== undefined)
    if (response.headersSent) response.end(JSON.stringify(result ?? null))
    else response.json(result ?? null)
  })
  const { url, close } = await startApp(() => app)
  return {
    events,
    handle: (path, handler) => void handlers.set(path, handler),
    browser(visitor) {
      const visiting = browser(url)
      const cookie = visitor?.cookie(COOKIE)
      if (cookie !== undefined) visiting.setCookie(COOKIE, cookie)
      return visiting
    },
    async stored(tab: Browser) {
      const row = sessions.rows.get(tab.cookie(COOKIE) ?? '')
      return row && dataOf(row)
    },
    idOf: (tab) => tab.cookie(COOKIE) ?? '',
    failNextWrite: table.failNext,
    failWrites: table.failAll,
    async close() {
      await close()
      await middleware.close()
    },
  }
}

/** The table with the sessions. */
function fieldsOf(rows: Map<string, Row>) {
  let failing = 0

  async function write({ id, isNew }: Loaded, change: (row: Row) => void): Promise<void> {
    if (failing > 0) {
      failing--
      throw new Error('the table took nothing')
    }
    const row = rows.get(id)
    // Of a session that is gone nothing comes back.
    if (row || isNew) rows.set(id, row ?? new Map())
    change(rows.get(id) ?? new Map())
  }

  async function put(session: Loaded, field: string, value: unknown): Promise<void> {
    const text = JSON.stringify(value)
    await write(session, (row) => (text === undefined ? row.delete(field) : row.set(field, text)))
    if (text === undefined) session.stored.delete(field)
    else session.stored.set(field, text)
  }

  return {
    put,
    /** Puts what the request has changed, or everything. */
    async save(session: Loaded, isWhole = false): Promise<void> {
      const { data, stored } = session
      for (const field of new Set([...stored.keys(), ...Object.keys(data)])) {
        if (isWhole || JSON.stringify(data[field]) !== stored.get(field))
          await put(session, field, data[field])
      }
      session.isNew = false
    },
    async destroy(session: Loaded): Promise<void> {
      rows.delete(session.id)
      Object.assign(session, { data: {}, stored: new Map(), isNew: false })
    },
    failNext(): void {
      failing = 1
    },
    failAll(): () => void {
      failing = Number.POSITIVE_INFINITY
      return () => {
        failing = 0
      }
    },
  }
}

type Table = ReturnType<typeof fieldsOf>

/** What the option `session` is for: the one field with the tokens. */
function tokensIn(session: Loaded, table: Table) {
  return {
    read: () => (typeof session.data.tokens === 'string' ? session.data.tokens : undefined),
    async write(text: string) {
      session.data.tokens = text
      await table.put(session, 'tokens', text)
    },
    async clear() {
      delete session.data.tokens
      await table.put(session, 'tokens', undefined)
    },
  }
}

const SESSION = Symbol('session')
const loadedOf = (request: Request) => (request as Request & { [SESSION]: Loaded })[SESSION]

function loading(rows: Map<string, Row>): RequestHandler {
  return (request, response, next) => {
    const [, known = ''] = new RegExp(`(?:^|; )${COOKIE}=([^;]*)`).exec(request.headers.cookie ?? '') ?? []
    const row = rows.get(known)
    const id = row ? known : randomUUID()
    if (!row) response.cookie(COOKIE, id)
    const loaded: Loaded = { id, data: dataOf(row), stored: new Map(row), isNew: !row }
    Object.assign(request, { [SESSION]: loaded })
    next()
  }
}

function dataOf(row: Row = new Map()): Data {
  return Object.fromEntries([...row].map(([field, text]) => [field, JSON.parse(text)]))
}

function visitOf(request: Request, table: Table): Visit {
  const loaded = loadedOf(request)
  return {
    tokens: request.tokens,
    get session() {
      return loaded.data
    },
    save: () => table.save(loaded),
    async regenerate() {
      const { data } = loaded
      await table.destroy(loaded)
      Object.assign(loaded, { id: randomUUID(), data, isNew: true })
      request.res!.cookie(COOKIE, loaded.id)
      await table.save(loaded)
    },
    destroy: () => table.destroy(loaded),
    begin: () => void request.res!.write(' '),
    body: request.body,
  }
}
