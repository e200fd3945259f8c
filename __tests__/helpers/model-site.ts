import type { IncomingMessage, ServerResponse } from 'node:http'
import session from 'express-session'
import { GrantRegistry } from '../../lib/grants/grant-registry.js'
import { memoryGrantStore } from '../../lib/grants/memory-grant-store.js'
import { SharedGrants } from '../../lib/grants/shared-grants.js'
import { GrantLabels } from '../../lib/manager/grant-labels.js'
import { Retentions } from '../../lib/manager/grant-retention.js'
import { serverHealth } from '../../lib/manager/server-health.js'
import { TokenManager } from '../../lib/manager/token-manager.js'
import { middlewareOf } from '../../lib/middleware/express.js'
import type { SessionTokens } from '../../lib/middleware/session-tokens.js'
import type { AuthorizationServer } from '../../lib/oauth/authorization-server.js'
import { OfflineReferenceCodec } from '../../lib/sessions/codec/offline-reference.js'
import { TokenSetCodec } from '../../lib/sessions/codec/token-set-codec.js'
import { expressSessions } from '../../lib/sessions/express/express-sessions.js'
import { emitterOf } from '../../lib/tokens/event-emitter.js'
import type { TokenEvent } from '../../lib/tokens/events.js'
import type { TestClock } from './clock.js'
import type { ModelSessionStore } from './model-session-store.js'

/** Names the client and its authorization server. */
export const AUDIENCE = 'web https://idp.example'

/** A request as far as express-session and the library look at it. */
export interface ModelRequest {
  readonly headers: { readonly cookie?: string }
  readonly url: string
  readonly connection: object
  session: session.Session & Record<string, unknown> & { tokens?: string }
  sessionID: string
  tokens: SessionTokens
}

export interface ModelSiteOptions {
  readonly server: AuthorizationServer
  readonly store: ModelSessionStore
  readonly clock: TestClock
  readonly resave: boolean
  readonly genid: () => string
  readonly onEvent: (event: TokenEvent) => void
}

export type Handler = (request: ModelRequest) => Promise<void>

/** One process: the real session middleware and the library over a model of the world. */
export function modelSite({ server, store, clock, resave, genid, onEvent }: ModelSiteOptions) {
  const registry = new GrantRegistry(clock)
  const emit = emitterOf({ onEvent, now: () => clock.now() })
  const codec = new TokenSetCodec(AUDIENCE)
  const shared = new SharedGrants({
    store: memoryGrantStore({ maxGrants: 100 }),
    isShared: false,
    registry,
    codec,
    clock,
    emit,
    audience: AUDIENCE,
    labels: { ofTokens: () => [] },
  })
  const manager = new TokenManager({
    server,
    audience: AUDIENCE,
    clientId: 'web',
    issuer: 'https://idp.example',
    registry,
    shared,
    codec,
    labels: new GrantLabels(AUDIENCE),
    references: new OfflineReferenceCodec(AUDIENCE, undefined),
    retentions: new Retentions({ sessionMaxAgeMs: undefined, isReference: false, emit }),
    clock,
    emit,
    serverName: 'https://idp.example',
    health: serverHealth(registry, 'https://idp.example', clock, 200),
    maxLoginAgeMs: undefined,
    leeway: { ms: 60_000, part: 1 / 8 },
    ahead: { ms: 0, part: 1 / 4 },
    patienceMs: 30_000,
    waitUntil: undefined,
    tenant: undefined,
    timeoutMs: 30_000,
    refreshTimeoutMs: 30_000,
    defaultLifetimeMs: 3_600_000,
    exchanges: [],
    dpop: undefined,
  })
  const sessions = expressSessions({
    key: 'tokens',
    audience: 'web',
    codec,
    grants: manager.sessionGrants,
    isSealed: false,
  })
  const withTokens = middlewareOf({
    property: 'tokens',
    isAmbient: false,
    clock,
    server,
    sessions,
    manager,
    close: () => manager.close(),
  })
  const withSession = session({ secret: 'test', resave, saveUninitialized: false, store, genid })

  return {
    /** Serves a request from beginning to end. Resolves with the cookie that the answer sets, if it sets one. */
    async serve(cookie: string | undefined, handler: Handler): Promise<string | undefined> {
      const request = {
        headers: { ...(cookie !== undefined && { cookie }) },
        url: '/',
        connection: {},
      } as ModelRequest
      const response = new ModelResponse()
      await new Promise<void>((resolve, reject) => {
        withSession(request as never, response as never, (error) => (error ? reject(error) : resolve()))
      })
      withTokens(request as unknown as IncomingMessage, response as unknown as ServerResponse, () => {})
      await handler(request)
      response.end()
      await response.finished
      return response.cookie
    },
    close: () => withTokens.close(),
  }
}

/** As much of a response as express-session hooks into. */
class ModelResponse {
  readonly finished: Promise<void>
  statusCode = 200
  cookie: string | undefined
  _header: string | null = null
  #finish = () => {}

  constructor() {
    this.finished = new Promise((resolve) => {
      this.#finish = resolve
    })
  }

  getHeader(): undefined {
    return undefined
  }

  setHeader(_name: string, [cookie]: string[]): void {
    this.cookie = cookie?.split(';')[0]
  }

  writeHead(_status: number): void {
    this._header = 'sent'
  }

  _implicitHeader(): void {
    this.writeHead(this.statusCode)
  }

  write(): boolean {
    return true
  }

  end(): void {
    if (!this._header) this._implicitHeader()
    this.#finish()
  }
}
