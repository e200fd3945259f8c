import type { IncomingHttpHeaders, IncomingMessage } from 'node:http'
import { crossOriginRefusal } from '../../cross-origin.js'
import { ConfigurationError, isNobody, StepUpError } from '../../errors.js'
import { type Problem, problem, unauthorized } from '../../problem.js'
import type { OutboundTokens } from '../../token-source.js'
import { type Attempt, mayReplay, sendAuthorized } from '../authorized-call.js'
import { verdictOn } from '../challenge.js'
import { bodyOf, type ParsedBody } from './body.js'
import type { Disconnect } from './disconnect.js'
import { headersForApi } from './headers.js'
import { type BearerProxyOptions, type CheckedProxyOptions, checkedProxyOptions } from './options.js'
import { type Addressed, pathAtApi } from './path.js'
import { type Reply, replyOf, stepUpRequired } from './reply.js'
import { UpstreamTimeoutError } from './response-timeout.js'
import { allowedByUpgrades } from './upgrades.js'
import {
  DisconnectedError,
  requestSender,
  type SendUpstream,
  type UpstreamRequest,
  type UpstreamResponse,
  webSocketSender,
} from './upstream-request.js'

/** A request as a framework has it. */
export interface Visit {
  /** What has the tokens, and what handlers usually call it. */
  readonly carrier: object
  readonly carrierName: string
  readonly request: IncomingMessage & Addressed
  readonly parsed: ParsedBody
  /** Who asks, by what the framework takes for true. */
  readonly ip: string | undefined
  readonly protocol: string | undefined
  readonly host: string | undefined
  /** Whether it asks for a WebSocket. */
  readonly isUpgrade: boolean
  /** Happens when the browser no longer waits for the reply. */
  readonly disconnect: Disconnect
}

/** Resolves with what the browser gets; rejects with what is the app's to handle. */
export type ProxyRoute = (visit: Visit) => Promise<Reply>

/** Checks the options and puts the parts together. */
export function proxyRoute(options: BearerProxyOptions): ProxyRoute {
  const checked = checkedProxyOptions(options)
  const send = requestSender(checked)
  const sendWebSocket = webSocketSender(checked)

  return async (visit) => {
    const refusal = refusalOfOrigin(visit, checked.allowedOrigins)
    if (refusal) return refusal
    const tokens = tokensOf(visit, checked.property)
    try {
      return await proxied(visit, tokens, checked, visit.isUpgrade ? sendWebSocket : send)
    } catch (error) {
      if (isNobody(error)) return unauthorized()
      if (error instanceof StepUpError) return stepUpRequired(error)
      throw error
    }
  }
}

/** What `upgradesThrough()` allows, it allows for every proxy of the app. */
function refusalOfOrigin(visit: Visit, allowedOrigins: ReadonlySet<string>): Problem | undefined {
  const { host, protocol, request } = visit
  const refusal = crossOriginRefusal(request, { host, protocol }, allowedOrigins)
  return refusal && !allowedByUpgrades(request) ? refusal : undefined
}

function tokensOf({ carrier, carrierName }: Visit, property: string): OutboundTokens {
  const tokens = (carrier as Record<string, OutboundTokens | undefined>)[property]
  if (typeof tokens?.tokenToSend === 'function') return tokens
  throw new ConfigurationError(
    `${carrierName}.${property} is missing. Mount sessionTokens() before bearerProxy(), or name its \`property\`: ` +
      'bearerProxy({ property }).',
  )
}

async function proxied(
  visit: Visit,
  tokens: OutboundTokens,
  options: CheckedProxyOptions,
  send: SendUpstream,
): Promise<Reply> {
  const { disconnect, request } = visit
  const { method = 'GET' } = request
  const { maxReplayBytes, need, path: rules, replay } = options
  if (!isPassedOn(method)) {
    return problem(405, 'Method Not Allowed', `${method} is not passed on.`)
  }
  if (isMisframed(request.headers)) return misframed()
  const path = await pathAtApi(rules, request)
  if (path === undefined) return problem(400, 'Bad Request', 'The path is not one that is passed on.')

  const body = bodyOf(request, visit.parsed, mayReplay(replay, method) ? maxReplayBytes : 0)
  const headers = headersForApi(request.headers, options.withhold)
  putInto(headers, body.headers)
  putInto(headers, ownHeaders(visit, options))
  try {
    return await sendAuthorized({
      tokens,
      need,
      get mayReplay() {
        return body.isKept && mayReplay(replay, method)
      },
      send: (token) =>
        attempt({ method, path, headers: authorized(headers, token), body }, token, send, visit, options),
      wait: (work) => work,
    })
  } catch (error) {
    if (!disconnect.hasHappened) body.drain()
    throw error
  }
}

