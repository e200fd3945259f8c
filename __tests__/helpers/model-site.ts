import type { IncomingMessage, ServerResponse } from 'node:http'
import session from 'express-session'
import type { TokenEvent } from '../../lib/events.js'
import { Flights } from '../../lib/flights.js'
import { middlewareOf } from '../../lib/frameworks/express.js'
import { KnownGrants } from '../../lib/grants/known-grants.js'
import { memoryGrantStore } from '../../lib/grants/memory.js'
import type { AuthorizationServer } from '../../lib/oauth/authorization-server.js'
import { Retentions } from '../../lib/retention.js'
import type { SessionTokens } from '../../lib/session-tokens.js'
import { ExpressSessions } from '../../lib/sessions/express-session.js'
import { SessionCopies } from '../../lib/sessions/session-copy.js'
import { TokenManager } from '../../lib/token-manager.js'
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
  const manager = new TokenManager({
    server,
    audience: AUDIENCE,
    clientId: 'web',
    issuer: 'https://idp.example',
    grants: memoryGrantStore({ maxGrants: 100 }),
    known: new KnownGrants(clock),
    flights: new Flights(clock),
    copies: new SessionCopies(AUDIENCE),
    retentions: new Retentions({ sessionMaxAgeMs: undefined, isReference: false, emit: onEvent }),
    clock,
    emit: onEvent,
    leewayMs: 60_000,
    timeoutMs: 30_000,
    refreshTimeoutMs: 30_000,
    defaultLifetimeMs: 3_600_000,
  })
  const sessions = new ExpressSessions({ key: 'tokens', audience: 'web', keeper: manager })
  const withTokens = middlewareOf({ property: 'tokens', isAmbient: false, clock, server, sessions, manager })
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
