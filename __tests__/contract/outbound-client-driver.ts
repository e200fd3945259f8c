import type { OutboundOptions, SessionTokens } from '../../lib/index.js'
import type { OutboundTokens } from '../../lib/tokens/token-source.js'

/** A request, as any client can make it. */
export interface OutboundRequest {
  readonly url: string
  /** Default: GET. */
  readonly method?: string
  readonly headers?: Record<string, string>
  readonly body?: unknown
  readonly signal?: AbortSignal
}

/** What a client has answered, whatever the status. */
export interface OutboundAnswer {
  readonly status: number
  readonly text: string
  /** Where the answer comes from, after redirects. */
  readonly url: string
  /** All that the client hands over. */
  readonly raw: unknown
}

/** Makes one request after the other with a client. */
export type OutboundCall = (request: OutboundRequest) => Promise<OutboundAnswer>

/** A client for calls to an API, as `req.tokens` hands it out. */
export interface OutboundClientDriver {
  readonly name: string
  /** That of a session. */
  of(tokens: SessionTokens, config: OutboundOptions): OutboundCall
  /** One over tokens of the test's own. */
  over(tokens: OutboundTokens, config: OutboundOptions): OutboundCall
  /** The one for the whole app: `sessionAxios()`, `sessionFetch()`. */
  ambient(config: OutboundOptions & { property?: string }): OutboundCall
  /** Bodies that can be read once, of `one two`. */
  readonly onceOnly: readonly [name: string, body: () => unknown][]
  /** Whether this is what a call rejects with that was aborted. */
  isAborted(error: unknown, signal: AbortSignal): boolean
  /** What a call rejects with that is redirected too often. */
  readonly tooManyRedirects: object
}
