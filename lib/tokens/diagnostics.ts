import { channel, tracingChannel } from 'node:diagnostics_channel'
import type { TokenError } from '../errors/token-error.js'
import type { RefreshReason } from './events.js'

/** Publishes each event of the library, as the option `onEvent` gets it. */
export const events = channel('session-token-manager:event')

/** A call to an API that carries the token of a session, by `axios()`, `fetch()` or the proxy. It is over. */
export interface OutboundCallMessage {
  /** The origin that the call was made to. Redirects may have led to another one. */
  readonly origin: string
  readonly method: string
  /**
   * `response`: the API has responded. `token_rejected`: the last response of the API was a 401 for the token. `step_up`: the API
   * requires a stronger login. `no_token`: there was no valid token, so nothing was sent. `failed`: there was no response.
   */
  readonly outcome: 'response' | 'token_rejected' | 'step_up' | 'no_token' | 'failed'
  /** The status of the API's last response. */
  readonly status?: number
  /** Whether the request was sent once more, with a new token. */
  readonly isReplayed: boolean
  /** How long the call took until the headers of the response, with the wait for a token, in whole milliseconds. */
  readonly durationMs: number
}

/** Publishes each call to an API that carries the token of a session. */
export const outboundCalls = channel('session-token-manager:outbound')

/** The messages about one refresh. Each message of it is this same object. */
export interface RefreshTrace {
  readonly grantId: string
  readonly tenant?: string
  readonly reason?: RefreshReason
}

/** The result of a refresh that a message may show: it holds no token. */
export interface TracedResult {
  /**
   * Whether this process got the token from the authorization server. If not, another process was faster, or is refreshing now.
   */
  readonly fresh: boolean
}

/** The message about a refresh that is over. */
export interface RefreshOver extends RefreshTrace {
  readonly result?: TracedResult
  readonly error?: TokenError
}

/** Publishes each refresh, see {@link traceRefresh}. */
export const refreshes = tracingChannel<RefreshTrace, RefreshTrace>('session-token-manager:refresh')

/** Runs a refresh in a context of its own, such as that of its span. */
export type EnterRefresh = <T>(trace: RefreshTrace, run: () => Promise<T>) => Promise<T>

const entering = new Set<EnterRefresh>()

/** Makes each refresh run in a context. A subscriber of a channel cannot do that. Returns a function that stops this. */
export function enterRefreshes(enter: EnterRefresh): () => void {
  entering.add(enter)
  return () => void entering.delete(enter)
}

/**
 * Runs a refresh, with messages on the tracing channel `session-token-manager:refresh`: `start`, `end`, `asyncStart`, `asyncEnd`,
 * and `error` if it fails. They show whether the token is fresh, and not the token. If nothing listens, this is a call of `run`.
 */
export function traceRefresh<T extends TracedResult | undefined>(
  trace: RefreshTrace,
  run: () => Promise<T>,
): Promise<T> {
  return refreshes.hasSubscribers || entering.size > 0 ? traced(trace, run) : run()
}

async function traced<T extends TracedResult | undefined>(
  trace: RefreshTrace,
  run: () => Promise<T>,
): Promise<T> {
  let result: T | undefined
  const withoutToken = async (): Promise<TracedResult> => {
    result = await run()
    return { fresh: result?.fresh ?? false }
  }
  const entered = [...entering].reduce((inner, enter) => () => enter(trace, inner), withoutToken)
  await refreshes.tracePromise(entered, trace)
  return result as T
}