/** Sends the request once. For an API that cannot be reached, the proxy responds. */
async function attempt(
  request: UpstreamRequest,
  token: string | undefined,
  send: SendUpstream,
  { disconnect }: Visit,
  options: CheckedProxyOptions,
): Promise<Attempt<Reply>> {
  const { body } = request
  // The browser may have gone while the token was waited for.
  if (disconnect.hasHappened) throw new DisconnectedError()
  let upstream: UpstreamResponse
  try {
    upstream = await send(request, disconnect)
  } catch (error) {
    if (disconnect.hasHappened) throw error
    body.drain()
    logFailure(request, error, options)
    return settled(unreachable(error))
  }
  const { message, end, upgraded } = upstream
  const { statusCode: status = 0 } = message
  logResponse(request, status, options)
  if ((status < 200 && !upgraded) || isMisframed(message.headers)) {
    end()
    body.drain()
    return settled(problem(502, 'Bad Gateway', 'The response of the API cannot be read.'))
  }
  const challenge = message.headers['www-authenticate'] ?? ''
  return {
    verdict: token === undefined ? 'taken' : verdictOn(status, challenge, () => [token]),
    settle: () => {
      body.forget()
      message.once('close', () => body.drain())
      return replyOf(upstream, token)
    },
    discard: end,
  }
}

function settled(reply: Reply): Attempt<Reply> {
  return { verdict: 'taken', settle: () => reply, discard() {} }
}

/**
 * The response to TRACE is the request, with the token; CONNECT asks for a tunnel. HTTP/2 takes methods in lower case, which
 * Node would send in upper case: the guards in front have seen another one (RFC 9110 §9.1).
 */
function isPassedOn(method: string): boolean {
  return method !== 'TRACE' && method !== 'CONNECT' && method === method.toUpperCase()
}

/**
 * Whether a message has two lengths, of which the next server might believe the other one, or a coding besides chunks, which
 * nothing here takes off (RFC 9112 §6.1 and §6.3). Node's parser lets the latter through, and a lenient one both.
 */
function isMisframed({
  'transfer-encoding': coding,
  'content-length': length,
}: IncomingHttpHeaders): boolean {
  return coding !== undefined && (length !== undefined || coding.trim().toLowerCase() !== 'chunked')
}

/** Where the request ends is not certain, so the connection must end with it. */
function misframed(): Reply {
  const { status, headers, body } = problem(
    400,
    'Bad Request',
    'The request has both a Content-Length and a Transfer-Encoding, or one other than chunked.',
  )
  return { status, headers: { ...headers, connection: 'close' }, body }
}

function isTimeout(error: unknown): boolean {
  return error instanceof UpstreamTimeoutError || codeOf(error) === 'ETIMEDOUT'
}

function codeOf(error: unknown): unknown {
  return (error as { code?: unknown }).code
}

function unreachable(error: unknown): Reply {
  return isTimeout(error)
    ? problem(504, 'Gateway Timeout', 'The API did not answer in time.')
    : problem(502, 'Bad Gateway', 'The API could not be reached.')
}

function logResponse(
  request: UpstreamRequest,
  status: number,
  { logger, target }: CheckedProxyOptions,
): void {
  logger?.info(`${described(request, target)} ${status}`)
}

/** A message of Node's may quote a header, so it is left out. */
function logFailure(request: UpstreamRequest, error: unknown, { logger, target }: CheckedProxyOptions): void {
  logger?.error(
    `${described(request, target)} ${isTimeout(error) ? 'ETIMEDOUT' : (codeOf(error) ?? 'failed')}`,
  )
}

/** Queries are left out: some hold what is not for logs. */
function described({ method, path }: UpstreamRequest, target: URL): string {
  return `${method} ${target.origin}${path.split('?', 1)[0]}`
}

/** What is said in place of what the request says. */
function ownHeaders(visit: Visit, { headers, xfwd }: CheckedProxyOptions): Headers {
  if (!xfwd) return headers
  const forwarded = {
    'x-forwarded-for': visit.ip,
    'x-forwarded-host': visit.host,
    'x-forwarded-proto': visit.protocol,
  }
  return { ...forwarded, ...headers }
}

type Headers = Readonly<Record<string, string | string[] | undefined>>

/** A header without a value takes that of the request away. */
function putInto(headers: IncomingHttpHeaders, more: Headers): void {
  for (const name of Object.keys(more)) {
    if (more[name] === undefined) delete headers[name]
    else headers[name] = more[name]
  }
}

function authorized(headers: IncomingHttpHeaders, token: string | undefined): IncomingHttpHeaders {
  return token === undefined ? headers : { ...headers, authorization: `Bearer ${token}` }
}
